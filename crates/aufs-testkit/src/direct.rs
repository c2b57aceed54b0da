//! The union's own interface on plain directories, without a mount.
//!
//! Stands in for the kernel: paths, permissions, open files and the checks that
//! the VFS makes before it asks a file system.

mod files;
mod names;
mod rename;
mod stack;
mod xattrs;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use aufs_union::attr::{Creator, SetAttr};
use aufs_union::{Found, New, Node, Union};
use rustix::fs::{Access, FallocateFlags, FileType, Mode, OFlags, RenameFlags, SeekFrom, XattrFlags};
use rustix::io::Errno;

use self::files::OpenNode;
use self::stack::{change_branches, open_union};
use crate::host_calls::HostCalls;
use crate::subject::{Fault, Final, Outcome, Position, Stat, Subject};
use crate::walk::{Caller, Place, READ, WRITE, errno_of, found, walk};

/// A union opened in this process.
#[derive(Debug)]
pub struct Direct {
    host: HostCalls,
    options: String,
    read_only: bool,
    union: Option<Arc<Union>>,
    caller: Caller,
    umask: u32,
}

/// An open file of a union, or of a branch addressed directly.
#[derive(Debug)]
pub enum Handle {
    /// Below `@BRANCH`, or below the mount point while nothing is mounted.
    Host(OwnedFd),
    /// In the union.
    Union(OpenNode),
}

/// Who this process is.
fn process_caller() -> Caller {
    use rustix::process::{getegid, geteuid};
    Caller { uid: geteuid().as_raw(), gid: getegid().as_raw() }
}

/// Whether a path is the host's: a branch addressed directly.
fn is_host(path: &str) -> bool {
    path.starts_with('@')
}

impl Direct {
    /// `options` name branches by their full paths.
    pub fn new(host: HostCalls, options: String, read_only: bool) -> Self {
        Self { host, options, read_only, union: None, caller: process_caller(), umask: 0o022 }
    }

    /// The same union, for another thread.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self {
            host: self.host.clone(),
            options: self.options.clone(),
            read_only: self.read_only,
            union: self.union.clone(),
            caller: self.caller,
            umask: self.umask,
        }
    }

    /// The union, if the call is for it and not for the host.
    fn union_for(&self, path: &str) -> Option<&Union> {
        if is_host(path) { None } else { self.union.as_deref() }
    }

    fn mounted(&self) -> Outcome<&Union> {
        self.union.as_deref().ok_or(Fault::Errno(Errno::STALE))
    }

    fn creator(&self) -> Creator {
        Creator { uid: self.caller.uid, gid: self.caller.gid, umask: self.umask }
    }

    fn refuse_read_only(&self) -> Outcome<()> {
        let has_branch = self.union.as_ref().is_none_or(|it| it.writable_branch().is_some());
        if self.read_only || !has_branch { Err(Errno::ROFS.into()) } else { Ok(()) }
    }

    fn walk(&self, union: &Union, path: &str, last: Final) -> Outcome<Place> {
        walk(union, self.caller, path, last)
    }

    /// An existing entry whose attributes its owner wants to change.
    fn owned(&self, union: &Union, path: &str, last: Final) -> Outcome<Found> {
        let found = self.walk(union, path, last)?.existing()?;
        self.refuse_read_only()?;
        if self.caller.owns(&found.attr) { Ok(found) } else { Err(Errno::PERM.into()) }
    }

    fn change(&self, union: &Union, node: &Arc<Node>, change: &SetAttr) -> Outcome<()> {
        union.set_attributes(node, change).map_err(errno_of)?;
        Ok(())
    }

    fn list_node(&self, union: &Union, node: &Arc<Node>) -> Outcome<Vec<String>> {
        let (mut names, mut offset) = (Vec::new(), 0);
        loop {
            let entries = union.read_directory(node, offset, 64).map_err(errno_of)?;
            let Some(end) = entries.last() else { break };
            offset = end.next_offset;
            names.extend(entries.iter().map(|it| it.name.to_string_lossy().into_owned()));
        }
        names.sort();
        Ok(names)
    }
}

fn stat_of(found: &Found) -> Stat {
    let attr = &found.attr;
    Stat {
        mode: attr.mode,
        uid: attr.uid,
        gid: attr.gid,
        nlink: u64::from(attr.nlink),
        size: attr.len_bytes,
        mtime_ns: i128::from(attr.mtime.tv_sec) * 1_000_000_000 + i128::from(attr.mtime.tv_nsec),
        ino: attr.ino,
        dev: 0,
        rdev: attr.rdev,
    }
}

/// Both times, in whole seconds.
fn times(seconds: i64) -> SetAttr {
    let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 0 };
    let time = Some(aufs_union::attr::SetTime::At(time));
    SetAttr { atime: time, mtime: time, ..SetAttr::default() }
}

/// An owner to set; -1 leaves it.
fn owner(uid: u32, gid: u32) -> SetAttr {
    let given = |id: u32| (id != u32::MAX).then_some(id);
    SetAttr { uid: given(uid), gid: given(gid), ..SetAttr::default() }
}

fn permissions(mode: Mode) -> SetAttr {
    SetAttr { mode: Some(mode.bits() & 0o7777), ..SetAttr::default() }
}

const NEEDS_MOUNT: Fault = Fault::Unsupported("only a mount can show it");

impl Subject for Direct {
    type Handle = Handle;

    fn mount(&mut self) -> Outcome<()> {
        if self.caller != process_caller() {
            return Err(Errno::PERM.into()); // Only who could call mount(2) may open a union.
        }
        self.union = Some(open_union(&self.options)?.into());
        Ok(())
    }

    fn unmount(&mut self, open_handles: usize) -> Outcome<()> {
        if 0 < open_handles {
            return Err(Errno::BUSY.into());
        }
        // As the server does when its mount is gone.
        let union = self.union.take().ok_or(Fault::Errno(Errno::INVAL))?;
        union.flush_pseudo_links().map(drop).map_err(errno_of)
    }

    fn remount(&mut self, options: &str) -> Outcome<()> {
        let union = self.union.as_mut().and_then(Arc::get_mut).ok_or(Fault::Errno(Errno::BUSY))?;
        change_branches(union, &self.host.with_full_paths(options))
    }

    fn set_caller(&mut self, caller: Option<(u32, u32)>) -> Outcome<()> {
        self.caller = caller.map_or_else(process_caller, |(uid, gid)| Caller { uid, gid });
        Ok(())
    }

    fn umask(&mut self, mask: Mode) {
        self.umask = mask.bits();
    }

    fn open(&mut self, path: &str, flags: OFlags, mode: Mode) -> Outcome<Handle> {
        match self.union_for(path) {
            Some(union) => Ok(Handle::Union(self.open_at(union, path, flags, mode)?)),
            None => Ok(Handle::Host(self.host.open(path, flags, mode)?)),
        }
    }

    fn reopen(&mut self, handle: &Handle, flags: OFlags) -> Outcome<Handle> {
        match handle {
            Handle::Host(fd) => Ok(Handle::Host(self.host.reopen(fd, flags)?)),
            Handle::Union(_) => Err(NEEDS_MOUNT),
        }
    }

    fn read(&mut self, handle: &mut Handle, len_bytes: usize, at: Position) -> Outcome<Vec<u8>> {
        let open = match handle {
            Handle::Host(fd) => return self.host.read(fd, len_bytes, at),
            Handle::Union(open) => open,
        };
        if !open.can_read() {
            return Err(Errno::BADF.into());
        }
        let mut buffer = vec![0; len_bytes];
        let offset = match at {
            Position::Current => open.offset,
            Position::At(offset) => offset,
        };
        let n = self.mounted()?.read_at(open.file()?, &mut buffer, offset).map_err(errno_of)?;
        if at == Position::Current {
            open.offset += n as u64;
        }
        buffer.truncate(n);
        Ok(buffer)
    }

    fn write(&mut self, handle: &mut Handle, data: &[u8], at: Position) -> Outcome<usize> {
        let open = match handle {
            Handle::Host(fd) => return self.host.write(fd, data, at),
            Handle::Union(open) => open,
        };
        open.writable()?;
        let union = self.mounted()?;
        self.strip_privileges(union, &open.node)?;
        let offset = match at {
            Position::At(offset) => offset,
            Position::Current if open.flags.contains(OFlags::APPEND) => {
                union.attributes(&open.node).map_err(errno_of)?.len_bytes
            }
            Position::Current => open.offset,
        };
        let n = union.write_at(open.file()?, data, offset).map_err(errno_of)?;
        if at == Position::Current {
            open.offset = offset + n as u64;
        }
        Ok(n)
    }

    fn seek(&mut self, handle: &mut Handle, to: SeekFrom) -> Outcome<u64> {
        let open = match handle {
            Handle::Host(fd) => return self.host.seek(fd, to),
            Handle::Union(open) => open,
        };
        let union = self.mounted()?;
        open.offset = match to {
            SeekFrom::Start(offset) => offset,
            SeekFrom::Current(by) => open.offset.checked_add_signed(by).ok_or(Errno::INVAL)?,
            SeekFrom::End(by) => {
                let len_bytes = union.attributes(&open.node).map_err(errno_of)?.len_bytes;
                len_bytes.checked_add_signed(by).ok_or(Errno::INVAL)?
            }
            data_or_hole => union.seek(open.file()?, data_or_hole).map_err(errno_of)?,
        };
        Ok(open.offset)
    }

    fn ftruncate(&mut self, handle: &Handle, len_bytes: u64) -> Outcome<()> {
        match handle {
            Handle::Host(fd) => self.host.ftruncate(fd, len_bytes),
            Handle::Union(open) if !open.can_write() => Err(Errno::INVAL.into()),
            Handle::Union(open) => self.cut(self.mounted()?, &open.node, len_bytes),
        }
    }

    fn fstat(&mut self, handle: &Handle) -> Outcome<Stat> {
        match handle {
            Handle::Host(fd) => self.host.fstat(fd),
            Handle::Union(open) => Ok(stat_of(&found(self.mounted()?, &open.node)?)),
        }
    }

    fn fchmod(&mut self, handle: &Handle, mode: Mode) -> Outcome<()> {
        match handle {
            Handle::Host(fd) => self.host.fchmod(fd, mode),
            Handle::Union(open) => self.change(self.mounted()?, &open.node, &permissions(mode)),
        }
    }

    fn fchown(&mut self, handle: &Handle, uid: u32, gid: u32) -> Outcome<()> {
        match handle {
            Handle::Host(fd) => self.host.fchown(fd, uid, gid),
            Handle::Union(open) => self.change(self.mounted()?, &open.node, &owner(uid, gid)),
        }
    }

    fn futimens(&mut self, handle: &Handle, seconds: i64) -> Outcome<()> {
        match handle {
            Handle::Host(fd) => self.host.futimens(fd, seconds),
            Handle::Union(open) => self.change(self.mounted()?, &open.node, &times(seconds)),
        }
    }

    fn fsync(&mut self, handle: &Handle) -> Outcome<()> {
        match handle {
            Handle::Host(fd) => self.host.fsync(fd),
            Handle::Union(OpenNode { file: Some(file), .. }) => {
                self.mounted()?.sync_file(file, false).map_err(errno_of)
            }
            Handle::Union(open) => self.mounted()?.sync_directory(&open.node).map_err(errno_of),
        }
    }

    fn fdatasync(&mut self, handle: &Handle) -> Outcome<()> {
        match handle {
            Handle::Host(fd) => self.host.fdatasync(fd),
            Handle::Union(open) => self.mounted()?.sync_file(open.file()?, true).map_err(errno_of),
        }
    }

    fn fsetxattr(&mut self, handle: &Handle, name: &str, value: &[u8]) -> Outcome<()> {
        let open = match handle {
            Handle::Host(fd) => return self.host.fsetxattr(fd, name, value),
            Handle::Union(open) => open,
        };
        let union = self.mounted()?;
        self.may_change_xattr(&found(union, &open.node)?, name)?;
        union.set_xattr(&open.node, name.as_ref(), value, XattrFlags::empty()).map_err(errno_of)
    }

    fn fallocate(
        &mut self,
        handle: &Handle,
        mode: FallocateFlags,
        offset: u64,
        len_bytes: u64,
    ) -> Outcome<()> {
        let open = match handle {
            Handle::Host(fd) => return self.host.fallocate(fd, mode, offset, len_bytes),
            Handle::Union(open) => open,
        };
        let union = self.mounted()?;
        let file = open.writable()?;
        self.strip_privileges(union, &open.node)?;
        union.allocate(file, mode.bits(), offset, len_bytes).map_err(errno_of)
    }

    fn list_handle(&mut self, handle: &Handle) -> Outcome<Vec<String>> {
        match handle {
            Handle::Host(fd) => self.host.list_handle(fd),
            Handle::Union(open) => self.list_node(self.mounted()?, &open.node),
        }
    }

    fn getflags(&mut self, handle: &Handle) -> Outcome<u32> {
        match handle {
            Handle::Host(fd) => self.host.getflags(fd),
            Handle::Union(_) => Err(NEEDS_MOUNT),
        }
    }

    fn setflags(&mut self, handle: &Handle, flags: u32) -> Outcome<()> {
        match handle {
            Handle::Host(fd) => self.host.setflags(fd, flags),
            Handle::Union(_) => Err(NEEDS_MOUNT),
        }
    }

    fn link_handle(&mut self, handle: &Handle, path: &str) -> Outcome<()> {
        let open = match handle {
            Handle::Host(fd) => return self.host.link_handle(fd, path),
            Handle::Union(open) => open,
        };
        let union = self.mounted()?;
        let place = self.free_place(union, path)?;
        // As the kernel has it: a file that lost its names stays without, one that never had any may get one.
        let may_be_nameless = open.flags.contains(OFlags::TMPFILE);
        if !may_be_nameless && union.attributes(&open.node).map_err(errno_of)?.nlink == 0 {
            return Err(Errno::NOENT.into());
        }
        let name = place.name_or(Errno::EXIST)?;
        union.link(&open.node, &place.dir()?.node, name).map_err(errno_of)?;
        Ok(())
    }

    fn stat(&mut self, path: &str, last: Final) -> Outcome<Stat> {
        match self.union_for(path) {
            Some(union) => Ok(stat_of(&self.walk(union, path, last)?.existing()?)),
            None => self.host.stat(path, last),
        }
    }

    fn access(&mut self, path: &str, access: Access) -> Outcome<()> {
        match self.union_for(path) {
            Some(union) => {
                let found = self.walk(union, path, Final::Follow)?.existing()?;
                self.caller.may(&found.attr, access.bits() & 7)
            }
            None => self.host.access(path, access),
        }
    }

    fn truncate(&mut self, path: &str, len_bytes: u64) -> Outcome<()> {
        let Some(union) = self.union_for(path) else { return self.host.truncate(path, len_bytes) };
        let found = self.walk(union, path, Final::Follow)?.existing()?;
        match found.node.file_type() {
            FileType::RegularFile => {}
            FileType::Directory => return Err(Errno::ISDIR.into()),
            _ => return Err(Errno::INVAL.into()),
        }
        self.refuse_read_only()?;
        self.caller.may(&found.attr, WRITE)?;
        self.cut(union, &found.node, len_bytes)
    }

    fn chmod(&mut self, path: &str, mode: Mode) -> Outcome<()> {
        let Some(union) = self.union_for(path) else { return self.host.chmod(path, mode) };
        let found = self.owned(union, path, Final::Follow)?;
        let is_foreign_group = !self.caller.is_root() && self.caller.gid != found.attr.gid;
        let mode = if is_foreign_group { mode - Mode::SGID } else { mode };
        self.change(union, &found.node, &permissions(mode))
    }

    fn chown(&mut self, path: &str, uid: u32, gid: u32, last: Final) -> Outcome<()> {
        let Some(union) = self.union_for(path) else { return self.host.chown(path, uid, gid, last) };
        let found = self.owned(union, path, last)?;
        let keeps = |new: u32, now: u32| new == u32::MAX || new == now;
        let is_harmless =
            keeps(uid, found.attr.uid) && (keeps(gid, found.attr.gid) || gid == self.caller.gid);
        if !self.caller.is_root() && !is_harmless {
            return Err(Errno::PERM.into());
        }
        self.change(union, &found.node, &owner(uid, gid))
    }

    fn utimens(&mut self, path: &str, seconds: i64) -> Outcome<()> {
        let Some(union) = self.union_for(path) else { return self.host.utimens(path, seconds) };
        let found = self.owned(union, path, Final::Itself)?;
        self.change(union, &found.node, &times(seconds))
    }

    fn setxattr(&mut self, path: &str, name: &str, value: &[u8], flags: XattrFlags) -> Outcome<()> {
        let Some(union) = self.union_for(path) else {
            return self.host.setxattr(path, name, value, flags);
        };
        let node = self.xattr_writer(union, path, name)?;
        union.set_xattr(&node, name.as_ref(), value, flags).map_err(errno_of)
    }

    fn getxattr(&mut self, path: &str, name: &str) -> Outcome<Vec<u8>> {
        let Some(union) = self.union_for(path) else { return self.host.getxattr(path, name) };
        let node = self.xattr_reader(union, path, name)?;
        union.xattr(&node, name.as_ref()).map_err(errno_of)?.ok_or(Fault::Errno(Errno::NODATA))
    }

    fn listxattr(&mut self, path: &str) -> Outcome<Vec<String>> {
        let Some(union) = self.union_for(path) else { return self.host.listxattr(path) };
        let found = self.walk(union, path, Final::Itself)?.existing()?;
        let mut names: Vec<String> = union
            .xattr_names(&found.node)
            .map_err(errno_of)?
            .iter()
            .map(|it| it.to_string_lossy().into_owned())
            .filter(|it| self.caller.is_root() || !it.starts_with("trusted."))
            .collect();
        names.sort();
        Ok(names)
    }

    fn removexattr(&mut self, path: &str, name: &str) -> Outcome<()> {
        let Some(union) = self.union_for(path) else { return self.host.removexattr(path, name) };
        let node = self.xattr_writer(union, path, name)?;
        union.remove_xattr(&node, name.as_ref()).map_err(errno_of)
    }

    fn link(&mut self, source: &str, target: &str) -> Outcome<()> {
        let Some(union) = self.union_for(source) else { return self.host.link(source, target) };
        let old = self.walk(union, source, Final::Itself)?.existing()?;
        let place = self.free_place(union, target)?;
        if old.node.file_type() == FileType::Directory {
            return Err(Errno::PERM.into());
        }
        let name = place.name_or(Errno::EXIST)?;
        union.link(&old.node, &place.dir()?.node, name).map_err(errno_of)?;
        Ok(())
    }

    fn symlink(&mut self, target: &str, path: &str) -> Outcome<()> {
        match self.union_for(path) {
            Some(_) => self.create_special(path, New::Symlink(target.as_ref())),
            None => self.host.symlink(target, path),
        }
    }

    fn readlink(&mut self, path: &str) -> Outcome<String> {
        let Some(union) = self.union_for(path) else { return self.host.readlink(path) };
        let found = self.walk(union, path, Final::Itself)?.existing()?;
        if found.node.file_type() != FileType::Symlink {
            return Err(Errno::INVAL.into());
        }
        Ok(union.read_link(&found.node).map_err(errno_of)?.to_string_lossy().into_owned())
    }

    fn mknod(&mut self, path: &str, mode: u32, rdev: u64) -> Outcome<()> {
        if self.union_for(path).is_none() {
            return self.host.mknod(path, mode, rdev);
        }
        let kind = FileType::from_raw_mode(mode);
        if (kind.is_char_device() || kind.is_block_device()) && !self.caller.is_root() {
            // The directory's permissions are asked for first.
            self.free_place(self.mounted()?, path)?;
            return Err(Errno::PERM.into());
        }
        self.create_special(path, New::Node(mode, rdev))
    }

    fn mkdir(&mut self, path: &str, mode: Mode) -> Outcome<()> {
        match self.union_for(path) {
            Some(_) => self.create_special(path, New::Directory(mode.bits() & 0o7777)),
            None => self.host.mkdir(path, mode),
        }
    }

    fn rmdir(&mut self, path: &str) -> Outcome<()> {
        if self.union_for(path).is_some() { self.remove(path, true) } else { self.host.rmdir(path) }
    }

    fn unlink(&mut self, path: &str) -> Outcome<()> {
        if self.union_for(path).is_some() { self.remove(path, false) } else { self.host.unlink(path) }
    }

    fn rename(&mut self, source: &str, target: &str, flags: RenameFlags) -> Outcome<()> {
        match self.union_for(source) {
            Some(union) => rename::rename(self, union, source, target, flags),
            None => self.host.rename(source, target, flags),
        }
    }

    fn list(&mut self, path: &str) -> Outcome<Vec<String>> {
        let Some(union) = self.union_for(path) else { return self.host.list(path) };
        let found = self.walk(union, path, Final::Follow)?.existing()?;
        if found.node.file_type() != FileType::Directory {
            return Err(Errno::NOTDIR.into());
        }
        self.caller.may(&found.attr, READ)?;
        self.list_node(union, &found.node)
    }

    fn name_max(&mut self, path: &str) -> Outcome<i64> {
        match self.union_for(path) {
            Some(union) => Ok(union.stat_fs().map_err(errno_of)?.f_namemax.cast_signed()),
            None => self.host.name_max(path),
        }
    }

    fn host_path(&self, path: &str) -> Outcome<PathBuf> {
        if self.union_for(path).is_some() { Err(NEEDS_MOUNT) } else { Ok(self.host.resolve(path)) }
    }

    fn host_fd<'h>(&self, handle: &'h Handle) -> Outcome<BorrowedFd<'h>> {
        use std::os::fd::AsFd;
        match handle {
            Handle::Host(fd) => Ok(fd.as_fd()),
            Handle::Union(_) => Err(NEEDS_MOUNT),
        }
    }
}
