//! Writes entries of an archive: POSIX headers, with an extended one where a field does not hold its value.
//!
//! The same entries give the same bytes, whatever the version of a library.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::Stat;
use tar::{EntryType, Header};

use super::header::BLOCK_LEN_BYTES;
use super::kept_xattrs::Attribute;
use super::pax;

/// Longest name and longest link target that a header holds, in bytes.
const TEXT_LEN_MAX: usize = 100;
/// Largest user and group, and largest size and time, that fit into the digits of their fields.
const ID_MAX: u32 = 0o7_777_777;
const NUMBER_MAX: u64 = 0o77_777_777_777;

/// An entry to be written.
#[derive(Debug, Clone)]
pub(super) struct Entry<'a> {
    /// Relative, a directory with a slash at its end.
    pub(super) path: &'a [u8],
    pub(super) kind: EntryType,
    pub(super) link: &'a [u8],
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Of what follows the header.
    pub(super) size: u64,
    /// Length of a file whose data comes with a map of its holes, as [`sparse::print_map`](super::sparse::print_map) makes it.
    pub(super) sparse_len: Option<u64>,
    /// Seconds since the epoch.
    pub(super) mtime: i64,
    pub(super) device: (u32, u32),
    pub(super) xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

/// An archive on its way out.
pub(super) struct Writer<W> {
    out: W,
    /// Bytes written so far.
    pub(super) count: u64,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, count: 0 }
    }

    /// Writes bytes as they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.count += bytes.len() as u64;
        Ok(())
    }

    /// Fills up the last block of data.
    pub(super) fn pad(&mut self) -> io::Result<()> {
        let filled = self.count % BLOCK_LEN_BYTES as u64;
        match usize::try_from(filled) {
            Ok(filled) if filled != 0 => self.bytes(&[0; BLOCK_LEN_BYTES][filled..]),
            _ => Ok(()),
        }
    }

    /// Ends the archive.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.bytes(&[0; 2 * BLOCK_LEN_BYTES])?;
        self.out.flush()
    }

    /// Writes the header of an entry, whose data comes next.
    pub(super) fn header(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let records = records_of(entry);
        if !records.is_empty() {
            let name = OsStr::from_bytes(entry.path.strip_suffix(b"/").unwrap_or(entry.path));
            let base = name.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            let path = [b"PaxHeaders.0/", base].concat();
            let mut header = Header::new_ustar();
            put_text(&mut header.as_old_mut().name, &path);
            header.set_entry_type(EntryType::XHeader);
            header.set_mode(0o644);
            put_numbers(&mut header, 0, 0, records.len() as u64, 0);
            header.set_cksum();
            self.bytes(header.as_bytes())?;
            self.bytes(&records)?;
            self.pad()?;
        }
        let mut header = Header::new_ustar();
        put_text(&mut header.as_old_mut().name, entry.path);
        put_text(&mut header.as_old_mut().linkname, entry.link);
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode & 0o7777);
        let mtime = u64::try_from(entry.mtime).unwrap_or_default();
        put_numbers(&mut header, entry.uid, entry.gid, entry.size, mtime);
        header.set_device_major(entry.device.0)?;
        header.set_device_minor(entry.device.1)?;
        header.set_cksum();
        self.bytes(header.as_bytes())
    }
}

/// A marker: its name says all there is to know.
pub(super) fn marker(path: &[u8]) -> Entry<'_> {
    Entry {
        path,
        kind: EntryType::Regular,
        link: b"",
        mode: 0o444,
        uid: 0,
        gid: 0,
        size: 0,
        sparse_len: None,
        mtime: 0,
        device: (0, 0),
        xattrs: &[],
    }
}

/// An entry with the attributes of a file, but without data.
pub(super) fn entry_of<'a>(path: &'a [u8], stat: &Stat, xattrs: &'a [Attribute]) -> Entry<'a> {
    Entry {
        path,
        kind: EntryType::Regular,
        link: b"",
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: 0,
        sparse_len: None,
        mtime: stat.st_mtime,
        device: (0, 0),
        xattrs,
    }
}

/// The records that say what the header cannot, in the order of their keys.
fn records_of(entry: &Entry<'_>) -> Vec<u8> {
    let mut said: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut say = |key: &str, value: Vec<u8>| said.insert(key.as_bytes().to_vec(), value);
    for (key, text) in [("path", entry.path), ("linkpath", entry.link)] {
        if TEXT_LEN_MAX < text.len() || !text.is_ascii() {
            say(key, text.to_vec());
        }
    }
    for (key, id) in [("uid", entry.uid), ("gid", entry.gid)] {
        if ID_MAX < id {
            say(key, id.to_string().into_bytes());
        }
    }
    if NUMBER_MAX < entry.size {
        say("size", entry.size.to_string().into_bytes());
    }
    if !(0..=NUMBER_MAX.cast_signed()).contains(&entry.mtime) {
        say("mtime", entry.mtime.to_string().into_bytes());
    }
    if let Some(len) = entry.sparse_len {
        say("GNU.sparse.major", b"1".to_vec());
        say("GNU.sparse.minor", b"0".to_vec());
        say("GNU.sparse.name", entry.path.to_vec());
        say("GNU.sparse.realsize", len.to_string().into_bytes());
    }
    for (name, value) in entry.xattrs {
        said.insert([pax::XATTR_PREFIX.as_bytes(), name].concat(), value.clone());
    }
    let mut records = Vec::new();
    for (key, value) in &said {
        pax::push(&mut records, key, value);
    }
    records
}

/// Puts as much of `text` into a field as fits, for readers that know no extended headers.
fn put_text(field: &mut [u8; TEXT_LEN_MAX], text: &[u8]) {
    let ascii = text.iter().filter(|byte| byte.is_ascii());
    for (slot, byte) in field.iter_mut().zip(ascii) {
        *slot = *byte;
    }
}

/// Puts those numbers into a header that fit, and 0 for others.
fn put_numbers(header: &mut Header, uid: u32, gid: u32, size: u64, mtime: u64) {
    let fitting = |number: u64, max: u64| if number <= max { number } else { 0 };
    header.set_uid(fitting(uid.into(), ID_MAX.into()));
    header.set_gid(fitting(gid.into(), ID_MAX.into()));
    header.set_size(fitting(size, NUMBER_MAX));
    header.set_mtime(fitting(mtime, NUMBER_MAX));
}
