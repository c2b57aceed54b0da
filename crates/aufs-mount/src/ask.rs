//! Asks the server of a mount about itself, by an attribute of the mount's root.

use std::path::Path;

use nix::errno::Errno;

use crate::error::{MountError, MountErrorKind};
use crate::unmount::{FUSE_TYPE, find, resolve};

/// Longest value the kernel passes on, in bytes: `XATTR_SIZE_MAX`.
const LEN_BYTES_MAX: usize = 65_536;

/// Returns the value of `attribute` at the root of the mount at `mountpoint`.
///
/// # Errors
///
/// - [`NotMounted`](MountErrorKind::NotMounted): no file system is mounted there.
/// - [`NotServed`](MountErrorKind::NotServed): it is none of our server's.
/// - [`Speechless`](MountErrorKind::Speechless): it was mounted with `noxattr`.
/// - [`DeadMount`](MountErrorKind::DeadMount): its server is gone.
/// - else what `getxattr(2)` reports.
pub fn ask(mountpoint: &Path, attribute: &str) -> Result<Vec<u8>, MountError> {
    let failed = |kind: MountErrorKind| kind.during("mount point", mountpoint);
    let path = resolve(mountpoint).map_err(failed)?;
    let entry = find(&path).map_err(failed)?;
    if entry.fs_type != FUSE_TYPE {
        return Err(failed(MountErrorKind::NotServed { fs_type: entry.fs_type }));
    }
    let mut value = vec![0_u8; LEN_BYTES_MAX];
    match rustix::fs::getxattr(&path, attribute, &mut value[..]) {
        Ok(len_bytes) => {
            value.truncate(len_bytes);
            Ok(value)
        }
        Err(rustix::io::Errno::NOTCONN | rustix::io::Errno::CONNABORTED) => {
            Err(failed(MountErrorKind::DeadMount))
        }
        Err(rustix::io::Errno::OPNOTSUPP) => Err(failed(MountErrorKind::Speechless)),
        // An older server, or a branch's own answer.
        Err(rustix::io::Errno::NODATA) => Err(failed(MountErrorKind::NotServed { fs_type: entry.fs_type })),
        Err(errno) => {
            let errno = Errno::from_raw(errno.raw_os_error());
            Err(failed(MountErrorKind::Call { call: "getxattr", errno }))
        }
    }
}
