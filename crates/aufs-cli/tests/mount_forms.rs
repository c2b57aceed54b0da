//! The ways to ask for a mount: option texts, lists, files, and the mount-helper form.

mod host;

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use aufs_testkit::needs::Need::{Fuse, Root};
use host::{Host, has, is_running, succeed, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Checks that the mount shows all three branches in order, then unmounts it.
fn shows_all(host: &Host, how: &str) {
    let all = ["m/both", "m/only-u", "m/only-l1", "m/only-l2"].map(|it| host.read(it));
    assert_eq!(all, ["upper", "upper", "first", "second"], "{how}");
    host.run(&["umount", "@/m"]);
}

#[test]
fn fuse_root_every_form_builds_the_same_stack() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    fs::create_dir(host.path("w")).unwrap();
    for name in ["u", "l1", "l2"] {
        symlink(name, host.path(format!("link-{name}"))).unwrap();
    }
    fs::write(host.path("list"), host.text("@/u=rw\n@/l1=ro+wh\n@/l2\n")).unwrap();
    fs::write(host.path("list0"), host.text("@/u=rw\0@/l1=ro+wh\0@/l2\0")).unwrap();
    for args in [
        &["mount", "-o", "br:@/u=rw:@/l1=ro+wh:@/l2=ro+wh", "@/m"][..],
        &["mount", "-o", "br:@/u", "-o", "br=@/l1", "-odirs=@/l2,data=cached", "@/m"],
        &["mount", "-o", "dirs=@/u:@/l1:@/l2,dirperm1,udba=reval,sync", "@/m"],
        &["mount", "-b", "@/u=rw", "--branch", "@/l1=ro+wh", "--branch=@/l2=rr", "@/m"],
        &["mount", "-o", "lowerdir=@/l1:@/l2,upperdir=@/u,workdir=@/w", "@/m"],
        &["mount", "-o", "lowerdir=@/link-l1:@/link-l2,upperdir=@/link-u,workdir=@/w", "@/m"],
        &["mount", "--branches-from", "@/list", "@/m"],
        &["mount", "-0", "--branches-from", "@/list0", "@/m"],
        &["mount", "--mounter", "fuse", "-o", "br:@/u:@/l1:@/l2", "@/m"],
    ] {
        host.run(args);
        shows_all(&host, &format!("{args:?}"));
    }
    let mut piped = host.aufs(&["mount", "--branches-from", "-", "@/m"]);
    let mut child = piped.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&fs::read(host.path("list")).unwrap()).unwrap();
    assert!(child.wait().unwrap().success());
    shows_all(&host, "--branches-from -");

    succeed(host.aufs(&["mount", "-o", "br:u:l1:l2", "m"]).current_dir(host.path("")));
    shows_all(&host, "relative paths");
}

#[test]
fn fuse_root_the_helper_form_takes_what_mount_and_containers_pass() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    fs::create_dir(host.path("w")).unwrap();
    for (name, args) in [
        ("aufs-fuse", &["none", "@/m", "-o", "br:@/u=rw:@/l1=ro+wh:@/l2=ro+wh,dev,suid"][..]),
        ("mount.fuse.aufs", &["aufs", "@/m", "-o", "rw,br:@/u:@/l1:@/l2", "-t", "fuse.aufs"]),
        (
            "/sbin/mount.aufs-fuse",
            &["-o", "br:@/u", "@/m", "-n", "-v", "-s", "-o", "br:@/l1:@/l2,noatime,_netdev"],
        ),
        ("aufs-fuse", &["-o", "lowerdir=@/l1:@/l2,upperdir=@/u,workdir=@/w,nodev,volatile", "@/m"]),
        ("aufs", &["-o", "lowerdir=@/l1:@/l2,upperdir=@/u,workdir=@/w", "@/m"]),
    ] {
        succeed(&mut host.program(name, args));
        shows_all(&host, &format!("{name} {args:?}"));
    }
    succeed(&mut host.program("aufs-fuse", &["none", "@/m", "-r", "-o", "br:@/u:@/l1:@/l2"]));
    assert!(fs::write(host.path("m/both"), "x").is_err(), "-r mounts read-only");
    succeed(&mut host.program("mount.fuse.aufs", &["aufs", "@/m", "-o", "remount,rw,user_id=0,group_id=0"]));
    fs::write(host.path("m/only-u"), "upper").unwrap();
    shows_all(&host, "remounted");

    let mut child =
        host.program("aufs-fuse", &["-f", "none", "@/m", "-o", "br:@/u:@/l1:@/l2"]).spawn().unwrap();
    wait_until("-f mounts", || !host.mounts().is_empty());
    assert_eq!(host.server_of("m"), child.id().cast_signed());
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn fuse_root_the_helper_form_warns_once_about_what_it_cannot() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    let options = "lowerdir=@/l1:@/l2,upperdir=@/u,xattr_permissions=2,timeout=1";
    let output = host.program("aufs-fuse", &["-o", options, "@/m"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    let expected = "not offered: xattr_permissions timeout";
    assert!(stderr.lines().count() == 1 && stderr.contains(expected), "{stderr}");
    shows_all(&host, options);
}

#[test]
fn fuse_root_names_may_hold_any_byte() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    let odd = |name: &[u8]| host.path(std::ffi::OsStr::from_bytes(name));
    let (upper, mountpoint) = (odd(b"u,:=\\\xff\n "), odd(b"m\xfe\n\\ "));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&mountpoint).unwrap();
    fs::write(upper.join("in"), "odd").unwrap();
    let escaped = host::bytes(&[host.path("u").as_os_str().as_bytes(), b"\\,\\:\\=\\\\\xff\n "]);
    let literal = host::bytes(&[upper.as_os_str().as_bytes(), b"=rw"]);
    let option = host::bytes(&[b"br:", escaped.as_bytes(), b"=rw:", host.path("l1").as_os_str().as_bytes()]);
    for (how, arg) in [("-o", option), ("-b", literal)] {
        succeed(host.aufs(&["mount", how]).arg(arg).arg(&mountpoint));
        assert_eq!(fs::read_to_string(mountpoint.join("in")).unwrap(), "odd", "{how}");
        fs::write(mountpoint.join(std::ffi::OsStr::from_bytes(b"\xff")), "new").unwrap();
        succeed(host.aufs(&["umount"]).arg(&mountpoint));
    }
    assert!(upper.join(std::ffi::OsStr::from_bytes(b"\xff")).exists());
    assert_eq!(host.mounts(), []);
}

#[test]
fn fuse_root_long_texts_and_deep_stacks_mount() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    let mut option = host.text("br:@/u=rw");
    for n in 0..512 {
        let path: PathBuf = host.path(format!("layer-{n:0>180}"));
        fs::create_dir(&path).unwrap();
        fs::write(path.join(format!("file-{n}")), n.to_string()).unwrap();
        fs::write(path.join("same"), n.to_string()).unwrap();
        option.push_str(&format!(":{}=ro+wh", path.display()));
    }
    assert!(100_000 < option.len() && option.len() < 128 * 1024, "{}", option.len());
    host.run(&["mount", "-o", &option, "@/m"]);
    assert_eq!((host.read("m/same"), host.read("m/file-511")), ("0".to_owned(), "511".to_owned()));
    assert_eq!(fs::read_dir(host.path("m")).unwrap().count(), 512 + 1 + 2);
    fs::write(host.path("m/file-511"), "changed").unwrap();
    assert_eq!(host.read("u/file-511"), "changed");
    host.run(&["umount", "@/m"]);
}

#[test]
fn fuse_a_user_namespace_suffices() {
    if !has(&[Fuse]) {
        return;
    }
    let host = Host::new();
    let probe = Command::new("unshare").args(["-Urm", "true"]).output().unwrap();
    if !probe.status.success() {
        println!("skipped: no user namespaces: {}", String::from_utf8_lossy(&probe.stderr));
        return;
    }
    let script = "set -e; $AUFS mount -o br:@/u=rw:@/l1=ro+wh:@/l2=ro+wh @/m; \
        cat @/m/only-l1; echo changed > @/m/only-l2; $AUFS umount @/m; ! grep -q @/m /proc/self/mountinfo";
    let mut shell = Command::new("unshare");
    shell.args(["-Urm", "sh", "-c", &host.text(script)]).env("AUFS", env!("CARGO_BIN_EXE_aufs"));
    assert_eq!(succeed(&mut shell), "first");
    assert_eq!(
        (host.read("u/only-l2"), host.read("l2/only-l2")),
        ("changed\n".to_owned(), "second".to_owned())
    );
}

#[test]
fn fuse_root_servers_of_one_host_do_not_mix() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    fs::create_dir(host.path("m2")).unwrap();
    host.run(&["mount", "-o", "br:@/u:@/l1", "@/m"]);
    host.run(&["mount", "-o", "br:@/l2=ro", "@/m2"]);
    let (first, second) = (host.server_of("m"), host.server_of("m2"));
    assert_ne!(first, second);
    host.run(&["umount", "@/m"]);
    assert!(!is_running(first) && is_running(second));
    assert_eq!(host.read("m2/both"), "second");
    assert!(fs::write(host.path("m2/both"), "x").is_err(), "a stack without rw branch cannot be written");
    host.run(&["umount", "@/m2"]);
}
