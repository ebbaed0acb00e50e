//! A registry from before names were a tenant's own and registrations were counted.

use df_contract::agent::{AgentManifest, AgentRef, Registration, sign};
use df_contract::{RegisteredAgent, TenantId, Timestamp};
use df_control_audit::{RegistryEvent, Tip, registry_append, verify_export};
use rusqlite::{Connection, params};

use super::bench::LIFECYCLE;
use crate::{RegistryActor, Store, audit_export};

/// The steps that there were.
const BEFORE: [&str; 6] = [
    include_str!("../../../../schema/migrations/sqlite/0001_control.sql"),
    include_str!("../../../../schema/migrations/sqlite/0002_documents.sql"),
    include_str!("../../../../schema/migrations/sqlite/0003_agents.sql"),
    include_str!("../../../../schema/migrations/sqlite/0004_upkeep.sql"),
    include_str!("../../../../schema/migrations/sqlite/0005_schedule.sql"),
    include_str!("../../../../schema/migrations/sqlite/0006_kept_blobs.sql"),
];

fn old(tenant: Option<&str>, agent: &str, prompt: &str) -> RegisteredAgent {
    let manifest: AgentManifest = serde_json::from_value(serde_json::json!({
        "name": agent, "role": "registered-agent", "runtime": "builtin", "tools": ["read", "finish"],
        "paths": ["docs/**"], "limits": {"steps": 5, "wall_s": 60}, "prompt": prompt,
    }))
    .unwrap();
    let tenant: Option<TenantId> = tenant.map(|t| t.parse().unwrap());
    let digest = manifest.digest().unwrap();
    let of = Registration { tenant: tenant.as_ref(), name: &manifest.name, digest: &digest, number: 0 };
    let (public_key, signature) = sign(&[1; 32], &of);
    RegisteredAgent {
        manifest,
        digest,
        number: 0,
        tenant,
        registered_by: "alice".to_owned(),
        registered_at: Timestamp(10),
        public_key,
        signature,
        enabled: true,
    }
}

/// Writes what an old daemon left: two versions of one agent, one of everybody's that is disabled and pinned.
fn leave(database: &Connection, versions: &[RegisteredAgent]) {
    for step in BEFORE {
        database.execute_batch(step).unwrap();
    }
    database.execute_batch("CREATE TABLE schema_version (version INTEGER NOT NULL) STRICT").unwrap();
    for version in 1..=6_i64 {
        database.execute("INSERT INTO schema_version (version) VALUES (?1)", [version]).unwrap();
    }
    let key = versions[0].public_key.clone();
    let mut events = vec![RegistryEvent::KeyKept {
        tenant: "acme".parse().unwrap(),
        identity: "alice".to_owned(),
        public_key: key.clone(),
    }];
    for version in versions {
        let (name, tenant) = (version.manifest.name.clone(), version.tenant.clone());
        let own = tenant.as_ref().map(|t| t.as_str().to_owned());
        let sql =
            "INSERT INTO agents VALUES (?1, ?2, 'alice', ?3) ON CONFLICT (name) DO UPDATE SET current = ?3";
        database.execute(sql, params![name.as_str(), own, version.digest.as_str()]).unwrap();
        let sql = "INSERT INTO agent_versions VALUES (?1, ?2, ?3, 10, ?4)";
        let (on, body) = (version.tenant.is_some(), serde_json::to_string(version).unwrap());
        database.execute(sql, params![name.as_str(), version.digest.as_str(), on, body]).unwrap();
        let (digest, public_key) = (version.digest.clone(), key.clone());
        events.push(RegistryEvent::Registered { name, tenant, digest, public_key, number: 0 });
    }
    let common = versions.last().unwrap();
    let (name, digest) = (common.manifest.name.clone(), common.digest.clone());
    let tenant = "acme".parse().unwrap();
    events.push(RegistryEvent::Disabled { whose: None, name: name.clone(), digest: None, by_operator: None });
    events.push(RegistryEvent::Pinned { whose: None, tenant, name, digest: digest.clone(), replaces: false });
    database.execute("INSERT INTO agent_pins VALUES ('acme', 'common', ?1, 0)", [digest.as_str()]).unwrap();
    database.execute("INSERT INTO agent_signers VALUES ('acme', 'alice', ?1)", [key]).unwrap();
    let mut tip = Tip::empty();
    for event in events {
        let record = registry_append(&tip, Timestamp(10), "alice", event).unwrap();
        tip = Tip { seq: record.seq, head: record.hash.clone() };
        let name = serde_json::to_value(&record.event).unwrap()["name"].as_str().map(str::to_owned);
        let body = serde_json::to_string(&record).unwrap();
        assert!(!body.contains("whose") && !body.contains("number"), "as it was written then: {body}");
        let sql = "INSERT INTO agent_log (seq, name, record) VALUES (?1, ?2, ?3)";
        database.execute(sql, params![i64::try_from(record.seq).unwrap(), name, body]).unwrap();
    }
    let sql = "INSERT INTO meta (name, value) VALUES ('agent_log', ?1)";
    database.execute(sql, [format!("{} {}", tip.seq, tip.head)]).unwrap();
}

#[tokio::test]
async fn a_registry_of_before_opens_verifies_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two, common] =
        [old(Some("acme"), "writer", "one"), old(Some("acme"), "writer", "two"), old(None, "common", "x")];
    let database = Connection::open(dir.path().join(crate::sqlite::FILE)).unwrap();
    leave(&database, &[one.clone(), two.clone(), common.clone()]);
    drop(database);

    let findings = || {
        let lines = audit_export(dir.path()).unwrap();
        let verified = verify_export(lines.map(|line| line.unwrap()), &LIFECYCLE);
        verified.findings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let store = Store::open_sqlite(dir.path()).unwrap();
    assert_eq!(findings(), Vec::<String>::new());
    let of = one.of();
    let row = store.agent(of.clone()).await.unwrap().unwrap();
    assert_eq!((&row.current, row.number), (&two.digest, 0));
    let mut kept = store.agent_versions(of.clone()).await.unwrap();
    kept.sort_by_key(|version| version.manifest.prompt.clone());
    assert_eq!(kept, [one.clone(), two.clone()]);
    kept.iter().for_each(|version| version.verify().unwrap());
    let everybodys = AgentRef { tenant: None, name: "common".parse().unwrap() };
    let common = store.agent_version(everybodys.clone(), common.digest).await.unwrap().unwrap();
    assert!(!common.enabled);
    assert_eq!(store.agent_pins("acme".parse().unwrap()).await.unwrap().len(), 1);
    assert_eq!(store.agent_log(everybodys.clone()).await.unwrap().len(), 3);

    let alice =
        RegistryActor { identity: "alice".to_owned(), tenant: "acme".parse().unwrap(), at: Timestamp(20) };
    let refused = store.agent_register(one.clone(), alice.clone(), false).await.unwrap();
    assert!(refused.is_err(), "an old signature puts nothing back");
    let mut anew = RegisteredAgent { number: 1, ..one.clone() };
    anew.signature = sign(&[1; 32], &anew.registration()).1;
    store.agent_register(anew, alice.clone(), false).await.unwrap().unwrap();
    let row = store.agent(of).await.unwrap().unwrap();
    assert_eq!((row.current, row.number), (one.digest, 1));
    let on = store.agent_switch(everybodys, None, true, alice, false).await.unwrap();
    assert_eq!(on, Ok(()), "its registrant had disabled it");
    assert_eq!(findings(), Vec::<String>::new());
}
