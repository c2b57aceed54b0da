//! Layouts and numbers of the FUSE protocol, version 7.45, as the kernel lays them out.
//!
//! | module        | what it holds                                            |
//! |---------------|----------------------------------------------------------|
//! | [`flags`]     | flag words of INIT, OPEN, SETATTR, WRITE and others      |
//! | [`opcode`]    | what a request asks for, and what a notification says    |
//! | [`requests`]  | the structure each request begins with                   |
//! | [`replies`]   | the structures of answers and notifications              |
//! | [`uring`]     | where each of them lies when it travels by io_uring      |
//!
//! All numbers are in the byte order of the machine, as the kernel writes them.
//!
//! Source: `include/uapi/linux/fuse.h` of Linux 6.18.

pub mod flags;
pub mod opcode;
pub mod replies;
pub mod requests;
pub mod uring;

/// Major version we speak; no kernel has another.
pub const MAJOR: u32 = 7;
/// Newest minor version we know; the older of both sides' is in force.
pub const MINOR: u32 = 45;
/// Oldest minor version we serve: Linux 4.20, the first with both `FOPEN_CACHE_DIR` and `FUSE_MAX_PAGES`.
pub const MINOR_MIN: u32 = 28;
/// Node number of the root.
pub const ROOT_ID: u64 = 1;
/// Smallest buffer the kernel will fill: `FUSE_MIN_READ_BUFFER`.
pub const READ_BUFFER_LEN_BYTES_MIN: usize = 8192;
/// Size of a page of the kernel, in which it counts the length of requests.
pub const PAGE_LEN_BYTES: usize = 4096;
