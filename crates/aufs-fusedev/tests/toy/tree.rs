//! What the toy file system holds, and how it answers.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aufs_fusedev::abi::ROOT_ID;
use aufs_fusedev::abi::flags::{OpenedFlags, SetAttrValid};
use aufs_fusedev::abi::replies::{Attr, AttrOut, EntryOut, OpenOut, StatfsOut};
use aufs_fusedev::abi::requests::ReadIn;
use aufs_fusedev::interrupts::Interrupts;
use aufs_fusedev::listing::{Listed, Listing};
use aufs_fusedev::reply::Responder;
use aufs_fusedev::request::{Operation, Request};
use aufs_fusedev::session::{Deferred, Handler};
use parking_lot::Mutex;
use rustix::io::Errno;
use zerocopy::FromZeros;

/// Length of the file `big`, in bytes.
pub const BIG_LEN_BYTES: u64 = 8 << 20;
/// Names in the directory `many`.
pub const MANY: u64 = 3000;
/// A worker that nobody lets go on gives up after this.
const PATIENCE: Duration = Duration::from_secs(20);

pub const BIG: u64 = 2;
/// Reading it takes until the gate opens or the caller gets a signal.
const SLOW: u64 = 3;
/// Reading it panics.
const PANIC: u64 = 4;
/// Reading it drops the request unanswered.
const LOST: u64 = 5;
pub const MANY_DIR: u64 = 6;
const FIXED: [(&str, u64); 5] =
    [("big", BIG), ("slow", SLOW), ("panic", PANIC), ("lost", LOST), ("many", MANY_DIR)];
pub const MANY_FIRST: u64 = 1_000_000;
const CREATED_FIRST: u64 = 100;

/// The byte of `big` at `offset`.
pub fn big_byte(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// The file system.
pub struct Toy {
    files: Mutex<Files>,
    interrupts: Arc<Interrupts>,
    gate: Arc<AtomicBool>,
    /// Slow reads that a worker holds.
    pub held: Arc<AtomicUsize>,
    /// Slow reads that ended because their caller got a signal.
    pub interrupted: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Files {
    names: BTreeMap<OsString, u64>,
    contents: BTreeMap<u64, Vec<u8>>,
    last: u64,
}

impl Toy {
    pub fn new(interrupts: &Arc<Interrupts>) -> Self {
        let files = Files { last: CREATED_FIRST, ..Files::default() };
        Self {
            files: Mutex::new(files),
            interrupts: Arc::clone(interrupts),
            gate: Arc::default(),
            held: Arc::default(),
            interrupted: Arc::default(),
        }
    }

    /// Lets all slow reads end.
    pub fn open_gate(&self) {
        self.gate.store(true, Ordering::SeqCst);
    }

    fn find(&self, parent: u64, name: &OsStr) -> Option<u64> {
        if parent == MANY_DIR {
            let number = name.to_str()?.strip_prefix("name-")?.parse::<u64>().ok()?;
            return (number < MANY).then_some(MANY_FIRST + number);
        }
        let fixed = FIXED.iter().find(|(it, _)| *it == name).map(|(_, node)| *node);
        fixed.or_else(|| self.files.lock().names.get(name).copied())
    }

    fn attr(&self, node: u64) -> Attr {
        let (mode, size) = match node {
            ROOT_ID | MANY_DIR => (0o040_755, 0),
            BIG => (0o100_644, BIG_LEN_BYTES),
            SLOW | PANIC | LOST => (0o100_644, 4096),
            _ => {
                let files = self.files.lock();
                (0o100_644, files.contents.get(&node).map_or(0, |it| it.len() as u64))
            }
        };
        Attr { ino: node, size, mode, nlink: 1, blksize: 4096, ..Attr::new_zeroed() }
    }

    /// An entry that the kernel may not keep, so that each call reaches the server; but for those of `many`.
    fn entry(&self, nodeid: u64) -> EntryOut {
        let keeps_s = if MANY_FIRST <= nodeid { 3600 } else { 0 };
        let (entry_valid, attr_valid) = (keeps_s, keeps_s);
        EntryOut { nodeid, entry_valid, attr_valid, attr: self.attr(nodeid), ..EntryOut::new_zeroed() }
    }

    fn list(&self, node: u64, args: &ReadIn) -> Listing {
        let names: Vec<(OsString, u64)> = if node == MANY_DIR {
            (0..MANY).map(|it| (format!("name-{it}").into(), MANY_FIRST + it)).collect()
        } else {
            let files = self.files.lock();
            let fixed = FIXED.iter().map(|(name, node)| (OsString::from(name), *node));
            fixed.chain(files.names.iter().map(|(name, node)| (name.clone(), *node))).collect()
        };
        let mut listing = Listing::new(args.size);
        for ((name, ino), next_offset) in names.iter().zip(1..).skip(args.offset as usize) {
            let kind = if *ino == MANY_DIR { 4 } else { 8 };
            if listing.add(&Listed { name, ino: *ino, kind, next_offset }).is_err() {
                break;
            }
        }
        listing
    }

    fn read(&self, request: &Request<'_>, args: &ReadIn, responder: Responder) {
        match request.nodeid {
            BIG => responder.fill(args.size as usize, |buffer| {
                let left = BIG_LEN_BYTES.saturating_sub(args.offset) as usize;
                let count = left.min(buffer.len());
                for (offset, byte) in (args.offset..).zip(&mut buffer[..count]) {
                    *byte = big_byte(offset);
                }
                Ok(count)
            }),
            SLOW if args.offset != 0 => responder.empty(),
            SLOW => self.read_slowly(request.unique, responder),
            PANIC => panic!("asked to"),
            LOST => drop(responder),
            node => {
                let files = self.files.lock();
                let content = files.contents.get(&node).map_or(&[][..], Vec::as_slice);
                let from = content.len().min(args.offset as usize);
                let until = content.len().min(from + args.size as usize);
                responder.bytes(&content[from..until]);
            }
        }
    }

    fn read_slowly(&self, unique: u64, responder: Responder) {
        let interrupts = Arc::clone(&self.interrupts);
        let (gate, held) = (Arc::clone(&self.gate), Arc::clone(&self.held));
        let interrupted = Arc::clone(&self.interrupted);
        std::thread::spawn(move || {
            let request = interrupts.register(unique);
            held.fetch_add(1, Ordering::SeqCst);
            let begin = Instant::now();
            let answer = loop {
                if request.is_interrupted() {
                    interrupted.fetch_add(1, Ordering::SeqCst);
                    break Err(Errno::INTR);
                }
                if gate.load(Ordering::SeqCst) {
                    break Ok(());
                }
                if PATIENCE < begin.elapsed() {
                    break Err(Errno::TIMEDOUT);
                }
                std::thread::sleep(Duration::from_millis(1));
            };
            held.fetch_sub(1, Ordering::SeqCst);
            match answer {
                Ok(()) => responder.bytes(b"slow"),
                Err(errno) => responder.error(errno),
            }
        });
    }

    fn write(&self, node: u64, offset: u64, data: &[u8]) -> usize {
        let mut files = self.files.lock();
        let content = files.contents.entry(node).or_default();
        let end = offset as usize + data.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[offset as usize..end].copy_from_slice(data);
        data.len()
    }

    fn create(&self, name: &OsStr) -> u64 {
        let mut files = self.files.lock();
        files.last += 1;
        let node = files.last;
        files.names.insert(name.to_owned(), node);
        files.contents.insert(node, Vec::new());
        node
    }
}

fn opened(flags: OpenedFlags) -> OpenOut {
    OpenOut { fh: 0, open_flags: flags.bits(), backing_id: 0 }
}

impl Handler for Toy {
    fn defer(&self, job: Deferred) {
        job(self);
    }

    fn handle(&self, request: &Request<'_>, responder: Responder) {
        let direct = OpenedFlags::DIRECT_IO | OpenedFlags::NO_FLUSH;
        match request.operation {
            Operation::Lookup { name } => match self.find(request.nodeid, name) {
                Some(node) => responder.structure(&self.entry(node)),
                None => responder.error(Errno::NOENT),
            },
            Operation::GetAttr(_) => {
                responder.structure(&AttrOut { attr: self.attr(request.nodeid), ..AttrOut::new_zeroed() });
            }
            Operation::SetAttr(args) => {
                if args.valid().contains(SetAttrValid::SIZE) {
                    let mut files = self.files.lock();
                    files.contents.entry(request.nodeid).or_default().resize(args.size as usize, 0);
                }
                responder.structure(&AttrOut { attr: self.attr(request.nodeid), ..AttrOut::new_zeroed() });
            }
            Operation::Open(_) => responder.structure(&opened(direct)),
            Operation::OpenDir(_) => responder.structure(&opened(OpenedFlags::empty())),
            Operation::Create { name, .. } => {
                let node = self.create(name);
                responder.created(&self.entry(node), &opened(direct));
            }
            Operation::Read(args) => self.read(request, &args, responder),
            Operation::Write { args, data } => {
                responder.written(self.write(request.nodeid, args.offset, data));
            }
            Operation::Unlink { name } => {
                let removed = self.files.lock().names.remove(name);
                responder.done(removed.map(drop).ok_or(Errno::NOENT));
            }
            Operation::ReadDir(args) => responder.bytes(self.list(request.nodeid, &args).as_bytes()),
            Operation::GetXattr { args, name } => {
                let value =
                    if name == "user.long" { vec![7; 60_000] } else { name.as_encoded_bytes().to_vec() };
                responder.sized(args.size, &value);
            }
            Operation::SetXattr { value, .. } => {
                // Longer than a ring copies, so that the answer is carried.
                responder.done(if value.iter().all(|it| *it == 9) { Ok(()) } else { Err(Errno::INVAL) });
            }
            Operation::StatFs => responder.structure(&StatfsOut { bsize: 4096, ..StatfsOut::new_zeroed() }),
            Operation::Release(_) | Operation::ReleaseDir(_) | Operation::FSync(_) => responder.empty(),
            Operation::Forget { .. } | Operation::BatchForget(_) => responder.none(),
            _ => responder.error(Errno::NOSYS),
        }
    }
}
