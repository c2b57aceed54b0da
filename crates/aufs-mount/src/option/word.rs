//! Every word that may stand in an option text.

use super::live::ChangeWord;

/// What a word does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    /// Appends branches, `PATH[=PERM]` separated by colons.
    Branches,
    /// Overlay's lower directories, topmost first.
    Lower,
    /// Overlay's upper directory.
    Upper,
    /// Where drafts are built.
    Work,
    /// How data travels.
    Data,
    /// What happens behind the union's back.
    Udba,
    /// Copy-ups reach the disk before they show.
    Sync,
    /// Nothing is flushed to disk on demand.
    Volatile,
    /// Extended attributes are neither shown nor copied.
    NoXattrs,
    /// How requests reach the server.
    Transport,
    /// Which new directories are opaque.
    DirOpaque,
    /// On already.
    DirPerm1,
    /// Cannot be had.
    NoDirPerm1,
    /// Changes the stack.
    Change(ChangeWord),
    /// Changes a live mount.
    Remount,
    /// `ro` (true) or `rw`.
    ReadOnly(bool),
    /// `nosuid` (true) or `suid`.
    NoSuid(bool),
    /// `nodev` (true) or `dev`.
    NoDev(bool),
    /// `noexec` (true) or `exec`.
    NoExec(bool),
    /// `noatime` (true) or what undoes it.
    NoAtime(bool),
    /// `nodiratime` (true) or `diratime`.
    NoDirAtime(bool),
    /// Other users may enter.
    AllowOther,
    /// The source shown in mountinfo.
    Fsname,
    /// SELinux's label of the mount.
    Context,
    /// A generic word that changes nothing, or is always so.
    Nothing,
    /// An aufs word that changes nothing here; warned about.
    Aufs,
    /// A word of fuse-overlayfs that is not offered; only callers who replace it may write it.
    FuseOverlayfs,
}

/// Words that do something, then those that are only known.
const WORDS: &[(Does, &[&str])] = &[
    (Does::Branches, &["br", "dirs"]),
    (Does::Lower, &["lowerdir"]),
    (Does::Upper, &["upperdir"]),
    (Does::Work, &["workdir"]),
    (Does::Data, &["data"]),
    (Does::Udba, &["udba"]),
    (Does::Sync, &["sync"]),
    (Does::Volatile, &["volatile"]),
    (Does::NoXattrs, &["noxattr"]),
    (Does::Transport, &["transport"]),
    (Does::DirOpaque, &["diropq"]),
    (Does::DirPerm1, &["dirperm1"]),
    (Does::NoDirPerm1, &["nodirperm1"]),
    (Does::Remount, &["remount"]),
    (Does::ReadOnly(true), &["ro"]),
    (Does::ReadOnly(false), &["rw"]),
    (Does::NoSuid(true), &["nosuid"]),
    (Does::NoSuid(false), &["suid"]),
    (Does::NoDev(true), &["nodev"]),
    (Does::NoDev(false), &["dev"]),
    (Does::NoExec(true), &["noexec"]),
    (Does::NoExec(false), &["exec"]),
    (Does::NoAtime(true), &["noatime"]),
    (Does::NoAtime(false), &["atime", "relatime", "norelatime", "strictatime", "nostrictatime"]),
    (Does::NoDirAtime(true), &["nodiratime"]),
    (Does::NoDirAtime(false), &["diratime"]),
    (Does::AllowOther, &["allow_other"]),
    (Does::Fsname, &["fsname"]),
    (Does::Context, &["context"]),
    // mount(8) writes these, or reads them back from mountinfo for a remount.
    (
        Does::Nothing,
        &[
            "defaults",
            "async",
            "auto",
            "noauto",
            "user",
            "nouser",
            "users",
            "owner",
            "group",
            "nofail",
            "_netdev",
            "comment",
            "loud",
            "silent",
            "dirsync",
            "mand",
            "nomand",
            "lazytime",
            "nolazytime",
            "iversion",
            "noiversion",
            "subtype",
            "default_permissions",
            "user_id",
            "group_id",
            "rootmode",
            "fd",
            "max_read",
            "blksize",
            "fscontext",
            "defcontext",
            "rootcontext",
            "seclabel",
            "nonempty",
        ],
    ),
    (Does::Change(ChangeWord::Add), &["add", "ins"]),
    (Does::Change(ChangeWord::Append), &["append"]),
    (Does::Change(ChangeWord::Prepend), &["prepend"]),
    (Does::Change(ChangeWord::Del), &["del"]),
    (Does::Change(ChangeWord::Mod), &["mod"]),
    // Source: aufs.5 and `fs/aufs/fsctx.c` of aufs 6.x, the option table.
    (
        Does::Aufs,
        &[
            "dio",
            "nodio",
            "xino",
            "noxino",
            "trunc_xino",
            "trunc_xino_path",
            "itrunc_xino",
            "notrunc_xino",
            "sum",
            "wsum",
            "nosum",
            "create",
            "create_policy",
            "cpup",
            "copyup",
            "copyup_policy",
            "verbose",
            "v",
            "noverbose",
            "quiet",
            "q",
            "warn_perm",
            "nowarn_perm",
            "plink",
            "noplink",
            "clean_plink",
            "list_plink",
            "shwh",
            "noshwh",
            "refrof",
            "norefrof",
            "dirwh",
            "rdcache",
            "rdblk",
            "rdhash",
            "dirren",
            "nodirren",
            "coo",
            "dlgt",
            "nodlgt",
            "acl",
            "noacl",
            "br_id",
            "rendir",
            "shfh",
        ],
    ),
    // Source: the manual of fuse-overlayfs 1.x.
    (
        Does::FuseOverlayfs,
        &[
            "redirect_dir",
            "uidmapping",
            "gidmapping",
            "timeout",
            "threaded",
            "fsync",
            "fast_ino",
            "fast_ino_check",
            "writeback",
            "noxattrs",
            "plugins",
            "xattr_permissions",
            "squash_to_uid",
            "squash_to_gid",
            "squash_to_root",
            "max_write",
            "static_nlink",
            "ino32_t",
            "allow_root",
            "splice_move",
            "splice_write",
            "splice_read",
            "no_splice_move",
            "no_splice_write",
            "no_splice_read",
            "kernel_cache",
            "auto_unmount",
            "debug",
        ],
    ),
];

/// Branch attributes of aufs that change nothing here.
///
/// Source: `au_brattr` of `fs/aufs/opts.c`.
pub(super) const ATTRIBUTES: [&str; 12] = [
    "nolwh", "icex", "icexsec", "icexsys", "icextr", "icexusr", "icexoth", "coo_reg", "coo_all", "fhsm",
    "unpin", "moo",
];

/// Returns what `name` does.
pub(super) fn look_up(name: &str) -> Option<Does> {
    // Comments of fstab for programs other than mount.
    if name.starts_with("x-") || name.starts_with("X-") {
        return Some(Does::Nothing);
    }
    WORDS.iter().find(|(_, names)| names.contains(&name)).map(|it| it.0)
}

/// Every name worth suggesting.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    WORDS.iter().filter(|it| it.0 != Does::FuseOverlayfs).flat_map(|it| it.1.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_word_has_two_meanings() {
        let mut seen = BTreeSet::new();
        for name in WORDS.iter().flat_map(|it| it.1) {
            assert!(seen.insert(name), "{name} is listed twice");
        }
    }
}
