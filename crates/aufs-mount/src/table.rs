//! The table of mounts, `/proc/self/mountinfo`.
//!
//! Read as bytes: a mount point need not be UTF-8, and one such mount anywhere
//! on the host must not make ours unreadable.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// Device number, as `MAJOR:MINOR`.
    pub device: (u32, u32),
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// Flags of this mount, such as `rw` and `nosuid`.
    pub flags: Vec<String>,
    /// File system type, such as `fuse.aufs`.
    pub fs_type: String,
    /// Flags and options of the file system.
    pub fs_options: Vec<String>,
}

/// Returns the mount that `path` shows, if a file system is mounted exactly there.
///
/// `path` must be absolute and without symlinks. Of several mounts over each
/// other, the one on top is returned.
///
/// # Errors
///
/// Any error of reading `/proc/self/mountinfo`, such as `/proc` not mounted.
pub fn mount_at(path: &Path) -> io::Result<Option<MountEntry>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    Ok(parse(&table).filter(|it| it.mountpoint == path).last())
}

/// Parses the table; lines that do not look like one are left out.
///
/// Source: proc_pid_mountinfo(5).
pub fn parse(table: &[u8]) -> impl Iterator<Item = MountEntry> {
    table.split(|it| *it == b'\n').filter_map(parse_line)
}

fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|it| *it == b' ');
    let text = |it: &[u8]| String::from_utf8_lossy(it).into_owned();
    let list = |it: &[u8]| it.split(|it| *it == b',').map(text).collect::<Vec<_>>();
    let device = text(fields.nth(2)?);
    let (major, minor) = device.split_once(':')?;
    let mountpoint = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
    let flags = list(fields.next()?);
    fields.find(|it| it == b"-")?;
    let fs_type = text(&unescape(fields.next()?));
    let fs_options = list(fields.nth(1)?);
    Some(MountEntry {
        device: (major.parse().ok()?, minor.parse().ok()?),
        mountpoint,
        flags,
        fs_type,
        fs_options,
    })
}

/// Reads the octal escapes that the kernel writes for blanks, newlines and backslashes.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let octal = text.get(at + 1..at + 4).and_then(|it| std::str::from_utf8(it).ok());
        match octal.and_then(|it| u8::from_str_radix(it, 8).ok()) {
            Some(escaped) if byte == b'\\' => {
                plain.push(escaped);
                at += 4;
            }
            _ => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn lines_are_read_with_their_escapes() {
        let table = b"29 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw\n\
            77 29 0:45 / /mnt/a\\040b\\134c\xff ro,nosuid,nodev - fuse.aufs a\\040b rw,user_id=0,allow_other\n\
            not a line\n";
        let found: Vec<_> = parse(table).collect();
        let strings = |it: &[&str]| it.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].fs_type, "ext4");
        assert_eq!(
            found[1],
            MountEntry {
                device: (0, 45),
                mountpoint: std::ffi::OsStr::from_bytes(b"/mnt/a b\\c\xff").into(),
                flags: strings(&["ro", "nosuid", "nodev"]),
                fs_type: "fuse.aufs".to_owned(),
                fs_options: strings(&["rw", "user_id=0", "allow_other"]),
            }
        );
    }

    #[test]
    fn the_root_of_this_host_is_found() {
        assert!(mount_at(Path::new("/")).unwrap().is_some());
        assert_eq!(mount_at(Path::new("/proc/self/fdinfo/nothing")).unwrap(), None);
    }
}
