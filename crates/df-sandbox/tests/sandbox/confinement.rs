//! What a program sees of itself, and what each run reports.

use std::collections::BTreeMap;

use df_sandbox::{
    Exit, Layer, Requirement, Sandbox, SandboxConfig, SandboxError, SandboxSpec, SpecError, Status,
};

use crate::{check, config, run, runtime, sandbox, text, workshop};

#[test]
fn nothing_privileged_is_left() {
    // EINVAL: uid 0 does not exist in this user namespace.
    check(
        "for l in open('/proc/self/status'):\n  if l.split(':')[0] in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb', 'NoNewPrivs', 'Seccomp', 'Groups'): print(*l.split())\nprint(os.getuid(), os.getgid(), attempt(os.setuid, 0))",
        &format!(
            "Groups:{}\nCapInh: {z}\nCapPrm: {z}\nCapEff: {z}\nCapBnd: {z}\nCapAmb: {z}\nNoNewPrivs: 1\nSeccomp: 2\n1000 1000 EINVAL",
            groups(),
            z = "0".repeat(16)
        ),
    );
}

/// A caller that is not root cannot drop its supplementary groups; they show as the overflow gid and own nothing inside.
fn groups() -> String {
    let root = rustix::process::geteuid().is_root();
    let count = if root { 0 } else { rustix::process::getgroups().unwrap().len() };
    let own = rustix::process::getegid();
    let names = rustix::process::getgroups().unwrap();
    names.iter().take(count).map(|group| if *group == own { " 1000" } else { " 65534" }).collect()
}

#[test]
fn only_the_allowed_environment_is_visible() {
    assert!(std::env::vars_os().any(|(name, _)| name == "CARGO_MANIFEST_DIR"), "run under cargo");
    let shop = workshop();
    let env = BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]);
    let spec = SandboxSpec { env, ..shop.python("print(sorted(os.environ), os.environ['GREETING'])") };
    assert_eq!(text(&run(spec)), "['GREETING', 'HOME', 'LANG', 'PATH', 'TMPDIR', 'USER'] hello\n");
}

#[test]
fn the_first_process_is_out_of_reach() {
    check(
        "for f in ['environ', 'mem', 'fd', 'maps']: print(attempt(os.listdir if f == 'fd' else open, '/proc/1/' + f))\nos.kill(1, 9)\nprint('alive', sorted(int(p) for p in os.listdir('/proc') if p.isdigit()))",
        "EACCES\nEACCES\nEACCES\nEACCES\nalive [1, 2]",
    );
}

#[test]
fn no_descriptor_is_inherited() {
    check(
        "print(sorted(os.listdir('/proc/self/fd'))[:3], len(os.listdir('/proc/self/fd')), os.readlink('/proc/self/fd/0'))",
        "['0', '1', '2'] 4 /dev/null",
    );
}

#[test]
fn processes_of_the_host_cannot_be_signalled() {
    check(&format!("print(attempt(os.kill, {}, 0))", std::process::id().max(1000)), "ESRCH");
}

#[test]
fn layers_in_force_are_reported() {
    let outcome = workshop().run("");
    let always = [
        Layer::UnprivilegedUid,
        Layer::Namespaces,
        Layer::NoNetwork,
        Layer::MinimalRoot,
        Layer::NoCapabilities,
        Layer::NoNewPrivileges,
        Layer::Seccomp,
        Layer::ResourceLimits,
    ];
    assert!(always.iter().all(|layer| outcome.layers.contains(layer)), "{:?}", outcome.layers);
    for layer in &outcome.layers {
        assert_eq!(serde_json::to_value(layer).unwrap(), layer.name());
    }
    assert_eq!(outcome.layers.contains(&Layer::OwnUid), rustix::process::geteuid().is_root());
}

#[test]
fn a_machine_without_bubblewrap_is_refused_with_the_remedy() {
    let missing =
        SandboxConfig { bwrap: Some("/nonexistent/bwrap".into()), ..config(df_sandbox::CgroupUse::Never) };
    let capabilities = Sandbox::probe(&missing);
    assert!(!capabilities.usable());
    let bwrap = capabilities.checks.iter().find(|check| check.requirement == Requirement::Bwrap).unwrap();
    assert_eq!(bwrap.status, Status::Missing);
    assert!(bwrap.fix.contains("apt install bubblewrap"));
    assert!(matches!(Sandbox::open(missing), Err(SandboxError::BwrapMissing { .. })));
}

#[test]
fn a_bubblewrap_that_cannot_make_namespaces_is_refused() {
    let shop = workshop();
    let fake = shop.dir.path().join("bwrap");
    let script = "#!/bin/sh\n[ \"$1\" = --version ] && echo bubblewrap 0.9.0 && exit\necho 'setting up uid map: Permission denied' >&2\nexit 1\n";
    std::fs::write(&fake, script).unwrap();
    for path in [shop.dir.path(), &fake] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let config = SandboxConfig { bwrap: Some(fake), ..config(df_sandbox::CgroupUse::Never) };
    match Sandbox::open(config) {
        Err(SandboxError::UserNamespaces { detail, .. }) => {
            assert!(detail.contains("Permission denied"), "{detail}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stand_in_that_only_runs_the_command_is_refused() {
    let shop = workshop();
    let fake = shop.dir.path().join("bwrap");
    let init = env!("CARGO_BIN_EXE_df-sandbox-init");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && echo bubblewrap 0.9.0 && exit\nshift 4\nexec {init} \"$@\"\n"
    );
    std::fs::write(&fake, script).unwrap();
    for path in [shop.dir.path(), &fake] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let config = SandboxConfig { bwrap: Some(fake), ..config(df_sandbox::CgroupUse::Never) };
    match Sandbox::open(config) {
        Err(SandboxError::UserNamespaces { detail, .. }) => {
            assert!(detail.contains("not the first process"), "{detail}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn programs_that_cannot_start_are_outcomes_and_bad_specs_are_errors() {
    let shop = workshop();
    let missing = run(SandboxSpec::new(&shop.workspace, ["no-such-program"]));
    assert_eq!(missing.exit, Exit::Code(127));
    assert!(text(&missing).contains("no-such-program"));
    std::fs::write(shop.workspace.join("plain"), "").unwrap();
    assert_eq!(run(SandboxSpec::new(&shop.workspace, ["./plain"])).exit, Exit::Code(126));
    assert_eq!(shop.run("os.kill(os.getpid(), 11)").exit, Exit::Signal(11));
    assert_eq!(shop.run("sys.exit(7)").exit, Exit::Code(7));
    let (_cancel, cancelled) = tokio::sync::watch::channel(false);
    let bad = SandboxSpec { cwd: "../x".into(), ..shop.python("") };
    let refused = runtime().block_on(sandbox().run(bad, cancelled));
    assert!(matches!(refused, Err(SandboxError::Spec(SpecError::Cwd(_)))));
}
