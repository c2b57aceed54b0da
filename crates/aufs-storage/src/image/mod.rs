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

pub(crate) use layout::diff_ids;
pub(crate) use load::NewLayer;
pub use load::{LoadOptions, Loaded, Progress};
pub use load_limits::LimitError;
pub use remove::Removed;
pub use save::SaveForm;
pub(crate) use save::put_together;
pub use store::{HistoryEntry, ImageInfo, ImageStore, LayerInfo};
pub(crate) use store::{LayerRecord, Tag};
