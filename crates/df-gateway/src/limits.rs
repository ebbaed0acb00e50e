//! Named limits of the API. What is beyond them is refused with `body_too_large`, `invalid_request` or `rate_limited`.

use std::time::Duration;

/// Largest body of `POST /v1/jobs`, in bytes: a plan with all the text that [`df_contract::PlanLimits::SUPPLIED`] allows,
/// escaped, beside the longest description.
pub const MAX_JOB_BYTES: usize = 8 * 1024 * 1024;
/// Largest body of a registration: a manifest with its prompt, escaped.
pub const MAX_AGENT_BYTES: usize = 512 * 1024;
/// Largest body of a small request: votes, causes, keys, sessions, claims, heartbeats.
pub const MAX_SMALL_BYTES: usize = 64 * 1024;
/// Largest batch of progress: [`df_contract::lease::MAX_PROGRESS_LINES`] lines at their longest, escaped.
pub const MAX_PROGRESS_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Longest kind of a progress line, in bytes.
pub const MAX_PROGRESS_KIND_BYTES: usize = 32;
/// Largest report of a worker.
pub const MAX_REPORT_BYTES: usize = 16 * 1024 * 1024;
/// So much of a JSON body that is too large is read all the same, so that its sender hears why.
pub const MAX_DISCARDED: usize = 8 * 1024 * 1024;
/// A JSON body must have arrived by then.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// The next piece of a blob must have arrived by then.
pub const BLOB_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Jobs of a page when the request does not say, and at most.
pub const DEFAULT_PAGE: u32 = 50;
pub const MAX_PAGE: u32 = 200;
/// Longest `Idempotency-Key`, in bytes.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 200;
/// Longest identity of a key, in bytes.
pub const MAX_IDENTITY_BYTES: usize = 100;
/// Longest comment of a vote and cause of a command, in bytes.
pub const MAX_COMMENT_BYTES: usize = 8 * 1024;
/// Most leases a worker may say it can hold.
pub const MAX_CAPACITY: u32 = 1_024;

/// Event streams open at once.
pub const MAX_STREAMS: usize = 1_024;
/// Events read from the store at once.
pub const EVENT_PAGE: u32 = 256;
/// A stream looks at the store this often even without a hint, and at whether its key still lives.
pub const STREAM_RECHECK: Duration = Duration::from_secs(5);
/// Comment lines keep idle connections open.
pub const STREAM_HEARTBEAT: Duration = Duration::from_secs(15);

/// Requests one key may make per second, sustained.
pub const RATE_PER_SECOND: u64 = 200;
/// Requests one key may make at once beyond that.
pub const RATE_BURST: u64 = 1_000;

/// `GET /v1/system` waits for the proxy this long.
pub const PROXY_PATIENCE: Duration = Duration::from_secs(2);
/// A waiting claim looks this often at whether the daemon stops.
pub const CLAIM_SLICE: Duration = Duration::from_secs(1);
