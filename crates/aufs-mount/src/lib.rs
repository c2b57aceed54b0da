//! Branch stacks and option strings; mounts a stack with kernel aufs or our FUSE server.

pub mod option;
