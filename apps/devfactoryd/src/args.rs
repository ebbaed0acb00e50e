//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// The control daemon of devfactory.
#[derive(Debug, Parser)]
#[command(name = "devfactoryd", version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the API and bring jobs forward until told to stop.
    Serve(ServeArgs),
    /// Prepare a data directory: its secrets and its first keys.
    Init(InitArgs),
    /// Write the audit log and the present states as JSON lines. Reads beside a running daemon.
    AuditExport {
        #[arg(long)]
        data_dir: PathBuf,
        /// A file instead of stdout.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Look at the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the values in force, and where each comes from.
    Show(ConfigArgs),
}

/// Where settings come from: the file, and over it these arguments.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ConfigArgs {
    /// TOML file; without one, defaults.
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
    #[arg(long)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one. `daemon.addr` in the data directory says which.
    #[arg(long)]
    pub(crate) listen: Option<String>,
}

/// Where the first keys go.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct KeyFileArgs {
    /// Keep an admin key here (mode 0600) instead of printing the first one.
    #[arg(long)]
    pub(crate) admin_key_file: Option<PathBuf>,
    /// Keep a trusted worker key here (mode 0600) for the worker on this machine.
    #[arg(long)]
    pub(crate) worker_key_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) settings: ConfigArgs,
    #[command(flatten)]
    pub(crate) keys: KeyFileArgs,
    /// Stop also when standard input ends, as it does when the process that holds its other end is gone.
    #[arg(long)]
    pub(crate) stop_at_eof: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct InitArgs {
    #[arg(long)]
    pub(crate) data_dir: PathBuf,
    #[command(flatten)]
    pub(crate) keys: KeyFileArgs,
}
