//! The file system: a minimal read-only root, one workspace, nothing else of the host.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use df_sandbox::{Exit, ReadOnlyMount, SandboxSpec, WorkspaceAccess};

use crate::{check, run, text, workshop};

#[test]
fn host_secrets_are_not_there() {
    check(
        "for path in ['/etc/shadow', '/root', '/home/sandbox/.ssh', '/var/run/docker.sock', '/sys/fs/cgroup', '/proc/1/root']:\n  print(attempt(os.stat, path))",
        "ENOENT\nENOENT\nENOENT\nENOENT\nENOENT\nEACCES",
    );
}

#[test]
fn nothing_outside_the_workspace_is_writable() {
    check(
        "for path in ['/x', '/usr/x', '/etc/x', '/etc/passwd', '/workspace/../x', '/dev/x', '/run/x', '/run/df-init', '/proc/sys/kernel/core_pattern']:\n  print(path, attempt(open, path, 'w'))",
        "/x EROFS\n/usr/x EROFS\n/etc/x EROFS\n/etc/passwd EROFS\n/workspace/../x EROFS\n/dev/x EROFS\n/run/x EROFS\n/run/df-init EROFS\n/proc/sys/kernel/core_pattern EACCES",
    );
}

#[test]
fn other_workspaces_are_not_visible() {
    let (own, other) = (workshop(), workshop());
    fs::write(other.workspace.join("secret"), "s").unwrap();
    let path = other.workspace.display();
    let outcome = own.run(&format!("print(attempt(os.stat, '{path}'), os.listdir('/tmp'))"));
    assert_eq!(text(&outcome), "ENOENT []\n");
}

#[test]
fn a_link_planted_in_the_workspace_leads_nowhere() {
    let shop = workshop();
    let canary = shop.dir.path().join("canary");
    fs::write(&canary, "untouched").unwrap();
    symlink(&canary, shop.workspace.join("out")).unwrap();
    let outcome = shop
        .run("print(attempt(open, 'out')); os.symlink('/etc', 'etc'); print(attempt(open, 'etc/shadow'))");
    assert_eq!(text(&outcome), "ENOENT\nENOENT\n");
    assert_eq!(fs::read_to_string(&canary).unwrap(), "untouched");
    assert_eq!(fs::metadata(&canary).unwrap().uid(), rustix::process::geteuid().as_raw());
}

#[test]
fn hard_links_to_host_files_and_devices_cannot_be_made() {
    check(
        "import stat\nprint(attempt(os.link, '/usr/bin/env', 'stolen'))\nprint(attempt(os.mknod, 'disk', 0o600 | stat.S_IFBLK, os.makedev(8, 0)))\nprint(attempt(os.mknod, 'pipe', 0o600 | stat.S_IFIFO))",
        "EXDEV\nEPERM\nok",
    );
}

#[test]
fn results_belong_to_the_caller_again() {
    let shop = workshop();
    let outcome =
        shop.run("os.mkdir('d', 0o700); open('d/f', 'w').write('made inside'); os.chmod('d/f', 0o4755)");
    assert_eq!(outcome.exit, Exit::Code(0), "{}", text(&outcome));
    let file = shop.workspace.join("d/f");
    let found = fs::metadata(&file).unwrap();
    assert_eq!(found.uid(), rustix::process::geteuid().as_raw());
    if found.uid() == 0 {
        assert_eq!(found.permissions().mode() & 0o6000, 0, "a set-user-ID file must not become root's");
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "made inside");
}

#[test]
fn a_read_only_workspace_is_read_only() {
    let shop = workshop();
    fs::write(shop.workspace.join("a"), "alpha").unwrap();
    let program = "print(open('a').read(), attempt(open, 'b', 'w'), attempt(os.unlink, 'a'))";
    let outcome = run(SandboxSpec { access: WorkspaceAccess::ReadOnly, ..shop.python(program) });
    assert_eq!(text(&outcome), "alpha EROFS EROFS\n");
}

#[test]
fn mounts_appear_read_only_where_asked() {
    let shop = workshop();
    let tools = shop.dir.path().join("tools");
    fs::create_dir(&tools).unwrap();
    fs::write(tools.join("t"), "tool").unwrap();
    let mount = ReadOnlyMount { host: tools, inside: "/opt/tools".into() };
    let program = "print(open('/opt/tools/t').read(), attempt(open, '/opt/tools/x', 'w'))";
    let outcome = run(SandboxSpec { read_only_mounts: vec![mount], ..shop.python(program) });
    assert_eq!(text(&outcome), "tool EROFS\n");
}

#[test]
fn a_workspace_below_a_private_directory_works() {
    let shop = workshop();
    fs::set_permissions(shop.dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(shop.run("print(os.getcwd())").exit, Exit::Code(0));
}

#[test]
fn scratch_space_is_private_and_limited() {
    let shop = workshop();
    let mut spec = shop.python(
        "def fill(path):\n  with open(path + '/x', 'wb') as f:\n    for _ in range(80): f.write(bytes(1 << 20)); f.flush()\nfor path in ['/tmp', '/dev/shm', os.environ['HOME']]:\n  print(attempt(fill, path)); os.unlink(path + '/x')",
    );
    spec.limits.memory_bytes = 128 << 20;
    assert_eq!(text(&run(spec)), "ENOSPC\nENOSPC\nENOSPC\n");
}
