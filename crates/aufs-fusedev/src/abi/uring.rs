//! How requests and answers lie in memory when they travel by io_uring.
//!
//! Source: `include/uapi/linux/fuse.h` of Linux 6.18 and `Documentation/filesystems/fuse/fuse-io-uring.rst`.

#![allow(
    missing_debug_implementations,
    reason = "zerocopy derives types of its own for fields; ours all have Debug"
)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `FUSE_IO_URING_CMD_REGISTER`: gives an entry to the kernel for the first time.
pub const REGISTER: u32 = 1;
/// `FUSE_IO_URING_CMD_COMMIT_AND_FETCH`: answers the request in an entry, and gives the entry back.
pub const COMMIT_AND_FETCH: u32 = 2;
/// Room for the header of a request or an answer, and for the structure of its opcode, in bytes.
pub const HEADER_ROOM_LEN_BYTES: usize = 128;

/// `struct fuse_uring_req_header`: all of a request but what follows the structure of its opcode.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EntryHeader {
    /// The header of the request, and later of its answer.
    pub in_out: [u8; HEADER_ROOM_LEN_BYTES],
    /// The structure of the opcode; where it has none, or a shorter one, bytes of earlier requests.
    pub op_in: [u8; HEADER_ROOM_LEN_BYTES],
    /// What concerns the entry itself.
    pub entry: EntryInOut,
}

/// `struct fuse_uring_ent_in_out`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EntryInOut {
    /// None is defined.
    pub flags: u64,
    /// What names the entry when its answer is committed.
    pub commit_id: u64,
    /// How much of the payload counts, in bytes.
    pub payload_sz: u32,
    /// Unused.
    pub padding: u32,
    /// Unused.
    pub reserved: u64,
}

/// `struct fuse_uring_cmd_req`: the arguments of a command, in its submission entry.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Command {
    /// None is defined.
    pub flags: u64,
    /// [`EntryInOut::commit_id`] of the request that is answered.
    pub commit_id: u64,
    /// The queue: the number of a CPU.
    pub qid: u16,
    /// Unused.
    pub padding: [u8; 6],
}

/// `struct io_uring_sqe` of 128 bytes, as `IORING_OP_URING_CMD` uses it.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Submission {
    /// `IORING_OP_URING_CMD`.
    pub opcode: u8,
    /// `IOSQE_*`.
    pub flags: u8,
    /// Unused.
    pub ioprio: u16,
    /// The FUSE device.
    pub fd: i32,
    /// [`REGISTER`] or [`COMMIT_AND_FETCH`].
    pub cmd_op: u32,
    /// Unused.
    pub padding: u32,
    /// Of REGISTER: where its two `struct iovec` are, of the header and of the payload.
    pub addr: u64,
    /// Of REGISTER: how many there are.
    pub len: u32,
    /// Unused.
    pub cmd_flags: u32,
    /// What the completion repeats.
    pub user_data: u64,
    /// Unused.
    pub rest: u64,
    /// The arguments.
    pub command: Command,
    /// Unused.
    pub command_rest: [u8; 56],
}

const _: () = assert!(size_of::<EntryHeader>() == 288);
const _: () = assert!(size_of::<Command>() == 24);
const _: () = assert!(size_of::<Submission>() == 128);
const _: () = assert!(std::mem::offset_of!(Submission, command) == 48);
