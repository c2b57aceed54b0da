//! The `mount(2)` calls that build a stack with kernel aufs.
//!
//! The kernel reads mount data only up to a page, so long stacks go up in steps:
//! the writable branch and as many others as fit, then `append:` by remounts.
//! Deciding is pure ([`plan`]); doing is [`mount`].
//!
//! Source: Docker's aufs driver (`daemon/graphdriver/aufs/aufs.go`, `aufsMount`)
//! for the budget, and recordings of aufs 6.1 for the limits per call.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Mutex;

use aufs_union::BranchChange;
use aufs_union::branch::BranchSpec;
use nix::mount::{MntFlags, MsFlags, umount2};

use crate::error::{MountError, MountErrorKind};
use crate::option::{GenericFlags, Udba, context_word, one_line, word_of};

/// Most branches in one call: aufs 6.1 oopses at 85.
const BRANCHES_PER_CALL: usize = 80;

/// Most branches in one mount, unless the kernel was built with more.
///
/// Source: `CONFIG_AUFS_BRANCH_MAX_127`, the default.
pub const BRANCHES_MAX: usize = 127;

/// Where aufs keeps its inode numbers: a tmpfs, so that no branch has to hold them.
const XINO: &[u8] = b",dio,xino=/dev/shm/aufs.xino";

/// What Docker leaves free of the page for the options after the branches.
const RESERVED_LEN: usize = 54;

/// What a plan depends on besides the branches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanOptions {
    /// The page size in bytes; 4096 on most machines.
    pub page_size: usize,
    /// Whether to ask for `dirperm1`.
    pub dirperm1: bool,
    /// `udba=`, if it was given.
    pub udba: Option<Udba>,
    /// Whether each new directory is to be opaque.
    pub always_opaque: bool,
    /// SELinux's label.
    pub context: Option<std::ffi::OsString>,
}

/// The data of one `mount(2)` call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelCall {
    /// Whether it is a remount of what the calls before have built.
    pub remount: bool,
    /// Its data argument, without the closing zero byte.
    pub data: Vec<u8>,
}

/// Decides the calls for `branches`, topmost first.
///
/// # Errors
///
/// The reason why kernel aufs cannot hold these branches.
pub fn plan(branches: &[BranchSpec], options: &PlanOptions) -> Result<Vec<KernelCall>, String> {
    if BRANCHES_MAX < branches.len() {
        return Err(format!("{} branches are more than {BRANCHES_MAX}", branches.len()));
    }
    let label = options.context.as_deref().map(|it| [b",", context_word(it).as_slice()].concat());
    let label = label.unwrap_or_default();
    let dirperm1: &[u8] = if options.dirperm1 { b",dirperm1" } else { b"" };
    let udba: &[u8] = match options.udba {
        None => b"",
        Some(Udba::None) => b",udba=none",
        Some(Udba::Reval) => b",udba=reval",
    };
    let diropq: &[u8] = if options.always_opaque { b",diropq=a" } else { b"" };
    let reserved = RESERVED_LEN + dirperm1.len() + udba.len() + diropq.len() + label.len();
    let limit = options.page_size.saturating_sub(reserved);

    let entries = branches.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    let mut rest = entries.as_slice();
    let mut calls = Vec::new();
    while !rest.is_empty() {
        let remount = !calls.is_empty();
        let mut data = if remount { Vec::new() } else { b"br".to_vec() };
        let mut taken = 0;
        for entry in rest.iter().take(BRANCHES_PER_CALL) {
            let piece = if remount {
                [b"append:", entry.as_slice(), b","].concat()
            } else {
                [b":", entry.as_slice()].concat()
            };
            if limit < data.len() + piece.len() {
                break;
            }
            data.extend(piece);
            taken += 1;
        }
        if taken == 0 {
            let at = branches.len() - rest.len();
            return Err(format!("the path of branch {at} does not fit into one page"));
        }
        rest = &rest[taken..];
        if remount {
            data.extend(label.strip_prefix(b",").unwrap_or_default());
        } else {
            data.extend([XINO, dirperm1, udba, diropq, &label].concat());
        }
        calls.push(KernelCall { remount, data });
    }
    Ok(calls)
}

/// Decides the data of the remount that makes one change.
///
/// # Errors
///
/// The reason why kernel aufs cannot be told of it.
pub fn remount_data(change: &BranchChange, page_size: usize) -> Result<Vec<u8>, String> {
    let path = match change {
        BranchChange::Add { spec, .. } => &spec.path,
        BranchChange::Remove { path } | BranchChange::Modify { path, .. } => path,
    };
    check_path(path)?;
    let data = word_of(change, |path| path.as_os_str().as_bytes().to_vec());
    if page_size <= data.len() {
        return Err("the path does not fit into one page".to_owned());
    }
    Ok(data)
}

/// Writes `PATH=PERM`.
fn entry(branch: &BranchSpec) -> Result<Vec<u8>, String> {
    check_path(&branch.path)?;
    Ok([branch.path.as_os_str().as_bytes(), b"=", branch.perm.to_string().as_bytes()].concat())
}

/// aufs has no escapes.
fn check_path(path: &Path) -> Result<(), String> {
    let path = path.as_os_str().as_bytes();
    match path.iter().find(|it| b",:=".contains(it)) {
        Some(found) => Err(format!("the path {} holds {:?}", one_line(path), char::from(*found))),
        None => Ok(()),
    }
}

/// aufs races with itself when two mounts create the xino file.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Performs the calls of a plan at `mountpoint`.
///
/// # Errors
///
/// The first call that failed; what was mounted before it is detached again.
pub fn mount(calls: &[KernelCall], mountpoint: &Path, flags: &GenericFlags) -> Result<(), MountError> {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let base = ms_flags(flags);
    for call in calls {
        let flags = if call.remount { base | MsFlags::MS_REMOUNT } else { base };
        let source = Some("none");
        if let Err(errno) =
            nix::mount::mount(source, mountpoint, Some("aufs"), flags, Some(call.data.as_slice()))
        {
            if call.remount
                && let Err(error) = umount2(mountpoint, MntFlags::MNT_DETACH)
            {
                tracing::warn!(?mountpoint, %error, "a half-built aufs mount could not be removed");
            }
            let data = one_line(&call.data);
            return Err(MountErrorKind::KernelMount { data, errno }.during("mount", mountpoint));
        }
    }
    Ok(())
}

/// The flags of `mount(2)` for the generic words; what was not said stays at the kernel's default.
fn ms_flags(flags: &GenericFlags) -> MsFlags {
    [
        (flags.read_only, MsFlags::MS_RDONLY),
        (flags.no_suid, MsFlags::MS_NOSUID),
        (flags.no_dev, MsFlags::MS_NODEV),
        (flags.no_exec, MsFlags::MS_NOEXEC),
        (flags.no_atime, MsFlags::MS_NOATIME),
        (flags.no_dir_atime, MsFlags::MS_NODIRATIME),
    ]
    .into_iter()
    .filter(|it| it.0 == Some(true))
    .fold(MsFlags::empty(), |all, it| all | it.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aufs_union::branch::BranchPerm;

    const OPTIONS: PlanOptions =
        PlanOptions { page_size: 4096, dirperm1: false, udba: None, always_opaque: false, context: None };

    /// A container of `n` image layers in Docker's default root: the branches of driver-made mounts.
    fn docker(n: usize) -> Vec<BranchSpec> {
        let diff = |id: String| format!("/var/lib/docker/aufs/diff/{id}").into();
        let id = |n: usize| format!("{n:064x}");
        let wh = BranchPerm::ReadOnly { whiteouts: true };
        let mut stack = vec![BranchSpec { path: diff(id(0)), perm: BranchPerm::ReadWrite }];
        stack.push(BranchSpec { path: diff(format!("{}-init", id(0))), perm: wh });
        stack.extend((1..=n).map(|it| BranchSpec { path: diff(id(it)), perm: wh }));
        stack
    }

    fn read_only_per_call(calls: &[KernelCall]) -> Vec<usize> {
        calls.iter().map(|it| it.data.windows(6).filter(|it| it == b"=ro+wh").count()).collect()
    }

    #[test]
    fn calls_are_those_of_docker() {
        for (layers, per_call, first_len) in [
            (4, &[5][..], 614),
            (39, &[40], 4009),
            (100, &[40, 38, 23], 4009),
            (125, &[40, 38, 38, 10], 4009),
        ] {
            let calls = plan(&docker(layers), &OPTIONS).unwrap();
            assert_eq!(read_only_per_call(&calls), per_call, "{layers} layers");
            assert_eq!(calls[0].data.len(), first_len, "{layers} layers");
            let longer = plan(&docker(layers), &PlanOptions { dirperm1: true, ..OPTIONS }).unwrap();
            assert_eq!(longer[0].data.len(), first_len + 9, "{layers} layers with dirperm1");
        }
    }

    #[test]
    fn the_text_of_the_calls() {
        let spec = |path: &str, perm: &str| BranchSpec { path: path.into(), perm: perm.parse().unwrap() };
        let stack = [spec("/u", "rw"), spec("/a", "ro"), spec("/b", "rr+wh")];
        let options = PlanOptions {
            dirperm1: true,
            udba: Some(Udba::Reval),
            always_opaque: true,
            context: Some("s0:c1,c2".into()),
            page_size: 4096,
        };
        let call = |remount, data: &str| KernelCall { remount, data: data.into() };
        let tail = ",dio,xino=/dev/shm/aufs.xino,dirperm1,udba=reval,diropq=a,context=\"s0:c1,c2\"";
        assert_eq!(plan(&stack, &options), Ok(vec![call(false, &format!("br:/u=rw:/a=ro:/b=rr+wh{tail}"))]));
        // 54 reserved, 9 for dirperm1, 11 for udba, 9 for diropq, 19 for the label: 16 bytes for branches.
        let tight = PlanOptions { page_size: 54 + 9 + 11 + 9 + 19 + 16, ..options };
        assert_eq!(
            plan(&stack, &tight),
            Ok(vec![
                call(false, &format!("br:/u=rw:/a=ro{tail}")),
                call(true, "append:/b=rr+wh,context=\"s0:c1,c2\""),
            ])
        );
    }

    #[test]
    fn no_call_exceeds_a_page_or_the_safe_number() {
        let wh = BranchPerm::ReadOnly { whiteouts: true };
        for path_len in [2, 20, 46, 47, 48, 100, 500, 2000, 3900] {
            let path = |it: usize| format!("/{it:0path_len$}").into();
            let stack: Vec<_> = (0..127).map(|it| BranchSpec { path: path(it), perm: wh }).collect();
            let calls = plan(&stack, &OPTIONS).unwrap();
            assert!(calls.iter().all(|it| it.data.len() < 4096), "paths of {path_len}");
            assert!(read_only_per_call(&calls).iter().all(|it| *it <= 80), "paths of {path_len}");
            assert_eq!(read_only_per_call(&calls).iter().sum::<usize>(), 127, "paths of {path_len}");
        }
    }

    #[test]
    fn changes_of_a_live_mount_are_words() {
        let add = |position, path: &str| BranchChange::Add {
            position,
            spec: BranchSpec { path: path.into(), perm: BranchPerm::ReadOnly { whiteouts: true } },
        };
        for (change, expected) in [
            (add(None, "/a"), Ok("append:/a=ro+wh")),
            (add(Some(0), "/a"), Ok("add:0:/a=ro+wh")),
            (BranchChange::Remove { path: "/a".into() }, Ok("del:/a")),
            (BranchChange::Modify { path: "/a".into(), perm: BranchPerm::ReadWrite }, Ok("mod:/a=rw")),
            (add(None, "/a:b"), Err("the path /a:b holds ':'")),
            (BranchChange::Remove { path: "/a,b".into() }, Err("the path /a,b holds ','")),
            (
                BranchChange::Remove { path: "/a".repeat(2100).into() },
                Err("the path does not fit into one page"),
            ),
        ] {
            let data = remount_data(&change, 4096).map(|it| String::from_utf8(it).unwrap());
            assert_eq!(data.as_deref().map_err(String::as_str), expected);
        }
    }

    #[test]
    fn what_kernel_aufs_cannot_take_is_refused() {
        let stack = |path: &str, n| vec![BranchSpec { path: path.into(), perm: BranchPerm::ReadWrite }; n];
        for (case, stack, expected) in [
            ("too many", stack("/a", 128), "128 branches are more than 127"),
            ("comma", stack("/a,b", 1), "the path /a,b holds ','"),
            ("colon", stack("/a:b", 1), "the path /a:b holds ':'"),
            ("equals", stack("/a=b", 1), "the path /a=b holds '='"),
            ("long", stack(&"/a".repeat(2100), 1), "the path of branch 0 does not fit into one page"),
        ] {
            assert_eq!(plan(&stack, &OPTIONS), Err(expected.to_owned()), "{case}");
        }
    }
}
