//! The FUSE wire protocol: typed requests and replies over read/writev and io_uring.
//!
//! | module      | what it does                                                   |
//! |-------------|----------------------------------------------------------------|
//! | [`abi`]     | layouts and numbers, as the kernel has them                    |
//! | [`device`]  | the descriptor, its clones, registered backing files           |
//! | [`init`]    | what kernel and server agree on; pure                          |
//! | [`request`] | bytes to typed requests; pure                                  |
//! | [`reply`]   | typed replies to bytes, over whichever way the request came    |
//! | [`listing`] | answers to READDIR; pure                                       |
//! | [`notify`]  | what the kernel keeps and should look at again                 |
//! | [`session`] | reads requests and hands each to a [`session::Handler`]        |
//! | [`transport`] | device or io_uring, and why                                   |
//! | [`interrupts`] | signals of callers, for whoever works long                   |
//! | [`stats`]   | counts and latencies of requests                               |
//!
//! Nothing here knows what a file system does with a request.

pub mod abi;
mod cpus;
pub mod device;
mod dispatch;
mod dying;
mod follow;
mod groups;
pub mod init;
pub mod interrupts;
pub mod listing;
pub mod notify;
pub mod reply;
pub mod request;
pub mod session;
pub mod stats;
mod stay;
pub mod transport;
mod uring;

// The toy file system of the integration tests, for tests of what only this crate sees.
#[cfg(test)]
extern crate self as aufs_fusedev;
#[cfg(test)]
#[path = "../tests/toy/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    missing_docs,
    missing_debug_implementations,
    reason = "other tests use the rest"
)]
mod toy;
