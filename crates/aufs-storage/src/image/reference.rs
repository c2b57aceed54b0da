//! Names of images: `NAME[:TAG]`, with `latest` for a missing tag.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::digest::Digest;

/// The tag of a name that has none.
const LATEST: &str = "latest";

/// Longest name and longest tag, in bytes.
///
/// Source: the `distribution/reference` grammar.
const NAME_LEN_MAX: usize = 255;
const TAG_LEN_MAX: usize = 128;

/// What an image is called.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    name: String,
    tag: String,
}

/// A text cannot be the name of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no image name: {reason}")]
pub struct ReferenceError {
    text: String,
    reason: &'static str,
}

impl Reference {
    /// Returns what stands before the tag.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the tag.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Returns a file name for what is kept of the reference, which may itself be longer than one.
    pub(crate) fn key(&self) -> String {
        Digest::of(self.to_string().as_bytes()).hex().to_owned()
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        // A colon before the last slash belongs to the port of a host.
        let start = text.rfind('/').map_or(0, |it| it + 1);
        let (name, tag) = match text[start..].find(':') {
            Some(at) => (&text[..start + at], &text[start + at + 1..]),
            None => (text, LATEST),
        };
        match judge(name, tag) {
            Some(reason) => Err(ReferenceError { text: text.chars().take(80).collect(), reason }),
            None => Ok(Self { name: name.to_owned(), tag: tag.to_owned() }),
        }
    }
}

fn judge(name: &str, tag: &str) -> Option<&'static str> {
    let is_component = |(at, it): (usize, &str)| {
        let is_word = |it: &char| it.is_ascii_lowercase() || it.is_ascii_digit();
        let (host, port) = it.split_once(':').unwrap_or((it, "1"));
        let is_port = !port.is_empty() && port.bytes().all(|it| it.is_ascii_digit());
        // Only the first of several may be a host, which may have capitals and a port.
        let is_host = at == 0 && name.contains('/');
        (is_host || !it.contains(':'))
            && is_port
            && host.chars().next().is_some_and(|it| is_word(&it) || is_host && it.is_ascii_uppercase())
            && host.chars().next_back().is_some_and(|it| is_word(&it) || is_host && it.is_ascii_uppercase())
            && host.chars().all(|it| is_word(&it) || "._-".contains(it) || is_host && it.is_ascii_uppercase())
    };
    let is_tag_start = |it: char| it.is_ascii_alphanumeric() || it == '_';
    if name.is_empty() || NAME_LEN_MAX < name.len() {
        Some("its name is empty or longer than 255 bytes")
    } else if !name.split('/').enumerate().all(is_component) {
        Some("a name is made of lower-case letters, digits and . _ - between slashes")
    } else if tag.is_empty() || TAG_LEN_MAX < tag.len() {
        Some("its tag is empty or longer than 128 bytes")
    } else if !tag.starts_with(is_tag_start) || !tag.chars().all(|it| is_tag_start(it) || ".-".contains(it)) {
        Some("a tag is made of letters, digits and . _ -")
    } else {
        None
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_tag() {
        for (text, name, tag) in [
            ("busybox", "busybox", "latest"),
            ("busybox:1.36", "busybox", "1.36"),
            ("library/busybox:1", "library/busybox", "1"),
            ("localhost:5000/a/b", "localhost:5000/a/b", "latest"),
            ("Host.example:5000/a_b--c:V_1", "Host.example:5000/a_b--c", "V_1"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!((reference.name(), reference.tag()), (name, tag));
            assert_eq!(reference.to_string().parse(), Ok(reference));
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            ":",
            "a:",
            ":a",
            "A",
            "a/",
            "/a",
            "a//b",
            "../a",
            "a/..",
            ".",
            "-a",
            "a b",
            "a:b:c",
            "a:-b",
            "a@b",
            "a%b",
            "a:b/c:d/e",
            "é",
            "a\n",
            &"a".repeat(256),
            &format!("a:{}", "b".repeat(129)),
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?}");
        }
    }
}
