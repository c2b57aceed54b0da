//! Serves a union: maps node numbers and handles, caching, data modes, errnos.

pub mod options;
