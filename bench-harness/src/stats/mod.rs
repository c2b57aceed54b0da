//! Statistics: pure functions over samples.

pub mod binomial;
pub mod histogram;
pub mod holm;
pub mod order;
pub mod signed_rank;
pub mod summary;
