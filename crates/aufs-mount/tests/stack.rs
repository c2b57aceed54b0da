//! Which directories make a stack, and what is said about those that do not.
#![allow(clippy::unwrap_used, reason = "test helpers may fail the test")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use aufs_mount::error::ErrorClass;
use aufs_mount::option::{Dialect, parse};
use aufs_mount::stack::BranchStack;
use tempfile::TempDir;

/// A directory with `u`, `l1`, `l2`, `l1/in`, `m`, `w` and a file `f`.
fn host() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["u", "l1", "l2", "l1/in", "m", "w"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    fs::write(dir.path().join("f"), "").unwrap();
    dir
}

/// Checks a stack given as text, where `@` stands for the directory.
fn check(
    dir: &Path,
    text: &str,
    mountpoint: &str,
) -> Result<(BranchStack, Vec<String>), (ErrorClass, String)> {
    let text = text.replace('@', dir.to_str().unwrap());
    let options = parse(text.as_ref(), Dialect::Own).unwrap().options;
    match BranchStack::check(&options, &dir.join(mountpoint)) {
        Ok((stack, warnings)) => Ok((stack, warnings.iter().map(ToString::to_string).collect())),
        Err(error) => {
            let line = format!("{error}: {}", error.kind).replace(dir.to_str().unwrap(), "@");
            Err((error.kind.class(), line))
        }
    }
}

fn shown(stack: &BranchStack, dir: &Path) -> Vec<String> {
    let line = |path: &Path| path.strip_prefix(dir).unwrap().display().to_string();
    stack.branches().iter().map(|it| format!("{}={}", line(&it.path), it.perm)).collect()
}

#[test]
fn what_cannot_be_stacked_is_named_with_its_remedy() {
    let dir = host();
    let nest = "branches must not contain each other";
    for (options, mountpoint, expected) in [
        (
            "br:@/u=rw:@/no=ro",
            "m",
            "branch @/no: no such directory; create it or correct the path".to_owned(),
        ),
        ("br:@/u=rw:@/f=ro", "m", "branch @/f: not a directory; name a directory".to_owned()),
        ("br:@/f/x=ro", "m", "branch @/f/x: not a directory; name a directory".to_owned()),
        (
            "br:@/u:@/l1:@/u",
            "m",
            "branch @/u: the same directory as branch @/u; name each directory once".to_owned(),
        ),
        ("br:@/l1/in:@/l2:@/l1", "m", format!("branch @/l1/in: lies inside branch @/l1; {nest}")),
        (
            "br:@/u:@/l1",
            "no",
            "mount point @/no: no such directory; create it or correct the path".to_owned(),
        ),
        ("br:@/u:@/l1", "f", "mount point @/f: not a directory; name a directory".to_owned()),
        (
            "br:@/u:@/l1",
            "l1/in",
            "mount point @/l1/in: lies inside branch @/l1; mount outside of every branch".to_owned(),
        ),
        (
            "br:@/u:@/l1",
            "l1",
            "mount point @/l1: lies inside branch @/l1; mount outside of every branch".to_owned(),
        ),
        (
            "br:@/u:@/l1/in",
            "l1",
            "mount point @/l1: contains branch @/l1/in; mount outside of every branch".to_owned(),
        ),
        (
            "br:@/u:@/l1,workdir=@/no",
            "m",
            "workdir @/no: no such directory; create it or correct the path".to_owned(),
        ),
        ("br:@/u:@/l1,workdir=@/l1/in", "m", format!("workdir @/l1/in: lies inside branch @/l1; {nest}")),
        ("br:@/u:@/l1,workdir=@/u", "m", format!("workdir @/u: lies inside branch @/u; {nest}")),
    ] {
        let found = check(dir.path(), options, mountpoint).map(|it| it.1);
        assert_eq!(found, Err((ErrorClass::Refused, expected)), "{options} at {mountpoint}");
    }
    let none = check(dir.path(), "ro", "m").map(|it| it.1);
    let text = "mount @/m: no branches given; name them with -o br:PATH=PERM or --branch PATH=PERM";
    assert_eq!(none, Err((ErrorClass::Usage, text.to_owned())));
}

#[test]
fn symlinks_and_dots_are_resolved() {
    let dir = host();
    let base = fs::canonicalize(dir.path()).unwrap();
    symlink("l1", base.join("link")).unwrap();
    let (stack, warnings) = check(&base, "br:@/u/../u=rw:@/link=ro,workdir=@/./w", "l2/../m").unwrap();
    assert_eq!(shown(&stack, &base), ["u=rw", "l1=ro"]);
    assert_eq!(
        (stack.workdir(), stack.mountpoint()),
        (Some(base.join("w").as_path()), base.join("m").as_path())
    );
    assert_eq!(warnings, [""; 0]);
    let twice = check(&base, "br:@/u=rw:@/link=ro:@/l1=ro", "m").unwrap_err().1;
    assert_eq!(twice, "branch @/l1: the same directory as branch @/l1; name each directory once");
}

#[test]
fn only_the_first_writable_branch_stays_so() {
    let dir = host();
    let (stack, warnings) = check(dir.path(), "br:@/l2=ro:@/u=rw:@/l1=rw", "m").unwrap();
    assert_eq!(shown(&stack, &fs::canonicalize(dir.path()).unwrap()), ["l2=ro", "u=rw", "l1=ro+wh"]);
    let l1 = dir.path().join("l1");
    assert_eq!(warnings, [format!("only the first rw branch is written; taken as ro+wh: {}", l1.display())]);
}

#[test]
fn a_workdir_without_a_writable_branch_is_pointless() {
    let dir = host();
    let (stack, warnings) = check(dir.path(), "br:@/u=ro:@/l1,workdir=@/no", "m").unwrap();
    assert_eq!(stack.workdir(), None);
    assert_eq!(warnings, ["workdir= does nothing, as no branch is rw"]);
}

#[test]
fn deep_stacks_and_odd_names_pass() {
    let dir = host();
    let mut options = parse("".as_ref(), Dialect::Own).unwrap().options;
    for n in 0..600 {
        let mut name = format!("layer,{n}:=\n").into_bytes();
        name.push(0xff);
        let path: PathBuf = dir.path().join(OsStr::from_bytes(&name));
        fs::create_dir(&path).unwrap();
        options.branches.push(aufs_union::branch::BranchSpec { path, perm: "ro+wh".parse().unwrap() });
    }
    let (stack, warnings) = BranchStack::check(&options, &dir.path().join("m")).unwrap();
    assert_eq!(stack.branches().len(), 600);
    assert_eq!(warnings, []);
}

#[test]
fn messages_stay_in_one_line() {
    let dir = host();
    let mut options = parse("br:x=ro".as_ref(), Dialect::Own).unwrap().options;
    options.branches[0].path = dir.path().join("no\nsuch");
    let error = BranchStack::check(&options, &dir.path().join("m")).unwrap_err();
    let line = format!("{error}: {}", error.kind);
    assert!(!line.contains('\n') && line.contains(r"no\nsuch"), "{line}");
}
