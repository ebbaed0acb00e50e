//! Looking at a running factory: states, the audit log, the ledger.

use std::path::PathBuf;

use df_contract::api::{JobView, Spend, UsagePage, UsageRow};
use df_contract::{JobId, JobState};
use df_control_audit::ExportLine;

use super::TestFactory;
use crate::api::{Api, ApiError};
use crate::cli::{self, run_cli};
use crate::limit::{Limit, poll};
use crate::model::PROVIDER_KEY;

/// Rows of the ledger asked for at once.
const USAGE_ROWS: u32 = 500;

impl TestFactory {
    /// Waits until the job is in `state`. A daemon that does not answer is asked again; a job that ended in another
    /// state never gets there.
    pub async fn reached(&self, job: JobId, state: JobState, limit: Limit) -> JobView {
        poll(limit, &format!("{job} in {state}"), async || match self.admin().job(job).await {
            Ok(view) if view.summary.state == state => Ok(view),
            Ok(view) => {
                let told = outline(&view);
                assert!(!has_ended(view.summary.state), "{job} never reached {state}: {told}");
                Err(told)
            }
            Err(ApiError::Unanswered(why)) => Err(why),
            Err(ApiError::Problem(problem)) => panic!("{job} cannot be seen: {problem}"),
        })
        .await
    }

    pub async fn completed(&self, job: JobId, limit: Limit) -> JobView {
        self.reached(job, JobState::Completed, limit).await
    }

    /// `devfactory audit verify` on the daemon's data: every chain, and the tables against the states folded from it.
    pub fn verify_audit(&self) {
        let data = self.daemon_dir().to_str().expect("a path in UTF-8");
        run_cli(self.root(), &["audit", "verify", "--data-dir", data], &[], Limit::PROCESS).succeeded();
    }

    /// The whole audit log.
    pub fn audit(&self) -> Vec<ExportLine> {
        let args = vec!["audit-export".into(), "--data-dir".into(), self.daemon_dir().into()];
        let program = cli::program("devfactoryd", self.root(), args, &[]);
        let output = cli::run(program, self.root(), Limit::PROCESS);
        let lines = output.succeeded().stdout.lines();
        lines.map(|line| serde_json::from_str(line).expect("a line of the export")).collect()
    }

    /// All rows of the proxy's ledger.
    pub async fn ledger(&self) -> Vec<UsageRow> {
        let proxy = self.proxy_admin();
        let (mut rows, mut cursor) = (Vec::new(), 0);
        loop {
            let path = format!("/admin/v1/usage?after={cursor}&limit={USAGE_ROWS}");
            let page: UsagePage = proxy.get(&path).await.expect("the ledger");
            // A page may have no rows and yet not be the last: attempts that cost nothing are passed over.
            if page.cursor == cursor {
                return rows;
            }
            cursor = page.cursor;
            rows.extend(page.rows);
        }
    }

    /// Waits until the daemon has read all that the ledger holds for the job; answers their common sum.
    pub async fn settled(&self, job: JobId) -> Spend {
        self.settled_all(&[job]).await
    }

    /// The same for many jobs, each by itself; answers the sum over all.
    pub async fn settled_all(&self, jobs: &[JobId]) -> Spend {
        poll(Limit::STEP, "the spend of jobs equals the ledger", async || {
            let ledger = self.ledger().await;
            let (mut all, mut apart) = (Spend::default(), Vec::new());
            for job in jobs {
                let rows = sum(ledger.iter().filter(|row| row.job == *job));
                let view = self.admin().job(*job).await.expect("the job");
                let mut tasks = Spend::default();
                view.tasks.iter().for_each(|task| tasks.add(&task.spend));
                if view.spend != rows || tasks != rows {
                    let (title, spend) = (&view.summary.title, view.spend);
                    apart.push(format!("{job} {title}: ledger {rows:?}, job {spend:?}, its tasks {tasks:?}"));
                }
                all.add(&rows);
            }
            if !apart.is_empty() {
                return Err(format!("{} rows in the ledger\n{}", ledger.len(), apart.join("\n")));
            }
            Ok(all)
        })
        .await
    }

    /// Every secret of this installation that a test can know, by name.
    pub fn secrets(&self, keys: &[&Api]) -> Vec<(&'static str, String)> {
        let mut found =
            vec![("the provider's key", PROVIDER_KEY.to_owned()), ("a grant", "dfg1.".to_owned())];
        found.extend(keys.iter().map(|api| ("an API key", api.key().to_owned())));
        for (name, path) in [
            ("the admin key", &self.layout.admin_key),
            ("the worker key", &self.layout.worker_key),
            ("the proxy's admin token", &self.layout.proxy_token),
            ("the grant key", &self.layout.grant_key()),
        ] {
            found.push((name, super::read_key(path)));
        }
        found
    }

    /// The seed of the key that signs grants, in hex.
    pub fn grant_seed(&self) -> String {
        super::read_key(&self.layout.grant_key())
    }

    /// The files in which secrets belong.
    pub fn key_files(&self) -> Vec<PathBuf> {
        self.layout.key_files()
    }
}

fn sum<'a>(rows: impl Iterator<Item = &'a UsageRow>) -> Spend {
    let mut sum = Spend::default();
    for row in rows {
        sum.add(&Spend {
            calls: 1,
            input_tokens: row.input_tokens,
            output_tokens: row.output_tokens,
            nano_usd: row.nano_usd,
        });
    }
    sum
}

fn has_ended(state: JobState) -> bool {
    match state {
        JobState::Completed | JobState::Rejected | JobState::Failed | JobState::Cancelled => true,
        JobState::Draft
        | JobState::GovernanceAnalysis
        | JobState::AwaitingApproval
        | JobState::Approved
        | JobState::TaskPlanning
        | JobState::InProgress
        | JobState::Validating
        | JobState::Deployable
        | JobState::Paused => false,
    }
}

/// Where a job is, in a few lines.
fn outline(view: &JobView) -> String {
    let cause = view.cause.as_deref().unwrap_or_default();
    let mut text = format!("{} {cause}", view.summary.state);
    for task in &view.tasks {
        text.push_str(&format!("\n  {} {} attempts {}", task.slug, task.state, task.attempts));
        if let Some(failure) = &task.failure {
            text.push_str(&format!(": {} {}", failure.kind.as_str(), failure.detail));
        }
    }
    for gate in view.gates.iter().filter(|gate| !gate.passed) {
        text.push_str(&format!("\n  gate {}: {}", gate.gate, gate.message));
    }
    text
}
