//! Which file systems the kernel offers.

use std::fs;
use std::io;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::fact::Fact;

/// The file systems that a report names.
const NAMES: [&str; 9] = ["aufs", "overlay", "fuse", "btrfs", "xfs", "ext4", "tmpfs", "squashfs", "erofs"];

const LIST: &str = "/proc/filesystems";

/// How `/proc/filesystems` lists a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Listing {
    /// Not at all.
    Absent,
    /// With `nodev`: it needs no block device.
    Nodev,
    /// Without `nodev`: it lies on a block device.
    Device,
    /// The list cannot be read.
    Unknown,
}

impl Listing {
    /// Whether the kernel offers the file system.
    pub fn is_listed(self) -> bool {
        matches!(self, Self::Nodev | Self::Device)
    }

    /// Returns how the report shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "no",
            Self::Nodev => "yes (nodev)",
            Self::Device => "yes",
            Self::Unknown => "unknown",
        }
    }
}

/// A file system and how the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesystemFact {
    /// The name, as in `mount -t`.
    pub name: String,
    /// How it is listed.
    pub listing: Fact<Listing>,
}

/// Whether the text of `/proc/filesystems` lists `name`.
///
/// The name must match whole: `contains("aufs")` would also accept `fooaufs`.
pub fn lists_filesystem(proc_filesystems: &str, name: &str) -> bool {
    listing(proc_filesystems, name).is_listed()
}

/// Finds `name` in the text of `/proc/filesystems`; each line is `[nodev]\t<name>`.
fn listing(proc_filesystems: &str, name: &str) -> Listing {
    for line in proc_filesystems.lines() {
        match line.split_once('\t') {
            Some(("nodev", found)) if found == name => return Listing::Nodev,
            Some(("", found)) if found == name => return Listing::Device,
            _ => {}
        }
    }
    Listing::Absent
}

/// Looks every known name up; root asks modprobe for those that are not listed.
pub(crate) fn detect(may_load_modules: bool) -> Vec<FilesystemFact> {
    let before = fs::read_to_string(LIST);
    let fact = |name: &str| match &before {
        Err(error) => Fact::new(Listing::Unknown, format!("{LIST}: {error}")),
        Ok(text) => match listing(text, name) {
            Listing::Absent if may_load_modules => after_modprobe(name),
            Listing::Absent => {
                Fact::new(Listing::Absent, format!("not in {LIST}; only the machine's root may load modules"))
            }
            listed => Fact::new(listed, LIST),
        },
    };
    NAMES.iter().map(|name| FilesystemFact { name: (*name).to_owned(), listing: fact(name) }).collect()
}

fn after_modprobe(name: &str) -> Fact<Listing> {
    let attempt = modprobe(name);
    match fs::read_to_string(LIST) {
        Err(error) => Fact::new(Listing::Unknown, format!("{LIST}: {error}")),
        Ok(text) => match listing(&text, name) {
            Listing::Absent => Fact::new(Listing::Absent, format!("not in {LIST}; {attempt}")),
            listed => Fact::new(listed, format!("{LIST}, after modprobe {name}")),
        },
    }
}

/// Asks for the module `name` and says what came of it.
fn modprobe(name: &str) -> String {
    // A service's PATH often has no sbin.
    for program in ["modprobe", "/usr/sbin/modprobe", "/sbin/modprobe"] {
        match Command::new(program).arg(name).stdin(Stdio::null()).output() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return format!("{program}: {error}"),
            Ok(output) if output.status.success() => return format!("modprobe {name} found it built in"),
            Ok(output) => {
                let stderr = String::from_utf8_lossy(&output.stderr);
                let line = stderr.lines().next().unwrap_or("refused without a word").trim();
                return line
                    .strip_prefix("modprobe: ")
                    .map_or_else(|| line.to_owned(), |it| format!("modprobe: {it}"));
            }
        }
    }
    "there is no modprobe to load it".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "nodev\tsysfs\nnodev\ttmpfs\n\text4\nnodev\tfooaufs\n\tfuseblk\nnodev\tfuse\n";

    #[test]
    fn names_match_whole_and_keep_their_flag() {
        for (name, expected) in [
            ("tmpfs", Listing::Nodev),
            ("ext4", Listing::Device),
            ("fuse", Listing::Nodev),
            ("fuseblk", Listing::Device),
            ("aufs", Listing::Absent),
            ("fooauf", Listing::Absent),
            ("nodev", Listing::Absent),
            ("", Listing::Absent),
        ] {
            assert_eq!(listing(TEXT, name), expected, "{name}");
            assert_eq!(lists_filesystem(TEXT, name), expected.is_listed(), "{name}");
        }
        assert!(lists_filesystem("nodev\taufs", "aufs"), "a last line without newline counts");
    }

    #[test]
    fn every_name_is_reported_with_a_reason() {
        let facts = detect(false);
        assert_eq!(facts.len(), NAMES.len());
        assert!(facts.iter().all(|it| !it.listing.reason.is_empty()));
    }
}
