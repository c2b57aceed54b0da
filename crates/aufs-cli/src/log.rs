//! The log: events of all crates on stderr, filtered by `AUFS_LOG`.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

/// Environment variable with the filter, such as `debug` or `aufs_union=trace`.
const FILTER_ENV: &str = "AUFS_LOG";

/// Who reads the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// Whoever called the command, now: warnings only.
    Caller,
    /// Whoever follows what a server does.
    Watcher,
    /// Whoever looks into the file later, and wants to know when.
    File,
}

/// Starts logging, as much as `reader` wants unless `AUFS_LOG` says otherwise.
pub fn start(reader: Reader) {
    let level = match reader {
        Reader::Caller => "warn",
        Reader::Watcher => "debug",
        Reader::File => "info",
    };
    let filter = EnvFilter::try_from_env(FILTER_ENV).unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(false)
        // It would report a full disk under the log file to that same file, and panic.
        .log_internal_errors(false);
    let started = if reader == Reader::File { log.try_init() } else { log.without_time().try_init() };
    if let Err(error) = started {
        tracing::debug!(%error, "a log was started before");
    }
}
