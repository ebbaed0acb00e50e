//! What an attempt may write: the plan's paths, less what is protected, within the class of paths of its role.

use df_contract::access::role_may_write;
use df_contract::plan::{is_tree_pattern, pattern_grants, pattern_matches};
use df_contract::{AgentTask, Role};

/// A refused write. The text goes to the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` may not be written: {why}. {allowed}")]
pub(crate) struct Denied {
    path: String,
    why: &'static str,
    allowed: String,
}

/// Write rights of one attempt.
#[derive(Debug, Clone)]
pub(crate) struct Rights {
    role: Role,
    paths: Vec<String>,
    /// What the registered agent may write at most; empty = nothing less than its task may.
    agent: Vec<String>,
    protected: Vec<String>,
}

impl Rights {
    pub(crate) fn of(task: &AgentTask) -> Self {
        let constraints = &task.constraints;
        Self {
            role: task.r#type,
            paths: constraints.paths.clone(),
            agent: task.agent.as_ref().map(|agent| agent.paths.clone()).unwrap_or_default(),
            protected: constraints.protected_paths.clone(),
        }
    }

    /// Rights of a change that is merged.
    pub(crate) fn new(role: Role, paths: &[String], protected: &[String]) -> Self {
        Self { role, paths: paths.to_vec(), agent: Vec::new(), protected: protected.to_vec() }
    }

    #[cfg(test)]
    pub(crate) fn for_tests(role: Role, paths: &[&str]) -> Self {
        Self::new(role, &paths.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>(), &[])
    }

    /// Whether the plain relative `path` may be made, changed or removed.
    pub(crate) fn check(&self, path: &str) -> Result<(), Denied> {
        let given = |patterns: &[String]| patterns.iter().any(|p| pattern_grants(p, path));
        let why = if !is_tree_pattern(path) {
            "it is not a path an agent may use"
        } else if self.protected.iter().any(|p| pattern_matches(p, path)) {
            "it is protected"
        } else if !role_may_write(self.role, path) {
            "it is not the class of file this role may write"
        } else if !given(&self.paths) {
            "it is outside this task's paths"
        } else if !self.agent.is_empty() && !given(&self.agent) {
            "it is outside the paths of this agent"
        } else {
            return Ok(());
        };
        Err(Denied { path: path.to_owned(), why, allowed: self.describe() })
    }

    /// What may be written, in a sentence or two.
    pub(crate) fn describe(&self) -> String {
        if self.paths.is_empty() {
            return "This task may write nothing.".to_owned();
        }
        let mut text = format!("This task may write: {}", self.paths.join(", "));
        match self.role {
            Role::Qa => text.push_str(" (test files only)"),
            Role::Devops => text.push_str(" (infrastructure files only)"),
            Role::Backend
            | Role::Frontend
            | Role::RegisteredAgent
            | Role::Coordinator
            | Role::Governance
            | Role::Worker
            | Role::Proxy
            | Role::Deployer
            | Role::Submitter
            | Role::Approver
            | Role::Operator
            | Role::Auditor
            | Role::Viewer
            | Role::Admin => {}
        }
        text.push('.');
        if !self.protected.is_empty() {
            text.push_str(&format!(" Never: {}.", self.protected.join(", ")));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(role: Role, paths: &[&str], protected: &[&str]) -> Rights {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Rights { role, paths: owned(paths), agent: Vec::new(), protected: owned(protected) }
    }

    #[test]
    fn every_condition_must_hold() {
        let backend = rights(Role::Backend, &["src", "docs/*.md"], &["src/keys/**"]);
        for path in ["src/a.py", "docs/x.md"] {
            assert_eq!(backend.check(path), Ok(()), "{path}");
        }
        for (path, why) in [
            ("src/keys/k", "protected"),
            ("lib/a.py", "outside this task's paths"),
            ("src/.git/config", "not a path an agent may use"),
            ("docs/a/x.md", "outside"),
        ] {
            let denied = backend.check(path).unwrap_err().to_string();
            assert!(denied.contains(why) && denied.contains("may write: src, docs/*.md"), "{denied}");
        }
        // What is given as a file is no directory; what is protected as one stays so either way.
        let file = rights(Role::Backend, &["x.txt", "v1.2", ".github"], &["v1.2/keys.txt"]);
        for path in ["x.txt", "v1.2/a", ".github/workflows/ci.yml"] {
            assert_eq!(file.check(path), Ok(()), "{path}");
        }
        assert!(file.check("x.txt/inner").unwrap_err().to_string().contains("outside this task's paths"));
        assert!(file.check("v1.2/keys.txt/k").unwrap_err().to_string().contains("protected"));
        let qa = rights(Role::Qa, &["**"], &[]);
        assert_eq!(qa.check("tests/test_a.py"), Ok(()));
        assert!(qa.check("src/a.py").unwrap_err().to_string().contains("test files only"));
        assert!(rights(Role::Coordinator, &["**"], &[]).check("tests/test_a.py").is_err());
        assert!(rights(Role::Backend, &[], &[]).check("a").is_err());
        let agent = vec!["docs/**".to_owned()];
        let narrowed = Rights { agent, ..rights(Role::RegisteredAgent, &["**"], &[]) };
        assert_eq!(narrowed.check("docs/a.md"), Ok(()));
        assert!(narrowed.check("src/a.py").unwrap_err().to_string().contains("paths of this agent"));
    }
}
