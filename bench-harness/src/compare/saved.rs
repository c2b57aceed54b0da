//! Runs under a name, to compare others with later.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::run::journal::FILE_NAME;
use crate::suggest;

/// Where runs are saved by name.
pub const DIR: &str = "target/bench/saved";

/// The directory that `name` stands for: one below [`DIR`], or itself where it has a slash.
///
/// # Errors
///
/// `Config`: it is empty, or `.` or `..`.
pub fn place(name: &str) -> Result<PathBuf> {
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    if name.is_empty() || name.starts_with('.') {
        let reason = "expected a name, or a directory with a slash in it".to_owned();
        return Err(BenchError::new("save as", name, BenchErrorKind::Config(reason)));
    }
    Ok(Path::new(DIR).join(name))
}

/// Checks that nothing is saved at `place` yet.
///
/// # Errors
///
/// `Config`: there is.
pub fn check_free(place: &Path) -> Result<()> {
    if !place.exists() {
        return Ok(());
    }
    let reason = "it exists already; remove it or give another name".to_owned();
    Err(BenchError::new("save as", place, BenchErrorKind::Config(reason)))
}

/// Copies the samples of the run in `run` to `place`, compressed; all else is made from them again.
///
/// # Errors
///
/// They cannot be read or written.
pub fn save(run: &Path, place: &Path) -> Result<()> {
    check_free(place)?;
    let source = run.join(FILE_NAME);
    let samples = fs::read(&source).at("read", &source)?;
    fs::create_dir_all(place).at("create", place)?;
    let path = place.join(format!("{FILE_NAME}.gz"));
    let draft = path.with_extension("draft");
    let mut encoder = GzEncoder::new(File::create(&draft).at("create", &draft)?, Compression::default());
    encoder.write_all(&samples).at("write", &draft)?;
    encoder.finish().at("write", &draft)?;
    fs::rename(&draft, &path).at("rename to", &path)
}

/// The run that `text` names: a directory with samples, else one that was saved by that name.
///
/// # Errors
///
/// `Config`: there is neither; the message names the nearest saved run.
pub fn find(text: &str) -> Result<PathBuf> {
    let has_samples = |dir: &Path| {
        [FILE_NAME.to_owned(), format!("{FILE_NAME}.gz")].iter().any(|it| dir.join(it).is_file())
    };
    let given = PathBuf::from(text);
    let saved = Path::new(DIR).join(text);
    if let Some(found) = [given, saved].into_iter().find(|it| has_samples(it)) {
        return Ok(found);
    }
    let entries = fs::read_dir(DIR).into_iter().flatten().flatten();
    let names: Vec<String> = entries.map(|it| it.file_name().to_string_lossy().into_owned()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let reason = if names.is_empty() {
        format!("no run lies there, and none is saved in {DIR}")
    } else {
        format!("no run lies there; {}", suggest::unknown("saved run", text, &names))
    };
    Err(BenchError::new("find run", text, BenchErrorKind::Config(reason)))
}
