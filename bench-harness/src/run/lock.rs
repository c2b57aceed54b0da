//! One bench at a time: runs that share a disk would measure each other.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::{At as _, BenchError, BenchErrorKind, Result};

/// The right to measure below a directory; given back when dropped, or with the process.
#[derive(Debug)]
pub struct Lock {
    _dir: File,
}

impl Lock {
    /// Locks the directory `backing` itself, so that no file stays behind.
    ///
    /// # Errors
    ///
    /// - `Refused`: another bench has it.
    /// - else what creating or locking it reports.
    pub fn take(backing: &Path) -> Result<Self> {
        fs::create_dir_all(backing).at("create backing", backing)?;
        let dir = File::open(backing).at("open", backing)?;
        match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _dir: dir }),
            Err(Errno::WOULDBLOCK) => {
                let reason = "another aufs-bench measures there; wait for it, or give another --backing (`run` also takes \
                              --allow-concurrent, for noisier numbers)";
                Err(BenchError::new("lock", backing, BenchErrorKind::Refused(reason.to_owned())))
            }
            Err(errno) => Err(errno).at("lock", backing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_waits_for_the_first_to_go() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        let error = Lock::take(dir.path()).unwrap_err();
        assert!(error.line().contains("--allow-concurrent"), "{}", error.line());
        drop(first);
        Lock::take(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "no file stays behind");
    }
}
