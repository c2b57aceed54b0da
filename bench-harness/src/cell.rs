//! What is measured: a cell is a driver, a model and their parameters.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::is_yardstick;
use crate::size::{human_bytes, short_bytes};

/// What is known to the kernel's caches when a sample starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// A new mount: names are looked up for the first time, file data is in the page cache.
    Fresh,
    /// The name was looked up and the file opened through the mount before.
    Hot,
    /// As fresh, and the data that the sample needs is not in the page cache, which is verified.
    Cold,
}

impl Cache {
    /// The word used in matrices and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Hot => "hot",
            Self::Cold => "cold",
        }
    }
}

/// The parameters that a file set is built from; equal for all drivers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Params {
    /// What is done: `copy-up`, `lookup`, …
    pub model: String,
    /// Where layers and branches lie: `dir`, `tmpfs`, `loop:xfs`, …
    pub backing: String,
    /// Length of each file, in bytes; 0 where the model has no file.
    pub file_bytes: u64,
    /// The layer that holds the file; 1 is the topmost layer.
    pub found_at: u32,
    /// Height of the stack of layers, without the writable branch.
    pub n_layers: u32,
    /// Directories between the root of the mount and the file.
    pub dir_depth: u32,
    /// State of the caches.
    pub cache: Cache,
    /// Files that one sample works on; 0 where it is one file or name.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub entries: u32,
    /// Threads that work at once; 0 where their number is no axis.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub threads: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
pub fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// One thing to measure.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Cell {
    /// The driver's name.
    pub driver: String,
    /// Its option set, `default` where it has no other.
    pub options: String,
    /// The rest, which drivers share.
    #[serde(flatten)]
    pub params: Params,
}

/// A driver with one of its option sets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Subject {
    /// The driver's name.
    pub driver: String,
    /// Its option set.
    pub options: String,
}

/// One stack of layers shown by one subject; all its cells share a mount in each block.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stack {
    /// Who shows it.
    pub subject: Subject,
    /// Where it lies.
    pub backing: String,
    /// Which layers it shows.
    pub tree: TreeKey,
}

/// Layers that are built once for all subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TreeKey {
    /// How many layers there are.
    pub n_layers: u32,
    /// What lies in them.
    pub content: TreeContent,
}

/// What lies in layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TreeContent {
    /// The measured files of all cells.
    Files,
    /// The same files whatever the height, so that the cost of mounting can be compared.
    Image,
    /// Trees so large that no driver without need of them should copy them.
    Large,
    /// Nothing but what all layers have: for the cells that measure no driver.
    Bare,
    /// The measured files, and a program in the lowest layer.
    Program,
    /// Trees that git has under version control.
    Repository,
}

impl Params {
    /// The layers that the cell is measured on.
    pub fn tree(&self) -> TreeKey {
        if is_yardstick(&self.model) {
            return TreeKey { n_layers: 1, content: TreeContent::Bare };
        }
        let content = match self.model.as_str() {
            "mount" => TreeContent::Image,
            "server-memory" => TreeContent::Large,
            "start" | "density" => TreeContent::Program,
            "git-status" => TreeContent::Repository,
            _ => TreeContent::Files,
        };
        TreeKey { n_layers: self.n_layers, content }
    }
}

impl Params {
    /// `copy-up-4K-8-fresh`, for names of files: two cells of one stack and directory depth have two names.
    pub fn slug(&self) -> String {
        let Self { model, file_bytes, found_at, cache, entries, threads, .. } = self;
        let mut slug = format!("{model}-{}-{found_at}-{}", short_bytes(*file_bytes), cache.as_str());
        if *entries != 0 {
            slug += &format!("-n{entries}");
        }
        if *threads != 0 {
            slug += &format!("-t{threads}");
        }
        slug
    }

    /// The slug, with what tells it from any other cell of a driver: `copy-up-4K-8-fresh-of16-d4-tmpfs`.
    pub fn name(&self) -> String {
        let mut name = self.slug();
        if self.n_layers != self.found_at {
            name += &format!("-of{}", self.n_layers);
        }
        if self.dir_depth != 1 {
            name += &format!("-d{}", self.dir_depth);
        }
        if self.backing != "dir" {
            name += &format!("-{}", self.backing);
        }
        name
    }
}

impl Cell {
    /// The driver with its options.
    pub fn subject(&self) -> Subject {
        Subject { driver: self.driver.clone(), options: self.options.clone() }
    }

    /// The mount that the cell is measured on.
    pub fn stack(&self) -> Stack {
        Stack { subject: self.subject(), backing: self.params.backing.clone(), tree: self.params.tree() }
    }
}

impl Subject {
    /// `overlayfs`, or `overlayfs (volatile)` where the options are not the default.
    pub fn label(&self) -> String {
        if self.options == "default" {
            self.driver.clone()
        } else {
            format!("{} ({})", self.driver, self.options)
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.subject().label(), self.params)
    }
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, backing, file_bytes, found_at, n_layers, dir_depth, cache, entries, threads } =
            self;
        write!(f, "{model} ")?;
        if *file_bytes != 0 {
            write!(f, "{} ", human_bytes(*file_bytes as f64))?;
        }
        if *entries != 0 {
            write!(f, "× {entries} ")?;
        }
        if *threads != 0 {
            write!(f, "by {threads} threads ")?;
        }
        write!(f, "at layer {found_at} of {n_layers}")?;
        if *dir_depth != 1 {
            write!(f, ", {dir_depth} directories deep")?;
        }
        write!(f, ", {}, on {backing}", cache.as_str())
    }
}
