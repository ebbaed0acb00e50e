//! The registry of agents, on every backend.

use df_contract::agent::{AgentManifest, AgentRef, Registration, sign};
use df_contract::{AgentName, Digest, ErrorCode, RegisteredAgent, TenantId, Timestamp};
use df_control_audit::{RegistryEvent, verify_export, verify_registry};

use super::bench::{Bench, LIFECYCLE};
use crate::{RegistryActor, RegistryRefusal, audit_export};

fn name(text: &str) -> AgentName {
    text.parse().unwrap()
}

fn acme(agent: &str) -> AgentRef {
    AgentRef { tenant: Some("acme".parse().unwrap()), name: name(agent) }
}

fn actor(tenant: &str, identity: &str, at: u64) -> RegistryActor {
    RegistryActor { identity: identity.to_owned(), tenant: tenant.parse().unwrap(), at: Timestamp(at) }
}

/// A version whose prompt is `prompt`, signed with the key `seed` stands for.
fn version(
    tenant: Option<&str>,
    agent: &str,
    role: &str,
    prompt: &str,
    by: &RegistryActor,
    seed: u8,
) -> RegisteredAgent {
    let manifest: AgentManifest = serde_json::from_value(serde_json::json!({
        "name": agent, "role": role, "runtime": "builtin", "tools": ["read", "finish"], "paths": ["docs/**"],
        "limits": {"steps": 5, "wall_s": 60}, "prompt": prompt,
    }))
    .unwrap();
    let tenant: Option<TenantId> = tenant.map(|t| t.parse().unwrap());
    let digest = manifest.digest().unwrap();
    let of = Registration { tenant: tenant.as_ref(), name: &manifest.name, digest: &digest, number: 1 };
    let (public_key, signature) = sign(&[seed; 32], &of);
    let (registered_by, registered_at) = (by.identity.clone(), by.at);
    RegisteredAgent {
        manifest,
        digest,
        number: 1,
        tenant,
        registered_by,
        registered_at,
        public_key,
        signature,
        enabled: true,
    }
}

/// As the registration with this number, signed with the key `seed` stands for.
fn numbered(mut version: RegisteredAgent, number: u64, seed: u8) -> RegisteredAgent {
    version.number = number;
    (version.public_key, version.signature) = sign(&[seed; 32], &version.registration());
    version
}

const ROLE: &str = "registered-agent";

async fn register(
    bench: &Bench,
    version: RegisteredAgent,
    by: &RegistryActor,
    takes_over: bool,
) -> Result<Digest, RegistryRefusal> {
    let done = bench.store.agent_register(version, by.clone(), takes_over).await.unwrap();
    done.map(|agent| agent.digest)
}

pub(crate) async fn agents_have_versions_and_a_current_one(bench: Bench) {
    let alice = actor("acme", "alice", 10);
    let later = actor("acme", "alice", 20);
    let one = version(Some("acme"), "writer", ROLE, "one", &alice, 1);
    let two = numbered(version(Some("acme"), "writer", ROLE, "two", &later, 1), 2, 1);
    register(&bench, one.clone(), &alice, false).await.unwrap();
    register(&bench, two.clone(), &later, false).await.unwrap();
    let current = async || bench.store.agent(acme("writer")).await.unwrap().unwrap().current;
    assert_eq!(current().await, two.digest);
    assert_eq!(bench.store.agent_versions(acme("writer")).await.unwrap(), [two.clone(), one.clone()]);
    let stale = register(&bench, one.clone(), &later, false).await.unwrap_err();
    assert_eq!(stale, RegistryRefusal::Number { name: name("writer"), signed: 1, next: 3 });
    let back = numbered(one.clone(), 3, 1);
    register(&bench, back.clone(), &later, false).await.unwrap();
    assert_eq!(current().await, one.digest, "an old version that is signed anew is the current one");
    let records = bench.store.agent_log(acme("writer")).await.unwrap().len();
    register(&bench, back, &later, false).await.unwrap();
    assert_eq!(bench.store.agent_log(acme("writer")).await.unwrap().len(), records, "nothing has changed");
    let seen =
        async |tenant: &str| bench.store.agent_list(Some(tenant.parse().unwrap())).await.unwrap().len();
    assert_eq!((seen("acme").await, seen("other").await), (1, 0));
    let root = actor("acme", "root", 30);
    register(&bench, version(None, "common", ROLE, "x", &root, 9), &root, false).await.unwrap();
    assert_eq!((seen("acme").await, seen("other").await), (2, 1), "everybody's is everybody's");
}

pub(crate) async fn a_name_is_its_first_registrants(bench: Bench) {
    let alice = actor("acme", "alice", 10);
    register(&bench, version(Some("acme"), "writer", ROLE, "one", &alice, 1), &alice, false).await.unwrap();
    let bob = actor("acme", "bob", 11);
    let eve = actor("evil", "eve", 12);
    let root = actor("acme", "root", 13);
    let taken = Err(RegistryRefusal::Taken(name("writer")));
    register(&bench, version(None, "common", ROLE, "x", &root, 4), &root, false).await.unwrap();
    let bobs = version(Some("acme"), "writer", ROLE, "bob's", &bob, 2);
    assert_eq!(register(&bench, bobs, &bob, false).await, taken);
    for over in [false, true] {
        let eves = version(Some("evil"), "common", ROLE, "e", &eve, 3);
        assert_eq!(register(&bench, eves, &eve, over).await, Err(RegistryRefusal::Taken(name("common"))));
        assert_eq!(register(&bench, version(None, "writer", ROLE, "r", &root, 4), &root, over).await, taken);
    }
    let (bobs_key, log) = (actor("acme", "bob", 14), bench.store.agent_log(acme("writer")).await.unwrap());
    assert_eq!(log.len(), 1, "what is refused leaves no record");
    register(&bench, version(Some("acme"), "other", ROLE, "x", &bobs_key, 7), &bobs_key, false)
        .await
        .unwrap();
    let over = numbered(version(Some("acme"), "writer", ROLE, "r", &root, 4), 2, 4);
    register(&bench, over, &root, true).await.unwrap();
    let back = version(Some("acme"), "writer", ROLE, "again", &alice, 1);
    assert_eq!(register(&bench, back, &alice, false).await, taken, "it was taken over");
}

pub(crate) async fn an_identity_is_kept_to_its_first_key(bench: Bench) {
    let alice = actor("acme", "alice", 10);
    register(&bench, version(Some("acme"), "writer", ROLE, "one", &alice, 1), &alice, false).await.unwrap();
    let other = numbered(version(Some("acme"), "writer", ROLE, "two", &alice, 2), 2, 2);
    let refused = register(&bench, other.clone(), &alice, false).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::SignatureInvalid);
    let twin = actor("other", "alice", 11);
    register(&bench, version(Some("other"), "theirs", ROLE, "x", &twin, 2), &twin, false).await.unwrap();
    let root = actor("acme", "root", 12);
    let reset = async |identity: &str| {
        bench.store.signer_reset("acme".parse().unwrap(), identity.to_owned(), root.clone()).await.unwrap()
    };
    assert_eq!(reset("nobody").await, Err(RegistryRefusal::NoKey("nobody".to_owned())));
    reset("alice").await.unwrap();
    register(&bench, other, &alice, false).await.unwrap();
}

pub(crate) async fn versions_are_switched_and_pinned(bench: Bench) {
    let alice = actor("acme", "alice", 10);
    let one = version(Some("acme"), "writer", ROLE, "one", &alice, 1);
    let two = numbered(version(Some("acme"), "writer", ROLE, "two", &alice, 1), 2, 1);
    for version in [&one, &two] {
        register(&bench, version.clone(), &alice, false).await.unwrap();
    }
    let switch = async |digest: Option<&Digest>, on| {
        bench.store.agent_switch(acme("writer"), digest.cloned(), on, alice.clone(), false).await.unwrap()
    };
    let enabled = async |version: &RegisteredAgent| {
        let found = bench.store.agent_version(acme("writer"), version.digest.clone()).await.unwrap();
        found.unwrap().enabled
    };
    switch(Some(&one.digest), false).await.unwrap();
    assert_eq!((enabled(&one).await, enabled(&two).await), (false, true));
    switch(None, false).await.unwrap();
    assert_eq!((enabled(&one).await, enabled(&two).await), (false, false));
    switch(None, true).await.unwrap();
    switch(None, true).await.unwrap();
    assert_eq!((enabled(&one).await, enabled(&two).await), (true, true));
    assert_eq!(switch(Some(&Digest::zero()), false).await.unwrap_err().code(), ErrorCode::AgentUnknown);

    let op = actor("acme", "op", 20);
    let pin = async |agent: &str, digest: Option<&Digest>, replaces, by: &RegistryActor| {
        bench.store.agent_pin(name(agent), digest.cloned(), replaces, by.clone()).await.unwrap()
    };
    assert_eq!(pin("writer", Some(&one.digest), false, &op).await.unwrap().digest, one.digest);
    assert_eq!(pin("writer", None, false, &op).await.unwrap().digest, two.digest, "the current one");
    assert!(matches!(pin("writer", None, true, &op).await, Err(RegistryRefusal::ReplacesNobody(_))));
    let stranger = actor("other", "op", 21);
    assert_eq!(pin("writer", None, false, &stranger).await, Err(RegistryRefusal::Unknown(name("writer"))));
    for builder in ["first", "second"] {
        let agent = version(Some("acme"), builder, "backend", "x", &alice, 1);
        register(&bench, agent, &alice, false).await.unwrap();
        pin(builder, None, true, &op).await.unwrap();
    }
    let pins = bench.store.agent_pins("acme".parse().unwrap()).await.unwrap();
    let replacing: Vec<_> = pins.iter().filter(|pin| pin.replaces).map(|pin| pin.name.as_str()).collect();
    assert_eq!(replacing, ["second"], "one agent at most replaces a built-in one");
    bench.store.agent_unpin(name("writer"), op.clone()).await.unwrap().unwrap();
    let again = bench.store.agent_unpin(name("writer"), op).await.unwrap();
    assert_eq!(again, Err(RegistryRefusal::NotPinned(name("writer"))));

    let log = bench.store.agent_log(acme("writer")).await.unwrap();
    let kinds: Vec<_> = log.iter().map(|record| (record.actor.as_str(), kind(&record.event))).collect();
    let want = [
        ("alice", "registered"),
        ("alice", "registered"),
        ("alice", "disabled"),
        ("alice", "disabled"),
        ("alice", "enabled"),
        ("op", "pinned"),
        ("op", "pinned"),
        ("op", "unpinned"),
    ];
    let kinds: Vec<_> = kinds.iter().map(|(actor, kind)| (*actor, kind.as_str())).collect();
    assert_eq!(kinds, want, "what changes nothing leaves no record");
}

fn kind(event: &RegistryEvent) -> String {
    serde_json::to_value(event).unwrap()["kind"].as_str().unwrap().to_owned()
}

pub(crate) async fn tenants_may_use_one_name(bench: Bench) {
    let (alice, eve) = (actor("acme", "alice", 10), actor("evil", "eve", 11));
    let of = |tenant: &str| AgentRef { tenant: Some(tenant.parse().unwrap()), name: name("writer") };
    for by in [&alice, &eve] {
        let own = version(Some(by.tenant.as_str()), "writer", ROLE, &by.identity, by, 1);
        register(&bench, own, by, false).await.unwrap();
    }
    let listed = bench.store.agent_list(None).await.unwrap();
    assert_eq!(listed.iter().map(|(row, _)| row.of()).collect::<Vec<_>>(), [of("acme"), of("evil")]);
    bench.store.agent_switch(of("evil"), None, false, eve.clone(), false).await.unwrap().unwrap();
    let current = async |tenant: &str| {
        let row = bench.store.agent_for(tenant.parse().unwrap(), name("writer")).await.unwrap().unwrap();
        bench.store.agent_version(row.of(), row.current).await.unwrap().unwrap()
    };
    let (mine, theirs) = (current("acme").await, current("evil").await);
    assert_eq!((mine.enabled, theirs.enabled), (true, false));
    let pinned = bench.store.agent_pin(name("writer"), Some(theirs.digest.clone()), false, alice).await;
    assert_eq!(pinned.unwrap().unwrap_err().code(), ErrorCode::AgentUnknown, "another tenant's version");
    assert_eq!(bench.store.agent_for("else".parse().unwrap(), name("writer")).await.unwrap(), None);
    assert_eq!(bench.store.agent_log(of("acme")).await.unwrap().len(), 1);
    let again = numbered(theirs, 2, 1);
    register(&bench, again, &eve, false).await.unwrap();
    assert!(!current("evil").await.enabled, "what was switched off stays so when it is signed anew");
}

async fn filled() -> Bench {
    let bench = Bench::sqlite();
    let alice = actor("acme", "alice", 10);
    register(&bench, version(Some("acme"), "writer", ROLE, "one", &alice, 1), &alice, false).await.unwrap();
    register(&bench, version(None, "common", "backend", "x", &alice, 1), &alice, false).await.unwrap();
    bench.store.agent_pin(name("common"), None, true, alice.clone()).await.unwrap().unwrap();
    bench.store.agent_switch(acme("writer"), None, false, alice, false).await.unwrap().unwrap();
    bench
}

#[tokio::test]
async fn what_is_registered_while_an_operator_holds_the_name_verifies_as_disabled() {
    let bench = filled().await;
    let (alice, op) = (actor("acme", "alice", 20), actor("acme", "op", 30));
    let switch = async |by: &RegistryActor, on, over_others| {
        bench.store.agent_switch(acme("writer"), None, on, by.clone(), over_others).await.unwrap()
    };
    switch(&op, false, true).await.unwrap();
    let log = async || bench.store.agent_log(acme("writer")).await.unwrap().len();
    let before = log().await;
    switch(&op, false, true).await.unwrap();
    assert_eq!(log().await, before, "the same again leaves no record");
    let next = numbered(version(Some("acme"), "writer", ROLE, "next", &alice, 1), 2, 1);
    let taken = bench.store.agent_register(next.clone(), alice.clone(), false).await.unwrap().unwrap();
    assert!(!taken.enabled);
    let again = bench.store.agent_register(next, alice.clone(), false).await.unwrap().unwrap();
    assert_eq!(again, taken, "the same registration again changes nothing");
    let refused = switch(&alice, true, false).await.unwrap_err();
    assert_eq!((refused.code(), findings(&bench)), (ErrorCode::Forbidden, vec![]));
    let over = numbered(version(Some("acme"), "writer", ROLE, "over", &alice, 1), 3, 1);
    assert!(bench.store.agent_register(over, alice, true).await.unwrap().unwrap().enabled, "an admin's");
    switch(&op, true, true).await.unwrap();
    assert_eq!(findings(&bench), Vec::<String>::new());
}

fn findings(bench: &Bench) -> Vec<String> {
    let lines = audit_export(bench.dir.as_ref().unwrap().path()).unwrap();
    let verified = verify_export(lines.map(|line| line.unwrap()), &LIFECYCLE);
    verified.findings.iter().map(ToString::to_string).collect()
}

/// Whoever can write the file can drop the triggers; the chain, the fold and the signatures still tell.
#[tokio::test]
async fn tampering_with_the_registry_is_found() {
    assert_eq!(findings(&filled().await), Vec::<String>::new());
    for sql in [
        "UPDATE agents SET owner = 'mallory'",
        "UPDATE agents SET number = 0",
        "UPDATE agent_versions SET body = json_set(body, '$.number', 2)",
        "UPDATE agent_versions SET body = json_remove(body, '$.number')",
        "UPDATE agents SET current = 'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff'",
        "UPDATE agent_versions SET enabled = 1",
        "UPDATE agent_versions SET body = json_set(body, '$.manifest.prompt', 'Do evil.')",
        "UPDATE agent_versions SET body = json_set(body, '$.registered_by', 'mallory')",
        "UPDATE agent_versions SET body = '{'",
        "UPDATE agent_pins SET replaces = 0",
        "DELETE FROM agent_pins",
        "UPDATE agent_signers SET public_key = '00'",
        "UPDATE agent_log SET record = json_set(record, '$.actor', 'mallory') WHERE seq = 2",
        "DELETE FROM agent_log WHERE seq = (SELECT max(seq) FROM agent_log)",
        "DELETE FROM agent_log",
    ] {
        let bench = filled().await;
        bench.store.close().await;
        let database =
            rusqlite::Connection::open(bench.dir.as_ref().unwrap().path().join("control.db")).unwrap();
        let triggers = "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name LIKE 'agent_%'";
        let names: Vec<String> = database
            .prepare(triggers)
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        if sql.contains("agent_log") || sql.contains("body") {
            assert!(database.execute(sql, []).is_err(), "the database itself refuses {sql}");
        }
        for trigger in names {
            database.execute(&format!("DROP TRIGGER {trigger}"), []).unwrap();
        }
        assert!(database.execute(sql, []).unwrap() > 0, "{sql}");
        assert_ne!(findings(&bench), Vec::<String>::new(), "{sql}");
    }
}

#[tokio::test]
async fn the_log_verifies_from_its_first_record() {
    let bench = filled().await;
    let lines = audit_export(bench.dir.as_ref().unwrap().path()).unwrap();
    let records: Vec<_> = lines
        .filter_map(|line| match line.unwrap() {
            df_control_audit::ExportLine::Agents(record) => Some(record),
            _ => None,
        })
        .collect();
    assert_eq!(records.len(), 5, "a key, two registrations, a pin and a switch");
    verify_registry(&records).unwrap();
}
