//! Memory and process limits over a whole run, where a cgroup (v1 or v2) can be written.
//!
//! Always a child of the caller's own cgroup, or of the one the operator delegated: limits above keep holding.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::config::{CgroupUse, SandboxConfig};
use crate::outcome::Layer;
use crate::spec::Limits;

const PREFIX: &str = "devfactory-sandbox-";
/// A cgroup stays busy for a moment after its last process was reaped.
const REMOVE_TRIES: u32 = 50;
const REMOVE_PAUSE: Duration = Duration::from_millis(10);

static NEXT: AtomicU64 = AtomicU64::new(0);

/// Directories under which a run's own cgroups can be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Parents {
    pub(crate) memory: Option<PathBuf>,
    pub(crate) pids: Option<PathBuf>,
    pub(crate) v2: bool,
}

impl Parents {
    pub(crate) fn find(config: &SandboxConfig) -> Self {
        match config.cgroup {
            CgroupUse::Never => Self::default(),
            CgroupUse::WhenWritable => match &config.cgroup_parent {
                Some(parent) => Self::unified(parent),
                None => Self::own(),
            },
        }
    }

    fn own() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let (cgroup, mounts) = (read("/proc/self/cgroup"), read("/proc/self/mountinfo"));
        let writable =
            |controller: &str| directory(&cgroup, &mounts, controller).filter(|path| writable(path));
        let v1 = Self { memory: writable("memory"), pids: writable("pids"), v2: false };
        if v1.memory.is_some() || v1.pids.is_some() {
            return v1;
        }
        writable("").map(|own| Self::unified(&own)).unwrap_or_default()
    }

    /// Version 2 gives children a controller only where the parent passes it on, which it cannot do while it holds
    /// processes of its own.
    fn unified(parent: &Path) -> Self {
        let control = parent.join("cgroup.subtree_control");
        let passed = || fs::read_to_string(&control).unwrap_or_default();
        let has = |name: &str| passed().split_whitespace().any(|word| word == name);
        for controller in ["memory", "pids"] {
            if !has(controller) {
                let _ = fs::write(&control, format!("+{controller}"));
            }
        }
        let usable = |name| (writable(parent) && has(name)).then(|| parent.to_owned());
        Self { memory: usable("memory"), pids: usable("pids"), v2: true }
    }

    /// Removes empty cgroups left by callers that were killed.
    pub(crate) fn sweep(&self) {
        for parent in self.memory.iter().chain(&self.pids) {
            for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let owner =
                    name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok());
                if owner.is_some_and(|pid: u32| !Path::new(&format!("/proc/{pid}")).exists()) {
                    let _ = fs::remove_dir(entry.path());
                }
            }
        }
    }
}

/// Where the caller's cgroup of `controller` is mounted; the empty name is the unified hierarchy.
fn directory(cgroup: &str, mountinfo: &str, controller: &str) -> Option<PathBuf> {
    let own = cgroup.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        names.split(',').any(|name| name == controller).then_some(path)
    })?;
    mountinfo.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let (place, kind): (Vec<_>, Vec<_>) = (place.split(' ').collect(), kind.split(' ').collect());
        let fits = match controller {
            "" => kind.first() == Some(&"cgroup2"),
            name => kind.first() == Some(&"cgroup") && kind.get(2)?.split(',').any(|option| option == name),
        };
        let inner = Path::new(own).strip_prefix(place.get(3)?).ok()?;
        fits.then(|| Path::new(place[4]).join(inner))
    })
}

fn writable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}

/// The cgroups of one run; removed on drop.
#[derive(Debug)]
pub(crate) struct Group {
    memory: Option<PathBuf>,
    pids: Option<PathBuf>,
    v2: bool,
}

impl Group {
    pub(crate) fn create(parents: &Parents, limits: &Limits) -> io::Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let mut group = Self { memory: None, pids: None, v2: parents.v2 };
        if let Some(parent) = &parents.memory {
            let path = make(parent.join(&name))?;
            group.memory = Some(path.clone());
            group.limit_memory(&path, limits.memory_bytes)?;
        }
        if let Some(parent) = &parents.pids {
            let path = make(parent.join(&name))?;
            group.pids = Some(path.clone());
            // Launcher, outer bwrap and the inner first process are the sandbox's own.
            fs::write(path.join("pids.max"), (limits.pids + 3).to_string())?;
        }
        Ok(group)
    }

    fn limit_memory(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let (limit, swap, swap_value) = match self.v2 {
            true => ("memory.max", "memory.swap.max", 0),
            false => ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", bytes),
        };
        fs::write(path.join(limit), bytes.to_string())?;
        // Absent where the kernel does not account swap.
        let _ = fs::write(path.join(swap), swap_value.to_string());
        Ok(())
    }

    pub(crate) fn directories(&self) -> Vec<PathBuf> {
        let mut all: Vec<_> = self.memory.iter().chain(&self.pids).cloned().collect();
        all.dedup();
        all
    }

    pub(crate) fn holds_memory(&self) -> bool {
        self.memory.is_some()
    }

    pub(crate) fn layers(&self) -> impl Iterator<Item = Layer> {
        let memory = self.memory.as_ref().map(|_| Layer::MemoryCgroup);
        memory.into_iter().chain(self.pids.as_ref().map(|_| Layer::PidsCgroup))
    }

    /// True when the kernel killed a process of this group for memory.
    pub(crate) fn oom(&self) -> bool {
        let file = if self.v2 { "memory.events" } else { "memory.oom_control" };
        let Some(path) = &self.memory else { return false };
        let text = fs::read_to_string(path.join(file)).unwrap_or_default();
        text.lines().filter_map(|line| line.strip_prefix("oom_kill ")).any(|count| count.trim() != "0")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for path in self.directories() {
            let gone = (0..REMOVE_TRIES).any(|_| {
                fs::remove_dir(&path).is_ok() || {
                    std::thread::sleep(REMOVE_PAUSE);
                    false
                }
            });
            if !gone {
                tracing::warn!(path = %path.display(), "sandbox cgroup could not be removed");
            }
        }
    }
}

fn make(path: PathBuf) -> io::Result<PathBuf> {
    match fs::create_dir(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
30 24 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
31 24 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
33 24 0:29 /box /mnt/pids rw,relatime - cgroup cgroup rw,pids
32 24 0:28 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate";

    #[test]
    fn own_directories_are_found_in_both_versions() {
        let own = "4:memory:/a/b\n3:cpu,cpuacct:/c\n2:pids:/box/d\n0::/user.slice\n";
        let cases = [
            ("memory", Some("/sys/fs/cgroup/memory/a/b")),
            ("cpuacct", Some("/sys/fs/cgroup/cpu,cpuacct/c")),
            ("pids", Some("/mnt/pids/d")),
            ("", Some("/sys/fs/cgroup/unified/user.slice")),
            ("hugetlb", None),
        ];
        for (controller, expect) in cases {
            assert_eq!(directory(own, MOUNTS, controller), expect.map(PathBuf::from), "{controller}");
        }
    }
}
