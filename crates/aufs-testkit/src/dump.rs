//! Reads a whole tree through a subject, reduced to what is compared.

use std::collections::BTreeMap;

use rustix::fs::{FileType, Mode, OFlags, major, minor};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::branches::flag_letters;
use crate::scenario::{Seen, Tree};
use crate::subject::{Fault, Final, Outcome, Position, Stat, Subject};
use crate::text::{name_of, text_of};

/// Names at a branch's root that aufs keeps for itself; implementations differ in them.
pub const BOOKKEEPING: [&str; 4] = [".wh..wh.aufs", ".wh..wh.orph", ".wh..wh.plnk", ".wh..wh.draft"];

/// Where the pseudo-links of a branch lie; each is one more link of a copied-up file.
pub const PSEUDO_LINKS: &str = ".wh..wh.plnk";

/// What a dump needs to know of the scenario.
#[derive(Debug, Clone, Default)]
pub struct Since {
    /// Times from here on read `now`; nanoseconds since the epoch.
    pub start_ns: i128,
    /// Digest of the program that the scenario put into a branch.
    pub exe_digest: Option<String>,
}

/// Dumps what lies below `root`, as [`crate::op`] names paths.
///
/// # Errors
///
/// Only [`Fault::Unsupported`] and [`Fault::Broken`]; refusals are part of the dump.
pub fn dump<S: Subject>(subject: &mut S, root: &str, since: &Since) -> Outcome<Tree> {
    let mut dump = Dump {
        subject,
        since,
        root: root.to_owned(),
        tree: Tree::default(),
        inodes: BTreeMap::new(),
        pseudo_links: BTreeMap::new(),
    };
    dump.count_pseudo_links()?;
    dump.visit(".")?;
    let mut same_inode: Vec<Vec<String>> = dump.inodes.into_values().filter(|it| it.len() > 1).collect();
    for paths in &mut same_inode {
        paths.sort();
    }
    same_inode.sort();
    Ok(Tree { same_inode, ..dump.tree })
}

/// A stat as scenarios record it, without a path.
pub fn seen_from(stat: &Stat, since: &Since) -> Seen {
    let kind = kind_of(stat.mode);
    let is_dir = kind == "dir";
    let is_device = matches!(kind, "chr" | "blk");
    Seen {
        kind: Some(kind.to_owned()),
        mode: Some(format!("{:04o}", stat.mode & 0o7777)),
        uid: Some(stat.uid),
        gid: Some(stat.gid),
        nlink: (!is_dir).then_some(stat.nlink),
        mtime: Some(time_of(stat.mtime_ns, since)),
        size: (!is_dir).then_some(stat.size),
        rdev: is_device.then(|| format!("{}:{}", major(stat.rdev), minor(stat.rdev))),
        ..Seen::default()
    }
}

fn time_of(ns: i128, since: &Since) -> Value {
    if ns >= since.start_ns {
        return Value::from("now");
    }
    let seconds = i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX);
    if ns % 1_000_000_000 == 0 { Value::from(seconds) } else { Value::from(format!("{ns} ns")) }
}

/// The name of a mode's file type.
pub fn kind_of(mode: u32) -> &'static str {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => "file",
        FileType::Directory => "dir",
        FileType::Symlink => "symlink",
        FileType::Fifo => "fifo",
        FileType::Socket => "sock",
        FileType::CharacterDevice => "chr",
        FileType::BlockDevice => "blk",
        FileType::Unknown => "?",
    }
}

struct Dump<'a, S> {
    subject: &'a mut S,
    since: &'a Since,
    root: String,
    tree: Tree,
    inodes: BTreeMap<(u64, u64), Vec<String>>,
    /// How many links of an inode are pseudo-links.
    pseudo_links: BTreeMap<(u64, u64), u64>,
}

impl<S: Subject> Dump<'_, S> {
    fn count_pseudo_links(&mut self) -> Outcome<()> {
        let directory = join(&self.root, PSEUDO_LINKS);
        for name in refusal(self.subject.list(&directory))?.unwrap_or_default() {
            let stat = refusal(self.subject.stat(&join(&directory, &name), Final::Itself))?;
            if let Ok(stat) = stat {
                *self.pseudo_links.entry((stat.dev, stat.ino)).or_default() += 1;
            }
        }
        Ok(())
    }

    fn visit(&mut self, path: &str) -> Outcome<()> {
        if BOOKKEEPING.iter().any(|it| path.starts_with(it)) {
            return Ok(());
        }
        let at = join(&self.root, path);
        let stat = match refusal(self.subject.stat(&at, Final::Itself))? {
            Ok(stat) => stat,
            Err(error) => {
                self.tree.entries.push(Seen { path: path.to_owned(), error: Some(error), ..Seen::default() });
                return Ok(());
            }
        };
        let names = match kind_of(stat.mode) {
            "dir" => Some(refusal(self.subject.list(&at))?),
            _ => None,
        };
        let mut seen = self.describe(&at, path, &stat)?;
        if let Some(Err(error)) = &names {
            seen.list_error = Some(error.clone());
        }
        // They are bookkeeping, and so is what they add to the number of links.
        if let (Some(links), Some(count)) = (&mut seen.nlink, self.pseudo_links.get(&(stat.dev, stat.ino))) {
            *links = links.saturating_sub(*count);
        }
        let is_whiteout = reduce(&mut seen);
        if seen.kind.as_deref() != Some("dir") && !is_whiteout {
            self.inodes.entry((stat.dev, stat.ino)).or_default().push(path.to_owned());
        }
        self.tree.entries.push(seen);
        for name in names.and_then(Result::ok).unwrap_or_default() {
            if path != "." {
                self.visit(&format!("{path}/{name}"))?;
            } else if name != "lost+found" {
                self.visit(&name)?;
            }
        }
        Ok(())
    }

    fn describe(&mut self, at: &str, path: &str, stat: &Stat) -> Outcome<Seen> {
        let mut seen = Seen { path: path.to_owned(), ..seen_from(stat, self.since) };
        let xattrs = self.xattrs(at)?;
        seen.xattrs = (!xattrs.is_empty()).then_some(xattrs);
        match kind_of(stat.mode) {
            "symlink" => seen.target = refusal(self.subject.readlink(at))?.ok(),
            "file" => self.read(at, &mut seen)?,
            _ => {}
        }
        Ok(seen)
    }

    fn xattrs(&mut self, at: &str) -> Outcome<BTreeMap<String, String>> {
        let names = match refusal(self.subject.listxattr(at))? {
            Ok(names) => names,
            Err(error) => return Ok(BTreeMap::from([("_list_error".to_owned(), error)])),
        };
        let mut found = BTreeMap::new();
        for name in names {
            let value = match refusal(self.subject.getxattr(at, &name))? {
                Ok(value) => text_of(&value),
                Err(error) => format!("ERR:{error}"),
            };
            if !name.starts_with("trusted.overlay.") {
                found.insert(name, value);
            }
        }
        Ok(found)
    }

    /// Adds flags and content; a file that cannot be read has neither.
    fn read(&mut self, at: &str, seen: &mut Seen) -> Outcome<()> {
        let careful = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let Ok(mut file) = refusal(self.subject.open(at, careful, Mode::empty()))? else { return Ok(()) };
        seen.attr = match self.subject.getflags(&file) {
            Ok(flags) => flag_letters(flags),
            Err(_) => None,
        };
        let mut digest = Sha256::new();
        let mut head = Vec::new();
        loop {
            let Ok(bytes) = refusal(self.subject.read(&mut file, 1 << 20, Position::Current))? else {
                return Ok(());
            };
            if bytes.is_empty() {
                break;
            }
            if head.len() < 64 {
                head.extend_from_slice(bytes.get(..64).unwrap_or(&bytes));
            }
            digest.update(&bytes);
        }
        let digest = hex(&digest.finalize());
        if seen.size.is_some_and(|it| it <= 64) {
            seen.content = Some(text_of(&head));
        } else if self.since.exe_digest.as_ref() == Some(&digest) {
            seen.sha256 = Some("exe".to_owned());
            seen.size = None;
        } else {
            seen.sha256 = Some(digest);
        }
        Ok(())
    }
}

/// A digest in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Takes away what is never compared; returns whether the entry is a whiteout or marker.
///
/// The time of a root moves with aufs's bookkeeping there; a marker's content,
/// mode, links and times mean nothing.
pub fn reduce(seen: &mut Seen) -> bool {
    if seen.path == "." {
        seen.mtime = None;
    }
    let name = seen.path.rsplit('/').next().unwrap_or_default();
    let is_marker = name.starts_with(".wh.");
    if is_marker {
        *seen = Seen {
            nlink: None,
            mtime: None,
            mode: None,
            sha256: None,
            content: None,
            xattrs: None,
            ..std::mem::take(seen)
        };
    }
    is_marker
}

/// Keeps what an operation `snapshot` shows: no digests, flags or listing errors.
pub fn snapshot_of(tree: Tree) -> Vec<Seen> {
    let slim = |seen: Seen| Seen { sha256: None, attr: None, error: None, list_error: None, ..seen };
    tree.entries.into_iter().map(slim).collect()
}

/// A path below `root`, as [`crate::op`] writes it.
pub fn join(root: &str, path: &str) -> String {
    match (root, path) {
        (_, ".") => root.to_owned(),
        (".", _) => path.to_owned(),
        _ => format!("{root}/{path}"),
    }
}

/// Turns a refusal into its name; other faults stay faults.
pub fn refusal<T>(outcome: Outcome<T>) -> Outcome<Result<T, String>> {
    match outcome {
        Ok(value) => Ok(Ok(value)),
        Err(Fault::Errno(errno)) => Ok(Err(name_of(errno))),
        Err(fault) => Err(fault),
    }
}
