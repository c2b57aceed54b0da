//! One scene on a plain directory and on unions in every data mode: what it sees must be the same.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    dead_code,
    reason = "shared by test programs; failing is their job"
)]

use std::fmt::Debug;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aufs_testkit::history::{Links, shown};
use aufs_testkit::mounted::Mounted;
use aufs_testkit::needs::Need::{Fuse, Root};
use aufs_testkit::scenario::Tree;
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{AtFlags, CWD, Mode, chmod, chownat};
use rustix::process::{Gid, Uid, umask};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::host::{Host, has};

/// The options of each way to serve; plain `data=auto` is passthrough where the kernel grants it.
pub const WAYS: [&str; 4] = ["data=auto", "data=noopen", "data=cached", "udba=reval"];

/// Where a scene plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A plain directory: what the others must equal.
    Plain,
    /// A union whose kernel does the I/O.
    Passthrough,
    /// A union without opens, whose kernel collects writes.
    NoOpen,
    /// A union that sees every open and write.
    Cached,
}

/// The directory a scene plays in, and what it saw there.
#[derive(Debug)]
pub struct Place {
    root: PathBuf,
    pub stage: Stage,
    is_below: bool,
    pub seen: Vec<String>,
}

impl Place {
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// Notes what was seen.
    pub fn saw(&mut self, what: impl AsRef<str>, value: impl Debug) {
        self.seen.push(format!("{}: {value:?}", what.as_ref()));
    }

    /// Notes a result, an error by its errno.
    pub fn tried<T: Debug, E: Into<io::Error>>(&mut self, what: impl AsRef<str>, result: Result<T, E>) {
        match result {
            Ok(value) => self.saw(what, value),
            Err(error) => {
                let error: io::Error = error.into();
                let errno = error.raw_os_error().map(nix::errno::Errno::from_raw);
                self.seen.push(format!("{}: {errno:?}", what.as_ref()));
            }
        }
    }

    /// Whether what was planted lies on a lower branch.
    pub fn is_below(&self) -> bool {
        self.is_below
    }

    pub fn is_plain(&self) -> bool {
        self.stage == Stage::Plain
    }
}

/// Who makes calls: a user with groups and a mask, without any capability unless it is root.
#[derive(Debug, Clone, Copy)]
pub struct Actor {
    pub name: &'static str,
    pub uid: u32,
    pub gid: u32,
    pub groups: &'static [u32],
    pub umask: u32,
}

pub const ROOT: Actor = Actor { name: "root", uid: 0, gid: 0, groups: &[], umask: 0o022 };
pub const OWNER: Actor = Actor { name: "owner", uid: 1000, gid: 1000, groups: &[], umask: 0o022 };
pub const OTHER: Actor = Actor { name: "other", uid: 2000, gid: 2000, groups: &[], umask: 0o022 };

impl Actor {
    /// Runs `act` in a thread that has this user's rights; other threads keep theirs.
    pub fn does<T: Send>(self, act: impl FnOnce() -> T + Send) -> T {
        let run = move || {
            unshare(CloneFlags::CLONE_FS).unwrap(); // The mask belongs to all threads until then.
            umask(Mode::from_raw_mode(self.umask));
            let groups: Vec<Gid> = self.groups.iter().map(|it| Gid::from_raw(*it)).collect();
            set_thread_groups(&groups).unwrap();
            let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
            set_thread_res_gid(gid, gid, gid).unwrap();
            set_thread_res_uid(uid, uid, uid).unwrap();
            act()
        };
        std::thread::scope(|scope| scope.spawn(run).join())
            .unwrap_or_else(|cause| std::panic::resume_unwind(cause))
    }
}

/// A file of ten bytes.
pub fn make(path: &Path, uid: u32, gid: u32, mode: u32) {
    fs::write(path, "0123456789").unwrap();
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    chownat(CWD, path, uid, gid, AtFlags::empty()).unwrap();
    chmod(path, Mode::from_raw_mode(mode)).unwrap();
}

pub fn make_dir(path: &Path, uid: u32, gid: u32, mode: u32) {
    fs::create_dir(path).unwrap();
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    chownat(CWD, path, uid, gid, AtFlags::empty()).unwrap();
    chmod(path, Mode::from_raw_mode(mode)).unwrap();
}

/// Plays `scene` on what `plant` made: in a plain directory, and in unions that have it below or on top.
///
/// What it sees must be equal, and so must the trees afterwards, also after
/// mounting again; lower branches must be as before.
pub fn plays_alike(plant: impl Fn(&Path), scene: impl Fn(&mut Place)) {
    if !has(&[Fuse, Root]) {
        return;
    }
    let wanted = {
        let host = Host::new();
        let root = empty(&host, "plain");
        plant(&root);
        let seen = play(&root, Stage::Plain, false, &scene);
        (seen, tree(&root))
    };
    let mut differences = Vec::new();
    for way in WAYS {
        for branch in ["l2", "u"] {
            let host = Host::new();
            for name in ["u", "l1", "l2"] {
                fs::remove_dir_all(host.path(name)).unwrap();
                empty(&host, name);
            }
            plant(&host.path(branch));
            let below = (host.snapshot("l1"), host.snapshot("l2"));
            let options = format!("br:@/u=rw:@/l1=ro+wh:@/l2=ro+wh,{way}");
            let told = host.run(&["mount", "--json", "-o", &options, "@/m"]);
            let seen = play(&host.path("m"), stage_of(&told), branch != "u", &scene);
            let what = format!("{way}, {branch}");
            compare(&what, &wanted.0, &seen, &mut differences);
            let after = tree(&host.path("m"));
            aufs_testkit::compare::compare_trees(&what, &wanted.1, &after, &mut differences);
            host.run(&["umount", "@/m"]);
            if (host.snapshot("l1"), host.snapshot("l2")) != below {
                differences.push(format!("{what}: a lower branch was written"));
            }
            host.run(&["mount", "-o", &options, "@/m"]);
            let again = tree(&host.path("m"));
            aufs_testkit::compare::compare_trees(
                &format!("{what}, mounted again"),
                &after,
                &again,
                &mut differences,
            );
            host.run(&["umount", "@/m"]);
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn empty(host: &Host, name: &str) -> PathBuf {
    let path = host.path(name);
    fs::create_dir(&path).unwrap();
    chmod(&path, Mode::from_raw_mode(0o755)).unwrap();
    path
}

fn stage_of(told: &str) -> Stage {
    for (word, stage) in
        [("passthrough", Stage::Passthrough), ("noopen", Stage::NoOpen), ("cached", Stage::Cached)]
    {
        if told.contains(&format!("\"{word}\"")) {
            return stage;
        }
    }
    panic!("no data mode in {told}");
}

fn play(root: &Path, stage: Stage, is_below: bool, scene: &impl Fn(&mut Place)) -> Vec<String> {
    let mut place = Place { root: root.to_owned(), stage, is_below, seen: Vec::new() };
    scene(&mut place);
    place.seen
}

fn tree(root: &Path) -> Tree {
    shown(&mut Mounted::plain(root.to_owned()), Links::Exact).unwrap()
}

fn compare(place: &str, wanted: &[String], seen: &[String], differences: &mut Vec<String>) {
    if wanted.len() != seen.len() {
        differences.push(format!("{place}: saw {} things, wanted {}", seen.len(), wanted.len()));
    }
    for (wanted, seen) in wanted.iter().zip(seen).filter(|(wanted, seen)| wanted != seen) {
        differences.push(format!("{place}: wanted {wanted}\n    got {seen}"));
    }
}
