//! Statistics: pure functions over samples.

pub mod binomial;
pub mod change_points;
pub mod drift;
pub mod fit;
pub mod histogram;
pub mod holm;
pub mod order;
pub mod outliers;
pub mod precision;
pub mod quality;
pub mod rank_sum;
pub mod sign_test;
pub mod signed_rank;
pub mod summary;
