//! `aufs stat`: what a server did since it was mounted.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use aufs_fuse::report::{OperationReport, REPORT_XATTR, Report};
use aufs_mount::ask::ask;
use clap::Args;

use crate::exit::{self, Exit};

/// Show what the server of MOUNTPOINT did: requests with their latencies, lookups, copy-ups and their phases.
#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub struct StatArgs {
    /// Print JSON, with the whole histogram of each operation.
    #[arg(long)]
    json: bool,

    /// Where the union is mounted.
    mountpoint: PathBuf,
}

/// Runs the verb.
pub fn run(args: StatArgs) -> anyhow::Result<Exit> {
    let text = ask(&args.mountpoint, REPORT_XATTR)?;
    let report: Report =
        serde_json::from_slice(&text).context("the server is of another version; mount again to ask it")?;
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        out.write_all(table(&report).as_bytes())?;
    }
    Ok(Exit::Success)
}

fn table(report: &Report) -> String {
    let Report { lookups, copy_ups, .. } = report;
    let phases = &copy_ups.phases;
    let mut lines = vec![
        format!(
            "data mode {}, FUSE {} over {}, server {}, up {}",
            report.data_mode,
            report.protocol,
            report.transport,
            report.pid,
            duration((report.uptime_s * 1e9) as u64)
        ),
        format!(
            "{} nodes known, {} files and {} directories open, {} requests",
            report.nodes, report.open_files, report.open_directories, report.requests
        ),
        format!(
            "lookups: {} of known names, {} from an index, {} asked the branches; {} directories indexed",
            lookups.known_names, lookups.index_hits, lookups.probes, lookups.indexes_built
        ),
        format!(
            "copy-ups: {} files ({} bytes; {} reflink, {} copy_file_range, {} read and write), {} directories, {} others",
            copy_ups.files,
            copy_ups.len_bytes,
            copy_ups.by_reflink,
            copy_ups.by_copy_file_range,
            copy_ups.by_read_write,
            copy_ups.directories,
            copy_ups.others
        ),
        format!(
            "  time: parents {}, open {}, data {}, attributes {}, publish {}",
            duration(phases.parents_ns),
            duration(phases.open_source_ns),
            duration(phases.data_ns),
            duration(phases.attributes_ns),
            duration(phases.publish_ns)
        ),
        String::new(),
        format!(
            "{:<16} {:>10} {:>8} {:>10} {:>10} {:>10} {:>10}",
            "operation", "count", "errors", "mean", "p50", "p99", "max"
        ),
    ];
    lines.extend(report.operations.iter().map(row));
    lines.push(String::new());
    lines.join("\n")
}

fn row(it: &OperationReport) -> String {
    format!(
        "{:<16} {:>10} {:>8} {:>10} {:>10} {:>10} {:>10}",
        it.name,
        it.count,
        it.errors,
        duration(it.total_ns / it.count.max(1)),
        duration(it.p50_ns),
        duration(it.p99_ns),
        duration(it.max_ns)
    )
}

/// Writes nanoseconds with three digits and a unit.
fn duration(elapsed_ns: u64) -> String {
    let elapsed = elapsed_ns as f64;
    let (value, unit) = match elapsed_ns {
        0..1_000 => return format!("{elapsed_ns} ns"),
        1_000..1_000_000 => (elapsed / 1e3, "us"),
        1_000_000..1_000_000_000 => (elapsed / 1e6, "ms"),
        1_000_000_000..60_000_000_000 => (elapsed / 1e9, "s"),
        60_000_000_000..3_600_000_000_000 => (elapsed / 60e9, "min"),
        _ => (elapsed / 3_600e9, "h"),
    };
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits() {
        for (elapsed_ns, expected) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_234, "1.23 us"),
            (12_345, "12.3 us"),
            (123_456, "123 us"),
            (999_600, "1000 us"),
            (1_500_000, "1.50 ms"),
            (61_000_000_000, "1.02 min"),
            (7_200_000_000_000, "2.00 h"),
        ] {
            assert_eq!(duration(elapsed_ns), expected);
        }
    }
}
