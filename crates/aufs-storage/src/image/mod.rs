//! Images: stacks of layers with a configuration, known by digests, called by names.

pub mod digest;
pub mod error;
mod layout;
mod load;
mod load_limits;
pub mod reference;
mod remove;
mod save;
mod source;
pub mod split;
mod store;

pub(crate) use load::NewLayer;
pub use load::{LoadOptions, Loaded, Progress};
pub use load_limits::LimitError;
pub use remove::Removed;
pub use save::SaveForm;
pub use store::{HistoryEntry, ImageInfo, ImageStore, LayerInfo};
