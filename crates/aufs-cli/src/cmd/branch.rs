//! `aufs branch`: the branches of a live mount, to see and to change.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use aufs_fuse::control::{Answer, Ask, ask};
use aufs_mount::option::MountOptions;
use aufs_mount::stack::BranchStack;
use aufs_union::BranchChange;
use aufs_union::branch::{BranchPerm, BranchSpec};
use clap::{Args, Subcommand};
use nix::errno::Errno;
use serde::Serialize;

use super::UsageError;
use crate::exit::{self, Exit};

/// Show or change the branches of the union at MOUNTPOINT, while it is in use.
///
/// What was known of the old branches is gone when the command returns. Nothing changes when what
/// only a removed branch has is in use, or files that could not be written any more are open for that (exit code 5).
#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub struct BranchArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the branches, topmost first, as PATH=PERM.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Where the union is mounted.
        mountpoint: PathBuf,
    },
    /// Add a branch at a position; 0 is the top.
    Add {
        /// Where the union is mounted.
        mountpoint: PathBuf,
        /// Its position.
        index: usize,
        /// The branch as PATH[=PERM]; PERM is rw, ro[+wh] or rr[+wh], and ro when it is not given.
        #[arg(value_name = "PATH[=PERM]")]
        branch: OsString,
    },
    /// Add a branch below all others.
    Append {
        /// Where the union is mounted.
        mountpoint: PathBuf,
        /// The branch as PATH[=PERM]; PERM is rw, ro[+wh] or rr[+wh], and ro when it is not given.
        #[arg(value_name = "PATH[=PERM]")]
        branch: OsString,
    },
    /// Add a branch above all others.
    Prepend {
        /// Where the union is mounted.
        mountpoint: PathBuf,
        /// The branch as PATH[=PERM]; PERM is rw, ro[+wh] or rr[+wh], and ro when it is not given.
        #[arg(value_name = "PATH[=PERM]")]
        branch: OsString,
    },
    /// Remove a branch; what is in it stays there.
    Del {
        /// Where the union is mounted.
        mountpoint: PathBuf,
        /// The branch.
        path: PathBuf,
    },
    /// Change the permission of a branch.
    Mod {
        /// Where the union is mounted.
        mountpoint: PathBuf,
        /// The branch and its new permission.
        #[arg(value_name = "PATH=PERM")]
        branch: OsString,
    },
}

/// The server did not change the branches.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ChangeError {
    message: String,
    errno: Errno,
}

impl ChangeError {
    /// Returns what to exit with.
    pub fn exit(&self) -> Exit {
        match self.errno {
            Errno::EBUSY => Exit::Busy,
            Errno::EPERM | Errno::EMFILE => Exit::Unsupported,
            Errno::EIO => Exit::Failure,
            _ => Exit::Refused,
        }
    }

    fn of_call(errno: i32) -> Self {
        let errno = Errno::from_raw(errno);
        let message = match errno {
            Errno::ENOTTY | Errno::EINVAL => "not a union served by this version of aufs".to_owned(),
            Errno::EPERM => "only root and the user who mounted may change branches".to_owned(),
            errno => format!("cannot ask the server: {}", errno.desc()),
        };
        Self { message, errno }
    }
}

/// Runs the verb.
pub fn run(args: BranchArgs) -> anyhow::Result<Exit> {
    match args.verb {
        Verb::List { json, mountpoint } => print(&mountpoint, json)?,
        Verb::Add { mountpoint, index, branch } => {
            add(&mountpoint, Some(index), &branch)?;
        }
        Verb::Append { mountpoint, branch } => add(&mountpoint, None, &branch)?,
        Verb::Prepend { mountpoint, branch } => add(&mountpoint, Some(0), &branch)?,
        Verb::Del { mountpoint, path } => {
            let root = open(&mountpoint)?;
            change(&root, BranchChange::Remove { path: known(&root, &path)? })?;
        }
        Verb::Mod { mountpoint, branch } => {
            let root = open(&mountpoint)?;
            let (path, perm) = split(&branch)?;
            let perm = perm.ok_or_else(|| UsageError("no permission given, as in PATH=ro".to_owned()))?;
            change(&root, BranchChange::Modify { path: known(&root, &path)?, perm })?;
        }
    }
    Ok(Exit::Success)
}

fn open(mountpoint: &Path) -> anyhow::Result<File> {
    File::open(mountpoint).with_context(|| format!("mount point {}", mountpoint.display()))
}

/// Splits PATH[=PERM] at the last `=`.
fn split(branch: &OsString) -> Result<(PathBuf, Option<BranchPerm>), UsageError> {
    let bytes = branch.as_bytes();
    let path = |bytes: &[u8]| PathBuf::from(OsString::from_vec(bytes.to_vec()));
    match bytes.iter().rposition(|it| *it == b'=') {
        None => Ok((path(bytes), None)),
        Some(at) => {
            let perm = String::from_utf8_lossy(&bytes[at + 1..]).parse();
            Ok((path(&bytes[..at]), Some(perm.map_err(|error| UsageError(format!("{error}")))?)))
        }
    }
}

/// Returns the name under which the server knows the branch; it may be gone from the host.
fn known(root: &File, path: &Path) -> anyhow::Result<PathBuf> {
    let branches = list(root)?;
    if branches.iter().any(|it| it.path == path) {
        return Ok(path.to_owned());
    }
    let path = std::fs::canonicalize(path).or_else(|_| std::path::absolute(path));
    path.context("the current directory")
}

fn add(mountpoint: &Path, position: Option<usize>, branch: &OsString) -> anyhow::Result<()> {
    let root = open(mountpoint)?;
    let (path, perm) = split(branch)?;
    let perm = perm.unwrap_or(BranchPerm::ReadOnly { whiteouts: false });
    let mut branches = list(&root)?;
    let path = known(&root, &path)?;
    if branches.iter().all(|it| it.path != path) {
        let at = position.unwrap_or(branches.len()).min(branches.len());
        branches.insert(at, BranchSpec { path: path.clone(), perm });
        let options = MountOptions { branches, ..MountOptions::default() };
        // As for a mount of the new stack.
        let (_, warnings) = BranchStack::check(&options, mountpoint)?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
    }
    change(&root, BranchChange::Add { position, spec: BranchSpec { path, perm } })
}

fn change(root: &File, change: BranchChange) -> anyhow::Result<()> {
    match ask(root, &Ask::Change(change)).map_err(|errno| ChangeError::of_call(errno.raw_os_error()))? {
        Answer::Done(warnings) => {
            for warning in warnings {
                tracing::warn!("{warning}");
            }
            Ok(())
        }
        Answer::Refused { errno, message } => {
            Err(ChangeError { message, errno: Errno::from_raw(errno) }.into())
        }
        Answer::Branches(..) => Err(ChangeError::of_call(Errno::EPROTO as i32).into()),
    }
}

fn list(root: &File) -> Result<Vec<BranchSpec>, ChangeError> {
    let mut branches = Vec::new();
    loop {
        let answer = ask(root, &Ask::Branches(branches.len()));
        match answer.map_err(|errno| ChangeError::of_call(errno.raw_os_error()))? {
            Answer::Branches(all, some) => {
                let is_last = some.is_empty() || all <= branches.len() + some.len();
                branches.extend(some);
                if is_last {
                    return Ok(branches);
                }
            }
            _ => return Err(ChangeError::of_call(Errno::EPROTO as i32)),
        }
    }
}

/// One branch as JSON.
#[derive(Debug, Serialize)]
struct Shown {
    index: usize,
    path: String,
    perm: String,
}

fn print(mountpoint: &Path, json: bool) -> anyhow::Result<()> {
    let branches = list(&open(mountpoint)?)?;
    let mut out = io::stdout().lock();
    if json {
        let shown = branches.iter().enumerate().map(|(index, it)| Shown {
            index,
            path: it.path.to_string_lossy().into_owned(),
            perm: it.perm.to_string(),
        });
        serde_json::to_writer_pretty(&mut out, &shown.collect::<Vec<_>>())?;
        writeln!(out)?;
    } else {
        for it in branches {
            out.write_all(it.path.as_os_str().as_bytes())?;
            writeln!(out, "={}", it.perm)?;
        }
    }
    Ok(())
}
