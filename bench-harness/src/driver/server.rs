//! FUSE servers that the bench starts, waits for and ends.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::view::{Branch, View};
use crate::error::{At as _, BenchError, BenchErrorKind, Result};

/// `f_type` of a FUSE mount, from `linux/magic.h`.
const FUSE_SUPER_MAGIC: i64 = 0x6573_5546;

/// How long a server may take to show its mount, and to end after it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts `command`, a server that stays in the foreground, and waits for its mount on the branch's target.
///
/// # Errors
///
/// The program does not start, ends early (the error carries its last words), or
/// shows no mount in time; it is ended then.
pub fn start(mut command: Command, branch: Branch) -> Result<View> {
    let log = branch.home.join("log");
    let stderr = File::create(&log).at("create", &log)?;
    // A group of its own: Ctrl-C must reach the bench, which then ends its servers in order.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).process_group(0);
    let mut child = command.spawn().at("start", command.get_program())?;
    let program = command.get_program();
    let start = Instant::now();
    let reason = loop {
        match child.try_wait().at("wait for", program)? {
            Some(status) => break format!("ended with {status}: {}", last_words(&log)),
            None if shows_fuse(&branch.target) => return Ok(View::server(branch, child)),
            None if PATIENCE < start.elapsed() => break format!("no mount in time: {}", last_words(&log)),
            None => sleep(Duration::from_micros(200)),
        }
    };
    end(child, &branch.target)?;
    Err(BenchError::new("start", program, BenchErrorKind::Tool(reason)))
}

/// Waits for `child` to end after its mount is gone; kills it when it does not.
///
/// # Errors
///
/// It had to be killed.
pub fn end(mut child: Child, target: &Path) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if child.try_wait().at("wait for server of", target)?.is_some() {
            return Ok(());
        }
        sleep(Duration::from_micros(500));
    }
    child.kill().at("kill server of", target)?;
    child.wait().at("wait for server of", target)?;
    Err(BenchError::new("end server of", target, BenchErrorKind::Tool("it had to be killed".to_owned())))
}

/// The last line of a log that says something.
pub fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    line.unwrap_or("it said nothing").to_owned()
}

fn shows_fuse(target: &Path) -> bool {
    rustix::fs::statfs(target).is_ok_and(|it| it.f_type == FUSE_SUPER_MAGIC)
}
