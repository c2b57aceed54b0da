//! Goals: what a run should show, as data; [`judge`] compares them with what it shows.
//!
//! A goal selects cells by model and parameters, and sets a limit to the ratio
//! of the best of our option sets to a base. It is a report, never a gate.

pub mod judge;

use std::path::Path;

use serde::Deserialize;

use crate::cell::{Cache, Params, Subject};
use crate::error::{BenchError, BenchErrorKind, Result};
use crate::run::journal::Metric;

/// Name and text of the goals that come with the program.
const ALL: &[(&str, &str)] = &[("peers", include_str!("../../matrices/peers-goals.toml"))];

/// The text of the goals called `name`.
pub fn text(name: &str) -> Option<&'static str> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// All names.
pub fn names() -> Vec<&'static str> {
    ALL.iter().map(|(name, _)| *name).collect()
}

/// Goals of a matrix.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goals {
    /// Our option sets, the best of which is judged.
    pub ours: Vec<SubjectName>,
    /// The others that are shown, in the order of columns.
    pub others: Vec<SubjectName>,
    /// What the columns are divided by.
    pub column_base: SubjectName,
    /// The goals, in the order of rows.
    pub goal: Vec<Goal>,
    /// The goal of every row.
    pub every: Every,
}

/// A driver, or a driver and its option set: `overlayfs`, `overlayfs/volatile`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct SubjectName(pub Subject);

impl From<String> for SubjectName {
    fn from(text: String) -> Self {
        let (driver, options) = text.split_once('/').unwrap_or((&text, "default"));
        Self(Subject { driver: driver.to_owned(), options: options.to_owned() })
    }
}

/// A limit to a ratio, or to a value.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goal {
    /// Names the row.
    pub row: String,
    /// What is done.
    pub model: String,
    /// In which state of the caches; any without it.
    pub cache: Option<Cache>,
    /// On which backings; any without it.
    #[serde(default)]
    pub backing: Vec<String>,
    /// With which length of files, as `128M`; any without it.
    pub size: Option<String>,
    /// At which heights of the stack; any without it.
    #[serde(default)]
    pub n_layers: Vec<u32>,
    /// Our option sets for this goal, where not all count.
    #[serde(default)]
    pub ours: Vec<SubjectName>,
    /// What is compared.
    #[serde(default)]
    pub measure: Measure,
    /// What it is divided by; a limit to the value itself without it.
    pub base: Option<Base>,
    /// The value or ratio must not be above.
    pub at_most: Option<f64>,
    /// The value or ratio must not be below.
    pub at_least: Option<f64>,
}

/// What a goal divides by: the same parameters but for those that it names.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// Who; our own option set without it.
    pub subject: Option<SubjectName>,
    /// What is done, if not the same.
    pub model: Option<String>,
    /// The height of a stack whose lowest layer has the file, if not the same.
    pub n_layers: Option<u32>,
}

/// What a goal compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Time of a sample.
    #[default]
    Time,
    /// Its reciprocal: bytes or operations in a second.
    Speed,
    /// Page cache after two readers, in lengths of the file.
    CachedPerByte,
    /// Throughput of many threads in that of one.
    Scaling,
    /// Memory of the server after mounting, in bytes.
    ServerIdlePssBytes,
    /// Memory of the server after a walk, in bytes.
    ServerWalkedPssBytes,
}

impl Measure {
    /// The metric behind it; `None` for what is made from samples.
    pub fn metric(self) -> Option<Metric> {
        match self {
            Self::Time | Self::Speed => None,
            Self::CachedPerByte => Some(Metric::Cached),
            Self::Scaling => Some(Metric::Scaling),
            Self::ServerIdlePssBytes => Some(Metric::ServerIdlePss),
            Self::ServerWalkedPssBytes => Some(Metric::ServerWalkedPss),
        }
    }

    /// Whether its values are bytes, which are shown as such.
    pub fn is_bytes(self) -> bool {
        matches!(self, Self::ServerIdlePssBytes | Self::ServerWalkedPssBytes)
    }
}

/// What holds for every row: not slower than any peer, and clearly faster than one where there is room.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Every {
    /// The peers.
    pub peers: Vec<SubjectName>,
    /// The peer to be clearly faster than.
    pub strict_peer: SubjectName,
    /// By this ratio,
    pub strict_at_most: f64,
    /// where the peer takes more than this many times of
    pub room_from: f64,
    /// the time of this one.
    pub native: SubjectName,
    /// Models that are references and no rows.
    #[serde(default)]
    pub except: Vec<String>,
}

impl Goals {
    /// Reads goals from `text`; `name` names them in errors.
    ///
    /// # Errors
    ///
    /// `Config`, with the line and what is wrong there.
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        let config =
            |message| BenchError::new("parse goals", Path::new(name), BenchErrorKind::Config(message));
        let goals: Self = toml::from_str(text).map_err(|error| config(error.to_string()))?;
        for goal in &goals.goal {
            if crate::model::by_name(&goal.model).is_none() {
                return Err(config(crate::suggest::unknown("model", &goal.model, &crate::model::names())));
            }
            if goal.at_most.is_some() == goal.at_least.is_some() {
                return Err(config(format!("row {:?} needs one of at_most and at_least", goal.row)));
            }
            if let Some(size) = &goal.size {
                crate::size::parse_bytes(size).map_err(config)?;
            }
        }
        Ok(goals)
    }

    /// The built-in goals called `name`.
    ///
    /// # Errors
    ///
    /// `Config`: there are none of that name.
    pub fn load(name: &str) -> Result<Self> {
        let unknown = || BenchErrorKind::Config(crate::suggest::unknown("goals", name, &names()));
        let text = text(name).ok_or_else(|| BenchError::new("load goals", name, unknown()))?;
        Self::parse(text, name)
    }
}

impl Goal {
    /// Whether cells with `params` are judged by this goal.
    pub fn covers(&self, params: &Params) -> bool {
        let size = self.size.as_ref().and_then(|it| crate::size::parse_bytes(it).ok());
        self.model == params.model
            && self.cache.is_none_or(|it| it == params.cache)
            && (self.backing.is_empty() || self.backing.contains(&params.backing))
            && size.is_none_or(|it| it == params.file_bytes)
            && (self.n_layers.is_empty() || self.n_layers.contains(&params.n_layers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_goals_are_good_and_name_what_their_matrix_has() {
        for name in names() {
            let goals = Goals::load(name).unwrap();
            let matrix = crate::matrix::Matrix::load(name).unwrap();
            assert_eq!(matrix.goals.as_deref(), Some(name));
            let cells = crate::matrix::expand::cells(&matrix, &[], f64::INFINITY);
            let subjects = crate::matrix::expand::subjects(&matrix);
            for goal in &goals.goal {
                assert!(cells.iter().any(|it| goal.covers(&it.cell.params)), "{} has no cells", goal.row);
            }
            let named = goals.ours.iter().chain(&goals.others).chain(&goals.every.peers);
            for SubjectName(subject) in named.chain([&goals.column_base, &goals.every.native]) {
                assert!(subjects.contains(subject), "{subject:?}");
            }
        }
    }

    #[test]
    fn wrong_goals_are_refused() {
        let good = text("peers").unwrap();
        for (from, to, expected) in [
            ("model = \"lookup\"", "model = \"lokup\"", "did you mean \"lookup\"?"),
            ("at_most = 1.0", "at_moist = 1.0", "unknown field `at_moist`"),
            ("at_most = 1.0", "at_most = 1.0\nat_least = 1.0", "needs one of"),
            ("size = \"4K\"", "size = \"4X\"", "\"4X\" is not a size"),
        ] {
            let text = good.replacen(from, to, 1);
            assert_ne!(text, good, "{from} is in the text");
            let error = Goals::parse(&text, "peers").unwrap_err();
            assert!(error.line().contains(expected), "{} lacks {expected}", error.line());
        }
    }
}
