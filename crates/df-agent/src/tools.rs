//! The tools of the built-in agent: which role has which, their schemas, and what they do.

mod exec;
mod files;
mod guard;
mod schema;
mod search;
mod toolbox;

use df_contract::Role;
use serde::Deserialize;

pub(crate) use exec::check_text;
pub(crate) use schema::definitions;
pub(crate) use toolbox::{ToolAnswer, ToolBox};

macro_rules! tools {
    ($($variant:ident = $name:literal),+ $(,)?) => {
        /// A tool, by the name the model calls it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
        pub enum Tool {
            $(#[serde(rename = $name)] $variant),+
        }
        impl Tool {
            /// All tools, in the order in which models see them.
            pub const ALL: &'static [Tool] = &[$(Tool::$variant),+];
            pub const fn name(self) -> &'static str {
                match self { $(Tool::$variant => $name),+ }
            }
            pub fn parse(name: &str) -> Option<Self> {
                match name { $($name => Some(Tool::$variant),)+ _ => None }
            }
        }
    };
}

tools!(
    Read = "read",
    Write = "write",
    Edit = "edit",
    ApplyPatch = "apply_patch",
    Glob = "glob",
    Grep = "grep",
    Exec = "exec",
    Finish = "finish",
    ProposePlan = "propose_plan",
);

impl Tool {
    /// Whether an agent of this role may ever have the tool.
    pub fn allowed(self, role: Role) -> bool {
        match role {
            Role::Coordinator => match self {
                Tool::Read | Tool::Glob | Tool::Grep | Tool::ProposePlan => true,
                Tool::Write | Tool::Edit | Tool::ApplyPatch | Tool::Exec | Tool::Finish => false,
            },
            Role::Backend | Role::Frontend | Role::Devops | Role::Qa | Role::RegisteredAgent => match self {
                Tool::Read
                | Tool::Write
                | Tool::Edit
                | Tool::ApplyPatch
                | Tool::Glob
                | Tool::Grep
                | Tool::Exec
                | Tool::Finish => true,
                Tool::ProposePlan => false,
            },
            Role::Governance
            | Role::Worker
            | Role::Proxy
            | Role::Deployer
            | Role::Submitter
            | Role::Approver
            | Role::Operator
            | Role::Auditor
            | Role::Viewer
            | Role::Admin => false,
        }
    }
}
