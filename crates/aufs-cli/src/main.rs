//! The `aufs` command.
//!
//! Parses the command line, calls the libraries, prints results on stdout, and
//! turns errors into one line on stderr and an [`Exit`] code. Called as
//! `aufs-fuse`, `mount.fuse.aufs` or the like it is a mount helper instead;
//! see [`helper`].

mod cmd;
mod exit;
mod helper;
mod log;
mod terminate;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::exit::Exit;
use crate::log::Reader;

/// Stack directories as AUFS branches and show them as one tree.
#[derive(Debug, Parser)]
#[command(name = "aufs", version, after_help = exit::HELP, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Mount(cmd::mount::MountArgs),
    Umount(cmd::umount::UmountArgs),
    Detect(cmd::detect::DetectArgs),
    Stat(cmd::stat::StatArgs),
    Branch(cmd::branch::BranchArgs),
    Image(cmd::image::ImageArgs),
    Container(cmd::container::ContainerArgs),
    Info(cmd::info::InfoArgs),
    Fsck(cmd::fsck::FsckArgs),
    Completions(cmd::manual::CompletionsArgs),
    Man(cmd::manual::ManArgs),
    #[command(hide = true)]
    Enter(cmd::exec::EnterArgs),
    Serve(cmd::serve::ServeArgs),
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let name = args.first().and_then(|it| Path::new(it).file_name()).unwrap_or(OsStr::new("aufs"));
    let (shown, result) = if helper::is_helper_call(name, args.get(1).map(OsString::as_os_str)) {
        (name.to_string_lossy().into_owned(), helper::run(&args).map(ExitCode::from))
    } else {
        run(&args)
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            complain(&shown, &error);
            cmd::code_of(&error)
        }
    }
}

fn run(args: &[OsString]) -> (String, anyhow::Result<ExitCode>) {
    let cli = match parse::<Cli>(args) {
        Ok(Some(cli)) => cli,
        Ok(None) => return ("aufs".to_owned(), Ok(Exit::Success.into())),
        Err(error) => return ("aufs".to_owned(), Err(error)),
    };
    // A server starts its log when it knows where that goes.
    if !matches!(cli.verb, Verb::Serve(_)) {
        log::start(Reader::Caller);
    }
    let (name, result) = match cli.verb {
        Verb::Mount(args) => ("aufs mount", cmd::mount::run(args)),
        Verb::Umount(args) => ("aufs umount", cmd::umount::run(args)),
        Verb::Detect(args) => ("aufs detect", cmd::detect::run(args)),
        Verb::Stat(args) => ("aufs stat", cmd::stat::run(args)),
        Verb::Branch(args) => ("aufs branch", cmd::branch::run(args)),
        Verb::Image(args) => ("aufs image", cmd::image::run(args)),
        Verb::Container(args) => ("aufs container", cmd::container::run(args)),
        Verb::Info(args) => ("aufs info", cmd::info::run(args)),
        // The one verb with exit codes of its own.
        Verb::Fsck(args) => return ("aufs fsck".to_owned(), cmd::fsck::run(&args).map(ExitCode::from)),
        Verb::Completions(args) => ("aufs completions", cmd::manual::completions(&args, Cli::command())),
        Verb::Man(args) => ("aufs man", cmd::manual::pages(&args, Cli::command())),
        Verb::Enter(args) => ("aufs container exec", cmd::exec::enter_and_run(args)),
        Verb::Serve(args) => ("aufs serve", cmd::serve::run(args)),
    };
    (name.to_owned(), result.map(ExitCode::from))
}

/// Parses a command line; `None` when it only asked for help or the version, which is printed.
fn parse<T: Parser>(args: &[OsString]) -> anyhow::Result<Option<T>> {
    match T::try_parse_from(args) {
        Ok(parsed) => Ok(Some(parsed)),
        Err(error) if error.use_stderr() => Err(cmd::UsageError::of_clap(&error).into()),
        Err(text) => {
            text.print()?;
            Ok(None)
        }
    }
}

/// Prints an error as one line; a stderr that is gone leaves only the exit code.
fn complain(name: &str, error: &anyhow::Error) {
    let line = cmd::show::plain(&format!("{name}: {error:#}"));
    if let Err(error) = writeln!(std::io::stderr(), "{line}") {
        tracing::debug!(%error, "stderr is closed");
    }
}
