//! The program that lies in a layer: laid there, and started through a mount.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::error::{At as _, BenchError, BenchErrorKind, Result};

/// Where it lies below the root of a stack with [`TreeContent::Program`](crate::cell::TreeContent).
pub const PATH: &str = "bin/noop";

/// The first argument that makes this program the one of the layers; no verb that `--help` shows.
pub const WORD: &str = "noop";

/// The argument after the token that makes it stay until its standard input ends.
pub const STAY: &str = "stay";

/// Our own program, also when its file was replaced since.
const SOURCE: &str = "/proc/self/exe";

/// Its length, in bytes.
///
/// # Errors
///
/// `/proc` is not mounted.
pub fn len_bytes() -> Result<u64> {
    Ok(fs::metadata(SOURCE).at("stat", SOURCE)?.len())
}

/// Its mode in a layer.
const MODE: u32 = 0o755;

/// Lays the program into `layer`.
///
/// # Errors
///
/// Any I/O error, a full disk most likely.
pub fn lay(layer: &Path) -> Result<()> {
    let path = layer.join(PATH);
    fs::copy(SOURCE, &path).at("copy program to", &path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(MODE)).at("chmod", &path)
}

/// Checks that the program in `layer` is as it was laid there.
///
/// # Errors
///
/// `Incorrect`, with what is wrong; else what reading reports.
pub fn check_laid(layer: &Path) -> Result<()> {
    let path = layer.join(PATH);
    let mode = fs::metadata(&path).at("stat", &path)?.permissions().mode() & 0o7777;
    let is_same = fs::read(SOURCE).at("read", SOURCE)? == fs::read(&path).at("read", &path)?;
    if is_same && mode == MODE {
        return Ok(());
    }
    let what = BenchErrorKind::Incorrect(format!("the layer's program was changed; its mode is {mode:o}"));
    Err(BenchError::new("check", &path, what))
}

fn command(root: &Path, token: &str) -> (PathBuf, Command) {
    let path = root.join(PATH);
    let mut command = Command::new(&path);
    // A group of its own: Ctrl-C must reach the bench, which then ends what it has started.
    command.args([WORD, token]).stderr(Stdio::null()).process_group(0);
    (path, command)
}

fn wrong(path: &Path, what: String) -> BenchError {
    BenchError::new("run", path, BenchErrorKind::Incorrect(what))
}

/// What the program printed, with what it should have.
fn expect_said(path: &Path, said: &str, token: &str) -> Result<()> {
    if said.trim_end() == token {
        Ok(())
    } else {
        Err(wrong(path, format!("it said {said:?}, not {token:?}")))
    }
}

/// Runs the program below `root` until it has ended; what it said is checked by the caller of [`Ended::check`].
///
/// # Errors
///
/// It cannot be started.
pub fn run(root: &Path, token: &str) -> Result<Ended> {
    let (path, mut command) = command(root, token);
    let output = command.stdin(Stdio::null()).output().at("start", &path)?;
    Ok(Ended { path, output, token: token.to_owned() })
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    path: PathBuf,
    output: std::process::Output,
    token: String,
}

impl Ended {
    /// Checks how it ended and that it printed its token.
    ///
    /// # Errors
    ///
    /// `Incorrect`: it did not.
    pub fn check(&self) -> Result<()> {
        if !self.output.status.success() {
            return Err(wrong(&self.path, format!("it ended with {}", self.output.status)));
        }
        expect_said(&self.path, &String::from_utf8_lossy(&self.output.stdout), &self.token)
    }
}

/// The program, running until it is ended or dropped.
#[derive(Debug)]
pub struct Running {
    path: PathBuf,
    child: Child,
}

impl Running {
    /// Starts the program below `root`, and waits until it has printed its token.
    ///
    /// # Errors
    ///
    /// It cannot be started, or says something else.
    pub fn start(root: &Path, token: &str) -> Result<Self> {
        let (path, mut command) = command(root, token);
        let piped = command.arg(STAY).stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = piped.spawn().at("start", &path)?;
        let mut running = Self { path, child };
        let mut said = String::new();
        if let Some(out) = running.child.stdout.take() {
            BufReader::new(out).read_line(&mut said).at("read from", &running.path)?;
        }
        expect_said(&running.path, &said, token)?;
        Ok(running)
    }

    /// Closes its standard input, at which it ends.
    ///
    /// # Errors
    ///
    /// It ends otherwise than in order.
    pub fn end(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait().at("wait for", &self.path)?;
        if status.success() { Ok(()) } else { Err(wrong(&self.path, format!("it ended with {status}"))) }
    }
}

impl Drop for Running {
    /// For the ways that end in an error: nothing may stay and keep a mount busy.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            tracing::warn!(path = %self.path.display(), %error, "a program was not ended");
        }
    }
}
