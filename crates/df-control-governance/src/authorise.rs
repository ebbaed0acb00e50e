//! Who may do what: one total function over role, action and scope.
//!
//! Every `match` lists its variants, so a new role or action does not compile until somebody has decided. Policy
//! packs may take away from this table ([`crate::PolicyBundle::authorise`]) and can never add to it.

use df_contract::{Action, Role, Scope};

/// The answer to "may this role do this here".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    Allowed,
    Denied(Denial),
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({rule})")]
pub struct Denial {
    /// `access.matrix`, or the id of the policy rule that tightened it.
    pub rule: String,
    pub message: String,
}

impl Access {
    pub fn is_allowed(&self) -> bool {
        match self {
            Access::Allowed => true,
            Access::Denied(_) => false,
        }
    }
}

/// How far a role's right to an action reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Nowhere,
    Own,
    /// One's own and the tenant's.
    Tenant,
    Everywhere,
    /// The tenant's, but never one's own: four eyes.
    OthersInTenant,
    /// Everybody's but one's own.
    Others,
}

impl Reach {
    fn covers(self, scope: Scope) -> bool {
        match (self, scope) {
            (Reach::Nowhere, Scope::Own | Scope::Tenant | Scope::Installation)
            | (Reach::Own, Scope::Tenant | Scope::Installation)
            | (Reach::Tenant, Scope::Installation)
            | (Reach::OthersInTenant, Scope::Own | Scope::Installation)
            | (Reach::Others, Scope::Own) => false,
            (Reach::Own, Scope::Own)
            | (Reach::Tenant, Scope::Own | Scope::Tenant)
            | (Reach::OthersInTenant, Scope::Tenant)
            | (Reach::Others, Scope::Tenant | Scope::Installation)
            | (Reach::Everywhere, Scope::Own | Scope::Tenant | Scope::Installation) => true,
        }
    }
}

/// Decides whether `role` may do `action` on something as far away as `scope`.
pub fn authorise(role: Role, action: Action, scope: Scope) -> Access {
    if reach(role, action).covers(scope) {
        return Access::Allowed;
    }
    let message = match (action, scope) {
        (Action::JobApprove, Scope::Own) => {
            "nobody approves their own job; ask somebody with the role approver or admin".to_owned()
        }
        (_, Scope::Own) => format!("the role {} may not do {}", role.as_str(), action.as_str()),
        (_, Scope::Tenant) => {
            format!("the role {} may not do {} on what belongs to others", role.as_str(), action.as_str())
        }
        (_, Scope::Installation) => {
            format!("the role {} may not do {} across the installation", role.as_str(), action.as_str())
        }
    };
    Access::Denied(Denial { rule: "access.matrix".into(), message })
}

fn reach(role: Role, action: Action) -> Reach {
    match role {
        Role::Governance => governance(action),
        Role::Coordinator => coordinator(action),
        Role::Backend | Role::Frontend | Role::Qa | Role::RegisteredAgent => builder(action),
        Role::Devops => devops(action),
        Role::Worker => worker(action),
        Role::Proxy => proxy(action),
        Role::Deployer => deployer(action),
        Role::Submitter => submitter(action),
        Role::Approver => approver(action),
        Role::Operator => operator(action),
        Role::Auditor => auditor(action),
        Role::Viewer => viewer(action),
        Role::Admin => admin(action),
    }
}

/// Writes one role's row: rights first, then everything it does not have, so that the compiler sees every action.
macro_rules! row {
    ($(#[$doc:meta])* $name:ident: $($reach:ident [$($action:ident)+]),+ ; nothing [$($none:ident)+]) => {
        $(#[$doc])*
        const fn $name(action: Action) -> Reach {
            match action {
                $($(Action::$action)|+ => Reach::$reach,)+
                $(Action::$none)|+ => Reach::Nowhere,
            }
        }
    };
}

row!(
    /// Decides and moves jobs; touches no tree, runs and deploys nothing, sees no secret. Evidence from a model goes
    /// through the proxy.
    governance:
    Everywhere [JobRead JobDecide JobTransition],
    Own [ModelCall];
    nothing [JobRetry JobMessage JobBudget JobPriority JobRollback JobSubmit JobCancel JobPause JobResume JobApprove PlanPropose WorkspaceRead WorkspaceWrite CommandRun
        DeployPropose DeployRun SecretRead BlobRead BlobWrite LeaseClaim KeyManage PolicyManage AccountManage AuditRead
        SystemRead
        AgentRead AgentRegister AgentManage]
);
row!(
    /// Reads and proposes.
    coordinator:
    Own [PlanPropose WorkspaceRead ModelCall];
    nothing [JobRetry JobMessage JobBudget JobPriority JobRollback JobSubmit JobRead JobCancel JobPause JobResume JobDecide JobApprove JobTransition WorkspaceWrite CommandRun
        DeployPropose DeployRun SecretRead BlobRead BlobWrite LeaseClaim KeyManage PolicyManage AccountManage AuditRead
        SystemRead
        AgentRead AgentRegister AgentManage]
);
row!(
    /// Writes its declared paths (which ones: `df_contract::access::role_may_write`) and runs commands in its sandbox.
    builder:
    Own [WorkspaceRead WorkspaceWrite CommandRun ModelCall];
    nothing [JobRetry JobMessage JobBudget JobPriority JobRollback JobSubmit JobRead JobCancel JobPause JobResume JobDecide JobApprove JobTransition PlanPropose DeployPropose
        DeployRun SecretRead BlobRead BlobWrite LeaseClaim KeyManage PolicyManage AccountManage AuditRead SystemRead
        AgentRead AgentRegister AgentManage]
);
row!(
    /// A builder of infrastructure paths, who may also propose a deployment.
    devops:
    Own [WorkspaceRead WorkspaceWrite CommandRun ModelCall DeployPropose];
    nothing [JobRetry JobMessage JobBudget JobPriority JobRollback JobSubmit JobRead JobCancel JobPause JobResume JobDecide JobApprove JobTransition PlanPropose DeployRun
        SecretRead BlobRead BlobWrite LeaseClaim KeyManage PolicyManage AccountManage AuditRead SystemRead
        AgentRead AgentRegister AgentManage]
);
row!(
    /// Claims leases and moves the blobs of the leases it holds. Merging applies what agents committed and writes
    /// nothing of its own.
    worker:
    Everywhere [LeaseClaim],
    Own [BlobRead BlobWrite WorkspaceRead CommandRun];
    nothing [JobRetry JobMessage JobBudget JobPriority JobRollback JobSubmit JobRead JobCancel JobPause JobResume JobDecide JobApprove JobTransition PlanPropose WorkspaceWrite
        DeployPropose DeployRun ModelCall SecretRead KeyManage PolicyManage AccountManage AuditRead SystemRead
        AgentRead AgentRegister AgentManage]
);
row!(
    /// Calls models for everybody with its own accounts' secrets; decides nothing and sees no tree.
    proxy:
    Everywhere [ModelCall],
    Own [SecretRead];
    nothing [JobRetry JobMessage JobBudget JobPriority JobRollback JobSubmit JobRead JobCancel JobPause JobResume JobDecide JobApprove JobTransition PlanPropose WorkspaceRead
        WorkspaceWrite CommandRun DeployPropose DeployRun BlobRead BlobWrite LeaseClaim KeyManage PolicyManage
        AccountManage AuditRead SystemRead
        AgentRead AgentRegister AgentManage]
);
row!(
    /// Carries out the declared delivery with its target's secret, and nothing else.
    deployer:
    Own [DeployRun SecretRead BlobRead];
    nothing [JobRetry JobMessage JobBudget JobPriority JobRollback JobSubmit JobRead JobCancel JobPause JobResume JobDecide JobApprove JobTransition PlanPropose WorkspaceRead
        WorkspaceWrite CommandRun DeployPropose ModelCall BlobWrite LeaseClaim KeyManage PolicyManage AccountManage
        AuditRead SystemRead
        AgentRead AgentRegister AgentManage]
);
row!(
    /// Submits, follows and cancels; sees what its team does, and registers agents of its own. Pausing and resuming are the operator's: a job may be
    /// paused because of its own submitter.
    submitter:
    // Whoever tries a job again submits the new one, and may read all that it makes of the first one's content.
    Own [JobSubmit JobRetry JobCancel JobMessage JobBudget JobPriority JobRollback BlobRead BlobWrite AgentRegister AgentManage],
    Tenant [JobRead SystemRead AgentRead];
    nothing [JobPause JobResume JobDecide JobApprove JobTransition PlanPropose WorkspaceRead WorkspaceWrite CommandRun
        DeployPropose DeployRun ModelCall SecretRead LeaseClaim KeyManage PolicyManage AccountManage AuditRead]
);
row!(
    /// Approves other people's jobs, on the evidence; moves no job otherwise.
    approver:
    OthersInTenant [JobApprove],
    Tenant [JobRead BlobRead SystemRead AgentRead];
    nothing [JobRetry JobMessage JobBudget JobPriority JobRollback JobSubmit JobCancel JobPause JobResume JobDecide JobTransition PlanPropose WorkspaceRead WorkspaceWrite
        CommandRun DeployPropose DeployRun ModelCall SecretRead BlobWrite LeaseClaim KeyManage PolicyManage AccountManage
        AuditRead AgentRegister AgentManage]
);
row!(
    /// Runs the machine: the queue and the accounts. Accepts no risk for anybody.
    operator:
    Everywhere [JobRead JobCancel JobPause JobResume JobMessage JobBudget JobPriority JobRollback AccountManage SystemRead AgentRead AgentManage];
    nothing [JobRetry JobSubmit JobDecide JobApprove JobTransition PlanPropose WorkspaceRead WorkspaceWrite CommandRun
        DeployPropose DeployRun ModelCall SecretRead BlobRead BlobWrite LeaseClaim KeyManage PolicyManage AuditRead AgentRegister]
);
row!(
    /// Reads everything that was decided and changes nothing.
    auditor:
    Everywhere [JobRead BlobRead AuditRead SystemRead AgentRead];
    nothing [JobRetry JobMessage JobBudget JobPriority JobRollback JobSubmit JobCancel JobPause JobResume JobDecide JobApprove JobTransition PlanPropose WorkspaceRead
        WorkspaceWrite CommandRun DeployPropose DeployRun ModelCall SecretRead BlobWrite LeaseClaim KeyManage
        PolicyManage AccountManage AgentRegister AgentManage]
);
row!(
    /// Looks on.
    viewer:
    Tenant [JobRead SystemRead AgentRead];
    nothing [JobRetry JobMessage JobBudget JobPriority JobRollback JobSubmit JobCancel JobPause JobResume JobDecide JobApprove JobTransition PlanPropose WorkspaceRead
        WorkspaceWrite CommandRun DeployPropose DeployRun ModelCall SecretRead BlobRead BlobWrite LeaseClaim KeyManage
        PolicyManage AccountManage AuditRead AgentRegister AgentManage]
);
row!(
    /// Everything a person can do through the API. Still no agent, no deployer, no provider secret, and no approval of
    /// one's own job.
    admin:
    Own [JobSubmit BlobWrite],
    Tenant [JobRetry],
    Others [JobApprove],
    Everywhere [JobRead JobCancel JobPause JobResume JobMessage JobBudget JobPriority JobRollback BlobRead KeyManage PolicyManage AccountManage AuditRead SystemRead
        AgentRead AgentRegister AgentManage];
    nothing [JobDecide JobTransition PlanPropose WorkspaceRead WorkspaceWrite CommandRun DeployPropose DeployRun
        ModelCall SecretRead LeaseClaim]
);

#[cfg(test)]
mod tests;
