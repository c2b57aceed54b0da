//! `aufs branch`: the branches of a live mount, to see and to change.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use aufs_mount::option::default_perm;
use aufs_mount::remount::LiveMount;
use aufs_union::BranchChange;
use aufs_union::branch::{BranchPerm, BranchSpec};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::UsageError;
use super::live::{self, LiveUnion};
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
        /// The branch as PATH[=PERM]; PERM is rw, ro[+wh] or rr[+wh]; without it rw at the top, else ro.
        #[arg(value_name = "PATH[=PERM]")]
        branch: OsString,
    },
    /// Add a branch below all others.
    Append {
        /// Where the union is mounted.
        mountpoint: PathBuf,
        /// The branch as PATH[=PERM]; PERM is rw, ro[+wh] or rr[+wh]; without it rw at the top, else ro.
        #[arg(value_name = "PATH[=PERM]")]
        branch: OsString,
    },
    /// Add a branch above all others.
    Prepend {
        /// Where the union is mounted.
        mountpoint: PathBuf,
        /// The branch as PATH[=PERM]; PERM is rw, ro[+wh] or rr[+wh]; without it rw at the top, else ro.
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

/// Runs the verb.
pub fn run(args: BranchArgs) -> anyhow::Result<Exit> {
    let (mountpoint, change) = match args.verb {
        Verb::List { json, mountpoint } => {
            print(&mountpoint, json)?;
            return Ok(Exit::Success);
        }
        Verb::Add { mountpoint, index, branch } => (mountpoint, add(Some(index), &branch)?),
        Verb::Append { mountpoint, branch } => (mountpoint, add(None, &branch)?),
        Verb::Prepend { mountpoint, branch } => (mountpoint, add(Some(0), &branch)?),
        Verb::Del { mountpoint, path } => (mountpoint, BranchChange::Remove { path }),
        Verb::Mod { mountpoint, branch } => {
            let (path, perm) = split(&branch)?;
            let perm = perm.ok_or_else(|| UsageError("no permission given, as in PATH=ro".to_owned()))?;
            (mountpoint, BranchChange::Modify { path, perm })
        }
    };
    live::change_all(&LiveMount::find("change the branches of", &mountpoint)?, &mountpoint, &[change])?;
    Ok(Exit::Success)
}

fn add(position: Option<usize>, branch: &OsStr) -> Result<BranchChange, UsageError> {
    let (path, perm) = split(branch)?;
    let perm = perm.unwrap_or_else(|| default_perm(position));
    Ok(BranchChange::Add { position, spec: BranchSpec { path, perm } })
}

/// Splits PATH[=PERM] at the last `=`.
fn split(branch: &OsStr) -> Result<(PathBuf, Option<BranchPerm>), UsageError> {
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

/// One branch as JSON.
#[derive(Debug, Serialize)]
struct Shown {
    index: usize,
    path: String,
    perm: String,
}

fn print(mountpoint: &Path, json: bool) -> anyhow::Result<()> {
    let branches = LiveUnion::open(mountpoint)?.branches()?;
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
