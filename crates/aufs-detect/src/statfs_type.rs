//! Names of file systems by their magic numbers, as Docker calls them.

/// Magic number, name. Source: `include/uapi/linux/magic.h`, and for those outside the kernel
/// their own headers; names as `docker info` shows them under `Backing Filesystem`.
const NAMES: &[(u32, &str)] = &[
    (0x6175_6673, "aufs"),
    (0xca45_1a4e, "bcachefs"),
    (0x9123_683e, "btrfs"),
    (0x00c3_6400, "ceph"),
    (0x28cd_3d45, "cramfs"),
    (0xf15f, "ecryptfs"),
    (0xe0f5_e1e2, "erofs"),
    (0x2011_bab0, "exfat"),
    (0xef53, "extfs"),
    (0xf2f5_2010, "f2fs"),
    (0x6573_5546, "fuse"),
    (0x4750_4653, "gpfs"),
    (0x9660, "isofs"),
    (0x3153_464a, "jfs"),
    (0x72b6, "jffs"),
    (0x4d44, "msdos"),
    (0x6969, "nfs"),
    (0x794c_7630, "overlayfs"),
    (0x0102_1997, "v9fs"),
    (0x8584_58f6, "ramfs"),
    (0x5265_4973, "reiserfs"),
    (0xfe53_4d42, "smb"),
    (0xff53_4d42, "smb"),
    (0x517b, "smb"),
    (0x7371_7368, "squashfs"),
    (0x0102_1994, "tmpfs"),
    (0xa501_fcf5, "vxfs"),
    (0x5846_5342, "xfs"),
    (0x2fc1_2fc1, "zfs"),
];

/// Returns Docker's name for the `f_type` of `statfs(2)`, if the number is known.
pub fn docker_name(magic: u32) -> Option<&'static str> {
    NAMES.iter().find(|(number, _)| *number == magic).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_dockers_names() {
        for (magic, expected) in [
            (0xef53, Some("extfs")),
            (0x5846_5342, Some("xfs")),
            (0x0102_1994, Some("tmpfs")),
            (0x794c_7630, Some("overlayfs")),
            (0, None),
        ] {
            assert_eq!(docker_name(magic), expected, "{magic:#x}");
        }
    }

    #[test]
    fn no_number_is_listed_twice() {
        for (at, (magic, name)) in NAMES.iter().enumerate() {
            assert!(NAMES[..at].iter().all(|(other, _)| other != magic), "{name}");
        }
    }
}
