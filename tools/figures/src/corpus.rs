//! Trees of files to pack: always the same, and about as compressible as programs are.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// Writes `count` files of `len_bytes` in directories of a hundred.
pub fn plant(dir: &Path, count: usize, len_bytes: usize) -> anyhow::Result<()> {
    let mut content = Content::default();
    for at in 0..count {
        let parent = dir.join(format!("d{:04}", at / 100));
        fs::create_dir_all(&parent)?;
        File::create(parent.join(format!("file-{at}")))?.write_all(&content.take(len_bytes))?;
    }
    Ok(())
}

/// Bytes of which every other kilobyte is random and the rest is text.
#[derive(Debug)]
struct Content {
    state: u64,
}

impl Default for Content {
    fn default() -> Self {
        Self { state: 0x9e37_79b9_7f4a_7c15 }
    }
}

impl Content {
    fn take(&mut self, len_bytes: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len_bytes + 2048);
        while bytes.len() < len_bytes {
            for _ in 0..128 {
                // Marsaglia's xorshift with 64 bits.
                self.state ^= self.state << 13;
                self.state ^= self.state >> 7;
                self.state ^= self.state << 17;
                bytes.extend_from_slice(&self.state.to_le_bytes());
            }
            bytes.extend(
                b"What is written here can be told from what was written before.\n".iter().cycle().take(1024),
            );
        }
        bytes.truncate(len_bytes);
        bytes
    }
}
