//! What models measure besides time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is measured besides time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Metric {
    /// Space the copy takes on the writable branch.
    #[serde(rename = "upper_bytes")]
    Upper,
    /// Size of the tree that a mount shows.
    #[serde(rename = "tree_bytes")]
    Tree,
    /// Resident memory of a FUSE server that the bench knows, after its cells.
    #[serde(rename = "server_rss_bytes")]
    ServerRss,
    /// Proportional memory of a FUSE server after mounting.
    #[serde(rename = "server_idle_pss_bytes")]
    ServerIdlePss,
    /// Proportional memory of a FUSE server after a walk.
    #[serde(rename = "server_walked_pss_bytes")]
    ServerWalkedPss,
    /// Resident memory of a FUSE server after a walk.
    #[serde(rename = "server_walked_rss_bytes")]
    ServerWalkedRss,
    /// Page cache that a file takes after two mounts read it.
    #[serde(rename = "cached_bytes")]
    Cached,
    /// Throughput of many threads, in thousandths of that of one.
    #[serde(rename = "scaling_permille")]
    Scaling,
    /// Whether a rename was refused with EXDEV, so that files were copied instead: 0 or 1.
    #[serde(rename = "exdev")]
    Exdev,
    /// What the available memory of the machine fell by while two mounts read a file.
    #[serde(rename = "memory_taken_bytes")]
    MemoryTaken,
    /// Pages of a file under all inodes that show it.
    #[serde(rename = "resident_bytes")]
    Resident,
    /// Largest share of a cold sample's files that was in the page cache before it.
    #[serde(rename = "resident_permille")]
    ResidentShare,
    /// What the available memory of the machine fell by for each of many containers.
    #[serde(rename = "container_memory_bytes")]
    ContainerMemory,
    /// What the page cache of the machine grew by for each of many containers.
    #[serde(rename = "container_cached_bytes")]
    ContainerCached,
    /// Proportional memory of the servers of all containers together.
    #[serde(rename = "servers_pss_bytes")]
    ServersPss,
    /// Space that the branches of all containers take together.
    #[serde(rename = "branches_disk_bytes")]
    BranchesDisk,
    /// Inodes that the branches of all containers take together.
    #[serde(rename = "branches_inodes")]
    BranchesInodes,
    /// First writes in a second, by all threads together.
    #[serde(rename = "writes_per_s")]
    Writes,
    /// The first transaction of a database, with opening and copy-up.
    #[serde(rename = "first_commit_ns")]
    FirstCommit,
    /// The median of its later transactions.
    #[serde(rename = "later_commit_ns")]
    LaterCommit,
}

impl Metric {
    /// Its name in `metrics.csv`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upper => "upper_bytes",
            Self::Tree => "tree_bytes",
            Self::ServerRss => "server_rss_bytes",
            Self::ServerIdlePss => "server_idle_pss_bytes",
            Self::ServerWalkedPss => "server_walked_pss_bytes",
            Self::ServerWalkedRss => "server_walked_rss_bytes",
            Self::Cached => "cached_bytes",
            Self::Scaling => "scaling_permille",
            Self::Exdev => "exdev",
            Self::MemoryTaken => "memory_taken_bytes",
            Self::Resident => "resident_bytes",
            Self::ResidentShare => "resident_permille",
            Self::ContainerMemory => "container_memory_bytes",
            Self::ContainerCached => "container_cached_bytes",
            Self::ServersPss => "servers_pss_bytes",
            Self::BranchesDisk => "branches_disk_bytes",
            Self::BranchesInodes => "branches_inodes",
            Self::Writes => "writes_per_s",
            Self::FirstCommit => "first_commit_ns",
            Self::LaterCommit => "later_commit_ns",
        }
    }

    /// The unit of its values.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Scaling | Self::ResidentShare => "permille",
            Self::Exdev => "flag",
            Self::BranchesInodes => "inodes",
            Self::Writes => "1/s",
            Self::FirstCommit | Self::LaterCommit => "ns",
            Self::Upper
            | Self::Tree
            | Self::ServerRss
            | Self::ServerIdlePss
            | Self::ServerWalkedPss
            | Self::ServerWalkedRss
            | Self::Cached
            | Self::MemoryTaken
            | Self::Resident
            | Self::ContainerMemory
            | Self::ContainerCached
            | Self::ServersPss
            | Self::BranchesDisk => "bytes",
        }
    }
}
