//! Start and stop of the proxy.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use df_contract::ErrorCode;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::accounts::{AccountsError, Pool};
use crate::config::{Config, ConfigError};
use crate::core::Core;
use crate::files::{self, DataDir};
use crate::grants::Grants;
use crate::http;
use crate::ledger::Ledger;
use crate::prices::Prices;
use crate::recording::Recorder;
use crate::upstream::Clients;

/// How often the weights of accounts may change.
const REFRESH_EVERY: Duration = Duration::from_millis(250);

/// Why the proxy does not start. Each has a stable code.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Accounts(#[from] AccountsError),
    #[error("the data directory {path} cannot be used")]
    DataDir {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "another process uses the data directory {path}; stop it, or give this one a directory of its own"
    )]
    Locked { path: PathBuf },
    #[error(
        "the address {address} is taken; stop what listens there, or set another `listen` (port 0 picks a free one)"
    )]
    PortInUse { address: SocketAddr },
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("the ledger cannot be opened")]
    Ledger(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the recording {path} cannot be written")]
    Record {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
}

impl StartError {
    pub fn code(&self) -> ErrorCode {
        match self {
            StartError::Config(_)
            | StartError::Accounts(_)
            | StartError::DataDir { .. }
            | StartError::Record { .. }
            | StartError::Listen { .. } => ErrorCode::ConfigInvalid,
            StartError::Locked { .. } => ErrorCode::StoreLocked,
            StartError::PortInUse { .. } => ErrorCode::PortInUse,
            StartError::Ledger(_) => ErrorCode::StoreUnavailable,
            StartError::Client(_) => ErrorCode::Internal,
        }
    }
}

/// Reads everything a start would read, without listening or writing.
pub fn check(config: &Config) -> Result<(), StartError> {
    files::grant_key(config)?;
    Pool::open(config)?;
    Ok(())
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    core: Arc<Core>,
    data: DataDir,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    /// Held by nobody but calls once this is dropped.
    alive: mpsc::Sender<()>,
    ended: mpsc::Receiver<()>,
    recording: Option<JoinHandle<()>>,
}

/// Opens the data directory, charges what a dead process left open, and listens.
pub async fn start(config: Config) -> Result<Proxy, StartError> {
    // An error only says that the process has a provider already.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let data = DataDir::open(&config.data_dir)?;
    let grant_key = files::grant_key(&config)?;
    let admin_digest = files::admin_digest(&config.admin_token_path())?;
    let pool = Pool::open(&config)?;
    let ledger = Ledger::open(data.path().to_owned()).await.map_err(|e| StartError::Ledger(Box::new(e)))?;
    let (recorder, recording) = match &config.record_to {
        Some(path) => {
            let record = |source| StartError::Record { path: path.clone(), source };
            let (recorder, task) = Recorder::open(path.clone()).await.map_err(record)?;
            (Some(recorder), Some(task))
        }
        None => (None, None),
    };
    let (alive, ended) = mpsc::channel(1);
    let core = Arc::new(Core {
        permits: Arc::new(Semaphore::new(config.limits.max_in_flight)),
        limits: config.limits,
        prices: Prices::new(&config.prices)?,
        grants: Grants::new(grant_key),
        admin_digest,
        pool,
        ledger,
        recorder,
        clients: Clients::new().map_err(StartError::Client)?,
        alive: alive.downgrade(),
    });
    tokio::spawn(refresh(Arc::downgrade(&core)));
    let listener = listen(config.listen).await?;
    let address =
        listener.local_addr().map_err(|source| StartError::Listen { address: config.listen, source })?;
    data.write_address(address)?;
    let (stop, stopped) = oneshot::channel();
    let router = http::router(Arc::clone(&core));
    let serving = tokio::spawn(async move {
        let serve = axum::serve(listener, router).with_graceful_shutdown(async {
            let _dropped = stopped.await;
        });
        if let Err(error) = serve.await {
            tracing::error!(error = %error, "the server ended");
        }
    });
    tracing::info!(address = %address, "listening");
    Ok(Proxy { address, core, data, stop, serving, alive, ended, recording })
}

/// Weighs accounts anew by what their headers taught, off the path of calls, as long as the proxy lives.
async fn refresh(core: Weak<Core>) {
    loop {
        tokio::time::sleep(REFRESH_EVERY).await;
        let Some(core) = core.upgrade() else { return };
        let _panicked = tokio::task::spawn_blocking(move || core.pool.refresh()).await;
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => StartError::PortInUse { address },
        _ => StartError::Listen { address, source },
    })
}

impl Proxy {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the address and the ledger are.
    pub fn data_dir(&self) -> &Path {
        self.data.path()
    }

    /// Takes no more calls, gives those in flight `shutdown_timeout_ms`, writes the ledger out.
    pub async fn stop(self) {
        let Self { core, data, stop, mut serving, alive, mut ended, recording, .. } = self;
        let limit = core.limits.shutdown_timeout();
        let _gone = stop.send(());
        drop(alive);
        let calls_end = timeout(limit, ended.recv());
        if calls_end.await.is_err() {
            tracing::warn!("calls were cut off by the stop; they are charged in full at the next start");
        }
        if timeout(Duration::from_secs(1), &mut serving).await.is_err() {
            serving.abort();
        }
        core.ledger.close().await;
        data.forget_address();
        drop(core);
        if let Some(recording) = recording {
            let _ended = timeout(limit, recording).await;
        }
        tracing::info!("stopped");
    }
}
