//! System calls that past escapes used.

use df_sandbox::Exit;

use crate::{check, text, workshop};

/// Runs bare system calls, each with its expected answer. Arguments are Python expressions.
#[track_caller]
fn refused(calls: &[(&str, libc::c_long, &str, &str)]) {
    let program: Vec<_> = calls
        .iter()
        .map(|(name, number, arguments, _)| format!("print('{name}', call({number}, {arguments}))"))
        .collect();
    let expect: Vec<_> = calls.iter().map(|(name, _, _, answer)| format!("{name} {answer}")).collect();
    check(&program.join("\n"), &expect.join("\n"));
}

#[test]
fn namespaces_and_mounts_are_refused() {
    refused(&[
        ("unshare-user", libc::SYS_unshare, "0x10000000", "EPERM"),
        ("unshare-mount", libc::SYS_unshare, "0x20000", "EPERM"),
        ("clone-user", libc::SYS_clone, "0x10000000 | 17, 0, 0, 0, 0", "EPERM"),
        ("clone-net", libc::SYS_clone, "0x40000000 | 17, 0, 0, 0, 0", "EPERM"),
        ("clone3", libc::SYS_clone3, "0, 0", "ENOSYS"),
        ("setns", libc::SYS_setns, "0, 0", "EPERM"),
        ("mount", libc::SYS_mount, "b'none', b'/tmp', b'tmpfs', 0, 0", "EPERM"),
        ("umount", libc::SYS_umount2, "b'/workspace', 2", "EPERM"),
        ("fsopen", libc::SYS_fsopen, "b'tmpfs', 0", "EPERM"),
        ("open_tree", libc::SYS_open_tree, "-100, b'/', 1", "EPERM"),
        ("mount_setattr", libc::SYS_mount_setattr, "-100, b'/', 0, 0, 0", "EPERM"),
        ("pivot_root", libc::SYS_pivot_root, "b'/', b'/'", "EPERM"),
        ("chroot", libc::SYS_chroot, "b'/tmp'", "EPERM"),
    ]);
}

#[test]
fn kernel_surface_is_refused() {
    refused(&[
        ("ptrace", libc::SYS_ptrace, "0, 0, 0, 0", "EPERM"),
        ("process_vm_readv", libc::SYS_process_vm_readv, "os.getpid(), 0, 0, 0, 0, 0", "EPERM"),
        ("pidfd_getfd", libc::SYS_pidfd_getfd, "0, 0, 0", "EPERM"),
        ("io_uring", libc::SYS_io_uring_setup, "8, ctypes.create_string_buffer(256)", "EPERM"),
        ("bpf", libc::SYS_bpf, "0, 0, 0", "EPERM"),
        ("perf", libc::SYS_perf_event_open, "0, 0, -1, -1, 0", "EPERM"),
        ("userfaultfd", libc::SYS_userfaultfd, "1", "EPERM"),
        ("keyctl", libc::SYS_keyctl, "0, -3, 0", "EPERM"),
        ("add_key", libc::SYS_add_key, "b'user', b'k', b'v', 1, -2", "EPERM"),
        ("name_to_handle", libc::SYS_name_to_handle_at, "-100, b'/', 0, 0, 0", "EPERM"),
        ("open_by_handle", libc::SYS_open_by_handle_at, "3, 0, 0", "EPERM"),
        ("init_module", libc::SYS_init_module, "0, 0, 0", "EPERM"),
        ("kexec", libc::SYS_kexec_load, "0, 0, 0, 0", "EPERM"),
    ]);
}

#[test]
fn terminal_injection_is_refused_also_with_high_bits_set() {
    let program = format!(
        "import pty\n_, fd = pty.openpty()\nbyte = ctypes.create_string_buffer(b'x')\nfor r in [0x5412, 0x5412 | 1 << 32, 0x541c]: print(call({ioctl}, fd, r, byte))\nprint(call({ioctl}, fd, 0x5413, ctypes.create_string_buffer(8)))",
        ioctl = libc::SYS_ioctl
    );
    check(&program, "EPERM\nEPERM\nEPERM\nok");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn foreign_system_calls_are_refused() {
    let program = format!("print(call({}))", libc::SYS_getpid | 0x4000_0000);
    check(&program, "ENOSYS");
    // 32-bit getpid: mov eax, 20; int 0x80; ret.
    let outcome = workshop().run(
        "import mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(b'\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3')\nf = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))\nprint('survived', f())",
    );
    assert_eq!((outcome.exit, text(&outcome)), (Exit::Signal(libc::SIGSYS), String::new()));
}

#[test]
fn ordinary_programs_still_work() {
    check(
        "import multiprocessing, subprocess, threading, tempfile\nprint(subprocess.check_output(['sh', '-c', 'echo $((6*7))']).decode().strip())\nt = threading.Thread(target=lambda: print('thread')); t.start(); t.join()\nwith multiprocessing.Pool(2) as p: print(p.map(abs, [-1, -2]))\nprint(tempfile.NamedTemporaryFile().write(b'x'))",
        "42\nthread\n[1, 2]\n1",
    );
}
