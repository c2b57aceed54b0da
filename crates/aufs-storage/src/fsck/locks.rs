//! Waits for commands at work, so that what they are about to finish is not taken for what a crash left.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use tracing::warn;

use super::finding::Finding;
use super::read::Root;
use super::snapshot::state_path;
use crate::error::{StorageErrorKind, failed};
use crate::id::{INIT, LayerId};

/// How many locks are held at once; more are only waited for.
const HELD_MAX: usize = 256;

/// Who else may look at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// Others that only look.
    Readers,
    /// Nobody.
    Nobody,
}

/// Keeps everybody from making or removing images and containers until this is dropped; none where there never were any.
pub(super) fn hold_store(root: &Root, share: Share) -> Result<Option<OwnedFd>, StorageErrorKind> {
    let path = state_path("splits", "");
    let lock = match root.open_below(&path) {
        // Something else in its place is a finding.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        other => other.map_err(failed("open", root.path.join(&path)))?,
    };
    wait(&lock, share, "the images and containers").map_err(failed("flock", root.path.join(path)))?;
    Ok(Some(lock))
}

/// Waits until whoever works on what these findings tell of has finished, and keeps others from it until this is dropped.
pub(super) fn hold(root: &Root, findings: &[Finding]) -> Result<Vec<OwnedFd>, StorageErrorKind> {
    let layers: BTreeSet<_> = findings.iter().filter_map(|it| it.subject.clone()).collect();
    let of_init = |it: &LayerId| it.as_str().strip_suffix(INIT).and_then(|it| it.parse().ok());
    let containers: BTreeSet<_> = layers.iter().cloned().chain(layers.iter().filter_map(of_init)).collect();
    let mut held = Vec::new();
    // Whoever holds the lock of a container waits for those of layers, and those are taken in the order of ids.
    for (dir, ids) in [("locks", &containers), ("counts", &layers)] {
        for id in ids {
            let lock = hold_one(root, dir, id)?;
            held.extend(lock.filter(|_| held.len() < HELD_MAX));
        }
    }
    Ok(held)
}

fn hold_one(root: &Root, dir: &str, id: &LayerId) -> Result<Option<OwnedFd>, StorageErrorKind> {
    let path = state_path(dir, id);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let (dir, whole) = (path.parent().unwrap_or(Path::new("")), root.path.join(&path));
    loop {
        let dir = root.open_below(dir);
        let lock = match dir.and_then(|it| rustix::fs::openat(it, id.as_str(), flags, Mode::empty())) {
            // Nobody can have locked what is not there, or no file.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => return Ok(None),
            other => other.map_err(failed("open", &whole))?,
        };
        wait(&lock, Share::Readers, id.as_str()).map_err(failed("flock", &whole))?;
        // Who held it may have removed the layer, and the file with it, and somebody else made both anew.
        if 0 < rustix::fs::fstat(&lock).map_err(failed("fstat", &whole))?.st_nlink {
            return Ok(Some(lock));
        }
    }
}

/// Takes a lock; says so when that takes longer.
fn wait(lock: impl AsFd, share: Share, what: &str) -> Result<(), Errno> {
    let (at_once, operation) = match share {
        Share::Readers => (FlockOperation::NonBlockingLockShared, FlockOperation::LockShared),
        Share::Nobody => (FlockOperation::NonBlockingLockExclusive, FlockOperation::LockExclusive),
    };
    match retry_on_intr(|| rustix::fs::flock(&lock, at_once)) {
        Err(Errno::WOULDBLOCK) => {
            warn!("another command works on {what}; waiting for it");
            retry_on_intr(|| rustix::fs::flock(&lock, operation))
        }
        other => other,
    }
}
