//! A worker that does nothing but say what a lease would have made.

use df_contract::lease::{Claimed, SessionOpened, Work};
use df_contract::task::{AgentStatus, Product, TreeRef};
use df_contract::{
    AgentResult, AttemptOutcome, CheckResult, Digest, DurationMs, GateFacts, Lease, Plan, Role, SourceFacts,
    Usage,
};
use serde_json::{Value, json};

use crate::world::{Answer, Client, World};

pub(crate) const TRACE: &[u8] = b"{\"step\":1}";
pub(crate) const CHECK_LOG: &[u8] = b"Ran 3 tests: OK";
pub(crate) const SOFTWARE: &[u8] = b"the delivered tree";

pub(crate) struct Player {
    pub(crate) client: Client,
    pub(crate) session: String,
}

impl Player {
    pub(crate) async fn start(world: &World) -> Self {
        let client = world.key("worker-1", &[Role::Worker]).await;
        let opened = client.post("/v1/worker/sessions", &json!({"name": "worker-1", "capacity": 8})).await;
        let session = opened.ok::<SessionOpened>().session.to_string();
        Self { client, session }
    }

    /// What there is to do now.
    pub(crate) async fn claim(&self) -> Vec<Lease> {
        let ask =
            json!({"kinds": ["intake", "agent", "integrate", "validate", "deliver"], "max": 8, "wait_ms": 0});
        let path = format!("/v1/worker/sessions/{}/claim", self.session);
        self.client.post(&path, &ask).await.ok::<Claimed>().leases
    }

    /// Claims and reports until nothing is left to do.
    pub(crate) async fn play(&self) -> Vec<Lease> {
        let mut played = Vec::new();
        loop {
            let leases = self.claim().await;
            if leases.is_empty() {
                return played;
            }
            for lease in leases {
                let product = self.product(&lease).await;
                self.report(&lease, product).await.done();
                played.push(lease);
            }
        }
    }

    pub(crate) async fn report(&self, lease: &Lease, product: Product) -> Answer {
        self.holder(lease).post(&format!("{}/report", lease_path(lease)), &report(lease, product)).await
    }

    /// A client with the lease's own token.
    pub(crate) fn holder(&self, lease: &Lease) -> Client {
        self.client.with(&lease.token.0)
    }

    /// Uploads what the lease would have made, and names it.
    pub(crate) async fn product(&self, lease: &Lease) -> Product {
        let holder = self.holder(lease);
        let tree = tree(&holder, &format!("{}/{}/{}", lease.job, lease.slug, lease.epoch)).await;
        match &lease.work {
            Work::Intake { .. } => Product::Intake { facts: SourceFacts::default(), base: tree },
            Work::Agent { task } if task.r#type == Role::Coordinator => {
                Product::Plan { plan: plan(), result: result(&holder, None).await }
            }
            Work::Agent { .. } => {
                let result = result(&holder, Some(tree.clone())).await;
                Product::Change { tree, result }
            }
            Work::Integrate { .. } => Product::Merge { tree, checks: Vec::new() },
            Work::Validate { head, acceptance, hidden, .. } => {
                let facts = GateFacts {
                    acceptance: acceptance.iter().map(|c| passed(&c.id, None)).collect(),
                    hidden: hidden.iter().map(|c| passed(&c.id, None)).collect(),
                    source: SourceFacts::default(),
                    changed_paths: ["src/app.py".to_owned()].into(),
                    artefact: head.bundle.clone(),
                };
                Product::Gate { facts }
            }
            Work::Deliver { .. } => {
                let software = holder.put_blob(SOFTWARE).await;
                // A worker that wants to smuggle a hidden check out as an artefact.
                let smuggled = holder.put_blob(crate::world::HIDDEN_CONTENT).await;
                let artefacts = [("tree.tar".to_owned(), software), ("notes.txt".to_owned(), smuggled)];
                Product::Delivery { artefacts: artefacts.into() }
            }
        }
    }
}

pub(crate) fn lease_path(lease: &Lease) -> String {
    format!("/v1/worker/leases/{}/{}/{}", lease.job, lease.slug, lease.epoch)
}

pub(crate) fn report(lease: &Lease, product: Product) -> Value {
    let outcome = AttemptOutcome::Succeeded { product };
    json!({"attempt": lease.attempt, "outcome": outcome, "sandbox_layers": ["user", "mount"]})
}

async fn tree(holder: &Client, name: &str) -> TreeRef {
    let bundle = holder.put_blob(name.as_bytes()).await;
    TreeRef { revision: bundle.as_str()[..40].parse().unwrap(), bundle }
}

fn plan() -> Plan {
    let plan = json!({"summary": "one service", "tasks": [{
        "slug": "api", "role": "backend", "title": "The service", "instructions": "Write it.", "paths": ["src/**"],
    }]});
    serde_json::from_value(plan).unwrap()
}

fn passed(id: &str, log: Option<Digest>) -> CheckResult {
    CheckResult {
        id: id.to_owned(),
        passed: true,
        exit_code: Some(0),
        wall_ms: DurationMs(5),
        output_tail: String::new(),
        log,
    }
}

async fn result(holder: &Client, tree: Option<TreeRef>) -> AgentResult {
    let trace = holder.put_blob(TRACE).await;
    let log = holder.put_blob(CHECK_LOG).await;
    AgentResult {
        status: AgentStatus::Succeeded,
        summary: "done".to_owned(),
        commit_message: "service: add it".to_owned(),
        tree,
        plan: None,
        checks: vec![passed("unit", Some(log))],
        usage: Usage::default(),
        artefacts: [("trace".to_owned(), trace)].into(),
    }
}
