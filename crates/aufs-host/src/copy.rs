//! Copies the bytes of one open file into another, the cheapest way the host offers.

use std::ops::Range;
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

/// What to copy, and what is known about the files.
#[derive(Debug, Clone, Copy)]
pub struct CopyPlan {
    /// Bytes to copy, from the beginning.
    pub len_bytes: u64,
    /// Whether to try a reflink, which shares the blocks of a whole file.
    pub try_reflink: bool,
    /// Whether the source may have holes, which then stay holes.
    pub may_have_holes: bool,
}

/// How a copy went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// How the bytes travelled.
    pub method: CopyMethod,
    /// Whether the file systems said that no files of theirs can share blocks.
    pub never_reflinks: bool,
}

/// Bytes of one step of [`CopyMethod::ReadWrite`].
const BUFFER_LEN_BYTES: usize = 1 << 20;

/// Bytes of one step of [`CopyMethod::CopyFileRange`]: some hundredths of a second.
const STEP_LEN_BYTES: u64 = 64 << 20;

/// Asked between the steps of a long copy: whether nobody wants it any more.
pub type Abandoned<'a> = &'a dyn Fn() -> bool;

/// Copies the beginning of `source` into the empty file `target`, as `plan` says.
///
/// # Errors
///
/// - `EINTR`: `is_abandoned` said so; the target is then partly written.
/// - `ENOSPC`, `EDQUOT`: the target's file system is full; the target is then partly written.
/// - else what `ioctl_ficlone(2)`, `copy_file_range(2)`, `lseek(2)`, `read(2)`, `write(2)` report.
///
/// Kernel aufs clones or copies too, skipping zero blocks: `fs/aufs/cpup.c`.
pub fn copy_data(
    source: impl AsFd,
    target: impl AsFd,
    plan: CopyPlan,
    is_abandoned: Abandoned<'_>,
) -> io::Result<Copied> {
    let mut never_reflinks = false;
    if plan.len_bytes == 0 {
        return Ok(Copied { method: CopyMethod::CopyFileRange, never_reflinks });
    }
    if plan.try_reflink {
        match fs::ioctl_ficlone(&target, &source) {
            Ok(()) => return Ok(Copied { method: CopyMethod::Reflink, never_reflinks }),
            Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::NOTTY) => never_reflinks = true,
            Err(Errno::INVAL | Errno::ACCESS) => (), // Not these files.
            Err(errno) => return Err(errno),
        }
    }
    let method = if plan.may_have_holes {
        copy_extents(&source, &target, plan.len_bytes, is_abandoned)?
    } else if copy_in_kernel(&source, &target, 0..plan.len_bytes, is_abandoned)? {
        CopyMethod::CopyFileRange
    } else {
        copy_by_hand(&source, &target, 0..plan.len_bytes, is_abandoned)?;
        CopyMethod::ReadWrite
    };
    Ok(Copied { method, never_reflinks })
}

/// Returns the next piece of data at or after `at` in the first `len_bytes` of a file; none where only a hole is left.
///
/// Without support for holes all of a file is data.
///
/// # Errors
///
/// What `lseek(2)` reports.
pub fn next_data(source: impl AsFd, at: u64, len_bytes: u64) -> io::Result<Option<Range<u64>>> {
    if len_bytes <= at {
        return Ok(None);
    }
    let start = match fs::seek(&source, SeekFrom::Data(at)) {
        Err(Errno::NXIO) => return Ok(None),
        Err(Errno::INVAL) => at,
        other => other?,
    };
    if len_bytes <= start {
        return Ok(None);
    }
    let end = match fs::seek(&source, SeekFrom::Hole(start)) {
        Err(Errno::INVAL) => len_bytes,
        other => other?.min(len_bytes),
    };
    Ok(Some(start..end))
}

fn copy_extents(
    source: impl AsFd,
    target: impl AsFd,
    len_bytes: u64,
    is_abandoned: Abandoned<'_>,
) -> io::Result<CopyMethod> {
    let mut method = CopyMethod::CopyFileRange;
    let mut at = 0;
    let mut end_of_data = 0;
    while let Some(Range { start, end }) = next_data(&source, at, len_bytes)? {
        if method == CopyMethod::CopyFileRange && !copy_in_kernel(&source, &target, start..end, is_abandoned)?
        {
            method = CopyMethod::ReadWrite;
        }
        if method == CopyMethod::ReadWrite {
            copy_by_hand(&source, &target, start..end, is_abandoned)?;
        }
        at = end;
        end_of_data = end;
    }
    if end_of_data < len_bytes {
        fs::ftruncate(&target, len_bytes)?; // A trailing hole has no data to copy.
    }
    Ok(method)
}

/// Copies a range; false when the kernel cannot copy between these files.
fn copy_in_kernel(
    source: impl AsFd,
    target: impl AsFd,
    range: Range<u64>,
    is_abandoned: Abandoned<'_>,
) -> io::Result<bool> {
    let Range { start: from, end } = range;
    let mut at = from;
    while at < end {
        if at != from && is_abandoned() {
            return Err(Errno::INTR);
        }
        let (mut input, mut output) = (at, at);
        let wanted = usize::try_from((end - at).min(STEP_LEN_BYTES)).unwrap_or(usize::MAX);
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

fn copy_by_hand(
    source: impl AsFd,
    target: impl AsFd,
    range: Range<u64>,
    is_abandoned: Abandoned<'_>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_LEN_BYTES];
    let Range { start: mut at, end } = range;
    while at < end {
        if is_abandoned() {
            return Err(Errno::INTR);
        }
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
        let plan = CopyPlan { len_bytes, try_reflink: whole, may_have_holes: true };
        copy_data(source, &target, plan, &|| false).unwrap();
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
    fn a_file_without_holes_is_copied_in_one_step() {
        let content: Vec<u8> = (0..300_000_u32).flat_map(|n| (n as u8).to_le_bytes()).collect();
        let source = tempfile::tempfile().unwrap();
        source.write_all_at(&content, 0).unwrap();
        for len_bytes in [1, 4096, content.len()] {
            let mut target = tempfile::tempfile().unwrap();
            let plan = CopyPlan { len_bytes: len_bytes as u64, try_reflink: false, may_have_holes: false };
            copy_data(&source, &target, plan, &|| false).unwrap();
            let mut bytes = Vec::new();
            target.rewind().unwrap();
            target.read_to_end(&mut bytes).unwrap();
            assert!(bytes == content[..len_bytes], "{len_bytes}");
        }
    }

    #[test]
    fn a_copy_nobody_wants_ends_between_two_steps() {
        let source = tempfile::tempfile().unwrap();
        source.set_len(3 * STEP_LEN_BYTES).unwrap();
        let target = tempfile::tempfile().unwrap();
        let plan = CopyPlan { len_bytes: 3 * STEP_LEN_BYTES, try_reflink: false, may_have_holes: false };
        let asked = std::cell::Cell::new(0);
        let is_abandoned = || {
            asked.set(asked.get() + 1);
            asked.get() == 2
        };
        assert_eq!(copy_data(&source, &target, plan, &is_abandoned).unwrap_err(), Errno::INTR);
        assert!(target.metadata().unwrap().len() < 3 * STEP_LEN_BYTES, "it went on");
        assert_eq!(asked.get(), 2);
    }

    #[test]
    fn reading_and_writing_equals_the_kernel_copy() {
        let source = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..3_000_000_u32).flat_map(|n| (n as u8).to_le_bytes()).collect();
        source.write_all_at(&content, 0).unwrap();
        let target = tempfile::tempfile().unwrap();
        copy_by_hand(&source, &target, 0..content.len() as u64, &|| false).unwrap();
        let mut bytes = vec![0; content.len()];
        target.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes == content);
    }
}
