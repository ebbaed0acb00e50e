//! The tree under check: its root, its tracked files and what cargo knows of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};
use cargo_metadata::{Metadata, MetadataCommand};

/// The workspace that this build of xtask belongs to.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// Absolute path of the directory with the virtual manifest.
    pub root: PathBuf,
}

impl Workspace {
    pub(crate) fn locate() -> anyhow::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("the xtask package has no parent directory")?
            .to_path_buf();
        Ok(Self { root })
    }

    /// Packages and resolved dependencies, for this machine's platform only: resolving for every platform
    /// would need crates that nothing here ever downloads.
    pub(crate) fn metadata(&self) -> anyhow::Result<Metadata> {
        MetadataCommand::new()
            .current_dir(&self.root)
            .other_options(vec!["--filter-platform".into(), self.host_triple()?])
            .exec()
            .context("cargo metadata")
    }

    /// Files of the tree relative to the root: tracked ones, and new ones that git does not ignore.
    pub(crate) fn files(&self) -> anyhow::Result<Vec<String>> {
        let list = self.output("git", &["ls-files", "-z", "--cached", "--others", "--exclude-standard"])?;
        let mut files: Vec<String> = list
            .split('\0')
            .filter(|path| !path.is_empty())
            .filter(|path| fs::symlink_metadata(self.root.join(path)).is_ok_and(|meta| meta.is_file()))
            .map(str::to_owned)
            .collect();
        files.sort();
        files.dedup();
        Ok(files)
    }

    pub(crate) fn read(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        fs::read(self.root.join(path)).with_context(|| format!("reading {path}"))
    }

    pub(crate) fn read_text(&self, path: &str) -> anyhow::Result<String> {
        fs::read_to_string(self.root.join(path)).with_context(|| format!("reading {path}"))
    }

    /// Standard output of a program run in the root; any failure carries what it wrote to standard error.
    pub(crate) fn output(&self, program: &str, args: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(program)
            .args(args)
            .current_dir(&self.root)
            .output()
            .with_context(|| format!("starting {program}"))?;
        if !output.status.success() {
            bail!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        String::from_utf8(output.stdout).with_context(|| format!("{program} wrote invalid UTF-8"))
    }

    fn host_triple(&self) -> anyhow::Result<String> {
        let version = self.output("rustc", &["-vV"])?;
        let triple = version.lines().find_map(|line| line.strip_prefix("host: "));
        Ok(triple.context("rustc -vV names no host")?.to_owned())
    }
}
