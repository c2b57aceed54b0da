//! Typed requests, parsed from what the kernel wrote.
//!
//! A request is a header, the structure of its opcode, and what follows: names,
//! bytes, extensions. Over the device all of it lies in one piece; over
//! io_uring structure and rest lie apart. [`Parts`] is both.
//!
//! The kernel is trusted to keep its protocol, but nothing here depends on it:
//! whatever the bytes are, the answer is a request or a [`ParseError`].

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::abi::flags::{FMODE_EXEC, OpenInFlags, SETXATTR_ACL_KILL_SGID, SetAttrValid, WriteFlags};
use crate::abi::opcode::Opcode;
use crate::abi::requests::{
    BatchForgetIn, CopyFileRangeIn, CreateIn, FAllocateIn, FSyncIn, ForgetIn, ForgetOne, GetAttrIn,
    GetXattrIn, InHeader, InitIn, InterruptIn, IoctlIn, LSeekIn, LinkIn, MkDirIn, MkNodIn, OpenIn, ReadIn,
    ReleaseIn, Rename2In, RenameIn, SetAttrIn, SetXattrIn, SetXattrShortIn, StatxIn, WriteIn,
};
use crate::groups::has_group;

/// Why bytes are no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Fewer bytes than a header has, or than the header says.
    #[error("request is cut short")]
    Short,
    /// No version up to ours has this opcode.
    #[error("unknown opcode {0}")]
    UnknownOpcode(u32),
    /// The structure of the opcode does not fit.
    #[error("{} request of the wrong form", .0.as_str())]
    Malformed(Opcode),
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Thread; 0 when it is of another PID namespace or the kernel itself.
    pub pid: u32,
}

impl Caller {
    /// Whether this is the caller's group, or one of its supplementary groups; no where that cannot be known.
    pub fn is_in_group(self, gid: u32) -> bool {
        self.gid == gid || has_group(self.pid, gid)
    }
}

/// The bytes of a request behind its header.
#[derive(Debug, Clone, Copy)]
pub enum Parts<'a> {
    /// All in one piece, as the device gives them.
    Joined(&'a [u8]),
    /// The structure of the opcode, perhaps padded, and the rest, as io_uring gives them.
    Apart(&'a [u8], &'a [u8]),
}

impl<'a> Parts<'a> {
    /// Takes the structure of the opcode off the front.
    fn take<T: FromBytes + KnownLayout + Immutable>(&mut self) -> Option<T> {
        match self {
            Self::Joined(bytes) => {
                let (value, rest) = T::read_from_prefix(bytes).ok()?;
                *bytes = rest;
                Some(value)
            }
            Self::Apart(structure, _) => {
                let (value, _) = T::read_from_prefix(structure).ok()?;
                *structure = &[];
                Some(value)
            }
        }
    }

    fn rest(self) -> &'a [u8] {
        match self {
            Self::Joined(rest) | Self::Apart(_, rest) => rest,
        }
    }

    /// Returns the name that the rest is, without its zero byte.
    fn name(self) -> Option<&'a OsStr> {
        split_name(self.rest()).map(|(name, _)| name)
    }

    fn two_names(self) -> Option<(&'a OsStr, &'a OsStr)> {
        let (first, rest) = split_name(self.rest())?;
        Some((first, split_name(rest)?.0))
    }

    /// Returns a name and the `len_bytes` that follow it.
    fn name_and_value(self, len_bytes: u32) -> Option<(&'a OsStr, &'a [u8])> {
        let (name, rest) = split_name(self.rest())?;
        Some((name, rest.get(..len_bytes as usize)?))
    }
}

fn split_name(bytes: &[u8]) -> Option<(&OsStr, &[u8])> {
    let end = bytes.iter().position(|it| *it == 0)?;
    Some((OsStr::from_bytes(&bytes[..end]), &bytes[end + 1..]))
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Its number, which the reply repeats.
    pub unique: u64,
    /// The node it concerns.
    pub nodeid: u64,
    /// Who asks.
    pub caller: Caller,
    /// What it asks for.
    pub operation: Operation<'a>,
}

/// What a request asks for, with all it says about it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each is described at its opcode or its structure")]
pub enum Operation<'a> {
    Lookup {
        name: &'a OsStr,
    },
    Forget {
        nlookup: u64,
    },
    BatchForget(&'a [ForgetOne]),
    GetAttr(GetAttrIn),
    Statx(StatxIn),
    SetAttr(SetAttrIn),
    ReadLink,
    Symlink {
        name: &'a OsStr,
        target: &'a OsStr,
    },
    MkNod {
        args: MkNodIn,
        name: &'a OsStr,
    },
    MkDir {
        args: MkDirIn,
        name: &'a OsStr,
    },
    Unlink {
        name: &'a OsStr,
    },
    RmDir {
        name: &'a OsStr,
    },
    Rename {
        newdir: u64,
        flags: u32,
        name: &'a OsStr,
        newname: &'a OsStr,
    },
    Link {
        oldnodeid: u64,
        newname: &'a OsStr,
    },
    Open(OpenIn),
    Create {
        args: CreateIn,
        name: &'a OsStr,
    },
    TmpFile {
        args: CreateIn,
        name: &'a OsStr,
    },
    Read(ReadIn),
    Write {
        args: WriteIn,
        data: &'a [u8],
    },
    StatFs,
    Release(ReleaseIn),
    Flush,
    FSync(FSyncIn),
    SetXattr {
        name: &'a OsStr,
        value: &'a [u8],
        flags: u32,
        kills_sgid: bool,
    },
    GetXattr {
        args: GetXattrIn,
        name: &'a OsStr,
    },
    ListXattr(GetXattrIn),
    RemoveXattr {
        name: &'a OsStr,
    },
    Init(InitIn),
    OpenDir(OpenIn),
    ReadDir(ReadIn),
    ReadDirPlus(ReadIn),
    ReleaseDir(ReleaseIn),
    FSyncDir(FSyncIn),
    Access,
    Interrupt(InterruptIn),
    Destroy,
    FAllocate(FAllocateIn),
    LSeek(LSeekIn),
    CopyFileRange(CopyFileRangeIn),
    SyncFs,
    IoCtl {
        args: IoctlIn,
        data: &'a [u8],
    },
    /// A valid opcode no server of ours takes part in; its answer is `ENOSYS`.
    Unsupported(Opcode),
}

impl SetAttrIn {
    /// Returns which attributes change.
    pub fn valid(&self) -> SetAttrValid {
        SetAttrValid::from_bits_retain(self.valid)
    }
}

impl WriteIn {
    /// Returns how the write came about.
    pub fn write_flags(&self) -> WriteFlags {
        WriteFlags::from_bits_retain(self.write_flags)
    }
}

impl OpenIn {
    /// Whether the file is opened to be executed.
    pub fn executes(&self) -> bool {
        self.flags & FMODE_EXEC != 0
    }

    /// Whether the kernel wants set-id bits cleared.
    pub fn kills_set_id(&self) -> bool {
        OpenInFlags::from_bits_retain(self.open_flags).contains(OpenInFlags::KILL_SUIDGID)
    }
}

/// Parses the header alone.
///
/// # Errors
///
/// [`ParseError::Short`].
pub fn parse_header(bytes: &[u8]) -> Result<(InHeader, &[u8]), ParseError> {
    let (header, rest) = InHeader::read_from_prefix(bytes).map_err(|_| ParseError::Short)?;
    let rest_len = (header.len as usize).checked_sub(size_of::<InHeader>()).ok_or(ParseError::Short)?;
    Ok((header, rest.get(..rest_len).ok_or(ParseError::Short)?))
}

impl<'a> Request<'a> {
    /// Parses a request whose header is known; `long_setxattr` when SETXATTR_EXT was agreed on.
    ///
    /// # Errors
    ///
    /// [`ParseError::UnknownOpcode`], [`ParseError::Malformed`].
    pub fn parse(header: &InHeader, parts: Parts<'a>, long_setxattr: bool) -> Result<Self, ParseError> {
        let opcode = Opcode::from_number(header.opcode).ok_or(ParseError::UnknownOpcode(header.opcode))?;
        let operation = parse_operation(opcode, parts, long_setxattr).ok_or(ParseError::Malformed(opcode))?;
        let caller = Caller { uid: header.uid, gid: header.gid, pid: header.pid };
        Ok(Self { unique: header.unique, nodeid: header.nodeid, caller, operation })
    }
}

fn parse_operation(opcode: Opcode, mut parts: Parts<'_>, long_setxattr: bool) -> Option<Operation<'_>> {
    use Operation as Op;
    Some(match opcode {
        Opcode::Lookup => Op::Lookup { name: parts.name()? },
        Opcode::Forget => Op::Forget { nlookup: parts.take::<ForgetIn>()?.nlookup },
        Opcode::BatchForget => {
            let count = parts.take::<BatchForgetIn>()?.count as usize;
            let len_bytes = count.checked_mul(size_of::<ForgetOne>())?;
            Op::BatchForget(<[ForgetOne]>::ref_from_bytes(parts.rest().get(..len_bytes)?).ok()?)
        }
        Opcode::GetAttr => Op::GetAttr(parts.take()?),
        Opcode::StatX => Op::Statx(parts.take()?),
        Opcode::SetAttr => Op::SetAttr(parts.take()?),
        Opcode::ReadLink => Op::ReadLink,
        Opcode::Symlink => {
            let (name, target) = parts.two_names()?;
            Op::Symlink { name, target }
        }
        Opcode::MkNod => Op::MkNod { args: parts.take()?, name: parts.name()? },
        Opcode::MkDir => Op::MkDir { args: parts.take()?, name: parts.name()? },
        Opcode::Unlink => Op::Unlink { name: parts.name()? },
        Opcode::RmDir => Op::RmDir { name: parts.name()? },
        Opcode::Rename | Opcode::Rename2 => parse_rename(opcode, parts)?,
        Opcode::Link => Op::Link { oldnodeid: parts.take::<LinkIn>()?.oldnodeid, newname: parts.name()? },
        Opcode::Open => Op::Open(parts.take()?),
        Opcode::Create => Op::Create { args: parts.take()?, name: parts.name()? },
        Opcode::TmpFile => Op::TmpFile { args: parts.take()?, name: parts.name()? },
        Opcode::Read => Op::Read(parts.take()?),
        Opcode::Write => {
            let args: WriteIn = parts.take()?;
            Op::Write { args, data: parts.rest().get(..args.size as usize)? }
        }
        Opcode::StatFs => Op::StatFs,
        Opcode::Release => Op::Release(parts.take()?),
        Opcode::Flush => Op::Flush,
        Opcode::FSync => Op::FSync(parts.take()?),
        Opcode::SetXattr => parse_setxattr(parts, long_setxattr)?,
        Opcode::GetXattr => Op::GetXattr { args: parts.take()?, name: parts.name()? },
        Opcode::ListXattr => Op::ListXattr(parts.take()?),
        Opcode::RemoveXattr => Op::RemoveXattr { name: parts.name()? },
        Opcode::Init => Op::Init(parse_init(parts)?),
        Opcode::OpenDir => Op::OpenDir(parts.take()?),
        Opcode::ReadDir => Op::ReadDir(parts.take()?),
        Opcode::ReadDirPlus => Op::ReadDirPlus(parts.take()?),
        Opcode::ReleaseDir => Op::ReleaseDir(parts.take()?),
        Opcode::FSyncDir => Op::FSyncDir(parts.take()?),
        Opcode::Access => Op::Access,
        Opcode::Interrupt => Op::Interrupt(parts.take()?),
        Opcode::Destroy => Op::Destroy,
        Opcode::FAllocate => Op::FAllocate(parts.take()?),
        Opcode::LSeek => Op::LSeek(parts.take()?),
        Opcode::CopyFileRange | Opcode::CopyFileRange64 => Op::CopyFileRange(parts.take()?),
        Opcode::SyncFs => Op::SyncFs,
        Opcode::IoCtl => {
            let args: IoctlIn = parts.take()?;
            Op::IoCtl { args, data: parts.rest().get(..args.in_size as usize)? }
        }
        other => Op::Unsupported(other),
    })
}

fn parse_rename(opcode: Opcode, mut parts: Parts<'_>) -> Option<Operation<'_>> {
    let (newdir, flags) = if opcode == Opcode::Rename {
        (parts.take::<RenameIn>()?.newdir, 0)
    } else {
        let args: Rename2In = parts.take()?;
        (args.newdir, args.flags)
    };
    let (name, newname) = parts.two_names()?;
    Some(Operation::Rename { newdir, flags, name, newname })
}

fn parse_setxattr(mut parts: Parts<'_>, is_long: bool) -> Option<Operation<'_>> {
    let args = if is_long {
        parts.take::<SetXattrIn>()?
    } else {
        let short: SetXattrShortIn = parts.take()?;
        SetXattrIn { size: short.size, flags: short.flags, setxattr_flags: 0, padding: 0 }
    };
    let (name, value) = parts.name_and_value(args.size)?;
    let kills_sgid = args.setxattr_flags & SETXATTR_ACL_KILL_SGID != 0;
    Some(Operation::SetXattr { name, value, flags: args.flags, kills_sgid })
}

/// Fills up the shorter form of kernels before 5.17.
fn parse_init(parts: Parts<'_>) -> Option<InitIn> {
    const SHORTEST_LEN_BYTES: usize = 16;
    let (Parts::Joined(bytes) | Parts::Apart(bytes, _)) = parts;
    if bytes.len() < SHORTEST_LEN_BYTES {
        return None;
    }
    let mut whole = [0; size_of::<InitIn>()];
    let count = bytes.len().min(whole.len());
    whole[..count].copy_from_slice(&bytes[..count]);
    InitIn::read_from_bytes(&whole).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;

    fn header(opcode: u32, rest_len: usize) -> InHeader {
        InHeader {
            len: u32::try_from(size_of::<InHeader>() + rest_len).unwrap(),
            opcode,
            unique: 7,
            nodeid: 1,
            uid: 1000,
            gid: 100,
            pid: 42,
            total_extlen: 0,
            padding: 0,
        }
    }

    fn parse(opcode: Opcode, rest: &[u8]) -> Result<Request<'_>, ParseError> {
        Request::parse(&header(opcode.number(), rest.len()), Parts::Joined(rest), true)
    }

    #[test]
    fn names_and_structures_are_found_in_both_forms() {
        let args = Rename2In { newdir: 9, flags: 2, padding: 0 };
        let names = b"old\0new\0";
        let joined = [args.as_bytes(), names].concat();
        let mut padded = [0_u8; 128];
        padded[..16].copy_from_slice(args.as_bytes());
        let head = header(Opcode::Rename2.number(), joined.len());
        for parts in [Parts::Joined(&joined), Parts::Apart(&padded, names)] {
            let request = Request::parse(&head, parts, true).unwrap();
            assert_eq!(request.caller, Caller { uid: 1000, gid: 100, pid: 42 });
            let Operation::Rename { newdir, flags, name, newname } = request.operation else {
                panic!("{request:?}");
            };
            assert_eq!((newdir, flags, name, newname), (9, 2, OsStr::new("old"), OsStr::new("new")));
        }
        let lookup = Request::parse(&header(1, 0), Parts::Apart(&padded, b"etc\0"), true).unwrap();
        assert!(matches!(lookup.operation, Operation::Lookup { name } if name == "etc"));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let write = WriteIn { size: 5, ..WriteIn::read_from_bytes(&[0; 40]).unwrap() };
        let short_write = [write.as_bytes(), b"four"].concat();
        let forget = [BatchForgetIn { count: u32::MAX, dummy: 0 }.as_bytes(), &[0; 16]].concat();
        for (case, opcode, rest) in [
            ("a name without its end", Opcode::Lookup, &b"etc"[..]),
            ("half a structure", Opcode::GetAttr, &[0; 15]),
            ("one name of two", Opcode::Symlink, b"name\0"),
            ("fewer bytes than it says", Opcode::Write, &short_write),
            ("fewer nodes than it says", Opcode::BatchForget, &forget),
            ("no version", Opcode::Init, &[0; 12]),
        ] {
            assert_eq!(parse(opcode, rest).unwrap_err(), ParseError::Malformed(opcode), "{case}");
        }
        let unknown = Request::parse(&header(99, 0), Parts::Joined(&[]), true).unwrap_err();
        assert_eq!(unknown, ParseError::UnknownOpcode(99));
    }

    #[test]
    fn setxattr_has_two_forms() {
        let rest = b"user.a\0value";
        let short = [SetXattrShortIn { size: 5, flags: 1 }.as_bytes(), rest].concat();
        let args = SetXattrIn { size: 5, flags: 1, setxattr_flags: 1, padding: 0 };
        let long = [args.as_bytes(), rest].concat();
        for (bytes, is_long) in [(&short, false), (&long, true)] {
            let head = header(Opcode::SetXattr.number(), bytes.len());
            let request = Request::parse(&head, Parts::Joined(bytes), is_long).unwrap();
            let Operation::SetXattr { name, value, flags, kills_sgid } = request.operation else {
                panic!("{request:?}");
            };
            assert_eq!((name, value, flags), (OsStr::new("user.a"), &b"value"[..], 1));
            assert_eq!(kills_sgid, is_long);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_fail_otherwise(
            opcode in 0..60_u32,
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            split in 0..200_usize,
            is_long: bool,
        ) {
            let check = |head: &InHeader, parts| {
                let parsed = Request::parse(head, parts, is_long);
                parsed.is_err() || parsed.is_ok_and(|it| it.unique == head.unique)
            };
            if let Ok((head, rest)) = parse_header(&bytes) {
                prop_assert!(rest.len() < bytes.len());
                prop_assert!(check(&head, Parts::Joined(rest)));
            }
            let head = header(opcode, bytes.len());
            let (structure, rest) = bytes.split_at(split.min(bytes.len()));
            prop_assert!(check(&head, Parts::Joined(&bytes)));
            prop_assert!(check(&head, Parts::Apart(structure, rest)));
        }
    }
}
