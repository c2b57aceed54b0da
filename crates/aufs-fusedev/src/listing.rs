//! Answers to READDIR and READDIRPLUS: names packed one after the other.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use zerocopy::IntoBytes;

use crate::abi::replies::{Dirent, EntryOut};

/// A listing that grows up to the length the kernel offers.
#[derive(Debug)]
pub struct Listing {
    bytes: Vec<u8>,
    len_bytes_max: usize,
}

/// One name of a listing.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    /// The name.
    pub name: &'a OsStr,
    /// What programs see as `d_ino`.
    pub ino: u64,
    /// `DT_*` of `readdir(3)`: the type bits of a mode, shifted down by 12.
    pub kind: u32,
    /// Where the listing goes on after this name.
    pub next_offset: u64,
}

/// The listing has no room for one more name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Entries begin at multiples of this.
const ALIGNMENT: usize = 8;

impl Listing {
    /// Begins a listing of at most `len_bytes_max`.
    pub fn new(len_bytes_max: u32) -> Self {
        let len_bytes_max = len_bytes_max as usize;
        Self { bytes: Vec::with_capacity(len_bytes_max.min(1 << 16)), len_bytes_max }
    }

    /// Adds a name for READDIR.
    ///
    /// # Errors
    ///
    /// [`Full`]: nothing was added.
    pub fn add(&mut self, listed: &Listed<'_>) -> Result<(), Full> {
        self.push(None, listed)
    }

    /// Adds a name and its node for READDIRPLUS; node number 0 says nothing of the node.
    ///
    /// # Errors
    ///
    /// [`Full`]: nothing was added.
    pub fn add_with_entry(&mut self, entry: &EntryOut, listed: &Listed<'_>) -> Result<(), Full> {
        self.push(Some(entry), listed)
    }

    fn push(&mut self, entry: Option<&EntryOut>, listed: &Listed<'_>) -> Result<(), Full> {
        let name = listed.name.as_bytes();
        let fixed = entry.map_or(0, |_| size_of::<EntryOut>()) + size_of::<Dirent>();
        let len_bytes = (fixed + name.len()).next_multiple_of(ALIGNMENT);
        if self.len_bytes_max < self.bytes.len() + len_bytes {
            return Err(Full);
        }
        let namelen = u32::try_from(name.len()).map_err(|_| Full)?;
        if let Some(entry) = entry {
            self.bytes.extend_from_slice(entry.as_bytes());
        }
        let dirent = Dirent { ino: listed.ino, off: listed.next_offset, namelen, kind: listed.kind };
        self.bytes.extend_from_slice(dirent.as_bytes());
        self.bytes.extend_from_slice(name);
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        Ok(())
    }

    /// Returns the answer.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromBytes;

    use super::*;

    fn listed(name: &str) -> Listed<'_> {
        Listed { name: OsStr::new(name), ino: 5, kind: 8, next_offset: 3 }
    }

    #[test]
    fn names_are_padded_and_never_exceed_the_room() {
        let mut listing = Listing::new(80);
        assert_eq!(listing.add(&listed("a")), Ok(()));
        assert_eq!(listing.as_bytes().len(), 32);
        assert_eq!(listing.add(&listed("12345678")), Ok(()));
        assert_eq!(listing.as_bytes().len(), 64);
        assert_eq!(listing.add(&listed("b")), Err(Full), "32 more would be 96");
        let (dirent, rest) = Dirent::read_from_prefix(&listing.as_bytes()[32..]).unwrap();
        assert_eq!((dirent.ino, dirent.off, dirent.namelen, dirent.kind), (5, 3, 8, 8));
        assert_eq!(rest, b"12345678");
    }

    #[test]
    fn an_entry_stands_before_its_name() {
        let entry = EntryOut { nodeid: 9, ..EntryOut::read_from_bytes(&[0; 128]).unwrap() };
        let mut listing = Listing::new(4096);
        assert_eq!(listing.add_with_entry(&entry, &listed("a")), Ok(()));
        assert_eq!(listing.as_bytes().len(), 160);
        assert_eq!(EntryOut::read_from_prefix(listing.as_bytes()).unwrap().0.nodeid, 9);
    }
}
