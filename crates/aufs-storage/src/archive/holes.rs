//! Finds the holes of a file that is to be packed.

use std::fs::File;

use aufs_host::copy::next_data;
use rustix::fs::{self, SeekFrom};

use super::error::{Outcome, host};
use super::sparse::Extent;

/// How many pieces of data a file with holes may have to be written with a map.
const EXTENTS_MAX: usize = 64 << 10;

/// Finds out where the data of a file lies; none when it has no holes, or too many to note.
pub(super) fn data_of(file: &File, len: u64) -> Outcome<Option<Vec<Extent>>> {
    let mut extents = Vec::new();
    let mut end = 0;
    let mut stored = 0;
    while let Some(data) = next_data(file, end, len).map_err(host("lseek"))? {
        if extents.len() == EXTENTS_MAX {
            break;
        }
        extents.push(Extent { offset: data.start, len: data.end - data.start });
        stored += data.end - data.start;
        end = data.end;
    }
    let is_sparse = stored < len && extents.len() < EXTENTS_MAX;
    if is_sparse && end < len {
        // GNU tar ends a file with its last piece.
        extents.push(Extent { offset: len, len: 0 });
    }
    if !is_sparse {
        fs::seek(file, SeekFrom::Start(0)).map_err(host("lseek"))?;
    }
    Ok(is_sparse.then_some(extents))
}
