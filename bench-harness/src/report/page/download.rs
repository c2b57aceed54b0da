//! Files that can be saved from the page, as `data:` URIs.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::error::{At as _, Result};
use crate::run::journal::FILE_NAME;
use crate::size::human_bytes;

/// A file of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// Its name.
    pub name: String,
    /// Its content as a `data:` URI; empty where it is too long for the page.
    pub href: String,
    /// Its length, or where it is.
    pub remark: String,
}

/// Longer files are compressed.
const PLAIN_MAX: usize = 256 << 10;

/// Longer compressed files stay outside the page.
const PACKED_MAX: usize = 1 << 20;

impl Download {
    /// The text `content` under `name`, compressed where it is long.
    ///
    /// # Errors
    ///
    /// It cannot be compressed.
    pub fn of(name: &str, media_type: &str, content: &str) -> Result<Self> {
        if content.len() <= PLAIN_MAX {
            return Ok(Self::embedded(name.to_owned(), media_type, content.as_bytes()));
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content.as_bytes()).at("compress", name)?;
        Ok(Self::packed(name, &encoder.finish().at("compress", name)?))
    }

    /// The samples of the run in `dir`.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub fn samples(dir: &Path) -> Result<Self> {
        let packed = dir.join(format!("{FILE_NAME}.gz"));
        let plain = dir.join(FILE_NAME);
        if plain.exists() {
            return Self::of(FILE_NAME, "application/jsonl", &fs::read_to_string(&plain).at("read", &plain)?);
        }
        Ok(Self::packed(FILE_NAME, &fs::read(&packed).at("read", &packed)?))
    }

    fn packed(name: &str, bytes: &[u8]) -> Self {
        if bytes.len() <= PACKED_MAX {
            return Self::embedded(format!("{name}.gz"), "application/gzip", bytes);
        }
        let remark = format!("beside this page; {} compressed", human_bytes(bytes.len() as f64));
        Self { name: name.to_owned(), href: String::new(), remark }
    }

    fn embedded(name: String, media_type: &str, bytes: &[u8]) -> Self {
        let href = format!("data:{media_type};base64,{}", BASE64_STANDARD.encode(bytes));
        Self { name, href, remark: human_bytes(bytes.len() as f64) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn content(download: &Download) -> Vec<u8> {
        BASE64_STANDARD.decode(download.href.split_once("base64,").unwrap().1).unwrap()
    }

    #[test]
    fn files_are_kept_whole_or_said_to_be_elsewhere() {
        let short = Download::of("a.csv", "text/csv", "a,b\n").unwrap();
        assert_eq!((short.name.as_str(), content(&short)), ("a.csv", b"a,b\n".to_vec()));

        let long = "0123456789".repeat(PLAIN_MAX / 5);
        let packed = Download::of("b.json", "application/json", &long).unwrap();
        assert_eq!(packed.name, "b.json.gz");
        let mut unpacked = String::new();
        flate2::read::GzDecoder::new(&content(&packed)[..]).read_to_string(&mut unpacked).unwrap();
        assert_eq!(unpacked, long);

        let outside = Download::packed("c", &vec![0; PACKED_MAX + 1]);
        assert!(outside.href.is_empty() && outside.name == "c" && outside.remark.contains("beside"));
    }
}
