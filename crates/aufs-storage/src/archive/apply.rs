//! Unpacks a layer into a branch.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;

use aufs_host::entry::Entry;
use aufs_host::listing;
use aufs_host::remove::remove_tree;
use rustix::fs::{self, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::error::{ArchiveError, ArchiveErrorKind, Outcome, host};
use super::finish::Waiting;
use super::form::{Form, Ground};
use super::limits::Limited;
use super::members::{Attributes, Member, MemberNode, Members};
use super::name::{self, CleanPath, NameFault, Stands};
use super::node;
use super::options::{ApplyOptions, Devices};
use super::parents::{Parents, no_directory, open_beneath};
use super::place::Place;
use super::pseudo_links::PseudoLinks;
use crate::changes;

/// What [`apply`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// Entries of the archive, those that were left out included.
    pub entries: u64,
    /// What the directory holds now, as [`changes::size`] counts; of a [`Form::Tree`], what came into it.
    pub size_bytes: u64,
    /// Length of the archive, with what stands behind its end.
    pub archive_bytes: u64,
    /// Entries left out since they are bookkeeping of the host that wrote the layer.
    pub skipped_bookkeeping: u64,
    /// Device nodes left out; see [`Devices`].
    pub skipped_devices: u64,
    /// Extended attributes that the host would not take: its file system has none, or we may not set them.
    pub refused_xattrs: u64,
}

/// Unpacks the uncompressed layer `tar` into the directory `root`, in the form of a branch.
///
/// Whiteouts and opaque markers become empty files of mode 0444, by their name and whatever their type is. They are no
/// hard links of one file, as aufs itself makes them: to a union their names say all, and a layer without a
/// bookkeeping file at its root stays what was downloaded. Entries come over existing ones: of duplicates the last
/// stays, directories merge. The attributes of `root` stay as they are, as with Docker. Of what `root` held before,
/// an entry counts as if the layer had brought it.
///
/// The input is read to its end, so a reader that computes a digest has seen all. Empty input is an empty layer.
/// Nothing is synced: publish the directory after `syncfs(2)`.
///
/// Targets of symbolic links are kept as they are, also such as lead above the root, which Docker refuses: nothing here
/// follows one out of `root`, containers may make them, and a layer with one must stay readable.
///
/// # Errors
///
/// Whatever the archive holds, nothing outside `root` is touched. After an error `root` holds a part of the layer, and
/// the caller, who has not published it, throws it away. See [`ArchiveErrorKind`].
pub fn apply(root: BorrowedFd<'_>, tar: impl Read, options: &ApplyOptions) -> Result<Applied, ArchiveError> {
    apply_in(Ground::whole(root, options.form), tar, options)
}

/// As [`apply`], into a directory whose symbolic links may lead above it.
pub(crate) fn apply_in(
    ground: Ground<'_>,
    tar: impl Read,
    options: &ApplyOptions,
) -> Result<Applied, ArchiveError> {
    let during = |kind: ArchiveErrorKind| kind.during("apply", "");
    let mut archive = Members::new(tar, &options.limits);
    let mut applying = Applying::new(ground, options).map_err(during)?;
    let outcome = applying.all(&mut archive);
    let cleared = applying.pseudo_links.clear().map_err(during);
    outcome?;
    cleared?;
    applying.finish(archive.offset_bytes())
}

/// A layer on its way into a branch.
struct Applying<'a> {
    options: &'a ApplyOptions,
    parents: Parents<'a>,
    waiting: Waiting<'a>,
    pseudo_links: PseudoLinks<'a>,
    applied: Applied,
    /// Whether the branch held nothing before.
    was_empty: bool,
    /// How many entries had to go for others.
    replaced: u64,
    /// Bytes of files so far, holes included.
    bytes: u64,
}

impl<'a> Applying<'a> {
    fn new(ground: Ground<'a>, options: &'a ApplyOptions) -> Outcome<Self> {
        let mut was_empty = options.form == Form::Branch;
        if was_empty {
            listing::visit(ground.base, false, |_| was_empty = false).map_err(host("getdents64"))?;
        }
        Ok(Self {
            options,
            parents: Parents::new(ground),
            waiting: Waiting::new(&options.limits),
            pseudo_links: PseudoLinks::new(ground.base),
            applied: Applied::default(),
            was_empty,
            replaced: 0,
            bytes: 0,
        })
    }

    fn all<R: Read>(&mut self, archive: &mut Members<'_, R>) -> Result<(), ArchiveError> {
        loop {
            let Some(member) = archive.next().map_err(|kind| kind.during("apply", ""))? else {
                return Ok(());
            };
            let outcome = self.member(archive, &member);
            outcome.map_err(|kind| kind.during("apply", OsString::from_vec(member.path)))?;
        }
    }

    fn finish(self, archive_bytes: u64) -> Result<Applied, ArchiveError> {
        let mut applied = self.applied;
        applied.archive_bytes = archive_bytes;
        let ground = self.parents.ground();
        let refused = self.waiting.finish(&ground, self.options);
        applied.refused_xattrs +=
            refused.map_err(|(path, kind)| kind.during("apply", OsString::from_vec(path)))?;
        if self.options.form == Form::Branch && (!self.was_empty || self.replaced != 0) {
            applied.size_bytes = changes::size(ground.base)?;
        }
        Ok(applied)
    }

    /// Makes one entry.
    fn member<R: Read>(&mut self, archive: &mut Members<'_, R>, member: &Member) -> Outcome<()> {
        let limits = &self.options.limits;
        self.applied.entries += 1;
        limits.check(Limited::Entries, self.applied.entries)?;
        if let MemberNode::File { len, .. } = member.node {
            self.bytes = self.bytes.saturating_add(len);
            limits.check(Limited::Bytes, self.bytes)?;
        }
        let path = name::entry_path(&member.path, limits)?;
        let replaced = self.replaced;
        match path.stands_in(self.options.form).map_err(ArchiveErrorKind::Name)? {
            Stands::Root => (),
            Stands::Plain => self.plain(archive, &path, member)?,
            Stands::Marker(victim) => self.marker(&path, victim)?,
            Stands::PseudoLink(key) => self.pseudo_link(archive, key, member)?,
            Stands::Bookkeeping => self.applied.skipped_bookkeeping += 1,
        }
        if self.replaced != replaced {
            // A handle may be that of a directory that went, or that a symbolic link led to.
            self.parents.forget();
        }
        Ok(())
    }

    fn plain<R: Read>(
        &mut self,
        archive: &mut Members<'_, R>,
        path: &CleanPath,
        member: &Member,
    ) -> Outcome<()> {
        let attributes = &member.attributes;
        let options = self.options;
        match &member.node {
            MemberNode::File { len, .. } => {
                let refused = self.place(path)?.write_file(archive, member, options)?;
                self.applied.refused_xattrs += refused;
                self.applied.size_bytes += len;
                Ok(())
            }
            MemberNode::Directory => self.directory(path, attributes),
            MemberNode::Symlink { target } => self.symlink(path, target, attributes),
            MemberNode::HardLink { target } => self.hard_link(path, target, attributes),
            MemberNode::Fifo => self.special(path, FileType::Fifo, (0, 0), attributes),
            MemberNode::Device { .. } if options.devices == Devices::Skip => {
                self.applied.skipped_devices += 1;
                Ok(())
            }
            MemberNode::Device { .. } if options.devices == Devices::Refuse => Err(ArchiveErrorKind::Device),
            MemberNode::Device { is_block, major, minor } => {
                let file_type = if *is_block { FileType::BlockDevice } else { FileType::CharacterDevice };
                self.special(path, file_type, (*major, *minor), attributes)
            }
        }
    }

    /// Returns a handle on the directory `dir`, made where it is missing, and the count of what had to go.
    fn parent(&mut self, dir: &[u8]) -> Outcome<(BorrowedFd<'_>, &mut u64)> {
        let Self { parents, waiting, replaced, .. } = self;
        let parent = parents.open_or_make(dir, |path, handle| waiting.directory(path, handle, None))?;
        Ok((parent, replaced))
    }

    /// Returns where an entry is to be made.
    fn place<'s>(&'s mut self, path: &'s CleanPath) -> Outcome<Place<'s>> {
        let (dir, name) = path.split();
        let form = self.options.form;
        let (parent, replaced) = self.parent(dir)?;
        Ok(Place { parent, name, form, replaced })
    }

    fn directory(&mut self, path: &CleanPath, attributes: &Attributes) -> Outcome<()> {
        let (dir, name) = path.split();
        let form = self.options.form;
        let (parent, replaced) = self.parent(dir)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let before = *replaced;
        let make = || fs::mkdirat(parent, name, Mode::RWXU);
        match make() {
            Ok(()) => (),
            Err(Errno::EXIST) => match open_beneath(parent, name, flags, form) {
                Ok(_) => (), // They merge.
                Err(Errno::NOTDIR | Errno::LOOP) if form == Form::Tree => {
                    return Err(ArchiveErrorKind::OntoFile);
                }
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    remove_tree(parent, name).map_err(host("unlinkat"))?;
                    *replaced += 1;
                    make().map_err(host("mkdirat"))?;
                }
                Err(errno) => return Err(host("openat2")(errno)),
            },
            Err(errno) => return Err(host("mkdirat")(errno)),
        }
        let handle = open_beneath(parent, name, flags, form).map_err(host("openat2"))?;
        let is_chain_good = *replaced == before;
        self.waiting.directory(path.as_bytes(), handle.as_fd(), Some(attributes))?;
        if is_chain_good {
            self.parents.push(path.as_bytes(), handle);
        }
        Ok(())
    }

    fn symlink(&mut self, path: &CleanPath, target: &[u8], attributes: &Attributes) -> Outcome<()> {
        self.options.limits.check(Limited::LinkLen, target.len() as u64)?;
        if target.is_empty() {
            return Err(ArchiveErrorKind::LinkTarget(NameFault::Empty));
        }
        let options = self.options;
        let mut place = self.place(path)?;
        let parent = place.parent;
        place.make(|name| fs::symlinkat(target, parent, name))?.map_err(host("symlinkat"))?;
        let refused = node::dress(Entry::At(parent, place.name), attributes, options, false)?;
        self.applied.refused_xattrs += refused;
        self.applied.size_bytes += target.len() as u64;
        Ok(())
    }

    fn special(
        &mut self,
        path: &CleanPath,
        file_type: FileType,
        device: (u32, u32),
        attributes: &Attributes,
    ) -> Outcome<()> {
        let options = self.options;
        let mut place = self.place(path)?;
        let parent = place.parent;
        match place.make(|name| node::create_special(parent, name, file_type, device))? {
            Ok(()) => (),
            Err(Errno::PERM) if file_type != FileType::Fifo => {
                if options.devices == Devices::Make {
                    return Err(ArchiveErrorKind::Device);
                }
                self.applied.skipped_devices += 1;
                return Ok(());
            }
            Err(errno) => return Err(host("mknodat")(errno)),
        }
        let refused = node::dress(Entry::At(parent, place.name), attributes, options, true)?;
        self.applied.refused_xattrs += refused;
        Ok(())
    }

    fn hard_link(&mut self, path: &CleanPath, raw_target: &[u8], attributes: &Attributes) -> Outcome<()> {
        self.options.limits.check(Limited::LinkLen, raw_target.len() as u64)?;
        let target = name::link_path(raw_target, &self.options.limits)?;
        let (dir, name) = path.split();
        match target.stands_in(self.options.form).map_err(ArchiveErrorKind::LinkTarget)? {
            // One to itself is missing once it made way for itself.
            Stands::Plain => {
                let ground = self.parents.ground();
                let (target_dir, target_name) = target.split();
                let place = self.place(path)?;
                if target_dir == dir {
                    let parent = place.parent;
                    place.link(parent, target_name)?;
                } else {
                    let source = ground.open(target_dir, OFlags::PATH | OFlags::DIRECTORY);
                    let source = source.map_err(|errno| match no_directory("openat2")(errno) {
                        ArchiveErrorKind::ParentNotDirectory => ArchiveErrorKind::LinkTargetMissing,
                        kind => kind,
                    })?;
                    place.link(source.as_fd(), target_name)?;
                }
                self.dress_link(dir, name, attributes)
            }
            Stands::PseudoLink(key) => {
                let form = self.options.form;
                let Self { parents, waiting, replaced, pseudo_links, .. } = self;
                let parent =
                    parents.open_or_make(dir, |path, handle| waiting.directory(path, handle, None))?;
                let len = pseudo_links.link(key, |kept, kept_name| {
                    Place { parent, name, form, replaced: &mut *replaced }.link(kept, kept_name)
                })?;
                self.applied.size_bytes += len;
                Ok(())
            }
            Stands::Root => Err(ArchiveErrorKind::LinkTargetDirectory),
            Stands::Marker(_) => Err(ArchiveErrorKind::LinkTargetMarker),
            Stands::Bookkeeping => Err(ArchiveErrorKind::LinkTargetMissing),
        }
    }

    /// Gives a hard link the attributes of its own entry, as Docker does.
    ///
    /// Not where the branch held something before: its files may have names elsewhere.
    fn dress_link(&mut self, dir: &[u8], name: &OsStr, attributes: &Attributes) -> Outcome<()> {
        if !self.was_empty {
            return Ok(());
        }
        let options = self.options;
        let (parent, _) = self.parent(dir)?;
        let entry = Entry::At(parent, name);
        let stat = entry.stat().map_err(host("newfstatat"))?;
        let is_symlink = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        let refused = node::dress(entry, attributes, options, !is_symlink)?;
        self.applied.refused_xattrs += refused;
        Ok(())
    }

    fn marker(&mut self, path: &CleanPath, victim: Option<&OsStr>) -> Outcome<()> {
        let (dir, _) = path.split();
        let mut place = self.place(path)?;
        let parent = place.parent;
        // Of the same whiteout twice only the name counts, but its place may be taken by what is none.
        place.make(|name| node::create_marker(parent, name))?.map_err(host("openat"))?;
        match victim {
            Some(victim) => self.waiting.whiteout(dir, victim),
            None => Ok(()),
        }
    }

    fn pseudo_link<R: Read>(
        &mut self,
        archive: &mut Members<'_, R>,
        key: &OsStr,
        member: &Member,
    ) -> Outcome<()> {
        self.applied.skipped_bookkeeping += 1;
        let MemberNode::File { len, .. } = member.node else { return Ok(()) };
        self.waiting.hold(key.len())?;
        let form = self.options.form;
        let (parent, name) = self.pseudo_links.place(key, len)?;
        let place = Place { parent, name: OsStr::new(&name), form, replaced: &mut self.replaced };
        let refused = place.write_file(archive, member, self.options)?;
        self.applied.refused_xattrs += refused;
        Ok(())
    }
}
