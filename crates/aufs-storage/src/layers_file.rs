//! The files of `layers/`: the ancestors of a layer, nearest first, a line each.
//!
//! The base layer has an empty file. Docker's driver writes no blank lines but
//! reads over them, and trims nothing; so do we, but a line that could not name
//! a layer is an error.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use aufs_host::errno::errno_of;
use rustix::io::Errno;

use crate::id::{LayerId, LayerIdError};

/// Longest file read, in bytes: more ancestors than a mount can have branches.
pub const LEN_MAX: u64 = 65_535 * 256;

/// A file of `layers/` is not what the driver writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayersFileError {
    /// The bytes are no text.
    #[error("line {line} is not UTF-8")]
    NotText {
        /// The line, from 1.
        line: usize,
    },
    /// A line names no layer.
    #[error("line {line}: {error}")]
    Id {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        error: LayerIdError,
    },
    /// A layer is its own ancestor.
    #[error("line {line}: {id} stands there twice, or is the layer itself")]
    Cycle {
        /// The line, from 1.
        line: usize,
        /// The layer.
        id: LayerId,
    },
}

/// Reads a whole file of `layers/`.
///
/// # Errors
///
/// `EFBIG` for one that no driver wrote; else what `read(2)` reports.
pub fn read(file: OwnedFd) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    let len = File::from(file).take(LEN_MAX + 1).read_to_end(&mut bytes).map_err(errno_of)?;
    if LEN_MAX < len as u64 { Err(Errno::FBIG) } else { Ok(bytes) }
}

/// Reads the ancestors of `own`, nearest first.
///
/// # Errors
///
/// See [`LayersFileError`].
pub fn parse(own: &LayerId, bytes: &[u8]) -> Result<Vec<LayerId>, LayersFileError> {
    let mut ancestors = Vec::new();
    let mut seen = std::collections::HashSet::from([own.clone()]);
    for (at, bytes) in bytes.split(|it| *it == b'\n').enumerate() {
        let line = at + 1;
        // Go's line scanner takes a carriage return for a part of the line's end.
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        if bytes.is_empty() {
            continue;
        }
        let text = std::str::from_utf8(bytes).map_err(|_| LayersFileError::NotText { line })?;
        let id: LayerId = text.parse().map_err(|error| LayersFileError::Id { line, error })?;
        if !seen.insert(id.clone()) {
            return Err(LayersFileError::Cycle { line, id });
        }
        ancestors.push(id);
    }
    Ok(ancestors)
}

/// Writes the file of a layer with these ancestors.
pub fn print(ancestors: &[LayerId]) -> String {
    ancestors.iter().flat_map(|it| [it.as_str(), "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> LayerId {
        text.parse().unwrap()
    }

    #[test]
    fn blank_lines_and_a_missing_end_do_not_matter() {
        for text in ["b\na\n", "b\na", "\nb\n\n\na\n\n", "b\r\na\r\n"] {
            assert_eq!(parse(&id("c"), text.as_bytes()), Ok(vec![id("b"), id("a")]), "{text:?}");
        }
        assert_eq!((parse(&id("c"), b""), print(&[])), (Ok(vec![]), String::new()));
        assert_eq!(print(&[id("b"), id("a")]), "b\na\n");
    }

    #[test]
    fn what_names_no_stack_is_an_error() {
        for (text, expected) in [
            (&b"a\n../b\n"[..], "line 2: a layer id with '.' at byte 0"),
            // Docker takes nothing from the ends of a line.
            (b"a \n", "line 1: a layer id with ' ' at byte 1"),
            (b"\xff\n", "line 1 is not UTF-8"),
            (b"a\nb\na\n", "line 3: a stands there twice, or is the layer itself"),
            (b"own\n", "line 1: own stands there twice, or is the layer itself"),
        ] {
            assert_eq!(parse(&id("own"), text).map_err(|error| error.to_string()), Err(expected.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_what_is_printed_reads_back(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(ancestors) = parse(&id("own"), &bytes) {
                prop_assert_eq!(parse(&id("own"), print(&ancestors).as_bytes()), Ok(ancestors));
            }
        }
    }
}
