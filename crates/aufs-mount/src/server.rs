//! Our FUSE server as a child process.
//!
//! A child, not a library call: a crash of the server cannot take its caller
//! along, and a program with threads could not turn itself into a daemon.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fs, thread};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use crate::error::{ErrorClass, MountError, MountErrorKind};
use crate::option::DataMode;
use crate::request::{ServeReply, ServeRequest};
use crate::unmount::detach;

/// Name of the program that serves.
const PROGRAM: &str = "aufs";

/// Environment variable with the path of the program that serves.
pub const PROGRAM_ENV: &str = "AUFS_BIN";

/// Longest report that is read, in bytes; a server that writes more is none of ours.
const REPLY_LEN_MAX: u64 = 1 << 20;

/// A server whose mount is usable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The data mode in force.
    pub data: DataMode,
    /// The serving process.
    pub pid: i32,
}

/// Finds the serving program: `explicit`, `AUFS_BIN`, beside this program, `PATH`.
///
/// # Errors
///
/// [`MountErrorKind::NoServer`] when none of them is an executable file.
pub fn find_program(explicit: Option<&Path>) -> Result<PathBuf, MountErrorKind> {
    if let Some(named) = explicit.map(Path::to_owned).or_else(|| env::var_os(PROGRAM_ENV).map(PathBuf::from))
    {
        return if is_program(&named) { Ok(named) } else { Err(MountErrorKind::NoServer) };
    }
    let beside = env::current_exe().ok().and_then(|it| it.parent().map(|it| it.join(PROGRAM)));
    beside.filter(|it| is_program(it)).or_else(|| find_in_path(PROGRAM)).ok_or(MountErrorKind::NoServer)
}

/// Finds an executable file by the directories of `PATH`.
pub(crate) fn find_in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|it| it.join(name)).find(|it| is_program(it))
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|it| it.is_file()) && access(path, AccessFlags::X_OK).is_ok()
}

/// Refuses early where no FUSE mount can succeed.
///
/// # Errors
///
/// [`MountErrorKind::NoFuse`]: `/dev/fuse` cannot be opened.
pub fn check_host() -> Result<(), MountErrorKind> {
    let device = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    let errno = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(0));
    device.map(drop).map_err(|error| MountErrorKind::NoFuse(errno(error)))
}

/// Starts `program serve` and waits until the mount is usable.
///
/// The server then lives on in its own session; a thread of this process waits
/// for it, so that no zombie stays behind.
///
/// # Errors
///
/// What the server reported, or why it could not report. Nothing is mounted then.
pub fn start(program: &Path, request: &ServeRequest) -> Result<Served, MountError> {
    let mountpoint = &request.mountpoint.0;
    let failed = |error: io::Error| {
        MountErrorKind::Server { server: program.to_owned(), error }.during("mount", mountpoint)
    };
    let mut child = Command::new(program)
        .arg0(PROGRAM) // By another name it would be a mount helper.
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let reply = converse(&mut child, request);
    match reply {
        Ok(Some(ServeReply::Ready { data, pid })) => {
            reap_later(child).map_err(failed)?;
            Ok(Served { data, pid })
        }
        Ok(Some(ServeReply::Error { message, errno, exit_code })) => {
            child.wait().map_err(failed)?;
            let kind = MountErrorKind::Served { message, errno, class: ErrorClass::of_code(exit_code) };
            Err(kind.during("mount", mountpoint))
        }
        Ok(None) => {
            let status = child.wait().map_err(failed)?;
            let status = match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit code {code}"),
                (None, Some(signal)) => format!("signal {signal}"),
                (None, None) => "no status".to_owned(),
            };
            clear_dead_mount(mountpoint);
            Err(MountErrorKind::ServerDied { status }.during("mount", mountpoint))
        }
        Err(error) => {
            // It may hang or speak nonsense; either way it must not mount later.
            if let Err(error) = child.kill().and_then(|()| child.wait()) {
                tracing::warn!(%error, "the serving program could not be ended");
            }
            clear_dead_mount(mountpoint);
            Err(failed(error))
        }
    }
}

/// Removes the mount of a server that died between mounting and reporting.
///
/// The mount point was alive when the request was checked, so a dead mount there is that server's.
fn clear_dead_mount(mountpoint: &Path) {
    if crate::stack::is_dead(mountpoint)
        && let Err(reason) = detach(mountpoint, true)
    {
        tracing::warn!(?mountpoint, %reason, "a dead mount stays");
    }
}

/// Sends the request and reads the reply; `None` when the server ended without one.
fn converse(child: &mut Child, request: &ServeRequest) -> io::Result<Option<ServeReply>> {
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(&serde_json::to_vec(request)?) {
            // It ended before it had read all: its status tells more than our broken pipe.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => other?,
        }
    }
    let Some(stdout) = child.stdout.take() else {
        return Ok(None);
    };
    let mut reader = BufReader::new(stdout).take(REPLY_LEN_MAX);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    // The server closes its stdout last, so after this it holds nothing of the caller's.
    io::copy(&mut reader, &mut io::sink())?;
    if line.is_empty() {
        return Ok(None);
    }
    let foreign = |_| io::Error::new(io::ErrorKind::InvalidData, "its reply is not one of aufs serve");
    serde_json::from_str(&line).map(Some).map_err(foreign)
}

fn reap_later(mut child: Child) -> io::Result<()> {
    let name = format!("reap-{}", child.id());
    thread::Builder::new().name(name).stack_size(64 * 1024).spawn(move || match child.wait() {
        Ok(status) => tracing::debug!(%status, "the server ended"),
        Err(error) => tracing::warn!(%error, "the server could not be waited for"),
    })?;
    Ok(())
}
