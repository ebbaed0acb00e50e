//! Whether a plan gives registered agents only what they are for.

use super::{AgentOffer, pattern_within};
use crate::{AgentName, Plan, PlanTask, Role, TaskSlug};

/// Why an agent that a plan names cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    Unknown,
    Disabled,
}

/// One thing wrong with the agents of a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentMisfit {
    #[error("task `{task}` names the agent `{agent}`, which is not registered here")]
    Unknown { task: TaskSlug, agent: AgentName },
    #[error("task `{task}` names the agent `{agent}`, which is disabled")]
    Disabled { task: TaskSlug, agent: AgentName },
    #[error("task `{task}` is for `{}`, and the agent `{agent}` for `{}`", wants.as_str(), has.as_str())]
    Role { task: TaskSlug, agent: AgentName, wants: Role, has: Role },
    #[error("task `{task}`: `{path}` is not within the paths of the agent `{agent}` ({within})")]
    Path { task: TaskSlug, agent: AgentName, path: String, within: String },
}

impl AgentOffer {
    /// What keeps the agent from this task; empty = nothing.
    pub fn misfits(&self, task: &PlanTask) -> Vec<AgentMisfit> {
        if self.role != task.role {
            let (wants, has) = (task.role, self.role);
            return vec![AgentMisfit::Role { task: task.slug.clone(), agent: self.name.clone(), wants, has }];
        }
        let outside =
            |path: &&String| !self.paths.is_empty() && !self.paths.iter().any(|p| pattern_within(path, p));
        let misfit = |path: &String| AgentMisfit::Path {
            task: task.slug.clone(),
            agent: self.name.clone(),
            path: path.clone(),
            within: self.paths.join(", "),
        };
        task.paths.iter().filter(outside).map(misfit).collect()
    }
}

/// Everything that is wrong with the agents that a plan names. `find` knows who there is.
pub fn misfits<'a>(
    plan: &Plan,
    find: impl Fn(&AgentName) -> Result<&'a AgentOffer, Absent>,
) -> Vec<AgentMisfit> {
    let of_task = |task: &PlanTask| match &task.agent {
        None => Vec::new(),
        Some(agent) => match find(agent) {
            Ok(offer) => offer.misfits(task),
            Err(Absent::Unknown) => {
                vec![AgentMisfit::Unknown { task: task.slug.clone(), agent: agent.clone() }]
            }
            Err(Absent::Disabled) => {
                vec![AgentMisfit::Disabled { task: task.slug.clone(), agent: agent.clone() }]
            }
        },
    };
    plan.tasks.iter().flat_map(of_task).collect()
}
