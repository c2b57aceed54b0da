//! Manual pages and completions tell of every command.
#![allow(clippy::unwrap_used, reason = "test helpers may fail the test")]

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

fn aufs(words: &[&str]) -> Vec<u8> {
    let done = Command::new(env!("CARGO_BIN_EXE_aufs")).args(words).output().unwrap();
    assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

/// The commands that the help of `words` lists.
fn commands_of(words: &[&str]) -> Vec<String> {
    let help = String::from_utf8(aufs(&[words, &["--help"]].concat())).unwrap();
    let listed = help.lines().skip_while(|it| *it != "Commands:").skip(1).take_while(|it| !it.is_empty());
    // Their descriptions go on in lines that begin further right.
    let listed = listed.filter(|it| it.starts_with("  ") && !it.starts_with("   "));
    listed.filter_map(|it| it.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn each_command_has_a_page() {
    let mut wanted = BTreeSet::from(["aufs.1".to_owned()]);
    for command in commands_of(&[]) {
        wanted.insert(format!("aufs-{command}.1"));
        wanted.extend(commands_of(&[&command]).iter().map(|it| format!("aufs-{command}-{it}.1")));
    }
    assert!(wanted.contains("aufs-container-exec.1"), "{wanted:?}");
    let base = tempfile::tempdir().unwrap();
    let directory = base.path().join("share/man/man1");
    aufs(&["man", directory.to_str().unwrap()]);
    let pages = fs::read_dir(&directory).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
    assert_eq!(pages.collect::<BTreeSet<_>>(), wanted);
    let page = fs::read_to_string(directory.join("aufs-container-exec.1")).unwrap();
    assert!(page.contains(".TH aufs-container-exec 1"), "{page}");
}

#[test]
fn completions_are_scripts_that_know_each_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = String::from_utf8(aufs(&["completions", shell])).unwrap();
        for command in commands_of(&[]) {
            assert!(script.contains(&command), "{shell}: {command}");
        }
    }
    let script = aufs(&["completions", "bash"]);
    let base = tempfile::tempdir().unwrap();
    fs::write(base.path().join("aufs"), script).unwrap();
    let complete = ". ./aufs && COMP_WORDS=(aufs container st) COMP_CWORD=2 && _aufs aufs st container && echo ${COMPREPLY[*]}";
    let done = Command::new("bash").args(["-c", complete]).current_dir(base.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&done.stdout), "start stop\n", "{done:?}");
}
