//! Faults for the calls of a real server: strace answers them in the kernel's place, or kills the server at one.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    dead_code,
    reason = "shared by test programs; failing is their job"
)]

pub mod operations;
pub mod tree;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use aufs_testkit::needs::Need;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::host::{Host, is_running, succeed, wait_until};
use tree::Tree;

/// A debugger that can answer system calls.
pub const STRACE: Need = Need::Other { name: "strace", missing: strace_missing };

fn strace_missing() -> Option<String> {
    let works = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=1", "true"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|it| it.success());
    (!works).then(|| "needs strace, and the right to trace".to_owned())
}

/// What happens at a call instead of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call fails.
    Error(Errno),
    /// The server is killed before it makes the call.
    Kill,
}

impl Fault {
    fn word(self) -> String {
        match self {
            Self::Error(errno) => format!("error={errno:?}"),
            Self::Kill => "signal=KILL".to_owned(),
        }
    }
}

/// strace at work on every thread of a server, until dropped.
#[derive(Debug)]
pub struct Tracer {
    child: Child,
    output: PathBuf,
}

impl Tracer {
    /// Attaches to `pid` with more arguments; returns once each thread is traced.
    pub fn attach(pid: i32, output: &Path, args: &[String]) -> Self {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-y", "-s", "0", "-o"]).arg(output);
        command.args(args).args(["-p", &pid.to_string()]);
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let tracer = format!("TracerPid:\t{}", child.id());
        wait_until("every thread is traced", || {
            fs::read_dir(format!("/proc/{pid}/task")).unwrap().all(|it| {
                fs::read_to_string(it.unwrap().path().join("status"))
                    .is_ok_and(|it| it.lines().any(|line| line == tracer))
            })
        });
        Self { child, output: output.to_owned() }
    }

    /// Detaches, and returns what was traced.
    pub fn end(mut self) -> String {
        self.stop();
        fs::read_to_string(&self.output).unwrap()
    }

    fn stop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
            self.child.wait().unwrap();
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Calls that concern no branch: threads, memory, time, and the server's talk with the kernel.
const NOT_ABOUT_BRANCHES: [&str; 24] = [
    "brk",
    "clone",
    "clone3",
    "clock_nanosleep",
    "exit",
    "futex",
    "getpid",
    "getrandom",
    "gettid",
    "io_uring_enter",
    "madvise",
    "mmap",
    "mprotect",
    "munmap",
    "ppoll",
    "prctl",
    "recvfrom",
    "restart_syscall",
    "rseq",
    "rt_sigprocmask",
    "sched_getaffinity",
    "sched_setaffinity",
    "set_robust_list",
    "sigaltstack",
];

/// The names of the calls in a trace that concern branches, and that strace can answer.
pub fn calls_of(trace: &str) -> BTreeSet<String> {
    let mut calls = BTreeSet::new();
    for line in trace.lines().filter(|it| !it.contains("</dev/fuse>")) {
        let call = line.split_whitespace().nth(1).and_then(|it| it.split_once('(')).map(|it| it.0);
        // What this strace has no name for it cannot answer.
        let known = call.filter(|it| !it.starts_with("syscall_") && !NOT_ABOUT_BRANCHES.contains(it));
        calls.extend(known.map(str::to_owned));
    }
    calls
}

/// Where one operation after the other fails: branches that are made afresh each time, and their mount.
#[derive(Debug)]
pub struct Bed {
    pub host: Host,
    options: String,
    /// The writable branch.
    upper: PathBuf,
    below: Vec<String>,
}

impl Bed {
    /// Plants the branches; `data` is the data mode, `tmpfs` puts the writable branch on a file system of its own.
    pub fn new(data: &str, tmpfs: bool) -> Self {
        let host = Host::new();
        for name in ["u", "l1", "l2"] {
            fs::remove_dir_all(host.path(name)).unwrap();
        }
        succeed(Command::new("sh").args(["-ec", operations::BRANCHES]).current_dir(host.path("")));
        fs::create_dir(host.path("w")).unwrap();
        if tmpfs {
            nix::mount::mount(
                Some("tmpfs"),
                &host.path("w"),
                Some("tmpfs"),
                nix::mount::MsFlags::empty(),
                Some("size=8m"),
            )
            .unwrap();
        }
        let upper = host.path("w/u");
        let options = format!("br:@/w/u=rw:@/l1=ro+wh:@/l2=ro+wh,data={data}");
        let mut bed = Self { host, options, upper, below: Vec::new() };
        bed.below = bed.lower_branches();
        bed
    }

    fn lower_branches(&self) -> Vec<String> {
        ["l1", "l2"].into_iter().flat_map(|it| tree::read(&self.host.path(it), &[]).lines(true)).collect()
    }

    /// Puts the writable branch back to what it was at first.
    pub fn reset(&self) {
        if self.upper.exists() {
            fs::remove_dir_all(&self.upper).unwrap();
        }
        self.copy(&self.host.path("u0"), &self.upper);
    }

    fn copy(&self, from: &Path, to: &Path) {
        succeed(Command::new("cp").arg("-a").arg(from).arg(to));
    }

    /// Mounts; returns the server.
    pub fn mount(&self) -> i32 {
        let told = self.host.run(&["mount", "--json", "-o", &self.options, "@/m"]);
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        i32::try_from(told["pid"].as_i64().unwrap()).unwrap()
    }

    pub fn unmount(&self) {
        self.host.run(&["umount", "@/m"]);
    }

    /// Where the union shows.
    pub fn root(&self) -> PathBuf {
        self.host.path("m")
    }

    /// What the union shows, but for the content of `except`.
    pub fn shown(&self, except: &[&str]) -> Tree {
        tree::read(&self.root(), except)
    }

    /// What a new mount of these branches shows.
    pub fn shown_afresh(&self) -> Tree {
        self.mount();
        let tree = self.shown(&[]);
        self.unmount();
        tree
    }

    /// Keeps the writable branch as it is now, for [`Bed::restore`].
    pub fn keep(&self) {
        let kept = self.host.path("w/kept");
        if kept.exists() {
            fs::remove_dir_all(&kept).unwrap();
        }
        self.copy(&self.upper, &kept);
    }

    pub fn restore(&self) {
        fs::remove_dir_all(&self.upper).unwrap();
        fs::rename(self.host.path("w/kept"), &self.upper).unwrap();
    }

    /// Fails when a lower branch changed, or when drafts or hidden names are on the writable one, unmounted.
    pub fn check_branches(&self, case: &str) {
        assert_eq!(self.lower_branches(), self.below, "{case}: a lower branch changed");
        let left: Vec<_> = tree::names(&self.upper)
            .into_iter()
            .filter(|it| {
                it.contains(".wh..wh.draft") && it != ".wh..wh.draft"
                    || it.contains(".wh..wh.plnk/")
                    || it.contains(".wh..wh.orph/")
            })
            .collect();
        assert_eq!(left, [""; 0], "{case}: left behind on the writable branch");
    }

    /// Runs `act` with `fault` at the call number `when` that is `call`; also returns whether it came to that.
    pub fn with_fault<T>(
        &self,
        server: i32,
        (call, when): (&str, u32),
        fault: Fault,
        act: impl FnOnce() -> T,
    ) -> (T, bool) {
        let inject = format!("inject={call}:{}:when={when}", fault.word());
        let args = ["-e".to_owned(), format!("trace={call}"), "-e".to_owned(), inject];
        let tracer = Tracer::attach(server, &self.host.path("trace"), &args);
        let outcome = act();
        let trace = tracer.end();
        let met = match fault {
            Fault::Error(_) => trace.contains("(INJECTED)"),
            Fault::Kill => {
                let was_killed = trace.contains("+++ killed by SIGKILL");
                if was_killed {
                    wait_until("the server ends", || !is_running(server));
                }
                was_killed
            }
        };
        (outcome, met)
    }
}

/// How many descriptors a process has open.
pub fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}
