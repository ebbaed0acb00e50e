//! The system call filter: what no build or test needs and what past escapes used.
//!
//! A deny list, because the programs are arbitrary tool chains: the namespaces already deny everything by absence, this
//! shrinks the kernel surface left. Calls of a foreign architecture (32-bit) kill; x32 numbers are refused. `clone3` passes
//! its flags in memory, where a filter cannot see them, so it does not exist here: C libraries then use `clone`.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Op, SeccompCondition as Condition,
    SeccompFilter, SeccompRule as Rule, TargetArch, apply_filter, sock_filter,
};

const EPERM: u32 = libc::EPERM.cast_unsigned();

/// Denied whatever the arguments.
const DENIED: &[libc::c_long] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
];

/// Calls only the oldest architecture has.
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[libc::c_long] = &[
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[libc::c_long] = &[];

/// `clone` flags that make a namespace.
const NAMESPACE_FLAGS: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Anything else (netlink, packet, vsock which leaves the network namespace, ...) is refused.
const SOCKET_FAMILIES: [libc::c_int; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
/// `SOCK_RAW` and the obsolete `SOCK_PACKET`.
const RAW_TYPES: [u64; 2] = [3, 10];
/// The low bits of a socket type; the rest are flags.
const SOCKET_TYPE_MASK: u64 = 0xf;

/// Installs all filters on the calling thread and what it starts. Needs `no_new_privs`. Later filters cannot undo them.
pub(crate) fn install() -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("installing the system call filter: {error}");
    for program in programs().map_err(|error| failed(&error))? {
        apply_filter(&program).map_err(|error| failed(&error))?;
    }
    Ok(())
}

/// One filter per error number, since a filter has one action.
fn programs() -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
    let absent = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let sockets = BTreeMap::from([(libc::SYS_socket, vec![foreign_family()?])]);
    Ok(vec![
        compile(absent, libc::ENOSYS.cast_unsigned())?,
        compile(sockets, libc::EAFNOSUPPORT.cast_unsigned())?,
        compile(denied()?, EPERM)?,
        #[cfg(target_arch = "x86_64")]
        no_x32(),
    ])
}

fn compile(rules: BTreeMap<i64, Vec<Rule>>, errno: u32) -> Result<BpfProgram, seccompiler::BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno), arch)?.try_into()
}

fn denied() -> Result<BTreeMap<i64, Vec<Rule>>, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<Rule>> =
        DENIED.iter().chain(DENIED_HERE).map(|number| (*number, Vec::new())).collect();
    let clone = NAMESPACE_FLAGS.iter().map(|flag| has_bits(0, flag.cast_unsigned()));
    rules.insert(libc::SYS_clone, clone.collect::<Result<_, _>>()?);
    // Compared as 32 bits: the kernel ignores the upper half, and a 64-bit comparison could be stepped around.
    let ioctls = [0x5412, 0x541c]; // TIOCSTI, TIOCLINUX
    let ioctl = ioctls.into_iter().map(|request| rule([(1, Op::Eq, request)]));
    rules.insert(libc::SYS_ioctl, ioctl.collect::<Result<_, _>>()?);
    let raw = RAW_TYPES.into_iter().map(|kind| rule([(1, Op::MaskedEq(SOCKET_TYPE_MASK), kind)]));
    rules.insert(libc::SYS_socket, raw.collect::<Result<_, _>>()?);
    rules.insert(libc::SYS_mknodat, device(2)?);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_mknod, device(1)?);
    Ok(rules)
}

fn foreign_family() -> Result<Rule, seccompiler::BackendError> {
    rule(SOCKET_FAMILIES.map(|family| (0, Op::Ne, u64::from(family.cast_unsigned()))))
}

fn has_bits(argument: u8, bits: u32) -> Result<Rule, seccompiler::BackendError> {
    rule([(argument, Op::MaskedEq(bits.into()), bits.into())])
}

fn device(mode_argument: u8) -> Result<Vec<Rule>, seccompiler::BackendError> {
    let kinds = [libc::S_IFCHR, libc::S_IFBLK].into_iter();
    kinds.map(|kind| rule([(mode_argument, Op::MaskedEq(libc::S_IFMT.into()), kind.into())])).collect()
}

/// All conditions must hold; every argument looked at here is a C `int`.
fn rule<const N: usize>(conditions: [(u8, Op, u64); N]) -> Result<Rule, seccompiler::BackendError> {
    let conditions =
        conditions.into_iter().map(|(index, op, value)| Condition::new(index, Width::Dword, op, value));
    Rule::new(conditions.collect::<Result<_, _>>()?)
}

/// x32 calls carry the native architecture's tag and a high bit in the number, so a deny list of native numbers lets
/// all of them through. Four instructions: load the number; below the bit, allow; else `ENOSYS`.
#[cfg(target_arch = "x86_64")]
fn no_x32() -> BpfProgram {
    let op = |code: u32, jt, k| sock_filter { code: code as u16, jt, jf: 0, k };
    vec![
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 1, 0x4000_0000),
        op(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
        op(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned()),
    ]
}
