//! Branches that others change while they are in a union: no wrong bytes, no waiting, and errors that say so.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot prepare its tree has failed")]

mod stack;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use aufs_testkit::hostile::{Kind, Outside, snapshot};
use aufs_testkit::tree::plant;
use aufs_union::attr::{Creator, SetAttr};
use aufs_union::{Keep, New, Node, RenameMode, Union, UnionError};
use rustix::fs::FileType;
use rustix::io::Errno;

use stack::options;

/// What an entry that is not what it was may be answered with.
const ALLOWED: [Errno; 13] = [
    Errno::NOENT,
    Errno::NOTDIR,
    Errno::ISDIR,
    Errno::NOTEMPTY,
    Errno::EXIST,
    Errno::LOOP,
    Errno::STALE,
    Errno::INVAL,
    Errno::NXIO, // A FIFO without a reader, a socket.
    Errno::XDEV,
    Errno::ACCESS,
    Errno::PERM, // A link to a directory; anything new in a directory of ext4 that is gone.
    Errno::OPNOTSUPP,
];

fn me() -> Creator {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Creator { uid, gid, umask: 0o022 }
}

/// Runs `act` in a thread of its own, which must end.
fn in_time(what: &str, act: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        act();
        done.send(()).unwrap();
    });
    match finished.recv_timeout(Duration::from_secs(60)) {
        Ok(()) => (),
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what}: no end"),
        Err(mpsc::RecvTimeoutError::Disconnected) => std::panic::resume_unwind(worker.join().unwrap_err()),
    }
}

fn find(union: &Union, path: &str) -> Result<Option<Arc<Node>>, UnionError> {
    let mut node = Arc::clone(union.root());
    for part in path.split('/').filter(|it| !it.is_empty()) {
        match union.lookup(&node, OsStr::new(part))? {
            Some(found) => node = found.node,
            None => return Ok(None),
        }
    }
    Ok(Some(node))
}

fn names(union: &Union, dir: &str) -> Vec<String> {
    let dir = find(union, dir).unwrap().unwrap();
    let entries = union.read_directory(&dir, 0, usize::MAX).unwrap();
    let names: BTreeSet<_> = entries.iter().map(|it| it.name.to_string_lossy().into_owned()).collect();
    names.into_iter().collect()
}

fn text(union: &Union, node: &Arc<Node>) -> Result<String, UnionError> {
    let open = union.open_file(node)?;
    let mut buffer = [0; 64];
    let count = union.read_at(&open, &mut buffer, 0)?;
    Ok(String::from_utf8_lossy(&buffer[..count]).into_owned())
}

/// Everything that can be done to one name; the errors it met.
fn do_all(union: &Union, dir: &Arc<Node>, name: &str, node: &Arc<Node>) -> Vec<(&'static str, UnionError)> {
    let mut met = Vec::new();
    let mut note = |what, result: Result<(), UnionError>| met.extend(result.err().map(|error| (what, error)));
    let name = OsStr::new(name);
    note("stat", union.attributes(node).map(drop));
    note("birth", union.birth_time(node).map(drop));
    match node.file_type() {
        FileType::RegularFile => {
            let read = text(union, node).map(|it| {
                assert!(!it.contains("outside") && !it.contains("inside"), "read from elsewhere: {it}");
            });
            note("read", read);
            note("path", union.open_path(node).map(drop));
            if let Ok(open) = union.open_file(node) {
                note("write", union.write_at(&open, b"W", 0).map(drop));
                note("allocate", union.allocate(&open, 0, 0, 10).map(drop));
                note("sync", union.sync_file(&open, false));
            }
            let cut = SetAttr { len_bytes: Some(1), ..SetAttr::default() };
            note("cut", union.set_attributes(node, &cut).map(drop));
        }
        FileType::Directory => {
            note("list", union.read_directory(node, 0, usize::MAX).map(drop));
            note("look", union.lookup(node, OsStr::new("in")).map(drop));
            note("make", union.create(node, OsStr::new("new"), 0o644, me()).map(drop));
            note(
                "mkdir",
                union.create_special(node, OsStr::new("nd"), New::Directory(0o755), me()).map(drop),
            );
            note("unlink", union.unlink(node, OsStr::new("in")));
            note("sync", union.sync_directory(node));
        }
        FileType::Symlink => note("read link", union.read_link(node).map(drop)),
        _ => (),
    }
    note("mode", union.set_attributes(node, &SetAttr { mode: Some(0o640), ..SetAttr::default() }).map(drop));
    note("attribute", union.xattr(node, OsStr::new("user.x")).map(drop));
    note("copy-up", union.copy_up(node, Keep::All).map(drop));
    let (root, moved) = (union.root(), OsStr::new("moved"));
    note("link", union.link(node, root, OsStr::new("linked")).map(drop));
    note("rename", union.rename(dir, name, root, moved, RenameMode::Replace));
    note("unlink", union.unlink(dir, name));
    note("rmdir", union.rmdir(dir, name));
    met
}

/// A file, a directory or a link of a branch becomes something else, or goes, when the union knows it or does not.
#[test]
fn an_entry_that_others_replace_is_an_error_at_most() {
    // Deeper down only what differs there.
    let few = [Some(Kind::FullDir), Some(Kind::LinkToDir), Some(Kind::Fifo), None];
    let all: Vec<Option<Kind>> = Kind::all().into_iter().map(Some).chain([None]).collect();
    for (revalidate, branch) in [(false, "b0"), (false, "b1"), (true, "b0"), (true, "b1")] {
        for (below, names, kinds) in
            [("", &["f", "d", "l"][..], &all[..]), ("sub", &["f", "d"], &few), ("all", &["f", "d"], &few)]
        {
            for (name, new, known) in product(names, kinds) {
                let what =
                    format!("reval {revalidate}: {branch} {below}/{name} becomes {new:?}, known {known}");
                let told = what.clone();
                in_time(&what, move || replaced(&told, revalidate, branch, below, name, new, known));
            }
        }
    }
}

fn product<'a>(
    names: &'a [&'static str],
    kinds: &'a [Option<Kind>],
) -> impl Iterator<Item = (&'static str, Option<Kind>, bool)> + 'a {
    let of_name = move |name: &&'static str| {
        let name = *name;
        kinds.iter().flat_map(move |kind| [(name, *kind, false), (name, *kind, true)])
    };
    names.iter().flat_map(of_name)
}

fn replaced(
    what: &str,
    revalidate: bool,
    branch: &str,
    below: &str,
    name: &str,
    new: Option<Kind>,
    known: bool,
) {
    let base = tempfile::tempdir().unwrap();
    let outside = Outside::new(&base.path().join("outside")).unwrap();
    let at = base.path().join(branch).join(below);
    plant(&base.path().join("b0"), &["other: o"]).unwrap();
    plant(&base.path().join("b2"), &["f: lowest", "d/in: lowest", "sub/d/in: lowest", "all/d/in: lowest"])
        .unwrap();
    plant(&at, &["f: text", "d/in: text", "d/more: text", "l -> f"]).unwrap();
    let union = Union::open(&aufs_union::UnionOptions { revalidate, ..options(base.path(), 2) }).unwrap();
    let dir = find(&union, below).unwrap().unwrap();
    let node =
        find(&union, if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") }.as_str());
    let node = node.unwrap().unwrap();
    if known {
        for dir in ["", below] {
            names(&union, dir);
        }
        if node.file_type() == FileType::Directory {
            union.read_directory(&node, 0, usize::MAX).unwrap();
        }
    }
    // Where `all` is to go, its directory goes along.
    let victim = if below == "all" { at.clone() } else { at.join(name) };
    if victim.is_dir() && !victim.is_symlink() {
        fs::remove_dir_all(&victim).unwrap();
    } else {
        fs::remove_file(&victim).unwrap();
    }
    if let Some(new) = new {
        new.plant(&victim, &outside).unwrap();
    }
    let below_before = ["b1", "b2"].map(|it| snapshot(&base.path().join(it)).unwrap());
    for (op, error) in do_all(&union, &dir, name, &node) {
        assert!(ALLOWED.contains(&error.errno()), "{what}: {op}: {error}");
    }
    // A look at everything, from the top.
    let mut left = vec![Arc::clone(union.root())];
    while let Some(dir) = left.pop() {
        let Ok(entries) = union.read_directory(&dir, 0, usize::MAX) else { continue };
        for entry in entries {
            match union.lookup(&dir, &entry.name) {
                Ok(Some(found)) if found.node.file_type() == FileType::Directory => left.push(found.node),
                Ok(_) => (),
                Err(error) => assert!(ALLOWED.contains(&error.errno()), "{what}: {error}"),
            }
        }
    }
    drop((union, node, dir));
    assert!(
        ["b1", "b2"].map(|it| snapshot(&base.path().join(it)).unwrap()) == below_before,
        "{what}: written below"
    );
    assert!(outside.is_untouched().unwrap(), "{what}: outside");
    // What is there now is what a new union shows, and it works.
    let union = Union::open(&options(base.path(), 2)).unwrap();
    union.create(union.root(), OsStr::new("works"), 0o644, me()).unwrap();
}

/// With `udba=reval` the branches are asked at each lookup.
#[test]
fn a_union_that_revalidates_shows_what_others_changed() {
    let base = tempfile::tempdir().unwrap();
    for branch in ["b0", "b1", "b2"] {
        plant(&base.path().join(branch), &[format!("d/{branch}: {branch}"), "d/same: s".to_owned()]).unwrap();
    }
    plant(&base.path().join("b1"), &["f: b1", "g/x: x"]).unwrap();
    let union =
        Union::open(&aufs_union::UnionOptions { revalidate: true, ..options(base.path(), 2) }).unwrap();
    let in_b = |path: &str| base.path().join(path);
    let show = |path: &str| find(&union, path).unwrap().map(|it| text(&union, &it).unwrap());
    // Kept, as the kernel keeps what it knows.
    let _known = (find(&union, "d").unwrap(), find(&union, "f").unwrap(), find(&union, "d/b1").unwrap());
    assert_eq!(names(&union, "d"), ["b0", "b1", "b2", "same"]);

    fs::remove_dir_all(in_b("b1/d")).unwrap();
    assert_eq!(names(&union, "d"), ["b0", "b2", "same"], "a part went");
    assert_eq!(show("d/b1"), None);
    plant(&in_b("b1"), &["d/again: a", "d/same: b1"]).unwrap();
    assert_eq!(names(&union, "d"), ["again", "b0", "b2", "same"], "a part came back");
    assert_eq!(show("d/again").as_deref(), Some("a"));
    plant(&in_b("b1"), &["d/.wh..wh..opq: "]).unwrap();
    assert_eq!(names(&union, "d"), ["again", "b0", "same"], "a part became opaque");
    assert_eq!(show("d/b2"), None);
    fs::remove_file(in_b("b1/d/.wh..wh..opq")).unwrap();
    assert_eq!(names(&union, "d"), ["again", "b0", "b2", "same"], "and is not opaque any more");

    fs::remove_dir_all(in_b("b0/d")).unwrap();
    assert_eq!(names(&union, "d"), ["again", "b2", "same"], "the topmost part went");
    assert_eq!(show("d/same").as_deref(), Some("b1"));
    let dir = find(&union, "d").unwrap().unwrap();
    union.create(&dir, OsStr::new("new"), 0o644, me()).unwrap();
    assert!(in_b("b0/d/new").exists(), "copied up again");

    plant(&in_b("b0"), &[".wh..wh..opq: "]).unwrap();
    assert_eq!((show("f"), names(&union, "")), (None, vec!["d".to_owned()]), "the root became opaque");
    fs::remove_file(in_b("b0/.wh..wh..opq")).unwrap();
    assert_eq!(names(&union, ""), ["d", "f", "g"], "and is not opaque any more");

    fs::remove_file(in_b("b1/f")).unwrap();
    assert_eq!(show("f"), None);
    fs::write(in_b("b2/f"), "b2").unwrap();
    assert_eq!(show("f").as_deref(), Some("b2"));
    plant(&in_b("b0"), &[".wh.f: "]).unwrap();
    assert_eq!(show("f"), None);
    fs::remove_dir_all(in_b("b1/g")).unwrap();
    fs::write(in_b("b1/g"), "a file now").unwrap();
    assert_eq!(show("g").as_deref(), Some("a file now"));
}

/// The writable branch itself may be removed under a union.
#[test]
fn a_branch_whose_directory_goes_makes_errors_only() {
    for revalidate in [false, true] {
        for gone in ["b0", "b1"] {
            for known in [false, true] {
                let what = format!("reval {revalidate}, {gone} gone, known {known}");
                let told = what.clone();
                in_time(&what, move || branch_gone(&told, revalidate, gone, known));
            }
        }
    }
}

fn branch_gone(what: &str, revalidate: bool, gone: &str, known: bool) {
    let base = tempfile::tempdir().unwrap();
    for branch in ["b0", "b1", "b2"] {
        plant(&base.path().join(branch), &[format!("d/{branch}: {branch}"), format!("{branch}: {branch}")])
            .unwrap();
    }
    let union = Union::open(&aufs_union::UnionOptions { revalidate, ..options(base.path(), 2) }).unwrap();
    let nodes: Vec<_> = ["b0", "b1", "b2", "d", "d/b0", "d/b1", "d/b2"]
        .into_iter()
        .filter(|_| known)
        .map(|it| (it, find(&union, it).unwrap().unwrap()))
        .collect();
    fs::remove_dir_all(base.path().join(gone)).unwrap();
    let below = snapshot(&base.path().join("b2")).unwrap();
    for (path, node) in &nodes {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let Ok(Some(dir)) = find(&union, dir) else { continue };
        for (op, error) in do_all(&union, &dir, name, node) {
            assert!(ALLOWED.contains(&error.errno()), "{what}: {path}: {op}: {error}");
        }
    }
    let made = union.create(union.root(), OsStr::new("new"), 0o644, me());
    assert_eq!(made.is_err(), gone == "b0", "{what}: {made:?}");
    let kept = union.lookup(union.root(), OsStr::new("b2"));
    assert!(kept.is_ok() && (known || kept.unwrap().is_some()), "{what}");
    drop((nodes, union));
    assert!(snapshot(&base.path().join("b2")).unwrap() == below, "{what}: written below");
    assert!(gone != "b0" || !Path::new(&base.path().join("b0")).exists(), "{what}: made anew");
}
