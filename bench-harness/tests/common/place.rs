//! A directory of a test for whole runs: its matrix, its scratch, its results.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A directory with the matrix `m.toml`; runs take `scratch` in it as their backing.
pub struct Place(pub tempfile::TempDir);

#[allow(dead_code)] // Reason: each test binary compiles this module and uses a part of it.
impl Place {
    /// A new one with the text of its matrix.
    pub fn new(matrix: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("m.toml"), matrix).unwrap();
        Self(dir)
    }

    /// The path of `name` in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// No mount in any namespace, no process, no loop device and no scratch file is left of it.
    pub fn assert_left_clean(&self) {
        let here = self.0.path().to_str().unwrap();
        assert_eq!(self.processes(), [0; 0], "processes of drivers stay behind");
        for process in fs::read_dir("/proc").unwrap().flatten().map(|it| it.path()) {
            for name in ["mountinfo", "cmdline"] {
                // Processes come and go meanwhile.
                let text = fs::read(process.join(name)).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                assert!(!text.contains(here), "{}: {name} still has {here}", process.display());
            }
        }
        let left: Vec<_> =
            fs::read_dir(self.path("scratch")).unwrap().flatten().map(|it| it.path()).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        let loops = Command::new("losetup").args(["-a", "-O", "BACK-FILE"]).output();
        let loops = loops.map(|it| String::from_utf8_lossy(&it.stdout).into_owned()).unwrap_or_default();
        assert!(!loops.contains(here), "a loop device stays attached: {loops}");
    }

    /// Processes that drivers have started below it.
    pub fn processes(&self) -> Vec<i32> {
        let mark = format!("AUFS_BENCH_BRANCH={}", self.0.path().canonicalize().unwrap().display());
        let marked = |pid: &i32| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.split(|it| *it == 0).any(|it| it.starts_with(mark.as_bytes()))
        };
        let all = fs::read_dir("/proc").unwrap().flatten();
        let pids = all.filter_map(|it| it.file_name().to_str()?.parse().ok());
        pids.filter(marked).collect()
    }
}
