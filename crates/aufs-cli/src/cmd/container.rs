//! `aufs container`: containers made of images, started, worked in, and made into images.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use aufs_storage::changes::Change;
use aufs_storage::container::{CommitOptions, ContainerState, ContainerStore, Volume};
use aufs_storage::driver::Removal;
use clap::{Args, Subcommand};
use serde_json::json;

use super::cp::{self, CpArgs};
use super::root::RootArgs;
use super::show::{self, ListArgs, to_json};
use super::{UsageError, exec};
use crate::exit::{self, Exit};

/// Make containers of images, start them, work in them, and make images of them.
#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub struct ContainerArgs {
    #[command(flatten)]
    root: RootArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a container of an image, and print its id.
    Create {
        /// What it is called; without it the beginning of its id.
        #[arg(long)]
        name: Option<String>,
        /// A directory or file of the host that programs in it see, past the union.
        #[arg(short, long, value_name = "HOST:PATH[:ro]")]
        volume: Vec<String>,
        /// The image, by name or id.
        image: String,
    },
    /// Mount the tree of a container, and print where.
    Start {
        /// Names or ids.
        #[arg(required = true, value_name = "CONTAINER")]
        containers: Vec<String>,
    },
    /// Unmount the tree of a container; what changed stays in its layer.
    Stop {
        /// Names or ids.
        #[arg(required = true, value_name = "CONTAINER")]
        containers: Vec<String>,
    },
    /// Remove a container with all that changed in it.
    Rm {
        /// Also when it is started, whoever uses it.
        #[arg(short, long)]
        force: bool,
        /// Names or ids.
        #[arg(required = true, value_name = "CONTAINER")]
        containers: Vec<String>,
    },
    /// List the containers, the newest first.
    Ls(ListArgs),
    /// Show a container as JSON.
    Inspect {
        /// Its name or id.
        container: String,
    },
    /// List what a container added (A), changed (C) and deleted (D) in its image.
    Diff {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Its name or id.
        container: String,
    },
    /// Make an image of a container, and print its id.
    Commit {
        /// Who made it.
        #[arg(short, long)]
        author: Option<String>,
        /// What the history of the image says of the step.
        #[arg(short, long)]
        message: Option<String>,
        /// The container, by name or id.
        container: String,
        /// What the image is called.
        #[arg(value_name = "NAME[:TAG]")]
        name: Option<String>,
    },
    /// Write the whole tree of a container as a tar archive.
    Export {
        /// Where to; - is stdout.
        #[arg(short, long, value_name = "FILE", default_value = "-")]
        output: PathBuf,
        /// Its name or id.
        container: String,
    },
    /// Copy files and directories into a container or out of it, started or not.
    Cp(CpArgs),
    /// Run a program in a started container, with processes and mounts of its own; exits as the program does.
    Exec {
        /// Its name or id.
        container: String,
        /// The program and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
}

/// Runs the verb.
pub fn run(args: ContainerArgs) -> anyhow::Result<Exit> {
    let driver = args.root.open()?;
    let store = ContainerStore::open(&driver)?;
    let mut out = io::stdout().lock();
    match args.verb {
        Verb::Create { name, volume, image } => {
            let volumes = volume.iter().map(|it| volume_of(it)).collect::<Result<_, _>>()?;
            writeln!(out, "{}", store.create(&image, name.as_deref(), volumes)?.id)?;
        }
        Verb::Start { containers } => {
            // A server must not hold the caller's pipes and locks for as long as it serves.
            close_fds::set_fds_cloexec(3, &[]);
            for it in containers {
                writeln!(out, "{}", store.start(&it)?.display())?;
            }
        }
        Verb::Stop { containers } => containers.iter().try_for_each(|it| store.stop(it))?,
        Verb::Rm { force, containers } => {
            let removal = if force { Removal::Force } else { Removal::IfUnused };
            for it in containers {
                writeln!(out, "{}", store.remove(&it, removal)?.id)?;
            }
        }
        Verb::Ls(form) => list(&store, &form, &mut out)?,
        Verb::Inspect { container } => to_json(&store.inspect(&container)?, &mut out)?,
        Verb::Diff { json, container } => {
            let changes = store.diff(&container)?;
            if json {
                let shown =
                    |it: &Change| json!({"kind": it.kind.to_string(), "path": it.path.to_string_lossy()});
                to_json(&changes.iter().map(shown).collect::<Vec<_>>(), &mut out)?;
            } else {
                changes.iter().try_for_each(|it| writeln!(out, "{it}"))?;
            }
        }
        Verb::Commit { author, message, container, name } => {
            let reference = name.map(|it| it.parse()).transpose();
            let reference = reference.map_err(|error| UsageError(format!("{error}")))?;
            let options = CommitOptions { reference, author, message };
            writeln!(out, "{}", store.commit(&container, &options)?.id)?;
        }
        Verb::Export { output, container } => export(&store, &container, &output)?,
        Verb::Cp(args) => cp::run(&store, &args)?,
        Verb::Exec { container, command } => return exec::run(&store, &container, &command),
    }
    Ok(Exit::Success)
}

/// Reads `HOST:PATH[:ro]`.
fn volume_of(text: &str) -> Result<Volume, UsageError> {
    let parts: Vec<&str> = text.split(':').collect();
    let (host, path, read_only) = match parts.as_slice() {
        [host, path] | [host, path, "rw"] => (host, path, false),
        [host, path, "ro"] => (host, path, true),
        _ => return Err(UsageError(format!("volume {text:?}: expected HOST:PATH or HOST:PATH:ro"))),
    };
    let (host, path) = (Path::new(host), Path::new(path));
    if !path.is_absolute() || path == Path::new("/") {
        return Err(UsageError(format!("volume {text:?}: PATH begins with a slash and is not the root")));
    }
    let host =
        std::fs::canonicalize(host).map_err(|error| UsageError(format!("volume {text:?}: {error}")))?;
    Ok(Volume { host, path: path.to_owned(), read_only })
}

fn list(store: &ContainerStore<'_>, form: &ListArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let containers = store.list()?;
    if form.json {
        return to_json(&containers, out);
    }
    if form.quiet {
        return Ok(containers.iter().try_for_each(|it| writeln!(out, "{}", it.container.id))?);
    }
    let mut rows = vec![show::row(["CONTAINER ID", "NAME", "IMAGE", "CREATED", "STATE"])];
    for it in &containers {
        let state = match it.state {
            ContainerState::Started => "started",
            ContainerState::Stopped => "stopped",
            ContainerState::Dead => "dead",
        };
        let created = it.container.created.get(..19).unwrap_or("").replace('T', " ");
        let id = &it.container.id.as_str()[..12];
        rows.push(show::row([id, &it.container.name, &it.container.image_name, &created, state]));
    }
    Ok(show::write(&rows, out)?)
}

fn export(store: &ContainerStore<'_>, container: &str, output: &Path) -> anyhow::Result<()> {
    if output != Path::new("-") {
        return Ok(store.export_to(container, output)?);
    }
    Ok(store.export(container, show::archive_stdout()?)?)
}
