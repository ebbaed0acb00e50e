//! What this machine can enforce.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Serialize;

use crate::cgroup::Parents;
use crate::config::SandboxConfig;
use crate::error::SandboxError;
use crate::sandbox::{Host, RootMode};
use crate::spec::{Limits, SandboxSpec};
use crate::uid;

const BWRAP_PLACES: [&str; 3] = ["/usr/bin/bwrap", "/usr/local/bin/bwrap", "/bin/bwrap"];
/// The first with `--disable-userns`.
const BWRAP_MIN: (u32, u32) = (0, 8);
/// A trial that takes longer has hung.
const TRIAL_WALL_MS: u64 = 30_000;
/// Bits of `CapEff` that a start as root needs: CHOWN, DAC_OVERRIDE, KILL, SETGID, SETUID, SYS_ADMIN.
const CAPABILITIES: [(u32, &str); 6] = [
    (0, "CAP_CHOWN"),
    (1, "CAP_DAC_OVERRIDE"),
    (5, "CAP_KILL"),
    (6, "CAP_SETGID"),
    (7, "CAP_SETUID"),
    (21, "CAP_SYS_ADMIN"),
];

/// Something the sandbox stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Requirement {
    Bwrap,
    InitBinary,
    UnprivilegedUid,
    Seccomp,
    /// Proved by running something in a sandbox.
    UserNamespaces,
    /// Optional: without it memory is limited per process only.
    Cgroup,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Present,
    /// The sandbox works without it, with the weaker substitute the detail names.
    Optional,
    Missing,
}

/// One requirement as found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    pub requirement: Requirement,
    pub status: Status,
    /// One line: version, mode, or what went wrong.
    pub detail: String,
    /// One line: how to fix it. Empty when present.
    pub fix: String,
}

/// All requirements as found on this machine. A requirement that could not be tried because an earlier one is missing
/// is not listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    pub checks: Vec<Check>,
}

impl Capabilities {
    /// True when [`crate::Sandbox::open`] would succeed.
    pub fn usable(&self) -> bool {
        self.checks.iter().all(|check| check.status != Status::Missing)
    }
}

/// The findings, and the host when all that is required is there.
pub(crate) fn probe(config: &SandboxConfig) -> (Capabilities, Option<Host>) {
    let cgroups = Parents::find(config);
    let bwrap = find_bwrap(config.bwrap.as_deref());
    let init = find_init(config.init.as_deref());
    let root = find_uid(config);
    let mut checks = vec![
        check(Requirement::Bwrap, &bwrap),
        check(Requirement::InitBinary, &init),
        check(Requirement::UnprivilegedUid, &root),
        check(Requirement::Seccomp, &find_seccomp()),
        cgroup_check(&cgroups),
    ];
    let present = checks.iter().all(|check| check.status != Status::Missing);
    let host = match (bwrap, init, root) {
        (Ok((_, bwrap)), Ok((_, init)), Ok((_, root))) if present => Host { bwrap, init, root, cgroups },
        _ => return (Capabilities { checks }, None),
    };
    let trial = trial(&host);
    checks.push(check(Requirement::UserNamespaces, &trial));
    (Capabilities { checks }, trial.is_ok().then_some(host))
}

/// The typed refusal for the first requirement that is missing.
pub(crate) fn missing_layer(capabilities: Capabilities) -> SandboxError {
    let missing = capabilities.checks.into_iter().find(|check| check.status == Status::Missing);
    let Some(Check { requirement, detail, fix, .. }) = missing else {
        return SandboxError::SetUp { detail: "no layer is missing, yet the sandbox did not open".into() };
    };
    match requirement {
        Requirement::Bwrap if detail.starts_with(|c: char| c.is_ascii_digit()) => {
            SandboxError::BwrapTooOld { found: detail, fix }
        }
        Requirement::Bwrap => SandboxError::BwrapMissing { fix },
        Requirement::InitBinary => SandboxError::InitBinary { detail, fix },
        Requirement::UnprivilegedUid => SandboxError::UnprivilegedUid { detail, fix },
        Requirement::Seccomp => SandboxError::Seccomp { fix },
        Requirement::UserNamespaces => SandboxError::UserNamespaces { detail, fix },
        Requirement::Cgroup => SandboxError::SetUp { detail },
    }
}

/// Detail and value, or detail and fix.
type Finding<T> = Result<(String, T), (String, String)>;

fn check<T>(requirement: Requirement, finding: &Finding<T>) -> Check {
    match finding {
        Ok((detail, _)) => {
            Check { requirement, status: Status::Present, detail: detail.clone(), fix: String::new() }
        }
        Err((detail, fix)) => {
            Check { requirement, status: Status::Missing, detail: detail.clone(), fix: fix.clone() }
        }
    }
}

fn find_bwrap(configured: Option<&Path>) -> Finding<PathBuf> {
    let fix =
        || format!("install bubblewrap {}.{} or later (apt install bubblewrap)", BWRAP_MIN.0, BWRAP_MIN.1);
    let places =
        configured.map_or_else(|| BWRAP_PLACES.map(PathBuf::from).to_vec(), |path| vec![path.to_owned()]);
    let found = places.iter().find(|path| path.is_file());
    let Some(path) = found else { return Err((format!("no bwrap at {}", places[0].display()), fix())) };
    let output = Command::new(path).arg("--version").env_clear().stdin(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let version = text.split_whitespace().last().unwrap_or_default();
    match parse_version(version) {
        Some(numbers) if numbers >= BWRAP_MIN => {
            Ok((format!("{version} at {}", path.display()), path.clone()))
        }
        Some(_) => Err((version.to_owned(), fix())),
        None => Err((format!("{} does not say its version", path.display()), fix())),
    }
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn find_init(configured: Option<&Path>) -> Finding<PathBuf> {
    let fix = || "point the sandbox's `init` at the devfactory-worker binary".to_owned();
    let path = configured.map_or_else(std::env::current_exe, |path| Ok(path.to_owned()));
    match path {
        Ok(path) if path.is_absolute() && path.is_file() => Ok((path.display().to_string(), path)),
        Ok(path) => Err((format!("{} is not a file", path.display()), fix())),
        Err(error) => Err((error.to_string(), fix())),
    }
}

fn find_seccomp() -> Finding<()> {
    let fix = || "use a kernel with CONFIG_SECCOMP_FILTER".to_owned();
    let actions = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    if actions.split_whitespace().any(|action| action == "errno") {
        return Ok(("filters available".into(), ()));
    }
    Err(("kernel offers no filters".into(), fix()))
}

/// As root: the pool. Otherwise runs have the caller's own uid.
fn find_uid(config: &SandboxConfig) -> Finding<Option<RootMode>> {
    let own = rustix::process::geteuid();
    if !own.is_root() {
        return Ok((format!("runs have the uid of this process, {}", own.as_raw()), None));
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective =
        status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    let lacking = CAPABILITIES.iter().find(|(bit, _)| effective.unwrap_or(0) & (1 << bit) == 0);
    if let Some((_, name)) = lacking {
        return Err((format!("uid 0 without {name}"), format!("grant {name}, or start as an ordinary user")));
    }
    let uids = config.uids;
    let last = u64::from(uids.first) + u64::from(uids.count);
    if uids.first < 1000 || uids.count == 0 || last > u64::from(u32::MAX) {
        return Err((
            "uid pool is empty or reaches system uids".into(),
            "choose a pool such as 61000 + 64".into(),
        ));
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    if let Some(account) = uid::account_in_pool(uids, &passwd) {
        return Err((format!("account {account} owns a uid of the pool"), "choose another uid pool".into()));
    }
    let stage = uid::prepare_state_dir(&config.state_dir).map_err(|error| {
        (error.to_string(), "choose a state directory that only root can write".to_owned())
    })?;
    let detail = format!("started as root: runs have uids {} to {}", uids.first, last - 1);
    Ok((detail, Some(RootMode { uids, state_dir: config.state_dir.clone(), stage })))
}

fn cgroup_check(parents: &Parents) -> Check {
    let version = if parents.v2 { "v2" } else { "v1" };
    let (status, detail, fix) = match (&parents.memory, &parents.pids) {
        (Some(_), Some(_)) => (Status::Present, format!("{version}: memory and pids"), ""),
        (memory, pids) => {
            let found = match (memory, pids) {
                (Some(_), _) => format!("{version}: memory only"),
                (None, Some(_)) => format!("{version}: pids only; memory is limited per process"),
                (None, None) => "none writable: memory and processes are limited by rlimits".into(),
            };
            (Status::Optional, found, "delegate a cgroup with memory and pids, and set `cgroup_parent` to it")
        }
    };
    Check { requirement: Requirement::Cgroup, status, detail, fix: fix.into() }
}

/// Everything else can only be known by doing it.
fn trial(host: &Host) -> Finding<()> {
    match try_run(host) {
        Ok(()) => Ok(("a trial sandbox ran with every layer".into(), ())),
        Err(detail) => Err((detail, namespaces_fix().into())),
    }
}

fn try_run(host: &Host) -> Result<(), String> {
    let parent = host.root.as_ref().map_or_else(std::env::temp_dir, |root| root.state_dir.clone());
    let number = uid::next_trial();
    let workspace = parent.join(format!("trial-{}-{number}", std::process::id()));
    std::fs::create_dir(&workspace).map_err(|error| format!("{}: {error}", workspace.display()))?;
    let limits = Limits { wall_ms: TRIAL_WALL_MS, ..Limits::default() };
    let spec = SandboxSpec { limits, ..SandboxSpec::new(&workspace, ["true"]) };
    let result = std::io::pipe()
        .map_err(|error| error.to_string())
        .and_then(|(cancel, _held)| host.run(&spec, cancel).map_err(|error| error.to_string()));
    let _ = std::fs::remove_dir(&workspace);
    match result {
        Ok(outcome) if outcome.exit.success() => Ok(()),
        Ok(outcome) => {
            Err(format!("trial ended with {:?}: {}", outcome.exit, String::from_utf8_lossy(&outcome.output)))
        }
        Err(detail) => Err(detail),
    }
}

/// The usual reasons, most specific first.
fn namespaces_fix() -> &'static str {
    let reads =
        |path: &str, value: &str| std::fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    if reads("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        return "let AppArmor allow bwrap user namespaces (sysctl kernel.apparmor_restrict_unprivileged_userns=0 or a profile for bwrap)";
    }
    if reads("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        return "sysctl kernel.unprivileged_userns_clone=1";
    }
    if reads("/proc/sys/user/max_user_namespaces", "0") {
        return "sysctl user.max_user_namespaces=15000";
    }
    "allow unprivileged user namespaces (inside a container they are often blocked: run on the host)"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(parse_version("0.11.0") > Some(BWRAP_MIN));
        assert_eq!(parse_version("0.8.0"), Some(BWRAP_MIN));
        assert!(parse_version("0.4.1").is_some_and(|found| found < BWRAP_MIN));
        assert_eq!(parse_version("bwrap"), None);
    }

    #[test]
    fn each_missing_layer_has_its_own_error_and_remedy() {
        let missing = SandboxConfig { bwrap: Some("/nonexistent/bwrap".into()), ..SandboxConfig::default() };
        let error = missing_layer(probe(&missing).0);
        assert!(
            matches!(&error, SandboxError::BwrapMissing { fix } if fix.contains("apt install bubblewrap")),
            "{error}"
        );
        let old = |detail: &str| Capabilities {
            checks: vec![Check {
                requirement: Requirement::Bwrap,
                status: Status::Missing,
                detail: detail.into(),
                fix: "install".into(),
            }],
        };
        assert!(
            matches!(missing_layer(old("0.4.1")), SandboxError::BwrapTooOld { found, .. } if found == "0.4.1")
        );
        let init = SandboxConfig { init: Some("/nonexistent".into()), ..SandboxConfig::default() };
        assert!(matches!(missing_layer(probe(&init).0), SandboxError::InitBinary { .. }));
    }
}
