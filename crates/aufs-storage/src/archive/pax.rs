//! Extended headers of POSIX archives: records `LEN KEY=VALUE\n`. Pure.
//!
//! The `tar` crate divides an extended header into lines and so takes no value with a line feed apart rightly, of which
//! the bytes of a capability are one; and it has no limit on their length. Hence a reader of our own.

use std::collections::BTreeMap;

use super::error::{ArchiveErrorKind, Outcome, PaxFault};
use super::limits::{Limited, Limits};
use super::numbers::{self, Time};

/// The key that attributes have in front of their name.
pub(crate) const XATTR_PREFIX: &str = "SCHILY.xattr.";

/// What an extended header says of the entry after it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Extended {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<Time>,
    pub(crate) atime: Option<Time>,
    /// Value of each attribute by its name; a map, as a header may have tens of thousands.
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) sparse: SparseKeys,
}

/// The records `GNU.sparse.*`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SparseKeys {
    pub(crate) major: Option<u64>,
    pub(crate) minor: Option<u64>,
    pub(crate) name: Option<Vec<u8>>,
    /// Length of the file with its holes, in bytes.
    pub(crate) size: Option<u64>,
    /// Offsets and lengths in turn, of `GNU.sparse.map` or of `GNU.sparse.offset` and `.numbytes`.
    pub(crate) map: Option<Vec<u64>>,
}

/// Reads the records of an extended header.
pub(crate) fn parse(mut bytes: &[u8], limits: &Limits) -> Outcome<Extended> {
    let mut extended = Extended::default();
    let mut xattr_bytes = 0;
    while !bytes.is_empty() {
        let (record, rest) = record(bytes).ok_or(ArchiveErrorKind::Pax(PaxFault::Record))?;
        bytes = rest;
        if let Some(name) = record.key.strip_prefix(XATTR_PREFIX.as_bytes()) {
            xattr_bytes += (name.len() + record.value.len()) as u64;
            limits.check(Limited::XattrBytes, xattr_bytes)?;
            extended.set_xattr(name, record.value)?;
        } else if let Some(key) = record.key.strip_prefix(b"GNU.sparse.") {
            extended.sparse.take(key, record.value, limits)?;
        } else {
            extended.take(&record)?;
        }
    }
    Ok(extended)
}

/// One record.
struct Record<'a> {
    key: &'a [u8],
    value: &'a [u8],
}

/// Takes the first record off `bytes`.
fn record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let len = usize::try_from(numbers::decimal(bytes.get(..space)?)?).ok()?;
    let body = bytes.get(space + 1..len)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    let key = body.get(..equals).filter(|it| !it.is_empty())?;
    Some((Record { key, value: body.get(equals + 1..)? }, bytes.get(len..)?))
}

impl Extended {
    fn take(&mut self, record: &Record<'_>) -> Outcome<()> {
        let value = record.value;
        let text = |name| if value.contains(&0) { Err(PaxFault::Zero(name)) } else { Ok(value.to_vec()) };
        let number = |name| numbers::decimal(value).ok_or(PaxFault::Number(name));
        let time = |name| numbers::time(value).ok_or(PaxFault::Number(name));
        // An empty value takes back what an earlier record said.
        let is_given = !value.is_empty();
        let taken = match record.key {
            b"path" => set(&mut self.path, is_given, || text("path")),
            b"linkpath" => set(&mut self.link, is_given, || text("linkpath")),
            b"size" => set(&mut self.size, is_given, || number("size")),
            b"uid" => set(&mut self.uid, is_given, || number("uid")),
            b"gid" => set(&mut self.gid, is_given, || number("gid")),
            b"mtime" => set(&mut self.mtime, is_given, || time("mtime")),
            b"atime" => set(&mut self.atime, is_given, || time("atime")),
            _ => Ok(()),
        };
        taken.map_err(ArchiveErrorKind::Pax)
    }

    fn set_xattr(&mut self, name: &[u8], value: &[u8]) -> Outcome<()> {
        if name.contains(&0) {
            return Err(ArchiveErrorKind::Pax(PaxFault::Zero("an attribute's name")));
        }
        self.xattrs.insert(name.to_vec(), value.to_vec());
        Ok(())
    }
}

fn set<T>(
    field: &mut Option<T>,
    is_given: bool,
    value: impl FnOnce() -> Result<T, PaxFault>,
) -> Result<(), PaxFault> {
    *field = if is_given { Some(value()?) } else { None };
    Ok(())
}

impl SparseKeys {
    fn take(&mut self, key: &[u8], value: &[u8], limits: &Limits) -> Outcome<()> {
        let number = |name| numbers::decimal(value).ok_or(ArchiveErrorKind::Pax(PaxFault::Number(name)));
        match key {
            b"major" => self.major = Some(number("GNU.sparse.major")?),
            b"minor" => self.minor = Some(number("GNU.sparse.minor")?),
            b"size" | b"realsize" => self.size = Some(number("GNU.sparse.size")?),
            b"name" if value.contains(&0) => {
                return Err(ArchiveErrorKind::Pax(PaxFault::Zero("GNU.sparse.name")));
            }
            b"name" => self.name = (!value.is_empty()).then(|| value.to_vec()),
            b"offset" | b"numbytes" => {
                let map = self.map.get_or_insert_default();
                limits.check(Limited::Extents, map.len() as u64 / 2)?;
                map.push(number("GNU.sparse.offset")?);
            }
            b"map" => self.map = Some(numbers_of(value, limits)?),
            _ => (),
        }
        Ok(())
    }
}

/// The numbers of `GNU.sparse.map`, which commas divide.
fn numbers_of(value: &[u8], limits: &Limits) -> Outcome<Vec<u64>> {
    let mut numbers = Vec::new();
    for text in value.split(|byte| *byte == b',') {
        limits.check(Limited::Extents, numbers.len() as u64 / 2)?;
        let number =
            numbers::decimal(text).ok_or(ArchiveErrorKind::Pax(PaxFault::Number("GNU.sparse.map")))?;
        numbers.push(number);
    }
    Ok(numbers)
}

/// Appends a record to an extended header that is being written.
pub(crate) fn push(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // The length counts its own digits.
    let bare = key.len() + value.len() + 3;
    let mut len = bare + digits(bare);
    while bare + digits(len) != len {
        len = bare + digits(len);
    }
    records.extend_from_slice(len.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.to_string().len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(bytes: &[u8]) -> Result<Extended, String> {
        parse(bytes, &Limits { xattr_bytes: 1000, extents: 4, ..Limits::default() })
            .map_err(|it| it.to_string())
    }

    #[test]
    fn records_are_divided_by_their_length() {
        let said = parsed(b"12 path=a/b\n30 mtime=1350244992.023960108\n").unwrap();
        assert_eq!(said.path, Some(b"a/b".to_vec()));
        assert_eq!(said.mtime, Some(Time { seconds: 1_350_244_992, nanoseconds: 23_960_108 }));
        // A capability may hold any byte, a line feed and a zero among them.
        let said = parsed(b"26 SCHILY.xattr.user.x=\n\0\n").unwrap();
        assert_eq!(said.xattrs, BTreeMap::from([(b"user.x".to_vec(), b"\n\0".to_vec())]));
        // Later records count, and empty ones take back.
        let said = parsed(b"9 path=a\n9 path=b\n9 size=1\n8 size=\n").unwrap();
        assert_eq!((said.path, said.size), (Some(b"b".to_vec()), None));
    }

    #[test]
    fn malformed_records_are_refused() {
        for bytes in [
            &b"x"[..],
            b"5 a=b",
            b"6 a=b",
            b"6 a=bc",
            b"0 a=b\n",
            b"-6 a=b\n",
            b"+6 a=b\n",
            b"99 a=b\n",
            b"5 =b\n\n",
            b"5 ab\n",
            b"6 a=b\n\0\0\0",
            b"99999999999999999999 a=b\n",
            b"3 \n",
            b"1 ",
        ] {
            assert_eq!(parsed(bytes).unwrap_err(), "extended header: a record is malformed", "{bytes:?}");
        }
        for (bytes, expected) in [
            (&b"12 path=a\0b\n"[..], "extended header: a zero byte in path"),
            (b"11 size=-1\n", "extended header: size is no number that fits"),
            (b"24 GNU.sparse.map=1,2,x\n", "extended header: GNU.sparse.map is no number that fits"),
        ] {
            assert_eq!(parsed(bytes).unwrap_err().to_string(), expected, "{bytes:?}");
        }
        let mut long = Vec::new();
        push(&mut long, b"SCHILY.xattr.user.long", &[b'x'; 1001]);
        assert_eq!(parsed(&long).unwrap_err(), "more than 1000 bytes of attributes of an entry");
        let mut map = Vec::new();
        push(&mut map, b"GNU.sparse.map", "1,".repeat(20).trim_end_matches(',').as_bytes());
        assert_eq!(parsed(&map).unwrap_err(), "more than 4 pieces of a sparse file");
    }

    proptest! {
        #[test]
        fn what_is_pushed_reads_back(records in prop::collection::vec(
            ("[a-z]{1,8}", prop::collection::vec(any::<u8>(), 0..1200)), 0..4)
        ) {
            let mut bytes = Vec::new();
            for (key, value) in &records {
                push(&mut bytes, key.as_bytes(), value);
            }
            let mut rest = bytes.as_slice();
            for (key, value) in &records {
                let (read, left) = record(rest).unwrap();
                prop_assert_eq!((read.key, read.value), (key.as_bytes(), value.as_slice()));
                rest = left;
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            drop(parse(&bytes, &Limits::default()));
        }
    }
}
