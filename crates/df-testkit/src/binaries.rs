//! The binaries under test: built into the target directory of the running test.

use std::path::PathBuf;

/// The path of the binary `name`. Cargo puts tests into `deps/`, binaries into its parent.
pub(crate) fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the path of the running test");
    let folder = own.ancestors().nth(2).expect("the target directory");
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `cargo build --workspace --bins` first (scripts/test.sh does)",
        path.display()
    );
    path
}
