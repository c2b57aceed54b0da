//! A writable branch that is full, read-only beneath or immutable, on file systems in small images: the
//! caller hears of it, the union shows the old state, and all works again once it is put right.
//!
//! Here each test does one thing in three; `just faults` does them all.
#![allow(clippy::unwrap_used, reason = "test helpers may fail the test")]

mod faults;
mod host;

use aufs_testkit::needs::Need::{Fuse, Root};
use faults::bed::Setting;
use faults::conditions::{CONDITIONS, Condition};
use faults::stage::{Stage, compared, held};
use faults::{Extent, chosen, judge};
use host::has;

fn refuse(name: &str, options: &'static str) {
    for (number, condition) in CONDITIONS.iter().enumerate().filter(|(_, it)| it.name == name) {
        if has(&[Fuse, Root, condition.format.need]) {
            meet(condition, options, number);
        }
    }
}

/// Does what programs do, one after the other, while the branch refuses, and once more when all is right.
fn meet(condition: &Condition, options: &'static str, number: usize) {
    let every = if Extent::one_in(3, 3).is_whole() { 1 } else { 3 };
    let operations: Vec<_> =
        chosen(|it| !condition.is_left_out(it)).into_iter().skip(number % every).step_by(every).collect();
    let setting = Setting { options, disk: condition.disk(), cases: 2 * operations.len() };
    let mut stage = Stage::new(setting);
    let normals: Vec<_> = operations.iter().map(|it| stage.undisturbed(it)).collect();
    let mut problems = Vec::new();
    let mut refused = Vec::new();
    (condition.begin)(&stage.bed);
    for (operation, normal) in operations.iter().zip(&normals) {
        let what = format!("{}: {}, on {}", operation.name, condition.name, condition.format.name);
        let case = stage.case();
        stage.expect(case, &what, &normal.after_mounting);
        (condition.go_on)(&stage.bed);
        let outcome = stage.act(operation, case, stage.server);
        problems.extend(held(&stage, &what, operation, normal, case, outcome));
        match outcome {
            Err(errno) if errno != condition.errno => {
                problems.push(format!("{what}: the caller got {errno:?}"));
            }
            Err(_) => refused.push((operation, normal, case, what)),
            Ok(()) if condition.must_refuse(operation) => problems.push(format!("{what}: it succeeded")),
            Ok(()) => (),
        }
    }
    (condition.end)(&stage.bed);
    assert!(!refused.is_empty(), "{}: nothing was refused", condition.name);
    for (operation, normal, case, what) in &refused {
        if let Err(errno) = stage.act(operation, *case, stage.server) {
            problems.push(format!("{what}: {errno:?} when all is right again"));
        }
        problems.extend(compared(what, "when all is right again", &normal.after, &stage.shown(what, *case)));
    }
    stage.finish();
    stage.problems.extend(problems);
    judge(refused.len(), &stage.problems);
}

#[test]
fn fuse_root_a_branch_without_room_refuses_and_all_stays_as_it_was() {
    refuse("no room for bytes", "data=auto");
}

#[test]
fn fuse_root_a_branch_without_inodes_refuses_and_all_stays_as_it_was() {
    refuse("no inode left", "data=auto");
}

#[test]
fn fuse_root_a_used_up_quota_refuses_and_all_stays_as_it_was() {
    refuse("quota used up", "data=auto");
}

#[test]
fn fuse_root_a_branch_made_read_only_beneath_refuses_and_all_stays_as_it_was() {
    // Not by passthrough: the kernel keeps files open for writing then, and so refuses to mount read-only.
    refuse("mounted read-only beneath", "data=cached");
}

#[test]
fn fuse_root_immutable_directories_of_the_branch_refuse_and_all_stays_as_it_was() {
    refuse("immutable directories", "data=auto");
    refuse("append-only directories", "data=auto");
}
