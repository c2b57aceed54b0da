//! Runs one subject as root of a user namespace.

use std::io::Write;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::subject::Subject;
use crate::{Results, Tools};

/// The host's ids that those of the namespace stand for.
const OUTER: u32 = 100_000;
/// As many as the tests' users need.
const COUNT: u32 = 65_536;

/// Runs `subject` in a user and mount namespace of its own, in `base`.
pub fn run(
    subject: &Subject,
    base: &Path,
    tools: &Tools,
    fsx_ops: u32,
    seed: u64,
) -> anyhow::Result<Results> {
    chown(base, Some(OUTER), Some(OUTER))?;
    let myself = std::env::current_exe()?;
    // The shell waits until its ids are mapped, then becomes root of its namespace.
    let script = r#"read -r ready && exec setpriv --reuid=0 --regid=0 --clear-groups -- "$0" "$@""#;
    let mut command = Command::new("unshare");
    command.args(["--user", "--mount", "--keep-caps", "--", "sh", "-c", script]).arg(myself);
    command.args(["inside", "--subject", &subject.title(), "--base"]).arg(base);
    command.args(["--fsx-ops", &fsx_ops.to_string(), "--seed", &seed.to_string()]);
    command.arg("--aufs").arg(&tools.aufs).arg("--bin").arg(&tools.bin);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().context("unshare")?;
    let begun = begin(&mut child);
    let done = child.wait_with_output()?;
    begun?;
    if !done.status.success() {
        bail!("{} ended with {}", subject.title(), done.status);
    }
    Ok(serde_json::from_slice(&done.stdout)?)
}

/// Maps the ids of the child, once it is in its namespace, and lets it go on.
fn begin(child: &mut std::process::Child) -> anyhow::Result<()> {
    let own = std::fs::read_link("/proc/self/ns/user")?;
    let theirs = format!("/proc/{}/ns/user", child.id());
    for _ in 0..1000 {
        if std::fs::read_link(&theirs)? != own {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    for map in ["uid_map", "gid_map"] {
        let path = format!("/proc/{}/{map}", child.id());
        std::fs::write(&path, format!("0 {OUTER} {COUNT}\n")).with_context(|| path.clone())?;
    }
    child.stdin.take().context("the child has no stdin")?.write_all(b"ready\n")?;
    Ok(())
}
