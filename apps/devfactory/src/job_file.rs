//! Job files: read, checked, and their local folders packed into blobs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use df_contract::{ErrorCode, JobSpec, PlanLimits, Problem, Source};

use crate::client::Client;

/// Largest folder that is packed, in bytes.
const MAX_PACK_BYTES: u64 = 256 * 1024 * 1024;

/// A job file, or a folder that holds `job.toml`.
pub(crate) fn locate(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("job.toml") } else { path.to_owned() }
}

/// Reads and checks a job file (TOML, or JSON by its ending).
pub(crate) fn read(path: &Path) -> anyhow::Result<JobSpec> {
    let file = locate(path);
    let text = std::fs::read_to_string(&file).map_err(|e| {
        Problem::new(ErrorCode::InvalidJob, format!("the job file {} could not be read: {e}", file.display()))
    })?;
    parse(&file, &text)
}

fn parse(file: &Path, text: &str) -> anyhow::Result<JobSpec> {
    let json = file.extension().is_some_and(|e| e == "json");
    let parsed = if json {
        serde_json::from_str(text).map_err(|e| e.to_string())
    } else {
        toml::from_str(text).map_err(|e| e.to_string())
    };
    let spec: JobSpec =
        parsed.map_err(|e| Problem::new(ErrorCode::InvalidJob, format!("{}: {e}", file.display())))?;
    spec.validate(&PlanLimits::SUPPLIED).map_err(|found| {
        Problem::new(ErrorCode::InvalidJob, format!("{} has {} finding(s)", file.display(), found.len()))
            .with_errors(found.iter().map(ToString::to_string).collect())
    })?;
    Ok(spec)
}

/// Uploads the local folders a spec names and puts their digests in their place.
pub(crate) async fn upload(mut spec: JobSpec, job: &Path, client: &Client) -> anyhow::Result<JobSpec> {
    let file = locate(job);
    let home = file.parent().unwrap_or(Path::new(".")).to_owned();
    if let Source::Path { path } = &spec.source {
        let folder = home.join(path);
        spec.source = if folder.join(".git").exists() {
            Source::Bundle { digest: client.put_blob(git_bundle(&folder)?).await? }
        } else {
            Source::Tarball { digest: client.put_blob(pack(&folder)?).await? }
        };
    }
    for check in &mut spec.hidden_checks {
        if let Some(path) = check.path.take() {
            check.blob = Some(client.put_blob(pack(&home.join(path))?).await?);
        }
    }
    Ok(spec)
}

fn git_bundle(folder: &Path) -> anyhow::Result<Vec<u8>> {
    let made = tempfile::NamedTempFile::new().context("temporary file")?;
    let done = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["bundle", "create", "--quiet"])
        .arg(made.path())
        .args(["HEAD"])
        .output()
        .context("git could not be started; install it to submit a repository")?;
    if !done.status.success() {
        bail!("git could not bundle {}: {}", folder.display(), String::from_utf8_lossy(&done.stderr).trim());
    }
    std::fs::read(made.path()).context("bundle")
}

/// A tar archive of the regular files below `folder`: sorted, without owners and times, so that the same content
/// has the same digest.
pub(crate) fn pack(folder: &Path) -> anyhow::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    let (mut files, mut bytes) = (0u64, 0u64);
    for entry in walkdir::WalkDir::new(folder)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(|e| e.file_name() != ".git")
    {
        let entry = entry.with_context(|| format!("{} could not be read", folder.display()))?;
        if !entry.file_type().is_file() || entry.path().components().any(|c| c.as_os_str() == "__pycache__") {
            continue;
        }
        let content = std::fs::read(entry.path()).with_context(|| entry.path().display().to_string())?;
        bytes += content.len() as u64;
        if bytes > MAX_PACK_BYTES {
            bail!(
                "{} is larger than {MAX_PACK_BYTES} bytes; keep the source small or submit a git URL",
                folder.display()
            );
        }
        let name = entry.path().strip_prefix(folder).context("a path below the folder")?;
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(if executable(entry.path()) { 0o755 } else { 0o644 });
        header.set_mtime(0);
        builder.append_data(&mut header, name, content.as_slice())?;
        files += 1;
    }
    if files == 0 {
        bail!("{} holds no files", folder.display());
    }
    Ok(builder.into_inner()?)
}

fn executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o100 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_the_same_folder_twice_gives_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        std::fs::write(folder.path().join("b/x"), "1").unwrap();
        std::fs::write(folder.path().join("a"), "2").unwrap();
        assert_eq!(pack(folder.path()).unwrap(), pack(folder.path()).unwrap());
        assert!(pack(&folder.path().join("b/missing")).is_err());
    }

    #[test]
    fn a_misspelt_field_is_named() {
        let error = parse(Path::new("job.toml"), "title = 't'\ndescription = 'd'\ntitel = 1")
            .unwrap_err()
            .to_string();
        assert!(error.contains("invalid_job") && error.contains("titel"), "{error}");
    }
}
