//! The mount-helper form: `[SOURCE] MOUNTPOINT -o OPTIONS`, in any order.
//!
//! This is how `mount -t fuse.aufs`, containerd (`fuse3.aufs-fuse`) and podman
//! (`mount_program`) call the program; which of them did is not told, so all
//! their words are taken.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use aufs_mount::option::{Dialect, OptionParser};
use clap::Parser;

use crate::cmd::mount::{Wanted, mount};
use crate::exit::{self, Exit};
use crate::log::{self, Reader};

/// Names under which the program is a mount helper.
const NAMES: [&str; 4] = ["aufs-fuse", "mount.fuse.aufs", "mount.aufs-fuse", "fuse-overlayfs"];

/// Mount helper: show stacked directories as one tree at MOUNTPOINT.
#[derive(Debug, Parser)]
#[command(name = "aufs-fuse", version, after_help = exit::HELP)]
struct HelperArgs {
    /// Options, separated by commas; may be repeated. docs/MOUNT.md lists them.
    #[arg(short, value_name = "OPTIONS", allow_hyphen_values = true)]
    options: Vec<OsString>,

    /// Serve from this process.
    #[arg(short, long)]
    foreground: bool,

    /// Serve from this process and log what happens.
    #[arg(short, long)]
    debug: bool,

    /// Mount read-only.
    #[arg(short)]
    read_only: bool,

    /// Mount writable, the default.
    #[arg(short = 'w')]
    writable: bool,

    /// Do not write mtab; nobody does.
    #[arg(short)]
    no_mtab: bool,

    /// Accepted and ignored; the usual generic options are always taken.
    #[arg(short)]
    sloppy: bool,

    /// Accepted and ignored.
    #[arg(short)]
    verbose: bool,

    /// The file system type; ignored.
    #[arg(short = 't', value_name = "TYPE")]
    fs_type: Option<OsString>,

    /// An ignored source, and the mount point, which comes last.
    #[arg(required = true, value_name = "[SOURCE] MOUNTPOINT")]
    places: Vec<PathBuf>,
}

/// Whether the program was called by a helper's name, or by a helper's arguments.
///
/// podman may be told to call `aufs` itself; its first argument is `-o` then, which no verb is.
pub fn is_helper_call(name: &OsStr, first_arg: Option<&OsStr>) -> bool {
    let by_arg = first_arg.is_some_and(|it| it.as_encoded_bytes().starts_with(b"-o"));
    by_arg || NAMES.iter().any(|it| name == *it)
}

/// Runs as a mount helper.
pub fn run(args: &[OsString]) -> anyhow::Result<Exit> {
    let Some(args) = crate::parse::<HelperArgs>(args)? else {
        return Ok(Exit::Success);
    };
    log::start(if args.debug { Reader::Watcher } else { Reader::Caller });
    let mut parser = OptionParser::new(Dialect::Helper);
    for text in &args.options {
        parser.options(text)?;
    }
    for (is_set, word) in [(args.read_only, "ro"), (args.writable, "rw")] {
        if is_set {
            parser.options(OsStr::new(word))?;
        }
    }
    tracing::debug!(?args, "called as a mount helper");
    let Some(mountpoint) = args.places.into_iter().next_back() else {
        return Err(crate::cmd::UsageError("no mount point given; see --help".to_owned()).into());
    };
    mount(Wanted {
        parsed: parser.finish()?,
        mountpoint,
        mounter: None,
        foreground: args.foreground || args.debug,
        log: None,
        json: false,
    })
}
