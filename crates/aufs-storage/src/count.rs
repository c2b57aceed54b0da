//! Who uses a layer: a count on disk, shared by every process that drives this home.
//!
//! The count of a layer stands in a file of its own, which is locked while
//! anything is done with the layer. A count outlives the process that wrote it,
//! so it says for which mount it holds, and is believed only while that mount is there.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use aufs_host::errno::errno_of;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::id::LayerId;

/// Longest file read, in bytes; what we write has a third of that.
pub(crate) const LEN_MAX: u64 = 512;

/// What a count file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Since which start of the host; no mount lives longer.
    pub(crate) boot: String,
    /// For which mount; none for a base layer, which is used without one.
    pub(crate) mount: Option<u64>,
    /// How many have got the layer and not put it back.
    pub(crate) count: u64,
}

/// How a layer is there at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// A base layer: a directory, never mounted.
    Base,
    /// Not mounted.
    Idle,
    /// Mounted, by this mount.
    Mounted(u64),
    /// Mounted, but its server is gone.
    Dead,
}

/// How many use a layer, going by its record and by what is there.
///
/// A mount that no record knows was made by an earlier life of the driver, or by
/// Docker's, for one container; so Docker counts it too.
pub(crate) fn users(record: Option<&Record>, state: State, boot: &str) -> u64 {
    let record = record.filter(|it| it.boot == boot);
    match (state, record) {
        (State::Idle | State::Dead, _) | (State::Base, None) => 0,
        (State::Base, Some(record)) => record.count,
        (State::Mounted(mount), Some(record)) if record.mount == Some(mount) => record.count.max(1),
        (State::Mounted(_), _) => 1,
    }
}

/// How often, and how long apart, a lock is tried before anything is said of it: most are held for less.
const PATIENCE_TRIES: u32 = 50;
const PATIENCE_PAUSE: Duration = Duration::from_millis(20);

/// A layer that nobody else touches until this is dropped.
#[derive(Debug)]
pub(crate) struct Locked {
    file: File,
}

impl Locked {
    /// Waits for the layer.
    pub(crate) fn wait(counts: &OwnedFd, id: &LayerId) -> Result<Self, Errno> {
        Self::lock(counts, id, FlockOperation::LockExclusive)
    }

    /// Waits until nobody changes the layer, whom others may share it with.
    pub(crate) fn share(counts: &OwnedFd, id: &LayerId) -> Result<Self, Errno> {
        Self::lock(counts, id, FlockOperation::LockShared)
    }

    /// As [`Locked::wait`], for what may be held for long; says so when it is.
    pub(crate) fn wait_patiently(locks: &OwnedFd, id: &LayerId) -> Result<Self, Errno> {
        for _ in 0..PATIENCE_TRIES {
            match Self::lock(locks, id, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => std::thread::sleep(PATIENCE_PAUSE),
                other => return other,
            }
        }
        warn!("waiting for another command that works on {id}");
        Self::wait(locks, id)
    }

    fn lock(counts: &OwnedFd, id: &LayerId, operation: FlockOperation) -> Result<Self, Errno> {
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(counts, id.as_str(), flags, Mode::RUSR | Mode::WUSR)?;
            retry_on_intr(|| rustix::fs::flock(&fd, operation))?;
            // Who held the lock before may have removed the layer, and its file with it.
            if 0 < rustix::fs::fstat(&fd)?.st_nlink {
                return Ok(Self { file: File::from(fd) });
            }
        }
    }

    /// What the file says; nothing when it is empty or was not written to its end.
    pub(crate) fn record(&self) -> Result<Option<Record>, Errno> {
        let mut text = Vec::new();
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0)).map_err(errno_of)?;
        file.take(LEN_MAX).read_to_end(&mut text).map_err(errno_of)?;
        Ok(serde_json::from_slice(&text).ok())
    }

    /// Writes what the file is to say; it need not outlive the host, so nothing is flushed.
    pub(crate) fn write(&self, record: &Record) -> Result<(), Errno> {
        let text = serde_json::to_vec(record).map_err(|_| Errno::INVAL)?;
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0)).map_err(errno_of)?;
        file.write_all(&text).map_err(errno_of)?;
        self.file.set_len(text.len() as u64).map_err(errno_of)
    }

    /// Removes the file of a layer that is gone.
    pub(crate) fn remove(self, counts: impl AsFd, id: &LayerId) -> Result<(), Errno> {
        rustix::fs::unlinkat(counts, id.as_str(), AtFlags::empty())
    }
}

/// Which start of the host this is.
pub(crate) fn boot_id() -> Result<String, Errno> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(errno_of)?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_believed_while_its_mount_is_there() {
        let record = |boot: &str, mount, count| Some(Record { boot: boot.to_owned(), mount, count });
        for (case, record, state, expected) in [
            ("never used", None, State::Idle, 0),
            ("in use", record("now", Some(7), 3), State::Mounted(7), 3),
            ("unmounted by somebody else", record("now", Some(7), 3), State::Idle, 0),
            ("its server died", record("now", Some(7), 3), State::Dead, 0),
            ("mounted again by somebody else", record("now", Some(7), 3), State::Mounted(8), 1),
            ("mounted without a record", None, State::Mounted(8), 1),
            ("unmounting failed", record("now", Some(7), 0), State::Mounted(7), 1),
            ("before the host was started again", record("then", Some(7), 3), State::Mounted(7), 1),
            ("a base layer", record("now", None, 2), State::Base, 2),
            ("a base layer, never used", None, State::Base, 0),
            ("a base layer before the host was started again", record("then", None, 2), State::Base, 0),
        ] {
            assert_eq!(users(record.as_ref(), state, "now"), expected, "{case}");
        }
    }

    #[test]
    fn a_lock_is_never_that_of_a_removed_layer() {
        let dir = tempfile::tempdir().unwrap();
        let counts = OwnedFd::from(File::open(dir.path()).unwrap());
        let id: LayerId = "a".parse().unwrap();
        let first = Locked::wait(&counts, &id).unwrap();
        assert_eq!(first.record(), Ok(None));
        let record = Record { boot: "now".to_owned(), mount: Some(3), count: 2 };
        first.write(&record).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| Locked::wait(&counts, &id).unwrap().record());
            first.remove(&counts, &id).unwrap();
            assert_eq!(waiting.join().unwrap(), Ok(None), "the record went with the layer");
        });
        let again = Locked::wait(&counts, &id).unwrap();
        again.write(&record).unwrap();
        again.write(&Record { boot: "n".to_owned(), mount: None, count: 1 }).unwrap();
        assert_eq!(again.record().unwrap().map(|it| it.count), Some(1), "a shorter record is whole");
    }
}
