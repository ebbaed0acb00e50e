//! What a job delivered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use df_contract::Digest;

use super::{client, show};
use crate::args::Cli;
use crate::client::Client;

/// The artefact that holds the finished tree.
const TREE: &str = "tree.tar";

pub(crate) async fn artifacts(cli: &Cli, job: &str, out: Option<&Path>) -> anyhow::Result<()> {
    let client = client(cli)?;
    match out {
        None => {
            let list = list(&client, job).await?;
            show(cli, &list, |l| {
                l.iter().map(|(name, digest)| format!("{name:<20} sha256:{digest}\n")).collect()
            })
        }
        Some(out) => {
            let fetched = fetch(&client, job, out).await?;
            show(cli, &fetched, |f| f.iter().map(|(p, d)| format!("{}  sha256:{d}\n", p.display())).collect())
        }
    }
}

async fn list(client: &Client, job: &str) -> anyhow::Result<BTreeMap<String, Digest>> {
    client.get(&format!("/v1/jobs/{job}/artifacts")).await
}

/// Fetches every artefact into `out`, checks its digest, and unpacks the tree into `out/software`.
pub(crate) async fn fetch(client: &Client, job: &str, out: &Path) -> anyhow::Result<Vec<(PathBuf, Digest)>> {
    let list = list(client, job).await?;
    anyhow::ensure!(!list.is_empty(), "the job has delivered nothing yet");
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let mut fetched = Vec::new();
    for (name, digest) in list {
        let plain = Path::new(&name).file_name().context("an artefact without a name")?;
        let content = client.bytes(&format!("/v1/jobs/{job}/artifacts/{name}")).await?;
        anyhow::ensure!(Digest::of(&content) == digest, "{name} arrived with another digest than promised");
        let path = out.join(plain);
        std::fs::write(&path, &content).with_context(|| path.display().to_string())?;
        if name == TREE {
            unpack(&content, &out.join("software"))?;
        }
        fetched.push((path, digest));
    }
    Ok(fetched)
}

/// Unpacks the tree beside the old one and then swaps: an interrupted fetch leaves no half tree.
fn unpack(content: &[u8], to: &Path) -> anyhow::Result<()> {
    let parent = to.parent().context("a folder to unpack in")?;
    let fresh = tempfile::tempdir_in(parent)?;
    // The tar crate refuses entries that lead outside the destination.
    let mut archive = tar::Archive::new(content);
    archive.set_overwrite(false);
    archive.unpack(fresh.path()).context("the delivered tree could not be unpacked")?;
    if to.exists() {
        std::fs::remove_dir_all(to).with_context(|| to.display().to_string())?;
    }
    let fresh = fresh.keep();
    set_mode(&fresh)?;
    std::fs::rename(&fresh, to).with_context(|| to.display().to_string())
}

fn set_mode(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
        .with_context(|| folder.display().to_string())
}
