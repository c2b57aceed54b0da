//! How cells moved over stored runs: series of ratios to a reference, and where they changed.
//!
//! Absolute times differ from day to day for reasons that no commit has. A
//! ratio to work that was measured in the same blocks keeps most of that out;
//! what is left is shown, never judged.

mod load;
mod series;

pub use load::{load, one_host};
pub use series::{Series, all_series};

#[cfg(test)]
mod tests;
