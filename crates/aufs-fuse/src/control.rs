//! What may be asked of a server that serves, and what it answers: an `ioctl(2)` on the mount's root.
//!
//! An ioctl, since that works without extended attributes, takes no lock of
//! the directory that a change of its names would wait for, and leaves nothing
//! behind. Both ways the fields are bytes that end with a zero byte each, as
//! paths have none; the rest of the buffer is zero.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;

use aufs_fusedev::abi::requests::IoctlIn;
use aufs_fusedev::device::exchange;
use aufs_fusedev::reply::Responder;
use aufs_fusedev::request::Caller;
use aufs_union::branch::{BranchPerm, BranchSpec};
use aufs_union::{BranchChange, Node, RestackError, Union};
use rustix::io::Errno;

use crate::serve::Served;

/// Length of the buffer, both ways; the longest path fits, and 14 bits have to say it.
pub const CONTROL_LEN_BYTES: usize = 12 << 10;

/// The number of the request: reads and writes that many bytes, `A` 0xf5.
pub const CONTROL_IOCTL: u32 = 3 << 30 | (CONTROL_LEN_BYTES as u32) << 16 | 0x41 << 8 | 0xf5;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// The branches from this position on, as many as fit.
    Branches(usize),
    /// A change of the branches.
    Change(BranchChange),
}

/// What the server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Branches, and how many there are in all.
    Branches(usize, Vec<BranchSpec>),
    /// The branches are as asked for; with what the user should know.
    Done(Vec<String>),
    /// The branches are as before.
    Refused {
        /// The errno that fits.
        errno: i32,
        /// Why, in one line.
        message: String,
    },
}

/// The bytes are no message of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server speaks another version; mount again")]
pub struct NotUnderstood;

/// Asks the server of the mount whose root is open as `root`.
///
/// # Errors
///
/// - `ENOTTY`: no server of ours, or an older one.
/// - `EPERM`: neither root nor the user of the server asks.
/// - `ENAMETOOLONG`: a path does not fit.
/// - `EPROTO`: the answer is not understood.
pub fn ask(root: impl AsFd, ask: &Ask) -> Result<Answer, Errno> {
    let mut buffer = ask.to_bytes().ok_or(Errno::NAMETOOLONG)?;
    exchange(root, CONTROL_IOCTL, &mut buffer)?;
    Answer::read(&buffer).map_err(|_| Errno::PROTO)
}

/// Fields on their way into a buffer.
#[derive(Debug, Default)]
struct Fields(Vec<u8>);

impl Fields {
    fn put(mut self, field: impl AsRef<[u8]>) -> Self {
        self.0.extend_from_slice(field.as_ref());
        self.0.push(0);
        self
    }

    fn put_branch(self, spec: &BranchSpec) -> Self {
        self.put(spec.perm.to_string()).put(spec.path.as_os_str().as_bytes())
    }
}

/// Takes fields out of a buffer.
#[derive(Debug)]
struct Parser<'a>(&'a [u8]);

impl Parser<'_> {
    fn field(&mut self) -> Result<&[u8], NotUnderstood> {
        let end = self.0.iter().position(|it| *it == 0).ok_or(NotUnderstood)?;
        let (field, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Ok(field)
    }

    fn text(&mut self) -> Result<String, NotUnderstood> {
        Ok(String::from_utf8_lossy(self.field()?).into_owned())
    }

    fn number<T: std::str::FromStr>(&mut self) -> Result<T, NotUnderstood> {
        self.text()?.parse().map_err(|_| NotUnderstood)
    }

    fn path(&mut self) -> Result<PathBuf, NotUnderstood> {
        match self.field()? {
            b"" => Err(NotUnderstood),
            path => Ok(PathBuf::from(OsString::from_vec(path.to_vec()))),
        }
    }

    fn perm(&mut self) -> Result<BranchPerm, NotUnderstood> {
        self.text()?.parse().map_err(|_| NotUnderstood)
    }

    fn branch(&mut self) -> Result<BranchSpec, NotUnderstood> {
        let perm = self.perm()?;
        Ok(BranchSpec { path: self.path()?, perm })
    }
}

impl Ask {
    /// Returns the bytes; none when a path is too long.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let fields = Fields::default();
        let fields = match self {
            Self::Branches(from) => fields.put("list").put(from.to_string()),
            Self::Change(BranchChange::Add { position, spec }) => {
                let position = position.map_or_else(|| "end".to_owned(), |it| it.to_string());
                fields.put("add").put(position).put_branch(spec)
            }
            Self::Change(BranchChange::Remove { path }) => fields.put("del").put(path.as_os_str().as_bytes()),
            Self::Change(BranchChange::Modify { path, perm }) => {
                fields.put("mod").put_branch(&BranchSpec { path: path.clone(), perm: *perm })
            }
        };
        padded(fields.0)
    }

    fn read(bytes: &[u8]) -> Result<Self, NotUnderstood> {
        let mut parser = Parser(bytes);
        Ok(match parser.field()? {
            b"list" => Self::Branches(parser.number()?),
            b"add" => {
                let position = match parser.text()?.as_str() {
                    "end" => None,
                    text => Some(text.parse().map_err(|_| NotUnderstood)?),
                };
                Self::Change(BranchChange::Add { position, spec: parser.branch()? })
            }
            b"del" => Self::Change(BranchChange::Remove { path: parser.path()? }),
            b"mod" => {
                let BranchSpec { path, perm } = parser.branch()?;
                Self::Change(BranchChange::Modify { path, perm })
            }
            _ => return Err(NotUnderstood),
        })
    }
}

impl Answer {
    /// Reads an answer.
    ///
    /// # Errors
    ///
    /// [`NotUnderstood`].
    pub fn read(bytes: &[u8]) -> Result<Self, NotUnderstood> {
        let mut parser = Parser(bytes);
        Ok(match parser.field()? {
            b"branches" => {
                let (all, count): (usize, usize) = (parser.number()?, parser.number()?);
                let branches = (0..count).map(|_| parser.branch()).collect::<Result<_, _>>()?;
                Self::Branches(all, branches)
            }
            b"done" => {
                let count: usize = parser.number()?;
                Self::Done((0..count).map(|_| parser.text()).collect::<Result<_, _>>()?)
            }
            b"refused" => Self::Refused { errno: parser.number()?, message: parser.text()? },
            _ => return Err(NotUnderstood),
        })
    }

    fn of_error(error: &RestackError) -> Self {
        let message = error.to_string();
        Self::Refused { errno: error.errno().raw_os_error(), message: one_line(&message) }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let fields = Fields::default();
        let fields = match self {
            Self::Branches(all, branches) => {
                let (mut list, mut count) = (Fields::default(), 0);
                for spec in branches {
                    let one = Fields::default().put_branch(spec);
                    if CONTROL_LEN_BYTES - 64 < list.0.len() + one.0.len() {
                        break;
                    }
                    list.0.extend(one.0);
                    count += 1;
                }
                let mut fields = fields.put("branches").put(all.to_string()).put(count.to_string());
                fields.0.extend(list.0);
                fields
            }
            Self::Done(warnings) => {
                let head = fields.put("done").put(warnings.len().to_string());
                warnings.iter().fold(head, |fields, warning| fields.put(one_line(warning)))
            }
            Self::Refused { errno, message } => fields.put("refused").put(errno.to_string()).put(message),
        };
        // Only a warning about a very long path does not fit, and then the rest of it is left out.
        let mut bytes = fields.0;
        bytes.resize(CONTROL_LEN_BYTES - 1, 0);
        bytes.push(0);
        bytes
    }
}

fn padded(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    (bytes.len() <= CONTROL_LEN_BYTES).then(|| {
        bytes.resize(CONTROL_LEN_BYTES, 0);
        bytes
    })
}

fn one_line(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { '?' } else { it }).collect()
}

impl Served {
    /// Answers an ioctl, which only root and the user of the server may send, to the root.
    pub(crate) fn control(
        &self,
        number: u64,
        args: &IoctlIn,
        data: &[u8],
        caller: Caller,
        responder: Responder,
    ) {
        if number != Node::ROOT_ID || args.cmd != CONTROL_IOCTL {
            return responder.error(Errno::NOTTY);
        }
        if caller.uid != 0 && caller.uid != rustix::process::geteuid().as_raw() {
            return responder.error(Errno::PERM);
        }
        let Ok(ask) = Ask::read(data) else { return responder.error(Errno::INVAL) };
        let shared = Arc::clone(&self.shared);
        // No worker of [`Shared::run`], as a change waits for those.
        self.shared.workers.run(true, move || {
            let answer = match ask {
                Ask::Branches(from) => list(&shared.enter(), from),
                Ask::Change(change) => match shared.change_branches(&change) {
                    Ok(warnings) => Answer::Done(warnings),
                    Err(error) => Answer::of_error(&error),
                },
            };
            responder.ioctl(&answer.to_bytes());
        });
    }
}

fn list(union: &Union, from: usize) -> Answer {
    let mut branches = union.branch_specs();
    let all = branches.len();
    branches.drain(..from.min(all));
    Answer::Branches(all, branches)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn messages_read_back() {
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(b"/a\n\xff:b"));
        let perm = BranchPerm::ReadOnly { whiteouts: true };
        let spec = BranchSpec { path: path.clone(), perm };
        for ask in [
            Ask::Branches(7),
            Ask::Change(BranchChange::Add { position: None, spec: spec.clone() }),
            Ask::Change(BranchChange::Add { position: Some(3), spec: spec.clone() }),
            Ask::Change(BranchChange::Remove { path: path.clone() }),
            Ask::Change(BranchChange::Modify { path, perm }),
        ] {
            let bytes = ask.to_bytes().unwrap();
            assert_eq!((Ask::read(&bytes), bytes.len()), (Ok(ask), CONTROL_LEN_BYTES));
        }
        for answer in [
            Answer::Branches(9, vec![spec.clone(), spec]),
            Answer::Done(vec!["one".to_owned()]),
            Answer::Refused { errno: 16, message: "in use".to_owned() },
        ] {
            assert_eq!(Answer::read(&answer.to_bytes()), Ok(answer));
        }
        for bytes in [&b""[..], b"list", b"list\0x\0", b"add\x001\0rw\0\0", b"del\0\0", b"mod\0no\0/a\0"] {
            assert_eq!(Ask::read(bytes), Err(NotUnderstood), "{bytes:?}");
        }
    }

    #[test]
    fn long_lists_come_in_parts() {
        let spec = |at: usize| BranchSpec {
            path: PathBuf::from(format!("/{at}/{}", "p".repeat(4000))),
            perm: BranchPerm::ReadWrite,
        };
        let all: Vec<_> = (0..10).map(spec).collect();
        let mut got = Vec::new();
        while got.len() < all.len() {
            let answer = Answer::Branches(all.len(), all[got.len()..].to_vec());
            let Ok(Answer::Branches(10, some)) = Answer::read(&answer.to_bytes()) else { panic!() };
            assert!(!some.is_empty());
            got.extend(some);
        }
        assert_eq!(got, all);
    }
}
