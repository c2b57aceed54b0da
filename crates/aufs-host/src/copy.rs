//! Copies the bytes of one open file into another, the cheapest way the host offers.

use std::os::fd::AsFd;

use rustix::fs::{self, SeekFrom};
use rustix::io::{self, Errno};

/// How the bytes of a file travelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyMethod {
    /// The file systems share the blocks (`FICLONE`).
    Reflink,
    /// The kernel copied, extent by extent (`copy_file_range`).
    CopyFileRange,
    /// We read and wrote; the host offers nothing better between these files.
    ReadWrite,
}

/// Bytes of one step of [`CopyMethod::ReadWrite`].
const BUFFER_LEN_BYTES: usize = 1 << 20;

/// Copies the first `len_bytes` of `source` into the empty file `target`; holes stay holes.
///
/// A whole-file copy is tried as a reflink first, then extent by extent.
///
/// # Errors
///
/// - `ENOSPC`, `EDQUOT`: the target's file system is full; the target is then partly written.
/// - else what `ioctl_ficlone(2)`, `copy_file_range(2)`, `lseek(2)`, `read(2)`, `write(2)` report.
///
/// Kernel aufs clones or copies too, skipping zero blocks: `fs/aufs/cpup.c`.
pub fn copy_data(
    source: impl AsFd,
    target: impl AsFd,
    len_bytes: u64,
    whole: bool,
) -> io::Result<CopyMethod> {
    if len_bytes == 0 {
        return Ok(CopyMethod::CopyFileRange);
    }
    if whole {
        match fs::ioctl_ficlone(&target, &source) {
            Ok(()) => return Ok(CopyMethod::Reflink),
            Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::ACCESS) => (), // Not here.
            Err(errno) => return Err(errno),
        }
    }
    copy_extents(&source, &target, len_bytes)
}

fn copy_extents(source: impl AsFd, target: impl AsFd, len_bytes: u64) -> io::Result<CopyMethod> {
    let mut method = CopyMethod::CopyFileRange;
    let mut at = 0;
    let mut end_of_data = 0;
    while at < len_bytes {
        let start = match fs::seek(&source, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break, // Only a hole is left.
            Err(Errno::INVAL) => at,   // No hole support: all of it counts as data.
            other => other?,
        };
        if len_bytes <= start {
            break;
        }
        let end = match fs::seek(&source, SeekFrom::Hole(start)) {
            Err(Errno::INVAL) => len_bytes,
            other => other?.min(len_bytes),
        };
        if method == CopyMethod::CopyFileRange && !copy_in_kernel(&source, &target, start, end)? {
            method = CopyMethod::ReadWrite;
        }
        if method == CopyMethod::ReadWrite {
            copy_by_hand(&source, &target, start, end)?;
        }
        at = end;
        end_of_data = end;
    }
    if end_of_data < len_bytes {
        fs::ftruncate(&target, len_bytes)?; // A trailing hole has no data to copy.
    }
    Ok(method)
}

/// Copies `from..end`; false when the kernel cannot copy between these files.
fn copy_in_kernel(source: impl AsFd, target: impl AsFd, from: u64, end: u64) -> io::Result<bool> {
    let mut at = from;
    while at < end {
        let (mut input, mut output) = (at, at);
        let wanted = usize::try_from(end - at).unwrap_or(usize::MAX);
        match fs::copy_file_range(&source, Some(&mut input), &target, Some(&mut output), wanted) {
            Ok(0) => return Ok(true), // The source shrank while we copied.
            Ok(_) => at = input,
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) if at == from => {
                return Ok(false);
            }
            Err(Errno::INTR) => (),
            Err(errno) => return Err(errno),
        }
    }
    Ok(true)
}

fn copy_by_hand(source: impl AsFd, target: impl AsFd, from: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_LEN_BYTES];
    let mut at = from;
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let got = match io::pread(&source, &mut buffer[..wanted], at) {
            Ok(0) => return Ok(()),
            Err(Errno::INTR) => continue,
            other => other?,
        };
        let mut done = 0;
        while done < got {
            match io::pwrite(&target, &buffer[done..got], at + done as u64) {
                Ok(0) => return Err(Errno::IO),
                Err(Errno::INTR) => (),
                other => done += other?,
            }
        }
        at += got as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, Write};
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    fn copied(source: &File, len_bytes: u64, whole: bool) -> (Vec<u8>, u64) {
        let mut target = tempfile::tempfile().unwrap();
        copy_data(source, &target, len_bytes, whole).unwrap();
        let mut bytes = Vec::new();
        target.rewind().unwrap();
        target.read_to_end(&mut bytes).unwrap();
        (bytes, target.metadata().unwrap().blocks())
    }

    #[test]
    fn bytes_and_length_survive() {
        for (case, content, len_bytes) in [
            ("empty", &b""[..], 0),
            ("whole", &b"hello"[..], 5),
            ("cut short", &b"hello"[..], 3),
            ("longer than the file", &b"hello"[..], 9),
        ] {
            let mut source = tempfile::tempfile().unwrap();
            source.write_all(content).unwrap();
            let mut expected = content.to_vec();
            expected.resize(len_bytes as usize, 0);
            let whole = len_bytes == content.len() as u64;
            assert_eq!(copied(&source, len_bytes, whole).0, expected, "{case}");
        }
    }

    #[test]
    fn holes_stay_holes() {
        let source = tempfile::tempfile().unwrap();
        source.write_all_at(b"head", 0).unwrap();
        source.write_all_at(b"middle", 4 << 20).unwrap();
        source.set_len(8 << 20).unwrap();
        let (bytes, blocks) = copied(&source, 8 << 20, true);
        assert_eq!(bytes.len(), 8 << 20);
        assert_eq!((&bytes[..4], &bytes[4 << 20..(4 << 20) + 6]), (&b"head"[..], &b"middle"[..]));
        assert!(blocks * 512 < 1 << 20, "{blocks} blocks for two small extents");
    }

    #[test]
    fn reading_and_writing_equals_the_kernel_copy() {
        let source = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..3_000_000_u32).flat_map(|n| (n as u8).to_le_bytes()).collect();
        source.write_all_at(&content, 0).unwrap();
        let target = tempfile::tempfile().unwrap();
        copy_by_hand(&source, &target, 0, content.len() as u64).unwrap();
        let mut bytes = vec![0; content.len()];
        target.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes == content);
    }
}
