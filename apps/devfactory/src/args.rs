//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

mod agents;
pub(crate) use agents::{AgentsCommand, VersionArgs};

/// Governance-first infrastructure for autonomous software development.
#[derive(Debug, Parser)]
#[command(name = "devfactory", version, about)]
pub(crate) struct Cli {
    /// Address of the daemon.
    #[arg(long, env = "DEVFACTORY_URL", global = true)]
    pub(crate) url: Option<String>,
    /// API key. Give it in the environment rather than on the command line, where other users can see it.
    #[arg(long, env = "DEVFACTORY_API_KEY", hide_env_values = true, global = true)]
    pub(crate) api_key: Option<String>,
    /// Print JSON (lines), for programs.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a whole local stack (proxy, daemon, worker) and keep it running.
    Up(UpArgs),
    /// Do everything: start a stack if none is given, submit a job, follow it, fetch what it delivers.
    Run(RunArgs),
    /// Submit a job file, or a folder that holds job.toml.
    Submit {
        job: PathBuf,
        /// The same key with the same job returns the first job instead of making another.
        #[arg(long)]
        idempotency_key: Option<String>,
    },
    /// List jobs, newest first.
    List {
        #[arg(long)]
        state: Option<String>,
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Show one job: verdict, tasks, gates, cost. Without a job: the installation.
    Status { job: Option<String> },
    /// Follow a job's events until it ends.
    Watch {
        job: String,
        /// Start after this event number.
        #[arg(long, default_value_t = 0)]
        after: u64,
    },
    /// Approve what waits: in AWAITING_APPROVAL, or a request for more budget. Never one's own.
    Approve(VoteArgs),
    /// Reject what waits in AWAITING_APPROVAL, or a request for more budget.
    Reject(VoteArgs),
    /// Cancel a job: running agents stop.
    Cancel {
        job: String,
        #[arg(long, default_value = "cancelled by an operator")]
        cause: String,
    },
    /// Pause a job: running attempts are taken back and start again on resume.
    Pause {
        job: String,
        #[arg(long, default_value = "paused by an operator")]
        cause: String,
    },
    /// Resume a paused job.
    Resume { job: String },
    /// Submit the work of a failed or cancelled job again, from what is merged.
    Retry {
        job: String,
        /// From the job's own source and plan instead.
        #[arg(long)]
        from_start: bool,
        /// The same key for the same job returns the first retry instead of making another.
        #[arg(long)]
        idempotency_key: Option<String>,
    },
    /// Say something to the agents of a running job: the task that starts next is told.
    Message { job: String, text: String },
    /// Ask for a higher budget; somebody else approves it with `approve`.
    Budget {
        job: String,
        /// Tokens in all.
        #[arg(long, required_unless_present = "usd")]
        tokens: Option<u64>,
        /// US dollars in all, such as 12.50.
        #[arg(long, value_parser = crate::commands::ask::usd)]
        usd: Option<df_contract::NanoUsd>,
    },
    /// Change a job's priority: -100 to 100, higher runs first.
    Priority {
        job: String,
        #[arg(allow_negative_numbers = true)]
        priority: i8,
    },
    /// Look at a job's tasks, or take its branch back.
    Tasks {
        #[command(subcommand)]
        command: TasksCommand,
    },
    /// List what a job delivered, or fetch it into a folder.
    Artifacts {
        job: String,
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Create, list and revoke API keys.
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Check, register, list, switch and pin agents.
    Agents {
        #[command(subcommand)]
        command: AgentsCommand,
    },
    /// Say what is missing on this machine or in this installation, and how to get it.
    Doctor {
        /// Data directory of a local stack, to check its configuration too.
        #[arg(long)]
        data_dir: Option<PathBuf>,
    },
    /// Check the audit log.
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Work with plans.
    Plan {
        #[command(subcommand)]
        command: PlanCommand,
    },
    /// Look at governance decisions.
    Governance {
        #[command(subcommand)]
        command: GovernanceCommand,
    },
}

#[derive(Debug, Args)]
pub(crate) struct StackArgs {
    /// Where the stack keeps everything.
    #[arg(long, default_value = ".devfactory")]
    pub(crate) data_dir: PathBuf,
    /// An OpenAI-compatible server to use as the model.
    #[arg(long)]
    pub(crate) base_url: Option<String>,
    /// The model to ask that server for.
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Environment variable that holds the server's key.
    #[arg(long, default_value = "OPENAI_API_KEY")]
    pub(crate) key_env: String,
    /// A recorded conversation to answer from.
    #[arg(long)]
    pub(crate) recording: Option<PathBuf>,
    /// Record the conversation with the model to this file.
    #[arg(long)]
    pub(crate) record: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) stack: StackArgs,
    /// Address the daemon listens on.
    #[arg(long, default_value = "127.0.0.1:8460")]
    pub(crate) listen: String,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// A job file, or a folder that holds job.toml.
    pub(crate) job: PathBuf,
    #[command(flatten)]
    pub(crate) stack: StackArgs,
    /// Where the delivered software goes.
    #[arg(long, default_value = "out")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct VoteArgs {
    pub(crate) job: String,
    /// The version that was looked at; the vote is refused if something else waits by now.
    #[arg(long)]
    pub(crate) job_version: Option<u64>,
    /// The digest of the plan that was looked at (`devfactory plan show` prints it); the vote is refused if another waits.
    #[arg(long)]
    pub(crate) plan_digest: Option<df_contract::Digest>,
    #[arg(long, default_value = "")]
    pub(crate) comment: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TasksCommand {
    /// List the tasks with their states, attempts and cost.
    List { job: String },
    /// Show one task: checks, failure, cost, trace.
    Show { job: String, task: String },
    /// Take the job branch back to where it was after the merge of TASK, or to where the job began.
    Rollback { job: String, task: Option<String> },
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Create a key; its secret is shown once.
    Create {
        /// The identity it stands for: four eyes compares identities.
        #[arg(long)]
        name: String,
        /// submitter, approver, operator, auditor, viewer, admin or worker; may be repeated.
        #[arg(long = "role", required = true)]
        roles: Vec<String>,
        #[arg(long)]
        tenant: Option<String>,
        /// For the role worker: it may hold leases of every kind, and is trusted with them.
        #[arg(long)]
        trusted: bool,
    },
    List,
    Revoke {
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Recompute every chain, and the states from it, without a daemon.
    Verify {
        /// The daemon's data directory, or that of a local stack.
        #[arg(long)]
        data_dir: Option<PathBuf>,
        /// An export made with `devfactoryd audit-export`.
        #[arg(long, conflicts_with = "data_dir")]
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    /// Check a plan (JSON or TOML) or the plan within a job file, and draw it.
    Check {
        file: PathBuf,
        /// Check it against this job's budget and protected paths too.
        #[arg(long)]
        job: Option<PathBuf>,
    },
    /// Draw the plan of a job with how far each task is, or a plan in a file.
    Show {
        /// A job's id, a plan file, or a job file.
        plan: String,
        /// Write the drawing to this file too.
        #[arg(long, value_name = "OUT")]
        svg: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum GovernanceCommand {
    /// Explain the decision on a job: which rule, on what evidence, what would change it.
    Explain { job: String },
}
