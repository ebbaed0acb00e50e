//! One lease from its start to its accepted report.

use std::sync::Arc;
use std::time::Duration;

use df_contract::lease::Report;
use df_contract::{AttemptOutcome, ErrorCode, FailureKind, Lease};
use tokio::task::JoinSet;

use crate::daemon::{DaemonError, LeaseClient};
use crate::executors::{Executors, Means};
use crate::progress::ProgressPump;

/// The last lines of progress get this long before the report goes.
const FLUSH_WITHIN: Duration = Duration::from_secs(5);

/// Works on `lease` and reports. The finished report is kept and sent again until the daemon has accepted or refused
/// it, or the lease is lost.
pub(super) async fn run(executors: Arc<Executors>, lease: Lease, means: Means, pump: ProgressPump) {
    let client = means.daemon.clone();
    // Sets, so that giving up this task gives up what it started.
    let (mut work, mut lines) = (JoinSet::new(), JoinSet::new());
    let sender = client.clone();
    lines.spawn(async move { pump.run(&sender).await });
    let lease = Arc::new(lease);
    let shared = Arc::clone(&lease);
    work.spawn(async move { executors.execute(&shared, means).await });
    let report = match work.join_next().await {
        Some(Ok(report)) => report,
        Some(Err(error)) if error.is_panic() => Some(crashed(&lease)),
        Some(Err(_)) | None => None,
    };
    let Some(report) = report else {
        tracing::info!(job = %lease.job, task = %lease.slug, epoch = lease.epoch, "lease given up, nothing reported");
        return;
    };
    // Lines that do not arrive in time are no reason to withhold the report.
    let _ = tokio::time::timeout(FLUSH_WITHIN, lines.join_next()).await;
    send(&client, &lease, report).await;
}

async fn send(client: &LeaseClient, lease: &Lease, report: Report) {
    let outcome = match &report.outcome {
        AttemptOutcome::Succeeded { .. } => "succeeded",
        AttemptOutcome::Failed { kind, .. } => kind.as_str(),
    };
    let refused = match client.report(&report).await {
        Ok(()) => {
            tracing::info!(
                job = %lease.job, task = %lease.slug, attempt = %lease.attempt, epoch = lease.epoch, outcome,
                "lease reported"
            );
            return;
        }
        Err(error) => error,
    };
    tracing::warn!(job = %lease.job, task = %lease.slug, epoch = lease.epoch, outcome, error = %refused, "report refused");
    if is_gone(&refused) {
        return;
    }
    // The lease still stands: say what became of it rather than let it run into its time-out.
    let detail = format!("the daemon refused the report: {refused}");
    let outcome = AttemptOutcome::Failed { kind: FailureKind::ContractBreach, detail, trace: None };
    if let Err(error) = client.report(&Report { outcome, ..report }).await {
        tracing::warn!(job = %lease.job, task = %lease.slug, epoch = lease.epoch, %error, "second report refused");
    }
}

/// Whether a refusal means that the lease, or all right to it, is gone.
fn is_gone(error: &DaemonError) -> bool {
    match error {
        DaemonError::Cancelled => true,
        other => matches!(
            other.code(),
            Some(
                ErrorCode::StaleLease
                    | ErrorCode::Unauthenticated
                    | ErrorCode::Forbidden
                    | ErrorCode::NotFound
                    | ErrorCode::JobUnknown
            )
        ),
    }
}

fn crashed(lease: &Lease) -> Report {
    let detail = "the worker's own code failed on this lease; its log says where".to_owned();
    Report {
        attempt: lease.attempt,
        outcome: AttemptOutcome::Failed { kind: FailureKind::AgentCrash, detail, trace: None },
        sandbox_layers: Vec::new(),
        evidence: Vec::new(),
    }
}
