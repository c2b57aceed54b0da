//! `aufs image`: images in, out, shown, called and removed.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use aufs_storage::image::digest::Digest;
use aufs_storage::image::{ImageInfo, ImageStore, LimitError, LoadOptions, Loaded, Progress, SaveForm};
use clap::{Args, Subcommand, ValueEnum};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::UsageError;
use super::root::RootArgs;
use super::show::{self, ListArgs, to_json};
use crate::exit::{self, Exit};

/// Load, save, show, name and remove images.
#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub struct ImageArgs {
    #[command(flatten)]
    root: RootArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Load every image of an OCI image layout or of what docker save wrote.
    #[command(after_help = limits_help())]
    Load {
        /// A directory or an archive, plain or compressed by gzip or zstd; - is stdin.
        #[arg(default_value = "-")]
        from: PathBuf,
        /// How many layers to unpack at once; 0 is as many as there are processors.
        #[arg(long, value_name = "COUNT", default_value_t = 0)]
        threads: usize,
        /// How much a layer may ask for, such as bytes=2G; see below.
        #[arg(long = "limit", value_name = "NAME=NUMBER", value_parser = limit)]
        limits: Vec<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Save images as an archive that aufs, docker and containerd load.
    Save {
        /// Where to; - is stdout.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// An archive, or a directory that must not exist.
        #[arg(long, value_enum, default_value = "archive")]
        format: Format,
        /// Names or ids.
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
    /// List the images, the newest first.
    Ls(ListArgs),
    /// Show an image with its layers and its configuration, as JSON.
    Inspect {
        /// Its name or id.
        image: String,
    },
    /// List the steps in which an image was made, the last first.
    History {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Its name or id.
        image: String,
    },
    /// Call an image by another name too.
    Tag {
        /// Its name or id.
        image: String,
        /// The name.
        #[arg(value_name = "NAME[:TAG]")]
        name: String,
    },
    /// Remove names, and with its last name an image; by its id an image with all its names.
    Rm {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Names or ids.
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Archive,
    Directory,
}

/// Runs the verb.
pub fn run(args: ImageArgs) -> anyhow::Result<Exit> {
    let driver = args.root.open()?;
    let store = ImageStore::open(&driver)?;
    let mut out = io::stdout().lock();
    match args.verb {
        Verb::Load { from, threads, limits, json } => {
            let mut options = LoadOptions { threads, ..LoadOptions::default() };
            for limit in &limits {
                options.set_limit(limit)?;
            }
            let loaded = load(&store, &from, &options)?;
            if json { to_json(&loaded, &mut out)? } else { tell_loaded(&loaded, &mut out)? }
        }
        Verb::Save { output, format, images } => save(&store, &output, format, &images)?,
        Verb::Ls(ListArgs { json, quiet }) => {
            let images = store.list()?;
            if json {
                to_json(&images, &mut out)?;
            } else if quiet {
                images.iter().try_for_each(|it| writeln!(out, "{}", it.id))?;
            } else {
                list(&images, &mut out)?;
            }
        }
        Verb::Inspect { image } => {
            let config: serde_json::Value = serde_json::from_slice(&store.config(&image)?)?;
            to_json(&Inspected { info: store.inspect(&image)?, config }, &mut out)?;
        }
        Verb::History { json, image } => history(&store, &image, json, &mut out)?,
        Verb::Tag { image, name } => {
            let reference = name.parse().map_err(|error| UsageError(format!("{error}")))?;
            store.tag(&image, &reference)?;
        }
        Verb::Rm { json, images } => remove(&store, &images, json, &mut out)?,
    }
    Ok(Exit::Success)
}

/// An image with all that is known of it.
#[derive(Debug, Serialize)]
struct Inspected {
    #[serde(flatten)]
    info: ImageInfo,
    config: serde_json::Value,
}

/// Takes the text of a limit, which says more to the library than to clap.
fn limit(text: &str) -> Result<String, LimitError> {
    LoadOptions::default().set_limit(text).map(|()| text.to_owned())
}

/// Each limit with its value, for the help.
fn limits_help() -> String {
    let limits = LoadOptions::default().limits();
    let rows = limits.iter().map(|(name, what, value)| format!("\n  {name:<12}{value:<14}{what}"));
    format!("Limits (a number may end in K, M, G or T):{}", rows.collect::<String>())
}

fn load(store: &ImageStore<'_>, from: &Path, options: &LoadOptions) -> anyhow::Result<Vec<Loaded>> {
    let bars = Bars::default();
    let progress: &dyn Progress = if io::stderr().is_terminal() { &bars } else { &() };
    if from != Path::new("-") {
        return Ok(store.load(from, options, progress)?);
    }
    Ok(store.load_stream(show::archive_stdin()?, options, progress)?)
}

fn tell_loaded(loaded: &[Loaded], out: &mut impl Write) -> io::Result<()> {
    for it in loaded {
        let names: Vec<_> = it.names.iter().map(ToString::to_string).collect();
        let called = if names.is_empty() { "without a name".to_owned() } else { names.join(" ") };
        writeln!(out, "{} {called} ({} layers, {} of them new)", it.id.short(), it.layers, it.new_layers)?;
    }
    Ok(())
}

fn save(store: &ImageStore<'_>, output: &Path, format: Format, images: &[String]) -> anyhow::Result<()> {
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    let form = match format {
        Format::Archive => SaveForm::Archive,
        Format::Directory => SaveForm::Directory,
    };
    if output != Path::new("-") {
        return Ok(store.save(&images, output, form)?);
    }
    if form == SaveForm::Directory {
        return Err(UsageError("a directory cannot go to stdout; name one".to_owned()).into());
    }
    Ok(store.save_stream(&images, show::archive_stdout()?)?)
}

fn list(images: &[ImageInfo], out: &mut impl Write) -> io::Result<()> {
    let mut rows = vec![show::row(["NAME", "TAG", "IMAGE ID", "CREATED", "SIZE", "LAYERS"])];
    for image in images {
        let created = image.created.as_deref().unwrap_or("").get(..10).unwrap_or("");
        let mut push = |name: &str, tag: &str| {
            let (size, layers) = (show::bytes(image.size_bytes), image.layers.len().to_string());
            rows.push(show::row([name, tag, image.id.short(), created, &size, &layers]));
        };
        if image.names.is_empty() {
            push("<none>", "<none>");
        }
        image.names.iter().for_each(|it| push(it.name(), it.tag()));
    }
    show::write(&rows, out)
}

fn history(store: &ImageStore<'_>, image: &str, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let steps = store.history(image)?;
    if json {
        return to_json(&steps, out);
    }
    let mut rows = vec![show::row(["CREATED", "SIZE", "CREATED BY", "COMMENT"])];
    for step in &steps {
        let created = step.created.as_deref().unwrap_or("").get(..10).unwrap_or("");
        // An image may hold anything; it must not move the cursor of whoever looks at it.
        let plain =
            |it: &Option<String>| it.iter().flat_map(|it| it.chars()).filter(|it| !it.is_control()).collect();
        let (by, comment): (String, String) = (plain(&step.created_by), plain(&step.comment));
        rows.push(show::row([created, &show::bytes(step.size_bytes), &by, &comment]));
    }
    Ok(show::write(&rows, out)?)
}

fn remove(store: &ImageStore<'_>, images: &[String], json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let mut all = Vec::new();
    for image in images {
        let removed = store.remove(image)?;
        if !json {
            removed.untagged.iter().try_for_each(|it| writeln!(out, "untagged {it}"))?;
            removed.image.iter().try_for_each(|it| writeln!(out, "deleted {it}"))?;
            removed.layers.iter().try_for_each(|it| writeln!(out, "deleted layer {it}"))?;
        }
        all.push(removed);
    }
    if json { to_json(&all, out) } else { Ok(()) }
}

/// A bar for each layer that is being unpacked.
#[derive(Debug, Default)]
struct Bars {
    all: MultiProgress,
    shown: Mutex<HashMap<Digest, ProgressBar>>,
}

impl Bars {
    fn with(&self, diff_id: &Digest, act: impl FnOnce(&ProgressBar)) {
        if let Some(bar) = self.shown.lock().unwrap_or_else(PoisonError::into_inner).get(diff_id) {
            act(bar);
        }
    }
}

impl Progress for Bars {
    fn shared(&self, diff_id: &Digest) {
        // A terminal that cannot be written to is no reason to stop.
        drop(self.all.println(format!("{}  is there already", diff_id.short())));
    }

    fn begun(&self, diff_id: &Digest, len_bytes: u64) {
        let style = ProgressStyle::with_template("{prefix}  {bar:30} {decimal_bytes}/{decimal_total_bytes}");
        let bar = ProgressBar::new(len_bytes).with_prefix(diff_id.short().to_owned());
        let bar = match style {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        };
        let bar = self.all.add(bar);
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).insert(diff_id.clone(), bar);
    }

    fn advanced(&self, diff_id: &Digest, by_bytes: u64) {
        self.with(diff_id, |bar| bar.inc(by_bytes));
    }

    fn ended(&self, diff_id: &Digest) {
        self.with(diff_id, ProgressBar::finish);
    }
}
