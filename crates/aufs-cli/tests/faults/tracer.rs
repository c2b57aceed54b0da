//! strace, attached to a server, and what its traces say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aufs_testkit::needs::Need;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::host::is_running;

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

/// A call of a thread: its name, and the how manieth of that name it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub call: String,
    pub when: usize,
}

/// strace at work on every thread of a server, until dropped.
#[derive(Debug)]
pub struct Tracer {
    server: i32,
    child: Child,
    output: PathBuf,
}

/// How long strace may take to attach and to let go.
const PATIENCE: Duration = Duration::from_secs(20);

impl Tracer {
    /// Traces all calls of `server`.
    pub fn watching(server: i32, output: &Path) -> Self {
        Self::attach(server, output, &[])
    }

    /// Has a `fault` happen at a call of `server`.
    pub fn injecting(server: i32, output: &Path, at: &Position, fault: Fault) -> Self {
        let Position { call, when } = at;
        let inject = format!("inject={call}:{}:when={when}", fault.word());
        Self::attach(server, output, &["-e".to_owned(), format!("trace={call}"), "-e".to_owned(), inject])
    }

    /// Returns once each thread is traced.
    fn attach(server: i32, output: &Path, args: &[String]) -> Self {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-y", "-s", "0", "-o"]).arg(output);
        command.args(args).args(["-p", &server.to_string()]);
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let tracer = format!("TracerPid:\t{}", child.id());
        let is_traced = |task: fs::DirEntry| {
            let status = fs::read_to_string(task.path().join("status"));
            status.is_ok_and(|it| it.lines().any(|line| line == tracer))
        };
        let deadline = Instant::now() + PATIENCE;
        let tracer = Self { server, child, output: output.to_owned() };
        // The server may be killed by then, for a call that it made by itself.
        let tasks = || fs::read_dir(format!("/proc/{server}/task")).into_iter().flatten().flatten();
        while !tasks().all(is_traced) {
            assert!(Instant::now() < deadline, "strace does not attach to {server}");
            std::thread::sleep(Duration::from_micros(500));
        }
        tracer
    }

    /// The process of strace.
    pub fn id(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Detaches, and returns what was traced.
    pub fn end(mut self) -> String {
        self.stop();
        fs::read_to_string(&self.output).unwrap()
    }

    /// Ends strace, which detaches from all threads.
    ///
    /// It ends with the server. Asked to end while the server dies, it may wait for ever for
    /// threads that are gone.
    fn stop(&mut self) {
        if self.child.try_wait().unwrap().is_none() && is_running(self.server) {
            self.signal(Signal::SIGTERM);
        }
        let mut deadline = Instant::now() + PATIENCE;
        let mut is_dead = false;
        while self.child.try_wait().unwrap().is_none() {
            if !is_dead && !is_running(self.server) {
                is_dead = true;
                deadline = Instant::now() + Duration::from_millis(200);
            }
            if deadline < Instant::now() {
                self.signal(Signal::SIGKILL);
                self.child.wait().unwrap();
                return;
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id()), signal).unwrap();
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Calls that concern no branch: threads, memory, time, and the server's talk with the kernel.
///
/// `read` and `writev` carry requests and replies; a reply that is lost leaves its caller waiting for ever.
const NOT_ABOUT_BRANCHES: [&str; 28] = [
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
    "poll",
    "ppoll",
    "prctl",
    "read",
    "recvfrom",
    "restart_syscall",
    "rseq",
    "rt_sigprocmask",
    "sched_getaffinity",
    "sched_setaffinity",
    "set_robust_list",
    "sigaltstack",
    "write",
    "writev",
];

/// The calls in a trace that concern branches, in their order, each thread numbering its own.
pub fn positions(trace: &str) -> Vec<Position> {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(char::is_whitespace) else { continue };
        let Some((call, _)) = rest.trim_start().split_once('(') else { continue };
        let is_name = !call.is_empty() && call.chars().all(|it| it.is_ascii_alphanumeric() || it == '_');
        // What this strace has no name for it cannot answer.
        if !is_name || call.starts_with("syscall_") || NOT_ABOUT_BRANCHES.contains(&call) {
            continue;
        }
        let when = counts.entry((thread, call)).or_default();
        *when += 1;
        let position = Position { call: call.to_owned(), when: *when };
        if seen.insert(position.clone()) {
            found.push(position);
        }
    }
    found
}

/// Whether a call of this name changes what a branch holds; what opens and creates counts as looking.
pub fn changes(call: &str) -> bool {
    const PARTS: [&str; 14] = [
        "linkat",
        "rename",
        "mkdir",
        "mknod",
        "truncate",
        "copy_file_range",
        "pwrite",
        "fallocate",
        "fchown",
        "fchmod",
        "utimens",
        "setxattr",
        "removexattr",
        "sync",
    ];
    PARTS.iter().any(|it| call.contains(it))
}
