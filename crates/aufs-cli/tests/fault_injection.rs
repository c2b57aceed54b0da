//! Errors of branches at every call the server makes, and its death at each: the caller hears of it, the union
//! shows the old state or, of a killed server, the new one; nothing stays behind.
//!
//! Here each test takes one call in so many, with one error after the other, for they are some thousands in
//! all; those that change a branch come more often than those that look. `just faults` tries each error at each call.
#![allow(clippy::unwrap_used, reason = "test helpers may fail the test")]

mod faults;
mod host;

use aufs_testkit::needs::Need::{Fuse, Root};
use faults::bed::Setting;
use faults::disk::Disk;
use faults::errors::Errors;
use faults::kills::Kills;
use faults::operations::Operation;
use faults::tracer::STRACE;
use faults::{Extent, chosen, judge};
use host::has;

const CASES: usize = 48;

fn inject_errors(options: &'static str, disk: Disk, extent: Extent, wanted: impl Fn(&Operation) -> bool) {
    if !has(&[Fuse, Root, STRACE]) {
        return;
    }
    let mut errors = Errors::new(Setting { options, disk, cases: CASES }, extent);
    for operation in chosen(wanted) {
        errors.try_operation(&operation);
    }
    errors.stage.finish();
    judge(errors.tried, &errors.stage.problems);
}

/// By the device, since a killed server with io_uring takes a second to go, and does the same to the branches.
fn kill_servers(options: &'static str, extent: Extent, wanted: impl Fn(&Operation) -> bool) {
    if !has(&[Fuse, Root, STRACE]) {
        return;
    }
    let mut kills = Kills::new(Setting { options, disk: Disk::Host, cases: CASES }, extent);
    for operation in chosen(wanted) {
        kills.try_operation(&operation);
    }
    kills.stage.finish();
    judge(kills.tried, &kills.stage.problems);
}

#[test]
fn fuse_root_an_error_at_any_call_reaches_the_caller_and_changes_nothing() {
    inject_errors("data=auto", Disk::Host, Extent::one_in(2, 8), |_| true);
}

#[test]
fn fuse_root_an_error_at_any_call_reaches_the_caller_without_opens() {
    inject_errors("data=noopen", Disk::Host, Extent::one_in(4, 12), |it| it.depends_on_mode);
}

#[test]
fn fuse_root_an_error_at_any_call_reaches_the_caller_in_cached_mode() {
    inject_errors("data=cached", Disk::Host, Extent::one_in(4, 12), |it| it.depends_on_mode);
}

#[test]
fn fuse_root_an_error_at_any_call_reaches_the_caller_where_the_branch_is_a_tmpfs() {
    let wanted = |it: &Operation| it.name.contains("long") || it.name.contains("hard link");
    inject_errors("data=auto", Disk::Tmpfs, Extent::one_in(4, 12), wanted);
}

#[test]
fn fuse_root_a_server_killed_at_any_call_leaves_the_old_state_or_the_new() {
    kill_servers("data=auto,transport=device", Extent::one_in(3, 30), |_| true);
}

#[test]
fn fuse_root_a_server_killed_at_any_call_leaves_the_old_state_or_the_new_without_opens() {
    kill_servers("data=noopen,transport=device", Extent::one_in(4, 12), |it| it.depends_on_mode);
}
