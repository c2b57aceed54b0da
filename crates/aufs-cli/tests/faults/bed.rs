//! Where one operation after the other meets a fault: branches with the same content many times over.
//!
//! Each fault has a directory of its own, a *case*, of which the server knows nothing before. So one
//! mount serves many faults, and what an earlier one left cannot hide what a later one does.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::disk::Disk;
use super::operations;
use super::tree::{self, Tree, differences};
use super::watch::Watch;
use crate::host::{Host, succeed};

/// What the branches are.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The data mode, and other mount options.
    pub options: &'static str,
    /// Where the writable branch lies.
    pub disk: Disk,
    /// Faults for each mount.
    pub cases: usize,
}

impl Setting {
    /// Whether the kernel collects writes and opens by itself, so that files used last stay open.
    pub fn writes_back(self) -> bool {
        self.options.contains("data=noopen")
    }
}

/// Branches, and where they are mounted.
#[derive(Debug)]
pub struct Bed {
    pub host: Host,
    pub watch: Watch,
    pub cases: usize,
    options: String,
    /// The writable branch.
    upper: PathBuf,
    below: [Tree; 2],
}

impl Bed {
    /// Plants the branches.
    pub fn new(setting: Setting) -> Self {
        let host = Host::new();
        for name in ["u", "l1", "l2"] {
            fs::remove_dir_all(host.path(name)).unwrap();
        }
        fs::create_dir(host.path("seed")).unwrap();
        operations::plant(&host.path("seed"));
        for branch in ["u0", "l1", "l2"] {
            multiply(&host.path("seed").join(branch), &host.path(branch), setting.cases);
        }
        fs::create_dir(host.path("w")).unwrap();
        setting.disk.mount(&host.path("w"));
        let upper = host.path("w/u");
        let options = format!("br:@/w/u=rw:@/l1=ro+wh:@/l2=ro+wh,{}", setting.options);
        let mut bed = Self {
            host,
            watch: Watch::start(),
            cases: setting.cases,
            options,
            upper,
            below: Default::default(),
        };
        bed.below = bed.lower_branches();
        bed
    }

    fn lower_branches(&self) -> [Tree; 2] {
        ["l1", "l2"].map(|it| tree::read(&self.host.path(it)))
    }

    /// Puts the writable branch back to what it was at first.
    pub fn reset(&self) {
        if self.upper.exists() {
            fs::remove_dir_all(&self.upper).unwrap();
        }
        copy(&self.host.path("u0"), &self.upper);
    }

    /// Mounts; returns the server.
    pub fn mount(&self) -> i32 {
        let told = self.host.run(&["mount", "--json", "-o", &self.options, "@/m"]);
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        i32::try_from(told["pid"].as_i64().unwrap()).unwrap()
    }

    pub fn unmount(&self) {
        self.host.run(&["umount", "--timeout", "30", "@/m"]);
    }

    /// Where the file system of the writable branch is mounted, if it has its own.
    pub fn disk(&self) -> PathBuf {
        self.host.path("w")
    }

    /// What a case has on the writable branch.
    pub fn upper(&self, case: usize) -> PathBuf {
        self.upper.join(case_name(case))
    }

    /// Files that a case has on the writable branch beside their own whiteout, which nobody sees.
    ///
    /// With a directory it may stand for whiteouts inside.
    pub fn files_with_whiteouts(&self, case: usize) -> Vec<String> {
        let upper = self.upper(case);
        let mut names = tree::names(&upper);
        names.retain(|it| {
            let (dir, name) = it.rsplit_once('/').unwrap_or(("", it));
            !upper.join(it).is_dir() && upper.join(dir).join(format!(".wh.{name}")).exists()
        });
        names
    }

    /// Where the operation of a case happens.
    pub fn case(&self, case: usize) -> PathBuf {
        self.host.path("m").join(case_name(case))
    }

    /// What a new union would show of a case now, but for pseudo-links, which it would have to write for.
    pub fn look(&self, case: usize) -> Tree {
        let branches = [self.upper.clone(), self.host.path("l1"), self.host.path("l2")];
        tree::read_union(&branches.map(|it| it.join(case_name(case))))
    }

    /// Runs what may wait for `server` for ever.
    pub fn over<T>(&self, what: &str, processes: &[i32], step: impl FnOnce() -> T) -> T {
        self.watch.over(what, &self.host.path("m"), processes, step)
    }

    /// What is wrong with branches that are not mounted: drafts or hidden names on the writable one, any
    /// change of a lower one.
    pub fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (was, is) in self.below.iter().zip(&self.lower_branches()) {
            found.extend(differences(was, is).iter().map(|it| format!("a lower branch changed: {it}")));
        }
        found.extend(self.hidden_names().iter().map(|it| format!("{it} stays on the writable branch")));
        found
    }

    /// Drafts and hidden names on the writable branch.
    pub fn hidden_names(&self) -> Vec<String> {
        let mut found = Vec::new();
        for dir in [".wh..wh.draft", ".wh..wh.plnk", ".wh..wh.orph"] {
            let inside = tree::names(&self.upper.join(dir));
            found.extend(inside.iter().filter(|it| !it.is_empty()).map(|it| format!("{dir}/{it}")));
        }
        found
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.watch.end();
    }
}

fn case_name(case: usize) -> String {
    format!("c{case}")
}

/// Fills the new directory `to` with a copy of `seed` for each case.
fn multiply(seed: &Path, to: &Path, cases: usize) {
    fs::create_dir(to).unwrap();
    copy(seed, &to.join(case_name(0)));
    let more = to.with_extension("more");
    let mut done = 1;
    while done < cases {
        // A process for each doubling instead of one for each case.
        copy(to, &more);
        for case in 0..done.min(cases - done) {
            fs::rename(more.join(case_name(case)), to.join(case_name(done + case))).unwrap();
        }
        fs::remove_dir_all(&more).unwrap();
        done = (2 * done).min(cases);
    }
}

fn copy(from: &Path, to: &Path) {
    succeed(Command::new("cp").arg("-a").arg(from).arg(to));
}

/// What a server has open: other things than directories, and how often each directory.
#[derive(Debug, Default)]
pub struct Descriptors {
    pub files: usize,
    directories: BTreeMap<(u64, u64), usize>,
}

impl Descriptors {
    /// What `server` has open now.
    pub fn of(server: i32) -> Self {
        let mut found = Self::default();
        for link in fs::read_dir(format!("/proc/{server}/fd")).unwrap().flatten() {
            let Ok(stat) = fs::metadata(link.path()) else { continue };
            if stat.is_dir() {
                *found.directories.entry((stat.dev(), stat.ino())).or_default() += 1;
            } else {
                found.files += 1;
            }
        }
        found
    }

    /// How many directories are open more often than they were, and than once.
    pub fn doubles(&self, before: &Self) -> usize {
        let was = |it: &(u64, u64)| before.directories.get(it).copied().unwrap_or(0).max(1);
        self.directories.iter().filter(|(directory, count)| was(directory) < **count).count()
    }
}
