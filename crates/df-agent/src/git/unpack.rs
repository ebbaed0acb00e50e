//! Tar archives in and out: plain files only, no path that leads elsewhere, nothing that depends on the machine.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::checkout::{within, write_new_file};
use super::commit::TreeFile;
use super::error::GitError;
use super::{MAX_FILE_BYTES, MAX_TREE_BYTES, MAX_TREE_FILES, is_safe_path};

/// Unpacks an uncompressed tar archive into `to`, which is made here and must not exist. Whatever is below a
/// directory called `.git` is left out; any other path that is not safe, and any link or device, refuses the archive.
pub fn unpack_tar(archive: &Path, to: &Path) -> Result<(), GitError> {
    std::fs::create_dir(to).map_err(GitError::io("make", to))?;
    let unreadable = |e: std::io::Error| GitError::Tar(e.to_string());
    let file = File::open(archive).map_err(GitError::io("open", archive))?;
    let mut archive = tar::Archive::new(std::io::BufReader::new(file));
    let (mut files, mut total) = (0_u64, 0_u64);
    for entry in archive.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let Some(path) = entry_path(&entry.path_bytes())? else { continue };
        let kind = entry.header().entry_type();
        if kind.is_dir() || kind.is_pax_global_extensions() {
            continue;
        }
        if !kind.is_file() {
            return Err(GitError::TarEntry { path, kind: format!("{kind:?}").to_lowercase() });
        }
        files += 1;
        total = total.saturating_add(entry.size());
        within("files", files, MAX_TREE_FILES as u64)?;
        within("bytes in one file", entry.size(), MAX_FILE_BYTES)?;
        within("bytes", total, MAX_TREE_BYTES)?;
        let executable = entry.header().mode().map_err(unreadable)? & 0o100 != 0;
        let expected = entry.size();
        let mut body = (&mut entry).take(expected);
        if write_new_file(to, &path, executable, &mut body)? != expected {
            return Err(GitError::Tar(format!("`{path}` is cut short")));
        }
    }
    Ok(())
}

/// The path inside the tree; `None` for the top directory and git's own files.
fn entry_path(raw: &[u8]) -> Result<Option<String>, GitError> {
    let text = std::str::from_utf8(raw)
        .map_err(|_| GitError::UnsafePath(String::from_utf8_lossy(raw).into_owned()))?;
    let mut path = text;
    while let Some(rest) = path.strip_prefix("./") {
        path = rest;
    }
    let path = path.trim_end_matches('/');
    let in_git = path.split('/').any(|part| part.eq_ignore_ascii_case(".git"));
    if path.is_empty()
        || path == "."
        || (in_git && !path.split('/').any(|part| part == "..") && !path.starts_with('/'))
    {
        return Ok(None);
    }
    if is_safe_path(path) { Ok(Some(path.to_owned())) } else { Err(GitError::UnsafePath(path.to_owned())) }
}

/// Writes a tar archive whose bytes depend on the files alone: given order, no times, no owners.
pub fn pack_tar(files: &[TreeFile], to: &Path) -> Result<(), GitError> {
    let out = File::create(to).map_err(GitError::io("create", to))?;
    let mut builder = tar::Builder::new(std::io::BufWriter::new(out));
    for file in files {
        let content = File::open(&file.on_disk).map_err(GitError::io("open", &file.on_disk))?;
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(file.bytes);
        header.set_mode(if file.executable { 0o755 } else { 0o644 });
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        builder
            .append_data(&mut header, &file.path, content.take(file.bytes))
            .map_err(GitError::io("pack", &file.on_disk))?;
    }
    builder.into_inner().and_then(|mut w| std::io::Write::flush(&mut w)).map_err(GitError::io("write", to))
}
