//! The daemon's own secrets: files of 32 bytes as hex, readable by their owner alone.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::Context as _;

use crate::config::invalid;

/// Seed of the key that signs grants. Its public half is in [`GRANT_PUBLIC`], for the proxy.
pub(crate) const GRANT_KEY: &str = "grant.key";
pub(crate) const GRANT_PUBLIC: &str = "grant.pub";
/// Key of the lease tokens' MAC.
pub(crate) const LEASE_KEY: &str = "lease.key";

/// Reads a secret of 32 bytes, or makes it with `fresh` where there is none yet.
pub(crate) fn read_or_make(path: &Path, fresh: impl FnOnce() -> [u8; 32]) -> anyhow::Result<[u8; 32]> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            check_mode(path)?;
            let mut bytes = [0; 32];
            hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| {
                invalid(
                    &path.display().to_string(),
                    &"it does not hold 64 hex digits; restore it from a backup",
                )
            })?;
            Ok(bytes)
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let bytes = fresh();
            write_private(path, &hex::encode(bytes))?;
            Ok(bytes)
        }
        Err(e) => Err(e).with_context(|| format!("reading {}", path.display())),
    }
}

/// A secret that others can read is none.
fn check_mode(path: &Path) -> anyhow::Result<()> {
    let mode =
        std::fs::metadata(path).with_context(|| format!("reading {}", path.display()))?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let why = format!("its mode is {:04o}, others can read it; run chmod 600 on it", mode & 0o7777);
    Err(invalid(&path.display().to_string(), &why).into())
}

/// Writes a new file of mode 0600, whole or not at all, durable when this returns.
pub(crate) fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    replace(path, text, 0o600)
}

/// Writes a file that everybody may read.
pub(crate) fn write_public(path: &Path, text: &str) -> anyhow::Result<()> {
    replace(path, text, 0o644)
}

fn replace(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?;
    let beside = path.with_file_name(format!(".{}.new", name.to_string_lossy()));
    let write = || -> std::io::Result<()> {
        match std::fs::remove_file(&beside) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        match path.parent().filter(|p| !p.as_os_str().is_empty()) {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    };
    write().with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(GRANT_KEY);
        assert_eq!(read_or_make(&path, || [7; 32]).unwrap(), [7; 32]);
        assert_eq!(read_or_make(&path, || panic!("it exists")).unwrap(), [7; 32]);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no copy is left beside it");
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LEASE_KEY);
        read_or_make(&path, || [7; 32]).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read_or_make(&path, || [7; 32]).unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn a_damaged_secret_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LEASE_KEY);
        write_private(&path, "abc").unwrap();
        assert!(read_or_make(&path, || [7; 32]).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "abc\n");
    }
}
