//! The proxy's own files: the locked data directory, the grant key, the admin token.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::VerifyingKey;
use sha2::{Digest as _, Sha256};

use crate::config::{Config, ConfigError, Secret};
use crate::server::StartError;

const ADMIN_TOKEN_BYTES: usize = 32;

/// The data directory, locked against a second process while this lives.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    pub(crate) fn open(path: &Path) -> Result<Self, StartError> {
        let failed = |source| StartError::DataDir { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("proxy.lock"))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StartError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// `proxy.addr`: how whoever started this process finds it. Renamed into place, so that it is never half written.
    pub(crate) fn write_address(&self, address: SocketAddr) -> Result<(), StartError> {
        let part = self.path.join("proxy.addr.part");
        std::fs::write(&part, format!("{address}\n"))
            .and_then(|()| std::fs::rename(&part, self.path.join("proxy.addr")))
            .map_err(|source| StartError::DataDir { path: self.path.clone(), source })
    }

    pub(crate) fn forget_address(&self) {
        let _absent = std::fs::remove_file(self.path.join("proxy.addr"));
    }
}

/// The daemon's verifying key, from the configuration or its file.
pub(crate) fn grant_key(config: &Config) -> Result<VerifyingKey, ConfigError> {
    let text = match (&config.grant_key, &config.grant_key_file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) => std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.clone(), source })?,
        (None, None) => String::new(),
    };
    let invalid =
        || ConfigError::Invalid("the grant key must be an Ed25519 public key as 64 hex digits".into());
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| invalid())?;
    VerifyingKey::from_bytes(&bytes).map_err(|_| invalid())
}

/// SHA-256 of the admin token; the file is made, readable by its owner alone, when it is missing.
pub(crate) fn admin_digest(path: &Path) -> Result<[u8; 32], ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match created {
        Ok(mut file) => {
            let token: [u8; ADMIN_TOKEN_BYTES] = rand::random();
            writeln!(file, "dfa_{}", hex::encode(token)).and_then(|()| file.sync_all()).map_err(failed)?;
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        let path = path.display();
        return Err(ConfigError::Invalid(format!("others can read the admin token: run `chmod 600 {path}`")));
    }
    let token = Secret::from_file(path)?;
    Ok(Sha256::digest(token.expose()).into())
}
