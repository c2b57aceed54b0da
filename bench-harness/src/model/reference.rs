//! A fixed piece of work for the kernel, beside the branches and through no driver: the yardstick of a run.
//!
//! `openat(O_RDWR)` of a file of 256 KiB, 64 times `pwrite(2)` of 4 KiB, each over another page, `close`.
//! That takes some 25 µs, as a copy-up of 4 KiB without a sync does, and has a bit of what it has: a path
//! looked up, a file opened, pages written. It moves with the speed of processor, memory and kernel, and with
//! nothing else: no inode or block is allocated and nothing is synced. Creating and removing a file would be
//! nearer to a copy-up, but was no yardstick in trials: on ext4 without a journal it grows with what was
//! removed in the minutes before, and elsewhere it waits for journals. `tools/reference.c` is the same in C.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::{Bed, Lower, Model, Timing, close};
use crate::driver::Driver;
use crate::error::{At as _, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::Extent;

/// The yardstick.
#[derive(Debug)]
pub struct Reference;

/// Pages written by a sample.
const PAGES: u64 = 64;

/// Bytes of a page.
pub const PAGE_BYTES: usize = 4096;

/// Name of its file in the directory of the block's branches.
const NAME: &str = "reference";

fn path(bed: &Bed<'_>) -> PathBuf {
    bed.mounting.home.join(NAME)
}

/// Opens the directory of the file, so that the host's path above it costs nothing.
///
/// # Errors
///
/// What `open(2)` reports.
pub fn open_home(dir: &Path) -> Result<OwnedFd> {
    openat(CWD, dir, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).at("open", dir)
}

/// Makes the file that [`overwrite`] works on in `dir`.
///
/// # Errors
///
/// It cannot be written.
pub fn lay(dir: &Path) -> Result<()> {
    let path = dir.join(NAME);
    // Page by page: one long write makes one long folio, in which ext4 then looks at all blocks for each page.
    let mut made = File::create(&path).at("create", &path)?;
    (0..PAGES).try_for_each(|_| made.write_all(&[0; PAGE_BYTES])).at("write", &path)
}

/// Writes a page by the bare system call. That of the C library is a point where threads can be cancelled, for
/// which it pays some 40 ns in a process that has ever had a second thread: a tenth of the whole sample.
fn write_page(open: &OwnedFd, page: &[u8], index: u64) -> std::io::Result<()> {
    match rustix::io::pwrite(open, page, index * PAGE_BYTES as u64)? {
        PAGE_BYTES => Ok(()),
        len => Err(std::io::Error::new(ErrorKind::WriteZero, format!("{len} bytes of a page were written"))),
    }
}

/// Opens the file in `home`, writes `page` over each of its pages and closes it; the time of all that, in ns.
///
/// # Errors
///
/// Any I/O error.
pub fn overwrite(home: &OwnedFd, page: &[u8; PAGE_BYTES]) -> Result<u64> {
    let start = Instant::now();
    let open = openat(home, NAME, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let open = open.at("open", NAME)?;
    let written = (0..PAGES).try_for_each(|index| write_page(&open, page, index));
    let closed = close(open);
    let elapsed_ns = elapsed_ns(start);
    written.at("write", NAME)?;
    closed.at("close", NAME)?;
    Ok(elapsed_ns)
}

/// The page that `file` of this block is overwritten with.
fn page(bed: &Bed<'_>, file: &FileSpec) -> [u8; PAGE_BYTES] {
    let mut page = [bed.stamp(); PAGE_BYTES];
    page[..8].copy_from_slice(&file.number.to_le_bytes());
    page
}

impl Model for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn about(&self) -> &'static str {
        "A file on the backing opened, 64 of its pages overwritten one by one, and closed; through no driver."
    }

    fn lower(&self) -> Lower {
        Lower::Nothing
    }

    fn fills_branches(&self) -> bool {
        false
    }

    fn refuses(&self, driver: &dyn Driver) -> Option<&'static str> {
        super::only_plain(driver)
    }

    fn prepare(&self, bed: &Bed<'_>, _file: &FileSpec) -> Result<()> {
        // All samples of a block share the file.
        if path(bed).exists() { Ok(()) } else { lay(bed.mounting.home) }
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        overwrite(&open_home(bed.mounting.home)?, &page(bed, file)).map(Timing::from)
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, _extent: Extent) -> Result<()> {
        let found = std::fs::read(path(bed)).at("read", path(bed))?;
        // The last sample of the block has overwritten those before, which had lower numbers.
        let number = found.first_chunk().map_or(0, |it| u64::from_le_bytes(*it));
        let last = FileSpec { number, ..file.clone() };
        let expected = page(bed, &last).repeat(PAGES as usize);
        if file.number <= number && found == expected {
            return Ok(());
        }
        Err(bed.incorrect(file, format!("the file was not overwritten by sample {}", file.number)))
    }
}
