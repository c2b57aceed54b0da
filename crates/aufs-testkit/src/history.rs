//! Checks a union against a plain directory: the same calls on both, the same tree after them.

use std::fmt::{self, Debug};
use std::path::Path;

use serde_json::Value;

use crate::compare::compare_trees;
use crate::dump::{Since, dump};
use crate::host_calls::HostCalls;
use crate::model::{Branch, merge, shows_all_links};
use crate::mounted::Mounted;
use crate::op::Op;
use crate::replay::call;
use crate::scenario::Tree;
use crate::subject::{Outcome, Subject};

/// What did not hold, with everything needed to see it.
pub struct Failure(pub String);

impl Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Turns an error of any kind into a failure.
pub fn told<E: Debug>(error: E) -> Failure {
    Failure(format!("{error:?}"))
}

/// Makes the calls of `history` on a union of `branches` and on a plain directory.
///
/// `subject` makes the union of where it lies and its options. The plain
/// directory starts as the flattened stack, by [`merge`]. Results must agree,
/// and then the trees; the lower branches must be untouched; and the union
/// must show the same when it is mounted again. Clears the mask of the process.
///
/// # Errors
///
/// What did not hold.
pub fn check<S: Subject>(
    scratch: &Path,
    branches: &[Branch],
    history: &[Op],
    subject: impl FnOnce(HostCalls, String) -> S,
) -> Result<(), Failure> {
    let (mut union, mut plain, below) = begin(scratch, branches, subject)?;
    make_calls(&mut union, &mut plain, history)?;
    look_alike(&mut union, &mut plain, branches)?;
    survives(&mut union, branches, &below)
}

/// Mounts the union, and makes the plain directory that it must equal; returns the lower branches as they are.
fn begin<S: Subject>(
    scratch: &Path,
    branches: &[Branch],
    subject: impl FnOnce(HostCalls, String) -> S,
) -> Result<(S, Mounted, Vec<Tree>), Failure> {
    // Opening a union clears the mask of the process, for every thread and at any time.
    rustix::process::umask(rustix::fs::Mode::empty());
    let calls = HostCalls { branches: scratch.join("b"), mountpoint: scratch.join("u") };
    std::fs::create_dir_all(&calls.mountpoint).map_err(told)?;
    let options = plant(&calls, branches)?;
    let plain_root = scratch.join("plain");
    merge(branches).plant(&plain_root).map_err(told)?;
    let mut union = subject(calls, options);
    union.mount().map_err(told)?;
    union.umask(rustix::fs::Mode::empty());
    let below = lower_branches(&mut union, branches.len()).map_err(told)?;
    Ok((union, Mounted::plain(plain_root), below))
}

/// Compares both trees, link counts as far as they are known.
fn look_alike<S: Subject>(union: &mut S, plain: &mut Mounted, branches: &[Branch]) -> Result<(), Failure> {
    let links = if shows_all_links(branches) { Links::Exact } else { Links::AtLeast };
    let wanted = shown(plain, links).map_err(told)?;
    same("after the calls", &wanted, &shown(union, links).map_err(told)?)
}

/// Makes the same calls on both, whose results must agree.
fn make_calls<A: Subject, B: Subject>(union: &mut A, plain: &mut B, history: &[Op]) -> Result<(), Failure> {
    for (n, op) in history.iter().enumerate() {
        let got = call(union, op, &Since::default()).map_err(told)?;
        let is_rename = matches!(op, Op::Rename { .. } | Op::Renameat2 { .. });
        if is_rename && got.err.as_deref() == Some("EXDEV") {
            continue; // A directory with entries below: aufs leaves the work to mv.
        }
        let wanted = call(plain, op, &Since::default()).map_err(told)?;
        if wanted != got {
            return Err(Failure(format!("call {n} {op:?}: wanted {wanted:?}, got {got:?}")));
        }
    }
    Ok(())
}

/// Unmounts, and mounts again: the same tree must show, over the same lower branches.
fn survives<S: Subject>(union: &mut S, branches: &[Branch], below: &[Tree]) -> Result<(), Failure> {
    // Names that a whiteout hides now were counted until the unmount.
    let before = shown(union, Links::AtLeast).map_err(told)?;
    union.unmount(0).map_err(told)?;
    let below_after = lower_branches(union, branches.len()).map_err(told)?;
    for (wanted, got) in below.iter().zip(&below_after) {
        same("a lower branch", wanted, got)?;
    }
    union.mount().map_err(told)?;
    let again = shown(union, Links::AtLeast).map_err(told)?;
    union.unmount(0).map_err(told)?;
    same("after mounting it again", &before, &again)
}

/// Makes the calls of several histories at once on one union, each from a thread of its own.
///
/// As [`check`], but for what cannot be known: where the histories are `disjoint`,
/// the n-th having `tn/` to itself, results and trees must agree with a plain
/// directory; else only that which holds whatever the order is checked.
///
/// # Errors
///
/// What did not hold.
pub fn check_threads<S: Subject + Send>(
    scratch: &Path,
    branches: &[Branch],
    histories: &[Vec<Op>],
    disjoint: bool,
    subject: impl FnOnce(HostCalls, String) -> S,
    beside: impl Fn(&S) -> S,
) -> Result<(), Failure> {
    let (mut union, mut plain, below) = begin(scratch, branches, subject)?;
    let made: Vec<Result<(), Failure>> = std::thread::scope(|scope| {
        let threads: Vec<_> = histories
            .iter()
            .map(|history| {
                let (mut union, mut plain) = (beside(&union), plain.clone());
                scope.spawn(move || {
                    if disjoint {
                        return make_calls(&mut union, &mut plain, history);
                    }
                    for op in history {
                        let got = call(&mut union, op, &Since::default()).map_err(told)?;
                        if matches!(got.err.as_deref(), Some("EIO" | "EMFILE" | "EBADF" | "EFAULT")) {
                            return Err(Failure(format!("{op:?}: {got:?}")));
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().map(|it| it.join().unwrap_or_else(|panic| Err(told(panic)))).collect()
    });
    made.into_iter().collect::<Result<(), Failure>>()?;
    if disjoint {
        look_alike(&mut union, &mut plain, branches)?;
    }
    survives(&mut union, branches, &below)
}

/// How well link counts are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// As many as there are names.
    Exact,
    /// Hidden names may count along.
    AtLeast,
}

/// Builds the branches; returns the mount options that name them.
fn plant(calls: &HostCalls, branches: &[Branch]) -> Result<String, Failure> {
    let mut options = "br".to_owned();
    for (n, branch) in branches.iter().enumerate() {
        let root = calls.branches.join(n.to_string());
        std::fs::create_dir_all(&root).map_err(told)?;
        branch.tree.plant(&root).map_err(told)?;
        let perm = match (n, branch.honors_whiteouts) {
            (0, _) => "rw",
            (_, true) => "ro+wh",
            (_, false) => "ro",
        };
        options.push_str(&format!(":{}={perm}", root.display()));
    }
    Ok(options)
}

/// Times in full: none is as late as this.
fn exact() -> Since {
    Since { start_ns: i128::MAX, exe_digest: None }
}

/// The whole tree, with the times that calls have set.
///
/// # Errors
///
/// As [`dump`].
pub fn shown<S: Subject>(subject: &mut S, links: Links) -> Outcome<Tree> {
    let mut tree = dump(subject, ".", &exact())?;
    for entry in &mut tree.entries {
        let names =
            tree.same_inode.iter().find(|it| it.contains(&entry.path)).map_or(1, |it| it.len() as u64);
        if links == Links::AtLeast && entry.nlink.is_some_and(|it| names < it) {
            entry.nlink = Some(names);
        }
        // Both sides made their entries at their own moment, and a copy-up into
        // a directory moves its time, as on kernel aufs.
        let is_dir = entry.kind.as_deref() == Some("dir");
        // No server hears of bytes that go through a FIFO.
        let is_fifo = entry.kind.as_deref() == Some("fifo");
        entry.mtime = entry.mtime.take().filter(|_| !is_dir && !is_fifo);
        if entry.mtime.as_ref().is_some_and(Value::is_string) {
            entry.mtime = Some(Value::from("not set by a call"));
        }
        entry.attr = None;
    }
    Ok(tree)
}

fn lower_branches<S: Subject>(union: &mut S, count: usize) -> Outcome<Vec<Tree>> {
    (1..count).map(|n| dump(union, &format!("@{n}"), &exact())).collect()
}

/// Compares two trees.
///
/// # Errors
///
/// Every difference, a line each.
pub fn same(what: &str, wanted: &Tree, got: &Tree) -> Result<(), Failure> {
    let mut found = Vec::new();
    compare_trees(what, wanted, got, &mut found);
    if found.is_empty() { Ok(()) } else { Err(Failure(found.join("\n"))) }
}
