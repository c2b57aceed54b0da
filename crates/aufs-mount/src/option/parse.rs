//! Reads option texts word by word.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use aufs_union::BranchChange;
use aufs_union::branch::{BranchPerm, BranchPermError, BranchSpec};

use super::word::{self, Does};
use super::{
    DataModeError, MountOptions, OPTIONS_LEN_MAX, Parsed, TransportError, Udba, Warning, live, nearest,
    one_line, split,
};

/// Whose words are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// A person wrote them: an unknown word is an error.
    Own,
    /// `mount(8)`, containerd or podman wrote them: fuse-overlayfs's are taken as well, with a warning.
    Helper,
}

/// A word cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("option {word}")]
pub struct OptionError {
    /// The word, made to fit into one line.
    pub word: String,
    /// What is wrong with it.
    #[source]
    pub kind: OptionErrorKind,
}

/// What is wrong with a word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionErrorKind {
    /// No such word.
    #[error("unknown{}", nearest.map(|it| format!("; did you mean {it}?")).unwrap_or_default())]
    Unknown {
        /// The known word that looks most like it.
        nearest: Option<&'static str>,
    },
    /// `data` without `=auto`, for instance.
    #[error("needs a value")]
    NeedsValue,
    /// `ro=1`, for instance.
    #[error("takes no value")]
    TakesNoValue,
    /// The text after the last `=` of a branch is no permission.
    #[error("{0}; a = that belongs to the path is written \\=")]
    Perm(BranchPermError),
    /// A branch or directory without a name.
    #[error("names no path")]
    EmptyPath,
    /// A path cannot hold a zero byte.
    #[error("holds a zero byte")]
    ZeroByte,
    /// No such data mode.
    #[error(transparent)]
    Data(DataModeError),
    /// `transport=` of another kind.
    #[error(transparent)]
    Transport(TransportError),
    /// No such `udba`.
    #[error("expected udba=none or udba=reval")]
    Udba,
    /// No such `diropq`.
    #[error("expected diropq=always or diropq=whiteouted")]
    DirOpaque,
    /// Permission checks on every branch are not offered.
    #[error("not offered; the permissions of the topmost branch always decide (dirperm1)")]
    NoDirPerm1,
    /// `add:/a`, for instance.
    #[error("needs a position and a path, as in add:1:/branch=ro")]
    NeedsIndex,
    /// `mod:/a`, for instance.
    #[error("needs a permission, as in mod:/branch=ro")]
    NeedsPerm,
    /// `del:` or `mod:` of a stack that is not mounted yet.
    #[error("changes a live mount; add remount to the options")]
    NeedsRemount,
    /// A branch cannot come to lie there.
    #[error("there is no position {position} among {count} branches")]
    NoSuchIndex {
        /// The position.
        position: usize,
        /// How many branches there are.
        count: usize,
    },
    /// A directory option came twice.
    #[error("given twice; give it once")]
    Twice,
    /// Both grammars at once.
    #[error("cannot be combined with br: or dirs=; use one or the other")]
    Mixed,
    /// An upper directory over nothing.
    #[error("needs lowerdir= as well; for one branch alone use br:PATH=rw")]
    UpperAlone,
    /// The context opens a quote and never closes it.
    #[error("the double quote is not closed")]
    OpenQuote,
    /// The text is longer than the kernel hands to a program.
    #[error("{len} bytes are more than {}; use --branches-from FILE", OPTIONS_LEN_MAX)]
    TooLong {
        /// Length of all option texts together, in bytes.
        len: usize,
    },
}

/// A branch whose permission may still depend on its place.
#[derive(Debug)]
struct Entry {
    path: PathBuf,
    perm: Option<BranchPerm>,
}

/// Collects option texts and single branches, then judges the whole.
#[derive(Debug)]
pub struct OptionParser {
    dialect: Dialect,
    len: usize,
    entries: Vec<Entry>,
    /// Changes of the stack, each with its word.
    changes: Vec<(Vec<u8>, BranchChange)>,
    lower: Option<Vec<PathBuf>>,
    upper: Option<PathBuf>,
    aufs_words: Vec<String>,
    fuse_overlayfs_words: Vec<String>,
    options: MountOptions,
}

impl OptionParser {
    /// Starts with no options.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            len: 0,
            entries: Vec::new(),
            changes: Vec::new(),
            lower: None,
            upper: None,
            aufs_words: Vec::new(),
            fuse_overlayfs_words: Vec::new(),
            options: MountOptions::default(),
        }
    }

    /// Reads the argument of one `-o`; a later word wins over an earlier one.
    ///
    /// # Errors
    ///
    /// The first word that cannot be taken.
    pub fn options(&mut self, text: &OsStr) -> Result<(), OptionError> {
        let text = text.as_bytes();
        self.len += text.len() + usize::from(0 < self.len);
        if OPTIONS_LEN_MAX < self.len {
            return Err(OptionErrorKind::TooLong { len: self.len }.of(b"string"));
        }
        let words = split::words(text).ok_or_else(|| OptionErrorKind::OpenQuote.of(b"context="))?;
        for word in words {
            if !word.is_empty() {
                self.word(word).map_err(|kind| kind.of(word))?;
            }
        }
        Ok(())
    }

    /// Takes one branch as `PATH[=PERM]`; every character but the last `=` is the path's.
    ///
    /// # Errors
    ///
    /// The path is empty, or the permission unknown.
    pub fn branch(&mut self, entry: &OsStr) -> Result<(), OptionError> {
        let bytes = entry.as_bytes();
        let (path, perm) = match bytes.iter().rposition(|&it| it == b'=') {
            Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
            None => (bytes, None),
        };
        self.entry(path.to_vec(), perm).map_err(|kind| kind.of(bytes))
    }

    /// Fills in what depends on the whole and returns it.
    ///
    /// # Errors
    ///
    /// Words that are right alone but not together.
    pub fn finish(mut self) -> Result<Parsed, OptionError> {
        let mut warnings = Vec::new();
        let branches = match (self.lower.take(), self.upper.take()) {
            (None, None) => Vec::new(),
            (None, Some(_)) => return Err(OptionErrorKind::UpperAlone.of(b"upperdir=")),
            (Some(_), _) if !self.entries.is_empty() => return Err(OptionErrorKind::Mixed.of(b"lowerdir=")),
            (Some(lower), upper) => {
                let below = BranchPerm::ReadOnly { whiteouts: true };
                let upper = upper.into_iter().map(|path| BranchSpec { path, perm: BranchPerm::ReadWrite });
                upper.chain(lower.into_iter().map(|path| BranchSpec { path, perm: below })).collect()
            }
        };
        let mut options = self.options;
        options.branches = branches;
        for (index, Entry { path, perm }) in self.entries.into_iter().enumerate() {
            let perm = perm.unwrap_or_else(|| live::default_perm(Some(index)));
            options.branches.push(BranchSpec { path, perm });
        }
        for (word, change) in self.changes {
            if options.remount {
                options.changes.push(change);
            } else {
                live::stack(&mut options.branches, change).map_err(|kind| kind.of(&word))?;
            }
        }
        if !self.aufs_words.is_empty() {
            warnings.push(Warning::AufsWords { words: self.aufs_words });
        }
        if !self.fuse_overlayfs_words.is_empty() {
            warnings.push(Warning::FuseOverlayfsWords { words: self.fuse_overlayfs_words });
        }
        Ok(Parsed { options, warnings })
    }

    fn word(&mut self, word: &[u8]) -> Result<(), OptionErrorKind> {
        if word.contains(&0) {
            return Err(OptionErrorKind::ZeroByte);
        }
        let end = word.iter().position(|it| b"=:".contains(it)).unwrap_or(word.len());
        let name = String::from_utf8_lossy(&word[..end]);
        let value = word.get(end + 1..);
        let does = match word::look_up(&name) {
            Some(Does::FuseOverlayfs) if self.dialect == Dialect::Own => None,
            // Only branch lists may follow a colon: `ro:` is not `ro`.
            Some(does) if word.get(end) == Some(&b':') && !does.takes_colon() => None,
            found => found,
        };
        let Some(does) = does else {
            return Err(OptionErrorKind::Unknown { nearest: nearest::nearest(&name, word::names()) });
        };
        if does.takes_value() && value.is_none_or(<[u8]>::is_empty) {
            return Err(OptionErrorKind::NeedsValue);
        }
        if does.is_flag() && value.is_some() {
            return Err(OptionErrorKind::TakesNoValue);
        }
        let value = value.unwrap_or_default();
        if let Does::Change(change) = does {
            let change = change.read(value, |it| self.perm(it))?;
            self.changes.push((word.to_vec(), change));
            return Ok(());
        }
        self.apply(does, &name, value)
    }

    fn apply(&mut self, does: Does, name: &str, value: &[u8]) -> Result<(), OptionErrorKind> {
        let flags = &mut self.options.flags;
        match does {
            Does::Branches => self.branches(value)?,
            Does::Lower => {
                let paths = split::split(value, b':').into_iter().map(path_of).collect::<Result<_, _>>()?;
                once(&mut self.lower, paths)?;
            }
            Does::Upper => once(&mut self.upper, path_of(value)?)?,
            Does::Work => once(&mut self.options.workdir, path_of(value)?)?,
            Does::Data => {
                let mode = String::from_utf8_lossy(value).parse().map_err(OptionErrorKind::Data)?;
                self.options.data = Some(mode);
            }
            Does::Udba => {
                self.options.udba = Some(match value {
                    b"none" => Udba::None,
                    b"reval" => Udba::Reval,
                    _ => return Err(OptionErrorKind::Udba),
                });
            }
            Does::Sync => self.options.sync = true,
            Does::Volatile => self.options.volatile = true,
            Does::NoXattrs => self.options.no_xattrs = true,
            Does::Transport => {
                let text = String::from_utf8_lossy(value);
                self.options.transport = Some(text.parse().map_err(OptionErrorKind::Transport)?);
            }
            Does::DirOpaque => {
                self.options.always_opaque = match value {
                    b"a" | b"always" => true,
                    b"w" | b"whiteouted" => false,
                    _ => return Err(OptionErrorKind::DirOpaque),
                };
            }
            Does::Remount => self.options.remount = true,
            Does::ReadOnly(set) => flags.read_only = Some(set),
            Does::NoSuid(set) => flags.no_suid = Some(set),
            Does::NoDev(set) => flags.no_dev = Some(set),
            Does::NoExec(set) => flags.no_exec = Some(set),
            Does::NoAtime(set) => flags.no_atime = Some(set),
            Does::NoDirAtime(set) => flags.no_dir_atime = Some(set),
            Does::AllowOther => flags.allow_other = true,
            Does::Fsname => flags.fsname = Some(OsString::from_vec(split::unescape(value))),
            Does::Context => {
                let label = value.strip_prefix(b"\"").and_then(|it| it.strip_suffix(b"\"")).unwrap_or(value);
                flags.context = Some(OsString::from_vec(label.to_vec()));
            }
            Does::NoDirPerm1 => return Err(OptionErrorKind::NoDirPerm1),
            Does::Nothing | Does::DirPerm1 | Does::Change(_) => {}
            Does::Aufs => note(&mut self.aufs_words, name),
            Does::FuseOverlayfs => note(&mut self.fuse_overlayfs_words, name),
        }
        Ok(())
    }

    fn branches(&mut self, list: &[u8]) -> Result<(), OptionErrorKind> {
        for entry in split::split(list, b':') {
            let (path, perm) = split::split_perm(entry);
            self.entry(split::unescape(path), perm)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: Vec<u8>, perm: Option<&[u8]>) -> Result<(), OptionErrorKind> {
        if path.is_empty() {
            return Err(OptionErrorKind::EmptyPath);
        }
        if path.contains(&0) {
            return Err(OptionErrorKind::ZeroByte);
        }
        let perm = perm.map(|it| self.perm(&String::from_utf8_lossy(it))).transpose()?;
        self.entries.push(Entry { path: PathBuf::from(OsString::from_vec(path)), perm });
        Ok(())
    }

    /// Reads a permission, setting aside the attributes that do nothing here.
    fn perm(&mut self, text: &str) -> Result<BranchPerm, OptionErrorKind> {
        let mut kept = Vec::new();
        for part in text.split('+') {
            if word::ATTRIBUTES.contains(&part) {
                note(&mut self.aufs_words, &format!("+{part}"));
            } else {
                kept.push(part);
            }
        }
        kept.join("+").parse().map_err(OptionErrorKind::Perm)
    }
}

impl OptionErrorKind {
    /// Says which word is wrong, cut to a length that fits a line.
    fn of(self, word: &[u8]) -> OptionError {
        const SHOWN_LEN: usize = 200;
        let cut = &word[..word.len().min(SHOWN_LEN)];
        let mut word_line = one_line(cut);
        if cut.len() < word.len() {
            word_line.push_str("...");
        }
        OptionError { word: word_line, kind: self }
    }
}

impl Does {
    fn takes_colon(self) -> bool {
        matches!(self, Self::Branches | Self::Change(_))
    }

    fn takes_value(self) -> bool {
        matches!(
            self,
            Self::Branches
                | Self::Change(_)
                | Self::Lower
                | Self::Upper
                | Self::Work
                | Self::Transport
                | Self::DirOpaque
                | Self::Data
                | Self::Udba
                | Self::Fsname
                | Self::Context
        )
    }

    /// Whether a value would be a mistake; ignored words may have one.
    fn is_flag(self) -> bool {
        !self.takes_value() && !matches!(self, Self::Nothing | Self::Aufs | Self::FuseOverlayfs)
    }
}

/// Reads a path with its escapes.
pub(super) fn path_of(text: &[u8]) -> Result<PathBuf, OptionErrorKind> {
    let plain = split::unescape(text);
    if plain.is_empty() {
        return Err(OptionErrorKind::EmptyPath);
    }
    Ok(PathBuf::from(OsString::from_vec(plain)))
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), OptionErrorKind> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(OptionErrorKind::Twice),
    }
}

fn note(words: &mut Vec<String>, word: &str) {
    if !words.iter().any(|it| it == word) {
        words.push(word.to_owned());
    }
}
