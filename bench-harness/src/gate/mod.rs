//! The gate: is head slower than base?
//!
//! ```text
//! coin ─ who goes first ─► interleave ─ pairs of both arms ─► decide ─► PASS, FAIL or INCONCLUSIVE
//! ```
//!
//! `decide` judges and knows no clock, `coin` is the only source of chance,
//! `interleave` joins both with whatever measures; `selftest` tries all three on
//! mathematics, on simulated noise, on recorded latencies, and broken on purpose.

pub mod coin;
pub mod decide;
pub mod interleave;
