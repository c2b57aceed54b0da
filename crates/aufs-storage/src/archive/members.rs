//! Reads the entries of an archive, with what extended headers say of them.
//!
//! What Go's reader does where archives contradict themselves is done here, too, since it decides what Docker makes of
//! a layer: long names of GNU beat extended headers, which beat the header; of several extended headers the last counts;
//! the size of an extended header is the one that data is measured by.

use std::io::{BufRead, BufReader, Read};

use super::error::{ArchiveErrorKind, HeaderFault, Outcome};
use super::header::{self, BLOCK_LEN_BYTES, Fields, Kind};
use super::limits::{Limited, Limits};
use super::numbers::Time;
use super::pax::{self, Extended};
use super::sparse::{self, Extent, LineMap};

/// How much of the archive is read at once: large, since file data is written from this very buffer.
const BUFFER_LEN_BYTES: usize = 512 << 10;

/// An entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// The path as it stands in the archive.
    pub(crate) path: Vec<u8>,
    pub(crate) node: MemberNode,
    pub(crate) attributes: Attributes,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MemberNode {
    /// A file of `len` bytes; its data lies in `extents` where it has holes.
    File {
        len: u64,
        extents: Option<Vec<Extent>>,
    },
    Directory,
    Symlink {
        target: Vec<u8>,
    },
    HardLink {
        target: Vec<u8>,
    },
    Fifo,
    Device {
        is_block: bool,
        major: u32,
        minor: u32,
    },
}

/// What every kind of entry has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Attributes {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The twelve permission bits.
    pub(crate) mode: u32,
    pub(crate) mtime: Time,
    /// None where the archive has no other than `mtime`.
    pub(crate) atime: Option<Time>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What stands in front of an entry and belongs to it.
#[derive(Default)]
struct Before {
    extended: Option<Extended>,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

/// The entries of an archive, one after the other.
pub(crate) struct Members<'l, R> {
    input: BufReader<R>,
    limits: &'l Limits,
    /// Bytes of the archive read so far.
    offset: u64,
    /// Bytes of the current entry's data that were not read yet, and of the padding after them.
    left: u64,
    padding: u64,
}

impl<'l, R: Read> Members<'l, R> {
    pub(crate) fn new(input: R, limits: &'l Limits) -> Self {
        let input = BufReader::with_capacity(BUFFER_LEN_BYTES, input);
        Self { input, limits, offset: 0, left: 0, padding: 0 }
    }

    /// Bytes of the archive that were read.
    pub(crate) fn offset_bytes(&self) -> u64 {
        self.offset
    }

    /// Returns the next entry, whose data [`chunk`](Self::chunk) then gives; none at the end.
    ///
    /// What was not read of the one before is passed over. The end is two zero blocks, or that of the input; what stands
    /// behind is read and means nothing, so that who sums the bytes up has seen them all.
    pub(crate) fn next(&mut self) -> Outcome<Option<Member>> {
        let mut before = Before::default();
        loop {
            self.pass_over()?;
            let offset_bytes = self.offset;
            let fault = |fault| ArchiveErrorKind::Header { offset_bytes, fault };
            let Some(block) = self.block()? else {
                return before.at_end().map_err(fault);
            };
            let Some(fields) = header::parse(&block).map_err(fault)? else {
                self.end()?;
                return before.at_end().map_err(fault);
            };
            self.expect_data(fields.size)?;
            match fields.kind {
                Kind::Global => (), // Passed over.
                Kind::GnuLongName => before.path = Some(self.long_name()?),
                Kind::GnuLongLink => before.link = Some(self.long_name()?),
                Kind::Extended => {
                    let bytes = self.special()?;
                    before.extended = Some(pax::parse(&bytes, self.limits)?);
                }
                _ => return self.member(fields, before, &block).map(Some),
            }
        }
    }

    /// Merges a header with what stood in front of it.
    fn member(&mut self, fields: Fields, before: Before, block: &[u8; BLOCK_LEN_BYTES]) -> Outcome<Member> {
        let offset_bytes = self.offset - BLOCK_LEN_BYTES as u64;
        let mut extended = before.extended.unwrap_or_default();
        if header::has_data(fields.kind) {
            self.expect_data(extended.size.unwrap_or(fields.size))?;
        }
        let path = extended.sparse.name.take().or(extended.path.take());
        let path = before.path.or(path).unwrap_or_else(|| fields.path.clone());
        let target = before.link.or(extended.link.take()).unwrap_or_else(|| fields.link.clone());
        let id = |said: Option<u64>, field: i64, name| {
            let number = said.map_or_else(|| u32::try_from(field).ok(), |it| u32::try_from(it).ok());
            // The highest number means "no change" to chown(2).
            let fault = ArchiveErrorKind::Header { offset_bytes, fault: HeaderFault::Number(name) };
            number.filter(|it| *it != u32::MAX).ok_or(fault)
        };
        let attributes = Attributes {
            uid: id(extended.uid, fields.uid, "uid")?,
            gid: id(extended.gid, fields.gid, "gid")?,
            mode: fields.mode,
            mtime: extended.mtime.unwrap_or(fields.mtime),
            atime: extended.atime,
            xattrs: std::mem::take(&mut extended.xattrs).into_iter().collect(),
        };
        let (major, minor) = fields.device;
        let node = match fields.kind {
            Kind::File | Kind::GnuSparse => self.file(fields.kind, &extended, block)?,
            Kind::Directory => MemberNode::Directory,
            Kind::Symlink => MemberNode::Symlink { target },
            Kind::HardLink => MemberNode::HardLink { target },
            Kind::Fifo => MemberNode::Fifo,
            Kind::CharacterDevice => MemberNode::Device { is_block: false, major, minor },
            Kind::BlockDevice => MemberNode::Device { is_block: true, major, minor },
            Kind::Unknown(flag) => return Err(ArchiveErrorKind::Type(flag)),
            // The caller took these for what they are.
            Kind::GnuLongName | Kind::GnuLongLink | Kind::Extended | Kind::Global => {
                return Err(ArchiveErrorKind::Header { offset_bytes, fault: HeaderFault::Dangling });
            }
        };
        Ok(Member { path, node, attributes })
    }

    /// Finds out how long a file is, and where its data lies.
    fn file(
        &mut self,
        kind: Kind,
        extended: &Extended,
        block: &[u8; BLOCK_LEN_BYTES],
    ) -> Outcome<MemberNode> {
        let keys = &extended.sparse;
        let (len, extents) = match (kind, keys.major, keys.minor, &keys.map) {
            (Kind::GnuSparse, ..) => self.old_map(block)?,
            (_, Some(1), Some(0), _) => (keys.size, self.line_map()?),
            (_, Some(0) | None, _, Some(map)) => (keys.size, sparse::pairs(map)?),
            _ => return Ok(MemberNode::File { len: self.left, extents: None }),
        };
        let missing = ArchiveErrorKind::Sparse(super::error::SparseFault::Map);
        let len = len.ok_or(missing)?;
        sparse::check(&extents, len, self.left)?;
        Ok(MemberNode::File { len, extents: Some(extents) })
    }

    /// Reads the map of an old GNU header, and of the blocks between it and the data.
    fn old_map(&mut self, block: &[u8; BLOCK_LEN_BYTES]) -> Outcome<(Option<u64>, Vec<Extent>)> {
        let mut extents = Vec::new();
        let header = tar::Header::from_byte_slice(block);
        let Some(gnu) = header.as_gnu() else { return Ok((None, extents)) };
        let mut goes_on = sparse::take_header(gnu, &mut extents)?;
        while goes_on {
            let block = self.block()?.ok_or(ArchiveErrorKind::Truncated)?;
            goes_on = sparse::take_block(&block, &mut extents, self.limits)?;
        }
        let len = super::numbers::field(&gnu.realsize).and_then(|it| u64::try_from(it).ok());
        Ok((len, extents))
    }

    /// Reads the map that stands before the data, and counts as data.
    fn line_map(&mut self) -> Outcome<Vec<Extent>> {
        let mut map = LineMap::default();
        loop {
            let left = self.left.checked_sub(BLOCK_LEN_BYTES as u64);
            let malformed = ArchiveErrorKind::Sparse(super::error::SparseFault::Map);
            self.left = left.ok_or(malformed)?;
            let block = self.block()?.ok_or(ArchiveErrorKind::Truncated)?;
            if let Some(extents) = map.take(&block, self.limits)? {
                return Ok(extents);
            }
        }
    }

    /// Returns the next bytes of the current entry, none of them at its end; [`consume`](Self::consume) says how many were used.
    pub(crate) fn chunk(&mut self) -> Outcome<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let bytes = filled(&mut self.input)?;
        if bytes.is_empty() {
            return Err(ArchiveErrorKind::Truncated);
        }
        Ok(&bytes[..bytes.len().min(left)])
    }

    /// Passes over the first `count` bytes of what [`chunk`](Self::chunk) returned.
    pub(crate) fn consume(&mut self, count: usize) {
        self.input.consume(count);
        self.left = self.left.saturating_sub(count as u64);
        self.offset += count as u64;
    }

    /// Says how long the data of the current entry is.
    fn expect_data(&mut self, len: u64) -> Outcome<()> {
        self.limits.check(Limited::ArchiveBytes, self.offset.saturating_add(len))?;
        self.left = len;
        self.padding = len.wrapping_neg() % BLOCK_LEN_BYTES as u64;
        Ok(())
    }

    /// Passes over the rest of the current entry.
    fn pass_over(&mut self) -> Outcome<()> {
        self.left += std::mem::take(&mut self.padding);
        loop {
            let count = self.chunk()?.len();
            if count == 0 {
                return Ok(());
            }
            self.consume(count);
        }
    }

    /// Reads a block; none at the end of the input.
    fn block(&mut self) -> Outcome<Option<[u8; BLOCK_LEN_BYTES]>> {
        let mut block = [0; BLOCK_LEN_BYTES];
        let mut len = 0;
        while len < BLOCK_LEN_BYTES {
            let bytes = filled(&mut self.input)?;
            if bytes.is_empty() {
                return if len == 0 { Ok(None) } else { Err(ArchiveErrorKind::Truncated) };
            }
            let count = bytes.len().min(BLOCK_LEN_BYTES - len);
            block[len..len + count].copy_from_slice(&bytes[..count]);
            self.input.consume(count);
            self.offset += count as u64;
            len += count;
        }
        self.limits.check(Limited::ArchiveBytes, self.offset)?;
        Ok(Some(block))
    }

    /// Reads the data of an entry that belongs to the next one.
    fn special(&mut self) -> Outcome<Vec<u8>> {
        self.limits.check(Limited::ExtendedHeaderBytes, self.left)?;
        let mut data = Vec::new();
        loop {
            let chunk = self.chunk()?;
            if chunk.is_empty() {
                return Ok(data);
            }
            data.extend_from_slice(chunk);
            let count = chunk.len();
            self.consume(count);
        }
    }

    /// Reads a long name, which a zero byte ends.
    fn long_name(&mut self) -> Outcome<Vec<u8>> {
        let mut name = self.special()?;
        name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
        Ok(name)
    }

    /// Reads all that stands behind the first zero block.
    fn end(&mut self) -> Outcome<()> {
        let offset_bytes = self.offset;
        if self.block()?.is_some_and(|block| block.iter().any(|byte| *byte != 0)) {
            return Err(ArchiveErrorKind::Header { offset_bytes, fault: HeaderFault::AfterEnd });
        }
        loop {
            let count = filled(&mut self.input)?.len();
            if count == 0 {
                return Ok(());
            }
            self.input.consume(count);
            self.offset += count as u64;
            self.limits.check(Limited::ArchiveBytes, self.offset)?;
        }
    }
}

impl Before {
    /// An archive may not end between what describes an entry and the entry.
    fn at_end(self) -> Result<Option<Member>, HeaderFault> {
        let is_alone = self.extended.is_none() && self.path.is_none() && self.link.is_none();
        if is_alone { Ok(None) } else { Err(HeaderFault::Dangling) }
    }
}

/// Fills the buffer, again where a signal came between.
fn filled<R: Read>(input: &mut BufReader<R>) -> Outcome<&[u8]> {
    loop {
        match input.fill_buf() {
            Ok(_) => break,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => (),
            Err(error) => return Err(ArchiveErrorKind::read(error)),
        }
    }
    Ok(input.buffer())
}
