//! Random calls of every kind on given names; [`crate::model`] has the simpler ones that a union answers without a mount.

use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use proptest::strategy::Union;

use crate::model::simple_calls;
use crate::op::Op;

/// The names calls are made on.
pub type Names = &'static [&'static str];

/// Users that are not root: an owner, one of the same group, and one of another.
const CALLERS: [(u32, u32); 3] = [(1000, 1000), (1001, 1000), (1002, 1002)];

/// `u::rw-,u:1001:rwx,g::r--,m::rwx,o::---` as the attribute `system.posix_acl_access` holds it.
const ACL: &str = "base64:AgAAAAEABgD/////AgAHAOkDAAAEAAQA/////xAABwD/////IAAAAP////8=";
/// `cap_chown+ep` as the attribute `security.capability` holds it.
const CAPABILITY: &str = "base64:AQAAAgEAAAAAAAAAAAAAAAAAAAA=";

/// Who makes a call: root more often than not.
pub fn callers() -> impl Strategy<Value = Option<(u32, u32)>> {
    prop_oneof![3 => Just(None), 1 => select(&CALLERS[..]).prop_map(Some)]
}

/// Everything programs do with files, as far as two file systems must agree on it.
pub fn rich_calls(names: Names) -> impl Strategy<Value = Op> {
    Union::new_weighted(vec![
        (8, simple_calls(names, "").boxed()),
        (2, entries(names).boxed()),
        (3, attributes(names).boxed()),
        (3, contents(names).boxed()),
        (3, open_files(names).boxed()),
        (1, looks(names).boxed()),
    ])
}

fn path(names: Names) -> impl Strategy<Value = String> + Clone {
    select(names).prop_map(str::to_owned)
}

/// Entries of every type.
fn entries(names: Names) -> impl Strategy<Value = Op> {
    let path = || path(names);
    let kind = || select(&["chr", "blk"][..]).prop_map(str::to_owned);
    let rdev = || select(&["0:0", "1:3"][..]).prop_map(str::to_owned);
    let mode = || select(&["0755", "0777", "1777", "2775"][..]).prop_map(str::to_owned);
    let file_mode = || select(&["0666", "0640", "4755"][..]).prop_map(str::to_owned);
    prop_oneof![
        1 => path().prop_map(|path| Op::Mkfifo { path, mode: None }),
        1 => (path(), kind(), rdev()).prop_map(|(path, kind, rdev)| Op::Mknod { path, kind, rdev, mode: None }),
        3 => (path(), mode()).prop_map(|(path, mode)| Op::Mkdir { path, mode: Some(mode) }),
        3 => (path(), file_mode())
            .prop_map(|(path, mode)| Op::WriteFile { path, data: "made".to_owned(), mode: Some(mode) }),
        2 => (path(), path()).prop_map(|(dir, dst)| Op::Tmpfile { dir, dst, data: "no name".to_owned() }),
    ]
}

/// Modes, owners, times and extended attributes.
fn attributes(names: Names) -> impl Strategy<Value = Op> {
    let path = || path(names);
    let modes = &["0777", "0644", "0600", "0000", "1777", "2775", "4755", "6777"][..];
    let mode = move || select(modes).prop_map(str::to_owned);
    let id = || select(&[0_u32, 1000, 1001, 1002][..]);
    let time = || select(&[-1_i64, 0, 1, 1_000_000_000, 4_000_000_000][..]);
    let attribute = || {
        let pairs = &[
            ("user.one", "value"),
            ("user.two", "repeat:v:300"),
            ("trusted.three", "value"),
            ("security.capability", CAPABILITY),
            ("system.posix_acl_access", ACL),
            ("system.posix_acl_default", ACL),
        ][..];
        select(pairs).prop_map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    prop_oneof![
        4 => (path(), mode()).prop_map(|(path, mode)| Op::Chmod { path, mode }),
        3 => (path(), id(), id()).prop_map(|(path, uid, gid)| Op::Chown { path, uid, gid }),
        1 => (path(), id(), id()).prop_map(|(path, uid, gid)| Op::Lchown { path, uid, gid }),
        2 => (path(), time()).prop_map(|(path, t)| Op::Utimens { path, t }),
        1 => (path(), time()).prop_map(|(path, t)| Op::Mtime { path, t }),
        4 => (path(), attribute(), select(&[None, None, Some(1_u32), Some(2)][..]))
            .prop_map(|(path, (name, value), flags)| Op::Setxattr { path, name, value, flags }),
        2 => (path(), attribute()).prop_map(|(path, (name, _))| Op::Removexattr { path, name }),
    ]
}

/// Bytes, in sizes below and above those at which a server changes its way.
fn contents(names: Names) -> impl Strategy<Value = Op> {
    let path = || path(names);
    let data = || {
        let sizes = select(&[1_usize, 100, 4096, 5000, 70_000, 300_000][..]);
        (select(&["p", "q", "r"][..]), sizes).prop_map(|(unit, count)| format!("repeat:{unit}:{count}"))
    };
    let offset = || select(&[0_u64, 1, 511, 4096, 10_000, 200_000][..]);
    let length = || select(&[1_u64, 4096, 6000, 100_000][..]);
    // Allocate, the same without growing, free, and make zeros.
    let how = || select(&[0_u32, 1, 3, 16, 17][..]);
    prop_oneof![
        2 => (path(), data()).prop_map(|(path, data)| Op::WriteFile { path, data, mode: None }),
        1 => (path(), data()).prop_map(|(path, data)| Op::AppendFile { path, data }),
        2 => (path(), data(), offset())
            .prop_map(|(path, data, off)| Op::Overwrite { path, data, off: Some(off) }),
        2 => (path(), offset()).prop_map(|(path, length)| Op::Truncate { path, length }),
        2 => (path(), how(), offset(), length())
            .prop_map(|(path, mode, off, length)| Op::Allocate { path, mode, off, length }),
        2 => (path(), path(), offset(), offset(), length()).prop_map(|(src, dst, from, to, length)| {
            Op::CopyRange { src, dst, from, to, length: usize::try_from(length).unwrap_or(0) }
        }),
        2 => (path(), select(&[0_usize, 5, 4090, 9000][..]))
            .prop_map(|(path, off)| Op::MapWrite { path, off, data: "through a map".to_owned() }),
        1 => path().prop_map(|path| Op::ReadFile { path, n: Some(1 << 20) }),
    ]
}

/// Files that stay open over other calls. Those opened only for reading are left out:
/// in passthrough mode they keep the content from before a copy-up.
fn open_files(names: Names) -> impl Strategy<Value = Op> {
    let h = || select(&["h0", "h1", "h2"][..]).prop_map(str::to_owned);
    let flags = || {
        let all = &["O_RDWR", "O_RDWR|O_CREAT", "O_RDWR|O_CREAT|O_EXCL", "O_RDWR|O_TRUNC", "O_RDWR|O_APPEND"];
        select(&all[..]).prop_map(str::to_owned)
    };
    prop_oneof![
        4 => (path(names), flags(), h())
            .prop_map(|(path, flags, h)| Op::Open { path, flags: format!("{flags}|O_NONBLOCK"), h, mode: None }),
        2 => h().prop_map(|h| Op::Close { h }),
        3 => (h(), any::<u8>()).prop_map(|(h, n)| Op::Write { h, data: format!("written {n}") }),
        2 => (h(), select(&[0_u64, 7, 4096][..]))
            .prop_map(|(h, off)| Op::Pwrite { h, data: "at an offset".to_owned(), off }),
        2 => (h(), select(&[0_u64, 5, 4096][..])).prop_map(|(h, off)| Op::Pread { h, n: 64, off }),
        2 => (h(), select(&[0_u64, 5, 9000][..])).prop_map(|(h, length)| Op::Ftruncate { h, length }),
        3 => h().prop_map(|h| Op::Fstat { h }),
        1 => h().prop_map(|h| Op::Fsync { h }),
        1 => (h(), select(&["0600", "0666", "4711"][..]))
            .prop_map(|(h, mode)| Op::Fchmod { h, mode: mode.to_owned() }),
        1 => (h(), select(&[0_u32, 1000][..])).prop_map(|(h, uid)| Op::Fchown { h, uid, gid: uid }),
        1 => (h(), path(names)).prop_map(|(h, dst)| Op::LinkFd { h, dst }),
    ]
}

/// Calls that only look.
fn looks(names: Names) -> impl Strategy<Value = Op> {
    let path = || path(names);
    prop_oneof![
        2 => path().prop_map(|path| Op::Lstat { path }),
        1 => path().prop_map(|path| Op::Stat { path }),
        1 => path().prop_map(|path| Op::Readlink { path }),
        1 => path().prop_map(|path| Op::Listxattr { path }),
        1 => path().prop_map(|path| Op::Readdir { path }),
        1 => (path(), select(&[1_u8, 2, 4, 7][..])).prop_map(|(path, mode)| Op::Access { path, mode }),
    ]
}
