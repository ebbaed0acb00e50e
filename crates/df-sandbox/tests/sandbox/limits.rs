//! Bombs.

use df_sandbox::{CgroupUse, Exit, Layer, SandboxSpec, Spool, Spooled};

use crate::{open, run, run_in, text, workshop};

const FORK_BOMB: &str = "\
count = 0
try:
  while count < 1000:
    if os.fork() == 0: time.sleep(60); os._exit(0)
    count += 1
except OSError as e: print(errno.errorcode[e.errno], count < 32)
";
const MEMORY_BOMB: &str =
    "b = bytearray(1 << 29)\nfor i in range(0, len(b), 4096): b[i] = 1\nprint('survived')";

fn with_pids(spec: SandboxSpec) -> SandboxSpec {
    let limits = df_sandbox::Limits { pids: 32, memory_bytes: 128 << 20, ..spec.limits };
    SandboxSpec { limits, ..spec }
}

#[test]
fn a_fork_bomb_is_limited() {
    let outcome = run(with_pids(workshop().python(FORK_BOMB)));
    assert_eq!((outcome.exit, text(&outcome).as_str()), (Exit::Code(0), "EAGAIN True\n"));
}

#[test]
fn a_memory_bomb_is_stopped() {
    let outcome = run(with_pids(workshop().python(MEMORY_BOMB)));
    assert!(!text(&outcome).contains("survived"));
    if outcome.layers.contains(&Layer::MemoryCgroup) {
        assert_eq!((outcome.exit, outcome.oom), (Exit::Signal(libc::SIGKILL), true));
    } else {
        assert_eq!(outcome.exit, Exit::Code(1), "{}", text(&outcome));
    }
}

#[test]
fn many_processes_together_stay_within_memory() {
    let shop = workshop();
    if !shop.run("").layers.contains(&Layer::MemoryCgroup) {
        return; // Only a memory cgroup can limit a sum.
    }
    // Each child is small and then waits for ever: the first to end was killed.
    let program = "\
r, w = os.pipe()
for _ in range(8):
  if os.fork() == 0: os.close(w); b = bytearray(b'x' * (48 << 20)); os.read(r, 1)
print(os.WTERMSIG(os.wait()[1]))
";
    let mut spec = with_pids(shop.python(program));
    spec.limits.wall_ms = 60_000;
    let outcome = run(spec);
    assert!(outcome.oom);
    assert!(matches!(outcome.exit, Exit::Code(0) | Exit::Signal(libc::SIGKILL)), "{:?}", outcome.exit);
}

#[test]
fn without_cgroups_rlimits_hold() {
    let sandbox = open(CgroupUse::Never);
    let bomb = run_in(&sandbox, with_pids(workshop().python(FORK_BOMB)));
    assert_eq!((bomb.exit, text(&bomb).as_str()), (Exit::Code(0), "EAGAIN True\n"));
    let memory = run_in(&sandbox, with_pids(workshop().python(MEMORY_BOMB)));
    assert_eq!(memory.exit, Exit::Code(1));
    assert!(text(&memory).contains("MemoryError"), "{}", text(&memory));
    assert!(!memory.layers.contains(&Layer::MemoryCgroup) && memory.layers.contains(&Layer::ResourceLimits));
}

#[test]
fn files_descriptors_and_cpu_are_limited() {
    let shop = workshop();
    let mut spec = shop.python(
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nf = open('big', 'wb')\nprint(attempt(f.truncate, 1 << 40), attempt(os.pwrite, f.fileno(), b'x', 2 << 20))\nfds = []\ntry:\n  while len(fds) < 1000: fds.append(os.dup(0))\nexcept OSError as e: print(errno.errorcode[e.errno], len(fds) < 32)",
    );
    spec.limits.file_bytes = 1 << 20;
    spec.limits.open_files = 32;
    assert_eq!(text(&run(spec)), "EFBIG EFBIG\nEMFILE True\n");
    let mut spin = shop.python("while True: pass");
    spin.limits.cpu_seconds = 1;
    let outcome = run(spin);
    assert!(matches!(outcome.exit, Exit::Signal(libc::SIGKILL | libc::SIGXCPU)), "{:?}", outcome.exit);
}

#[test]
fn an_output_flood_is_bounded_and_drained() {
    let shop = workshop();
    let spool = Spool { path: shop.dir.path().join("log"), max_bytes: 4096 };
    let mut spec = shop.python(
        "print('begin', flush=True)\nfor _ in range(32): os.write(1, b'x' * (1 << 20))\nos.write(2, b'end')",
    );
    spec.limits.output_bytes = 1000;
    spec.spool = Some(spool.clone());
    let outcome = run(spec);
    assert_eq!(outcome.exit, Exit::Code(0));
    assert_eq!(outcome.output_total_bytes, (32 << 20) + 9);
    assert!(outcome.output_truncated && outcome.output.len() < 1100);
    assert!(outcome.output.starts_with(b"begin\nx") && outcome.output.ends_with(b"xend"));
    assert_eq!(outcome.spooled, Some(Spooled { bytes: 4096, complete: false }));
    assert_eq!(std::fs::metadata(&spool.path).unwrap().len(), 4096);
}

#[test]
fn both_streams_come_in_the_order_written() {
    let outcome = workshop().run("for i in range(6): os.write(1 + i % 2, b'%d' % i)");
    assert_eq!(text(&outcome), "012345");
}
