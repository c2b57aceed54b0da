//! Tree literals, scenario replay, reference model. Used from tests only.

pub mod branches;
pub mod calls;
pub mod compare;
pub mod direct;
pub mod dump;
pub mod error;
pub mod history;
pub mod host_calls;
pub mod hostile;
pub mod isolate;
pub mod kernel_calls;
pub mod layers;
pub mod model;
pub mod mounted;
pub mod needs;
pub mod op;
pub mod process;
pub mod replay;
pub mod scenario;
pub mod stress;
pub mod subject;
pub mod text;
pub mod tree;
pub mod trials;
pub mod unlike;
pub mod walk;
