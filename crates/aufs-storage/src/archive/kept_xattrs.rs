//! Which extended attributes of a file come into its archive.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use aufs_host::entry::Entry as HostEntry;
use aufs_host::xattr;
use rustix::io::{self, Errno};

use super::options::KeptXattrs;

/// Attribute that makes a program's file give it capabilities, and length of its second revision in bytes.
///
/// Source: `include/uapi/linux/capability.h`.
const CAPABILITY: &str = "security.capability";
const CAPABILITY_2_LEN_BYTES: usize = 20;

/// Name and value of an extended attribute.
pub(crate) type Attribute = (Vec<u8>, Vec<u8>);

/// Reads the attributes that come along, sorted by name.
pub(crate) fn kept_xattrs(entry: HostEntry<'_>, kept: KeptXattrs) -> io::Result<Vec<Attribute>> {
    let names = match xattr::list(entry) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for name in names.iter().filter(|it| is_kept(it, kept)) {
        let Some(mut value) = xattr::get(entry, name)? else { continue };
        if name == CAPABILITY {
            make_portable(&mut value);
        }
        found.push((name.as_bytes().to_vec(), value));
    }
    found.sort();
    Ok(found)
}

fn is_kept(name: &OsStr, kept: KeptXattrs) -> bool {
    let is_users = || xattr::in_namespace(name, "user.") && !xattr::in_namespace(name, "user.overlay.");
    name == CAPABILITY || (kept == KeptXattrs::User && (name == "security.ima" || is_users()))
}

/// Takes the user namespace out of a capability, which it holds for on this host alone.
fn make_portable(value: &mut Vec<u8>) {
    // Little-endian, the revision in the highest byte.
    if let Some(revision) = value.get_mut(3)
        && *revision == 3
    {
        *revision = 2;
        value.truncate(CAPABILITY_2_LEN_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_the_host_stay_behind() {
        use KeptXattrs::{Capability, User};
        for (name, by_docker, by_default) in [
            ("security.capability", true, true),
            ("security.ima", false, true),
            ("security.selinux", false, false),
            ("user.note", false, true),
            ("user.overlay.opaque", false, false),
            ("trusted.overlay.opaque", false, false),
            ("system.posix_acl_access", false, false),
        ] {
            let kept = [Capability, User].map(|it| is_kept(OsStr::new(name), it));
            assert_eq!(kept, [by_docker, by_default], "{name}");
        }
    }

    #[test]
    fn capabilities_lose_the_user_namespace() {
        let body = [7; 16];
        let mut third = [&[1, 0, 0, 3][..], &body, &1000_u32.to_le_bytes()].concat();
        let second = [&[1, 0, 0, 2][..], &body].concat();
        make_portable(&mut third);
        assert_eq!(third, second);
        make_portable(&mut third);
        assert_eq!(third, second);
        let mut odd = vec![1];
        make_portable(&mut odd);
        assert_eq!(odd, [1]);
    }
}
