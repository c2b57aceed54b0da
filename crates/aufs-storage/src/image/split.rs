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

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;

/// Length of the units of an archive, in bytes.
const BLOCK: u64 = 512;

/// Longest run of bytes in one record, and longest header of names and attributes that is looked into.
const RAW_LEN_MAX: usize = 1 << 20;

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
    seen: HashSet<Vec<u8>>,
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
            seen: HashSet::new(),
            is_faithful: true,
        }
    }

    /// Ends the records; returns the reader, the writer, and whether the directory will hold what the records do not.
    ///
    /// It will not where two entries have one path.
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
                State::Header => BLOCK - self.header.len() as u64,
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
                if (self.header.len() as u64) < BLOCK {
                    return Ok(());
                }
                let header = std::mem::take(&mut self.header);
                self.entry(&header)?
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
    fn entry(&mut self, header: &[u8]) -> io::Result<State> {
        if header.iter().all(|it| *it == 0) {
            self.keep(header)?;
            return Ok(State::Header);
        }
        let (path, long_len) = (self.path.take(), self.len.take());
        let Some(len) = long_len.or(number(field(header, 124, 12))) else {
            // Nobody can know what follows; it is all kept.
            self.keep(header)?;
            return Ok(State::Kept(u64::MAX));
        };
        let padding = len.next_multiple_of(BLOCK) - len;
        match field(header, 156, 1) {
            b"x" | b"L" if len <= RAW_LEN_MAX as u64 => {
                self.keep(header)?;
                self.path = path;
                self.flush()?;
                let is_name = field(header, 156, 1) == b"L";
                let next =
                    if is_name { State::LongName(len, padding) } else { State::Attributes(len, padding) };
                Ok(if len == 0 { kept(padding) } else { next })
            }
            b"0" | b"\0" | b"7" if 0 < len => {
                self.keep(header)?;
                match plain(&path.unwrap_or_else(|| own_path(header))) {
                    Some(path) => {
                        self.content(len, &path)?;
                        Ok(State::Content(len, padding))
                    }
                    None => Ok(kept(len + padding)),
                }
            }
            // These tell of the entry that follows, as may another before them.
            b"g" | b"K" => {
                self.keep(header)?;
                (self.path, self.len) = (path, long_len);
                Ok(kept(len + padding))
            }
            // An old sparse file has more headers than its own says, so where it ends is not known here.
            b"S" => {
                self.keep(header)?;
                Ok(State::Kept(u64::MAX))
            }
            // Links, directories and devices have no content, whatever their headers say.
            b"1" | b"2" | b"3" | b"4" | b"5" | b"6" => {
                self.keep(header)?;
                Ok(State::Header)
            }
            _ => {
                self.keep(header)?;
                Ok(kept(len + padding))
            }
        }
    }

    fn attributes(&mut self, padding: u64) -> io::Result<State> {
        let text = std::mem::take(&mut self.pending);
        for (key, value) in pax_records(&text) {
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"size" => self.len = std::str::from_utf8(value).ok().and_then(|it| it.parse().ok()),
                // What follows is no plain content then.
                _ if key.starts_with(b"GNU.sparse.") => self.path = Some(b"..".to_vec()),
                _ => {}
            }
        }
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
        self.is_faithful &= self.seen.insert(path.to_vec());
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

fn field(header: &[u8], start: usize, len: usize) -> &[u8] {
    header.get(start..start + len).unwrap_or_default()
}

/// Reads a number of a header: octal digits, or big-endian bytes after a first one of 0x80.
fn number(field: &[u8]) -> Option<u64> {
    if field.first().is_some_and(|it| it & 0x80 != 0) {
        let high = field.get(1..field.len() - 8)?;
        let low: [u8; 8] = field.get(field.len() - 8..)?.try_into().ok()?;
        let is_small = field.first() == Some(&0x80) && high.iter().all(|it| *it == 0);
        // Lengths near the end of the range would overflow with their padding, and no disk holds them.
        return Some(u64::from_be_bytes(low)).filter(|it| is_small && *it < 1 << 62);
    }
    let text = std::str::from_utf8(field).ok()?;
    let digits = text.trim_matches(|it| it == ' ' || it == '\0');
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}

/// The path in a header: its name, in POSIX headers after a prefix.
fn own_path(header: &[u8]) -> Vec<u8> {
    let text = |start, len| {
        let bytes = field(header, start, len);
        bytes.split(|it| *it == 0).next().unwrap_or_default().to_vec()
    };
    let (name, prefix) = (text(0, 100), text(345, 155));
    // GNU's own format keeps times in the place of the prefix.
    let is_posix = field(header, 257, 8).starts_with(b"ustar\0");
    if is_posix && !prefix.is_empty() { [prefix.as_slice(), b"/", &name].concat() } else { name }
}

/// The path below the layer, if it leads there without detours.
fn plain(path: &[u8]) -> Option<Vec<u8>> {
    let components: Vec<&[u8]> =
        path.split(|it| *it == b'/').filter(|it| !it.is_empty() && *it != b".").collect();
    let is_odd = components.is_empty() || components.iter().any(|it| *it == b".." || it.contains(&0));
    (!is_odd).then(|| components.join(&b'/'))
}

/// The records of an attribute header, `LEN KEY=VALUE\n` each; what is malformed ends them.
fn pax_records(mut text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let blank = text.iter().position(|it| *it == b' ')?;
        let len: usize = std::str::from_utf8(&text[..blank]).ok()?.parse().ok()?;
        let record = text.get(blank + 1..len)?.strip_suffix(b"\n")?;
        text = &text[len..];
        let equals = record.iter().position(|it| *it == b'=')?;
        Some((&record[..equals], &record[equals + 1..]))
    })
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
            prop_assert!(is_faithful && records.len() <= archive.len() - content_len + overhead);
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

    #[test]
    fn numbers_are_octal_or_binary() {
        for (field, expected) in [
            (&b"00000000017\0"[..], Some(15)),
            (b"         17 ", Some(15)),
            (b"\0\0\0\0\0\0\0\0\0\0\0\0", Some(0)),
            (b"\x80\0\0\0\0\0\0\x02\0\0\0\0", Some(2 << 32)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"00000000018\0", None),
            (b"-1         \0", None),
        ] {
            assert_eq!(number(field), expected, "{field:?}");
        }
    }
}
