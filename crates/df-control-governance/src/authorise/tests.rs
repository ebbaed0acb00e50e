use super::*;

fn may(role: Role, action: Action, scope: Scope) -> bool {
    authorise(role, action, scope).is_allowed()
}

fn anywhere(role: Role, action: Action) -> bool {
    Scope::ALL.iter().any(|scope| may(role, action, *scope))
}

/// Exactly `who` can do `action` at all.
fn only(action: Action, who: &[Role]) {
    let can: Vec<Role> = Role::ALL.iter().copied().filter(|r| anywhere(*r, action)).collect();
    assert_eq!(can, who, "{}", action.as_str());
}

/// One line a role: each action it can do with the scopes it covers, `o`wn, `t`enant, `i`nstallation.
fn table() -> String {
    let mut out = String::new();
    for role in Role::ALL {
        let rights: Vec<String> = Action::ALL
            .iter()
            .filter_map(|action| {
                let scopes: String = Scope::ALL
                    .iter()
                    .filter(|scope| may(*role, *action, **scope))
                    .map(|scope| &scope.as_str()[..1])
                    .collect();
                (!scopes.is_empty()).then(|| format!("{}:{scopes}", action.as_str()))
            })
            .collect();
        out += &format!("{}: {}\n", role.as_str(), rights.join(" "));
    }
    out
}

#[test]
fn the_whole_table() {
    insta::assert_snapshot!(table(), @r"
    governance: job.read:oti job.decide:oti job.transition:oti model.call:o
    coordinator: plan.propose:o workspace.read:o model.call:o
    backend: workspace.read:o workspace.write:o command.run:o model.call:o
    frontend: workspace.read:o workspace.write:o command.run:o model.call:o
    devops: workspace.read:o workspace.write:o command.run:o deploy.propose:o model.call:o
    qa: workspace.read:o workspace.write:o command.run:o model.call:o
    registered-agent: workspace.read:o workspace.write:o command.run:o model.call:o
    worker: workspace.read:o command.run:o blob.read:o blob.write:o lease.claim:oti
    proxy: model.call:oti secret.read:o
    deployer: deploy.run:o secret.read:o blob.read:o
    submitter: job.submit:o job.read:ot job.cancel:o job.retry:o job.message:o job.budget:o job.priority:o job.rollback:o blob.read:o blob.write:o system.read:ot agent.read:ot agent.register:o agent.manage:o
    approver: job.read:ot job.approve:t blob.read:ot system.read:ot agent.read:ot
    operator: job.read:oti job.cancel:oti job.pause:oti job.resume:oti job.message:oti job.budget:oti job.priority:oti job.rollback:oti account.manage:oti system.read:oti agent.read:oti agent.manage:oti
    auditor: job.read:oti blob.read:oti audit.read:oti system.read:oti agent.read:oti
    viewer: job.read:ot system.read:ot agent.read:ot
    admin: job.submit:o job.read:oti job.cancel:oti job.pause:oti job.resume:oti job.retry:ot job.message:oti job.budget:oti job.priority:oti job.rollback:oti job.approve:ti blob.read:oti blob.write:o key.manage:oti policy.manage:oti account.manage:oti audit.read:oti system.read:oti agent.read:oti agent.register:oti agent.manage:oti
    ");
}

#[test]
fn decisions_approvals_and_states_have_one_owner_each() {
    only(Action::JobDecide, &[Role::Governance]);
    only(Action::JobTransition, &[Role::Governance]);
    only(Action::JobApprove, &[Role::Approver, Role::Admin]);
    only(Action::PlanPropose, &[Role::Coordinator]);
    only(Action::KeyManage, &[Role::Admin]);
    only(Action::PolicyManage, &[Role::Admin]);
    only(Action::AgentRegister, &[Role::Submitter, Role::Admin]);
    only(Action::AgentManage, &[Role::Submitter, Role::Operator, Role::Admin]);
    only(Action::DeployRun, &[Role::Deployer]);
    only(Action::DeployPropose, &[Role::Devops]);
    only(Action::LeaseClaim, &[Role::Worker]);
    only(Action::SecretRead, &[Role::Proxy, Role::Deployer]);
    only(
        Action::WorkspaceWrite,
        &[Role::Backend, Role::Frontend, Role::Devops, Role::Qa, Role::RegisteredAgent],
    );
}

#[test]
fn nobody_approves_their_own_job() {
    for role in Role::ALL {
        assert!(!may(*role, Action::JobApprove, Scope::Own), "{}", role.as_str());
    }
}

#[test]
fn agents_have_no_total_authority() {
    let agents =
        [Role::Coordinator, Role::Backend, Role::Frontend, Role::Devops, Role::Qa, Role::RegisteredAgent];
    for role in agents {
        for action in Action::ALL {
            assert!(!may(role, *action, Scope::Tenant), "{} {}", role.as_str(), action.as_str());
            assert!(!may(role, *action, Scope::Installation), "{} {}", role.as_str(), action.as_str());
        }
        for action in [Action::JobDecide, Action::JobApprove, Action::JobTransition, Action::DeployRun] {
            assert!(!anywhere(role, action), "{} {}", role.as_str(), action.as_str());
        }
    }
    for action in [Action::DeployPropose, Action::DeployRun] {
        assert!(!anywhere(Role::Qa, action));
    }
}

#[test]
fn planes_stay_apart() {
    let hands = [Action::WorkspaceRead, Action::WorkspaceWrite, Action::CommandRun, Action::DeployPropose];
    for role in [Role::Governance, Role::Approver, Role::Proxy, Role::Admin, Role::Operator, Role::Auditor] {
        for action in hands {
            assert!(!anywhere(role, action), "{} {}", role.as_str(), action.as_str());
        }
    }
    for action in [Action::SecretRead, Action::JobApprove, Action::JobDecide, Action::AuditRead] {
        assert!(!anywhere(Role::Worker, action));
    }
    for action in [Action::JobDecide, Action::JobApprove, Action::JobTransition, Action::PolicyManage] {
        assert!(!anywhere(Role::Proxy, action));
    }
    for action in [Action::JobCancel, Action::JobPause, Action::JobResume, Action::JobTransition] {
        assert!(!anywhere(Role::Approver, action));
    }
}

#[test]
fn a_wider_scope_never_grants_what_a_narrower_one_refuses_except_four_eyes() {
    for role in Role::ALL {
        for action in Action::ALL.iter().filter(|a| **a != Action::JobApprove) {
            let [own, tenant, all] =
                [Scope::Own, Scope::Tenant, Scope::Installation].map(|s| may(*role, *action, s));
            assert!(own || !tenant, "{} {}", role.as_str(), action.as_str());
            assert!(tenant || !all, "{} {}", role.as_str(), action.as_str());
        }
    }
}

#[test]
fn writing_agrees_with_the_paths_a_role_may_ever_write() {
    for role in Role::ALL {
        let some_path = df_contract::access::role_may_write(*role, "tests/Dockerfile");
        assert_eq!(some_path, anywhere(*role, Action::WorkspaceWrite), "{}", role.as_str());
    }
}
