//! The limits of a load, by the words that people set them with.

use super::load::LoadOptions;

/// A limit: its word, what it limits, and where it is.
type Word = (&'static str, &'static str, fn(&mut LoadOptions) -> &mut u64);

const WORDS: [Word; 11] = [
    ("entries", "entries of a layer", |it| &mut it.apply.limits.entries),
    ("bytes", "bytes of its files", |it| &mut it.apply.limits.bytes),
    ("archive", "bytes of its archive", |it| &mut it.apply.limits.archive_bytes),
    ("unpacked", "bytes of its archive once it is uncompressed", |it| &mut it.compression.bytes),
    ("ratio", "bytes for each compressed one", |it| &mut it.compression.ratio),
    ("path", "bytes of a path", |it| &mut it.apply.limits.path_len_bytes),
    ("depth", "names in a path", |it| &mut it.apply.limits.depth),
    ("link", "bytes of a link's target", |it| &mut it.apply.limits.link_len_bytes),
    ("attributes", "bytes of attributes of an entry", |it| &mut it.apply.limits.xattr_bytes),
    ("header", "bytes of an extended header", |it| &mut it.apply.limits.extended_header_bytes),
    ("extents", "pieces of a sparse file", |it| &mut it.apply.limits.extents),
];

/// Why a text sets no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// There is no `=` in it.
    #[error("limit {0:?} is not of the form NAME=NUMBER, such as entries=1000000")]
    Form(String),
    /// Nothing is called so.
    #[error("there is no limit {0:?}; there are {words}", words = words().join(", "))]
    Unknown(String),
    /// No number, or one that is too large.
    #[error("limit {name}: {text:?} is no number; 4096, 64K, 8M, 2G and 1T are")]
    Number {
        /// The limit.
        name: String,
        /// What stands for the number.
        text: String,
    },
}

fn words() -> Vec<&'static str> {
    WORDS.iter().map(|(word, ..)| *word).collect()
}

impl LoadOptions {
    /// Sets a limit from a text such as `bytes=2G`; the last one of a name counts.
    ///
    /// # Errors
    ///
    /// See [`LimitError`].
    pub fn set_limit(&mut self, text: &str) -> Result<(), LimitError> {
        let (name, number) = text.split_once('=').ok_or_else(|| LimitError::Form(text.to_owned()))?;
        let (.., field) = WORDS
            .iter()
            .find(|(word, ..)| *word == name)
            .ok_or_else(|| LimitError::Unknown(name.to_owned()))?;
        let value = number_of(number)
            .ok_or_else(|| LimitError::Number { name: name.to_owned(), text: number.to_owned() })?;
        *field(self) = value;
        Ok(())
    }

    /// Returns each limit: its name, what it limits, and its value.
    pub fn limits(&mut self) -> Vec<(&'static str, &'static str, u64)> {
        WORDS.iter().map(|(word, what, field)| (*word, *what, *field(self))).collect()
    }
}

/// A whole number, with K, M, G or T behind it for powers of 1024.
fn number_of(text: &str) -> Option<u64> {
    let (digits, factor) = match text.char_indices().last()? {
        (at, 'K' | 'k') => (&text[..at], 1 << 10),
        (at, 'M' | 'm') => (&text[..at], 1 << 20),
        (at, 'G' | 'g') => (&text[..at], 1 << 30),
        (at, 'T' | 't') => (&text[..at], 1 << 40),
        _ => (text, 1),
    };
    if !digits.bytes().all(|it| it.is_ascii_digit()) {
        return None; // A sign is no digit.
    }
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_set_by_their_names() {
        let mut options = LoadOptions::default();
        for (text, name, value) in [
            ("entries=7", "entries", 7),
            ("bytes=2G", "bytes", 2 << 30),
            ("ratio=1k", "ratio", 1024),
            ("path=0", "path", 0),
        ] {
            options.set_limit(text).unwrap();
            assert!(options.limits().iter().any(|it| it.0 == name && it.2 == value), "{text}");
        }
        assert_eq!((options.apply.limits.entries, options.compression.ratio), (7, 1024));
        for text in [
            "entries",
            "=1",
            "size=1",
            "entries=",
            "entries=-1",
            "entries=+1",
            "entries=1KK",
            "entries=K",
            "bytes=99999999999999999999",
            "bytes=99999999999T",
            "entries=1.5",
            "entries=１",
        ] {
            let error = options.set_limit(text).unwrap_err();
            assert!(
                !error.to_string().contains('\n') && options.apply.limits.entries == 7,
                "{text}: {error}"
            );
        }
    }
}
