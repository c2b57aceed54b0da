//! The storage driver's commands are killed at each call that changes the disk; the next command finds nothing half-done.
#![expect(clippy::unwrap_used, reason = "a test that cannot prepare has failed")]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use aufs_testkit::layers::{archive, docker_save};
use aufs_testkit::needs::{Need, skips};
use serde_json::Value;

const AUFS: &str = env!("CARGO_BIN_EXE_aufs");

/// Calls after which the disk is another; before each the command is killed.
const CALLS: [&str; 10] = [
    "fsync",
    "syncfs",
    "linkat",
    "renameat",
    "renameat2",
    "unlinkat",
    "mkdirat",
    "symlinkat",
    "openat2",
    "umount2",
];

const STRACE: Need = Need::Other { name: "strace", missing: strace_missing };

fn strace_missing() -> Option<String> {
    let works =
        Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    (!works.is_ok_and(|it| it.success())).then(|| "needs strace, and the right to trace".to_owned())
}

/// A data root at each stage of the life of a container.
struct Bed {
    base: tempfile::TempDir,
}

impl Bed {
    fn new() -> Self {
        let bed = Self { base: tempfile::tempdir().unwrap() };
        let layers = [archive(&[("a", "one"), ("b", "one")]), archive(&[("c", "two")])];
        docker_save(&bed.at("image"), "it", &Value::Null, &layers);
        bed
    }

    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.base.path().join(path)
    }

    fn aufs(&self, words: &[&str]) -> Vec<String> {
        let image = self.at("image").display().to_string();
        let root = self.at("root").display().to_string();
        let mut all = vec![AUFS.to_owned(), words[0].to_owned(), "--root".to_owned(), root];
        all.extend(words[1..].iter().map(|it| it.replace("IMAGE", &image)));
        all
    }

    fn run(&self, words: &[&str]) -> Output {
        let all = self.aufs(words);
        Command::new(&all[0]).args(&all[1..]).stdin(Stdio::null()).output().unwrap()
    }

    fn done(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that is killed before it makes one of `calls` the time number `when`; false when it makes none so often.
    fn is_killed(&self, words: &[&str], calls: &str, with_threads: bool, when: u32) -> bool {
        let mut strace = Command::new("strace");
        if with_threads {
            strace.arg("-f");
        }
        strace.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
        strace.args(["-e", &format!("inject={calls}:signal=KILL:when={when}")]).args(self.aufs(words));
        let output = strace.stdin(Stdio::null()).output().unwrap();
        let is_killed = output.status.signal() == Some(9) || output.status.code() == Some(128 + 9);
        // A repair exits with 1 when it mended all.
        let is_done = output.status.success() || words[0] == "fsck" && output.status.code() == Some(1);
        assert!(is_killed || is_done, "{words:?} at {when}: {output:?}");
        is_killed
    }

    fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.at("root").join(path)).unwrap();
        let mut names: Vec<_> = entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Leaves one of everything that a repair mends.
    fn damage(&self) {
        let root = |path: &str| self.at("root").join(path);
        let container = self.names("aufs-rs/containers")[0].strip_suffix(".json").unwrap().to_owned();
        fs::remove_file(root("aufs/layers").join(&container)).unwrap();
        fs::remove_dir(root("aufs/mnt").join(&container)).unwrap();
        fs::write(root("aufs/layers").join(format!("{container}-init")), "garbage!\n").unwrap();
        for dir in [
            "aufs/diff/x/dir",
            "aufs/diff/y",
            "aufs/mnt/x",
            "aufs/mnt/y",
            "aufs/diff/z-removing/dir",
            "aufs/mnt/half",
        ] {
            fs::create_dir_all(root(dir)).unwrap();
        }
        let chain = "1".repeat(64);
        for (path, text) in [
            ("aufs/layers/x", ""),
            ("aufs/layers/y", "x\n"),
            ("aufs/diff/x/dir/file", "x"),
            ("aufs/diff/y/.wh.dir", ""),
            ("aufs/diff/z-removing/dir/file", "z"),
            ("aufs-rs/pending/note.json", r#"{"layers": ["x", "y"]}"#),
            ("aufs-rs/pending/other.json", "garbage"),
            ("aufs-rs/drafts/2147483647.0", ""),
            ("aufs-rs/counts/gone", ""),
            ("aufs-rs/counts/x", r#"{"boot":"then","mount":7,"count":2}"#),
            ("aufs-rs/locks/gone", ""),
            (&format!("aufs-rs/splits/{chain}"), ""),
            (&format!("aufs-rs/tags/{chain}.json"), "garbage"),
        ] {
            fs::write(root(path), text).unwrap();
        }
    }

    /// Fails unless a repair mends all that is wrong.
    fn mend(&self, case: &str) {
        let repaired = self.run(&["fsck", "--repair"]);
        assert!(matches!(repaired.status.code(), Some(0 | 1)), "{case}: {repaired:?}");
        assert_eq!(self.done(&["fsck"]).lines().count(), 1, "{case}: only that all is well");
    }

    /// Kills the repair of a copy, and fails unless the next one ends it; false when the first ended it.
    fn is_mended_when_killed(&self, call: &str, when: u32) -> bool {
        let bed = Self { base: tempfile::tempdir().unwrap() };
        let mut copy = Command::new("cp");
        copy.arg("-a").args([self.at("root"), self.at("image")]).arg(bed.base.path());
        assert!(copy.status().unwrap().success());
        let is_killed = bed.is_killed(&["fsck", "--repair"], call, false, when);
        let case = format!("a repair killed at {call} number {when}");
        bed.mend(&case);
        bed.check(&case, 4, 1, 1);
        let root = PathBuf::from(bed.done(START).trim());
        assert_eq!(fs::read_to_string(root.join("b")).unwrap(), "one", "{case}");
        bed.done(STOP);
        is_killed
    }

    /// Removes images without a name: one that was just made or is about to go is whole for a moment.
    fn remove_nameless(&self) {
        let images: Value = serde_json::from_str(&self.done(&["image", "ls", "--json"])).unwrap();
        for image in images.as_array().unwrap().iter().filter(|it| it["names"] == Value::Array(Vec::new())) {
            self.done(&["image", "rm", image["id"].as_str().unwrap()]);
        }
    }

    /// Fails unless the data root holds so many layers and objects, and nothing else.
    fn check(&self, case: &str, layers: usize, images: usize, containers: usize) {
        let count = |path: &str| self.names(path).len();
        let found = ["aufs/layers", "aufs/diff", "aufs/mnt", "aufs-rs/counts"].map(count);
        assert_eq!(found, [layers; 4], "{case}: {:?}", self.names("aufs/layers"));
        let found = ["aufs-rs/tags", "aufs-rs/containers"].map(count);
        assert_eq!(found, [images, containers], "{case}");
        // A commit that is killed between the image and its name leaves an image without one.
        let nameless = count("aufs-rs/images") - images;
        assert!(
            nameless == 0 || nameless == 1 && case.contains("commit"),
            "{case}: {nameless} without a name"
        );
        let image_layers = layers - 2 * containers;
        assert_eq!(["aufs-rs/layers", "aufs-rs/splits"].map(count), [image_layers; 2], "{case}");
        assert_eq!(["aufs-rs/pending", "aufs-rs/drafts"].map(count), [0; 2], "{case}");
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let done = self.run(&["container", "rm", "--force", "one"]);
        if !done.status.success() && !String::from_utf8_lossy(&done.stderr).contains("no such container") {
            eprintln!("the container stays: {done:?}");
        }
    }
}

/// A command, what comes before it, and what the root holds after it and a last removal that clears up.
struct Step {
    before: &'static [&'static [&'static str]],
    words: &'static [&'static str],
    with_threads: bool,
    /// Whether repeating it after it was done may be refused.
    may_be_done: bool,
    layers: usize,
    images: usize,
    containers: usize,
}

const LOAD: &[&str] = &["image", "load", "IMAGE"];
const CREATE: &[&str] = &["container", "create", "--name", "one", "it"];
const START: &[&str] = &["container", "start", "one"];
const STOP: &[&str] = &["container", "stop", "one"];
const COMMIT: &[&str] = &["container", "commit", "one", "next"];
const RM: &[&str] = &["container", "rm", "one"];
const RMI: &[&str] = &["image", "rm", "it"];

fn kill_at_each_call(step: &Step) {
    if skips(&[Need::Root, Need::Fuse, STRACE]) {
        return;
    }
    // Calls are counted each by itself, so only one by one all of them are met.
    let kills_at = |call: &&str| (1..).take_while(|when| is_whole_when_killed(step, call, *when)).count();
    let kills: usize = CALLS.iter().map(kills_at).sum();
    println!("{kills} kills of {:?}", step.words);
    assert!(3 < kills, "a command that is never killed tells nothing");
}

/// Kills a command, and fails unless what it leaves is mended; false when it was done before.
fn is_whole_when_killed(step: &Step, call: &str, when: u32) -> bool {
    let bed = Bed::new();
    step.before.iter().for_each(|it| drop(bed.done(it)));
    let is_killed = bed.is_killed(step.words, call, step.with_threads, when);
    let case = format!("{:?} killed at {call} number {when}", step.words);
    // Half of what is left is mended by the next command, half by fsck.
    if when.is_multiple_of(2) && bed.at("root/aufs").exists() {
        bed.mend(&case);
    }
    // Whatever was left, what there is can be shown, and the command can be given again.
    bed.done(&["image", "ls"]);
    bed.done(&["container", "ls"]);
    if is_killed {
        let again = bed.run(step.words);
        assert!(again.status.success() || step.may_be_done, "{case}, again: {again:?}");
    }
    if step.containers == 1 && step.words != STOP {
        let root = PathBuf::from(bed.done(START).trim());
        assert_eq!(fs::read_to_string(root.join("b")).unwrap(), "one", "{case}");
        bed.done(STOP);
        assert_eq!(fs::read_dir(root).unwrap().count(), 0, "{case}: it is unmounted");
    }
    // The lock of the store is what looks for leftovers; loading what is there takes it.
    if 0 < step.images {
        bed.done(LOAD);
    }
    bed.remove_nameless();
    bed.check(&case, step.layers, step.images, step.containers);
    is_killed
}

#[test]
fn fuse_root_a_killed_repair_can_be_given_again() {
    if skips(&[Need::Root, Need::Fuse, STRACE]) {
        return;
    }
    let damaged = Bed::new();
    [LOAD, CREATE].iter().for_each(|it| drop(damaged.done(it)));
    damaged.damage();
    // Calls are counted each by itself, so only one by one all of them are met.
    let kills: u32 = ["linkat", "mkdirat", "renameat", "renameat2", "unlinkat", "write"]
        .into_iter()
        .map(|call| (1..).take_while(|when| damaged.is_mended_when_killed(call, *when)).count() as u32)
        .sum();
    println!("{kills} kills of a repair");
    assert!(30 < kills, "a repair of all that makes so few calls mends too little");
}

#[test]
fn fuse_root_a_killed_load_leaves_nothing() {
    kill_at_each_call(&Step {
        before: &[],
        words: LOAD,
        with_threads: true,
        may_be_done: false,
        layers: 2,
        images: 1,
        containers: 0,
    });
}

#[test]
fn fuse_root_a_killed_creation_leaves_nothing() {
    kill_at_each_call(&Step {
        before: &[LOAD],
        words: CREATE,
        with_threads: false,
        may_be_done: true,
        layers: 4,
        images: 1,
        containers: 1,
    });
}

#[test]
fn fuse_root_a_killed_start_or_stop_can_be_given_again() {
    let step = Step {
        before: &[LOAD, CREATE],
        words: START,
        with_threads: false,
        may_be_done: false,
        layers: 4,
        images: 1,
        containers: 1,
    };
    kill_at_each_call(&step);
    kill_at_each_call(&Step { before: &[LOAD, CREATE, START], words: STOP, may_be_done: true, ..step });
}

#[test]
fn fuse_root_a_killed_commit_leaves_nothing() {
    kill_at_each_call(&Step {
        before: &[LOAD, CREATE],
        words: COMMIT,
        with_threads: true,
        may_be_done: false,
        layers: 5,
        images: 2,
        containers: 1,
    });
}

#[test]
fn fuse_root_a_killed_removal_can_be_given_again() {
    let step = Step {
        before: &[LOAD, CREATE],
        words: RM,
        with_threads: false,
        may_be_done: true,
        layers: 2,
        images: 1,
        containers: 0,
    };
    kill_at_each_call(&step);
    kill_at_each_call(&Step { before: &[LOAD], words: RMI, layers: 0, images: 0, ..step });
}
