//! Random calls of several processes on a union, each call also on a plain copy of it.
//!
//! Every process works in a subtree of its own, so that the outcome of each
//! call depends on the seed alone; what they share – the branches, the parent of
//! their subtrees, the server – is where they can disturb each other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use proptest::collection::vec;
use proptest::prelude::Strategy;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rustix::fs::Mode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::calls::{Names, callers, rich_calls};
use crate::dump::{Since, dump, kind_of};
use crate::history::{Failure, Links, same, shown, told};
use crate::host_calls::HostCalls;
use crate::isolate::{BASE, read_json, write_json};
use crate::mounted::{Mounted, Mounter};
use crate::op::Op;
use crate::process::ROLE;
use crate::replay::Player;
use crate::scenario::{StepResult, Tree};
use crate::subject::{Fault, Final, Outcome, Subject};
use crate::unlike::{Marks, Served, leave_out_of};

/// Names in the subtree of a process, on every branch.
const NAMES: [&str; 19] = [
    "a", "b", "d", "e", "f", "d/a", "d/b", "d/d", "d/e", "d/e/a", "d/e/b", "d/e/d", "e/a", "e/b", "e/d",
    "e/d/a", "e/d/b", "e/d/e", "e/f",
];

/// Names on the lowest branch alone: files have several names here, and a branch
/// counts those as well that one above hides.
const LINKED: [&str; 7] = ["h/a", "h/b", "h/c", "h/d", "h/d/a", "h/d/b", "h/e"];

const ALL: [&str; 27] = [
    "a", "b", "d", "e", "f", "d/a", "d/b", "d/d", "d/e", "d/e/a", "d/e/b", "d/e/d", "e/a", "e/b", "e/d",
    "e/d/a", "e/d/b", "e/d/e", "e/f", "h", "h/a", "h/b", "h/c", "h/d", "h/d/a", "h/d/b", "h/e",
];

/// Branches, topmost first.
const BRANCHES: [&str; 3] = ["0", "1", "2"];

/// What is to be done; the same plan does the same again.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Plan {
    /// Decides on every call.
    pub seed: u64,
    /// Number of processes.
    pub workers: usize,
    /// Number of calls of each.
    pub calls: usize,
    /// How the union is served, which decides on what may differ.
    pub served: Served,
}

/// What one process is to do.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    seed: u64,
    /// How many of which calls.
    calls: usize,
    kind: Kind,
    /// The union's subtree, where there is one.
    union: Option<PathBuf>,
    plain: PathBuf,
    trace: PathBuf,
    served: Served,
    /// The subtree's path, and where to write which of its files may differ.
    subtree: String,
    marked: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    /// Fill a branch, without hard links.
    Fill,
    /// Fill part of the lowest branch, with hard links.
    FillLinked,
    /// Everything.
    All,
}

impl Kind {
    fn names(self) -> Names {
        match self {
            Self::Fill => &NAMES,
            Self::FillLinked => &LINKED,
            Self::All => &ALL,
        }
    }

    fn takes(self, op: &Op) -> bool {
        self != Self::Fill || !matches!(op, Op::Link { .. } | Op::LinkFd { .. })
    }
}

/// Builds branches in `scratch`, works on their union as `plan` says, and compares.
///
/// Results must agree call by call, then the trees; the lower branches must be
/// as before; and a new mount must show the same.
///
/// # Errors
///
/// What did not hold.
pub fn run(scratch: &Path, plan: Plan, mounter: &Mounter) -> Result<(), Failure> {
    let calls = HostCalls { branches: scratch.join("b"), mountpoint: scratch.join("u") };
    let plain = scratch.join("plain");
    for directory in [&calls.branches, &calls.mountpoint, &plain] {
        fs::create_dir_all(directory).map_err(told)?;
    }
    rustix::fs::chmod(scratch, Mode::from_raw_mode(0o755)).map_err(told)?;
    fill_branches(scratch, plan, &calls)?;
    let perms = ["rw", "ro+wh", "ro+wh"];
    let at = |(name, perm): (&&str, &str)| format!("{}={perm}", calls.branches.join(name).display());
    let options = format!("br:{}", BRANCHES.iter().zip(perms).map(at).collect::<Vec<_>>().join(":"));
    let mut union = Mounted::new(calls.clone(), mounter.clone(), options, false);
    let mut copy = Mounted::plain(plain.clone());

    union.mount().map_err(told)?;
    copy_tree(&calls.mountpoint, &plain)?;
    union.unmount(0).map_err(told)?;
    let below = lower_branches(&mut union)?;
    union.mount().map_err(told)?;
    same(
        "before any call",
        &shown(&mut copy, Links::Exact).map_err(told)?,
        &shown(&mut union, Links::Exact).map_err(told)?,
    )?;
    union.unmount(0).map_err(told)?;

    // A fresh mount, which knows nothing yet.
    union.mount().map_err(told)?;
    let orders = (0..plan.workers).map(|worker| Order {
        seed: seed_of(plan.seed, worker, BRANCHES.len()),
        calls: plan.calls,
        kind: Kind::All,
        union: Some(calls.mountpoint.join(subtree(worker))),
        plain: plain.join(subtree(worker)),
        trace: scratch.join(format!("trace-{worker}")),
        served: plan.served,
        subtree: subtree(worker),
        marked: marked_by(scratch, worker),
    });
    carry_out(scratch, orders)?;
    let mut marked = Vec::new();
    for worker in 0..plan.workers {
        marked.extend(read_json::<Vec<_>>(&marked_by(scratch, worker)).map_err(told)?);
    }
    let compared = |mut tree: Tree| {
        leave_out_of(&mut tree, plan.served, &marked);
        tree
    };
    let wanted = compared(shown(&mut copy, Links::Exact).map_err(told)?);
    same("after all calls", &wanted, &compared(shown(&mut union, Links::Exact).map_err(told)?))?;
    // A new mount knows nothing of names that were hidden before, so they count along.
    let after = compared(shown(&mut union, Links::AtLeast).map_err(told)?);
    union.unmount(0).map_err(told)?;
    for (wanted, got) in below.iter().zip(&lower_branches(&mut union)?) {
        same("a lower branch", wanted, got)?;
    }
    union.mount().map_err(told)?;
    let again = compared(shown(&mut union, Links::AtLeast).map_err(told)?);
    union.unmount(0).map_err(told)?;
    same("after mounting it again", &after, &again)
}

fn marked_by(scratch: &Path, worker: usize) -> PathBuf {
    scratch.join(format!("marked-{worker}.json"))
}

fn subtree(worker: usize) -> String {
    format!("s/w{worker}")
}

/// A different seed for each process and branch.
fn seed_of(seed: u64, worker: usize, branch: usize) -> u64 {
    let part = worker * (BRANCHES.len() + 2) + branch;
    seed.wrapping_mul(1_000_003).wrapping_add(u64::try_from(part).unwrap_or(0))
}

fn lower_branches(union: &mut Mounted) -> Result<Vec<Tree>, Failure> {
    let exact = Since { start_ns: i128::MAX, exe_digest: None };
    BRANCHES.iter().skip(1).map(|name| dump(union, &format!("@{name}"), &exact).map_err(told)).collect()
}

/// Every second plan leaves the writable branch empty, so that all parents must be copied up.
fn fill_branches(scratch: &Path, plan: Plan, calls: &HostCalls) -> Result<(), Failure> {
    let mut orders = Vec::new();
    for worker in 0..plan.workers {
        for (branch, name) in BRANCHES.iter().enumerate() {
            let root = calls.branches.join(name);
            fs::create_dir_all(&root).map_err(told)?;
            if branch == 0 && plan.seed.is_multiple_of(2) {
                continue;
            }
            let plain = root.join(subtree(worker));
            fs::create_dir_all(&plain).map_err(told)?;
            let order = |calls, kind, part| Order {
                seed: seed_of(plan.seed, worker, part),
                calls,
                kind,
                union: None,
                plain: plain.clone(),
                trace: scratch.join("trace-fill"),
                served: plan.served,
                subtree: subtree(worker),
                marked: scratch.join("marked-fill.json"),
            };
            orders.push(order(80, Kind::Fill, branch));
            if branch == BRANCHES.len() - 1 {
                fs::create_dir_all(plain.join("h/d")).map_err(told)?;
                orders.push(order(30, Kind::FillLinked, BRANCHES.len() + 1));
            }
        }
    }
    for order in orders {
        let (seed, root, is_lowest) =
            (order.seed, order.plain.clone(), order.plain.starts_with(calls.branches.join("2")));
        carry_out(scratch, [order].into_iter())?;
        if !is_lowest {
            plant_markers(&mut runner(seed), &root)?;
        }
    }
    Ok(())
}

/// Whiteouts, and opaque directories, wherever their directory exists.
fn plant_markers(runner: &mut TestRunner, root: &Path) -> Result<(), Failure> {
    let hidden = draw(runner, &vec(select(&NAMES[..]), 4..8))?;
    let opaque = draw(runner, &vec(select(&NAMES[..]), 0..3))?;
    let whiteouts = hidden.iter().map(|path| match path.rsplit_once('/') {
        Some((parent, name)) => (root.join(parent), format!(".wh.{name}")),
        None => (root.to_owned(), format!(".wh.{path}")),
    });
    let markers = opaque.iter().map(|path| (root.join(path), ".wh..wh..opq".to_owned()));
    for (parent, name) in whiteouts.chain(markers) {
        if fs::symlink_metadata(&parent).is_ok_and(|it| it.is_dir()) {
            fs::write(parent.join(name), "").map_err(told)?;
        }
    }
    Ok(())
}

/// Copies with everything that `cp` can carry over.
fn copy_tree(from: &Path, to: &Path) -> Result<(), Failure> {
    let done = Command::new("cp").arg("-aT").args([from, to]).output().map_err(told)?;
    if done.status.success() {
        Ok(())
    } else {
        Err(Failure(String::from_utf8_lossy(&done.stderr).into_owned()))
    }
}

/// Runs a process for each order, all at once.
fn carry_out(scratch: &Path, orders: impl Iterator<Item = Order>) -> Result<(), Failure> {
    let mut children = Vec::new();
    for (number, order) in orders.enumerate() {
        let base = scratch.join(format!("order-{number}"));
        fs::create_dir_all(&base).map_err(told)?;
        write_json(&base.join("order.json"), &order).map_err(told)?;
        let mut command = Command::new("/proc/self/exe");
        command.env(ROLE, "stress").env(BASE, &base).stdin(Stdio::null()).stdout(Stdio::null());
        children.push((order, command.stderr(Stdio::piped()).spawn().map_err(told)?));
    }
    let failures: Vec<String> =
        children.into_iter().filter_map(|(order, child)| failure_of(&order, child)).collect();
    if failures.is_empty() { Ok(()) } else { Err(Failure(failures.join("\n"))) }
}

fn failure_of(order: &Order, child: Child) -> Option<String> {
    let done = match child.wait_with_output() {
        Ok(done) if done.status.success() => return None,
        Ok(done) => String::from_utf8_lossy(&done.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    Some(format!("{}: {done}", order.plain.display()))
}

/// The part of one process, whose order lies in `base`.
///
/// # Errors
///
/// A result that differs, or a failure of the host.
pub fn play(base: &Path) -> Outcome<ExitCode> {
    let order: Order =
        read_json(&base.join("order.json")).map_err(|error| Fault::Broken(error.to_string()))?;
    let mut runner = runner(order.seed);
    let broken = |failure: Failure| Fault::Broken(failure.to_string());
    let mask = draw(&mut runner, &select(&[0, 0o022, 0o077][..])).map_err(broken)?;
    rustix::process::umask(Mode::from_raw_mode(mask));
    let (mut plain, mut looking) = (Mounted::plain(order.plain.clone()), Mounted::plain(order.plain.clone()));
    let mut union = Mounted::plain(order.union.clone().unwrap_or_default());
    let mut on_plain = Player::new(&mut plain, &[], Since::default());
    let mut on_union = Player::new(&mut union, &[], Since::default());
    let mut trace = String::new();
    let mut marks = Marks::new(order.served);
    for number in 0..order.calls {
        let op = draw(&mut runner, &rich_calls(order.kind.names())).map_err(broken)?;
        let caller = draw(&mut runner, &callers()).map_err(broken)?;
        if !order.kind.takes(&op) {
            continue;
        }
        if order.union.is_none() {
            on_plain.step(&op, None)?;
            continue;
        }
        if marks.leave_out_call(&mut looking, &op)? {
            continue;
        }
        let before = marks.target(&mut looking, &op)?;
        let before = match &op {
            Op::Ftruncate { h, .. } => {
                let stat = on_plain.step(&Op::Fstat { h: h.clone() }, None)?;
                before.of_length(stat.ret["size"].as_u64())
            }
            _ => before,
        };
        let got = on_union.step(&op, caller)?;
        let line = serde_json::json!([number, caller, op, got]);
        trace.push_str(&format!("{line}\n"));
        fs::write(&order.trace, &trace)?;
        if leaves_to_mv(&op, &got) {
            is_directory(&mut looking, &op)?;
            continue;
        }
        let wanted = on_plain.step(&op, caller)?;
        if !marks.agree(before, &wanted, &got) {
            return Err(Fault::Broken(told_difference(&trace, &wanted, &got)));
        }
        marks.note(&mut looking, &op, caller.is_some(), before, &wanted)?;
    }
    let marked = marks.paths(&mut looking, &order.subtree)?;
    write_json(&order.marked, &marked).map_err(|error| Fault::Broken(error.to_string()))?;
    Ok(ExitCode::SUCCESS)
}

/// Whether aufs refuses to rename a directory that has entries below.
fn leaves_to_mv(op: &Op, got: &StepResult) -> bool {
    matches!(op, Op::Rename { .. } | Op::Renameat2 { .. }) && got.err.as_deref() == Some("EXDEV")
}

/// Nothing but a directory may be refused so.
fn is_directory(plain: &mut Mounted, op: &Op) -> Outcome<()> {
    let (Op::Rename { src, dst } | Op::Renameat2 { src, dst, .. }) = op else { return Ok(()) };
    for path in [src, dst] {
        if plain.stat(path, Final::Itself).is_ok_and(|stat| kind_of(stat.mode) == "dir") {
            return Ok(());
        }
    }
    Err(Fault::Broken(format!("EXDEV, and no directory: {op:?}")))
}

fn told_difference(trace: &str, wanted: &StepResult, got: &StepResult) -> String {
    let lines: Vec<&str> = trace.lines().collect();
    let last = lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n");
    let short = |result: &StepResult| match &result.err {
        Some(name) => name.clone(),
        None => shortened(&result.ret),
    };
    format!("wanted {}, got {}; the last calls:\n{last}", short(wanted), short(got))
}

fn shortened(value: &Value) -> String {
    value.to_string().chars().take(300).collect()
}

/// A source of choices that gives the same ones for the same seed.
fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    for (place, byte) in bytes.iter_mut().zip(seed.to_le_bytes()) {
        *place = byte;
    }
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

fn draw<S: Strategy>(runner: &mut TestRunner, strategy: &S) -> Result<S::Value, Failure> {
    Ok(strategy.new_tree(runner).map_err(told)?.current())
}
