//! Programs, locks and mappings: what only a union that the kernel sees can show.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use nix::libc;
use rustix::fs::FlockOperation;
use serde_json::{Value, json};
use vm_memory::{FileOffset, MmapRegion, VolatileMemory};

use crate::subject::{Fault, Outcome};
use crate::text::{name_of, text_of};

/// In the environment of a process that plays a part for the kit.
pub const ROLE: &str = "AUFS_TESTKIT_ROLE";

/// Runs a program; returns its output and exit code, or `EXEC:` and the errno.
///
/// # Errors
///
/// A pipe or a process is refused.
pub fn exec(program: &Path, argv: &[String]) -> Outcome<Value> {
    let (mut output, input) = std::io::pipe()?;
    let mut command = Command::new(program);
    name_arguments(&mut command, argv);
    command.stdin(Stdio::null()).stdout(input.try_clone()?).stderr(input);
    let spawned = command.spawn();
    drop(command); // Holds the pipe's other end.
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            let Fault::Errno(errno) = Fault::from(error) else {
                return Err(Fault::Broken(format!("{}: no errno", program.display())));
            };
            return Ok(json!({ "out": format!("EXEC:{}", name_of(errno)), "rc": 127 }));
        }
    };
    let mut bytes = Vec::new();
    output.read_to_end(&mut bytes)?;
    let code = child.wait()?.code();
    bytes.truncate(200);
    Ok(json!({ "out": text_of(&bytes), "rc": code }))
}

/// Starts a program and gives it half a second to be running.
///
/// # Errors
///
/// The process is refused.
pub fn spawn(program: &Path, argv: &[String]) -> Outcome<Child> {
    let mut command = Command::new(program);
    name_arguments(&mut command, argv);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    std::thread::sleep(Duration::from_millis(500));
    Ok(child)
}

fn name_arguments(command: &mut Command, argv: &[String]) {
    if let Some((name, arguments)) = argv.split_first() {
        command.arg0(name).args(arguments);
    }
}

/// Kills a child and waits for its end.
///
/// # Errors
///
/// It cannot be waited for.
pub fn kill(mut child: Child) -> Outcome<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// Empties the kernel's caches of clean pages and names.
///
/// # Errors
///
/// `/proc/sys/vm/drop_caches` cannot be written.
pub fn drop_caches(mountpoint: &Path) -> Outcome<()> {
    rustix::fs::syncfs(File::open(mountpoint)?)?;
    fs::write("/proc/sys/vm/drop_caches", "3")?;
    Ok(())
}

fn lock_operation(how: &str) -> Outcome<FlockOperation> {
    match how {
        "EX" => Ok(FlockOperation::NonBlockingLockExclusive),
        "SH" => Ok(FlockOperation::NonBlockingLockShared),
        "UN" => Ok(FlockOperation::NonBlockingUnlock),
        _ => Err(Fault::Broken(format!("lock {how}"))),
    }
}

/// Takes a POSIX lock on the whole file.
///
/// # Errors
///
/// What `fcntl(2)` reports; `EAGAIN` when another process holds it.
pub fn lock(file: BorrowedFd<'_>, how: &str) -> Outcome<()> {
    Ok(rustix::fs::fcntl_lock(file, lock_operation(how)?)?)
}

/// Asks for a POSIX lock from another process that inherits the descriptor.
///
/// # Errors
///
/// The process is refused.
pub fn lock_in_child(file: BorrowedFd<'_>, how: &str) -> Outcome<Value> {
    let done = Command::new("/proc/self/exe")
        .env(ROLE, format!("lock {how}"))
        .stdin(file.try_clone_to_owned()?)
        .output()?;
    Ok(text_of(&done.stdout).into())
}

/// The child's side of [`lock_in_child`]: prints `ok` or the errno.
pub fn play_lock(how: &str) -> ExitCode {
    use std::io::Write;
    let told = match lock(std::io::stdin().as_fd(), how) {
        Ok(()) => "ok".to_owned(),
        Err(Fault::Errno(errno)) => name_of(errno),
        Err(fault) => format!("{fault:?}"),
    };
    match std::io::stdout().write_all(told.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Whose a mapping is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Stores reach the file.
    Writable,
    /// Shows the file, and cannot be stored to.
    ReadOnly,
    /// Stores stay in this mapping.
    Private,
}

/// A mapping of a file.
#[derive(Debug)]
pub struct Mapping {
    region: MmapRegion,
    file: File,
}

impl Mapping {
    /// Maps the first `len_bytes` of `file`, shared and writable.
    ///
    /// # Errors
    ///
    /// The file is shorter, or cannot be mapped.
    pub fn new(file: BorrowedFd<'_>, len_bytes: usize) -> Outcome<Self> {
        Self::with(file, len_bytes, Share::Writable)
    }

    /// Maps the first `len_bytes` of `file`.
    ///
    /// # Errors
    ///
    /// The file is shorter, or cannot be mapped so.
    pub fn with(file: BorrowedFd<'_>, len_bytes: usize, share: Share) -> Outcome<Self> {
        let file = File::from(file.try_clone_to_owned()?);
        let (read, write) = (libc::PROT_READ, libc::PROT_READ | libc::PROT_WRITE);
        let (protection, flags) = match share {
            Share::Writable => (write, libc::MAP_SHARED),
            Share::ReadOnly => (read, libc::MAP_SHARED),
            Share::Private => (write, libc::MAP_PRIVATE),
        };
        let region =
            MmapRegion::build(Some(FileOffset::new(file.try_clone()?, 0)), len_bytes, protection, flags)
                .map_err(|error| Fault::Broken(format!("mmap: {error}")))?;
        Ok(Self { region, file })
    }

    /// Loads `len_bytes` from `offset`.
    ///
    /// # Errors
    ///
    /// The mapping ends before that.
    pub fn read(&self, offset: usize, len_bytes: usize) -> Outcome<Vec<u8>> {
        let slice =
            self.region.get_slice(offset, len_bytes).map_err(|error| Fault::Broken(error.to_string()))?;
        let mut bytes = vec![0; len_bytes];
        slice.copy_to(&mut bytes[..]);
        Ok(bytes)
    }

    /// Stores `data` at `offset`.
    ///
    /// # Errors
    ///
    /// The mapping ends before that.
    pub fn write(&self, offset: usize, data: &[u8]) -> Outcome<()> {
        let slice =
            self.region.get_slice(offset, data.len()).map_err(|error| Fault::Broken(error.to_string()))?;
        slice.copy_from(data);
        Ok(())
    }

    /// Writes stored bytes back, as `msync(MS_SYNC)`, which is `fsync` of the mapped range.
    ///
    /// # Errors
    ///
    /// What `fsync(2)` reports.
    pub fn sync(&self) -> Outcome<()> {
        self.file.sync_all()?;
        Ok(())
    }
}
