//! `samples.jsonl`: everything a run found out, one record a line, only ever appended.
//!
//! The first line is the header; from it and the rest every other file of a run
//! can be made again. A run that was cut off has no `end`, perhaps half a last
//! line, and is a valid run all the same.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use super::metric::Metric;
pub use super::reader::RunRecord;
pub use super::record::{Ending, Header, Origin, Record, SCHEMA, Skip};
use crate::error::{At as _, Result};

/// Name of the file in a run's directory.
pub const FILE_NAME: &str = "samples.jsonl";

/// Appends records to a run.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    out: BufWriter<File>,
}

impl Journal {
    /// Starts the journal of a new run with its `header`.
    ///
    /// # Errors
    ///
    /// `dir` has a run already, or cannot be written.
    pub fn create(dir: &Path, header: &Header) -> Result<Self> {
        let path = dir.join(FILE_NAME);
        let out = BufWriter::new(File::create_new(&path).at("create", &path)?);
        let mut journal = Self { path, out };
        journal.append(&Record::Header(Box::new(header.clone())))?;
        journal.flush()?;
        Ok(journal)
    }

    /// Opens the journal of a run to continue it; half a last line is cut off.
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be written.
    pub fn reopen(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE_NAME);
        let mut file = OpenOptions::new().read(true).write(true).open(&path).at("open", &path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).at("read", &path)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        file.set_len(whole as u64).at("cut off half a line of", &path)?;
        file.seek(SeekFrom::End(0)).at("seek in", &path)?;
        Ok(Self { path, out: BufWriter::new(file) })
    }

    /// Adds one record.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn append(&mut self, record: &impl Serialize) -> Result<()> {
        let line = serde_json::to_string(record).map_err(std::io::Error::from).at("write", &self.path)?;
        writeln!(self.out, "{line}").at("write", &self.path)
    }

    /// Hands all records to the kernel.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        self.out.flush().at("write", &self.path)
    }
}
