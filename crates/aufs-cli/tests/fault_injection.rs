//! Errors of branches at every call the server makes, and its death at each: the caller hears of it, the union
//! shows the old state or the new, nothing stays behind.
#![allow(clippy::unwrap_used, reason = "test helpers may fail the test")]

mod faults;
mod host;

use std::io;

use aufs_testkit::needs::Need::{Fuse, Root};
use faults::operations::{Operation, all};
use faults::tree::{Tree, differences};
use faults::{Bed, Fault, STRACE, Tracer, calls_of, descriptors};
use host::has;
use nix::errno::Errno;

/// What branches answer when something is wrong with their disk.
const ERRORS: [Errno; 4] = [Errno::EIO, Errno::ENOSPC, Errno::EDQUOT, Errno::EROFS];

/// Whether to try each error at each call, instead of one after the other.
fn is_thorough() -> bool {
    std::env::var_os("AUFS_FAULTS").is_some_and(|it| it == "all")
}

/// What an operation does when nothing is wrong.
struct Normal {
    before: Tree,
    after: Tree,
    calls: Vec<String>,
    descriptors: usize,
}

fn errno_of(outcome: &io::Result<()>) -> Result<(), Errno> {
    match outcome {
        Ok(()) => Ok(()),
        Err(error) => Err(error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)),
    }
}

fn run_without_fault(bed: &Bed, operation: &Operation) -> Normal {
    bed.reset();
    let before = bed.shown_afresh();
    let server = bed.mount();
    let tracer = Tracer::attach(server, &bed.host.path("trace"), &[]);
    let outcome = (operation.act)(&bed.root());
    let calls = calls_of(&tracer.end());
    assert!(outcome.is_ok(), "{}: {outcome:?}", operation.name);
    let after = bed.shown(&[]);
    let descriptors = descriptors(server);
    bed.unmount();
    bed.check_branches(operation.name);
    Normal { before, after, calls: calls.into_iter().collect(), descriptors }
}

/// Problems with one fault at one call; None when the operation makes fewer such calls.
fn try_error(
    bed: &Bed,
    operation: &Operation,
    normal: &Normal,
    at: (&str, u32),
    errno: Errno,
    loses: bool,
) -> Option<Vec<String>> {
    let mut problems = Vec::new();
    let mut compare = |when: &str, expected: &Tree, found: &Tree, with_times| {
        let lines = differences(expected, found, with_times);
        if !lines.is_empty() {
            problems.push(format!("{when}:\n    {}", lines.join("\n    ")));
        }
    };
    bed.reset();
    let server = bed.mount();
    let (outcome, met) = bed.with_fault(server, at, Fault::Error(errno), || (operation.act)(&bed.root()));
    if !met {
        bed.unmount();
        return None;
    }
    let failed = errno_of(&outcome);
    let lost = if loses { operation.may_lose } else { &[] };
    match failed {
        Ok(()) => compare("after success", &normal.after, &bed.shown(&[]), false),
        Err(_) => {
            // The first sight of the tree after an error is what the programs go on with.
            if lost.is_empty() {
                compare("after failing", &normal.before, &bed.shown(lost), true);
            }
        }
    }
    bed.keep();
    if failed.is_err() {
        let again = (operation.act)(&bed.root());
        if again.is_err() {
            compare("failing again", &normal.after, &normal.before, false);
        }
        if lost.is_empty() {
            compare("after trying again", &normal.after, &bed.shown(&[]), false);
        }
        let open = descriptors(server);
        if normal.descriptors < open && at.0 != "close" {
            compare(
                &format!("{open} descriptors instead of {}", normal.descriptors),
                &normal.after,
                &Tree::default(),
                false,
            );
        }
    }
    bed.unmount();
    bed.check_branches(operation.name);
    bed.restore();
    let (state, expected) = if failed.is_ok() { ("new", &normal.after) } else { ("old", &normal.before) };
    compare(
        &format!("the {state} state after mounting again"),
        expected,
        &bed.shown_afresh(),
        failed.is_err(),
    );
    bed.check_branches(operation.name);
    if failed != Ok(()) && failed != Err(errno) {
        problems.push(format!("the caller got {failed:?}"));
    }
    Some(problems)
}

fn inject_errors(data: &str, tmpfs: bool, wanted: impl Fn(&Operation) -> bool) {
    if !has(&[Fuse, Root, STRACE]) {
        return;
    }
    let bed = Bed::new(data, tmpfs);
    let mut problems = Vec::new();
    let mut tried = 0;
    let only = std::env::var("AUFS_FAULTS_ONLY").ok();
    for operation in all().iter().filter(|it| wanted(it)) {
        if only.as_ref().is_some_and(|it| !operation.name.contains(it.as_str())) {
            continue;
        }
        let normal = run_without_fault(&bed, operation);
        for call in &normal.calls {
            'next: for when in 1.. {
                let chosen = if is_thorough() {
                    &ERRORS[..]
                } else {
                    std::slice::from_ref(&ERRORS[tried % ERRORS.len()])
                };
                for errno in chosen {
                    let Some(found) =
                        try_error(&bed, operation, &normal, (call, when), *errno, data == "noopen")
                    else {
                        break 'next;
                    };
                    tried += 1;
                    problems.extend(
                        found
                            .iter()
                            .map(|it| format!("{}: {errno:?} at {call} number {when}: {it}", operation.name)),
                    );
                }
            }
        }
    }
    println!("{tried} faults");
    assert!(problems.is_empty(), "{} problems with {tried} faults:\n{}", problems.len(), problems.join("\n"));
}

/// Operations that keep the old state at every call so far.
const HELD: [&str; 4] = [
    "unlink a lower file",
    "mkdir over a whiteout",
    "create a file over a whiteout",
    "rename a lower file over a whiteout",
];

#[test]
fn fuse_root_an_error_at_any_call_reaches_the_caller_and_changes_nothing() {
    inject_errors("auto", false, |it| HELD.contains(&it.name));
}
