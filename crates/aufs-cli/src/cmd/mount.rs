//! `aufs mount`: checks, mounts, and returns when the mount is usable.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use aufs_mount::mounter::{self, MountRequest, Mounted, Mounter};
use aufs_mount::option::{Dialect, GenericFlags, MountOptions, OptionParser, Parsed};
use aufs_mount::remount::{LiveMount, check_words};
use clap::Args;

use super::{UsageError, live};
use crate::cmd::serve;
use crate::exit::{self, Exit};

/// Most bytes read from a branch list: 65535 branches of 4 KiB.
const LIST_LEN_MAX: u64 = 65_535 * 4096;

/// Show stacked directories as one tree at MOUNTPOINT.
///
/// Returns when the mount is usable; a server of its own then serves it until
/// `aufs umount MOUNTPOINT`. docs/MOUNT.md lists every option.
#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub struct MountArgs {
    /// Options, separated by commas: br:UP=rw:LOW=ro+wh, or lowerdir=A:B,upperdir=U,workdir=W,
    /// and data=auto|passthrough|noopen|cached, transport=auto|device|uring, udba=none|reval, sync,
    /// volatile, noxattr, ro, nodev, nosuid, noexec, fsname=NAME, allow_other, remount, and with
    /// remount append:PATH=PERM, prepend:PATH=PERM, add:INDEX:PATH=PERM, del:PATH, mod:PATH=PERM.
    #[arg(short, long = "options", value_name = "OPTIONS", allow_hyphen_values = true)]
    options: Vec<OsString>,

    /// A branch as PATH=PERM, topmost first; PERM is rw, ro[+wh] or rr[+wh].
    #[arg(short, long = "branch", value_name = "PATH=PERM")]
    branches: Vec<OsString>,

    /// Read branches from FILE (- is stdin), one PATH=PERM a line, topmost first.
    #[arg(long, value_name = "FILE")]
    branches_from: Option<PathBuf>,

    /// The entries of --branches-from end with a zero byte instead of a newline.
    #[arg(short = '0', long = "null", requires = "branches_from")]
    null: bool,

    /// Who mounts: kernel (aufs) or fuse (our server); by default the kernel where it can.
    #[arg(long, value_name = "kernel|fuse")]
    mounter: Option<Mounter>,

    /// Serve from this process until unmounted or interrupted, and log to stderr.
    #[arg(short, long)]
    foreground: bool,

    /// Append the server's log to FILE.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,

    /// Print mount point, mounter, data mode and process id as JSON.
    #[arg(long)]
    json: bool,

    /// An existing directory outside of every branch.
    mountpoint: PathBuf,
}

/// What a mount shall be, however it was asked for.
#[derive(Debug)]
pub struct Wanted {
    /// The options.
    pub parsed: Parsed,
    /// Where.
    pub mountpoint: PathBuf,
    /// The mounter, if not to be chosen.
    pub mounter: Option<Mounter>,
    /// Whether to serve from this process.
    pub foreground: bool,
    /// Where the server logs.
    pub log: Option<PathBuf>,
    /// Whether to print the result as JSON.
    pub json: bool,
}

/// Runs the verb.
pub fn run(args: MountArgs) -> anyhow::Result<Exit> {
    let mut parser = OptionParser::new(Dialect::Own);
    for text in &args.options {
        parser.options(text)?;
    }
    for entry in &args.branches {
        parser.branch(entry)?;
    }
    if let Some(file) = &args.branches_from {
        read_branches(file, args.null, &mut parser)?;
    }
    mount(Wanted {
        parsed: parser.finish()?,
        mountpoint: args.mountpoint,
        mounter: args.mounter,
        foreground: args.foreground,
        log: args.log,
        json: args.json,
    })
}

/// Mounts what is wanted, or changes what is mounted.
pub fn mount(wanted: Wanted) -> anyhow::Result<Exit> {
    let Wanted { parsed, mountpoint, mounter, foreground, log, json } = wanted;
    for warning in &parsed.warnings {
        tracing::warn!("{warning}");
    }
    if parsed.options.remount {
        remount(&mountpoint, &parsed.options)?;
        return Ok(Exit::Success);
    }
    let log = log.map(std::path::absolute).transpose().context("the current directory")?;
    let request = MountRequest {
        options: parsed.options,
        mountpoint,
        mounter,
        // The server is this very program, whatever name it was called by.
        program: std::env::current_exe().ok(),
        log,
    };
    let prepared = mounter::prepare(&request)?;
    for warning in &prepared.warnings {
        tracing::warn!("{warning}");
    }
    match prepared.serve_request() {
        Some(request) if foreground => {
            let report = |mounted: &Mounted| print_result(json, mounted);
            serve::foreground(request, report)
        }
        _ => {
            // The server must not hold the caller's pipes and locks for as long as it serves.
            close_fds::set_fds_cloexec(3, &[]);
            print_result(json, &prepared.mount()?)?;
            Ok(Exit::Success)
        }
    }
}

/// Makes the changes of branches in their order, then sets the flags.
fn remount(mountpoint: &Path, options: &MountOptions) -> anyhow::Result<()> {
    check_words(mountpoint, options)?;
    let mount = LiveMount::find("remount", mountpoint)?;
    if !options.changes.is_empty() {
        live::change_all(&mount, mountpoint, &options.changes)?;
    }
    if options.changes.is_empty() || options.flags != GenericFlags::default() {
        mount.set_flags(&options.flags).map_err(|error| live::after(options.changes.len(), error.into()))?;
    }
    Ok(())
}

fn print_result(json: bool, mounted: &Mounted) -> anyhow::Result<()> {
    if json {
        let mut stdout = io::stdout();
        writeln!(stdout, "{}", serde_json::to_string(mounted)?).context("stdout")?;
        stdout.flush().context("stdout")?;
    }
    Ok(())
}

fn read_branches(file: &Path, null: bool, parser: &mut OptionParser) -> anyhow::Result<()> {
    let shown = if file == Path::new("-") { "stdin".to_owned() } else { file.display().to_string() };
    let mut list = Vec::new();
    let read = if file == Path::new("-") {
        io::stdin().take(LIST_LEN_MAX + 1).read_to_end(&mut list)
    } else {
        fs::File::open(file).and_then(|it| it.take(LIST_LEN_MAX + 1).read_to_end(&mut list))
    };
    let len = read.map_err(|error| UsageError(format!("--branches-from {shown}: {error}")))?;
    if LIST_LEN_MAX < len as u64 {
        return Err(UsageError(format!("--branches-from {shown}: longer than {LIST_LEN_MAX} bytes")).into());
    }
    let separator = if null { 0 } else { b'\n' };
    for (at, entry) in list.split(|it| *it == separator).enumerate() {
        if !entry.is_empty() {
            let entry = parser.branch(OsStr::from_bytes(entry));
            entry.with_context(|| format!("--branches-from {shown}, entry {}", at + 1))?;
        }
    }
    Ok(())
}
