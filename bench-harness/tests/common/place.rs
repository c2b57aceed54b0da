//! A directory of a test for whole runs: its matrix, its scratch, its results.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

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

    /// The program in it, with `arguments`.
    pub fn bench(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aufs-bench"));
        command.args(arguments).current_dir(self.0.path());
        command
    }

    /// A run of its matrix into `out`.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bench(&["run", "--matrix", "m.toml", "--backing", "scratch", "--out", "out"]);
        command.args(arguments);
        command
    }

    /// That run, ended.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The same, in an environment with some variables more.
    pub fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        self.command(arguments).envs(environment.iter().copied()).output().unwrap()
    }

    /// What a run found.
    pub fn summary(&self) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.path("out/summary.json")).unwrap()).unwrap()
    }

    /// A program of this text, and its path.
    pub fn script(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
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
