//! How many system calls each operation takes: what a server adds to what a program waits for.
//!
//! The test runs itself again under strace, where it marks each operation by asking for a file of that name.

#![expect(clippy::unwrap_used, reason = "a test that cannot prepare its tree has failed")]

mod stack;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use aufs_union::attr::{Creator, SetAttr, SetTime};
use aufs_union::{Keep, New, Node, RenameMode, Union};

use stack::open;

/// Where the operations are to be done; set in the process that is traced.
const BASE_VARIABLE: &str = "AUFS_TEST_SYSCALLS_BASE";
const MARK: &str = "/aufs-test-mark-";
/// Calls of the allocator and the scheduler, which may come at any time, and what debug builds ask before `close`.
const NOT_OURS: [&str; 8] = ["fcntl", "mmap", "munmap", "mremap", "brk", "madvise", "futex", "sched_yield"];

/// The most calls each operation may take on a directory that is indexed and on the writable branch.
const MOST: [(&str, usize); 14] = [
    ("lookup", 1),
    ("lookup known", 1),
    ("lookup missing", 0),
    ("copy up", 12),
    ("copy up again", 11), // Whether the file systems share blocks is known now.
    ("create", 2),
    ("set attributes by descriptor", 3),
    ("set attributes by name", 3),
    ("make directory", 2),
    ("create in a new directory", 3), // One for its handle.
    ("make symbolic link", 2),
    ("rename", 1),
    ("unlink upper", 2),
    ("unlink lower", 3),
];

fn mark(operation: &str) {
    assert!(fs::metadata(format!("{MARK}{operation}")).is_err());
}

fn find(union: &Union, dir: &Arc<Node>, name: &str) -> Option<Arc<Node>> {
    union.lookup(dir, OsStr::new(name)).unwrap().map(|it| it.node)
}

/// Does each operation once, after a mark.
fn operate(base: &Path) {
    fs::create_dir_all(base.join("b1/d")).unwrap();
    for index in 0..8 {
        fs::write(base.join(format!("b1/d/f{index}")), vec![1; 4096]).unwrap();
    }
    let union = open(base, 1);
    let dir = find(&union, union.root(), "d").unwrap();
    let kept: Vec<_> = (2..5).map(|index| find(&union, &dir, &format!("f{index}")).unwrap()).collect();
    union.read_directory(&dir, 0, usize::MAX).unwrap();
    let me = Creator {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        umask: 0o022,
    };
    union.create(&dir, OsStr::new("first"), 0o644, me).unwrap();

    mark("lookup");
    let looked_up = find(&union, &dir, "f0");
    mark("lookup known");
    find(&union, &dir, "f0");
    mark("lookup missing");
    let missing = find(&union, &dir, "f9");
    mark("copy up");
    union.copy_up(&kept[0], Keep::All).unwrap();
    mark("copy up again");
    union.copy_up(&kept[1], Keep::All).unwrap();
    mark("create");
    let (found, file) = union.create(&dir, OsStr::new("new"), 0o644, me).unwrap();
    mark("");
    let file = union.open_created(&found.node, file);
    let change = SetAttr { mode: Some(0o600), mtime: Some(SetTime::Now), ..SetAttr::default() };
    mark("set attributes by descriptor");
    union.set_attributes_through(&found.node, Some(&file), &change, None).unwrap();
    mark("set attributes by name");
    union.set_attributes(&found.node, &change).unwrap();
    mark("make directory");
    let made = union.create_special(&dir, OsStr::new("made"), New::Directory(0o755), me).unwrap();
    mark("create in a new directory");
    let inside = union.create(&made.node, OsStr::new("inside"), 0o644, me).unwrap();
    mark("make symbolic link");
    let link = union.create_special(&dir, OsStr::new("link"), New::Symlink(OsStr::new("x")), me).unwrap();
    mark("rename");
    let (from, to) = (OsStr::new("new"), OsStr::new("newer"));
    union.rename(&dir, from, &dir, to, RenameMode::Replace).unwrap();
    mark("unlink upper");
    union.unlink(&dir, OsStr::new("newer")).unwrap();
    mark("unlink lower");
    union.unlink(&dir, OsStr::new("f4")).unwrap();
    mark("");
    drop((looked_up, missing, kept, found, file, made, link, inside));
}

/// Returns the calls after each mark of a trace.
fn calls_of(trace: &str) -> BTreeMap<String, Vec<String>> {
    let mut calls: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut operation = String::new();
    for line in trace.lines() {
        // Behind the process number, where there is one.
        let call = line.trim_start_matches(|it: char| it.is_ascii_digit() || it == ' ');
        let Some((name, rest)) = call.split_once('(') else { continue };
        if let Some((_, marked)) = rest.split_once(MARK) {
            operation = marked.split('"').next().unwrap_or_default().to_owned();
            calls.entry(operation.clone()).or_default();
        } else if !NOT_OURS.contains(&name) {
            calls.entry(operation.clone()).or_default().push(name.to_owned());
        }
    }
    calls
}

#[test]
fn operations_take_few_system_calls() {
    if let Some(base) = std::env::var_os(BASE_VARIABLE) {
        return operate(Path::new(&base));
    }
    let base = tempfile::tempdir().unwrap();
    let trace = base.path().join("trace");
    let run = Command::new("strace")
        .args(["-f", "-qq", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "operations_take_few_system_calls", "--test-threads=1"])
        .env(BASE_VARIABLE, base.path())
        .output();
    let run = match run {
        Err(error) => return eprintln!("skipped: cannot run strace: {error}"),
        Ok(run) => run,
    };
    let trace = fs::read_to_string(trace).unwrap_or_default();
    if !run.status.success() && !trace.contains(MARK) {
        return eprintln!("skipped: strace cannot trace here: {}", String::from_utf8_lossy(&run.stderr));
    }
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
    let calls = calls_of(&trace);
    for (operation, most) in MOST {
        let made = &calls[operation];
        assert!(made.len() <= most, "{operation} takes more than {most} calls: {made:?}");
    }
    assert!(2 <= calls["create"].len(), "the trace is not read rightly: {:?}", calls["create"]);
}
