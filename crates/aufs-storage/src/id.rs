//! Names of layers.

use std::fmt;
use std::str::FromStr;

/// Longest file name, and so the longest id, in bytes.
///
/// Source: `NAME_MAX` of `include/uapi/linux/limits.h`.
const LEN_MAX: usize = 255;

/// What a deleted layer is called while its files go; no layer may be called so.
pub const REMOVING: &str = "-removing";

/// What the layer between image and container is called: the container's id with this.
pub const INIT: &str = "-init";

/// The name of a layer: its file in `layers/`, its directories in `diff/` and `mnt/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayerId(String);

/// A text cannot name a layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no layer id: {reason}")]
pub struct LayerIdError {
    text: String,
    reason: &'static str,
}

impl LayerId {
    /// Returns the id as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LayerId {
    type Err = LayerIdError;

    fn from_str(text: &str) -> Result<Self, LayerIdError> {
        let reason = match text {
            "" => Some("it is empty"),
            "." | ".." => Some("it names a directory"),
            _ if LEN_MAX - REMOVING.len() < text.len() => Some("it is longer than 246 bytes"),
            _ if text.contains('/') => Some("it holds a slash"),
            _ if text.chars().any(char::is_control) => Some("it holds a control character"),
            _ if text.ends_with(REMOVING) => Some("-removing is what a deleted layer is called"),
            _ if text.starts_with(".wh.") => Some("it begins like a whiteout"),
            _ => None,
        };
        match reason {
            // A hostile name is shown cut, as an error fits on a line.
            Some(reason) => Err(LayerIdError { text: text.chars().take(80).collect(), reason }),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl AsRef<std::ffi::OsStr> for LayerId {
    fn as_ref(&self) -> &std::ffi::OsStr {
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
    fn only_names_of_one_file_are_ids() {
        for text in
            ["1", "a b", &"0f".repeat(32), &format!("{}-init", "0f".repeat(32)), "..a", "é", &"x".repeat(246)]
        {
            assert_eq!(text.parse::<LayerId>().map(|it| it.to_string()), Ok(text.to_owned()));
        }
        for text in
            ["", ".", "..", "a/b", "/", "../x", "a\0b", "a\nb", "x-removing", ".wh.x", &"x".repeat(247)]
        {
            assert!(text.parse::<LayerId>().is_err(), "{text:?}");
        }
    }
}
