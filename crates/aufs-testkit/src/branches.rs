//! Builds the branches of a scenario on the host.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, IFlags, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use crate::error::KitError;
use crate::host_calls::{bind_socket, both_times};
use crate::scenario::{Entry, Recorded};
use crate::subject::Fault;
use crate::text::bytes_of;

/// The modification time of everything that gives none, in seconds.
pub const BUILT_AT: i64 = 1_000_000_000;

const FLAGS: [(char, IFlags); 2] = [('i', IFlags::IMMUTABLE), ('a', IFlags::APPEND)];

/// Builds `entries` in the directory `root`, which is made if missing.
///
/// For overlayfs, whiteouts and opaque markers are translated to its own.
///
/// # Errors
///
/// What the host refused.
pub fn build(root: &Path, entries: &[Entry], format: Recorded) -> Result<(), KitError> {
    fs::create_dir_all(root).map_err(KitError::at("mkdir", root))?;
    let mut made = Vec::new();
    for entry in entries {
        let path = if entry.path == "." { root.to_owned() } else { root.join(&entry.path) };
        if entry.path != "."
            && let Some(parent) = path.parent()
        {
            fs::create_dir_all(parent).map_err(KitError::at("mkdir", parent))?;
        }
        if format == Recorded::Overlay && build_overlay_marker(&path)? {
            continue;
        }
        make(root, &path, entry).map_err(KitError::at("build", &path))?;
        if entry.kind != "hardlink" {
            made.push((path, entry));
        }
    }
    for (path, entry) in &made {
        attribute(path, entry).map_err(KitError::at("build", path))?;
    }
    reset_times(root)?;
    for (path, entry) in &made {
        if let Some(seconds) = entry.mtime {
            set_times(path, seconds)?;
        }
    }
    for (path, entry) in &made {
        if let Some(attr) = &entry.attr {
            set_flags(path, attr).map_err(KitError::at("chattr", path))?;
        }
    }
    Ok(())
}

fn build_overlay_marker(path: &Path) -> Result<bool, KitError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (Some(hidden), Some(parent)) = (name.strip_prefix(".wh."), path.parent()) else {
        return Ok(false);
    };
    if hidden == ".wh..opq" {
        rustix::fs::setxattr(parent, "trusted.overlay.opaque", b"y", XattrFlags::empty())
            .map_err(KitError::at("setxattr", parent))?;
    } else {
        let whiteout = parent.join(hidden);
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(CWD, &whiteout, FileType::CharacterDevice, mode, 0)
            .map_err(KitError::at("mknod", &whiteout))?;
    }
    Ok(true)
}

fn make(root: &Path, path: &Path, entry: &Entry) -> std::io::Result<()> {
    let private = Mode::RUSR | Mode::WUSR;
    let bad = |what: &str| std::io::Error::other(format!("{}: {what}", entry.path));
    match entry.kind.as_str() {
        "dir" => fs::create_dir_all(path),
        "hardlink" => {
            let to = entry.to.as_ref().ok_or_else(|| bad("a hardlink needs `to`"))?;
            fs::hard_link(root.join(to), path)
        }
        "symlink" => symlink(entry.target.as_ref().ok_or_else(|| bad("a symlink needs `target`"))?, path),
        "fifo" => Ok(rustix::fs::mknodat(CWD, path, FileType::Fifo, private, 0)?),
        "sock" => bind_socket(path).map_err(|fault| bad(&format!("{fault:?}"))),
        "chr" | "blk" => {
            let kind = if entry.kind == "chr" { FileType::CharacterDevice } else { FileType::BlockDevice };
            let rdev =
                entry.rdev.as_deref().and_then(device_of).ok_or_else(|| bad("a device needs `rdev`"))?;
            Ok(rustix::fs::mknodat(CWD, path, kind, private, rdev)?)
        }
        "file" | "" => make_file(path, entry),
        other => Err(bad(&format!("unknown type {other}"))),
    }
}

/// Parses `MAJOR:MINOR`.
pub fn device_of(text: &str) -> Option<u64> {
    let (major, minor) = text.split_once(':')?;
    Some(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?))
}

fn make_file(path: &Path, entry: &Entry) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    if let Some(segments) = &entry.segments {
        for (offset, text) in segments {
            file.write_all_at(&bytes_of(text), *offset)?;
        }
    } else if entry.exe {
        std::io::copy(&mut File::open("/proc/self/exe")?, &mut file)?;
    } else {
        let content = entry.content.clone().unwrap_or_else(|| format!("content of {}\n", entry.path));
        file.write_all_at(&bytes_of(&content), 0)?;
    }
    if let Some(len_bytes) = entry.size {
        file.set_len(len_bytes)?;
    }
    Ok(())
}

fn attribute(path: &Path, entry: &Entry) -> std::io::Result<()> {
    lchown(path, Some(entry.uid), Some(entry.gid))?;
    if entry.kind != "symlink" {
        let default = if entry.kind == "dir" { 0o755 } else { 0o644 };
        let mode = match &entry.mode {
            Some(text) => u32::from_str_radix(text, 8).map_err(std::io::Error::other)?,
            None => default,
        };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    for (name, value) in &entry.xattrs {
        rustix::fs::lsetxattr(path, name.as_str(), &bytes_of(value), XattrFlags::empty())?;
    }
    Ok(())
}

/// Gives everything below `root`, and itself, the time [`BUILT_AT`]; children first.
fn reset_times(root: &Path) -> Result<(), KitError> {
    for entry in fs::read_dir(root).map_err(KitError::at("list", root))? {
        let path = entry.map_err(KitError::at("list", root))?.path();
        let kind = fs::symlink_metadata(&path).map_err(KitError::at("stat", &path))?.file_type();
        if kind.is_dir() {
            reset_times(&path)?;
        } else if !(kind.is_symlink() && path.is_dir()) {
            // The recording engine left links to directories as they were made.
            set_times(&path, BUILT_AT)?;
        }
    }
    set_times(root, BUILT_AT)
}

fn set_times(path: &Path, seconds: i64) -> Result<(), KitError> {
    rustix::fs::utimensat(CWD, path, &both_times(seconds), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(KitError::at("utimensat", path))
}

fn set_flags(path: &Path, attr: &str) -> Result<(), Errno> {
    let file =
        rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let mut flags = rustix::fs::ioctl_getflags(&file)?;
    for (letter, flag) in FLAGS {
        flags.set(flag, attr.contains(letter));
    }
    rustix::fs::ioctl_setflags(&file, flags)
}

/// The letters of the immutable and append-only flags; none if neither is set.
pub fn flag_letters(flags: u32) -> Option<String> {
    let flags = IFlags::from_bits_retain(flags);
    let letters: String = FLAGS.iter().filter(|(_, flag)| flags.contains(*flag)).map(|(c, _)| c).collect();
    (!letters.is_empty()).then_some(letters)
}

/// Takes immutable and append-only off everything below `root`, so that it can be removed.
///
/// # Errors
///
/// A directory cannot be listed, or a flag stays.
pub fn clear_flags(root: &Path) -> Result<(), Fault> {
    let device = fs::symlink_metadata(root)?.dev();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if metadata.is_dir() && metadata.dev() == device {
                pending.push(path.clone());
            }
            if metadata.is_dir() || metadata.is_file() {
                clear_flags_of(&path)?;
            }
        }
    }
    Ok(())
}

fn clear_flags_of(path: &Path) -> Result<(), Fault> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
    match rustix::fs::ioctl_getflags(&file) {
        Ok(flags) if flag_letters(flags.bits()).is_some() => Ok(set_flags(path, "")?),
        // File systems without inode flags have none to clear.
        Ok(_) | Err(Errno::NOTTY | Errno::OPNOTSUPP) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Makes `path` belong to root.
///
/// # Errors
///
/// What `chown(2)` reports.
pub fn give_to_root(path: &Path) -> Result<(), KitError> {
    chown(path, Some(0), Some(0)).map_err(KitError::at("chown", path))
}
