//! Wires the daemon together and runs it until it is told to stop.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use df_contract::{ErrorCode, Problem, Timestamp};
use df_gateway::Gateway;
use df_orchestration::grants::GrantSigner;
use df_orchestration::lease_token::LeaseTokens;
use df_orchestration::proxy::ProxyClient;
use df_orchestration::{Env, Orchestrator, Parts, default_bundle};
use df_store::{BlobStore, Store, StoreError};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::args::{InitArgs, ServeArgs};
use crate::config::{Config, invalid};
use crate::first_start::prepare_keys;
use crate::secrets::{self, GRANT_KEY, GRANT_PUBLIC, LEASE_KEY};

/// Where the real address is written, so that port 0 can be used.
const ADDRESS_FILE: &str = "daemon.addr";
/// Requests under way at the end get this long.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// `devfactoryd serve`.
pub(crate) async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    let config = Config::load(&args.settings)?.config;
    df_observability::init_json_logs("devfactoryd", &config.log).map_err(|e| invalid("log", &e))?;
    // An error says that a provider is in place already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let told = df_observability::told_to_stop(args.stop_at_eof).context("listening for signals")?;
    let (env, dir) = (environment(), config.data_dir.as_path());
    create_private_dir(dir)?;
    // The lock on the data directory comes first: nothing else may be touched without it.
    let store = open_store(dir)?;
    let secrets = Secrets::prepare(dir)?;
    let blobs = BlobStore::open(&dir.join("blobs")).context("opening the blobs")?;
    let orchestrator = Orchestrator::new(Parts {
        store: store.clone(),
        policy: default_bundle().context("loading the policies")?,
        limits: config.limits.clone(),
        proxy: proxy_client(&config)?,
        config: config.orchestration.clone(),
        env: env.clone(),
        grants: secrets.grants,
        tokens: secrets.tokens,
    });
    let listener = listen(&config.listen).await?;
    // Last, because it may print the admin key: a start that fails above must not spend it.
    prepare_keys(&store, &env, &args.keys).await?;
    let address = listener.local_addr().context("the address that was taken")?;
    secrets::write_public(&dir.join(ADDRESS_FILE), &address.to_string())?;
    tracing::info!(address = %address, "listening");
    run(listener, orchestrator, blobs, told).await?;
    store.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// `devfactoryd init`: secrets always, keys where a file for them is named.
pub(crate) async fn init(args: InitArgs) -> anyhow::Result<()> {
    create_private_dir(&args.data_dir)?;
    let store = open_store(&args.data_dir)?;
    Secrets::prepare(&args.data_dir)?;
    if args.keys.admin_key_file.is_some() {
        prepare_keys(&store, &environment(), &args.keys).await?;
    }
    store.close().await;
    Ok(())
}

async fn run(
    listener: TcpListener,
    orchestrator: Orchestrator,
    blobs: BlobStore,
    told_to_stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let (stopper, stop) = watch::channel(false);
    let gateway = Gateway::new(orchestrator.clone(), blobs.clone(), stop.clone());
    let mut work = tokio::spawn(async move { orchestrator.run(blobs, stop).await });
    let mut server = tokio::spawn(df_gateway::serve(listener, gateway));
    tokio::select! {
        () = told_to_stop => tracing::info!("stopping"),
        ended = &mut server => return ended.context("the server")?.context("serving"),
        ended = &mut work => {
            ended.context("orchestration")?;
            anyhow::bail!("orchestration ended by itself");
        }
    }
    stopper.send_replace(true);
    if tokio::time::timeout(STOP_GRACE, &mut server).await.is_err() {
        tracing::warn!("requests were still under way");
        server.abort();
    }
    work.await.context("orchestration")
}

/// The one clock and the one source of randomness of the process.
fn environment() -> Env {
    let now = || {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    };
    Env::new(now, |bytes| rand::Rng::fill_bytes(&mut rand::rng(), bytes))
}

struct Secrets {
    grants: GrantSigner,
    tokens: LeaseTokens,
}

impl Secrets {
    /// Reads the daemon's secrets, making those that are missing, and writes the public half for the proxy.
    fn prepare(dir: &Path) -> anyhow::Result<Self> {
        let fresh = || {
            let mut bytes = [0; 32];
            rand::Rng::fill_bytes(&mut rand::rng(), &mut bytes);
            bytes
        };
        let grants = GrantSigner::new(secrets::read_or_make(&dir.join(GRANT_KEY), fresh)?);
        let tokens = LeaseTokens::new(secrets::read_or_make(&dir.join(LEASE_KEY), fresh)?);
        secrets::write_public(&dir.join(GRANT_PUBLIC), &grants.verifying_key_hex())?;
        Ok(Self { grants, tokens })
    }
}

fn create_private_dir(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("creating {}", dir.display()))
}

fn open_store(dir: &Path) -> anyhow::Result<Store> {
    Store::open_sqlite(dir).map_err(|error| match error {
        StoreError::Locked { .. } => Problem::new(ErrorCode::StoreLocked, error.to_string()).into(),
        other => anyhow::Error::from(other).context(format!("opening the store in {}", dir.display())),
    })
}

fn proxy_client(config: &Config) -> anyhow::Result<ProxyClient> {
    let path = config.admin_token_file();
    let token = std::fs::read_to_string(&path)
        .map_err(|e| invalid(&format!("proxy.admin_token_file ({})", path.display()), &e))?;
    Ok(ProxyClient::new(&config.proxy.url, token.trim().to_owned())?)
}

async fn listen(address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let told = match error.kind() {
            std::io::ErrorKind::AddrInUse => Problem::new(
                ErrorCode::PortInUse,
                format!("{address} is taken; end the process that listens there, or set `listen` to another address"),
            ),
            _ => invalid(&format!("listen = \"{address}\""), &error),
        };
        told.into()
    })
}
