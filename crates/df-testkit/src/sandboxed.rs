//! Processes of this machine that carry a mark on their command line: what runs in a sandbox cannot hide from it.

use rand::RngExt as _;

/// A text that no other process has on its command line.
pub fn marker(name: &str) -> String {
    format!("{name}-{:016x}", rand::rng().random::<u64>())
}

/// Ids of the living processes with `marker` on their command line.
pub fn processes_with(marker: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("the processes of this machine");
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| {
        // One that has ended meanwhile, or waits to be reaped, has no command line.
        let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(marker)
    })
    .collect()
}
