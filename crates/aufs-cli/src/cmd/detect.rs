//! `aufs detect`: what would mount AUFS branches on this host, and why.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use anyhow::Context;
use aufs_detect::{DirectoryFacts, Fact, HostFacts, Verdict};
use clap::Args;
use serde::Serialize;

use crate::exit::Exit;

/// Say what this host and these directories can do, and what would mount AUFS branches here.
#[derive(Debug, Args)]
pub struct DetectArgs {
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,

    /// Answer as `grep aufs /proc/filesystems` does: print the line and exit 0 when the kernel has
    /// aufs; else exit 1 and say on stderr what our server could do.
    #[arg(long, conflicts_with_all = ["json", "directories"])]
    check: bool,

    /// Directories whose file systems are looked at too.
    #[arg(value_name = "DIR")]
    directories: Vec<PathBuf>,
}

/// Runs the command.
///
/// # Errors
///
/// A directory cannot be looked at, or stdout cannot be written.
pub fn run(args: DetectArgs) -> anyhow::Result<Exit> {
    if args.check {
        return match check(&aufs_detect::detect_host()) {
            Ok(line) => print(line).map(|()| Exit::Success),
            Err(text) => {
                std::io::stderr().write_all(text.as_bytes()).context("write to stderr")?;
                Ok(Exit::Failure)
            }
        };
    }
    // First, so that a wrong name is the only thing that is said.
    let directories =
        args.directories.iter().map(|it| aufs_detect::detect_directory(it)).collect::<Result<Vec<_>, _>>()?;
    let host = aufs_detect::detect_host();
    let verdict = aufs_detect::verdict(&host);
    let text = if args.json {
        let mut text = serde_json::to_string_pretty(&Output { host, directories, verdict })?;
        text.push('\n');
        text
    } else {
        table(&host, &directories, &verdict)
    };
    print(&text)?;
    Ok(Exit::Success)
}

/// The JSON object.
#[derive(Debug, Serialize)]
struct Output {
    host: HostFacts,
    directories: Vec<DirectoryFacts>,
    verdict: Verdict,
}

/// The line of `/proc/filesystems` that the kernel's aufs has, or why there is none and what would do instead.
fn check(host: &HostFacts) -> Result<&'static str, String> {
    match host.filesystem("aufs") {
        Some(listing) if listing.value.is_listed() => Ok("nodev\taufs\n"),
        listing => {
            let reason = listing.map_or("unknown", |it| it.reason.as_str());
            Err(format!("no kernel aufs ({reason}); {}\n", Verdict::of_our_server(host).sentence))
        }
    }
}

/// Writes to stdout. A reader that has left, such as `head`, is no error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("write to stdout"),
    }
}

/// One line of the table: fact, value, reason.
type Row = [String; 3];

/// Lays everything out for reading; the last line is the verdict.
fn table(host: &HostFacts, directories: &[DirectoryFacts], verdict: &Verdict) -> String {
    let mut blocks = vec![host_rows(host)];
    blocks.extend(directories.iter().map(directory_rows));
    let mut text = String::new();
    for rows in &blocks {
        text.push_str(&aligned(rows));
        text.push('\n');
    }
    text.push_str("verdict: ");
    text.push_str(&verdict.sentence);
    text.push('\n');
    text
}

fn row<T>(name: impl Into<String>, fact: &Fact<T>, show: impl FnOnce(&T) -> String) -> Row {
    [name.into(), show(&fact.value), fact.reason.clone()]
}

fn yes_no(value: &bool) -> String {
    if *value { "yes" } else { "no" }.to_owned()
}

fn host_rows(host: &HostFacts) -> Vec<Row> {
    let mut rows = vec![
        ["FACT", "VALUE", "REASON"].map(str::to_owned),
        row("kernel", &host.kernel_release, String::clone),
        row("root", &host.privileges.root, yes_no),
        row("CAP_SYS_ADMIN", &host.privileges.cap_sys_admin, yes_no),
        row("initial user namespace", &host.privileges.initial_user_namespace, ToString::to_string),
        row("new user namespace", &host.privileges.user_namespace, ToString::to_string),
    ];
    rows.extend(host.filesystems.iter().map(|it| {
        row(format!("filesystem {}", it.name), &it.listing, |listing| listing.as_str().to_owned())
    }));
    rows.push(row("aufs mount", &host.aufs.mount, ToString::to_string));
    rows.push(row("aufs dirperm1", &host.aufs.dirperm1, ToString::to_string));
    rows.push(row("overlay mount", &host.overlay.mount, ToString::to_string));
    for (name, fact) in &host.overlay.options {
        rows.push(row(format!("overlay {name}"), fact, ToString::to_string));
    }
    for (name, fact) in &host.overlay.parameters {
        rows.push(row(format!("overlay parameter {name}"), fact, String::clone));
    }
    let fuse = &host.fuse;
    rows.push(row("fuse device", &fuse.device, yes_no));
    rows.push(row("fuse mount", &fuse.mount, ToString::to_string));
    rows.push(row("fuse ABI", &fuse.abi, |abi| {
        abi.map_or_else(|| "unknown".to_owned(), |it| it.to_string())
    }));
    rows.push(row("fuse passthrough", &fuse.passthrough, |it| it.as_str().to_owned()));
    rows.push(row("fuse io_uring", &fuse.io_uring, ToString::to_string));
    rows
}

fn directory_rows(facts: &DirectoryFacts) -> Vec<Row> {
    vec![
        [format!("DIRECTORY {}", facts.path.display()), String::new(), String::new()],
        row("backing file system", &facts.backing_fs, String::clone),
        row("writable", &facts.writable, ToString::to_string),
        row("reflink", &facts.reflink, ToString::to_string),
        row("O_TMPFILE", &facts.o_tmpfile, ToString::to_string),
        row("user xattrs", &facts.user_xattrs, ToString::to_string),
        row("trusted xattrs", &facts.trusted_xattrs, ToString::to_string),
        row("d_type", &facts.d_type, ToString::to_string),
        row("free space", &facts.free_bytes, |bytes| size_text(*bytes)),
        row("free inodes", &facts.free_inodes, |count| {
            count.map_or_else(|| "unlimited".to_owned(), |it| it.to_string())
        }),
    ]
}

/// Pads each column to its widest cell. A row without value is a heading and widens nothing.
fn aligned(rows: &[Row]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter(|row| !row[1].is_empty()).map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let [first, second] = [width(0), width(1)];
    let line = |[name, value, reason]: &Row| format!("{name:first$}  {value:second$}  {reason}");
    rows.iter().map(|row| line(row).trim_end().to_owned() + "\n").collect()
}

/// Writes a size with three digits and a binary unit.
fn size_text(bytes: u64) -> String {
    let mut size = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"].iter();
    let mut unit = units.next();
    while 1024.0 <= size {
        let Some(next) = units.next() else { break };
        unit = Some(next);
        size /= 1024.0;
    }
    let digits = if size < 10.0 && 1024 <= bytes { 1 } else { 0 };
    format!("{size:.digits$} {}", unit.unwrap_or(&""))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use aufs_detect::{FilesystemFact, Listing};

    use super::*;

    #[test]
    fn sizes_are_short_and_have_units() {
        for (bytes, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (64 << 20, "64 MiB"),
            (u64::MAX, "16384 PiB"),
        ] {
            assert_eq!(size_text(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn the_check_answers_as_grep_does() {
        let mut host = aufs_detect::detect_host();
        for (value, answers) in [
            (Listing::Nodev, true),
            (Listing::Device, true),
            (Listing::Absent, false),
            (Listing::Unknown, false),
        ] {
            let reason = "the reason".to_owned();
            host.filesystems =
                vec![FilesystemFact { name: "aufs".to_owned(), listing: Fact { value, reason } }];
            match check(&host) {
                Ok(line) => assert!(answers && line == "nodev\taufs\n", "{value:?}"),
                Err(text) => {
                    assert!(
                        !answers && text.starts_with("no kernel aufs (the reason); "),
                        "{value:?}: {text}"
                    );
                    assert_eq!(text.lines().count(), 1);
                }
            }
        }
    }

    #[test]
    fn the_table_ends_with_the_verdict_and_every_value_has_a_reason() {
        let host = aufs_detect::detect_host();
        let directory = aufs_detect::detect_directory(Path::new("/")).unwrap();
        let verdict = aufs_detect::verdict(&host);
        for [name, value, reason] in host_rows(&host).iter().chain(&directory_rows(&directory)[1..]) {
            assert!(!value.is_empty() && !reason.is_empty(), "{name}: {value:?} {reason:?}");
        }
        let text = table(&host, &[directory], &verdict);
        assert_eq!(text.lines().last(), Some(format!("verdict: {}", verdict.sentence).as_str()));
    }

    #[test]
    fn columns_line_up_and_headings_do_not_widen_them() {
        let rows = [
            ["DIRECTORY /a/very/long/path", "", ""],
            ["reflink", "no", "FICLONE: refused"],
            ["free inodes", "unlimited", "statvfs"],
        ]
        .map(|row| row.map(str::to_owned));
        let expected = "DIRECTORY /a/very/long/path\n\
                        reflink      no         FICLONE: refused\n\
                        free inodes  unlimited  statvfs\n";
        assert_eq!(aligned(&rows), expected);
    }
}
