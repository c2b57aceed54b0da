//! `aufs image`, `aufs container` and `aufs info` as people and scripts use them.
#![expect(clippy::unwrap_used, reason = "a test that cannot prepare has failed")]

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use aufs_testkit::layers::{archive, docker_save};
use aufs_testkit::needs::{Need, skips};
use nix::sys::stat::{Mode, SFlag, makedev};
use serde_json::{Value, json};

const AUFS: &str = env!("CARGO_BIN_EXE_aufs");

/// Programs for containers, of which a test has only this machine's.
const BUSYBOX: Need = Need::Other { name: "busybox", missing: busybox_missing };

fn busybox_missing() -> Option<String> {
    let found = ["/bin/busybox", "/usr/bin/busybox"].iter().any(|it| Path::new(it).exists());
    (!found).then(|| "needs busybox (Debian: busybox-static)".to_owned())
}

fn skip() -> bool {
    skips(&[Need::Root, Need::Fuse, BUSYBOX])
}

/// A data root with one container, `one`, of busybox.
struct Root {
    base: tempfile::TempDir,
}

impl Root {
    fn new() -> Self {
        let root = Self { base: tempfile::tempdir().unwrap() };
        let (tree, image) = (root.at("tree"), root.at("image"));
        fs::create_dir_all(tree.join("bin")).unwrap();
        let busybox = if Path::new("/bin/busybox").exists() { "/bin/busybox" } else { "/usr/bin/busybox" };
        fs::copy(busybox, tree.join("bin/busybox")).unwrap();
        std::os::unix::fs::symlink("busybox", tree.join("bin/sh")).unwrap();
        let mut tar = Command::new("tar");
        let layer =
            tar.args(["--numeric-owner", "--sort=name", "-C"]).arg(&tree).args(["-cf", "-", "."]).output();
        let layer = layer.unwrap();
        assert!(layer.status.success(), "{layer:?}");
        docker_save(&image, "box", &json!({"Env": ["GREETING=hello"]}), &[layer.stdout]);
        root.done("image", &["load", image.to_str().unwrap()]);
        fs::create_dir(root.at("volume")).unwrap();
        fs::write(root.at("volume/file"), "of the host").unwrap();
        let volume = format!("{}:/data/in:ro", root.at("volume").display());
        root.done("container", &["create", "--name", "one", "--volume", &volume, "box"]);
        root
    }

    fn at(&self, path: &str) -> PathBuf {
        self.base.path().join(path)
    }

    fn run(&self, command: &str, args: &[&str]) -> Output {
        let mut aufs = Command::new(AUFS);
        aufs.arg(command).arg("--root").arg(self.at("root")).args(args).stdin(Stdio::null());
        aufs.output().unwrap()
    }

    /// Runs what must succeed; returns what it prints.
    fn done(&self, command: &str, args: &[&str]) -> String {
        let output = self.run(command, args);
        assert!(output.status.success(), "{command} {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs what must fail; returns exit code and message.
    fn refused(&self, command: &str, args: &[&str]) -> (i32, String) {
        let output = self.run(command, args);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.lines().count(), 1, "one line: {text}");
        (output.status.code().unwrap(), text)
    }

    fn exec(&self, script: &str) -> Output {
        self.run("container", &["exec", "one", "sh", "-c", script])
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let all = self.run("container", &["ls", "--quiet"]);
        for container in String::from_utf8_lossy(&all.stdout).lines() {
            let done = self.run("container", &["rm", "--force", container]);
            if !done.status.success() {
                eprintln!("the container stays: {done:?}");
            }
        }
    }
}

#[test]
fn fuse_root_the_demo_runs_and_leaves_nothing() {
    if skip() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/demo.sh");
    let done = Command::new("sh").arg(script).arg(AUFS).env("TMPDIR", scratch.path()).output().unwrap();
    let told = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success(), "{told}\n{}", String::from_utf8_lossy(&done.stderr));
    for line in [
        "the trees are the same",
        "D /data/new",
        "A /data/dir/file",
        " Dirs: 6",
        "Images: 1",
        "Containers: 1",
    ] {
        assert!(told.lines().any(|it| it == line), "{line:?} in\n{told}");
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(scratch.path().to_str().unwrap()), "{mounts}");
}

#[test]
fn fuse_root_exec_ends_as_the_program_does() {
    if skip() {
        return;
    }
    let root = Root::new();
    assert_eq!(root.refused("container", &["exec", "one", "sh"]).0, 1, "it is not started");
    root.done("container", &["start", "one"]);
    for (script, code, told) in [
        ("echo $GREETING; exit 3", 3, "hello\n"),
        ("kill -9 $$", 128 + 9, ""),
        ("busybox cat /data/in/file", 0, "of the host"),
        ("echo no 2>/dev/null >/data/in/file || exit 7", 7, ""),
        ("busybox test -c /dev/null && busybox test -e /proc/self/fd && echo $((1 < $$))", 0, "1\n"),
        ("busybox ls /", 0, "bin\ndata\ndev\netc\nproc\nsys\n"),
        ("echo kept >/kept; busybox sleep 100 & exit 0", 0, ""),
    ] {
        let done = root.exec(script);
        let found = (done.status.code(), String::from_utf8_lossy(&done.stdout).into_owned());
        assert_eq!(found, (Some(code), told.to_owned()), "{script}: {done:?}");
    }
    assert_eq!(root.run("container", &["exec", "one", "nothing"]).status.code(), Some(127));
    assert_eq!(root.run("container", &["exec", "one", "/data"]).status.code(), Some(126));
    // What a program sees is mounted in its namespaces alone.
    let tree = PathBuf::from(root.done("container", &["start", "one"]).trim());
    for empty in ["proc", "data/in"] {
        assert_eq!(fs::read_dir(tree.join(empty)).unwrap().count(), 0, "{empty}");
    }
    assert_eq!(root.done("container", &["diff", "one"]), "A /data\nA /data/in\nA /kept\n");
    root.done("container", &["stop", "one"]);
}

#[test]
fn fuse_root_programs_read_json_and_exit_codes() {
    if skip() {
        return;
    }
    let root = Root::new();
    let json = |command, args: &[&str]| -> Value { serde_json::from_str(&root.done(command, args)).unwrap() };
    let image = &json("image", &["ls", "--json"])[0];
    assert_eq!(
        (&image["names"][0], image["layers"].as_array().unwrap().len()),
        (&Value::from("box:latest"), 1)
    );
    let id = image["id"].as_str().unwrap();
    assert_eq!(root.done("image", &["ls", "--quiet"]).trim(), id);
    assert_eq!(json("image", &["inspect", "box"])["config"]["os"], "linux");
    let container = &json("container", &["ls", "--json"])[0];
    assert_eq!(
        (&container["name"], &container["state"], &container["image"]),
        (&"one".into(), &"stopped".into(), &id.into())
    );
    assert_eq!(json("container", &["inspect", "one"])["volumes"][0]["read_only"], true);
    let info = json("info", &["--json"]);
    assert_eq!((&info["containers"], &info["images"], &info["dirs"]), (&1.into(), &1.into(), &3.into()));
    let told = root.done("info", &[]);
    let keys: Vec<_> = told.lines().map(|it| it.split(": ").next().unwrap()).collect();
    let rows = [" Root Dir", " Backing Filesystem", " Dirs", " Dirperm1 Supported"];
    assert_eq!(keys, [&["Containers", "Images", "Storage Driver"][..], &rows].concat());

    fs::write(root.at("docker"), "DOCKER_OPTS=\"--storage-driver=aufs\"\n").unwrap();
    root.done("info", &["--config", root.at("docker").to_str().unwrap()]);
    fs::write(root.at("other"), "DOCKER_OPTS=\"--storage-driver=overlay2\"\n").unwrap();
    let other = root.at("other").display().to_string();
    let missing = root.at("missing").display().to_string();
    docker_save(&root.at("wide"), "wide", &json!({}), &[archive(&[("a", ""), ("b", "")])]);
    let wide = root.at("wide").display().to_string();
    for (command, args, code, told) in [
        ("container", vec!["start", "none"], 4, "no such container"),
        ("container", vec!["create", "none"], 4, "no such image"),
        ("container", vec!["create", "--name", "one", "box"], 4, "is called so"),
        ("container", vec!["create", "--name", "a/b", "box"], 2, "no name for a container"),
        ("container", vec!["create", "--volume", "/none:/x", "box"], 2, "volume"),
        ("container", vec!["create", "--volume", "/tmp:x", "box"], 2, "begins with a slash"),
        ("container", vec!["stop", "one"], 4, "not started"),
        ("container", vec!["commit", "one", "Bad Name"], 2, "no image name"),
        ("image", vec!["rm", "box"], 5, "in use by"),
        ("image", vec!["load", &missing], 1, "No such file"),
        ("image", vec!["load", "--limit", "entries=1", &wide], 1, "more than 1 entries"),
        ("image", vec!["load", "--limit", "speed=1", &wide], 2, "there is no limit \"speed\""),
        ("image", vec!["load"], 1, "no index.json"),
        ("image", vec!["load", "/etc/passwd"], 1, "it is no tar archive"),
        ("image", vec!["tag", "box", "A:b"], 2, "no image name"),
        ("image", vec!["save", "--output", &missing, "none"], 4, "no such image"),
        ("info", vec!["--storage-driver", "overlay2"], 2, "no storage driver"),
        ("info", vec!["--config", &other], 2, "no storage driver"),
        ("info", vec!["--config", &other, "--storage-driver", "aufs"], 2, "on the command line"),
        ("info", vec!["--mount-options", "br:/a"], 2, "takes no branches"),
    ] {
        let (found, line) = root.refused(command, &args);
        assert!(found == code && line.contains(told), "{command} {args:?}: {found} {line}");
    }
    assert!(!Path::new(&missing).exists(), "nothing half-written shows");
    root.done("container", &["start", "one"]);
    assert_eq!(root.refused("container", &["rm", "one"]).0, 5);
    root.done("container", &["stop", "one"]);
}

#[test]
fn fuse_root_an_output_is_whole_or_as_it_was() {
    if skip() {
        return;
    }
    let root = Root::new();
    for (command, verb, what, unknown) in
        [("container", "export", "one", "none"), ("image", "save", "box", "none")]
    {
        let (file, link, null) = (root.at("out"), root.at("link"), root.at("null"));
        fs::write(&file, "of somebody").unwrap();
        let to = |path: &Path| path.display().to_string();
        root.refused(command, &[verb, "--output", &to(&file), unknown]);
        assert_eq!(fs::read_to_string(&file).unwrap(), "of somebody", "{verb}");
        root.done(command, &[verb, "--output", &to(&file), what]);
        let whole = fs::read(&file).unwrap();
        assert!(whole.len().is_multiple_of(512) && 1024 < whole.len(), "{verb}");

        std::os::unix::fs::symlink("out", &link).unwrap();
        fs::write(&file, "of somebody").unwrap();
        root.done(command, &[verb, "--output", &to(&link), what]);
        assert_eq!((fs::read(&file).unwrap(), link.is_symlink()), (whole, true), "{verb} follows links");

        nix::sys::stat::mknod(&null, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3)).unwrap();
        root.refused(command, &[verb, "--output", &to(&null), unknown]);
        root.done(command, &[verb, "--output", &to(&null), what]);
        assert!(fs::symlink_metadata(&null).unwrap().file_type().is_char_device(), "{verb} to a device");
        [file, link, null].iter().for_each(|it| fs::remove_file(it).unwrap());
    }
}

#[test]
fn fuse_root_a_volume_bypasses_the_union() {
    if skip() {
        return;
    }
    let root = Root::new();
    let volume = format!("{}:/data/in", root.at("volume").display());
    root.done("container", &["create", "--name", "two", "--volume", &volume, "box"]);
    let tree = root.done("container", &["start", "two"]);
    let script = "cd /data/in && busybox dd if=/dev/zero of=new bs=64k count=64 2>/dev/null && \
        echo more >>file && busybox cat new file >/dev/null && busybox rm new";
    root.done("container", &["exec", "two", "sh", "-c", script]);
    let told = Command::new(AUFS).args(["stat", "--json", tree.trim()]).output().unwrap();
    let report: Value = serde_json::from_slice(&told.stdout).unwrap();
    let operations = report["operations"].as_array().unwrap();
    for name in ["create", "write", "unlink", "setattr", "fallocate"] {
        assert!(operations.iter().all(|it| it["name"] != name || it["count"] == 0), "{name}: {report}");
    }
    assert_eq!(report["copy_ups"]["files"], 0);
    assert_eq!(fs::read_to_string(root.at("volume/file")).unwrap(), "of the hostmore\n");
    assert_eq!(root.done("container", &["diff", "two"]), "A /data\nA /data/in\n");
}
