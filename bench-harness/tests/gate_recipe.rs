//! `just gate`: which base it takes, that its code is that of the gate, and that no worktree stays.
//!
//! Compilers and the gate are stand-ins, so that what is tried is the recipe and the script.

#![allow(clippy::unwrap_used, clippy::panic)] // Reason: the functions that tests share are no tests to clippy.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Builds `aufs` and `aufs-bench` where cargo would: the one says which file it saw, the other keeps its arguments.
const CARGO: &str = r#"#!/bin/sh
[ "$1" = build ] || exit 0
[ ! -e broken ] || exit 101
dir=${CARGO_TARGET_DIR:-target}/release
mkdir -p "$dir"
cat version >"$dir/aufs"
chmod +x "$dir/aufs"
printf '#!/bin/sh\nprintf "%%s\\n" "$@" >"%s/arguments"\nexit "$GATE_CODE"\n' "$FAKES" >"$dir/aufs-bench"
chmod +x "$dir/aufs-bench"
echo "$PWD" >>"$FAKES/builds"
"#;

struct Clone {
    dir: tempfile::TempDir,
    just: Option<PathBuf>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn just() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = ["target/tools/venv/bin", "target/tools/bin"].map(|it| root().join(it));
    std::env::split_paths(&path).chain(own).map(|it| it.join("just")).find(|it| it.is_file())
}

impl Clone {
    /// A repository of two commits with the recipe in it.
    fn new() -> Self {
        let own = Self { dir: tempfile::tempdir().unwrap(), just: just() };
        let fakes = own.path("fakes");
        for dir in [own.repo().join("tools"), fakes.clone()] {
            fs::create_dir_all(dir).unwrap();
        }
        for (name, text) in [("cargo", CARGO), ("rustc", "#!/bin/sh\necho rustc 1\n")] {
            fs::write(fakes.join(name), text).unwrap();
            fs::set_permissions(fakes.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        for name in ["justfile", "tools/gate.sh"] {
            fs::copy(root().join(name), own.repo().join(name)).unwrap();
        }
        fs::write(own.repo().join(".gitignore"), "target/\n").unwrap();
        own.git(&["init", "--quiet", "--initial-branch=main"]);
        own.commit("one");
        own.commit("two");
        own
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn repo(&self) -> PathBuf {
        self.path("repo")
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = [self.path("fakes")].into_iter().chain(std::env::split_paths(&path));
        let mut command = Command::new(program);
        command.current_dir(self.repo()).env("PATH", std::env::join_paths(path).unwrap());
        for name in ["CARGO_TARGET_DIR", "GITHUB_BASE_REF", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "GIT_DIR"]
        {
            command.env_remove(name);
        }
        let who = [("NAME", "a"), ("EMAIL", "a@example.org")];
        for (key, value) in who {
            command.env(format!("GIT_AUTHOR_{key}"), value).env(format!("GIT_COMMITTER_{key}"), value);
        }
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("FAKES", self.path("fakes"));
        command
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = self.command("git").args(arguments).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn commit(&self, version: &str) {
        fs::write(self.repo().join("version"), version).unwrap();
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", version]);
    }

    /// The recipe, or the script alone where there is no just.
    fn gate(&self, code: u8, arguments: &[&str]) -> Output {
        let mut command = match &self.just {
            Some(just) => self.command(just),
            None => self.command("tools/gate.sh"),
        };
        match self.just {
            Some(_) => command.arg("gate"),
            None => command.arg(self.repo().join("target")),
        };
        let output = command.args(arguments).env("GATE_CODE", code.to_string()).output().unwrap();
        let trees = self.git(&["worktree", "list", "--porcelain"]);
        assert_eq!(trees.matches("worktree ").count(), 1, "a worktree stays: {trees}");
        assert!(!self.repo().join("target/gate/worktree").exists());
        output
    }

    /// What the base's `aufs` was built from, by the last gate; and all of that gate's arguments.
    fn base(&self) -> (String, String) {
        let arguments = fs::read_to_string(self.path("fakes/arguments")).unwrap();
        let base = arguments.lines().find_map(|it| it.strip_prefix("driver=aufs-fuse,bin=")).unwrap();
        (fs::read_to_string(base).unwrap(), arguments)
    }
}

#[test]
fn the_code_of_the_gate_is_the_code_of_the_recipe() {
    let clone = Clone::new();
    if clone.just.is_none() {
        println!("no just here; the script is tried alone");
    }
    for code in [0, 1, 2, 3, 4, 5, 130] {
        let output = clone.gate(code, &["", "--seed", "7"]);
        assert_eq!(output.status.code(), Some(code.into()), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let (base, arguments) = clone.base();
    assert_eq!(base, "one");
    assert!(arguments.starts_with("gate\n--base\n") && arguments.ends_with("\n--seed\n7\n"), "{arguments}");
    let builds = fs::read_to_string(clone.path("fakes/builds")).unwrap();
    let of_base = builds.lines().filter(|it| it.ends_with("target/gate/worktree")).count();
    assert_eq!((builds.lines().count(), of_base), (8, 1), "base is built once: {builds}");
}

#[test]
fn the_base_is_chosen_as_documented() {
    let clone = Clone::new();
    let base_of = |arguments: &[&str]| {
        let output = clone.gate(0, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        (clone.base().0, said)
    };
    assert_eq!(base_of(&[]).0, "one", "on main, nothing changed: the commit before");
    fs::write(clone.repo().join("version"), "changed").unwrap();
    let (base, said) = base_of(&[]);
    assert_eq!(base, "two", "with changes: the last commit");
    assert!(said.contains("the last commit, for there are changes since"), "{said}");
    clone.git(&["checkout", "--quiet", "--", "version"]);
    clone.git(&["checkout", "--quiet", "-b", "topic"]);
    clone.commit("three");
    clone.commit("four");
    let (base, said) = base_of(&[]);
    assert_eq!(base, "two", "on a branch: where it left main");
    assert!(said.contains("where HEAD left main"), "{said}");
    assert_eq!(base_of(&["topic~1"]).0, "three", "as asked for");
    base_of(&["--cell", "*", "--label", "a b; exit 1"]);
    let (base, arguments) = clone.base();
    assert_eq!(base, "two", "an argument is no base");
    assert!(arguments.ends_with("--cell\n*\n--label\na b; exit 1\n"), "as they were given: {arguments}");
}

#[test]
fn what_cannot_be_built_or_found_is_no_regression() {
    let clone = Clone::new();
    let unknown = clone.gate(1, &["nonsense"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no revision nonsense here"));
    fs::write(clone.repo().join("broken"), "").unwrap();
    clone.commit("three");
    fs::remove_file(clone.repo().join("broken")).unwrap();
    clone.commit("four");
    let broken = clone.gate(1, &[]);
    assert_eq!(broken.status.code(), Some(4), "{}", String::from_utf8_lossy(&broken.stderr));
    assert!(String::from_utf8_lossy(&broken.stderr).contains("base does not build"));
    // A directory that cannot be made: what fails otherwise is not 1 either.
    fs::remove_dir_all(clone.repo().join("target")).unwrap();
    fs::write(clone.repo().join("target"), "").unwrap();
    let full = clone.gate(1, &["main~1"]);
    assert_eq!(full.status.code(), Some(5), "{}", String::from_utf8_lossy(&full.stderr));
}

#[test]
fn where_head_left_main_is_not_guessed() {
    let clone = Clone::new();
    clone.git(&["checkout", "--quiet", "-b", "topic"]);
    for version in ["three", "four"] {
        clone.commit(version);
    }
    // As CI names the branch that the change goes to, which a clone of one branch does not have.
    let mut command = clone.command("tools/gate.sh");
    let output = command.arg("target").env("GITHUB_BASE_REF", "main").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("none of origin/main is here"), "{said}");
    // Histories without a common commit, as in a shallow clone.
    clone.git(&["branch", "--quiet", "--move", "main", "before"]);
    clone.git(&["checkout", "--quiet", "--orphan", "main"]);
    clone.commit("other");
    clone.git(&["checkout", "--quiet", "topic"]);
    let output = clone.gate(0, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("where HEAD left main is not here"), "{said}");
}
