//! `aufs completions` and `aufs man`: what shells and man(1) want to know of this command, made from its own help.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Command};
use clap_complete::Shell;

use crate::exit::{self, Exit};

/// Print the completions of a shell, for `source` or its directory of completions.
#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub struct CompletionsArgs {
    /// Which shell.
    shell: Shell,
}

/// Write the manual pages, one for each command, into a directory.
#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub struct ManArgs {
    /// Where to; made if it is missing.
    directory: PathBuf,
}

/// Runs `completions` for `command`.
pub fn completions(args: &CompletionsArgs, mut command: Command) -> anyhow::Result<Exit> {
    // A shell that has read enough must not make the writer panic, so the whole is made first.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "aufs", &mut script);
    let mut out = io::stdout().lock();
    out.write_all(&script)?;
    out.flush()?;
    Ok(Exit::Success)
}

/// Runs `man` for `command`.
pub fn pages(args: &ManArgs, command: Command) -> anyhow::Result<Exit> {
    let directory = args.directory.display();
    std::fs::create_dir_all(&args.directory).with_context(|| format!("create {directory}"))?;
    clap_mangen::generate_to(command, &args.directory).with_context(|| format!("write to {directory}"))?;
    Ok(Exit::Success)
}
