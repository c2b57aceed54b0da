//! New entries: files, directories, links, devices.
//!
//! A new entry is published before the whiteout it replaces goes: in one
//! branch the name beats its marker, so a crash in between changes nothing.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use aufs_host::draft::{Draft, Special, nameless_file};
use aufs_host::entry::Entry;
use aufs_host::remove::remove_tree;
use aufs_host::xattr;
use parking_lot::MutexGuard;
use rustix::fs::{self, FileType, Mode, OFlags, Stat};
use rustix::io::{self, Errno};
use tracing::warn;

use crate::attr::Creator;
use crate::branch::BranchIndex;
use crate::error::{During, Outcome, UnionError, UnionErrorKind};
use crate::facts::{has_marker, shown};
use crate::gather::Reach;
use crate::heir::{DEFAULT_ACL, Heir};
use crate::lookup::Found;
use crate::marker;
use crate::names;
use crate::node::{DirState, Node};
use crate::resolve::Shown;
use crate::spot::{Name, Spot};
use crate::union::Union;

/// A directory locked for a new entry whose name is free.
pub(crate) struct Place<'a> {
    pub(crate) state: MutexGuard<'a, DirState>,
    /// The directory on the writable branch.
    pub(crate) parent: Arc<OwnedFd>,
    /// Whether a whiteout of the name lies there.
    pub(crate) has_marker: bool,
}

/// What a new entry is, apart from regular files.
#[derive(Debug, Clone, Copy)]
pub enum New<'a> {
    /// A directory with these permission bits.
    Directory(u32),
    /// A symbolic link to this target.
    Symlink(&'a OsStr),
    /// A device, FIFO or socket: type and permission bits, device number.
    Node(u32, u64),
}

/// What a creation adds to the lookups after which a directory gets its index.
const CREATE_COUNTS_AS_PROBES: u32 = 4;

impl Union {
    /// Creates the regular file `name` and opens it for reading and writing.
    ///
    /// # Errors
    ///
    /// - `EEXIST`: the union shows the name already.
    /// - `EPERM`, `ENAMETOOLONG`: the name is reserved or too long.
    /// - `EROFS`: no writable branch at or above the directory.
    /// - else what the writable branch reports.
    pub fn create(
        &self,
        dir: &Arc<Node>,
        name: &OsStr,
        mode: u32,
        creator: Creator,
    ) -> Result<(Found, File), UnionError> {
        self.create_file(dir, name, mode, creator).during("create", name)
    }

    fn create_file(
        &self,
        dir: &Arc<Node>,
        name: &OsStr,
        mode: u32,
        creator: Creator,
    ) -> Outcome<(Found, File)> {
        let mut place = self.free_place(dir, name)?;
        let mode = self.effective_mode(&mut place.state, &place.parent, mode & 0o7777, creator)?;
        let file = if self.is_ours(creator) {
            self.with_room(|| create_named(&place.parent, name, mode))?
        } else {
            self.publish_file(&mut place, name, mode, creator)?
        };
        let stat = fs::fstat(&file).or_else(|errno| take_back(&place.parent, name, errno))?;
        let found = self.settle(dir, name, &stat, &mut place)?;
        Ok((found, file))
    }

    /// Creates an entry that is no regular file.
    ///
    /// # Errors
    ///
    /// As [`Union::create`]; `EPERM` for a device without privilege.
    pub fn create_special(
        &self,
        dir: &Arc<Node>,
        name: &OsStr,
        what: New<'_>,
        creator: Creator,
    ) -> Result<Found, UnionError> {
        self.create_entry(dir, name, what, creator).during("create", name)
    }

    fn create_entry(&self, dir: &Arc<Node>, name: &OsStr, what: New<'_>, creator: Creator) -> Outcome<Found> {
        let mut place = self.free_place(dir, name)?;
        let what = match what {
            New::Directory(mode) => {
                New::Directory(self.effective_mode(&mut place.state, &place.parent, mode, creator)?)
            }
            New::Node(mode, device) => {
                New::Node(self.effective_mode(&mut place.state, &place.parent, mode, creator)?, device)
            }
            New::Symlink(target) => New::Symlink(target),
        };
        let is_hiding = (place.has_marker || self.always_opaque) && matches!(what, New::Directory(_));
        if self.is_ours(creator) && !is_hiding {
            make(&place.parent, name, what)?;
        } else {
            self.publish_entry(&mut place, name, what, creator, is_hiding)?;
        }
        let stat = Entry::At(place.parent.as_fd(), name)
            .stat()
            .or_else(|errno| take_back(&place.parent, name, errno))?;
        self.settle(dir, name, &stat, &mut place)
    }

    /// Makes an entry that takes several steps out of sight, and gives it its name with the last.
    fn publish_entry(
        &self,
        place: &mut Place<'_>,
        name: &OsStr,
        what: New<'_>,
        creator: Creator,
        is_hiding: bool,
    ) -> Outcome<()> {
        let writable = self.writable()?;
        let group = self.group_of_new(&mut place.state, &place.parent, creator)?;
        let heir = self.heir_of(place)?;
        let drafts = heir.as_ref().map_or(writable.drafts.as_fd(), Heir::as_fd);
        let (special, mode) = match what {
            New::Directory(mode) => (Special::Directory, mode),
            New::Symlink(target) => (Special::Symlink(target), 0),
            New::Node(mode, device) => (Special::Node(FileType::from_raw_mode(mode), device), mode),
        };
        let mut draft = Draft::special(drafts, special, mode)?;
        if is_hiding {
            let root = &self.branch(writable.index)?.root;
            marker::put_opaque(root, &self.with_room(|| draft.open_directory())?)?;
        }
        if !self.is_ours(creator) {
            let set_id = if let New::Node(mode, _) = what { mode } else { 0 };
            give_owner(draft.entry(), creator.uid, group, set_id)?;
        }
        Ok(draft.publish(&place.parent, name)?)
    }

    /// Creates a regular file that has its owner before it has its name.
    fn publish_file(
        &self,
        place: &mut Place<'_>,
        name: &OsStr,
        mode: u32,
        creator: Creator,
    ) -> Outcome<File> {
        let group = self.group_of_new(&mut place.state, &place.parent, creator)?;
        if let Some(file) = self.with_room(|| nameless_file(&place.parent, mode))? {
            let entry = Entry::Open(file.as_fd());
            give_owner(entry, creator.uid, group, mode)?;
            entry.link(&place.parent, name)?;
            return Ok(file);
        }
        let heir = self.heir_of(place)?;
        let drafts = heir.as_ref().map_or(self.writable()?.drafts.as_fd(), Heir::as_fd);
        let mut draft = self.with_room(|| Draft::file(drafts, mode))?;
        give_owner(draft.entry(), creator.uid, group, mode)?;
        draft.publish(&place.parent, name)?;
        draft.into_published().ok_or(UnionErrorKind::Stale)
    }

    /// Gives `node` one more name.
    ///
    /// # Errors
    ///
    /// `EPERM` for directories, `EMLINK`; else as [`Union::create`].
    pub fn link(&self, node: &Arc<Node>, dir: &Arc<Node>, name: &OsStr) -> Result<Found, UnionError> {
        self.link_node(node, dir, name).during("link", name)
    }

    fn link_node(&self, node: &Arc<Node>, dir: &Arc<Node>, name: &OsStr) -> Outcome<Found> {
        if node.file_type() == FileType::Directory {
            return Err(UnionErrorKind::Branch(Errno::PERM));
        }
        names::check(name)?;
        self.copy_node_up(node, crate::copy_up::Keep::All)?;
        let target = self.writable()?.index;
        let mut place = self.free_place(dir, name)?;
        let shared_name = place.state.index.shared_name(name);
        let attr = {
            let mut spot = node.spot.write();
            self.link_bytes(&spot, &place.parent, name)?;
            let stat = Entry::At(place.parent.as_fd(), name)
                .stat()
                .or_else(|errno| take_back(&place.parent, name, errno))?;
            spot.held = None;
            spot.names.push(Name { dir: Arc::clone(dir), name: shared_name.clone(), branch: target });
            self.remember_linked(&stat, node);
            self.note_new_link(node);
            drop(spot);
            self.attr_of(node, &stat)
        };
        place.state.index.adopt(&shared_name, node);
        self.unmark(name, &mut place, node, target);
        Ok(Found { node: Arc::clone(node), attr })
    }

    /// Gives the file at `spot`, which lies on the writable branch, one more name there.
    pub(crate) fn link_bytes(&self, spot: &Spot, parent: &OwnedFd, name: &OsStr) -> Outcome<()> {
        if let Some(held) = &spot.held {
            return Ok(Entry::Held(held.as_fd()).link(parent, name)?);
        }
        let primary = spot.primary().ok_or(UnionErrorKind::NotFound)?;
        let source = self.dir_handle(&primary.dir, self.writable()?.index)?;
        Ok(Entry::At(source.as_fd(), &primary.name).link(parent, name)?)
    }

    /// Locks `dir`, on the writable branch too, when nothing is shown under `name`.
    pub(crate) fn free_place<'a>(&self, dir: &'a Arc<Node>, name: &OsStr) -> Outcome<Place<'a>> {
        names::check(name)?;
        let target = self.writable()?.index;
        loop {
            {
                // A taken name must not cost a copy-up of the directory.
                let mut state = dir.lock_dir()?;
                // Who creates here will create more, and each new name is looked up first.
                state.probes += CREATE_COUNTS_AS_PROBES;
                let held = self.held(dir, &mut state, name, Reach::Verdict)?;
                if shown(&held) != Shown::Nothing {
                    return Err(UnionErrorKind::Exists);
                }
                if state.branches.first().is_some_and(|top| *top < target) {
                    return Err(UnionErrorKind::NoWritableBranch);
                }
                if state.branches.contains(&target) {
                    let has_marker = has_marker(&held, target);
                    let parent = self.dir_handle(dir, target)?;
                    return Ok(Place { state, parent, has_marker });
                }
            }
            self.ensure_dir_up(dir)?;
        }
    }

    /// Makes a node of what was just created, and drops the whiteout it replaces.
    fn settle(&self, dir: &Arc<Node>, name: &OsStr, stat: &Stat, place: &mut Place<'_>) -> Outcome<Found> {
        let target = self.writable()?.index;
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let shared_name = place.state.index.shared_name(name);
        let own = Name { dir: Arc::clone(dir), name: shared_name.clone(), branch: target };
        let spot = Spot { branch: target, names: vec![own], held: None };
        let node = self.new_node(stat, spot);
        if file_type == FileType::Directory {
            let mut inside = node.lock_dir()?;
            inside.is_indexed = !self.revalidate; // There is nothing to read in it yet.
            inside.default_acl = place.state.default_acl.filter(|has_one| !has_one); // It would be inherited.
        }
        place.state.index.adopt(&shared_name, &node);
        self.unmark(name, place, &node, target);
        let attr = self.attr_of(&node, stat);
        Ok(Found { node, attr })
    }

    /// Makes a node of an entry that was just created on the branch of `spot`.
    pub(crate) fn new_node(&self, stat: &Stat, spot: Spot) -> Arc<Node> {
        self.origins.remove(&(stat.st_dev, stat.st_ino)); // The host reuses numbers.
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let branches = if file_type == FileType::Directory { vec![spot.branch] } else { Vec::new() };
        let ino = self.own_number(stat.st_dev, stat.st_ino);
        Arc::new(Node::new(self.next_id(), ino, file_type, spot, branches))
    }

    /// Notes the new entry, and drops the whiteout it replaces.
    fn unmark(&self, name: &OsStr, place: &mut Place<'_>, node: &Arc<Node>, target: BranchIndex) {
        Self::note(&mut place.state, |index| index.put_entry(name, target, node.file_type(), node.ino()));
        if place.has_marker {
            Self::drop_marker(&mut place.state, &place.parent, name, target);
        }
    }

    /// Removes a whiteout beside its own name, which means nothing there: failing to is no error.
    pub(crate) fn drop_marker(
        state: &mut MutexGuard<'_, DirState>,
        parent: &OwnedFd,
        name: &OsStr,
        target: BranchIndex,
    ) {
        match marker::remove_whiteout(parent, name) {
            Ok(()) => Self::note(state, |index| index.take_marker(name, target)),
            Err(errno) => warn!(?name, %errno, "a whiteout stays beside the entry that replaced it"),
        }
    }

    /// Applies the mask, unless the directory's default ACL is to decide instead.
    pub(crate) fn effective_mode(
        &self,
        state: &mut DirState,
        parent: &OwnedFd,
        mode: u32,
        creator: Creator,
    ) -> Outcome<u32> {
        let has_acl = match state.default_acl {
            Some(known) if !self.revalidate => known,
            _ if self.no_xattrs => false,
            _ => {
                let found = match xattr::get(Entry::Held(parent.as_fd()), OsStr::new(DEFAULT_ACL)) {
                    Err(Errno::OPNOTSUPP) => false,
                    other => other?.is_some(),
                };
                state.default_acl = Some(found);
                found
            }
        };
        Ok(if has_acl { mode } else { mode & !(creator.umask & 0o777) })
    }

    /// Returns the group to give to a new entry, none where the directory passes on its own (setgid).
    pub(crate) fn group_of_new(
        &self,
        state: &mut DirState,
        parent: &OwnedFd,
        creator: Creator,
    ) -> Outcome<Option<u32>> {
        const SET_GID: u32 = 0o2000;
        let passes_group = match state.passes_group {
            Some(known) if !self.revalidate => known,
            _ => fs::fstat(parent)?.st_mode & SET_GID != 0,
        };
        state.passes_group = Some(passes_group);
        Ok((!passes_group).then_some(creator.gid))
    }

    /// Whether what this process creates belongs to `creator` from the start.
    pub(crate) fn is_ours(&self, creator: Creator) -> bool {
        self.own_ids == (creator.uid, creator.gid)
    }
}

fn create_named(parent: &OwnedFd, name: &OsStr, mode: u32) -> io::Result<File> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(File::from(fs::openat(parent, name, flags, Mode::from_raw_mode(mode))?))
}

/// Removes a new entry again that nothing can be told of, so that the error its creator gets is true.
fn take_back<T>(parent: &OwnedFd, name: &OsStr, errno: Errno) -> io::Result<T> {
    if let Err(left) = remove_tree(parent, name) {
        warn!(?name, errno = %left, "a new entry whose creation failed stays");
    }
    Err(errno)
}

fn make(parent: &OwnedFd, name: &OsStr, what: New<'_>) -> Outcome<()> {
    match what {
        New::Directory(mode) => fs::mkdirat(parent, name, Mode::from_raw_mode(mode & 0o7777))?,
        New::Symlink(target) => fs::symlinkat(target, parent, name)?,
        New::Node(mode, device) => {
            fs::mknodat(
                parent,
                name,
                FileType::from_raw_mode(mode),
                Mode::from_raw_mode(mode & 0o7777),
                device,
            )?;
        }
    }
    Ok(())
}

/// Hands a new entry to its creator, without losing the set-id bits of the `mode` that was asked for.
pub(crate) fn give_owner(entry: Entry<'_>, uid: u32, group: Option<u32>, mode: u32) -> io::Result<()> {
    const SET_ID: u32 = 0o6000;
    entry.chown(Some(uid), group)?;
    if mode & SET_ID != 0 {
        let now = entry.stat()?.st_mode; // Without what chown cleared; a default ACL may have taken bits too.
        entry.chmod(now | (mode & SET_ID))?;
    }
    Ok(())
}
