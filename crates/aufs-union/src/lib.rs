//! AUFS semantics on plain directories: lookup, whiteouts, opaque, copy-up, rename.
//!
//! A [`Union`] shows a stack of branches as one tree. It works on [`Node`]s,
//! not paths: `lookup(dir, name)`, `create(dir, name, …)`. The rule of
//! precedence is one pure function, [`resolve::resolve`]; the rest reads
//! branches for it and carries out, in an order that a crash cannot spoil,
//! what it says. Nothing here knows of FUSE, mounts, layers or archives.

pub mod attr;
pub mod branch;
mod change;
mod copy_directory;
mod copy_draft;
mod copy_up;
mod counters;
mod create;
mod directory;
pub mod error;
mod facts;
mod file;
mod file_name;
mod gather;
mod handles;
mod heir;
mod index;
mod links;
mod lookup;
mod marker;
mod nameless;
pub mod names;
mod node;
mod pseudo_link;
mod remove;
mod rename;
mod report;
pub mod resolve;
mod restack;
mod restack_plan;
mod shards;
mod spot;
mod stack;
mod union;
mod writable;

pub use aufs_host::copy::CopyMethod;
pub use change::IsMember;
pub use copy_up::{CopiedFile, Keep};
pub use counters::Counters;
pub use create::New;
pub use directory::DirEntry;
pub use error::{UnionError, UnionErrorKind};
pub use file::{CAPABILITY, OpenFile};
pub use lookup::Found;
pub use node::Node;
pub use rename::RenameMode;
pub use report::{Change, CopyUpPhases, CopyUpReport};
pub use restack::{Affected, BranchChange, RestackError, Restacked, Users};
pub use union::{Union, UnionOptions};
pub use writable::OpenUnionError;
