//! Many threads in few directories: no call waits forever, and the tree is what the branches say.

#![expect(clippy::unwrap_used, reason = "a test that cannot prepare its tree has failed")]

mod stack;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use aufs_union::attr::{Creator, SetAttr};
use aufs_union::{Keep, Node, RenameMode, Union};

use stack::open;

const DIRECTORIES: usize = 4;
const NAMES: u32 = 12;
const THREADS: u64 = 8;
const STEPS: usize = 5000;
/// Far more than the test takes anywhere; only a deadlock reaches it.
const PATIENCE: Duration = Duration::from_secs(300);

/// Numbers that look random; xorshift, as a history need not be better than that.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as u32 % sides
    }

    fn name(&mut self) -> String {
        format!("n{}", self.roll(NAMES))
    }
}

/// One step; that others get in the way is no failure, and what they leave is checked at the end.
fn step(union: &Union, dirs: &[Arc<Node>], dice: &mut Dice, kept: &mut Vec<Arc<Node>>) {
    let me = Creator {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        umask: 0o022,
    };
    let dir = &dirs[dice.roll(DIRECTORIES as u32) as usize];
    let other = &dirs[dice.roll(DIRECTORIES as u32) as usize];
    let (name, new_name) = (dice.name(), dice.name());
    let (name, new_name) = (OsStr::new(&name), OsStr::new(&new_name));
    let found = union.lookup(dir, name).ok().flatten();
    let done = match (dice.roll(10), found) {
        (0 | 1, _) => union.create(dir, name, 0o644, me).map(drop),
        (2 | 3, _) => union.unlink(dir, name),
        (4, _) => union.rename(dir, name, other, new_name, RenameMode::Replace),
        (5, _) => union.rename(dir, name, other, new_name, RenameMode::Exchange),
        (6, Some(found)) => union.link(&found.node, other, new_name).map(drop),
        (7, Some(found)) => union.copy_up(&found.node, Keep::All).map(drop),
        (8, Some(found)) => {
            kept.push(Arc::clone(&found.node));
            let change = SetAttr { mode: Some(0o600), ..SetAttr::default() };
            union.set_attributes(&found.node, &change).map(drop)
        }
        _ => union.read_directory(dir, 0, 5).map(drop),
    };
    if let Err(error) = done {
        let errno = error.errno();
        assert!(errno != rustix::io::Errno::IO && errno != rustix::io::Errno::MFILE, "{error}");
    }
    if 8 < kept.len() {
        kept.clear();
    }
}

fn names(union: &Union, dir: &Arc<Node>) -> BTreeSet<String> {
    let entries = union.read_directory(dir, 0, usize::MAX).unwrap();
    entries.iter().map(|it| it.name.to_string_lossy().into_owned()).collect()
}

#[test]
fn threads_neither_wait_forever_nor_spoil_the_tree() {
    let base = tempfile::tempdir().unwrap();
    for dir in 0..DIRECTORIES {
        for branch in 1..6 {
            let path = base.path().join(format!("b{branch}/d{dir}"));
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join(format!("n{branch}")), "text").unwrap();
            fs::hard_link(path.join(format!("n{branch}")), path.join(format!("n{}", branch + 5))).unwrap();
        }
    }
    let union = Arc::new(open(base.path(), 5));
    let find = |union: &Union, dir: usize| {
        union.lookup(union.root(), OsStr::new(&format!("d{dir}"))).unwrap().unwrap().node
    };
    let dirs: Arc<Vec<_>> = Arc::new((0..DIRECTORIES).map(|dir| find(&union, dir)).collect());
    let (done, finished) = mpsc::channel();
    for seed in 1..=THREADS {
        let (union, dirs, done) = (Arc::clone(&union), Arc::clone(&dirs), done.clone());
        thread::spawn(move || {
            let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut kept = Vec::new();
            for _ in 0..STEPS {
                step(&union, &dirs, &mut dice, &mut kept);
            }
            drop((kept, dirs, union));
            done.send(()).unwrap();
        });
    }
    drop(done);
    for _ in 0..THREADS {
        // A thread that failed hangs up too, so this ends early then.
        finished.recv_timeout(PATIENCE).unwrap();
    }
    let shown: Vec<_> = dirs.iter().map(|dir| names(&union, dir)).collect();
    for (dir, names) in dirs.iter().zip(&shown) {
        for number in 0..NAMES {
            let name = format!("n{number}");
            let found = union.lookup(dir, OsStr::new(&name)).unwrap();
            assert_eq!(found.is_some(), names.contains(&name), "{name}");
        }
    }
    drop(dirs);
    drop(Arc::into_inner(union).unwrap());
    let again = open(base.path(), 5);
    for (dir, names_before) in shown.iter().enumerate() {
        assert_eq!(names(&again, &find(&again, dir)), *names_before, "d{dir} after opening anew");
    }
}
