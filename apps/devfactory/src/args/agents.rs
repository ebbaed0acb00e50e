//! What can be typed after `agents`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use df_contract::{AgentName, Digest, TenantId};

#[derive(Debug, Subcommand)]
pub(crate) enum AgentsCommand {
    /// Check a folder with agent.toml and prompt.md; needs no daemon.
    Check { dir: PathBuf },
    /// Sign a manifest and put it into the registry.
    Register {
        dir: PathBuf,
        /// For every tenant; admin only.
        #[arg(long)]
        global: bool,
        /// File with the key to sign with; made at its first use. Else ~/.config/devfactory/signing.key.
        #[arg(long, env = "DEVFACTORY_SIGNING_KEY")]
        signing_key: Option<PathBuf>,
    },
    /// List the agents that jobs may use.
    List,
    /// Show an agent: manifest, versions, pin.
    Show(AgentArgs),
    /// Show what was done to an agent, and by whom.
    Log(AgentArgs),
    /// Let tasks be given to an agent again.
    Enable {
        #[command(flatten)]
        of: VersionArgs,
        /// Another tenant's agent; admin only.
        #[arg(long)]
        tenant: Option<TenantId>,
    },
    /// End an agent's running attempts and give it no further task.
    Disable {
        #[command(flatten)]
        of: VersionArgs,
        /// Another tenant's agent; admin only.
        #[arg(long)]
        tenant: Option<TenantId>,
    },
    /// Keep the tenant's jobs to a version.
    Pin {
        #[command(flatten)]
        of: VersionArgs,
        /// It also does the tasks of its role that name no agent, in the place of the built-in one.
        #[arg(long)]
        replaces: bool,
    },
    /// Let the tenant's jobs use the current version again.
    Unpin { name: AgentName },
    /// Forget the signing key that an identity is kept to; admin only.
    ResetKey {
        identity: String,
        #[arg(long)]
        tenant: Option<TenantId>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    pub(crate) name: AgentName,
    /// Another tenant's agent; admin only.
    #[arg(long)]
    pub(crate) tenant: Option<TenantId>,
}

#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    pub(crate) name: AgentName,
    /// A version, by its digest. Left out: every one; for pin, the current one.
    #[arg(long)]
    pub(crate) version: Option<Digest>,
}
