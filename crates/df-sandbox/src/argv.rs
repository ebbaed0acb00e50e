//! The `bwrap` argument list: a minimal root built up from nothing.

use std::os::fd::RawFd;
use std::path::Path;

use crate::plan::{INIT_INSIDE, INSIDE_ID, LaunchPlan, Mount};
use crate::{HOME, WORKSPACE};

/// Small files the sandbox gets instead of the host's.
pub(crate) const SYNTHETIC: [(&str, &str); 6] = [
    (
        "/etc/passwd",
        "root:x:0:0::/:/usr/sbin/nologin\nsandbox:x:1000:1000::/home/sandbox:/bin/sh\nnobody:x:65534:65534::/:/usr/sbin/nologin\n",
    ),
    ("/etc/group", "root:x:0:\nsandbox:x:1000:\nnogroup:x:65534:\n"),
    ("/etc/hosts", "127.0.0.1 localhost sandbox\n::1 localhost\n"),
    ("/etc/hostname", "sandbox\n"),
    ("/etc/resolv.conf", ""),
    ("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"),
];

/// Host files that tool chains need and that hold nothing private.
const FROM_ETC: [&str; 9] = [
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl/certs",
];

/// Top-level names that are links into `/usr` on a merged system and directories elsewhere.
const TOP: [&str; 6] = ["/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin"];

/// What `bwrap` shall find at the top level of the host.
pub(crate) enum Top {
    Link(String),
    Directory,
    Absent,
}

/// All arguments up to the command. `synthetic` are the descriptors of [`SYNTHETIC`] in its order.
pub(crate) fn arguments(plan: &LaunchPlan, synthetic: &[RawFd], top: impl Fn(&str) -> Top) -> Vec<String> {
    let mut argv = Argv(Vec::new());
    argv.add([
        "--unshare-all",
        "--unshare-user",
        "--disable-userns",
        "--new-session",
        "--die-with-parent",
        "--as-pid-1",
    ]);
    let id = INSIDE_ID.to_string();
    argv.add(["--cap-drop", "ALL", "--uid", &id, "--gid", &id, "--hostname", "sandbox", "--clearenv"]);
    argv.root(top);
    for ((path, _), fd) in SYNTHETIC.iter().zip(synthetic) {
        argv.add(["--perms", "0444", "--ro-bind-data", &fd.to_string(), path]);
    }
    argv.add(["--proc", "/proc", "--dev", "/dev"]);
    let scratch = plan.scratch_bytes.to_string();
    for (mode, path) in [("1777", "/dev/shm"), ("1777", "/tmp"), ("0700", HOME)] {
        argv.add(["--perms", mode, "--size", &scratch, "--tmpfs", path]);
    }
    argv.add(["--symlink", "../tmp", "/var/tmp", "--ro-bind", &plan.init_binary, INIT_INSIDE]);
    plan.mounts.iter().for_each(|mount| argv.mount(mount));
    argv.mount(&plan.workspace);
    argv.add(["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", WORKSPACE]);
    argv.0
}

struct Argv(Vec<String>);

impl Argv {
    fn add<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) {
        self.0.extend(words.into_iter().map(str::to_owned));
    }

    fn root(&mut self, top: impl Fn(&str) -> Top) {
        self.add(["--ro-bind", "/usr", "/usr"]);
        for path in TOP {
            match top(path) {
                Top::Link(target) => self.add(["--symlink", &target, path]),
                Top::Directory => self.add(["--ro-bind", path, path]),
                Top::Absent => {}
            }
        }
        for path in FROM_ETC {
            self.add(["--ro-bind-try", path, path]);
        }
    }

    fn mount(&mut self, mount: &Mount) {
        self.add([if mount.writable { "--bind" } else { "--ro-bind" }, &mount.host, &mount.inside]);
    }
}

/// Looks at the host.
pub(crate) fn host_top(path: &str) -> Top {
    match std::fs::read_link(path) {
        Ok(target) => target.to_str().map_or(Top::Absent, |target| Top::Link(target.to_owned())),
        Err(_) if Path::new(path).is_dir() => Top::Directory,
        Err(_) => Top::Absent,
    }
}
