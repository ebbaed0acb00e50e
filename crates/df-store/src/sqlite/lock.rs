//! One process per data directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::Path;

use crate::StoreError;
use crate::rows::Kept;

const FILE: &str = "lock";
/// More than a process id never is.
const MAX_PID_BYTES: u64 = 32;

/// Held until dropped; the kernel lets go of it however the process ends.
pub(crate) struct DirLock(#[expect(dead_code, reason = "open = locked")] File);

impl DirLock {
    pub(crate) fn take(dir: &Path) -> Kept<Self> {
        let path = dir.join(FILE);
        let wrong = |what| {
            let path = path.clone();
            move |source| StoreError::File { what, path, source }
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(wrong("opening"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                file.take(MAX_PID_BYTES).read_to_string(&mut pid).map_err(wrong("reading"))?;
                return Err(StoreError::Locked { dir: dir.to_owned(), pid: pid.trim().to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(wrong("locking")(source)),
        }
        file.set_len(0).map_err(wrong("writing"))?;
        writeln!(file, "{}", std::process::id()).map_err(wrong("writing"))?;
        Ok(Self(file))
    }
}
