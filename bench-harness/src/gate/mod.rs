//! The gate: is head slower than base?
//!
//! ```text
//! coin ─ who goes first ─► interleave ─ pairs of both arms ─► decide ─► PASS, FAIL or INCONCLUSIVE
//!                              ▲                                           │
//! arm ─ two to compare ─► live: real mounts ─► record: pairs.jsonl ─► report: tables, page, JUnit, annotations
//! ```
//!
//! `decide` judges and knows no clock, `coin` is the only source of chance,
//! `interleave` joins both with whatever measures; `selftest` tries all three on
//! mathematics, on simulated noise, on recorded latencies, and broken on purpose.

pub mod arm;
pub mod coin;
pub mod decide;
pub mod inject;
pub mod interleave;
pub mod live;
mod recheck;
pub mod record;
pub mod report;
pub mod selftest;
pub mod settings;
pub mod tally;
