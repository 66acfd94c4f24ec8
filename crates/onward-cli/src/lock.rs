//! Locks: one process at a time writes to a run directory, or to a stream's checkpoint.

use crate::exit::Usage;
use anyhow::{Context, Result};
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

/// A lock that is held until it is dropped, or until the process ends, however it ends. The file stays: it means nothing by
/// itself.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock that the file at `path` stands for.
    ///
    /// # Errors
    /// A [`Usage`] that says `taken` where another process holds it.
    pub fn take(path: &Path, taken: impl FnOnce() -> String) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("{}: it could not be written", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Usage(taken()).into()),
            // A file system that knows no locks cannot keep two processes apart, and is no reason not to train.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => Ok(Lock { _file: file }),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("{}: it could not be locked", path.display()))
            }
        }
    }

    /// Whether some process holds it.
    pub fn is_taken(path: &Path) -> bool {
        File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}
