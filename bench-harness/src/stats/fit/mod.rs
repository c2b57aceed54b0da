//! What a change costs by file size and by layer: t = a + b·size + c·found-at.
//!
//! Every cell counts with one number, the median over blocks of its block
//! medians, weighted by 1/median², so that a fit is about relative errors.

pub mod cost;
mod intervals;
pub mod of_run;
pub mod shape;
mod solve;

pub use intervals::BLOCKS_MIN;

#[cfg(test)]
mod tests;
