use df_contract::{CheckResult, CommandId, DurationMs, JobId, LeaseKind, Role, Timestamp};
use df_control_machine::{Actor, Command, CommandBody, decide};

use super::*;

const SECRET_COMMAND: &str = "sh .devfactory-hidden/run-the-secret-check.sh";

fn record() -> JobRecord {
    let spec = serde_json::json!({
        "title": "t", "description": "d",
        "hidden_checks": [{
            "id": "h1", "public_hint": "it must round-trip", "command": SECRET_COMMAND,
            "blob": Digest::of(b"hidden").as_str(),
        }],
    });
    let at = Timestamp(1);
    let command = Command {
        id: CommandId::mint(at, [2; 10]),
        job: JobId::mint(at, [1; 10]),
        actor: Actor { name: "alice".to_owned(), role: Role::Submitter },
        at,
        body: CommandBody::Submit {
            tenant: "acme".parse().unwrap(),
            submitter: "alice".to_owned(),
            spec: serde_json::from_value(spec).unwrap(),
        },
    };
    let mut record = decide(None, &command).unwrap().record;
    record.artefacts.insert("bundle.tar".to_owned(), Digest::of(b"bundle"));
    record.artefacts.insert("innocent.txt".to_owned(), Digest::of(b"hidden"));
    let slug: TaskSlug = "api".parse().unwrap();
    let mut task =
        TaskRecord::new(slug.clone(), LeaseKind::Agent, Role::Backend, "api".to_owned(), BTreeSet::new());
    task.output.trace = Some(Digest::of(b"trace"));
    task.output.checks = vec![check("visible", b"log"), check("h1", b"hidden log")];
    record.tasks.insert(slug, task);
    record
}

fn check(id: &str, log: &[u8]) -> CheckResult {
    CheckResult {
        id: id.to_owned(),
        passed: true,
        exit_code: Some(0),
        wall_ms: DurationMs(1),
        output_tail: String::new(),
        log: Some(Digest::of(log)),
    }
}

#[test]
fn hidden_checks_are_reduced_to_id_and_hint() {
    let view = job_view(&record());
    let check = &view.spec.hidden_checks[0];
    assert_eq!((check.id.as_str(), check.public_hint.as_str()), ("h1", "it must round-trip"));
    let text = serde_json::to_string(&view).unwrap();
    assert!(!text.contains(SECRET_COMMAND) && !text.contains(Digest::of(b"hidden").as_str()), "{text}");
    assert_eq!(view.artefacts.keys().collect::<Vec<_>>(), ["bundle.tar"]);
}

#[test]
fn a_job_shows_its_artefacts_traces_and_visible_logs_only() {
    let expect = [b"bundle".as_slice(), b"trace", b"log"].map(Digest::of);
    assert_eq!(shown_blobs(&record()), BTreeSet::from(expect));
}

#[test]
fn a_proposed_plan_is_shown_until_one_is_accepted() {
    let mut record = record();
    let plan = |summary: &str| df_contract::Plan { summary: summary.to_owned(), tasks: Vec::new() };
    record.proposed_plan = Some(plan("proposed").into());
    assert_eq!(job_view(&record).plan.map(|p| p.summary).as_deref(), Some("proposed"));
    record.proposed_plan = None;
    record.plan = Some(plan("accepted").into());
    assert_eq!(job_view(&record).plan.map(|p| p.summary).as_deref(), Some("accepted"));
}
