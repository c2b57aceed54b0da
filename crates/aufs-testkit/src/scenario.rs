//! Golden scenarios as `fixtures/golden` stores them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::KitError;
use crate::op::Op;

/// One scenario: branches to build, and what each recorded run of it showed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scenario {
    /// File name without its ending; the first letter is the group.
    pub id: String,
    /// The question asked, in a few words.
    pub title: String,
    /// Branches to build, topmost first.
    pub branches: Vec<BranchSetup>,
    /// File systems to mount as a branch: name to `TYPE:OPTIONS`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub branch_mounts: BTreeMap<String, String>,
    /// Whether the union is mounted read-only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// What was recorded, one run for each mount.
    pub runs: Vec<Run>,
}

/// A branch before the mount.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BranchSetup {
    /// Its directory; options name it as `@NAME`.
    pub name: String,
    /// What it holds.
    pub entries: Vec<Entry>,
}

/// An entry to build.
///
/// What is not given: owner root, mtime 1000000000, mode 0644 or 0755, content
/// `content of PATH\n`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Entry {
    /// Path below the branch; `.` is the branch itself.
    pub path: String,
    /// `file`, `dir`, `symlink`, `hardlink`, `fifo`, `sock`, `chr` or `blk`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Permission bits, octal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Owner.
    #[serde(skip_serializing_if = "is_zero")]
    pub uid: u32,
    /// Group.
    #[serde(skip_serializing_if = "is_zero")]
    pub gid: u32,
    /// Content of a file (see [`crate::text::bytes_of`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Content of a sparse file: offset in bytes and text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segments: Option<Vec<(u64, String)>>,
    /// Length to extend the file to, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Whether the file is a program that can `echo` and `sleep` by its `argv[0]`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub exe: bool,
    /// Extended attributes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
    /// Modification time in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtime: Option<i64>,
    /// Target of a symlink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Path below the branch to which a hard link is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Device number, `MAJOR:MINOR`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rdev: Option<String>,
    /// Inode flags: `i` immutable, `a` append-only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attr: Option<String>,
}

fn is_zero(id: &u32) -> bool {
    *id == 0
}

/// Which kernel file system a run was recorded on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recorded {
    /// Kernel aufs: the semantics we implement.
    Aufs,
    /// Kernel overlayfs: the control.
    Overlay,
}

/// One recorded run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// Recorded on.
    pub fstype: Recorded,
    /// Mount options; `@NAME` stands for the directory of a branch.
    pub options: String,
    /// The errno if the mount was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_err: Option<String>,
    /// Operations and their results; none if a refused mount ended the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ops: Option<Vec<Step>>,
    /// The union after the last operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub union_after: Option<Tree>,
    /// Every branch after the unmount.
    pub branches_after: BTreeMap<String, Tree>,
}

/// An operation, by whom, and its result.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Step {
    /// The operation.
    #[serde(rename = "do")]
    pub op: Op,
    /// Effective user and group, without supplementary groups; root if absent.
    #[serde(rename = "as", default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<(u32, u32)>,
    /// Its result.
    #[serde(flatten)]
    pub result: StepResult,
}

/// What an operation returned: a value, or the name of an errno.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepResult {
    /// The value; `null` on an error.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub ret: Value,
    /// The errno, or `NOHANDLE` when the handle's own open had failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub err: Option<String>,
}

/// A directory tree as seen, reduced to what is compared.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tree {
    /// Every entry, the root first.
    pub entries: Vec<Seen>,
    /// Paths that share an inode, where more than one does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub same_inode: Vec<Vec<String>>,
}

/// One entry as seen. Absent means not compared.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seen {
    /// Path below the root of the dump; empty in the result of a `stat`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// As [`Entry::kind`], without `hardlink`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Permission bits, octal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Links; not of directories and whiteouts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nlink: Option<u64>,
    /// Seconds, or `now` for later than the start of the scenario.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtime: Option<Value>,
    /// Length in bytes; not of directories.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Device number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rdev: Option<String>,
    /// Target of a symlink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Extended attributes, without overlayfs's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xattrs: Option<BTreeMap<String, String>>,
    /// Inode flags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attr: Option<String>,
    /// Content of a file of at most 64 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Digest of a longer file; `exe` for the program of [`Entry::exe`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The errno of a listed name that cannot be stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The errno of a directory that cannot be listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list_error: Option<String>,
}

impl Scenario {
    /// Reads one file of `fixtures/golden`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is not a scenario.
    pub fn read(file: &Path) -> Result<Self, KitError> {
        let text = fs::read_to_string(file).map_err(KitError::at("read", file))?;
        serde_json::from_str(&text).map_err(KitError::at("parse", file))
    }

    /// Reads every scenario of a directory, sorted by id.
    ///
    /// # Errors
    ///
    /// The directory or one of its files cannot be read.
    pub fn read_all(directory: &Path) -> Result<Vec<Self>, KitError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(directory).map_err(KitError::at("list", directory))? {
            let path = entry.map_err(KitError::at("list", directory))?.path();
            if path.extension().is_some_and(|it| it == "json") {
                found.push(Self::read(&path)?);
            }
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    /// The runs recorded on `fstype`.
    pub fn runs_on(&self, fstype: Recorded) -> impl Iterator<Item = (usize, &Run)> {
        self.runs.iter().enumerate().filter(move |(_, run)| run.fstype == fstype)
    }
}
