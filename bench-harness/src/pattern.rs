//! The content of the measured files: known everywhere, stored nowhere.
//!
//! A file is a row of chunks, each a fixed random block with the file's number
//! and the chunk's number at its head. Any part can be checked without a copy
//! of the file. Bytes 0 and 1 of a file are zero in the layer, so that a stamp
//! written there always differs.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

const CHUNK_BYTES: usize = 1 << 16;

/// The longest file that [`Pattern::small`] holds whole, in bytes.
pub const SMALL_BYTES_MAX: u64 = CHUNK_BYTES as u64;

/// How much of a file a check reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Every byte.
    Whole,
    /// The first, the last and some chunks between.
    Spread,
}

/// Writes and checks file contents.
#[derive(Debug)]
pub struct Pattern {
    template: Vec<u8>,
}

impl Default for Pattern {
    fn default() -> Self {
        let mut template = vec![0; CHUNK_BYTES];
        ChaCha8Rng::seed_from_u64(0x0061_7566_7372_7300).fill_bytes(&mut template);
        Self { template }
    }
}

impl Pattern {
    /// The first `len` bytes, at most 64 KiB, of chunk `index` of the file numbered `number`.
    fn chunk(&self, number: u64, index: u64, len: usize) -> Vec<u8> {
        let mut chunk = self.template[..len.max(18)].to_vec();
        chunk[2..10].copy_from_slice(&number.to_le_bytes());
        chunk[10..18].copy_from_slice(&index.to_le_bytes());
        if index == 0 {
            chunk[..2].fill(0);
        }
        chunk.truncate(len);
        chunk
    }

    /// The whole content of file `number` when it has at most 64 KiB; longer ones are cut there.
    pub fn small(&self, number: u64, len_bytes: u64) -> Vec<u8> {
        self.chunk(number, 0, usize::try_from(len_bytes).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES))
    }

    /// The `len` bytes from byte `at` on of file `number`; both multiples of 4 KiB within one chunk of 64 KiB.
    pub fn page(&self, number: u64, at: u64, len: usize) -> Vec<u8> {
        let (index, start) = (at / CHUNK_BYTES as u64, (at % CHUNK_BYTES as u64) as usize);
        if start == 0 { self.chunk(number, index, len) } else { self.template[start..start + len].to_vec() }
    }

    /// `len_bytes` of chunks for [`Pattern::label`]; a multiple of 64 KiB.
    pub fn step(&self, len_bytes: usize) -> Vec<u8> {
        self.template.iter().copied().cycle().take(len_bytes).collect()
    }

    /// Makes `buffer` the part of file `number` that begins at byte `at`, a multiple of 64 KiB.
    pub fn label(&self, buffer: &mut [u8], number: u64, at: u64) {
        let first = at / CHUNK_BYTES as u64;
        for (index, chunk) in (first..).zip(buffer.chunks_exact_mut(CHUNK_BYTES)) {
            chunk[..2].copy_from_slice(if index == 0 { &[0; 2] } else { &self.template[..2] });
            chunk[2..10].copy_from_slice(&number.to_le_bytes());
            chunk[10..18].copy_from_slice(&index.to_le_bytes());
        }
    }

    /// Writes the `len_bytes` of file `number` to `file`.
    ///
    /// # Errors
    ///
    /// What `write(2)` reports.
    pub fn write(&self, file: &mut File, number: u64, len_bytes: u64) -> io::Result<()> {
        for (index, chunk_len) in chunks(len_bytes) {
            file.write_all(&self.chunk(number, index, chunk_len))?;
        }
        Ok(())
    }

    /// Says where `file` differs from file `number` whose first bytes are `stamp`; `None` if nowhere.
    ///
    /// # Errors
    ///
    /// What `pread(2)` reports.
    pub fn difference(
        &self,
        file: &File,
        number: u64,
        len_bytes: u64,
        stamp: &[u8],
        extent: Extent,
    ) -> io::Result<Option<String>> {
        let found = file.metadata()?.len();
        if found != len_bytes {
            return Ok(Some(format!("has {found} bytes instead of {len_bytes}")));
        }
        self.head_difference(file, number, len_bytes, stamp, extent)
    }

    /// As [`Pattern::difference`], for the first `len_bytes` of a `file` that may be longer.
    ///
    /// # Errors
    ///
    /// What `pread(2)` reports, the end of a shorter file among it.
    pub fn head_difference(
        &self,
        file: &File,
        number: u64,
        len_bytes: u64,
        stamp: &[u8],
        extent: Extent,
    ) -> io::Result<Option<String>> {
        let n_chunks = len_bytes.div_ceil(CHUNK_BYTES as u64);
        let stride = if extent == Extent::Whole { 1 } else { n_chunks.div_ceil(16).max(1) };
        let mut buffer = vec![0; CHUNK_BYTES];
        for (index, chunk_len) in chunks(len_bytes) {
            if !index.is_multiple_of(stride) && index + 1 != n_chunks {
                continue;
            }
            let mut expected = self.chunk(number, index, chunk_len);
            if index == 0 {
                let stamped = stamp.len().min(chunk_len);
                expected[..stamped].copy_from_slice(&stamp[..stamped]);
            }
            let at = index * CHUNK_BYTES as u64;
            file.read_exact_at(&mut buffer[..chunk_len], at)?;
            // One comparison of the whole first: byte by byte would cost more than the copy-up.
            if buffer[..chunk_len] == expected[..] {
                continue;
            }
            if let Some(byte) = (0..chunk_len).find(|&it| buffer[it] != expected[it]) {
                let (is, want) = (buffer[byte], expected[byte]);
                return Ok(Some(format!("byte {} is {is} instead of {want}", at + byte as u64)));
            }
        }
        Ok(None)
    }
}

/// Index and length of each chunk of a file of `len_bytes`.
fn chunks(len_bytes: u64) -> impl Iterator<Item = (u64, usize)> {
    let n_chunks = len_bytes.div_ceil(CHUNK_BYTES as u64);
    (0..n_chunks).map(move |index| {
        let left = len_bytes - index * CHUNK_BYTES as u64;
        (index, usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_of(pattern: &Pattern, number: u64, len_bytes: u64) -> File {
        let mut file = tempfile::tempfile().unwrap();
        pattern.write(&mut file, number, len_bytes).unwrap();
        file
    }

    #[test]
    fn what_was_written_checks_out() {
        let pattern = Pattern::default();
        for len_bytes in [2, 10, 4096, 65536, 65537, 3 << 20] {
            let file = file_of(&pattern, 9, len_bytes);
            for extent in [Extent::Whole, Extent::Spread] {
                assert_eq!(
                    pattern.difference(&file, 9, len_bytes, &[], extent).unwrap(),
                    None,
                    "{len_bytes}"
                );
            }
        }
    }

    #[test]
    fn steps_and_small_files_are_parts_of_the_same() {
        let pattern = Pattern::default();
        let file = file_of(&pattern, 9, 2 << 20);
        let mut buffer = pattern.step(1 << 20);
        for at in [0, 1 << 20] {
            let mut found = vec![0; 1 << 20];
            pattern.label(&mut buffer, 9, at);
            file.read_exact_at(&mut found, at).unwrap();
            assert!(found == buffer, "at {at}");
            assert!(at != 0 || pattern.small(9, 4096) == found[..4096]);
        }
        assert_eq!(pattern.small(9, 5).len(), 5);
        for at in (0..2 << 20).step_by(4096) {
            let mut found = vec![0; 4096];
            file.read_exact_at(&mut found, at).unwrap();
            assert!(found == pattern.page(9, at, 4096), "page at {at}");
        }
    }

    #[test]
    fn any_other_content_is_found() {
        let pattern = Pattern::default();
        let len_bytes = 3 << 20;
        let differs = |file: &File, number, stamp: &[u8], extent| {
            pattern.difference(file, number, len_bytes, stamp, extent).unwrap()
        };
        let file = file_of(&pattern, 9, len_bytes);
        assert!(differs(&file, 8, &[], Extent::Spread).is_some(), "another file");
        assert!(differs(&file, 9, &[7], Extent::Spread).is_some(), "stamp missing");
        file.write_all_at(&[7], 0).unwrap();
        assert_eq!(differs(&file, 9, &[7], Extent::Whole), None, "stamp found");
        assert_eq!(differs(&file, 9, &[], Extent::Whole).unwrap(), "byte 0 is 7 instead of 0");
        let last = len_bytes - 1;
        file.write_all_at(&[0xEE; 2], last - 70_000).unwrap();
        assert!(differs(&file, 9, &[7], Extent::Whole).is_some(), "a byte near the end");
        file.set_len(last).unwrap();
        assert!(differs(&file, 9, &[7], Extent::Whole).unwrap().contains("bytes instead of"), "shorter");
    }
}
