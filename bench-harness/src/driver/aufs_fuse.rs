//! Our AUFS union over FUSE, by the `aufs` command.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use aufs_mount::server::PROGRAM_ENV;

use super::{Branch, Driver, Imported, View, server, version};
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::layers::LayerStack;

/// Option sets, and what each gives to `aufs mount -o`.
const SETS: [(&str, &str); 8] = [
    ("default", "data=auto"),
    ("passthrough", "data=passthrough"),
    ("noopen", "data=noopen"),
    ("cached", "data=cached"),
    ("passthrough-device", "data=passthrough,transport=device"),
    ("passthrough-uring", "data=passthrough,transport=uring"),
    ("noopen-device", "data=noopen,transport=device"),
    ("noopen-uring", "data=noopen,transport=uring"),
];

static SET_NAMES: [&str; SETS.len()] = {
    let mut names = [""; SETS.len()];
    let mut index = 0;
    while index < SETS.len() {
        names[index] = SETS[index].0;
        index += 1;
    }
    names
};

/// Our union over FUSE.
#[derive(Debug)]
pub struct AufsFuse;

/// Longest option string given on a command line; Linux ends one argument at 128 KiB.
const ARGUMENT_LEN_MAX: usize = 100_000;

/// The `aufs` command: `AUFS_BIN`, else beside this program, else on PATH.
pub fn aufs_binary() -> Option<PathBuf> {
    aufs_mount::server::find_program(None).ok()
}

fn find() -> Result<PathBuf, String> {
    let remedy = "build it (cargo build --release -p aufs-cli), or set AUFS_BIN to its path";
    aufs_binary().ok_or_else(|| format!("no aufs command found; {remedy}"))
}

impl Driver for AufsFuse {
    fn name(&self) -> &'static str {
        "aufs-fuse"
    }

    fn options(&self) -> &'static [&'static str] {
        &SET_NAMES
    }

    fn needs(&self, _options: &str) -> Result<(), String> {
        find()?;
        if !Path::new("/dev/fuse").exists() {
            return Err("no /dev/fuse; load the module fuse".to_owned());
        }
        Ok(())
    }

    fn has_server(&self) -> bool {
        true
    }

    fn program(&self) -> Option<Result<PathBuf, String>> {
        Some(find())
    }

    fn version(&self) -> Option<String> {
        version::of_program(&aufs_binary()?, "aufs")
    }

    fn import(&self, layers: &LayerStack, _home: &Path) -> Result<Imported> {
        Ok(Imported::stacked(layers))
    }

    fn mount(&self, options: &str, imported: &Imported, branch: Branch) -> Result<View> {
        let missing = || BenchErrorKind::Refused("no aufs command found".to_owned());
        let named = imported.program.clone().or_else(aufs_binary);
        let aufs = named.ok_or_else(|| BenchError::new("find", "aufs", missing()))?;
        let mut command = Command::new(&aufs);
        // Else the command would look for its server there, and start another than itself.
        command.env(PROGRAM_ENV, &aufs);
        command.arg("mount").args(branch_arguments(imported, &branch)?);
        if let Some((_, mount_options)) = SETS.iter().find(|it| it.0 == options) {
            command.arg("-o").arg(mount_options);
        }
        // Where the kernel has aufs, `data=auto` would mean that.
        command.args(["--mounter", "fuse"]).arg(&branch.target);
        server::run(command, &branch.home)?;
        Ok(View::aufs(branch, aufs))
    }
}

/// `br:UPPER=rw:LAYER=ro+wh:…`.
pub fn branch_option(imported: &Imported, branch: &Branch) -> OsString {
    let mut option = OsString::from("br:");
    option.push(escaped(&branch.upper));
    option.push("=rw");
    for layer in &imported.layers {
        option.push(":");
        option.push(escaped(layer));
        option.push("=ro+wh");
    }
    option
}

/// `-o br:…`, or `--branches-from FILE` when that grows too long.
fn branch_arguments(imported: &Imported, branch: &Branch) -> Result<Vec<OsString>> {
    let option = branch_option(imported, branch);
    if option.len() <= ARGUMENT_LEN_MAX {
        return Ok(vec!["-o".into(), option]);
    }
    let list = branch.home.join("branches");
    let mut lines = OsString::new();
    lines.push(joined(branch.upper.as_os_str(), "=rw\n"));
    imported.layers.iter().for_each(|layer| lines.push(joined(layer.as_os_str(), "=ro+wh\n")));
    fs::write(&list, lines.as_bytes()).at("write", &list)?;
    Ok(vec!["--branches-from".into(), list.into_os_string()])
}

fn joined(start: &OsStr, end: &str) -> OsString {
    let mut text = start.to_owned();
    text.push(end);
    text
}

/// `path` with `\` before the characters that end a branch in an option string.
fn escaped(path: &Path) -> OsString {
    use std::os::unix::ffi::OsStringExt as _;
    let mut bytes = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        if matches!(byte, b':' | b',' | b'=' | b'\\') {
            bytes.push(b'\\');
        }
        bytes.push(byte);
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_are_escaped() {
        for (path, expected) in [("/a/b", "/a/b"), ("/a:b,c=d\\e", "/a\\:b\\,c\\=d\\\\e")] {
            assert_eq!(escaped(Path::new(path)), OsStr::new(expected));
        }
    }

    #[test]
    fn long_stacks_go_to_a_file() {
        let home = tempfile::tempdir().unwrap();
        let branch = Branch::create(&home.path().join("b")).unwrap();
        let stack = |n: usize| Imported {
            layers: (0..n).map(|it| PathBuf::from(format!("/layers/{it:0>200}"))).collect(),
            ..Imported::default()
        };
        let few = branch_arguments(&stack(3), &branch).unwrap();
        assert_eq!(few[0], "-o");
        assert!(few[1].as_bytes().starts_with(b"br:") && few[1].as_bytes().ends_with(b"2=ro+wh"));
        let many = branch_arguments(&stack(1000), &branch).unwrap();
        assert_eq!(many[0], "--branches-from");
        let lines = fs::read_to_string(&many[1]).unwrap();
        assert_eq!(lines.lines().count(), 1001);
        assert!(lines.lines().next().unwrap().ends_with("/u=rw"));
    }
}
