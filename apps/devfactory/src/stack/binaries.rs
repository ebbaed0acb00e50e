//! Where the sibling binaries are: beside this one.

use std::path::PathBuf;

use anyhow::Context as _;

/// The binary `name` in the folder of the running one.
pub(crate) fn sibling(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("the path of this program")?;
    let path = own.with_file_name(name);
    anyhow::ensure!(
        path.exists(),
        "{name} is not beside {}; build all four binaries with `cargo build --release`",
        own.display()
    );
    Ok(path)
}
