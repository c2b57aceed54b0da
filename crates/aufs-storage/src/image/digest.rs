//! Digests that name content, and the chains of them that name stacks of layers.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The SHA-256 of some bytes, written `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String); // Invariant: the 64 digits, in lower case; checked by `FromStr`.

/// A text is no digest that can be verified here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no digest; expected sha256: and 64 hexadecimal digits in lower case")]
pub struct DigestError(String);

const PREFIX: &str = "sha256:";

impl Digest {
    /// Returns the digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::finish(Sha256::new_with_prefix(bytes))
    }

    fn finish(hasher: Sha256) -> Self {
        Self(hasher.finalize().iter().map(|it| format!("{it:02x}")).collect())
    }

    /// Returns the 64 digits.
    pub fn hex(&self) -> &str {
        &self.0
    }

    /// Returns the 12 digits that people are shown.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        match text.strip_prefix(PREFIX) {
            Some(hex) if hex.len() == 64 && hex.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f')) => {
                Ok(Self(hex.to_owned()))
            }
            // A hostile text is shown cut, as an error fits on a line.
            _ => Err(DigestError(text.chars().take(80).collect())),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0)
    }
}

/// Names each stack of the layers with these DiffIDs, base first.
///
/// Source: OCI image-spec, `config.md`, Layer ChainID.
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff in diff_ids {
        let next = match chain.last() {
            None => diff.clone(),
            Some(below) => Digest::of(format!("{below} {diff}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}

/// Hashes what is read or written through it.
pub struct Hashing<T> {
    inner: T,
    hasher: Sha256,
    len_bytes: u64,
}

impl<T> Hashing<T> {
    /// Reads from `inner`, or writes to it.
    pub fn new(inner: T) -> Self {
        Self { inner, hasher: Sha256::new(), len_bytes: 0 }
    }

    /// Returns what was written to or read from, the digest and the length in bytes of what went through.
    pub fn into_parts(self) -> (T, Digest, u64) {
        (self.inner, Digest::finish(self.hasher), self.len_bytes)
    }

    /// Returns the digest and the length in bytes of what went through.
    pub fn digest(self) -> (Digest, u64) {
        (Digest::finish(self.hasher), self.len_bytes)
    }

    fn count(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.len_bytes += bytes.len() as u64;
    }
}

impl<R: Read> Hashing<R> {
    /// Reads the rest; returns the digest and the length in bytes of all.
    ///
    /// # Errors
    ///
    /// What reading reports.
    pub fn finish(mut self) -> io::Result<(Digest, u64)> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(self.digest())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.count(buffer.get(..len).unwrap_or_default());
        Ok(len)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.inner.write(bytes)?;
        self.count(bytes.get(..len).unwrap_or_default());
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T> fmt::Debug for Hashing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hashing").field("len_bytes", &self.len_bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: FIPS 180-4, the example of one block.
    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn content_has_its_digest() {
        assert_eq!(Digest::of(b"abc").to_string(), ABC);
        let mut hashing = Hashing::new(&b"abc"[..]);
        let mut first = [0; 1];
        hashing.read_exact(&mut first).unwrap();
        assert_eq!(hashing.finish().unwrap(), (ABC.parse().unwrap(), 3), "what was not read counts too");
        assert_eq!(ABC.parse::<Digest>().unwrap().short(), "ba7816bf8f01");
    }

    #[test]
    fn only_whole_digests_are_taken() {
        for text in
            ["", "sha256:", &ABC[7..], &ABC[..70], &ABC.to_uppercase(), "sha512:00", &format!("{ABC}0")]
        {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_chain_names_each_stack() {
        let diffs = [Digest::of(b"a"), Digest::of(b"b"), Digest::of(b"c")];
        let chain = chain_ids(&diffs);
        assert_eq!(chain[0], diffs[0]);
        assert_eq!(chain[1], Digest::of(format!("{} {}", diffs[0], diffs[1]).as_bytes()));
        assert_eq!(chain[2], Digest::of(format!("{} {}", chain[1], diffs[2]).as_bytes()));
        assert_eq!(chain_ids(&diffs[..2]), chain[..2]);
    }
}
