//! `aufs info`: the block of `docker info` that tells of the storage driver.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use aufs_storage::container::ContainerStore;
use aufs_storage::driver::NAME;
use aufs_storage::status::Status;
use clap::Args;
use serde::Serialize;

use super::UsageError;
use super::root::RootArgs;
use super::show::to_json;
use crate::exit::{self, Exit};

/// Show how many containers and images there are, and the storage driver with its home.
#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub struct InfoArgs {
    #[command(flatten)]
    root: RootArgs,

    /// The storage driver; only aufs is one here.
    #[arg(long, value_name = "NAME")]
    storage_driver: Option<String>,

    /// Read options from FILE, as of a line DOCKER_OPTS="--storage-driver=aufs --data-root=DIR";
    /// those of the command line must not contradict them.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What is shown.
#[derive(Debug, Serialize)]
struct Info {
    containers: usize,
    images: usize,
    storage_driver: &'static str,
    #[serde(flatten)]
    status: Status,
}

/// Runs the verb.
pub fn run(mut args: InfoArgs) -> anyhow::Result<Exit> {
    if let Some(file) = args.config.clone() {
        take_config(&mut args, &file)?;
    }
    if let Some(other) = args.storage_driver.filter(|it| it != NAME) {
        return Err(UsageError(format!("no storage driver {other:?}; {NAME} is the one that is here")).into());
    }
    let driver = args.root.open()?;
    let store = ContainerStore::open(&driver)?;
    let info = Info {
        containers: store.list()?.len(),
        images: store.images().list()?.len(),
        storage_driver: NAME,
        status: driver.status(),
    };
    let mut out = io::stdout().lock();
    if args.json {
        to_json(&info, &mut out)?;
        return Ok(Exit::Success);
    }
    writeln!(out, "Containers: {}\nImages: {}\nStorage Driver: {NAME}", info.containers, info.images)?;
    for (key, value) in info.status.rows() {
        writeln!(out, " {key}: {value}")?;
    }
    Ok(Exit::Success)
}

/// Takes the options of a file for those that the command line does not have.
fn take_config(args: &mut InfoArgs, file: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("config {}", file.display()))?;
    let options = options_of(&text).map_err(|why| UsageError(format!("config {}: {why}", file.display())))?;
    for (key, value) in options {
        match key.as_str() {
            "--storage-driver" | "-s" => match &args.storage_driver {
                Some(own) if *own != value => {
                    let why = format!(
                        "--storage-driver is {own:?} on the command line and {value:?} in {}",
                        file.display()
                    );
                    return Err(UsageError(why).into());
                }
                _ => args.storage_driver = Some(value),
            },
            "--data-root" | "--graph" | "-g" => args.root.data.root = value.into(),
            other => tracing::debug!(option = other, "not the storage driver's"),
        }
    }
    Ok(())
}

/// The options in the lines `DOCKER_OPTS=` of a file as the shell reads it; a later line wins.
fn options_of(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut options = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let Some(value) = line.strip_prefix("DOCKER_OPTS=") else { continue };
        let quoted = |quote| value.strip_prefix(quote).map(|it: &str| it.strip_suffix(quote));
        let value = match quoted('"').or(quoted('\'')) {
            Some(Some(inside)) => inside,
            Some(None) => return Err(format!("line {}: the quote is not closed", at + 1)),
            None => value.split_whitespace().next().unwrap_or(""),
        };
        options.clear();
        let mut words = value.split_whitespace();
        while let Some(word) = words.next() {
            match word.split_once('=') {
                Some((key, value)) => options.push((key.to_owned(), value.to_owned())),
                None if ["--storage-driver", "-s", "--data-root", "--graph", "-g"].contains(&word) => {
                    let value =
                        words.next().ok_or_else(|| format!("line {}: {word} needs a value", at + 1))?;
                    options.push((word.to_owned(), value.to_owned()));
                }
                None => options.push((word.to_owned(), String::new())),
            }
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_docker_are_read() {
        let pairs =
            |text| options_of(text).map(|it| it.into_iter().map(|it| format!("{}={}", it.0, it.1)).collect());
        for (text, expected) in [
            ("DOCKER_OPTS=\"--storage-driver=aufs\"", Ok(vec!["--storage-driver=aufs"])),
            (
                "# DOCKER_OPTS=\"-s x\"\n export DOCKER_OPTS='-s aufs -g /x --debug'",
                Ok(vec!["-s=aufs", "-g=/x", "--debug="]),
            ),
            ("DOCKER_OPTS=--storage-driver=aufs # why", Ok(vec!["--storage-driver=aufs"])),
            ("DOCKER_OPTS=\"-s a\"\nDOCKER_OPTS=\"-s b\"", Ok(vec!["-s=b"])),
            ("OTHER=1\n", Ok(vec![])),
            ("DOCKER_OPTS=\"-s", Err("line 1: the quote is not closed")),
            ("\nDOCKER_OPTS=\"-s\"", Err("line 2: -s needs a value")),
        ] {
            let expected: Result<Vec<String>, String> =
                expected.map(|it| it.into_iter().map(str::to_owned).collect()).map_err(str::to_owned);
            assert_eq!(pairs(text), expected, "{text}");
        }
    }
}
