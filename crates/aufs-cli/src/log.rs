//! The log: events of all crates on stderr, filtered by `AUFS_LOG`.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

/// Environment variable with the filter, such as `debug` or `aufs_union=trace`.
const FILTER_ENV: &str = "AUFS_LOG";

/// Starts logging at `level`, unless `AUFS_LOG` says otherwise.
///
/// A daemon keeps this log: its stderr is replaced below it.
pub fn start(level: &str) {
    let filter = EnvFilter::try_from_env(FILTER_ENV).unwrap_or_else(|_| EnvFilter::new(level));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(false)
        .without_time()
        .try_init();
    if let Err(error) = started {
        tracing::debug!(%error, "a log was started before");
    }
}
