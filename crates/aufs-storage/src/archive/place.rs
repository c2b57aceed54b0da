//! Gives entries their names: in a branch over whatever is there, in a tree in one step.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};

use aufs_host::draft::{Draft, name_beside, take_over};
use aufs_host::entry::Entry;
use aufs_host::errno_of;
use aufs_host::remove::remove_tree;
use rustix::fs::{self, AtFlags, FileType};
use rustix::io::Errno;

use super::error::{ArchiveErrorKind, Outcome, host};
use super::form::Form;
use super::members::{Member, MemberNode, Members};
use super::node;
use super::options::ApplyOptions;

/// A name in a directory, which may be taken.
pub(crate) struct Place<'a> {
    pub(crate) parent: BorrowedFd<'a>,
    pub(crate) name: &'a OsStr,
    pub(crate) form: Form,
    /// How many entries had to go for others.
    pub(crate) replaced: &'a mut u64,
}

impl Place<'_> {
    /// Makes an entry by `make`, which is told the name; what is in its way goes.
    pub(crate) fn make<T>(
        &mut self,
        mut make: impl FnMut(&OsStr) -> Result<T, Errno>,
    ) -> Outcome<Result<T, Errno>> {
        match make(self.name) {
            Err(Errno::EXIST) => (),
            other => return Ok(other),
        }
        if self.form == Form::Branch {
            remove_tree(self.parent, self.name).map_err(host("unlinkat"))?;
            *self.replaced += 1;
            return Ok(make(self.name));
        }
        self.refuse_directory()?;
        let beside = name_beside();
        let made = match make(&beside) {
            Ok(made) => made,
            refused => return Ok(refused),
        };
        take_over(self.parent, &beside, self.name).map_err(taken)?;
        Ok(Ok(made))
    }

    /// Counts what has the name, which in a tree must not be a directory.
    fn refuse_directory(&mut self) -> Outcome<()> {
        match Entry::At(self.parent, self.name).stat() {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                Err(ArchiveErrorKind::OntoDirectory)
            }
            Ok(_) => {
                *self.replaced += 1;
                Ok(())
            }
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(host("newfstatat")(errno)),
        }
    }

    /// Makes a file with its data and attributes, and returns how many of those were refused.
    pub(crate) fn write_file<R: Read>(
        mut self,
        archive: &mut Members<'_, R>,
        member: &Member,
        options: &ApplyOptions,
    ) -> Outcome<node::Refused> {
        let MemberNode::File { len, extents } = &member.node else { return Ok(0) };
        let mut fill = |file: &File| node::write_data(file, archive, *len, extents.as_deref());
        if self.form == Form::Tree {
            return self.write_draft(fill, member, options);
        }
        let parent = self.parent;
        let file = self.make(|name| node::create(parent, name))?.map_err(host("openat"))?;
        fill(&file)?;
        let refused = node::dress(Entry::Open(file.as_fd()), &member.attributes, options, true)?;
        node::close(file).map_err(host("close"))?;
        Ok(refused)
    }

    /// As [`Place::write_file`], out of sight until the file is whole.
    fn write_draft(
        mut self,
        fill: impl FnOnce(&File) -> Outcome<()>,
        member: &Member,
        options: &ApplyOptions,
    ) -> Outcome<node::Refused> {
        self.refuse_directory()?;
        let mut draft = Draft::file(self.parent, 0o600).map_err(host("openat"))?;
        let file = draft.as_file().ok_or(Errno::INVAL).map_err(host("openat"))?;
        fill(file)?;
        flush(file).map_err(host("close"))?;
        let refused = node::dress(draft.entry(), &member.attributes, options, true)?;
        draft.replace(self.parent, self.name).map_err(taken)?;
        if let Some(file) = draft.into_published() {
            node::close(file).map_err(host("close"))?;
        }
        Ok(refused)
    }

    /// Makes the name a hard link to `source_name` in `source`.
    pub(crate) fn link(mut self, source: BorrowedFd<'_>, source_name: &OsStr) -> Outcome<()> {
        let parent = self.parent;
        let make = |name: &OsStr| fs::linkat(source, source_name, parent, name, AtFlags::empty());
        let is_directory = || {
            let stat = Entry::At(source, source_name).stat();
            stat.is_ok_and(|it| FileType::from_raw_mode(it.st_mode) == FileType::Directory)
        };
        match self.make(make)? {
            Ok(()) => Ok(()),
            Err(Errno::NOENT) => Err(ArchiveErrorKind::LinkTargetMissing),
            Err(Errno::PERM) if is_directory() => Err(ArchiveErrorKind::LinkTargetDirectory),
            Err(errno) => Err(host("linkat")(errno)),
        }
    }
}

/// Reports what a file system may otherwise say of written data only when the file is closed, and has a name by then.
fn flush(file: &File) -> Result<(), Errno> {
    node::close(file.try_clone().map_err(errno_of)?)
}

/// Tells a directory that took the name meanwhile from what else a rename may report.
fn taken(errno: Errno) -> ArchiveErrorKind {
    match errno {
        Errno::ISDIR => ArchiveErrorKind::OntoDirectory,
        errno => host("renameat2")(errno),
    }
}
