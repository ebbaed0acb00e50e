//! Endpoint × role, over real requests. The table is the decision; the router has no other endpoints.

use std::fmt::Write as _;

use df_contract::agent::api::AgentRegistered;
use df_contract::{Digest, JobId, Role};
use df_gateway::{Door, Endpoint, Target};

use crate::agents::{manifest, signed};
use crate::world::{Client, World, plain};

const ROLES: [Role; 7] =
    [Role::Admin, Role::Operator, Role::Approver, Role::Submitter, Role::Auditor, Role::Viewer, Role::Worker];

struct Cast {
    role: Role,
    client: Client,
    /// Submitted by the same identity, a colleague, and somebody in another tenant.
    jobs: [(char, JobId); 3],
    /// Registered likewise, and one of everybody's.
    agents: [(char, String); 4],
}

async fn cast(world: &World, colleague: JobId, stranger: JobId) -> Vec<Cast> {
    let mut all = Vec::new();
    for role in ROLES {
        let name = format!("the-{}", role.as_str());
        // Under the same name, so that every role has a job of its own.
        let submitter = world.key(&name, &[Role::Submitter]).await;
        let own = submitter.submit(&plain()).await;
        let agent = format!("of-{name}");
        submitter
            .post("/v1/agents", &signed(&manifest(&agent), Some("acme"), 1))
            .await
            .ok::<AgentRegistered>();
        let theirs = "strangers?tenant=other".into();
        let agents = [('o', agent), ('t', "teams".into()), ('i', theirs), ('g', "common".into())];
        let client = world.key(&name, &[role]).await;
        all.push(Cast { role, client, agents, jobs: [('o', own), ('t', colleague), ('i', stranger)] });
    }
    all
}

/// Whether the guard lets the request through; what the handler then says does not matter.
async fn opens(client: &Client, endpoint: Endpoint, job: JobId, agent: &str) -> bool {
    let rule = endpoint.rule();
    let id = match rule.door {
        Door::Key { target: Target::Job, .. } => job.to_string(),
        _ => "none".to_owned(),
    };
    let (agent, query) = agent.split_once('?').map_or((agent, String::new()), |(a, q)| (a, format!("?{q}")));
    let path = rule
        .path
        .replace("{id}", &id)
        .replace("{name}", agent)
        .replace("{identity}", "none")
        .replace("{digest}", Digest::zero().as_str())
        .replace("{*name}", "none")
        .replace("{job}", &job.to_string())
        .replace("{slug}", "intake")
        .replace("{epoch}", "1");
    let answer = client.request(rule.method, &format!("{path}{query}")).send().await.unwrap();
    if answer.status().is_success() {
        return true;
    }
    let problem: df_contract::Problem = answer.json().await.unwrap();
    !["unauthenticated", "forbidden", "four_eyes", "job_unknown", "agent_unknown"]
        .contains(&problem.code.code())
}

async fn cell(member: &Cast, endpoint: Endpoint) -> String {
    let mut text = String::new();
    let (job, agent) = (member.jobs[0].1, member.agents[0].1.as_str());
    match endpoint.rule().door {
        Door::Key { target: Target::Agent, .. } => {
            for (letter, agent) in &member.agents {
                text.push(if opens(&member.client, endpoint, job, agent).await { *letter } else { '-' });
            }
        }
        Door::Key { target: Target::Job, .. } => {
            for (letter, job) in member.jobs {
                text.push(if opens(&member.client, endpoint, job, agent).await { letter } else { '-' });
            }
        }
        Door::Open
        | Door::Key { target: Target::Own | Target::Tenant | Target::List | Target::Installation, .. }
        | Door::Lease { .. }
        | Door::AnyLease { .. }
        | Door::KeyOrLease { .. } => {
            text.push_str(if opens(&member.client, endpoint, job, agent).await { "yes" } else { "---" });
        }
    }
    text
}

/// `o`wn job or agent, `t`eam's, another tenant's in the `i`nstallation; everybody's agents are `g`lobal. What only a lease opens, no key opens.
#[tokio::test]
async fn who_may_knock_where() {
    let world = World::start().await;
    let colleague = world.key("colleague", &[Role::Submitter]).await.submit(&plain()).await;
    let stranger = world.key_in("other", "stranger", &[Role::Submitter]).await.submit(&plain()).await;
    let mate = world.key("colleague", &[Role::Submitter]).await;
    mate.post("/v1/agents", &signed(&manifest("teams"), Some("acme"), 2)).await.ok::<AgentRegistered>();
    let far = world.key_in("other", "stranger", &[Role::Submitter]).await;
    far.post("/v1/agents", &signed(&manifest("strangers"), Some("other"), 3)).await.ok::<AgentRegistered>();
    let common = signed(&manifest("common"), None, 4);
    world.admin.post("/v1/agents/global", &common).await.ok::<AgentRegistered>();
    let cast = cast(&world, colleague, stranger).await;
    let mut table = String::new();
    let names: Vec<String> = cast.iter().map(|m| format!("{:.4}", m.role.as_str())).collect();
    writeln!(table, "{:20}{}", "", names.join(" ")).unwrap();
    for endpoint in Endpoint::ALL {
        let mut line = format!("{:20}", format!("{endpoint:?}"));
        for member in &cast {
            write!(line, "{:5}", cell(member, *endpoint).await).unwrap();
        }
        writeln!(table, "{}", line.trim_end()).unwrap();
    }
    insta::assert_snapshot!(table, @"
                        admi oper appr subm audi view work
    Health              yes  yes  yes  yes  yes  yes  yes
    JobSubmit           yes  ---  ---  yes  ---  ---  ---
    JobList             yes  yes  yes  yes  yes  yes  ---
    JobShow             oti  oti  ot-  ot-  oti  ot-  ---
    JobEvents           oti  oti  ot-  ot-  oti  ot-  ---
    JobApprove          -ti  ---  -t-  ---  ---  ---  ---
    JobReject           -ti  ---  -t-  ---  ---  ---  ---
    JobCancel           oti  oti  ---  o--  ---  ---  ---
    JobPause            oti  oti  ---  ---  ---  ---  ---
    JobResume           oti  oti  ---  ---  ---  ---  ---
    JobRetry            ot-  ---  ---  o--  ---  ---  ---
    JobMessage          oti  oti  ---  o--  ---  ---  ---
    JobBudget           oti  oti  ---  o--  ---  ---  ---
    JobPriority         oti  oti  ---  o--  ---  ---  ---
    JobRollback         oti  oti  ---  o--  ---  ---  ---
    ArtefactList        oti  oti  ot-  ot-  oti  ot-  ---
    ArtefactGet         oti  ---  ot-  o--  oti  ---  ---
    JobBlob             oti  ---  ot-  o--  oti  ---  ---
    JobAudit            oti  ---  ---  ---  oti  ---  ---
    BlobPut             yes  ---  ---  yes  ---  ---  yes
    BlobGet             ---  ---  ---  ---  ---  ---  ---
    KeyCreate           yes  ---  ---  ---  ---  ---  ---
    KeyList             yes  ---  ---  ---  ---  ---  ---
    KeyRevoke           yes  ---  ---  ---  ---  ---  ---
    AgentRegister       yes  ---  ---  yes  ---  ---  ---
    AgentRegisterGlobal yes  ---  ---  ---  ---  ---  ---
    AgentList           yes  yes  yes  yes  yes  yes  ---
    AgentShow           otig otig ot-g ot-g otig ot-g ----
    AgentLog            otig ---- ---- ---- otig ---- ----
    AgentEnable         otig otig ---- o--- ---- ---- ----
    AgentDisable        otig otig ---- o--- ---- ---- ----
    AgentPin            yes  yes  ---  ---  ---  ---  ---
    AgentUnpin          yes  yes  ---  ---  ---  ---  ---
    SignerReset         yes  ---  ---  ---  ---  ---  ---
    System              yes  yes  yes  yes  yes  yes  ---
    SessionOpen         ---  ---  ---  ---  ---  ---  yes
    SessionClaim        ---  ---  ---  ---  ---  ---  yes
    SessionHeartbeat    ---  ---  ---  ---  ---  ---  yes
    SessionWatch        ---  ---  ---  ---  ---  ---  yes
    SessionClose        ---  ---  ---  ---  ---  ---  yes
    LeaseEvents         ---  ---  ---  ---  ---  ---  ---
    LeaseReport         ---  ---  ---  ---  ---  ---  ---
    ");
}

#[test]
fn every_endpoint_has_one_address() {
    let mut seen = std::collections::BTreeSet::new();
    for endpoint in Endpoint::ALL {
        let rule = endpoint.rule();
        assert!(seen.insert((rule.method.to_string(), rule.path)), "{endpoint:?}");
    }
}

#[test]
fn every_endpoint_is_documented() {
    let page = include_str!("../../../../docs/api.md");
    for endpoint in Endpoint::ALL {
        let rule = endpoint.rule();
        let address = format!("| `{} {}` |", rule.method, rule.path);
        assert!(page.contains(&address), "docs/api.md has no row for {address}");
    }
    assert_eq!(page.matches("\n| `").count(), Endpoint::ALL.len(), "docs/api.md has a row too many");
}
