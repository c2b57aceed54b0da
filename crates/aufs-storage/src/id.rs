//! Names of layers.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

/// What a deleted layer is called while its files go; no layer may be called so.
pub const REMOVING: &str = "-removing";

/// What the layer between image and container is called: the container's id with this.
pub const INIT: &str = "-init";

/// The name of a layer, which is always one safe file name.
///
/// Docker's ids are 64 hexadecimal digits, with `-init` after those of the layer
/// that lies under a container's own. Others may be any of `[A-Za-z0-9][A-Za-z0-9_.-]*`
/// that leaves room for what a deleted layer is called.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerId(String); // Invariant: checked by `FromStr`, the only constructor.

/// A text cannot name a layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayerIdError {
    /// There is none of it, or too much.
    #[error("a layer id of {len} bytes, not 1 to {}", LayerId::LEN_MAX)]
    Length {
        /// Its length in bytes.
        len: usize,
    },
    /// A character that no id has there.
    #[error("a layer id with {found:?} at byte {at}")]
    Character {
        /// The character.
        found: char,
        /// Where, in bytes.
        at: usize,
    },
    /// The name of what goes.
    #[error("a layer id that ends in {REMOVING}, as a deleted layer is called")]
    Removing,
}

impl LayerId {
    /// Longest id in bytes: a file name has at most 255.
    pub const LEN_MAX: usize = 255 - REMOVING.len();

    /// Returns an id that no other layer has: 64 random hexadecimal digits, as Docker's are.
    ///
    /// # Errors
    ///
    /// What `getrandom(2)` reports.
    pub fn random() -> Result<Self, Errno> {
        let mut bytes = [0_u8; 32];
        getrandom(&mut bytes, GetRandomFlags::empty())?;
        Ok(Self(bytes.iter().map(|it| format!("{it:02x}")).collect()))
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LayerId {
    type Err = LayerIdError;

    fn from_str(text: &str) -> Result<Self, LayerIdError> {
        if text.is_empty() || Self::LEN_MAX < text.len() {
            return Err(LayerIdError::Length { len: text.len() });
        }
        let is_allowed =
            |at: usize, it: char| it.is_ascii_alphanumeric() || (0 < at && matches!(it, '_' | '.' | '-'));
        if let Some((at, found)) = text.char_indices().find(|(at, it)| !is_allowed(*at, *it)) {
            return Err(LayerIdError::Character { found, at });
        }
        if text.ends_with(REMOVING) {
            return Err(LayerIdError::Removing);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for LayerId {
    type Error = LayerIdError;

    fn try_from(text: String) -> Result<Self, LayerIdError> {
        text.parse()
    }
}

impl From<LayerId> for String {
    fn from(id: LayerId) -> Self {
        id.0
    }
}

impl AsRef<OsStr> for LayerId {
    fn as_ref(&self) -> &OsStr {
        self.0.as_ref()
    }
}

impl AsRef<Path> for LayerId {
    fn as_ref(&self) -> &Path {
        self.0.as_ref()
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_safe_names_of_one_file_are_ids() {
        let hex = "0f".repeat(32);
        for text in ["1", "a.b", &hex, &format!("{hex}-init"), "a..b", "A_1", &"x".repeat(246)] {
            assert_eq!(text.parse::<LayerId>().map(|it| it.to_string()), Ok(text.to_owned()));
        }
        for text in [
            "",
            ".",
            "..",
            "a/b",
            "/",
            "../x",
            "a\0b",
            "a\nb",
            "a b",
            "a:b",
            "é",
            "-x",
            ".wh.x",
            "x-removing",
            &"x".repeat(247),
        ] {
            assert!(text.parse::<LayerId>().is_err(), "{text:?}");
        }
    }
}
