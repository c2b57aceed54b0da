//! What an archive holds besides the content of its files, so that it can be put together again byte for byte.
//!
//! A layer is known by the digest of its archive, but kept as a directory. When it
//! is unpacked, everything in the archive that the directory will not hold is
//! kept beside it: headers, padding, the order of things. As Docker's tar-split,
//! but with records of our own:
//!
//! | byte | then                                              | stands for                    |
//! |------|---------------------------------------------------|-------------------------------|
//! | 0    | length (4 bytes, little-endian), bytes            | bytes of the archive          |
//! | 1    | length (8), length of the path (2), path          | the content of that file      |

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;

use crate::archive::Limits;
use crate::archive::header::{self, BLOCK_LEN_BYTES, Kind};
use crate::archive::pax::{self, SparseKeys};

/// Longest run of bytes in one record, and longest header of names and attributes that is looked into.
const RAW_LEN_MAX: usize = 1 << 20;

/// Longest entry whose content is looked for in a directory.
const MAX_LEN: u64 = 1 << 62;

/// A path that leads to no file of a layer.
const NOWHERE: &[u8] = b"..";

const RAW: u8 = 0;
const CONTENT: u8 = 1;

/// Reads an archive on its way to somebody else, and writes what its files will not hold to `out`.
#[derive(Debug)]
pub struct Splitter<R, W> {
    inner: R,
    out: W,
    state: State,
    /// Bytes that belong together until they are judged or written.
    pending: Vec<u8>,
    /// Header bytes of the entry at hand, until there are 512.
    header: Vec<u8>,
    /// Path and length that headers before the entry's own gave it.
    path: Option<Vec<u8>>,
    len: Option<u64>,
    /// Paths of the archive, and what each is.
    seen: BTreeMap<Vec<u8>, Kind>,
    is_faithful: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    /// Content of a file: so many bytes, then so much padding.
    Content(u64, u64),
    /// Bytes that are kept: so many.
    Kept(u64),
    /// A header of attributes (`x`) or a long name (`L`): so many bytes, then so much padding.
    Attributes(u64, u64),
    LongName(u64, u64),
}

impl<R: Read, W: Write> Splitter<R, W> {
    /// Reads from `inner`.
    pub fn new(inner: R, out: W) -> Self {
        Self {
            inner,
            out,
            state: State::Header,
            pending: Vec::new(),
            header: Vec::new(),
            path: None,
            len: None,
            seen: BTreeMap::new(),
            is_faithful: true,
        }
    }

    /// Ends the records; returns the reader, the writer, and whether the directory will hold what the records do not.
    ///
    /// It will not where entries replace each other.
    ///
    /// # Errors
    ///
    /// What writing reports.
    pub fn finish(mut self) -> io::Result<(R, W, bool)> {
        // A header that ends in the middle is for the reader of the archive to complain about.
        let header = std::mem::take(&mut self.header);
        self.keep(&header)?;
        self.flush()?;
        Ok((self.inner, self.out, self.is_faithful))
    }

    fn feed(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let want = match self.state {
                State::Header => (BLOCK_LEN_BYTES - self.header.len()) as u64,
                State::Content(len, _)
                | State::Kept(len)
                | State::Attributes(len, _)
                | State::LongName(len, _) => len,
            };
            let taken = usize::try_from(want).unwrap_or(usize::MAX).min(bytes.len());
            let (now, rest) = bytes.split_at(taken);
            bytes = rest;
            self.take(now)?;
        }
        Ok(())
    }

    /// Takes bytes that all belong to the present state.
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        let len = bytes.len() as u64;
        self.state = match self.state {
            State::Header => {
                self.header.extend_from_slice(bytes);
                let Ok(block) = <[u8; BLOCK_LEN_BYTES]>::try_from(self.header.as_slice()) else {
                    return Ok(());
                };
                self.header.clear();
                self.entry(&block)?
            }
            // The record says it; the bytes are in the directory.
            State::Content(left, padding) if left == len => kept(padding),
            State::Content(left, padding) => State::Content(left - len, padding),
            State::Kept(left) => {
                self.keep(bytes)?;
                kept(left - len)
            }
            State::Attributes(left, padding) | State::LongName(left, padding) => {
                self.pending.extend_from_slice(bytes);
                match (left == len, self.state) {
                    (true, State::Attributes(..)) => self.attributes(padding)?,
                    (true, _) => self.long_name(padding)?,
                    (false, State::Attributes(..)) => State::Attributes(left - len, padding),
                    (false, _) => State::LongName(left - len, padding),
                }
            }
        };
        Ok(())
    }

    /// Judges an entry by its header.
    fn entry(&mut self, block: &[u8; BLOCK_LEN_BYTES]) -> io::Result<State> {
        self.keep(block)?;
        let Ok(Some(fields)) = header::parse(block) else {
            // The end, behind which nothing means anything, or what whoever unpacks the archive will refuse.
            return Ok(State::Kept(u64::MAX));
        };
        let (path, long_len) = (self.path.take(), self.len.take());
        let len = long_len.filter(|_| header::has_data(fields.kind)).unwrap_or(fields.size);
        // No archive is so long; near the end of the range the padding would overflow.
        if MAX_LEN < len {
            return Ok(State::Kept(u64::MAX));
        }
        let padding = len.next_multiple_of(BLOCK_LEN_BYTES as u64) - len;
        Ok(match fields.kind {
            Kind::Extended | Kind::GnuLongName if 0 < len && len <= RAW_LEN_MAX as u64 => {
                self.path = path;
                self.flush()?;
                match fields.kind {
                    Kind::Extended => State::Attributes(len, padding),
                    _ => State::LongName(len, padding),
                }
            }
            // These tell of the entry that follows, as may another before them.
            Kind::GnuLongLink | Kind::Global => {
                (self.path, self.len) = (path, long_len);
                kept(len + padding)
            }
            // An old sparse file has more headers than its own says, so where it ends is not known here.
            Kind::GnuSparse => State::Kept(u64::MAX),
            kind => match plain(&path.unwrap_or(fields.path)) {
                Some(path) => {
                    self.see(&path, kind);
                    if kind == Kind::File && 0 < len {
                        self.content(len, &path)?;
                        State::Content(len, padding)
                    } else {
                        kept(len + padding)
                    }
                }
                None => kept(len + padding),
            },
        })
    }

    /// Notes a path; of two entries that cannot both be there the directory will hold only the later.
    fn see(&mut self, path: &[u8], kind: Kind) {
        let is_dir = kind == Kind::Directory;
        let replaces = self.seen.get(path).is_some_and(|it| !is_dir || *it != Kind::Directory);
        let inside = [path, b"/"].concat();
        let mut below = self.seen.range(inside.clone()..).take_while(|it| it.0.starts_with(&inside));
        let removes = !is_dir && below.next().is_some();
        let slashes = path.iter().enumerate().filter(|it| *it.1 == b'/').map(|it| it.0);
        let is_below_file = { slashes }.any(|at| self.seen.get(&path[..at]) == Some(&Kind::File));
        self.is_faithful &= !(replaces || removes || is_below_file);
        self.seen.insert(path.to_vec(), kind);
    }

    fn attributes(&mut self, padding: u64) -> io::Result<State> {
        let text = std::mem::take(&mut self.pending);
        // What is malformed is refused by whoever unpacks the archive.
        let said = pax::parse(&text, &Limits::default()).unwrap_or_default();
        self.len = said.size;
        // A long name of GNU beats that of an extended header. What is sparse is no plain content.
        let is_plain = said.sparse == SparseKeys::default();
        self.path = if is_plain { self.path.take().or(said.path) } else { Some(NOWHERE.to_vec()) };
        self.keep(&text)?;
        Ok(kept(padding))
    }

    fn long_name(&mut self, padding: u64) -> io::Result<State> {
        let text = std::mem::take(&mut self.pending);
        let end = text.iter().position(|it| *it == 0).unwrap_or(text.len());
        self.path = Some(text[..end].to_vec());
        self.keep(&text)?;
        Ok(kept(padding))
    }

    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(bytes);
        if RAW_LEN_MAX <= self.pending.len() { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        for bytes in std::mem::take(&mut self.pending).chunks(RAW_LEN_MAX) {
            let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
            self.out.write_all(&[RAW])?;
            self.out.write_all(&len.to_le_bytes())?;
            self.out.write_all(bytes)?;
        }
        Ok(())
    }

    fn content(&mut self, len: u64, path: &[u8]) -> io::Result<()> {
        self.flush()?;
        self.out.write_all(&[CONTENT])?;
        self.out.write_all(&len.to_le_bytes())?;
        let path_len = u16::try_from(path.len()).map_err(io::Error::other)?;
        self.out.write_all(&path_len.to_le_bytes())?;
        self.out.write_all(path)
    }
}

impl<R: Read, W: Write> Read for Splitter<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.feed(buffer.get(..len).unwrap_or_default())?;
        Ok(len)
    }
}

fn kept(len: u64) -> State {
    if len == 0 { State::Header } else { State::Kept(len) }
}

/// The path below the layer, if it leads there without detours.
fn plain(path: &[u8]) -> Option<Vec<u8>> {
    let components: Vec<&[u8]> =
        path.split(|it| *it == b'/').filter(|it| !it.is_empty() && *it != b".").collect();
    // What a host kept for itself at the root of a layer is not unpacked.
    let is_bookkeeping = components.first().is_some_and(|it| it.starts_with(b".wh..wh."));
    let is_odd = components.is_empty() || components.iter().any(|it| *it == b".." || it.contains(&0));
    (!is_odd && !is_bookkeeping).then(|| components.join(&b'/'))
}

/// Puts an archive together: reads records, takes the content of files from `content`, and writes to `out`.
///
/// # Errors
///
/// `InvalidData` for records that are none, what `content` reports for a file, `UnexpectedEof` for one that
/// is shorter than it was, and what reading and writing report.
pub fn assemble<C: Read>(
    mut records: impl Read,
    mut content: impl FnMut(&OsStr) -> io::Result<C>,
    mut out: impl Write,
) -> io::Result<()> {
    let mut kind = [0];
    while records.read(&mut kind)? == 1 {
        if kind == [RAW] {
            let len = u64::from(u32::from_le_bytes(array(&mut records)?));
            copy_exactly(&mut records, len, &mut out)?;
        } else if kind == [CONTENT] {
            let len = u64::from_le_bytes(array(&mut records)?);
            let mut path = vec![0; usize::from(u16::from_le_bytes(array(&mut records)?))];
            records.read_exact(&mut path)?;
            copy_exactly(content(OsStr::from_bytes(&path))?, len, &mut out)?;
        } else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not the records of an archive"));
        }
    }
    Ok(())
}

fn array<const LEN: usize>(from: &mut impl Read) -> io::Result<[u8; LEN]> {
    let mut bytes = [0; LEN];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn copy_exactly(from: impl Read, len: u64, out: &mut impl Write) -> io::Result<()> {
    let copied = io::copy(&mut from.take(len), out)?;
    if copied == len { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Splits an archive read in pieces of these lengths; returns the records.
    fn split(archive: &[u8], pieces: &[usize]) -> (Vec<u8>, bool) {
        let mut splitter = Splitter::new(archive, Vec::new());
        let mut buffer = vec![0; 10_000];
        let mut pieces = pieces.iter().cycle();
        let mut read = Vec::new();
        loop {
            let len = splitter.read(&mut buffer[..*pieces.next().unwrap()]).unwrap();
            if len == 0 {
                break;
            }
            read.extend_from_slice(&buffer[..len]);
        }
        assert_eq!(read, archive, "what is read is the archive");
        let (_, records, is_faithful) = splitter.finish().unwrap();
        (records, is_faithful)
    }

    fn put_together(records: &[u8], files: &HashMap<Vec<u8>, Vec<u8>>) -> io::Result<Vec<u8>> {
        let mut archive = Vec::new();
        let content = |path: &OsStr| {
            let found = files.get(path.as_bytes()).ok_or(io::ErrorKind::NotFound);
            Ok(io::Cursor::new(found?.clone()))
        };
        assemble(records, content, &mut archive)?;
        Ok(archive)
    }

    fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (at, (path, bytes)) in files.iter().enumerate() {
            let mut header = if at % 2 == 0 { tar::Header::new_gnu() } else { tar::Header::new_ustar() };
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            if at % 3 == 0 {
                builder.append_pax_extensions([("SCHILY.xattr.user.a", &b"x"[..])]).unwrap();
            }
            builder.append_data(&mut header, path, bytes.as_slice()).unwrap();
            let mut link = tar::Header::new_gnu();
            link.set_entry_type(tar::EntryType::Symlink);
            link.set_size(0);
            builder.append_link(&mut link, format!("{path}.link"), "l".repeat(at * 60 + 1)).unwrap();
        }
        builder.into_inner().unwrap()
    }

    proptest! {
        #[test]
        fn an_archive_comes_back_byte_for_byte(
            files in prop::collection::hash_map(
                prop_oneof!["[a-z]{1,9}(/[a-z]{1,9}){0,3}", "[a-z]{20}(/[a-z]{40}){2,6}"],
                prop::collection::vec(any::<u8>(), 0..2000),
                0..6,
            ),
            pieces in prop::collection::vec(1_usize..5000, 1..5),
        ) {
            let files: Vec<_> = files.into_iter().collect();
            let archive = archive(&files);
            let (records, is_faithful) = split(&archive, &pieces);
            let contents: HashMap<_, _> = files.iter().map(|it| (it.0.clone().into_bytes(), it.1.clone())).collect();
            prop_assert_eq!(put_together(&records, &contents).unwrap(), archive.clone());
            let content_len: usize = files.iter().map(|it| it.1.len()).sum();
            let overhead = 16 * archive.len().div_ceil(512) + 300 * files.len();
            prop_assert!(records.len() <= archive.len() - content_len + overhead);
            // A file cannot be where others lie below it.
            let is_parent = |it: &String| files.iter().any(|other| other.0.starts_with(&format!("{it}/")));
            prop_assert_eq!(is_faithful, !files.iter().any(|it| is_parent(&it.0)));
        }

        #[test]
        fn no_bytes_panic_and_all_come_back(
            files in prop::collection::vec(("[a-z]{1,3}", prop::collection::vec(any::<u8>(), 0..900)), 1..3),
            damage in prop::collection::vec((0_usize..4000, any::<u8>()), 1..8),
            end in 0_usize..6000,
        ) {
            let mut archive = archive(&files);
            for (at, byte) in damage {
                let len = archive.len();
                archive[at % len] = byte;
            }
            archive.truncate(end);
            let (records, _) = split(&archive, &[512]);
            // Whatever a damaged header calls its file, the content is asked for under that name.
            let mut rest: &[u8] = &archive;
            let mut together = Vec::new();
            let content = |_: &OsStr| Ok(io::repeat(0));
            if assemble(&records[..], content, &mut together).is_ok() {
                prop_assert!(archive.len() <= together.len());
            }
            rest.read_to_end(&mut together).unwrap();
        }
    }

    #[test]
    fn what_a_directory_cannot_hold_twice_is_told() {
        let twice = [("a".to_owned(), b"one".to_vec()), ("./a".to_owned(), b"two".to_vec())];
        assert!(!split(&archive(&twice), &[100]).1);
        let up = [("a".to_owned(), b"one".to_vec())];
        let (records, _) = split(&archive(&up), &[100]);
        assert!(put_together(&records, &HashMap::new()).is_err(), "a file that is gone");
        let short = HashMap::from([(b"a".to_vec(), b"on".to_vec())]);
        assert_eq!(put_together(&records, &short).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(put_together(b"\x07", &HashMap::new()).is_err());
    }
}
