//! Copies a run to a place that is kept, without what identifies the machine.
//!
//! Names are replaced in the samples; everything else is made from them again,
//! so that pictures carry the labels too.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use clap::Args;

use crate::error::{At as _, BenchError, BenchErrorKind, Exit, Result};
use crate::report;
use crate::run::journal::{FILE_NAME, RunRecord};
use crate::verbs::outln;

/// Arguments of `keep`.
#[derive(Debug, Args)]
pub struct KeepArgs {
    /// Directory of a run.
    pub run: PathBuf,

    /// Name below reports/; that of the run's directory without it.
    pub name: Option<String>,

    /// What the machine is called in the copy.
    #[arg(long, value_name = "NAME", default_value = "host-a")]
    pub label: String,

    /// Leave out what is large and made again by `report`: bitmaps, of which the drawings stay, and summary.json.
    #[arg(long)]
    pub small: bool,

    /// Directory of kept runs.
    #[arg(long, value_name = "DIR", default_value = "reports")]
    pub to: PathBuf,
}

/// Copies the run of `args`, and prints the path of its page.
///
/// # Errors
///
/// The run cannot be read, the copy exists already or cannot be written, or a
/// name that was to be replaced is still in it.
pub fn keep(args: &KeepArgs) -> Result<Exit> {
    let record = RunRecord::load(&args.run)?;
    let target = args.to.join(target_name(args)?);
    if target.exists() {
        let reason = "it exists already; give another name".to_owned();
        return Err(BenchError::new("keep as", &target, BenchErrorKind::Config(reason)));
    }
    let source = args.run.join(FILE_NAME);
    let text = fs::read_to_string(&source).at("read", &source)?;
    let secrets = Secrets::of(&record, &args.label);
    let cleaned = secrets.clean(&text);
    if let Some(found) = secrets.left_in(&cleaned) {
        let reason = BenchErrorKind::Journal(format!("{found:?} could not be replaced"));
        return Err(BenchError::new("keep", &source, reason));
    }
    fs::create_dir_all(&target).at("create", &target)?;
    let packed = target.join(format!("{FILE_NAME}.gz"));
    let mut encoder = GzEncoder::new(File::create(&packed).at("create", &packed)?, Compression::best());
    encoder.write_all(cleaned.as_bytes()).at("write", &packed)?;
    encoder.finish().at("write", &packed)?;
    let page = report::write(&RunRecord::load(&target)?, &target)?;
    if args.small {
        shrink(&target)?;
    }
    outln!("{}", page.display())?;
    Ok(Exit::Success)
}

/// Removes bitmaps and `summary.json` from the kept run in `dir`.
fn shrink(dir: &Path) -> Result<()> {
    let plots = dir.join("plots");
    for entry in fs::read_dir(&plots).at("list", &plots)? {
        let path = entry.at("list", &plots)?.path();
        if path.extension().is_some_and(|it| it == "png") {
            fs::remove_file(&path).at("remove", &path)?;
        }
    }
    let summary = dir.join("summary.json");
    fs::remove_file(&summary).at("remove", &summary)?;
    let text = dir.join("report.md");
    let shown = fs::read_to_string(&text).at("read", &text)?.replace(".png)", ".svg)");
    report::save(&text, shown)
}

fn target_name(args: &KeepArgs) -> Result<PathBuf> {
    let own = || args.run.canonicalize().ok()?.file_name().map(PathBuf::from);
    let name = args.name.as_ref().map(PathBuf::from).or_else(own).unwrap_or_default();
    let plain = name.components().count() == 1 && name.file_name().is_some();
    if plain {
        return Ok(name);
    }
    let reason = BenchErrorKind::Config("a name must be one path component".to_owned());
    Err(BenchError::new("keep as", name, reason))
}

/// Texts that must not be kept, and what replaces them.
#[derive(Debug)]
struct Secrets {
    paths: Vec<(String, String)>,
    /// Of the header: what each machine is called, and what it is called in the copy.
    labels: Vec<(String, String)>,
}

impl Secrets {
    fn of(record: &RunRecord, label: &str) -> Self {
        let mut paths = Vec::new();
        for backing in &record.header.host.backings {
            paths.push((&*backing.path, format!("<{}>", backing.name)));
            // The scratch directory holds all backings of a run.
            paths.extend(backing.path.parent().map(|it| (it, "<scratch>".to_owned())));
        }
        let own = |var| std::env::var_os(var).map(PathBuf::from);
        let here = [
            (own("HOME"), "<home>"),
            (std::env::current_dir().ok(), "<project>"),
            (own("AUFS_BIN"), "<aufs>"),
        ];
        let here: Vec<(PathBuf, &str)> = here.into_iter().filter_map(|it| Some((it.0?, it.1))).collect();
        paths.extend(here.iter().map(|(path, label)| (&**path, (*label).to_owned())));
        // Absolute paths among the arguments that started the run.
        let values =
            record.header.command.iter().map(|it| it.split_once('=').map_or(it.as_str(), |pair| pair.1));
        paths.extend(values.filter(|it| it.starts_with('/')).map(|it| (Path::new(it), "<path>".to_owned())));
        let long = |path: &Path| 1 < path.components().count();
        let mut paths: Vec<(String, String)> = paths
            .into_iter()
            .filter(|it| long(it.0))
            .map(|(path, label)| (path.display().to_string(), label))
            .collect();
        // Inner paths first, else an outer one would hide them.
        paths.sort_by_key(|it| std::cmp::Reverse(it.0.len()));
        paths.dedup();
        let own = (record.header.host.label.clone(), label.to_owned());
        let others = (2..).zip(record.header.origin.hosts.iter().skip(1));
        let others = others.map(|(number, it)| (it.label.clone(), format!("{label}-{number}")));
        Self { paths, labels: std::iter::once(own).chain(others).collect() }
    }

    /// `text` with paths and the host's name replaced.
    fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (path, label) in &self.paths {
            text = text.replace(path, label);
        }
        // Only as the whole value of the label: a host may be called "ext4" or "a".
        let json = |it: &str| serde_json::Value::from(it).to_string();
        let named = |it: &str| format!("\"label\":{}", json(it));
        let (header, samples) = text.split_once('\n').unwrap_or((&text, ""));
        let given = |it: &str| format!("\"--label\",{}", json(it));
        let clean = |text: String, (own, label): &(String, String)| {
            text.replace(&named(own), &named(label)).replace(&given(own), &given(label))
        };
        let header = self.labels.iter().fold(header.to_owned(), clean);
        if samples.is_empty() { header } else { format!("{header}\n{samples}") }
    }

    /// A path of the list that `text` still has.
    fn left_in(&self, text: &str) -> Option<&str> {
        self.paths.iter().map(|it| it.0.as_str()).find(|path| text.contains(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_paths_and_the_name_are_replaced() {
        let secrets = Secrets {
            paths: vec![
                ("/data/scratch/s1/0".to_owned(), "<dir>".to_owned()),
                ("/data/scratch/s1".to_owned(), "<scratch>".to_owned()),
            ],
            labels: vec![("a".to_owned(), "host-a".to_owned())],
        };
        let text = r#"{"label":"a","kernel":"a","command":["--label","a"],"path":"/data/scratch/s1/0","reason":"open /data/scratch/s1/x"}"#;
        let cleaned = secrets.clean(text);
        assert_eq!(
            cleaned,
            r#"{"label":"host-a","kernel":"a","command":["--label","host-a"],"path":"<dir>","reason":"open <scratch>/x"}"#
        );
        assert_eq!(secrets.left_in(&cleaned), None);
        assert!(secrets.left_in(text).is_some());
    }
}
