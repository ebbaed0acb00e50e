//! The wall clock of a process under test, set while it runs: libfaketime between the process and the C library.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

const LIBRARY: &str = "faketime/libfaketimeMT.so.1";
/// Where distributions keep it; multi-arch directories lie in the first.
const FOLDERS: [&str; 4] = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib"];

/// The library, where this machine has it.
fn library() -> Option<PathBuf> {
    let direct = FOLDERS.iter().map(|folder| Path::new(folder).join(LIBRARY));
    let nested = std::fs::read_dir("/usr/lib").ok().into_iter().flatten();
    let nested = nested.filter_map(|entry| Some(entry.ok()?.path().join(LIBRARY)));
    direct.chain(nested).find(|path| path.is_file())
}

/// Whether the clock of a process can be set here.
pub fn clocks_can_be_set() -> bool {
    library().is_some()
}

fn file(root: &Path) -> PathBuf {
    root.join("clock")
}

/// What a process needs for its clock to be set by [`set`].
pub(crate) fn environment(root: &Path) -> Vec<(OsString, OsString)> {
    let library = library().expect("libfaketime: ask `clocks_can_be_set` first");
    if !file(root).exists() {
        set(root, 0);
    }
    let pairs: [(&str, OsString); 5] = [
        ("LD_PRELOAD", library.into()),
        ("FAKETIME_TIMESTAMP_FILE", file(root).into()),
        // The file is read whenever the time is.
        ("FAKETIME_NO_CACHE", "1".into()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ("FAKETIME_DISABLE_SHM", "1".into()),
    ];
    pairs.into_iter().map(|(name, value)| (name.into(), value)).collect()
}

/// In one step: a process never reads half of it.
pub(crate) fn set(root: &Path, ahead_s: i64) {
    let new = file(root).with_extension("new");
    std::fs::write(&new, format!("{ahead_s:+}\n")).expect("a file for the clock");
    std::fs::rename(new, file(root)).expect("a file for the clock");
}
