//! Who there is and what can be done: closed lists, and which paths a role may ever write.
//!
//! The decision "may this role do this action in this scope" is one total function in df-control-governance.

use crate::wire::wire_names;

mod claim;

wire_names!(
    /// Everyone who can act: planes, agents, people, services.
    Role {
        Governance = "governance",
        Coordinator = "coordinator",
        Backend = "backend",
        Frontend = "frontend",
        Devops = "devops",
        Qa = "qa",
        RegisteredAgent = "registered-agent",
        Worker = "worker",
        Proxy = "proxy",
        Deployer = "deployer",
        Submitter = "submitter",
        Approver = "approver",
        Operator = "operator",
        Auditor = "auditor",
        Viewer = "viewer",
        Admin = "admin",
    }
);

wire_names!(
    /// Everything that can be done.
    Action {
        JobSubmit = "job.submit",
        JobRead = "job.read",
        JobCancel = "job.cancel",
        JobPause = "job.pause",
        JobResume = "job.resume",
        /// Makes a new job out of one that failed or was cancelled.
        JobRetry = "job.retry",
        /// Says something to the agents of a running job.
        JobMessage = "job.message",
        /// Asks for higher caps; others approve them.
        JobBudget = "job.budget",
        JobPriority = "job.priority",
        /// Takes the job branch back to an earlier integrated point.
        JobRollback = "job.rollback",
        /// Records a verdict on a job.
        JobDecide = "job.decide",
        /// Approves or rejects what waits in AWAITING_APPROVAL.
        JobApprove = "job.approve",
        /// Changes a job's state through the state machine.
        JobTransition = "job.transition",
        PlanPropose = "plan.propose",
        WorkspaceRead = "workspace.read",
        WorkspaceWrite = "workspace.write",
        CommandRun = "command.run",
        DeployPropose = "deploy.propose",
        DeployRun = "deploy.run",
        ModelCall = "model.call",
        SecretRead = "secret.read",
        BlobRead = "blob.read",
        BlobWrite = "blob.write",
        LeaseClaim = "lease.claim",
        KeyManage = "key.manage",
        PolicyManage = "policy.manage",
        AccountManage = "account.manage",
        AuditRead = "audit.read",
        SystemRead = "system.read",
        AgentRead = "agent.read",
        /// Puts a manifest into the registry.
        AgentRegister = "agent.register",
        /// Enables, disables and pins.
        AgentManage = "agent.manage",
    }
);

wire_names!(
    /// How far an action reaches.
    Scope {
        /// One's own job, lease, or target.
        Own = "own",
        /// Something of the same tenant that somebody else submitted or holds.
        Tenant = "tenant",
        /// Anything in the installation.
        Installation = "installation",
    }
);

/// Whether `role` may ever write `path`, whatever a plan says. `path` is relative and has passed
/// [`crate::plan::is_tree_pattern`].
pub fn role_may_write(role: Role, path: &str) -> bool {
    match role {
        Role::Backend | Role::Frontend | Role::RegisteredAgent => true,
        Role::Devops => is_infra_path(path),
        Role::Qa => is_test_path(path),
        Role::Governance
        | Role::Coordinator
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

/// Whether a plan or a manifest may give `pattern` (a glob that has passed [`crate::plan::is_tree_pattern`]) to `role`:
/// only when the role may write every path that it matches. Where that is not clear the answer is no. A name with an
/// extension (`a/test_x.py`) is taken for a file, below which nothing lies.
pub fn role_may_claim(role: Role, pattern: &str) -> bool {
    match role {
        Role::Backend | Role::Frontend | Role::RegisteredAgent => true,
        Role::Devops => claim::claims_infra(pattern),
        Role::Qa => claim::claims_tests(pattern),
        Role::Governance
        | Role::Coordinator
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

/// Test code: a `tests`-like directory, or a file named as a test.
pub fn is_test_path(path: &str) -> bool {
    let (dirs, file) = path.rsplit_once('/').unwrap_or(("", path));
    dirs.split('/').any(is_test_dir) || is_test_dir(file) || is_test_name(file)
}

fn is_test_dir(name: &str) -> bool {
    matches!(name, "test" | "tests" | "__tests__" | "spec" | "e2e")
}

fn is_test_name(file: &str) -> bool {
    let stem = file.split('.').next().unwrap_or(file);
    let base = file.rsplit_once('.').map_or(file, |(base, _)| base);
    file == "conftest.py"
        || file.contains(".test.")
        || file.contains(".spec.")
        || stem.starts_with("test_")
        || stem.ends_with("_test")
        || base.ends_with("_test")
}

/// Infrastructure: container, CI, compose and infrastructure-as-code files.
pub fn is_infra_path(path: &str) -> bool {
    let (dirs, file) = path.rsplit_once('/').unwrap_or(("", path));
    let first = path.split('/').next().unwrap_or("");
    is_infra_first(first) || dirs.split('/').any(is_infra_dir) || is_infra_name(file)
}

/// Directories that are infrastructure at the top of the tree.
fn is_infra_first(name: &str) -> bool {
    matches!(name, ".github" | ".gitlab" | ".circleci" | "deploy" | "infra" | "k8s" | "terraform" | "ci")
}

fn is_infra_dir(name: &str) -> bool {
    matches!(name, "docker" | "k8s" | "terraform")
}

fn is_infra_name(file: &str) -> bool {
    file.starts_with("Dockerfile")
        || file.starts_with("Containerfile")
        || file.starts_with("docker-compose")
        || file.starts_with("compose.")
        || file.ends_with(".tf")
        || matches!(file, ".dockerignore" | ".containerignore" | ".gitlab-ci.yml" | "Makefile" | "Procfile")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(role: Role, path: &str, expect: bool) {
        assert_eq!(role_may_write(role, path), expect, "{role:?} {path}");
    }

    #[test]
    fn qa_writes_tests_and_nothing_else() {
        for path in [
            "tests/test_api.py",
            "src/api.test.ts",
            "pkg/__tests__/a.js",
            "conftest.py",
            "x_test.go",
            "tests/**",
        ] {
            check(Role::Qa, path, true);
        }
        for path in ["src/api.py", "contest.py", "latest.py", "Dockerfile", "testing/x.py", "attests/a.py"] {
            check(Role::Qa, path, false);
        }
    }

    #[test]
    fn devops_writes_infrastructure_and_nothing_else() {
        for path in ["Dockerfile", ".github/workflows/ci.yml", "compose.yaml", "infra/main.tf", ".github/**"]
        {
            check(Role::Devops, path, true);
        }
        for path in ["src/app.py", "tests/test_x.py", "README.md", "composer.json"] {
            check(Role::Devops, path, false);
        }
    }

    #[test]
    fn only_builders_write_at_all() {
        for role in Role::ALL {
            let builds = matches!(
                role,
                Role::Backend | Role::Frontend | Role::Devops | Role::Qa | Role::RegisteredAgent
            );
            check(*role, "tests/Dockerfile", builds);
        }
    }
}
