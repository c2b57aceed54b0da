//! Hosts that lack something: a full or read-only disk, no device, no rights.
//! Each is refused in one line, and nothing stays half-mounted.
#![allow(clippy::unwrap_used, reason = "test helpers may fail the test")]

mod host;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use aufs_testkit::needs::Need::{Fuse, Root};
use host::{Host, has, refused};
use nix::mount::{MsFlags, mount};

const UNSUPPORTED: i32 = 3;
const REFUSED: i32 = 4;

/// Mounts a tmpfs at `name`, which goes with the host.
fn tmpfs(host: &Host, name: &str, options: &str) {
    fs::create_dir(host.path(name)).unwrap();
    mount(Some("tmpfs"), &host.path(name), Some("tmpfs"), MsFlags::empty(), Some(options)).unwrap();
}

/// Runs `script` by `program ARGS… sh -c`, with the command in `$AUFS`.
fn shell(host: &Host, program: &[&str], script: &str) -> std::process::Output {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).args(["sh", "-c", &host.text(script)]);
    command.env("AUFS", env!("CARGO_BIN_EXE_aufs")).output().unwrap()
}

#[test]
fn fuse_root_a_full_disk_is_named() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    tmpfs(&host, "full", "size=64k,nr_inodes=3");
    fs::create_dir(host.path("full/u")).unwrap();
    fs::write(host.path("full/last"), "").unwrap();
    let (code, line) =
        refused(&host.aufs(&["mount", "-o", "br:@/full/u=rw:@/l1=ro", "@/m"]).output().unwrap());
    assert_eq!(code, REFUSED, "{line}");
    assert!(line.contains(&host.text("@/full/u")) && line.contains("No space left"), "{line}");
    assert_eq!(host.mounts().len(), 1, "the union is half mounted");
    assert_eq!(fs::read_dir(host.path("full/u")).unwrap().count(), 0);
}

#[test]
fn fuse_root_a_read_only_disk_is_named_and_can_be_stacked() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    tmpfs(&host, "disk", "size=64k");
    fs::create_dir(host.path("disk/u")).unwrap();
    fs::write(host.path("disk/u/in"), "kept").unwrap();
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, &host.path("disk"), None::<&str>, flags, None::<&str>).unwrap();
    let (code, line) = refused(&host.aufs(&["mount", "-o", "br:@/disk/u=rw:@/l1", "@/m"]).output().unwrap());
    let expected = "aufs mount: branch @/disk/u: cannot be written: Read-only file system; \
        make it writable, or give it as ro+wh or the mount as ro";
    assert_eq!((code, line), (REFUSED, host.text(expected)));

    for option in ["br:@/disk/u=ro+wh:@/l1", "br:@/disk/u=rw:@/l1,ro"] {
        host.run(&["mount", "-o", option, "@/m"]);
        assert_eq!(host.read("m/in"), "kept");
        assert!(fs::write(host.path("m/in"), "x").is_err());
        host.run(&["umount", "@/m"]);
    }
}

#[test]
fn fuse_root_a_workdir_elsewhere_is_refused() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    tmpfs(&host, "w", "size=64k");
    let options = "lowerdir=@/l1,upperdir=@/u,workdir=@/w";
    let (code, line) = refused(&host.aufs(&["mount", "-o", options, "@/m"]).output().unwrap());
    assert_eq!(code, REFUSED);
    assert!(line.contains("on another file system than the writable branch"), "{line}");
    assert_eq!(fs::read_dir(host.path("w")).unwrap().count(), 0);
}

#[test]
fn fuse_root_no_device_is_named_with_its_remedy() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    let script = "mount -t tmpfs none /dev && exec $AUFS mount -o br:@/u:@/l1 @/m";
    let output = shell(&host, &["unshare", "-m"], script);
    let expected = "aufs mount: mount @/m: cannot open /dev/fuse: No such file or directory; \
        load the fuse module (modprobe fuse), or give the container the device (--device /dev/fuse)";
    assert_eq!(refused(&output), (UNSUPPORTED, host.text(expected)));
}

#[test]
fn root_an_ordinary_user_is_told_what_is_missing() {
    if !has(&[Root]) {
        return;
    }
    let host = Host::new();
    // The build directory may be closed to others; a copy of the program is not.
    let program = host.path("aufs");
    fs::copy(env!("CARGO_BIN_EXE_aufs"), &program).unwrap();
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let (code, line) = refused(&shell(&host, &nobody, "@/aufs mount -o br:@/u=ro:@/l1 @/m"));
    assert_eq!(code, UNSUPPORTED, "{line}");
    assert!(line.contains("run as root"), "{line}");
    let (code, line) = refused(&shell(&host, &nobody, "@/aufs mount -o br:@/u=rw:@/l1 @/m"));
    let expected = "aufs mount: branch @/u: cannot be written: Permission denied; \
        make it writable, or give it as ro+wh or the mount as ro";
    assert_eq!((code, line), (REFUSED, host.text(expected)));
    assert_eq!(host.mounts(), []);
}

#[test]
fn fuse_passthrough_is_refused_where_the_kernel_refuses_it() {
    if !has(&[Fuse]) || !Command::new("unshare").args(["-Urm", "true"]).status().unwrap().success() {
        println!("skipped: needs a user namespace");
        return;
    }
    let host = Host::new();
    let script = "$AUFS mount -o br:@/u:@/l1,data=passthrough @/m; code=$?; \
        grep @/m /proc/self/mountinfo; exit $code";
    let (code, line) = refused(&shell(&host, &["unshare", "-Urm"], script));
    assert_eq!(code, UNSUPPORTED);
    assert!(line.contains("passthrough") && line.contains("use data=auto"), "{line}");
}

#[test]
fn fuse_root_a_second_writer_of_a_branch_is_refused() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    fs::create_dir(host.path("m2")).unwrap();
    host.run(&["mount", "-o", "br:@/u:@/l1", "@/m"]);
    let (code, line) = refused(&host.aufs(&["mount", "-o", "br:@/u:@/l2", "@/m2"]).output().unwrap());
    assert_eq!(code, REFUSED);
    assert!(line.contains("in use by another mount"), "{line}");
    assert_eq!(host.mounts().len(), 1);
    host.run(&["umount", "@/m"]);
    host.run(&["mount", "-o", "br:@/u:@/l2", "@/m2"]);
    host.run(&["umount", "@/m2"]);
}

#[test]
fn fuse_root_further_writable_branches_are_warned_about_and_kept() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    let below = host.snapshot("l1");
    let output = host.aufs(&["mount", "-o", "br:@/u=rw:@/l1=rw", "@/m"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    let expected = host.text("only the first rw branch is written; taken as ro+wh: @/l1\n");
    assert!(stderr.ends_with(&expected) && stderr.lines().count() == 1, "{stderr}");
    fs::write(host.path("m/only-l1"), "changed").unwrap();
    host.run(&["umount", "@/m"]);
    assert!(host.snapshot("l1") == below);
    assert_eq!(host.read("u/only-l1"), "changed");
}

#[test]
fn fuse_root_a_log_that_cannot_be_written_mounts_nothing() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    let args = ["mount", "--log", "@/no/log", "-o", "br:@/u:@/l1", "@/m"];
    let (code, line) = refused(&host.aufs(&args).output().unwrap());
    assert_eq!(code, 1, "{line}");
    assert!(line.contains(&host.text("log file @/no/log: No such file or directory")), "{line}");
    assert_eq!(host.mounts(), []);
}

#[test]
fn fuse_root_a_full_disk_under_the_log_does_not_end_the_server() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    let mut command = host.aufs(&["mount", "--log", "/dev/full", "-o", "br:@/u:@/l1", "@/m"]);
    host::succeed(command.env("AUFS_LOG", "trace"));
    assert_eq!(host.read("m/only-l1"), "first");
    host.run(&["umount", "@/m"]);
}

#[test]
fn fuse_root_a_server_that_dies_before_it_reports_leaves_no_dead_mount() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    let text = host.text("br:@/u=rw:@/l1=ro");
    let options = aufs_mount::option::parse(text.as_ref(), aufs_mount::option::Dialect::Own).unwrap().options;
    let (stack, _) = aufs_mount::stack::BranchStack::check(&options, &host.path("m")).unwrap();
    let request = aufs_mount::request::ServeRequest::new(&stack, &options, None);
    // In the server's place: it mounts, kills what serves, and ends without a word.
    let script = format!(
        "#!/bin/sh\ncat > /dev/null\npid=$({} mount --json -o {text} {} | sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/')\n\
         kill -9 $pid\nwhile kill -0 $pid 2>/dev/null; do sleep 0.05; done\ntouch {}\nexit 7\n",
        env!("CARGO_BIN_EXE_aufs"),
        host.path("m").display(),
        host.path("done").display(),
    );
    fs::write(host.path("server"), script).unwrap();
    fs::set_permissions(host.path("server"), PermissionsExt::from_mode(0o755)).unwrap();
    let error = aufs_mount::server::start(&host.path("server"), &request).unwrap_err();
    assert_eq!(error.kind.to_string(), "the serving program ended (exit code 7) before the mount was up");
    assert!(host.path("done").exists(), "the script did not do its part");
    assert_eq!(host.mounts(), [], "the dead mount stays");
}
