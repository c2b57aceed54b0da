//! A mount from its beginning to its end: what is there when `aufs mount`
//! returns, and what is gone when `aufs umount` does.
#![allow(clippy::unwrap_used, reason = "test helpers may fail the test")]

mod host;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use aufs_testkit::needs::Need::{Fuse, Root};
use host::{Host, has, is_running, refused, succeed, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const OPTIONS: &str = "br:@/u=rw:@/l1=ro+wh:@/l2=ro+wh";
const REFUSED: i32 = 4;
const BUSY: i32 = 5;

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

#[test]
fn fuse_root_a_mount_is_usable_and_its_end_is_awaited() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    let below = (host.snapshot("l1"), host.snapshot("l2"));
    let told: serde_json::Value =
        serde_json::from_str(&host.run(&["mount", "--json", "-o", OPTIONS, "@/m"])).unwrap();
    let pid = host.server_of("m");
    assert_eq!(told["pid"], pid);
    assert_eq!(told["mounter"], "fuse");
    assert_eq!(told["mountpoint"], fs::canonicalize(host.path("m")).unwrap().to_str().unwrap());
    assert!(["passthrough", "noopen"].contains(&told["data_mode"].as_str().unwrap()), "{told}");

    assert_eq!((host.read("m/both"), host.read("m/only-l2")), ("upper".to_owned(), "second".to_owned()));
    fs::write(host.path("m/only-l1"), "changed").unwrap();
    fs::remove_file(host.path("m/only-l2")).unwrap();

    host.run(&["umount", "@/m"]);
    assert!(!is_running(pid), "umount returned before the server ended");
    assert_eq!(host.mounts(), []);
    assert_eq!(host.read("u/only-l1"), "changed");
    assert!(host.path("u/.wh.only-l2").exists());
    assert!((host.snapshot("l1"), host.snapshot("l2")) == below, "a lower branch was written");
}

#[test]
fn fuse_root_the_table_shows_type_source_and_flags() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    for (extra, source, flags) in [
        ("", "aufs", &["rw"][..]),
        (",fsname=my image,ro,nosuid,nodev,noexec", r"my\040image", &["ro", "nosuid", "nodev", "noexec"]),
    ] {
        host.run(&["mount", "-o", &format!("{OPTIONS}{extra}"), "@/m"]);
        let [entry] = host.mounts().try_into().unwrap();
        assert_eq!(entry.fs_type, "fuse.aufs");
        let has_flags = flags.iter().all(|it| entry.flags.iter().any(|found| found == it));
        assert!(has_flags, "{flags:?} are not all in {:?}", entry.flags);
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = table.lines().find(|it| it.contains(entry.mountpoint.to_str().unwrap())).unwrap();
        assert!(line.contains(&format!(" - fuse.aufs {source} ")), "{line}");
        host.run(&["umount", "@/m"]);
    }
}

#[test]
fn fuse_root_the_server_holds_nothing_of_its_caller() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    // Waiting for the end of both pipes is part of the test: `output` returns only then.
    let (mut ours, theirs) = std::io::pipe().unwrap();
    rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty()).unwrap();
    let args = ["mount", "--log", "@/log", "-o", OPTIONS, "@/m"];
    succeed(host.aufs(&args).current_dir(host.path("")).env("AUFS_LOG", "debug"));
    assert!(theirs.as_raw_fd() > 2);
    drop(theirs);
    assert_eq!(ours.read(&mut [0; 1]).unwrap(), 0, "the server holds an inherited pipe open");

    let proc = |pid: i32, name: &str| fs::read_link(format!("/proc/{pid}/{name}")).unwrap();
    let pid = host.server_of("m");
    assert_eq!(proc(pid, "cwd").to_str(), Some("/"));
    assert_eq!(proc(pid, "fd/0").to_str(), Some("/dev/null"));
    assert_eq!(proc(pid, "fd/1").to_str(), Some("/dev/null"));
    assert_eq!(proc(pid, "fd/2"), fs::canonicalize(host.path("log")).unwrap());
    let session = nix::unistd::getsid(Some(Pid::from_raw(pid))).unwrap();
    assert_eq!(session.as_raw(), pid, "the server leads no session of its own");
    host.run(&["umount", "@/m"]);
}

#[test]
fn fuse_root_signals_unmount() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    for name in [Signal::SIGTERM, Signal::SIGINT] {
        host.run(&["mount", "-o", OPTIONS, "@/m"]);
        let pid = host.server_of("m");
        fs::write(host.path("m/new"), name.as_str()).unwrap();
        signal(pid, name);
        wait_until("the server ends", || !is_running(pid));
        assert_eq!(host.mounts(), [], "{name}");
        assert_eq!(host.read("u/new"), name.as_str());
    }
}

#[test]
fn fuse_root_a_second_signal_ends_a_server_in_use() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    host.run(&["mount", "-o", OPTIONS, "@/m"]);
    let pid = host.server_of("m");
    let mut held = File::open(host.path("m/both")).unwrap();
    signal(pid, Signal::SIGTERM);
    wait_until("the mount is detached", || host.mounts().is_empty());
    let mut text = String::new();
    held.read_to_string(&mut text).unwrap();
    assert_eq!(text, "upper", "who holds a file may finish");
    assert!(is_running(pid));
    signal(pid, Signal::SIGTERM);
    wait_until("the server ends", || !is_running(pid));
}

#[test]
fn fuse_root_foreground_serves_until_interrupted() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    let mut command = host.aufs(&["mount", "--foreground", "--json", "-o", OPTIONS, "@/m"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let told: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(told["pid"], child.id());
    assert_eq!(host.read("m/only-l1"), "first");
    signal(child.id().cast_signed(), Signal::SIGINT);
    assert!(child.wait().unwrap().success());
    assert_eq!(host.mounts(), []);
}

#[test]
fn fuse_root_a_mount_in_use_is_busy_unless_lazy() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    host.run(&["mount", "-o", OPTIONS, "@/m"]);
    let pid = host.server_of("m");
    let held = File::open(host.path("m/both")).unwrap();
    let (code, line) = refused(&host.aufs(&["umount", "@/m"]).output().unwrap());
    let expected = "aufs umount: unmount @/m: in use; end the programs that use it, or detach it with --lazy";
    assert_eq!((code, line), (BUSY, host.text(expected)));
    assert_eq!(host.read("m/only-l1"), "first", "a refused unmount changes nothing");

    host.run(&["umount", "--lazy", "@/m"]);
    assert_eq!(host.mounts(), []);
    assert!(is_running(pid));
    drop(held);
    wait_until("the server ends", || !is_running(pid));
}

#[test]
fn fuse_root_a_live_mount_turns_ro_and_rw() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    host.run(&["mount", "-o", &format!("{OPTIONS},nosuid,nodev"), "@/m"]);
    let flags = || host.mounts().first().map(|it| it.flags.clone()).unwrap();
    let write = || fs::write(host.path("m/both"), "x").map_err(|it| it.raw_os_error().unwrap());
    host.run(&["mount", "-o", "remount,ro", "@/m"]);
    assert_eq!(write(), Err(nix::errno::Errno::EROFS as i32));
    host.run(&["mount", "-o", "remount,rw", "@/m"]);
    assert_eq!(write(), Ok(()));
    assert!(["nosuid", "nodev"].iter().all(|it| flags().iter().any(|found| found == it)), "{:?}", flags());

    let open = OpenOptions::new().append(true).open(host.path("m/both")).unwrap();
    let (code, line) = refused(&host.aufs(&["mount", "-o", "remount,ro", "@/m"]).output().unwrap());
    assert_eq!(code, BUSY, "{line}");
    drop(open);
    host.run(&["umount", "@/m"]);
}

#[test]
fn fuse_root_a_dead_mount_is_named_with_its_remedy() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    host.run(&["mount", "-o", OPTIONS, "@/m"]);
    let pid = host.server_of("m");
    fs::write(host.path("m/only-l1"), "kept").unwrap();
    // Attributes the kernel keeps would hide that nobody answers any more.
    assert!(fs::metadata(host.path("m")).unwrap().is_dir());
    signal(pid, Signal::SIGKILL);
    wait_until("the server ends", || !is_running(pid));
    let (code, line) = refused(&host.aufs(&["mount", "-o", OPTIONS, "@/m"]).output().unwrap());
    let expected = "aufs mount: mount point @/m: a dead mount lies here, its server is gone; \
        remove it with fusermount3 -u or umount -l";
    assert_eq!((code, line), (REFUSED, host.text(expected)));
    let (code, line) = refused(&host.aufs(&["mount", "-o", "br:@/u=rw:@/m=ro", "@/l1"]).output().unwrap());
    assert!(code == REFUSED && line.contains("branch") && line.contains("a dead mount lies here"), "{line}");

    host.run(&["umount", "@/m"]);
    host.run(&["mount", "-o", OPTIONS, "@/m"]);
    assert_eq!(host.read("m/only-l1"), "kept", "a killed server leaves a branch that mounts again");
    host.run(&["umount", "@/m"]);
}

#[test]
fn fuse_root_modes_ignore_the_umask_of_whoever_mounted() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 077; exec \"$0\" \"$@\""]).arg(env!("CARGO_BIN_EXE_aufs"));
    succeed(shell.args(["mount", "-o", &host.text(OPTIONS)]).arg(host.path("m")));
    let script = host.text("umask 022; mkdir @/m/dir; echo > @/m/file");
    succeed(Command::new("sh").args(["-c", &script]));
    let mode = |name: &str| fs::metadata(host.path(name)).unwrap().mode() & 0o777;
    assert_eq!((mode("u/dir"), mode("u/file")), (0o755, 0o644));
    host.run(&["umount", "@/m"]);
}

#[test]
fn fuse_root_a_caller_that_is_gone_gets_no_mount() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    host.run(&["mount", "-o", OPTIONS, "@/m"]);
    host.run(&["umount", "@/m"]);
    // A request as the command sends it, whose sender closes the reply's pipe at once.
    let base = host.path("");
    let base = fs::canonicalize(base).unwrap();
    let branch = |name: &str, perm: &str| serde_json::json!({"path": base.join(name), "perm": perm});
    let request = serde_json::json!({
        "branches": [branch("u", "rw"), branch("l1", "ro+wh")],
        "workdir": null, "mountpoint": base.join("m"), "data": "auto", "revalidate": false, "sync": false,
        "volatile": false, "no_xattrs": false, "always_opaque": false, "transport": "auto",
        "flags": {"source": "aufs", "read_only": false, "no_suid": false, "no_dev": false, "no_exec": false,
            "no_atime": false, "no_dir_atime": false, "allow_other": false},
        "log": null,
    });
    let mut command = host.aufs(&["serve"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    child.stdin.take().unwrap().write_all(request.to_string().as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(host.mounts(), []);
}
