//! `completions` and `man`: what shells and man(1) want to know of this command, made from its own help.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::print_text;
use crate::cli::Cli;
use crate::error::{At as _, Exit, Result};

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Which shell.
    pub shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Where to; made if it is missing.
    pub directory: PathBuf,
}

/// Prints the completions.
///
/// # Errors
///
/// stdout cannot be written.
pub fn completions(args: &CompletionsArgs) -> Result<Exit> {
    // The generator panics where it cannot write, so the whole is made first.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "aufs-bench", &mut script);
    print_text(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Success)
}

/// Writes the pages.
///
/// # Errors
///
/// The directory cannot be made or written.
pub fn pages(args: &ManArgs) -> Result<Exit> {
    let directory = &args.directory;
    std::fs::create_dir_all(directory).at("create", directory)?;
    clap_mangen::generate_to(Cli::command(), directory).at("write pages to", directory)?;
    Ok(Exit::Success)
}
