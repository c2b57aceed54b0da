//! Branch stacks and option strings; mounts a stack with kernel aufs or our FUSE server.

pub mod ask;
pub mod error;
pub mod kernel;
pub mod mounter;
pub mod option;
mod overlay_marks;
pub mod remount;
pub mod request;
pub mod server;
pub mod stack;
pub mod table;
pub mod unmount;
