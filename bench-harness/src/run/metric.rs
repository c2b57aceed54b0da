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
        }
    }

    /// The unit of its values.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Scaling => "permille",
            Self::Exdev => "flag",
            Self::Upper
            | Self::Tree
            | Self::ServerRss
            | Self::ServerIdlePss
            | Self::ServerWalkedPss
            | Self::ServerWalkedRss
            | Self::Cached => "bytes",
        }
    }
}
