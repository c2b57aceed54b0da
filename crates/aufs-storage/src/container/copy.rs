//! Copies between the host and containers, as `docker cp`.
//!
//! Every copy is an archive that one thread packs and another unpacks: one way
//! for files and trees, into containers and out of them, from stdin and to stdout.

use std::io::{self, BufWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use aufs_host::errno::errno_of;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::copy_ends::{Destination, open_source};
use super::copy_rules::{Asked, Becomes, CopyFault, Found, Source, decide};
use super::error::{ContainerError, ContainerErrorKind};
use super::store::ContainerStore;
use crate::archive::{
    Applied, ApplyOptions, ArchiveError, ArchiveErrorKind, CompressionLimits, Devices, Form, Holes, Limits,
    Owners, PackOptions, Packed, Privileges, apply_in, open_compressed, pack_entry,
};
use crate::error::{StorageErrorKind, failed};

/// How much of an archive is handed on at once, in bytes.
const BUFFER_LEN_BYTES: usize = 64 << 10;

/// How [`ContainerStore::copy_in`] and its like copy.
#[derive(Debug, Clone, Copy, Default)]
pub struct CopyOptions<'a> {
    /// Whether users and groups come along; else what is copied is root's in a container, and the caller's outside.
    pub keeps_owners: bool,
    /// Whether a symbolic link that is to be copied stands for what it leads to.
    pub follows_link: bool,
    /// Becomes true when nobody wants the copy any more, which then is [`Interrupted`](ContainerErrorKind::Interrupted).
    pub interrupt: Option<&'a AtomicBool>,
}

impl CopyOptions<'_> {
    fn is_interrupted(&self) -> bool {
        self.interrupt.is_some_and(|it| it.load(Ordering::Relaxed))
    }

    /// Says of what went wrong whether that was the interrupt.
    fn judge(&self, kind: ContainerErrorKind) -> ContainerErrorKind {
        if self.is_interrupted() { ContainerErrorKind::Interrupted } else { kind }
    }
}

/// A part of an archive's way on which an interrupt ends it.
struct Interruptible<'a, T> {
    inner: T,
    options: &'a CopyOptions<'a>,
}

impl<T> Interruptible<'_, T> {
    fn go_on(&mut self) -> io::Result<&mut T> {
        if self.options.is_interrupted() {
            // Not EINTR, upon which everybody tries again.
            return Err(io::Error::from_raw_os_error(Errno::CANCELED.raw_os_error()));
        }
        Ok(&mut self.inner)
    }
}

impl<T: Read> Read for Interruptible<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.go_on()?.read(buffer)
    }
}

impl<T: Write> Write for Interruptible<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.go_on()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    /// Files, directories and whatever else.
    pub entries: u64,
    /// Sockets, which were left out.
    pub skipped_sockets: u64,
    /// Devices, which are left out on their way to the host unless owners come along.
    pub skipped_devices: u64,
    /// Extended attributes that the destination would not take.
    pub refused_xattrs: u64,
}

impl ContainerStore<'_> {
    /// Copies `from` of the host to `to` in a container, started or not.
    ///
    /// Relative paths begin at the working directory, and in a container at its root. A copy that fails leaves of what it
    /// wrote only whole files. Volumes are part of the tree.
    ///
    /// # Errors
    ///
    /// [`Copy`](ContainerErrorKind::Copy), or what reading and writing report.
    pub fn copy_in(
        &self,
        text: &str,
        from: &Path,
        to: &Path,
        options: &CopyOptions<'_>,
    ) -> Result<Copied, ContainerError> {
        let copy = || -> Result<Copied, ContainerErrorKind> {
            let (container, _lock) = self.shared(text)?;
            let (host, base) = host_root()?;
            let (from, to) = (Asked::of(from, &base)?, Asked::of(to, Path::new("/"))?);
            // Before anything is mounted, and in the caller's namespace.
            let source = open_source(host.as_fd(), &from, options.follows_link)?;
            self.within(&container, |root| copy(source, &from, root, &to, options, &inwards(options)))
        };
        copy().map_err(|kind| options.judge(kind).during("copy to", text))
    }

    /// Copies `from` in a container to `to` on the host.
    ///
    /// As [`ContainerStore::copy_in`]. Unless owners are kept, programs lose set-id bits and capabilities on the way, and
    /// devices are left out: what a container makes of itself is not to have rights on the host.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn copy_out(
        &self,
        text: &str,
        from: &Path,
        to: &Path,
        options: &CopyOptions<'_>,
    ) -> Result<Copied, ContainerError> {
        let copy = || -> Result<Copied, ContainerErrorKind> {
            let (container, _lock) = self.shared(text)?;
            let (host, base) = host_root()?;
            let (from, to) = (Asked::of(from, Path::new("/"))?, Asked::of(to, &base)?);
            self.within(&container, |root| {
                let source = open_source(root, &from, options.follows_link)?;
                copy(source, &from, host.as_fd(), &to, options, &outwards(options))
            })
        };
        copy().map_err(|kind| options.judge(kind).during("copy from", text))
    }

    /// Unpacks an archive, plain or compressed by gzip or zstd, into the directory `to` of a container.
    ///
    /// # Errors
    ///
    /// As [`ContainerStore::copy_in`]; names that begin with `.wh.` are refused.
    pub fn unpack(
        &self,
        text: &str,
        tar: impl Read + Send,
        to: &Path,
        options: &CopyOptions<'_>,
    ) -> Result<Copied, ContainerError> {
        let unpack = || -> Result<Copied, ContainerErrorKind> {
            let (container, _lock) = self.shared(text)?;
            let to = Asked::of(to, Path::new("/"))?;
            let applying = ApplyOptions { limits: Limits::default(), ..inwards(options) };
            self.within(&container, |root| {
                let found = Destination::find(root, &to)?;
                match found.found {
                    Found::Directory => {}
                    Found::File => return Err(CopyFault::NotDirectory(to.shown.to_owned()).into()),
                    Found::Missing => return Err(CopyFault::NoDirectory(to.shown.to_owned()).into()),
                }
                let tar = Interruptible { inner: tar, options };
                let tar = open_compressed(tar, &CompressionLimits::default())
                    .map_err(|error| ArchiveErrorKind::read(error).during("apply", ""))?;
                Ok(told(None, &apply_in(found.ground(root), tar, &applying)?))
            })
        };
        unpack().map_err(|kind| options.judge(kind).during("copy to", text))
    }

    /// Writes `from` in a container, with all that it holds, as an archive; holes are zeros.
    ///
    /// # Errors
    ///
    /// As [`ContainerStore::copy_out`]; what was written is worth nothing then.
    pub fn pack(
        &self,
        text: &str,
        from: &Path,
        out: impl Write + Send,
        options: &CopyOptions<'_>,
    ) -> Result<Copied, ContainerError> {
        let pack = || -> Result<Copied, ContainerErrorKind> {
            let (container, _lock) = self.shared(text)?;
            let from = Asked::of(from, Path::new("/"))?;
            self.within(&container, |root| {
                let (handle, source) = open_source(root, &from, options.follows_link)?;
                let name = if source == Source::Content { b"" } else { from.name() };
                let out = Interruptible { inner: out, options };
                let out = BufWriter::with_capacity(BUFFER_LEN_BYTES, out);
                let packed = pack_entry(handle.as_fd(), name, out, &packing(Holes::Zeros))?;
                Ok(told(Some(&packed), &Applied { entries: packed.entries, ..Applied::default() }))
            })
        };
        pack().map_err(|kind| options.judge(kind).during("copy from", text))
    }
}

/// Opens the root of the host, and says where relative paths begin.
fn host_root() -> Result<(OwnedFd, PathBuf), ContainerErrorKind> {
    let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty()).map_err(failed("open", "/"))?;
    let base = std::env::current_dir().map_err(errno_of).map_err(failed("getcwd", "."))?;
    Ok((root, base))
}

fn packing(holes: Holes) -> PackOptions {
    PackOptions { holes, form: Form::Tree, ..PackOptions::default() }
}

/// Unpacks what we packed: as much as there is, since whoever asks for a copy knows how much that is.
fn unpacking(options: &CopyOptions<'_>) -> ApplyOptions {
    let limits = Limits { entries: u64::MAX, bytes: u64::MAX, archive_bytes: u64::MAX, ..Limits::default() };
    let owners = if options.keeps_owners { Owners::Archive } else { Owners::Caller };
    ApplyOptions { limits, owners, form: Form::Tree, ..ApplyOptions::default() }
}

fn inwards(options: &CopyOptions<'_>) -> ApplyOptions {
    let owners = if options.keeps_owners { Owners::Archive } else { Owners::Given { uid: 0, gid: 0 } };
    ApplyOptions { owners, ..unpacking(options) }
}

fn outwards(options: &CopyOptions<'_>) -> ApplyOptions {
    if options.keeps_owners {
        return unpacking(options);
    }
    ApplyOptions { devices: Devices::Skip, privileges: Privileges::Drop, ..unpacking(options) }
}

/// Copies what was opened at `from` to `to` beneath `root`.
fn copy(
    (handle, source): (OwnedFd, Source),
    from: &Asked<'_>,
    root: BorrowedFd<'_>,
    to: &Asked<'_>,
    options: &CopyOptions<'_>,
    applying: &ApplyOptions,
) -> Result<Copied, ContainerErrorKind> {
    let destination = Destination::find(root, to)?;
    let name = match decide(source, destination.found, to)? {
        Becomes::Entries => b"",
        Becomes::Entry => from.name(),
        Becomes::Named => destination.name.as_slice(),
    };
    let (reader, writer) = io::pipe().map_err(errno_of).map_err(failed("pipe", "an archive"))?;
    let reader = Interruptible { inner: reader, options };
    let pack = || {
        let out = BufWriter::with_capacity(BUFFER_LEN_BYTES, writer);
        pack_entry(handle.as_fd(), name, out, &packing(Holes::Mapped))
    };
    let apply = || apply_in(destination.ground(root), reader, applying);
    let (packed, applied) = transfer(pack, apply)?;
    if source == Source::File && (packed.skipped_sockets, applied.skipped_devices) != (0, 0) {
        return Err(CopyFault::NoFile(from.shown.to_owned()).into());
    }
    Ok(told(Some(&packed), &applied))
}

/// Packs in one thread what this one unpacks.
fn transfer(
    pack: impl FnOnce() -> Result<Packed, ArchiveError> + Send,
    apply: impl FnOnce() -> Result<Applied, ArchiveError>,
) -> Result<(Packed, Applied), StorageErrorKind> {
    let (packed, applied) = thread::scope(|scope| -> Result<_, StorageErrorKind> {
        let packing = thread::Builder::new().spawn_scoped(scope, pack);
        let packing = packing.map_err(errno_of).map_err(failed("start a thread for", "an archive"))?;
        let applied = apply();
        Ok((packing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), applied))
    })?;
    match (packed, applied) {
        (Ok(packed), Ok(applied)) => Ok((packed, applied)),
        // Who no longer reads has said why.
        (Err(packed), Err(applied)) if is_cut_off(&packed) => Err(applied.into()),
        (Err(packed), _) => Err(packed.into()),
        (_, Err(applied)) => Err(applied.into()),
    }
}

fn is_cut_off(error: &ArchiveError) -> bool {
    matches!(&error.kind, ArchiveErrorKind::Write(error) if error.kind() == io::ErrorKind::BrokenPipe)
}

fn told(packed: Option<&Packed>, applied: &Applied) -> Copied {
    Copied {
        entries: applied.entries,
        skipped_devices: applied.skipped_devices,
        skipped_sockets: packed.map_or(0, |it| it.skipped_sockets),
        refused_xattrs: applied.refused_xattrs,
    }
}
