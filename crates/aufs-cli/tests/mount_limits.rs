//! Servers that may have little: few descriptors, little memory, few processors, clients that go in the middle.

#![expect(clippy::unwrap_used, reason = "a test that cannot prepare its host has failed")]

mod host;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use aufs_testkit::needs::Need::{Fuse, Root};
use host::{Host, has, refused, succeed, wait_until};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Runs `aufs mount` with at most `count` open files, which cannot be raised.
fn mount_with_descriptors(host: &Host, count: u32, options: &str) -> std::process::Output {
    let mut command = Command::new("prlimit");
    command.arg(format!("--nofile={count}:{count}")).arg(env!("CARGO_BIN_EXE_aufs"));
    command
        .args(["mount", "-o", &host.text(options)])
        .arg(host.path("m"))
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Makes `count` branches with `dirs` directories each, all of the same names; returns the option text.
fn branches(host: &Host, count: usize, dirs: usize) -> String {
    let mut options = "br:@/u=rw".to_owned();
    for branch in 0..count {
        let name = format!("b{branch}");
        for dir in 0..dirs {
            fs::create_dir_all(host.path(&name).join(format!("d{dir}/sub"))).unwrap();
        }
        fs::write(host.path(&name).join(format!("d{}/sub/file", branch % dirs)), name.as_bytes()).unwrap();
        options.push_str(&format!(":@/{name}=ro+wh"));
    }
    options
}

#[test]
fn fuse_root_few_descriptors_are_enough_for_many_branches_and_files() {
    if !has(&[Fuse, Root]) {
        return;
    }
    for mode in ["passthrough", "noopen"] {
        let host = Host::new();
        let options = format!("{},data={mode}", branches(&host, 63, 40));
        let mounted = mount_with_descriptors(&host, 256, &options);
        assert!(mounted.status.success(), "{mode}: {mounted:?}");
        for dir in 0..40 {
            let seen = fs::read_dir(host.path(format!("m/d{dir}/sub"))).unwrap().count();
            assert_eq!(seen, 1, "{mode} d{dir}");
            let file = host.path(format!("m/d{dir}/sub/file"));
            assert!(fs::read(&file).unwrap().starts_with(b"b"));
            fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"+").unwrap();
        }
        // More files than the server may have descriptors, all open at once.
        let mut open: Vec<File> =
            (0..400).map(|n| File::create_new(host.path(format!("m/d{}/new{n}", n % 40))).unwrap()).collect();
        for file in &mut open {
            file.write_all(b"content").unwrap();
        }
        drop(open);
        for n in 0..400 {
            assert_eq!(host.read(format!("m/d{}/new{n}", n % 40).as_str()), "content", "{mode} {n}");
        }
        host.run(&["umount", "@/m"]);
        assert_eq!(host.read("u/d7/new7"), "content");
    }
}

#[test]
fn fuse_root_more_branches_than_descriptors_are_refused_with_the_limit_needed() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    let options = branches(&host, 200, 1);
    let (_, line) = refused(&mount_with_descriptors(&host, 256, &options));
    assert!(line.contains("201 branches need a limit of at least") && line.contains("ulimit -n"), "{line}");
    assert_eq!(host.mounts(), []);
}

#[test]
fn fuse_root_a_client_killed_in_the_middle_takes_nothing_along() {
    if !has(&[Fuse, Root]) {
        return;
    }
    for mode in ["passthrough", "noopen", "cached"] {
        let host = Host::new();
        File::create(host.path("l1/large")).unwrap().set_len(64 << 20).unwrap();
        let mut large = fs::OpenOptions::new().write(true).open(host.path("l1/large")).unwrap();
        large.write_all(&vec![7; 32 << 20]).unwrap();
        host.run(&["mount", "-o", &format!("br:@/u=rw:@/l1=ro+wh,data={mode}"), "@/m"]);
        for round in 0..5_u32 {
            let script =
                format!("printf x 1<>@/m/large; while :; do echo {round} > @/m/new; rm @/m/new; done");
            let mut shell = Command::new("sh");
            shell.args(["-c", &host.text(&script)]).stderr(Stdio::null()).process_group(0);
            let mut client = shell.spawn().unwrap();
            std::thread::sleep(Duration::from_millis(u64::from(5 * round)));
            killpg(Pid::from_raw(client.id().cast_signed()), Signal::SIGKILL).unwrap();
            client.wait().unwrap();
        }
        let mut first = [0; 2];
        File::open(host.path("m/large")).unwrap().read_exact(&mut first).unwrap();
        assert!(first == *b"x\x07" || first == [7, 7], "{mode}: {first:?}");
        assert_eq!(fs::metadata(host.path("m/large")).unwrap().len(), 64 << 20);
        // A killed program ends when its request does.
        wait_until("nobody uses the mount", || host.aufs(&["umount", "@/m"]).status().unwrap().success());
        assert_eq!(fs::read_dir(host.path("u/.wh..wh.draft")).unwrap().count(), 0, "{mode}: a draft stays");
        let mut lower = [0; 2];
        File::open(host.path("l1/large")).unwrap().read_exact(&mut lower).unwrap();
        assert_eq!(lower, [7, 7], "{mode}: the lower file changed");
    }
}

#[test]
fn fuse_root_little_memory_is_enough_to_walk_many_files() {
    const LIMIT_LEN_BYTES: u64 = 32 << 20;
    if !has(&[Fuse, Root]) {
        return;
    }
    let Some(group) = Group::new(LIMIT_LEN_BYTES) else {
        return println!("skipped: no cgroup with a memory controller can be made here");
    };
    let host = Host::new();
    for dir in 0..30 {
        fs::create_dir(host.path(format!("l1/d{dir}"))).unwrap();
        for file in 0..1000 {
            File::create(host.path(format!("l1/d{dir}/file{file}"))).unwrap();
        }
    }
    let script = host.text("echo 0 > \"$0\" && exec \"$1\" mount -o br:@/u=rw:@/l1=ro+wh @/m");
    let tasks = group.path.join("cgroup.procs");
    let mut shell = Command::new("sh");
    succeed(shell.args(["-c", &script]).arg(&tasks).arg(env!("CARGO_BIN_EXE_aufs")));
    let found = succeed(Command::new("find").arg(host.path("m")).args(["-type", "f", "-size", "-1"]));
    assert!(30_000 <= found.lines().count());
    fs::write(host.path("m/d3/file3"), "written").unwrap();
    host.run(&["umount", "@/m"]);
    assert_eq!(host.read("u/d3/file3"), "written");
}

/// A control group with a limit on memory, removed when dropped.
struct Group {
    path: PathBuf,
}

impl Group {
    /// None where the host has no memory controller that we may use.
    fn new(limit_len_bytes: u64) -> Option<Self> {
        [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")]
            .into_iter()
            .find_map(|(base, limit)| {
                let group = Self { path: Path::new(base).join(format!("aufs-test-{}", std::process::id())) };
                fs::create_dir(&group.path).ok()?;
                // Anywhere but in a control group these are no files, and must not become some.
                let mut file = fs::OpenOptions::new().write(true).open(group.path.join(limit)).ok()?;
                file.write_all(limit_len_bytes.to_string().as_bytes()).ok().map(|()| group)
            })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.path) {
            eprintln!("{}: {error}", self.path.display());
        }
    }
}

/// The scheduling policies of the server's threads: field 41 of proc_pid_stat(5), counted from behind the name.
fn policies(pid: i32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let stats = tasks.map(|it| fs::read_to_string(it.unwrap().path().join("stat")).unwrap());
    let policy =
        |stat: String| stat.rsplit_once(')').unwrap().1.split_whitespace().nth(41 - 3).unwrap().to_owned();
    stats.map(policy).collect()
}

#[test]
fn fuse_root_readers_that_held_a_caller_have_their_own_policy_at_rest() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    host.run(&["mount", "-o", "br:@/u=rw", "@/m"]);
    let server = host.server_of("m");
    // One caller for many rounds of the reader; then nobody waits for an answer.
    for number in 0..500 {
        fs::write(host.path(format!("m/{number}")), "x").unwrap();
    }
    let at_rest = || policies(server).iter().all(|it| it == "0");
    wait_until("SCHED_OTHER", at_rest);
    assert!(!policies(server).is_empty());
    host.run(&["umount", "@/m"]);
}
