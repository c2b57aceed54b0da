//! Unpacks a layer into a branch.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;

use aufs_host::entry::Entry;
use aufs_host::listing;
use aufs_host::remove::remove_tree;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::error::{ArchiveError, ArchiveErrorKind, Outcome, host};
use super::finish::Waiting;
use super::limits::{Limited, Limits};
use super::members::{Attributes, Member, MemberNode, Members};
use super::name::{self, CleanPath, NameFault, Stands};
use super::node;
use super::parents::{Parents, no_directory, open_beneath, open_in_root};
use super::pseudo_links::PseudoLinks;
use crate::changes;

/// How [`apply`] unpacks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApplyOptions {
    /// What the layer may ask for.
    pub limits: Limits,
    /// Whose the entries become.
    pub owners: Owners,
    /// What becomes of device nodes.
    pub devices: Devices,
}

/// Whose the entries of a layer become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owners {
    /// Those that the archive names, which only root can do.
    #[default]
    Archive,
    /// The caller's.
    Caller,
}

/// What becomes of device nodes, which only root of the host can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Devices {
    /// They are made; where the host refuses, that is an error.
    #[default]
    Make,
    /// They are made; where the host refuses, they are left out and counted, as Docker does in user namespaces.
    MakeOrSkip,
    /// They are an error.
    Refuse,
}

/// What [`apply`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// Entries of the archive, those that were left out included.
    pub entries: u64,
    /// What the directory holds now, as [`changes::size`] counts.
    pub size_bytes: u64,
    /// Length of the archive, with what stands behind its end.
    pub archive_bytes: u64,
    /// Entries left out since they are bookkeeping of the host that wrote the layer.
    pub skipped_bookkeeping: u64,
    /// Device nodes left out; see [`Devices::MakeOrSkip`].
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
    let during = |kind: ArchiveErrorKind| kind.during("apply", "");
    let mut archive = Members::new(tar, &options.limits);
    let mut applying = Applying::new(root, options).map_err(during)?;
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
    fn new(root: BorrowedFd<'a>, options: &'a ApplyOptions) -> Outcome<Self> {
        let mut was_empty = true;
        listing::visit(root, false, |_| was_empty = false).map_err(host("getdents64"))?;
        Ok(Self {
            options,
            parents: Parents::new(root),
            waiting: Waiting::new(&options.limits),
            pseudo_links: PseudoLinks::new(root),
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
        let root = self.parents.root();
        let refused = self.waiting.finish(root, self.options.owners);
        applied.refused_xattrs +=
            refused.map_err(|(path, kind)| kind.during("apply", OsString::from_vec(path)))?;
        if !self.was_empty || self.replaced != 0 {
            applied.size_bytes = changes::size(root)?;
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
        match path.stands_for().map_err(ArchiveErrorKind::Name)? {
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
        let owners = self.options.owners;
        match &member.node {
            MemberNode::File { len, .. } => {
                let (dir, name) = path.split();
                let (parent, replaced) = self.parent(dir)?;
                let refused = write_file(archive, parent, name, member, owners, replaced)?;
                self.applied.refused_xattrs += refused;
                self.applied.size_bytes += len;
                Ok(())
            }
            MemberNode::Directory => self.directory(path, attributes),
            MemberNode::Symlink { target } => self.symlink(path, target, attributes),
            MemberNode::HardLink { target } => self.hard_link(path, target, attributes),
            MemberNode::Fifo => self.special(path, FileType::Fifo, (0, 0), attributes),
            MemberNode::Device { .. } if self.options.devices == Devices::Refuse => {
                Err(ArchiveErrorKind::Device)
            }
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

    fn directory(&mut self, path: &CleanPath, attributes: &Attributes) -> Outcome<()> {
        let (dir, name) = path.split();
        let (parent, replaced) = self.parent(dir)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let before = *replaced;
        let make = || fs::mkdirat(parent, name, Mode::RWXU);
        match make() {
            Ok(()) => (),
            Err(Errno::EXIST) => match open_beneath(parent, name, flags) {
                Ok(_) => (), // They merge.
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    remove_tree(parent, name).map_err(host("unlinkat"))?;
                    *replaced += 1;
                    make().map_err(host("mkdirat"))?;
                }
                Err(errno) => return Err(host("openat2")(errno)),
            },
            Err(errno) => return Err(host("mkdirat")(errno)),
        }
        let handle = open_beneath(parent, name, flags).map_err(host("openat2"))?;
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
        let owners = self.options.owners;
        let (dir, name) = path.split();
        let (parent, replaced) = self.parent(dir)?;
        node::make_over(parent, name, replaced, || fs::symlinkat(target, parent, name))?
            .map_err(host("symlinkat"))?;
        let refused = node::dress(Entry::At(parent, name), attributes, owners, false)?;
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
        let ApplyOptions { owners, devices, .. } = self.options;
        let (dir, name) = path.split();
        let (parent, replaced) = self.parent(dir)?;
        let make = || node::create_special(parent, name, file_type, device);
        match node::make_over(parent, name, replaced, make)? {
            Ok(()) => (),
            Err(Errno::PERM) if file_type != FileType::Fifo => {
                if *devices == Devices::Make {
                    return Err(ArchiveErrorKind::Device);
                }
                self.applied.skipped_devices += 1;
                return Ok(());
            }
            Err(errno) => return Err(host("mknodat")(errno)),
        }
        let refused = node::dress(Entry::At(parent, name), attributes, *owners, true)?;
        self.applied.refused_xattrs += refused;
        Ok(())
    }

    fn hard_link(&mut self, path: &CleanPath, raw_target: &[u8], attributes: &Attributes) -> Outcome<()> {
        self.options.limits.check(Limited::LinkLen, raw_target.len() as u64)?;
        let target = name::link_path(raw_target, &self.options.limits)?;
        let (dir, name) = path.split();
        match target.stands_for().map_err(ArchiveErrorKind::LinkTarget)? {
            // One to itself is missing once it made way for itself.
            Stands::Plain => {
                let root = self.parents.root();
                let (target_dir, target_name) = target.split();
                let (parent, replaced) = self.parent(dir)?;
                if target_dir == dir {
                    link(parent, target_name, parent, name, replaced)?;
                } else {
                    let flags = OFlags::PATH | OFlags::DIRECTORY;
                    let source = open_in_root(root, &OsString::from_vec(target_dir.to_vec()), flags);
                    let source = source.map_err(|errno| match no_directory("openat2")(errno) {
                        ArchiveErrorKind::ParentNotDirectory => ArchiveErrorKind::LinkTargetMissing,
                        kind => kind,
                    })?;
                    link(source.as_fd(), target_name, parent, name, replaced)?;
                }
                self.dress_link(dir, name, attributes)
            }
            Stands::PseudoLink(key) => {
                let Self { parents, waiting, replaced, pseudo_links, .. } = self;
                let parent =
                    parents.open_or_make(dir, |path, handle| waiting.directory(path, handle, None))?;
                let len = pseudo_links
                    .link(key, |kept, kept_name| link(kept, kept_name, parent, name, replaced))?;
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
        let owners = self.options.owners;
        let (parent, _) = self.parent(dir)?;
        let entry = Entry::At(parent, name);
        let stat = entry.stat().map_err(host("newfstatat"))?;
        let is_symlink = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        let refused = node::dress(entry, attributes, owners, !is_symlink)?;
        self.applied.refused_xattrs += refused;
        Ok(())
    }

    fn marker(&mut self, path: &CleanPath, victim: Option<&OsStr>) -> Outcome<()> {
        let (dir, name) = path.split();
        let (parent, replaced) = self.parent(dir)?;
        // Of the same whiteout twice only the name counts, but its place may be taken by what is none.
        node::make_over(parent, name, replaced, || node::create_marker(parent, name))?
            .map_err(host("openat"))?;
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
        let (parent, name) = self.pseudo_links.place(key, len)?;
        let refused =
            write_file(archive, parent, OsStr::new(&name), member, self.options.owners, &mut self.replaced)?;
        self.applied.refused_xattrs += refused;
        Ok(())
    }
}

/// Makes a file with its data and attributes, and returns how many of those were refused.
fn write_file<R: Read>(
    archive: &mut Members<'_, R>,
    parent: BorrowedFd<'_>,
    name: &OsStr,
    member: &Member,
    owners: Owners,
    replaced: &mut u64,
) -> Outcome<node::Refused> {
    let MemberNode::File { len, extents } = &member.node else { return Ok(0) };
    let file = node::make_over(parent, name, replaced, || node::create(parent, name))?;
    let mut file = file.map_err(host("openat"))?;
    node::write_data(&mut file, archive, *len, extents.as_deref())?;
    let refused = node::dress(Entry::Open(file.as_fd()), &member.attributes, owners, true)?;
    node::close(file).map_err(host("close"))?;
    Ok(refused)
}

/// Makes `name` in `parent` a hard link to `source_name` in `source`.
fn link(
    source: BorrowedFd<'_>,
    source_name: &OsStr,
    parent: BorrowedFd<'_>,
    name: &OsStr,
    replaced: &mut u64,
) -> Outcome<()> {
    let make = || fs::linkat(source, source_name, parent, name, AtFlags::empty());
    let is_directory = || {
        let stat = Entry::At(source, source_name).stat();
        stat.is_ok_and(|it| FileType::from_raw_mode(it.st_mode) == FileType::Directory)
    };
    match node::make_over(parent, name, replaced, make)? {
        Ok(()) => Ok(()),
        Err(Errno::NOENT) => Err(ArchiveErrorKind::LinkTargetMissing),
        Err(Errno::PERM) if is_directory() => Err(ArchiveErrorKind::LinkTargetDirectory),
        Err(errno) => Err(host("linkat")(errno)),
    }
}
