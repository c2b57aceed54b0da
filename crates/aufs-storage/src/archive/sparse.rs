//! Where the data of a sparse file lies. Pure.
//!
//! GNU tar has four ways to say it, and layers made with it have been seen with each: a map in the header and in blocks after
//! it (old GNU), records of the extended header (0.0 and 0.1), and a list of decimal lines before the data (1.0).

use tar::{GnuExtSparseHeader, GnuHeader, GnuSparseHeader};

use super::error::{ArchiveErrorKind, Outcome, SparseFault};
use super::header::BLOCK_LEN_BYTES;
use super::limits::{Limited, Limits};
use super::numbers;

/// A piece of data in a file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// Checks that `extents` run forwards within `size`, and that they hold `stored` bytes.
pub(crate) fn check(extents: &[Extent], size: u64, stored: u64) -> Outcome<()> {
    let mut end = 0_u64;
    let mut sum = 0_u64;
    for extent in extents {
        let next = extent.offset.checked_add(extent.len).filter(|it| *it <= size);
        match next {
            Some(next) if end <= extent.offset => end = next,
            _ => return Err(ArchiveErrorKind::Sparse(SparseFault::Order)),
        }
        sum += extent.len; // At most `size`, as they do not overlap.
    }
    if sum == stored { Ok(()) } else { Err(ArchiveErrorKind::Sparse(SparseFault::Length)) }
}

/// Makes extents of offsets and lengths in turn.
pub(crate) fn pairs(numbers: &[u64]) -> Outcome<Vec<Extent>> {
    let (pairs, rest) = numbers.as_chunks();
    if !rest.is_empty() {
        return Err(ArchiveErrorKind::Sparse(SparseFault::Map));
    }
    Ok(pairs.iter().map(|&[offset, len]| Extent { offset, len }).collect())
}

/// Adds the pieces that the header itself names; true when blocks with more follow.
pub(crate) fn take_header(header: &GnuHeader, extents: &mut Vec<Extent>) -> Outcome<bool> {
    take_old(&header.sparse, extents)?;
    Ok(header.isextended[0] != 0)
}

/// Adds the pieces that a block after the header names; true when another follows.
pub(crate) fn take_block(block: &[u8; 512], extents: &mut Vec<Extent>, limits: &Limits) -> Outcome<bool> {
    let mut header = GnuExtSparseHeader::new();
    header.as_mut_bytes().copy_from_slice(block);
    take_old(header.sparse(), extents)?;
    limits.check(Limited::Extents, extents.len() as u64)?;
    Ok(header.isextended[0] != 0)
}

fn take_old(fields: &[GnuSparseHeader], extents: &mut Vec<Extent>) -> Outcome<()> {
    for field in fields {
        if field.offset[0] == 0 || field.numbytes[0] == 0 {
            break;
        }
        let number = |bytes: &[u8]| {
            let number = numbers::field(bytes).and_then(|it| u64::try_from(it).ok());
            number.ok_or(ArchiveErrorKind::Sparse(SparseFault::Map))
        };
        extents.push(Extent { offset: number(&field.offset)?, len: number(&field.numbytes)? });
    }
    Ok(())
}

/// Reads the map of version 1.0 as its blocks arrive: a count, then as many offsets and lengths, a line each.
#[derive(Debug, Default)]
pub(crate) struct LineMap {
    line: Vec<u8>,
    count: Option<u64>,
    numbers: Vec<u64>,
}

impl LineMap {
    /// Takes one block; the extents once the map is complete.
    pub(crate) fn take(&mut self, block: &[u8; 512], limits: &Limits) -> Outcome<Option<Vec<Extent>>> {
        let malformed = || ArchiveErrorKind::Sparse(SparseFault::Map);
        for byte in block {
            if *byte != b'\n' {
                self.line.push(*byte);
                if 20 < self.line.len() {
                    return Err(malformed());
                }
                continue;
            }
            let number = numbers::decimal(&self.line).ok_or_else(malformed)?;
            self.line.clear();
            match self.count {
                None => {
                    limits.check(Limited::Extents, number)?;
                    self.count = Some(number);
                }
                Some(_) => self.numbers.push(number),
            }
            if self.count.is_some_and(|count| self.numbers.len() as u64 == 2 * count) {
                return pairs(&self.numbers).map(Some); // The rest of the block is padding.
            }
        }
        Ok(None)
    }
}

/// Returns the map of version 1.0 as it stands before the data, filled up to whole blocks.
pub(crate) fn print_map(extents: &[Extent]) -> Vec<u8> {
    let mut map = format!("{}\n", extents.len()).into_bytes();
    for Extent { offset, len } in extents {
        map.extend_from_slice(format!("{offset}\n{len}\n").as_bytes());
    }
    map.resize(map.len().next_multiple_of(BLOCK_LEN_BYTES), 0);
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extents(numbers: &[u64]) -> Vec<Extent> {
        pairs(numbers).unwrap()
    }

    #[test]
    fn pieces_run_forwards_within_the_file() {
        let order = "sparse file: the pieces overlap or pass the end";
        let length = "sparse file: the data is not as long as the map says";
        for (numbers, size, stored, expected) in [
            (&[][..], 10, 0, Ok(())),
            (&[0, 2, 2, 3, 10, 0], 10, 5, Ok(())),
            (&[0, 0, 0, 0, 0, 1], 1, 1, Ok(())),
            (&[0, 2, 1, 3], 10, 5, Err(order)),
            (&[5, 1, 0, 1], 10, 2, Err(order)),
            (&[8, 3], 10, 3, Err(order)),
            (&[u64::MAX, 1], u64::MAX, 1, Err(order)),
            (&[0, 2], 10, 3, Err(length)),
        ] {
            let outcome = check(&extents(numbers), size, stored).map_err(|it| it.to_string());
            assert_eq!(outcome, expected.map_err(str::to_owned), "{numbers:?}");
        }
        assert!(pairs(&[1, 2, 3]).is_err());
    }

    #[test]
    fn a_printed_map_reads_back() {
        for count in [0, 1, 2, 60, 400] {
            let printed: Vec<Extent> = (0..count).map(|at| Extent { offset: at << 40, len: at }).collect();
            let bytes = print_map(&printed);
            let (blocks, rest) = bytes.as_chunks();
            let mut map = LineMap::default();
            let mut read = None;
            for block in blocks {
                assert!(read.is_none(), "{count}: a block too many");
                read = map.take(block, &Limits::default()).unwrap();
            }
            assert_eq!((read, rest.len()), (Some(printed), 0), "{count}");
        }
    }

    #[test]
    fn maps_of_lines_end_where_their_count_says() {
        let block = |text: &str| {
            let mut block = [0; 512];
            block[..text.len()].copy_from_slice(text.as_bytes());
            block
        };
        let limits = Limits { extents: 100, ..Limits::default() };
        let take = |text: &str| LineMap::default().take(&block(text), &limits).map_err(|it| it.to_string());
        assert_eq!(take("2\n0\n5\n10\n0\n"), Ok(Some(extents(&[0, 5, 10, 0]))));
        assert_eq!(take("0\n"), Ok(Some(Vec::new())));
        assert_eq!(take("101\n"), Err("more than 100 pieces of a sparse file".to_owned()));
        for text in ["", "x\n", "-1\n", "1\n\n0\n", "2\n1\n"] {
            assert_eq!(take(text), Err("sparse file: the map is malformed".to_owned()), "{text:?}");
        }
        // A map may be longer than a block, and a number may lie across its end.
        let text = format!("100\n{}", "1000\n0\n".repeat(100));
        let mut map = LineMap::default();
        assert_eq!(map.take(text.as_bytes()[..512].try_into().unwrap(), &limits).unwrap(), None);
        assert_eq!(map.take(&block(&text[512..]), &limits).unwrap().map(|it| it.len()), Some(100));
    }
}
