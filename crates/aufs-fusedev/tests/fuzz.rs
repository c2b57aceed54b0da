//! Whole requests of every opcode, well-formed and damaged, and listings: whatever comes, nothing fails otherwise.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may fail the test")]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use aufs_fusedev::abi::opcode::Opcode;
use aufs_fusedev::abi::replies::{Dirent, EntryOut};
use aufs_fusedev::abi::requests::{
    BatchForgetIn, CopyFileRangeIn, CreateIn, FAllocateIn, FSyncIn, ForgetIn, ForgetOne, GetAttrIn,
    GetXattrIn, InHeader, InitIn, InterruptIn, IoctlIn, LSeekIn, LinkIn, MkDirIn, MkNodIn, OpenIn, ReadIn,
    ReleaseIn, Rename2In, RenameIn, SetAttrIn, SetXattrIn, SetXattrShortIn, StatxIn, WriteIn,
};
use aufs_fusedev::listing::{Full, Listed, Listing};
use aufs_fusedev::request::{Operation, ParseError, Parts, Request, parse_header};
use bolero::check;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Random inputs of each kind that a plain `cargo test` tries.
const ITERATIONS: usize = 20_000;
/// What io_uring gives the structure of an opcode, in bytes.
const ROOM_LEN_BYTES: usize = 128;

/// What a request is made of: number in the list of opcodes, whether SETXATTR is long, the bytes of the
/// structure, two names, and what follows them.
type Recipe = (u8, bool, Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>);

/// A request as the kernel would write it.
struct Whole {
    is_long: bool,
    header: InHeader,
    structure: Vec<u8>,
    names: Vec<Vec<u8>>,
    /// Names with their zero bytes, and what follows.
    rest: Vec<u8>,
}

impl Whole {
    fn of((number, is_long, noise, first, second, data): &Recipe) -> Self {
        let opcode = Opcode::ALL[usize::from(*number) % Opcode::ALL.len()];
        let mut structure = noise.clone();
        structure.resize(structure_len_bytes(opcode, *is_long), 0);
        let clean = |name: &Vec<u8>| name.iter().copied().filter(|it| *it != 0).collect::<Vec<_>>();
        let names: Vec<_> = [first, second].into_iter().map(clean).take(names_of(opcode)).collect();
        let mut rest = names.iter().flat_map(|it| [it, &b"\0"[..]].concat()).collect::<Vec<_>>();
        // An empty vector has no allocation, and so not the alignment that buffers of requests have.
        rest.reserve(1);
        let data = &data[..data.len() - data.len() % size_of::<ForgetOne>()];
        let (counted_at, count) = match opcode {
            Opcode::IoCtl => (std::mem::offset_of!(IoctlIn, in_size), data.len()),
            Opcode::Write => (std::mem::offset_of!(WriteIn, size), data.len()),
            Opcode::SetXattr => (0, data.len()),
            Opcode::BatchForget => (0, data.len() / size_of::<ForgetOne>()),
            _ => (0, 0),
        };
        if matches!(opcode, Opcode::Write | Opcode::SetXattr | Opcode::BatchForget | Opcode::IoCtl) {
            structure[counted_at..counted_at + 4]
                .copy_from_slice(&u32::try_from(count).unwrap().to_ne_bytes());
            rest.extend_from_slice(data);
        }
        let len = u32::try_from(size_of::<InHeader>() + structure.len() + rest.len()).unwrap();
        let header =
            InHeader { len, opcode: opcode.number(), unique: 7, nodeid: 9, ..InHeader::new_zeroed() };
        Self { is_long: *is_long, header, structure, names, rest }
    }

    /// The request in one piece, header and all.
    fn joined(&self) -> Vec<u8> {
        [self.header.as_bytes(), &self.structure, &self.rest].concat()
    }

    /// The structure as io_uring gives it, with what an earlier request left behind it.
    fn room(&self) -> Vec<u8> {
        let mut room = self.structure.clone();
        room.resize(ROOM_LEN_BYTES, 0xa5);
        room
    }
}

/// Length of the structure that each request of an opcode begins with, in bytes.
fn structure_len_bytes(opcode: Opcode, is_long: bool) -> usize {
    match opcode {
        Opcode::Forget => size_of::<ForgetIn>(),
        Opcode::BatchForget => size_of::<BatchForgetIn>(),
        Opcode::GetAttr => size_of::<GetAttrIn>(),
        Opcode::StatX => size_of::<StatxIn>(),
        Opcode::SetAttr => size_of::<SetAttrIn>(),
        Opcode::MkNod => size_of::<MkNodIn>(),
        Opcode::MkDir => size_of::<MkDirIn>(),
        Opcode::Rename => size_of::<RenameIn>(),
        Opcode::Rename2 => size_of::<Rename2In>(),
        Opcode::Link => size_of::<LinkIn>(),
        Opcode::Open | Opcode::OpenDir => size_of::<OpenIn>(),
        Opcode::Create | Opcode::TmpFile => size_of::<CreateIn>(),
        Opcode::Read | Opcode::ReadDir | Opcode::ReadDirPlus => size_of::<ReadIn>(),
        Opcode::Write => size_of::<WriteIn>(),
        Opcode::Release | Opcode::ReleaseDir => size_of::<ReleaseIn>(),
        Opcode::FSync | Opcode::FSyncDir => size_of::<FSyncIn>(),
        Opcode::SetXattr if is_long => size_of::<SetXattrIn>(),
        Opcode::SetXattr => size_of::<SetXattrShortIn>(),
        Opcode::GetXattr | Opcode::ListXattr => size_of::<GetXattrIn>(),
        Opcode::Init => size_of::<InitIn>(),
        Opcode::Interrupt => size_of::<InterruptIn>(),
        Opcode::FAllocate => size_of::<FAllocateIn>(),
        Opcode::LSeek => size_of::<LSeekIn>(),
        Opcode::IoCtl => size_of::<IoctlIn>(),
        Opcode::CopyFileRange | Opcode::CopyFileRange64 => size_of::<CopyFileRangeIn>(),
        _ => 0,
    }
}

/// How many names follow the structure.
fn names_of(opcode: Opcode) -> usize {
    match opcode {
        Opcode::Symlink | Opcode::Rename | Opcode::Rename2 => 2,
        Opcode::Lookup
        | Opcode::MkNod
        | Opcode::MkDir
        | Opcode::Unlink
        | Opcode::RmDir
        | Opcode::Link
        | Opcode::Create
        | Opcode::TmpFile
        | Opcode::SetXattr
        | Opcode::GetXattr
        | Opcode::RemoveXattr => 1,
        _ => 0,
    }
}

/// The names that a parsed request has.
fn names_in<'a>(operation: &Operation<'a>) -> Vec<&'a [u8]> {
    match *operation {
        Operation::Symlink { name, target: other } | Operation::Rename { name, newname: other, .. } => {
            vec![name.as_bytes(), other.as_bytes()]
        }
        Operation::Lookup { name }
        | Operation::MkNod { name, .. }
        | Operation::MkDir { name, .. }
        | Operation::Unlink { name }
        | Operation::RmDir { name }
        | Operation::Link { newname: name, .. }
        | Operation::Create { name, .. }
        | Operation::TmpFile { name, .. }
        | Operation::SetXattr { name, .. }
        | Operation::GetXattr { name, .. }
        | Operation::RemoveXattr { name } => vec![name.as_bytes()],
        _ => Vec::new(),
    }
}

/// Checks what holds for every request that was parsed, whatever it was parsed from.
fn check_parsed(request: &Request<'_>) {
    assert!(names_in(&request.operation).iter().all(|it| !it.contains(&0)));
    if let Operation::Write { args, data } = request.operation {
        assert_eq!(data.len(), args.size as usize);
    }
    if let Operation::IoCtl { args, data } = request.operation {
        assert_eq!(data.len(), args.in_size as usize);
    }
}

#[test]
fn whole_requests_are_understood_alike_in_both_forms() {
    check!().with_iterations(ITERATIONS).with_type::<Recipe>().for_each(|recipe| {
        let whole = Whole::of(recipe);
        let (bytes, room) = (whole.joined(), whole.room());
        let (header, rest) = parse_header(&bytes).unwrap();
        assert_eq!((header, rest.len()), (whole.header, whole.structure.len() + whole.rest.len()));
        let joined = Request::parse(&header, Parts::Joined(rest), whole.is_long).unwrap();
        let apart = Request::parse(&header, Parts::Apart(&room, &whole.rest), whole.is_long).unwrap();
        assert_eq!(format!("{joined:?}"), format!("{apart:?}"));
        assert_eq!(names_in(&joined.operation), whole.names);
        assert_eq!((joined.unique, joined.nodeid), (7, 9));
        check_parsed(&joined);
        if let Operation::SetXattr { value, .. } = joined.operation {
            assert!(whole.rest.ends_with(value));
        }
        if let Operation::BatchForget(nodes) = joined.operation {
            assert_eq!(nodes.as_bytes(), whole.rest);
        }
    });
}

#[test]
fn damaged_requests_are_refused_or_understood() {
    /// Where a byte changes and to what, how far the length is wrong, and how much is cut off.
    type Damage = (u16, u8, i8, u8);
    check!().with_iterations(ITERATIONS).with_type::<(Recipe, Damage)>().for_each(|(recipe, damage)| {
        let (at, byte, wrong, cut) = *damage;
        let whole = Whole::of(recipe);
        let mut header = whole.header;
        header.len = header.len.saturating_add_signed(wrong.into());
        let mut bytes = [header.as_bytes(), &whole.structure, &whole.rest].concat();
        bytes.truncate(bytes.len().saturating_sub(cut.into()));
        let length = bytes.len().max(1);
        if let Some(victim) = bytes.get_mut(usize::from(at) % length) {
            *victim = byte;
        }
        match parse_header(&bytes) {
            Ok((header, rest)) => {
                assert_eq!(size_of::<InHeader>() + rest.len(), header.len as usize);
                check_damaged(&header, Parts::Joined(rest), whole.is_long);
                let (structure, rest) = rest.split_at(whole.structure.len().min(rest.len()));
                check_damaged(&header, Parts::Apart(structure, rest), whole.is_long);
            }
            Err(error) => assert_eq!(error, ParseError::Short),
        }
    });
}

fn check_damaged(header: &InHeader, parts: Parts<'_>, is_long: bool) {
    let opcode = Opcode::from_number(header.opcode);
    match Request::parse(header, parts, is_long) {
        Ok(request) => check_parsed(&request),
        Err(ParseError::UnknownOpcode(number)) => assert_eq!((number, opcode), (header.opcode, None)),
        Err(ParseError::Malformed(malformed)) => assert_eq!(Some(malformed), opcode),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn listings_read_back_and_keep_within_their_room() {
    type Names = (u16, Vec<(Vec<u8>, u64, bool)>);
    check!().with_iterations(ITERATIONS).with_type::<Names>().for_each(|(room, names)| {
        let mut listing = Listing::new((*room).into());
        let mut added = Vec::new();
        for ((name, ino, with_entry), next_offset) in names.iter().zip(1..) {
            let listed = Listed { name: OsStr::from_bytes(name), ino: *ino, kind: 8, next_offset };
            let before = listing.as_bytes().len();
            let fixed = size_of::<Dirent>() + if *with_entry { size_of::<EntryOut>() } else { 0 };
            let needed = (fixed + name.len()).next_multiple_of(8);
            let entry = EntryOut { nodeid: *ino, ..EntryOut::new_zeroed() };
            let outcome =
                if *with_entry { listing.add_with_entry(&entry, &listed) } else { listing.add(&listed) };
            let fits = before + needed <= usize::from(*room);
            assert_eq!(outcome, if fits { Ok(()) } else { Err(Full) });
            assert_eq!(listing.as_bytes().len(), before + if fits { needed } else { 0 });
            if fits {
                added.push((name, *ino, *with_entry, next_offset));
            }
        }
        check_listing(listing.as_bytes(), &added);
    });
}

/// Reads a listing as the kernel does.
fn check_listing(mut bytes: &[u8], added: &[(&Vec<u8>, u64, bool, u64)]) {
    for (name, ino, with_entry, next_offset) in added {
        if *with_entry {
            let (entry, rest) = EntryOut::read_from_prefix(bytes).unwrap();
            assert_eq!(entry.nodeid, *ino);
            bytes = rest;
        }
        let (dirent, rest) = Dirent::read_from_prefix(bytes).unwrap();
        assert_eq!((dirent.ino, dirent.off, dirent.kind), (*ino, *next_offset, 8));
        assert_eq!(dirent.namelen as usize, name.len());
        let padded = (size_of::<Dirent>() + name.len()).next_multiple_of(8) - size_of::<Dirent>();
        assert_eq!(&rest[..name.len()], name.as_slice());
        assert!(rest[name.len()..padded].iter().all(|it| *it == 0));
        bytes = &rest[padded..];
    }
    assert!(bytes.is_empty());
}
