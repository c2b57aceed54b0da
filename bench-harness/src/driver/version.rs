//! Versions of what mounts: of a program, or of the kernel.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::server;

/// How long a program may take to say its version.
const PATIENCE: Duration = Duration::from_secs(10);

/// `Linux 6.18.5`: the version of a driver that is part of the kernel.
pub fn of_kernel() -> Option<String> {
    let release = nix::sys::utsname::uname().ok()?.release().to_str()?.to_owned();
    Some(format!("Linux {release}"))
}

/// What `program --version` says of `name`.
pub fn of_program(program: &Path, name: &str) -> Option<String> {
    let mut command = Command::new(program);
    command.arg("--version");
    of_command(command, name)
}

/// The line of `command`'s output that has `name` and a version, else the first that says something.
///
/// Programs also tell the versions of libraries and of fusermount3, and some say it on stderr.
pub fn of_command(mut command: Command, name: &str) -> Option<String> {
    let home = tempfile::tempdir().ok()?;
    let said = home.path().join("said");
    let out = File::create(&said).ok()?;
    // A group of its own, as all programs have that the bench starts: Ctrl-C must reach the bench alone.
    command.stdin(Stdio::null()).stderr(out.try_clone().ok()?).stdout(out).process_group(0);
    let mut child = command.env(super::marked::MARK, home.path()).spawn().ok()?;
    server::wait(&mut child, home.path(), PATIENCE).ok()?;
    line_of(&String::from_utf8_lossy(&fs::read(said).ok()?), name)
}

fn line_of(text: &str, name: &str) -> Option<String> {
    let own = text.lines().find(|line| line.contains(name) && line.contains("version"));
    let line = own.or_else(|| text.lines().find(|line| !line.trim().is_empty()));
    line.map(|it| it.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_program_is_taken() {
        let fuse = "fusermount3 version: 3.14.0\nfuse-overlayfs: version 1.10\nFUSE library version 3.14.0\n";
        for (text, name, expected) in [
            (fuse, "fuse-overlayfs", Some("fuse-overlayfs: version 1.10")),
            ("\n aufs 0.1.0\n", "aufs", Some("aufs 0.1.0")),
            ("\n\n", "aufs", None),
        ] {
            assert_eq!(line_of(text, name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn programs_are_asked_and_missing_ones_have_no_version() {
        let mut both = Command::new("sh");
        both.args(["-c", "echo first; echo my version 2 >&2"]);
        assert_eq!(of_command(both, "my").as_deref(), Some("my version 2"));
        assert_eq!(of_program(Path::new("/nowhere/at/all"), "all"), None);
    }
}
