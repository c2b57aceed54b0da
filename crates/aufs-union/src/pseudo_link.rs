//! Keeps the names of a copied-up file together, as kernel aufs does with its pseudo-links.
//!
//! A lower file with several names is copied up under one of them. The copy
//! gets one more name, in `.wh..wh.plnk` of the writable branch, so that its
//! bytes stay while only lower names lead to it. When the union ends, those
//! names become real links of the copy, and the pseudo-link goes; where that did
//! not happen, the next union on the branch does it before anybody looks.
//!
//! Kernel aufs calls a pseudo-link `INO.HINO`: the number that programs saw,
//! which means nothing after the mount, and that of the copy. Ours has
//! `INO.HINO.CTIME`: number and time of change (ns) of the lower file, by which it is
//! found again, and not mistaken for another that got its number.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::sync::Arc;

use aufs_host::draft::read_names;
use aufs_host::entry::Entry;
use aufs_host::tree;
use rustix::fs::{self, AtFlags, FileType, Stat};
use rustix::io::Errno;
use tracing::{debug, warn};

use crate::error::{During, Outcome, UnionError, UnionErrorKind};
use crate::names::{self, PSEUDO_LINKS};
use crate::node::Node;
use crate::union::Union;

/// A lower file, as it was when it was copied up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    ino: u64,
    changed_ns: i128,
}

impl Origin {
    pub(crate) fn of(stat: &Stat) -> Self {
        const NS_PER_S: i128 = 1_000_000_000;
        let changed_ns = i128::from(stat.st_ctime) * NS_PER_S + i128::from(stat.st_ctime_nsec);
        Self { ino: stat.st_ino, changed_ns }
    }

    /// Returns the pseudo-link's name for the copy with this inode number.
    fn name_for(self, copy_ino: u64) -> OsString {
        OsString::from(format!("{}.{copy_ino}.{}", self.ino, self.changed_ns))
    }

    /// Reads a pseudo-link's name; none unless it is one of ours, and of the copy with this number.
    fn from_name(name: &OsStr, copy_ino: u64) -> Option<Self> {
        let mut parts = name.to_str()?.split('.');
        let (ino, copy, changed_ns) = (parts.next()?, parts.next()?, parts.next()?);
        let origin = Self { ino: ino.parse().ok()?, changed_ns: changed_ns.parse().ok()? };
        // Only what we would write ourselves, so no signs, leading zeros or fourth parts.
        (copy.parse() == Ok(copy_ino) && origin.name_for(copy_ino) == name).then_some(origin)
    }
}

/// Pseudo-links that are to become real links.
type Wanted<T> = HashMap<Origin, T>;

impl Union {
    /// Puts up a pseudo-link for `copy`, which is still out of sight.
    pub(crate) fn put_pseudo_link(&self, copy: Entry<'_>, made: &Stat, origin: Origin) -> Outcome<OsString> {
        let dir = &self.writable()?.pseudo_links;
        let name = origin.name_for(made.st_ino);
        match copy.link(dir, &name) {
            // The inode number is new, so what has this name cannot be a pseudo-link of anything.
            Err(Errno::EXIST) => {
                fs::unlinkat(dir, &name, AtFlags::empty())?;
                copy.link(dir, &name)?;
            }
            other => other?,
        }
        Ok(name)
    }

    /// Takes a pseudo-link down that has nothing to stand for any more.
    pub(crate) fn remove_pseudo_link(&self, name: &OsStr) -> Outcome<()> {
        match fs::unlinkat(&self.writable()?.pseudo_links, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes every name of copied-up files a real link on the writable branch, and takes the pseudo-links down.
    ///
    /// For the end of a union. Reads the names of whole lower branches, if any
    /// pseudo-link stands for one; returns how many names were linked.
    ///
    /// # Errors
    ///
    /// What the branches report; pseudo-links that were not done stay for the next union on the branch.
    pub fn flush_pseudo_links(&self) -> Result<usize, UnionError> {
        self.flush_links().during("flush pseudo-links in", OsStr::new(PSEUDO_LINKS))
    }

    fn flush_links(&self) -> Outcome<usize> {
        let pending = self.links.collect(|group| {
            let (name, origin) = group.pseudo_link.clone()?;
            Some((origin, (Arc::clone(&group.node), name)))
        });
        if pending.is_empty() {
            return Ok(0);
        }
        let wanted: Wanted<_> = pending.into_iter().collect();
        let mut linked = 0;
        for (origin, path) in self.find_origins(&wanted)? {
            let Some((node, _)) = wanted.get(&origin) else { continue };
            let Some((dir, name)) = self.find_shown(&path)? else { continue };
            let shown = self.find_locked(&dir, &mut *dir.lock_dir()?, &name)?;
            if shown.is_some_and(|it| Arc::ptr_eq(&it.node, node)) {
                match self.ensure_name_up(node, &dir, &name) {
                    Ok(()) => linked += 1,
                    // A branch above goes on showing what it has there, so this name cannot move.
                    Err(UnionErrorKind::NoWritableBranch) => (),
                    Err(kind) => return Err(kind),
                }
            }
        }
        for (node, name) in wanted.values() {
            self.remove_pseudo_link(name)?;
            // All names are on one branch now, whose count is right: names that were hidden do not count any more.
            self.links.remove(&node.id());
            self.attributes_changed(node);
        }
        debug!(linked, files = wanted.len(), "pseudo-links flushed");
        Ok(linked)
    }

    /// Does what a union on the writable branch left undone when it was killed; nobody may know a node yet.
    pub(crate) fn recover_pseudo_links(&self) -> Outcome<()> {
        let Some(writable) = &self.writable else { return Ok(()) };
        let dir = &writable.pseudo_links;
        let (mut wanted, mut others) = (Wanted::new(), Vec::new());
        for name in read_names(dir)? {
            let stat = Entry::At(dir.as_fd(), &name).stat()?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                warn!(?name, "what lies among the pseudo-links is none");
                continue;
            }
            match Origin::from_name(&name, stat.st_ino) {
                Some(origin) if !wanted.contains_key(&origin) => {
                    wanted.insert(origin, name);
                }
                _ => others.push(name),
            }
        }
        if wanted.is_empty() && others.is_empty() {
            return Ok(());
        }
        let found = self.find_origins(&wanted)?;
        for (origin, path) in &found {
            let Some(pseudo_link) = wanted.get(origin) else { continue };
            let Some((dir, name)) = self.find_shown(path)? else { continue };
            match self.link_recovered(&dir, &name, *origin, pseudo_link) {
                Err(UnionErrorKind::NoWritableBranch) => (),
                other => other?,
            }
        }
        let is_known: HashSet<&OsString> = found.iter().filter_map(|(it, _)| wanted.get(it)).collect();
        for name in wanted.values().chain(&others) {
            // Of a file that is not there, and has no other name, this is the last way to the bytes.
            if is_known.contains(name) || 1 < Entry::At(dir.as_fd(), name).stat()?.st_nlink {
                self.remove_pseudo_link(name)?;
            } else {
                warn!(
                    ?name,
                    "a pseudo-link in {PSEUDO_LINKS} belongs to no file of these branches; it stays"
                );
            }
        }
        Ok(())
    }

    /// Gives the copy the name of its origin, if the union still shows that there.
    fn link_recovered(
        &self,
        dir: &Arc<Node>,
        name: &OsStr,
        origin: Origin,
        pseudo_link: &OsStr,
    ) -> Outcome<()> {
        let writable = self.writable()?;
        let shows_origin = {
            let Some(found) = self.find_locked(dir, &mut *dir.lock_dir()?, name)? else { return Ok(()) };
            found.node.file_type() != FileType::Directory
                && self.on_entry(&found.node, |branch, entry| {
                    Ok(branch != writable.index && Origin::of(&entry.stat()?) == origin)
                })?
        };
        if !shows_origin {
            return Ok(());
        }
        self.ensure_dir_up(dir)?;
        let mut state = dir.lock_dir()?;
        let parent = self.dir_handle(dir, writable.index)?;
        let copy = Entry::At(writable.pseudo_links.as_fd(), pseudo_link);
        copy.link(&parent, name)?;
        let stat = copy.stat()?;
        let ino = self.number(stat.st_dev, stat.st_ino);
        Self::note(&mut state, |index| {
            index.put_entry(name, writable.index, FileType::from_raw_mode(stat.st_mode), ino);
        });
        Ok(())
    }

    /// Returns the paths, on all branches below the writable one, of the files that are wanted.
    ///
    /// Ends as soon as each has been seen as often as it has names.
    fn find_origins<T>(&self, wanted: &Wanted<T>) -> Outcome<Vec<(Origin, Vec<OsString>)>> {
        let inos: HashSet<u64> = wanted.keys().map(|it| it.ino).collect();
        let (mut found, mut left, mut complete) = (Vec::new(), HashMap::new(), 0);
        let mut flow = ControlFlow::Continue(());
        for (_, branch) in self.branches.below(self.writable()?.index) {
            if flow.is_break() || wanted.is_empty() {
                break;
            }
            tree::walk(&*branch.root, |dir, path, entry| {
                if !inos.contains(&entry.ino) || entry.file_type == FileType::Directory {
                    return Ok(flow);
                }
                let stat = Entry::At(dir.as_fd(), entry.name).stat()?;
                let origin = Origin::of(&stat);
                if wanted.contains_key(&origin) {
                    found.push((origin, path.iter().cloned().chain([entry.name.to_owned()]).collect()));
                    let left = left.entry(origin).or_insert(stat.st_nlink);
                    *left = left.saturating_sub(1);
                    complete += usize::from(*left == 0);
                    if complete == wanted.len() {
                        flow = ControlFlow::Break(());
                    }
                }
                Ok(flow)
            })?;
        }
        Ok(found)
    }

    /// Returns the directory that the union shows at all but the last part of `path`, with that part.
    fn find_shown(&self, path: &[OsString]) -> Outcome<Option<(Arc<Node>, OsString)>> {
        let Some((last, above)) = path.split_last() else { return Ok(None) };
        if path.iter().any(|name| names::check(name).is_err()) {
            return Ok(None);
        }
        let mut dir = Arc::clone(&self.root);
        for name in above {
            let found = self.find_locked(&dir, &mut *dir.lock_dir()?, name)?;
            match found {
                Some(found) if found.node.file_type() == FileType::Directory => dir = found.node,
                _ => return Ok(None),
            }
        }
        Ok(Some((dir, last.clone())))
    }
}
