//! Statistics: pure functions over samples.

pub mod binomial;
pub mod drift;
pub mod histogram;
pub mod holm;
pub mod order;
pub mod outliers;
pub mod precision;
pub mod quality;
pub mod signed_rank;
pub mod summary;
