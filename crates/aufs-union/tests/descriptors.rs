//! A union in a process that may open few files.
//!
//! The only test of its binary: the limit counts for the whole process.

#![expect(clippy::unwrap_used, reason = "a test that cannot prepare its tree has failed")]

mod stack;

use std::ffi::OsStr;
use std::fs;
use std::sync::Arc;

use aufs_union::{Keep, Node, Union};
use rustix::process::{Resource, Rlimit, setrlimit};

use stack::options;

const LIMIT: u64 = 256;
const BRANCHES: usize = 64;
const TOPS: usize = 50;
const DIRECTORIES: usize = 100;

fn child(union: &Union, dir: &Arc<Node>, name: &str) -> Arc<Node> {
    union.lookup(dir, OsStr::new(name)).unwrap().unwrap().node
}

#[test]
fn many_directories_over_many_branches_need_few_descriptors() {
    setrlimit(Resource::Nofile, Rlimit { current: Some(LIMIT), maximum: Some(LIMIT) }).unwrap();
    let base = tempfile::tempdir().unwrap();
    let options_for = |branches| options(base.path(), branches - 1);
    let error = Union::open(&options_for(LIMIT as usize)).unwrap_err();
    assert_eq!(error.errno(), rustix::io::Errno::MFILE);
    assert!(error.to_string().contains("at least 336 open files"), "{error}");

    for branch in 0..BRANCHES {
        for top in 0..TOPS {
            fs::create_dir_all(base.path().join(format!("b{branch}/t{top}"))).unwrap();
        }
    }
    for index in 0..TOPS * DIRECTORIES {
        let (top, at) = (index % TOPS, index / TOPS);
        for branch in [index % BRANCHES, (index + 7) % BRANCHES] {
            let path = base.path().join(format!("b{branch}/t{top}/d{at}"));
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join(format!("from{branch}")), "text").unwrap();
        }
    }
    let union = Union::open(&options_for(BRANCHES)).unwrap();
    // More files than the half that is set aside for them, so that directory handles must go.
    let mut open = Vec::new();
    let mut nodes = Vec::new();
    for round in 0..2 {
        for index in 0..TOPS * DIRECTORIES {
            let (top, at) = (index % TOPS, index / TOPS);
            let dir = child(&union, &child(&union, union.root(), &format!("t{top}")), &format!("d{at}"));
            let names = union.read_directory(&dir, 0, 9).unwrap();
            assert_eq!(names.len(), 2, "round {round}, {top}/{at}");
            let file = child(&union, &dir, &names[1].name.to_string_lossy());
            if open.len() < 150 {
                open.push(union.open_file(&file).unwrap());
            }
            if index % 100 == 0 {
                union.copy_up(&file, Keep::All).unwrap();
            }
            nodes.push((dir, file));
        }
    }
    assert!(union.counters().open_handles <= LIMIT - 150, "{:?}", union.counters());
    // A directory that was closed meanwhile is found without the way to it, where the host allows that.
    if union.has_host_privilege() {
        let (dir, _) = &nodes[1];
        fs::rename(base.path().join("b1/t1/d0"), base.path().join("b1/t1/elsewhere")).unwrap();
        assert!(union.lookup(dir, OsStr::new("from1")).unwrap().is_some());
    } else {
        eprintln!("skipped in part: only root of the host opens by file handle");
    }
    let mut buffer = [0; 8];
    for file in &open {
        assert_eq!(union.read_at(file, &mut buffer, 0).unwrap(), 4);
    }
}
