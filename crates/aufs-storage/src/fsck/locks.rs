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

/// Waits until whoever works on what these findings tell of has finished.
pub(super) fn wait_for(root: &Root, findings: &[Finding]) -> Result<(), StorageErrorKind> {
    let subjects: BTreeSet<_> = findings.iter().filter_map(|it| it.subject.as_ref()).collect();
    for id in subjects {
        wait_for_one(root, "counts", id)?;
        wait_for_one(root, "locks", id)?;
        let container = id.as_str().strip_suffix(INIT).and_then(|it| it.parse::<LayerId>().ok());
        container.map_or(Ok(()), |it| wait_for_one(root, "locks", &it))?;
    }
    Ok(())
}

fn wait_for_one(root: &Root, dir: &str, id: &LayerId) -> Result<(), StorageErrorKind> {
    let path = state_path(dir, id);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = root
        .open_below(path.parent().unwrap_or(Path::new("")))
        .and_then(|dir| rustix::fs::openat(dir, id.as_str(), flags, Mode::empty()));
    let lock = match opened {
        // Nobody can have locked what is not there, or no file.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => return Ok(()),
        other => other.map_err(failed("open", root.path.join(&path)))?,
    };
    wait(&lock, Share::Readers, id.as_str()).map_err(failed("flock", root.path.join(path)))
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
