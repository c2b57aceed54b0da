//! Random histories with `udba=reval`, on branches that others change all the time: the union shows at
//! each moment what a new one would show.

#![expect(clippy::unwrap_used, reason = "a test that cannot prepare its tree has failed")]

use std::fs;
use std::path::Path;

use aufs_testkit::calls::rich_calls;
use aufs_testkit::direct::Direct;
use aufs_testkit::dump::Since;
use aufs_testkit::history::{Failure, Links, same, shown, told};
use aufs_testkit::host_calls::HostCalls;
use aufs_testkit::hostile::{Outside, Planted, plant_in, planted};
use aufs_testkit::model::cases;
use aufs_testkit::op::Op;
use aufs_testkit::replay::Player;
use aufs_testkit::subject::{Fault, Subject};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, TestCaseError, prop_oneof, proptest};
use proptest::test_runner::FileFailurePersistence;

const NAMES: [&str; 10] = ["a", "b", "d", "e", "d/a", "d/b", "d/e", "d/e/a", "e/a", "e/d"];
const BRANCHES: usize = 3;

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    Call(Op),
    /// Somebody puts something into a branch, in the place of what was there.
    Outside(usize, Planted),
    /// Somebody removes a name from a branch.
    Removal(usize, &'static str),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => rich_calls(&NAMES).prop_map(Step::Call),
        2 => (0..BRANCHES, planted()).prop_map(|(branch, entry)| Step::Outside(branch, entry)),
        1 => (0..BRANCHES, proptest::sample::select(&NAMES[..])).prop_map(|(branch, name)| Step::Removal(branch, name)),
    ];
    vec(step, 1..30)
}

fn config() -> ProptestConfig {
    // What failed once is tried first, always.
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reval_histories.regressions");
    ProptestConfig {
        cases: cases(100),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(kept))),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_union_that_revalidates_shows_at_each_moment_what_a_new_one_shows(
        beginning in vec((0..BRANCHES, planted()), 0..12),
        steps in steps(),
    ) {
        let scratch = tempfile::tempdir()?;
        play(&fs::canonicalize(scratch.path())?, &beginning, &steps)
            .map_err(|failure| TestCaseError::fail(failure.to_string()))?;
    }
}

/// What the union keeps for itself at the root of a branch is not for others to change.
fn is_bookkeeping((dir, name, _): &Planted) -> bool {
    dir.starts_with(".wh..wh.") || (dir.is_empty() && name.starts_with(".wh..wh.") && *name != ".wh..wh..opq")
}

fn play(scratch: &Path, beginning: &[(usize, Planted)], steps: &[Step]) -> Result<(), Failure> {
    let calls = HostCalls { branches: scratch.join("b"), mountpoint: scratch.join("u") };
    let outside = Outside::new(&scratch.join("outside")).map_err(told)?;
    let root = |branch: usize| calls.branches.join(branch.to_string());
    let (mut options, mut new_options) = ("br".to_owned(), "br".to_owned());
    for branch in 0..BRANCHES {
        fs::create_dir_all(root(branch)).map_err(told)?;
        let perm = if branch == 0 { "rw" } else { "ro+wh" };
        options.push_str(&format!(":{}={perm}", root(branch).display()));
        new_options.push_str(&format!(":{}=ro+wh", root(branch).display()));
    }
    for (branch, entry) in beginning.iter().filter(|(_, it)| !is_bookkeeping(it)) {
        plant_in(&root(*branch), *entry, false, &outside).map_err(told)?;
    }
    let mut union = Direct::new(calls.clone(), format!("{options},udba=reval"), false);
    union.mount().map_err(told)?;
    let mut other = union.beside();
    let mut player = Player::new(&mut other, &[], Since::default());
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Call(op) => match player.step(op, None) {
                Ok(result) if !matches!(result.err.as_deref(), Some("EIO" | "EMFILE" | "EFAULT")) => (),
                Err(Fault::Unsupported(_)) => (), // A device or a way out of the union, which only a mount has.
                other => return Err(Failure(format!("{op:?}: {other:?}"))),
            },
            Step::Outside(_, entry) if is_bookkeeping(entry) => continue,
            Step::Outside(branch, entry) => plant_in(&root(*branch), *entry, true, &outside).map_err(told)?,
            Step::Removal(branch, name) => remove(&root(*branch), name),
        }
        let mut new = Direct::new(calls.clone(), new_options.clone(), false);
        new.mount().map_err(told)?;
        let [mut wanted, mut found] =
            [shown(&mut new, Links::AtLeast), shown(&mut union, Links::AtLeast)].map(|it| it.map_err(told));
        for tree in [&mut wanted, &mut found].into_iter().flatten() {
            // A lower file whose copy others took away has the number that the copy's other names keep, and counts as one of them.
            tree.same_inode.clear();
            tree.entries.iter_mut().for_each(|it| it.nlink = None);
        }
        same(&format!("after step {number}, {step:?}"), &wanted?, &found?)?;
    }
    if outside.is_untouched().map_err(told)? { Ok(()) } else { Err(Failure("written outside".to_owned())) }
}

/// Removes `name` unless the way there leads out of the branch.
fn remove(root: &Path, name: &str) {
    let path = root.join(name);
    let is_inside = fs::canonicalize(path.parent().unwrap_or(root)).is_ok_and(|it| it.starts_with(root));
    match fs::symlink_metadata(&path) {
        Ok(stat) if is_inside && stat.is_dir() => fs::remove_dir_all(&path).unwrap(),
        Ok(_) if is_inside => fs::remove_file(&path).unwrap(),
        _ => (),
    }
}
