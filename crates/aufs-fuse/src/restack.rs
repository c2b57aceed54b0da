//! Changes of the branches under a mount: who is in the way, and what the kernel has to ask again.
//!
//! While the union is changed no request is at work, so no node gets known or
//! opened. What the kernel only remembers it is told to forget, and what it
//! then still knows is in use: open, mapped, somebody's working directory, or
//! a mount point. Afterwards exactly the names that may lead elsewhere expire.

use std::collections::HashSet;
use std::ffi::OsString;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use aufs_fusedev::notify::Notifier;
use aufs_union::{Affected, BranchChange, Node, RestackError, Restacked, Users};
use rustix::fs::FileType;
use rustix::io::Errno;
use tracing::{debug, info};

use crate::options::DataMode;
use crate::shared::Shared;

/// How long a change waits in all for requests to end and for what is in use.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long others wait for one attempt.
const ATTEMPT: Duration = Duration::from_millis(100);
/// How long others go on between two attempts.
const PAUSE: Duration = Duration::from_millis(40);
/// Attempts against what is in use: a walk may come by.
const ATTEMPTS: usize = 6;
/// How long the kernel may take to forget what is not used.
const FORGETTING: Duration = Duration::from_millis(200);

impl Shared {
    /// Changes the branches; returns what the user should know about them.
    pub(crate) fn change_branches(&self, change: &BranchChange) -> Result<Vec<String>, RestackError> {
        let _one = self.changing.lock();
        let since = Instant::now();
        let mut attempts = 0;
        loop {
            let done = self.alone(ATTEMPT, |union| union.change_branches(change, |it| self.users(it)));
            match done {
                Some(Ok(None)) => return Ok(Vec::new()),
                Some(Ok(Some(done))) => {
                    info!(?change, "branches changed");
                    self.recent.clear();
                    self.tell_of_change(&done);
                    return Ok(done.warnings);
                }
                Some(Err(RestackError::Busy { .. })) if attempts < ATTEMPTS && since.elapsed() < PATIENCE => {
                    attempts += 1;
                }
                Some(Err(error)) => return Err(error),
                None if since.elapsed() < PATIENCE => (),
                None => {
                    let path = match change {
                        BranchChange::Add { spec, .. } => &spec.path,
                        BranchChange::Remove { path } | BranchChange::Modify { path, .. } => path,
                    };
                    let entry = "requests that take long are at work".into();
                    return Err(RestackError::Busy { path: path.clone(), entry });
                }
            }
            thread::sleep(PAUSE);
        }
    }

    /// Finds out who uses what a change affects.
    fn users(&self, affected: &Affected<'_>) -> Users {
        let losing: HashSet<u64> = affected.losing.iter().map(|it| it.id()).collect();
        // Without opens nobody knows who may write to a file.
        let may_be_written = |node: &Arc<Node>| {
            self.data == DataMode::NoOpen
                && node.file_type() == FileType::RegularFile
                && Some(node.branch()) == affected.demotes
        };
        self.recent.clear();
        let matters =
            |node: &Arc<Node>| losing.contains(&node.id()) || !node.has_name() || may_be_written(node);
        let mut known = self.numbers.select(matters);
        self.forget_unused(&known, false);
        // Names that are known to be missing hold their directory, and only the kernel knows those.
        let is_left =
            |it: &&(u64, Arc<Node>)| self.numbers.knows(it.0) && it.1.file_type() == FileType::Directory;
        let left: Vec<_> = known.iter().filter(is_left).cloned().collect();
        if affected.removes && self.notifier.can_prune() {
            self.forget_unused(&left, true);
        }
        known.retain(|(number, node)| {
            // Before Linux 6.18 the kernel cannot be told to forget directories without harm to who uses them.
            let is_known = self.notifier.can_prune() || node.file_type() != FileType::Directory;
            is_known && self.numbers.knows(*number)
        });
        let mut in_use: Vec<_> = known.into_iter().map(|it| it.1).collect();
        let mut written: Vec<_> = in_use.iter().filter(|it| may_be_written(it)).map(Arc::clone).collect();
        for handle in self.handles.all() {
            if handle.may_write {
                written.push(Arc::clone(&handle.node));
            }
            in_use.push(Arc::clone(&handle.node));
        }
        debug!(losing = losing.len(), in_use = in_use.len(), "users of the branches counted");
        Users { in_use, written }
    }

    /// Makes the kernel forget those of the nodes that nobody uses, and waits until it has.
    ///
    /// With `by_name` their names are dropped instead, and looked up anew by who goes on using them.
    fn forget_unused(&self, known: &[(u64, Arc<Node>)], by_name: bool) {
        if known.is_empty() {
            return;
        }
        let mut numbers: Vec<_> = known.iter().map(|(number, node)| (depth(node), *number)).collect();
        numbers.sort_unstable_by(|one, other| other.cmp(one));
        let numbers: Vec<u64> = numbers.into_iter().map(|it| it.1).collect();
        let names: Vec<_> = known.iter().filter_map(|(_, node)| name_of(node, by_name)).collect();
        let notifier = self.notifier.clone();
        let (tell, told) = mpsc::channel();
        // In a thread of its own: the kernel may wait for an answer of this server, which gives none now.
        let started = thread::Builder::new().name("aufs-forget".to_owned()).spawn(move || {
            let sent = send_forgets(&notifier, &numbers, &names, by_name);
            // Nobody hears it who has lost patience.
            if let Err(error) = tell.send(sent) {
                debug!(%error, "the kernel took long to forget");
            }
        });
        if let Err(error) = started {
            return debug!(%error, "no thread to make the kernel forget");
        }
        let since = Instant::now();
        if let Ok(Err(errno)) | Err(errno) = told.recv_timeout(FORGETTING).map_err(|_| Errno::TIMEDOUT) {
            debug!(%errno, "the kernel was not told what to forget");
        }
        let mut left = usize::MAX;
        let mut last_progress = Instant::now();
        while since.elapsed() < FORGETTING && last_progress.elapsed() < FORGETTING / 10 {
            let now = known.iter().filter(|(number, _)| self.numbers.knows(*number)).count();
            if now == 0 {
                return;
            }
            if now < left {
                (left, last_progress) = (now, Instant::now());
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Makes the kernel ask again for what may be otherwise now.
    fn tell_of_change(&self, done: &Restacked) {
        let mut told = 0;
        for (dir, names) in &done.stale {
            let number = dir.server_tag().load(Ordering::Relaxed);
            if number == 0 {
                continue; // The kernel knows no name in what it does not know.
            }
            for name in names {
                // It answers ENOENT for names it does not have.
                told += usize::from(self.notifier.name(number, name).is_ok());
            }
            if let Err(errno) = self.notifier.content(number) {
                debug!(%errno, number, "listing not invalidated");
            }
        }
        for node in &done.changed {
            match node.server_tag().load(Ordering::Relaxed) {
                0 => (),
                number => self.invalidate(number),
            }
        }
        debug!(directories = done.stale.len(), names = told, "the kernel was told of the change");
    }
}

fn send_forgets(
    notifier: &Notifier,
    numbers: &[u64],
    names: &[(u64, OsString)],
    by_name: bool,
) -> Result<(), Errno> {
    if notifier.can_prune() && !by_name {
        return notifier.unused(numbers);
    }
    for (parent, name) in names {
        match notifier.drop_name(*parent, name) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => (),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Returns the number of the directory a file lies in, and its name there; of a directory only if it `may_be_one`.
fn name_of(node: &Arc<Node>, may_be_one: bool) -> Option<(u64, OsString)> {
    if node.file_type() == FileType::Directory && !may_be_one || !node.has_name() {
        return None;
    }
    let parent = node.parent_or_self().server_tag().load(Ordering::Relaxed);
    let path = std::path::PathBuf::from(node.path_for_messages());
    Some((parent, path.file_name()?.to_owned()))
}

fn depth(node: &Arc<Node>) -> usize {
    let mut at = Arc::clone(node);
    let mut depth = 0;
    loop {
        let above = at.parent_or_self();
        if Arc::ptr_eq(&above, &at) {
            return depth;
        }
        (at, depth) = (above, depth + 1);
    }
}
