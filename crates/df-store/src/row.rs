//! What goes in and comes out, as plain data.

use std::collections::BTreeSet;
use std::sync::Arc;

use df_contract::agent::Runtime;
use df_contract::api::KeyView;
use df_contract::lease::SessionOpen;
use df_contract::{
    AttemptId, CommandId, Digest, DurationMs, JobId, JobState, KeyId, LeaseKind, Role, SandboxTier,
    SessionId, TaskSlug, TaskState, TenantId, Timestamp, WorkerClass,
};
use df_control_audit::Tip;
use df_control_machine::schedule::Rules;
use df_control_machine::{Effect, JobRecord, TaskRecord};
use serde::{Deserialize, Serialize};

/// Most rows of one page of anything.
pub const MAX_PAGE: u32 = 1_000;

/// What an accepted command led to. The same command again returns the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The job it was applied to; for a repeated submission the first one's, not the newly minted.
    pub job: JobId,
    pub version: u64,
    pub state: JobState,
}

/// A worker's session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    pub id: SessionId,
    pub key: KeyId,
    pub name: String,
    pub class: WorkerClass,
    /// Most leases it may hold at once.
    pub capacity: u32,
    pub last_heartbeat: Timestamp,
    pub expires_at: Timestamp,
    /// What the operator says of the worker; tasks may ask for labels.
    #[serde(default)]
    pub labels: BTreeSet<String>,
    /// Sandbox tiers it can enforce.
    #[serde(default = "default_tiers")]
    pub tiers: BTreeSet<SandboxTier>,
    /// Runtimes of agents it can run.
    #[serde(default = "default_runtimes")]
    pub runtimes: BTreeSet<Runtime>,
}

/// Of a session that was opened before sessions said so.
fn default_tiers() -> BTreeSet<SandboxTier> {
    SessionOpen::plain("", 0).tiers
}

fn default_runtimes() -> BTreeSet<Runtime> {
    SessionOpen::plain("", 0).runtimes
}

/// An API or worker key. The secret itself is never kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRow {
    pub id: KeyId,
    pub identity: String,
    pub roles: BTreeSet<Role>,
    pub tenant: TenantId,
    /// For worker keys.
    pub class: Option<WorkerClass>,
    /// SHA-256 of the secret.
    pub hash: Digest,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub revoked: bool,
}

impl KeyRow {
    /// Whether it opens anything at `now`.
    pub fn is_live(&self, now: Timestamp) -> bool {
        !self.revoked && self.expires_at.is_none_or(|end| now < end)
    }

    /// Without the hash.
    pub fn view(&self) -> KeyView {
        KeyView {
            id: self.id,
            identity: self.identity.clone(),
            roles: self.roles.clone(),
            tenant: self.tenant.clone(),
            created_at: self.created_at,
            expires_at: self.expires_at,
            revoked: self.revoked,
        }
    }
}

/// An effect that is still to be done. Doing it twice is harmless, forgetting it is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    pub id: u64,
    pub job: JobId,
    pub effect: Effect,
    pub created_at: Timestamp,
}

/// Which jobs to list. Newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    pub tenant: Option<TenantId>,
    pub state: Option<JobState>,
    /// The last job of the page before.
    pub after: Option<JobId>,
    /// At most [`MAX_PAGE`].
    pub limit: u32,
}

/// How long one attempt may take.
pub type Wall = Arc<dyn Fn(&JobRecord, &TaskRecord) -> DurationMs + Send + Sync>;

/// A session asks for work.
#[derive(Clone)]
pub struct ClaimRequest {
    pub session: SessionId,
    pub kinds: Vec<LeaseKind>,
    pub now: Timestamp,
    /// One per lease that is wanted.
    pub mints: Vec<(CommandId, AttemptId)>,
    pub wall: Wall,
    /// Weights and caps.
    pub rules: Arc<Rules>,
}

impl std::fmt::Debug for ClaimRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClaimRequest")
            .field("session", &self.session)
            .field("kinds", &self.kinds)
            .field("now", &self.now)
            .field("mints", &self.mints)
            .finish_non_exhaustive()
    }
}

/// The store looks for leases that ended without a report.
#[derive(Debug, Clone)]
pub struct ReapRequest {
    pub now: Timestamp,
    /// A lease without any progress for this long is taken back.
    pub progress_timeout: DurationMs,
    /// One per lease that may be taken back in this round.
    pub mints: Vec<CommandId>,
}

/// What a round of reaping did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Task, the epoch it was held under, and why it was taken back.
    pub returned: Vec<(JobId, TaskSlug, u64, String)>,
    pub sessions: Vec<SessionId>,
}

/// A job with the ends of its chain and of its events. Cloning it copies no task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobRow {
    pub(crate) record: Arc<JobRecord>,
    pub(crate) tip: Tip,
    pub(crate) event_seq: u64,
}

/// The first outcome of a command, and what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandRow {
    pub(crate) digest: Digest,
    pub(crate) outcome: Outcome,
}

/// What a task's row says about its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaseRow {
    pub(crate) job: JobId,
    pub(crate) slug: TaskSlug,
    pub(crate) state: TaskState,
    pub(crate) epoch: u64,
    pub(crate) session: Option<SessionId>,
    pub(crate) deadline: Option<Timestamp>,
    pub(crate) last_progress: Timestamp,
    /// Number of the progress line that comes next, as the worker counts.
    pub(crate) progress_next: u64,
}

/// How much of a job's progress is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProgressCount {
    pub(crate) event_seq: u64,
    pub(crate) kept: u64,
}
