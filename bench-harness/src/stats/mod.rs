//! Statistics: pure functions over samples.

pub mod histogram;
pub mod order;
pub mod summary;
