//! A name that a directory, its index and a node share.

use std::ffi::OsStr;
use std::fmt;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;

use triomphe::ThinArc;

/// One allocation behind one word, however many hold it: with a million files known, words count.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct FileName(ThinArc<(), u8>);

impl From<&OsStr> for FileName {
    fn from(name: &OsStr) -> Self {
        Self(ThinArc::from_header_and_slice((), name.as_bytes()))
    }
}

impl Deref for FileName {
    type Target = OsStr;

    fn deref(&self) -> &OsStr {
        OsStr::from_bytes(&self.0.slice)
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

const _: () = assert!(size_of::<Option<FileName>>() == 8);
