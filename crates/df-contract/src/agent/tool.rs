//! The tools of the built-in runtime, and which role may ever have which.

use crate::Role;
use crate::wire::wire_names;

wire_names!(
    /// A tool, by the name the model calls it. The order is the one in which models see them.
    Tool {
        Read = "read",
        Write = "write",
        Edit = "edit",
        ApplyPatch = "apply_patch",
        Glob = "glob",
        Grep = "grep",
        Exec = "exec",
        Finish = "finish",
        ProposePlan = "propose_plan",
    }
);

impl Tool {
    /// Whether an agent of this role may ever have the tool.
    pub fn allowed(self, role: Role) -> bool {
        let plans = match self {
            Tool::Read | Tool::Glob | Tool::Grep | Tool::ProposePlan => true,
            Tool::Write | Tool::Edit | Tool::ApplyPatch | Tool::Exec | Tool::Finish => false,
        };
        match Tool::end_of(role) {
            Some(Tool::ProposePlan) => plans,
            Some(_) => self != Tool::ProposePlan,
            None => false,
        }
    }

    /// The tool with which an agent of this role ends its work; `None` for roles that no agent has.
    pub const fn end_of(role: Role) -> Option<Self> {
        match role {
            Role::Coordinator => Some(Tool::ProposePlan),
            Role::Backend | Role::Frontend | Role::Devops | Role::Qa | Role::RegisteredAgent => {
                Some(Tool::Finish)
            }
            Role::Governance
            | Role::Worker
            | Role::Proxy
            | Role::Deployer
            | Role::Submitter
            | Role::Approver
            | Role::Operator
            | Role::Auditor
            | Role::Viewer
            | Role::Admin => None,
        }
    }
}
