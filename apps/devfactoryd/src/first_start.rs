//! The keys without which nobody could begin: an admin's, and the local worker's.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use anyhow::Context as _;
use df_contract::api::KeyCreate;
use df_contract::{Role, TenantId, WorkerClass};
use df_gateway::{MintedKey, key_hash, mint_key};
use df_orchestration::Env;
use df_store::Store;

use crate::args::KeyFileArgs;
use crate::secrets::write_private;

/// Tenant of the first keys.
const DEFAULT_TENANT: &str = "default";
const ADMIN_IDENTITY: &str = "admin";
const WORKER_IDENTITY: &str = "worker-local";

/// Makes what is missing. Without a file for it, the admin key is made when no live one exists, and printed once.
pub(crate) async fn prepare_keys(store: &Store, env: &Env, files: &KeyFileArgs) -> anyhow::Result<()> {
    let admin = First { identity: ADMIN_IDENTITY, role: Role::Admin, class: None };
    match &files.admin_key_file {
        Some(path) => admin.keep_in(path, store, env).await?,
        None if has_admin(store, env).await? => {}
        None => {
            let minted = admin.mint(env)?;
            writeln!(std::io::stdout(), "admin key: {}", minted.secret).context("printing the admin key")?;
            store.key_insert(minted.row).await?;
        }
    }
    let class = Some(WorkerClass::Trusted);
    let worker = First { identity: WORKER_IDENTITY, role: Role::Worker, class };
    match &files.worker_key_file {
        Some(path) => worker.keep_in(path, store, env).await,
        None => Ok(()),
    }
}

async fn has_admin(store: &Store, env: &Env) -> anyhow::Result<bool> {
    let now = env.now();
    Ok(store.key_list().await?.iter().any(|key| key.roles.contains(&Role::Admin) && key.is_live(now)))
}

/// One of the first keys.
struct First {
    identity: &'static str,
    role: Role,
    class: Option<WorkerClass>,
}

impl First {
    fn mint(&self, env: &Env) -> anyhow::Result<MintedKey> {
        let tenant: TenantId = DEFAULT_TENANT.parse()?;
        let (identity, roles) = (self.identity.to_owned(), BTreeSet::from([self.role]));
        let wanted = KeyCreate { identity, roles, tenant: None, class: self.class, expires_at: None };
        Ok(mint_key(env, wanted, &tenant)?)
    }

    /// Sees to it that the file holds a live key. The file is written before the key counts: a crash in between
    /// leaves a file with a key that is not known, which the next start replaces.
    async fn keep_in(&self, path: &Path, store: &Store, env: &Env) -> anyhow::Result<()> {
        if let Some(secret) = read_if_there(path)?
            && let Some(row) = store.key_by_hash(key_hash(secret.trim())).await?
            && row.is_live(env.now())
            && row.roles.contains(&self.role)
        {
            return Ok(());
        }
        let minted = self.mint(env)?;
        write_private(path, &minted.secret)?;
        store.key_insert(minted.row).await?;
        tracing::info!(identity = self.identity, role = self.role.as_str(), "key made");
        Ok(())
    }
}

fn read_if_there(path: &Path) -> anyhow::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("reading {}", path.display())),
    }
}
