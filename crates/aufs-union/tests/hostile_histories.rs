//! Random histories on branches that hold anything under any name, markers and bookkeeping of every type included.
//!
//! There is no plain directory to compare with; what must hold is that nothing panics, that
//! listings and lookups agree, that errors are such as programs expect, and that nothing is
//! written to a lower branch or through a link.

use std::fs;
use std::path::Path;

use aufs_testkit::calls::rich_calls;
use aufs_testkit::direct::Direct;
use aufs_testkit::dump::Since;
use aufs_testkit::history::{Failure, Links, same, shown, told};
use aufs_testkit::host_calls::HostCalls;
use aufs_testkit::hostile::{Outside, Planted, RESERVED, SHOWN, plant_in, planted, snapshot};
use aufs_testkit::model::cases;
use aufs_testkit::op::Op;
use aufs_testkit::replay::Player;
use aufs_testkit::subject::{Fault, Final, Subject};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, TestCaseError, any, proptest};
use proptest::test_runner::FileFailurePersistence;

/// Names that calls are made on.
const NAMES: [&str; 18] = [
    "a",
    "b",
    "d",
    "e",
    "d/a",
    "d/b",
    "d/d",
    "d/e",
    "d/e/a",
    "d/e/b",
    "e/a",
    "e/d",
    "d/file",
    "e/sub",
    "a/sub/deep",
    ".wh.a",
    "d/.wh..wh..opq",
    "d/.wh.e/a",
];

/// Errors that tell programs about the tree; whatever else comes is a fault of ours.
const EXPECTED: [&str; 15] = [
    "ENOENT",
    "EEXIST",
    "ENOTDIR",
    "EISDIR",
    "ENOTEMPTY",
    "EPERM",
    "EACCES",
    "EINVAL",
    "EXDEV",
    "ELOOP",
    "ENODATA",
    "ENOTSUP",
    "EBADF",
    "ENXIO",
    "NOHANDLE",
];

fn branches() -> impl Strategy<Value = Vec<(Vec<Planted>, bool)>> {
    vec((vec(planted(), 0..14), any::<bool>()), 1..4)
}

fn config() -> ProptestConfig {
    // What failed once is tried first, always.
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hostile_histories.regressions");
    ProptestConfig {
        cases: cases(150),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(kept))),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn hostile_branches_never_panic_and_listings_agree_with_lookups(
        branches in branches(),
        history in vec(rich_calls(&NAMES), 1..40),
    ) {
        let scratch = tempfile::tempdir()?;
        play(&fs::canonicalize(scratch.path())?, &branches, &history)
            .map_err(|failure| TestCaseError::fail(failure.to_string()))?;
    }
}

fn play(scratch: &Path, branches: &[(Vec<Planted>, bool)], history: &[Op]) -> Result<(), Failure> {
    let calls = HostCalls { branches: scratch.join("b"), mountpoint: scratch.join("u") };
    let outside = Outside::new(&scratch.join("outside")).map_err(told)?;
    let mut options = "br".to_owned();
    for (index, (planted, honors)) in branches.iter().enumerate() {
        let root = calls.branches.join(index.to_string());
        fs::create_dir_all(&root).map_err(told)?;
        for entry in planted {
            plant_in(&root, *entry, false, &outside).map_err(told)?;
        }
        let perm = match (index, honors) {
            (0, _) => "rw",
            (_, true) => "ro+wh",
            (_, false) => "ro",
        };
        options.push_str(&format!(":{}={perm}", root.display()));
    }
    let below = lower_branches(&calls, branches.len())?;
    let mut union = Direct::new(calls.clone(), options, false);
    if has_odd_bookkeeping(&calls.branches.join("0")) {
        return match union.mount() {
            Err(Fault::Errno(_)) => untouched(&outside),
            other => Err(told(other)),
        };
    }
    union.mount().map_err(told)?;
    agrees(&mut union)?;
    for half in history.chunks(history.len().div_ceil(2)) {
        make_calls(&mut union, half)?;
        agrees(&mut union)?;
    }
    let before = shown(&mut union, Links::AtLeast).map_err(told)?;
    union.unmount(0).map_err(told)?;
    if lower_branches(&calls, branches.len())? != below {
        return Err(Failure("a lower branch was written".to_owned()));
    }
    union.mount().map_err(told)?;
    agrees(&mut union)?;
    let again = shown(&mut union, Links::AtLeast).map_err(told)?;
    union.unmount(0).map_err(told)?;
    same("after mounting it again", &before, &again)?;
    untouched(&outside)
}

/// Whether the mount is to be refused.
fn has_odd_bookkeeping(root: &Path) -> bool {
    let is_odd = |name: &str, fits: fn(&fs::FileType) -> bool| {
        fs::symlink_metadata(root.join(name)).is_ok_and(|it| !fits(&it.file_type()))
    };
    is_odd(".wh..wh.aufs", fs::FileType::is_file)
        || [".wh..wh.plnk", ".wh..wh.orph", ".wh..wh.draft"].iter().any(|it| is_odd(it, fs::FileType::is_dir))
}

fn untouched(outside: &Outside) -> Result<(), Failure> {
    if outside.is_untouched().map_err(told)? { Ok(()) } else { Err(Failure("written outside".to_owned())) }
}

type Snapshot = std::collections::BTreeMap<std::path::PathBuf, aufs_testkit::hostile::Facts>;

fn lower_branches(calls: &HostCalls, count: usize) -> Result<Vec<Snapshot>, Failure> {
    (1..count).map(|it| snapshot(&calls.branches.join(it.to_string())).map_err(told)).collect()
}

fn make_calls(union: &mut Direct, history: &[Op]) -> Result<(), Failure> {
    let mut player = Player::new(union, &[], Since::default());
    for op in history {
        match player.step(op, None) {
            Ok(result) if result.err.as_deref().is_none_or(|it| EXPECTED.contains(&it)) => (),
            Err(Fault::Unsupported(_)) => (), // A device or a way out of the union, which only a mount has.
            other => return Err(Failure(format!("{op:?}: {other:?}"))),
        }
    }
    Ok(())
}

/// Each name that is listed can be asked for, and each that can be asked for is listed.
fn agrees(union: &mut Direct) -> Result<(), Failure> {
    let mut left = vec![".".to_owned()];
    while let Some(dir) = left.pop() {
        let path_of = |name: &str| if dir == "." { name.to_owned() } else { format!("{dir}/{name}") };
        let mut stat = |name: &str| match union.stat(&path_of(name), Final::Itself) {
            Ok(stat) => Ok(Some(stat.mode & 0o170_000 == 0o040_000)),
            Err(Fault::Errno(rustix::io::Errno::NOENT)) => Ok(None),
            Err(Fault::Errno(rustix::io::Errno::PERM)) if name.starts_with(".wh.") => Ok(None),
            Err(fault) => Err(Failure(format!("{}: {fault:?}", path_of(name)))),
        };
        let candidates = || SHOWN.iter().chain(&RESERVED).chain(&["x", "deep", "hidden"]);
        let before = candidates().map(|it| stat(it)).collect::<Result<Vec<_>, _>>()?;
        let listed = union.list(&dir).map_err(told)?;
        let mut stat = |name: &str| match union.stat(&path_of(name), Final::Itself) {
            Ok(stat) => Some(stat.mode & 0o170_000 == 0o040_000),
            Err(_) => None,
        };
        for (name, before) in candidates().zip(before) {
            let now = stat(name);
            if now != before || now.is_some() != listed.iter().any(|it| it == name) {
                let what = path_of(name);
                return Err(Failure(format!(
                    "{what}: {before:?} before it was listed, {now:?} after: {listed:?}"
                )));
            }
        }
        for name in &listed {
            match stat(name) {
                Some(true) => left.push(path_of(name)),
                Some(false) => (),
                None => return Err(Failure(format!("{} is listed, and cannot be asked for", path_of(name)))),
            }
        }
    }
    Ok(())
}
