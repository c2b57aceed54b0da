//! Notices branches that were written by overlayfs, whose deletions mean nothing to a union.
//!
//! A glance, not a search: the root of a branch and its first entries. A layer
//! in overlay's form nearly always shows it there, and a mount must not wait
//! for a walk over every layer.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::option::path_line;

/// How many entries of a branch's root are looked at.
const ENTRIES_MAX: usize = 64;

/// Returns the first marker of overlayfs found in a branch, as text.
///
/// What cannot be read holds no marker; opening the branch will tell.
pub(crate) fn find(branch: &Path) -> Option<String> {
    if let Some(name) = attribute_of(branch) {
        return Some(name);
    }
    for entry in fs::read_dir(branch).ok()?.take(ENTRIES_MAX).flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            if let Some(name) = attribute_of(&entry.path()) {
                return Some(format!("{name} of {}", path_line(Path::new(&entry.file_name()))));
            }
        } else if kind.is_char_device() && entry.metadata().is_ok_and(|it| it.rdev() == 0) {
            return Some(format!("the 0:0 device {}", path_line(Path::new(&entry.file_name()))));
        }
    }
    None
}

/// Returns the name of the first attribute that overlayfs keeps for itself.
fn attribute_of(path: &Path) -> Option<String> {
    let mut names = [0_u8; 1024];
    let len = rustix::fs::llistxattr(path, &mut names[..]).ok()?;
    names
        .get(..len)?
        .split(|it| *it == 0)
        .find(|it| it.starts_with(b"trusted.overlay.") || it.starts_with(b"user.overlay."))
        .map(|it| String::from_utf8_lossy(it).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    use rustix::fs::{XattrFlags, setxattr};

    #[test]
    fn whiteouts_and_attributes_of_overlay_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let branch = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.join("etc")).unwrap();
            fs::write(path.join(".wh.gone"), "").unwrap();
            path
        };
        assert_eq!(find(&branch("aufs")), None);
        assert_eq!(find(&dir.path().join("missing")), None);

        let device = branch("device");
        match mknod(&device.join("gone"), SFlag::S_IFCHR, Mode::S_IRUSR, makedev(0, 0)) {
            Ok(()) => assert_eq!(find(&device).as_deref(), Some("the 0:0 device gone")),
            Err(errno) => println!("skipped the device: {errno}"),
        }
        let opaque = branch("opaque");
        match setxattr(opaque.join("etc"), "user.overlay.opaque", b"y", XattrFlags::empty()) {
            Ok(()) => assert_eq!(find(&opaque).as_deref(), Some("user.overlay.opaque of etc")),
            Err(errno) => println!("skipped the attribute: {errno}"),
        }
    }
}
