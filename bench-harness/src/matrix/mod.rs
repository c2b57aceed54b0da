//! Matrices: the TOML files that say what to measure.
//!
//! A matrix is data. [`parse`](Matrix::parse) checks words against what the
//! harness knows; [`expand`] turns it into cells.

mod builtin;
pub mod estimate;
pub mod expand;
pub mod overrides;
pub mod ranges;
pub mod shard;
mod text;

use std::fs;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cell::Cache;
use crate::driver::command::Definition;
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::gate::settings::Settings;
use crate::{backing, driver, goals, model, suggest};

/// A matrix file, checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Matrix {
    /// Names the matrix in reports.
    pub name: String,
    /// Says in a sentence what it is for.
    #[serde(default)]
    pub about: String,
    /// How long the run may take, in seconds, building of layers included.
    #[serde(with = "text::seconds")]
    #[schemars(with = "String")]
    pub budget: f64,
    /// Most blocks to measure; each block has every cell once.
    pub blocks_max: u32,
    /// Sessions that the blocks are spread over; each makes layers, imports and mounts anew.
    #[serde(default = "sessions_default")]
    pub sessions: u32,
    /// A cell is measured no more once its 95 % interval is this narrow, such as "2.5%".
    #[serde(default, with = "text::some_share", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub precision: Option<f64>,
    /// Samples of single operations are due at this mean rate per second, in an open loop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Where layers and branches lie.
    #[serde(default = "backing_default")]
    pub backing: Vec<String>,
    /// The built-in goals that the report of a run judges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goals: Option<String>,
    /// Drivers that this matrix describes; those that no row names are measured with all their option sets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<Definition>,
    /// The rules of a gate with this matrix, where they are not the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Settings>,
    /// Who is measured.
    #[serde(default)]
    pub driver: Vec<DriverRow>,
    /// What is measured; a cell named by several groups is measured once.
    pub group: Vec<Group>,
}

/// A driver and its option sets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DriverRow {
    /// The driver's name.
    pub name: String,
    /// Its option sets.
    #[serde(default = "options_default")]
    pub options: Vec<String>,
}

/// A full cross of models, sizes, layers, depths and cache states.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// What is done.
    pub models: Vec<String>,
    /// Lengths of the files, in bytes.
    #[serde(default = "sizes_default", with = "text::sizes")]
    #[schemars(with = "Vec<String>")]
    pub sizes: Vec<u64>,
    /// Layers in which the file lies; 1 is the topmost.
    pub found_at: Vec<u32>,
    /// Heights of the stack; without it, the file lies in the lowest layer.
    #[serde(default)]
    pub n_layers: Vec<u32>,
    /// Directories above the file.
    #[serde(default = "depths_default")]
    pub dir_depth: Vec<u32>,
    /// Cache states.
    #[serde(default = "caches_default")]
    pub cache: Vec<Cache>,
    /// Files measured in each block, hence samples of each cell and block.
    pub files: u32,
    /// Files that one sample works on, for models that take many.
    #[serde(default = "entries_default")]
    pub entries: Vec<u32>,
    /// Threads that work at once, for models that take several.
    #[serde(default = "threads_default")]
    pub threads: Vec<u32>,
    /// Only on these backings; on all of the matrix without it.
    #[serde(default)]
    pub backing: Vec<String>,
    /// Only these drivers; all of the matrix without it.
    #[serde(default)]
    pub drivers: Vec<String>,
    /// Measured in this many blocks at most.
    #[serde(default = "expand::every_block", skip_serializing_if = "expand::is_every_block")]
    pub blocks: u32,
    /// Left out of runs with a smaller budget, in seconds; the report says so.
    #[serde(default, with = "text::some_seconds", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub budget_min: Option<f64>,
    /// Left out of runs with this budget or more, in seconds: the small form of another group.
    #[serde(default, with = "text::some_seconds", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub budget_below: Option<f64>,
}

fn options_default() -> Vec<String> {
    vec!["default".to_owned()]
}
fn backing_default() -> Vec<String> {
    vec!["dir".to_owned()]
}
fn depths_default() -> Vec<u32> {
    vec![1]
}
fn sizes_default() -> Vec<u64> {
    vec![4096]
}
fn entries_default() -> Vec<u32> {
    vec![1000]
}
fn threads_default() -> Vec<u32> {
    vec![4]
}
fn sessions_default() -> u32 {
    1
}
fn caches_default() -> Vec<Cache> {
    vec![Cache::Fresh]
}

impl Matrix {
    /// Loads a built-in matrix by name, or a file by path.
    ///
    /// # Errors
    ///
    /// - `Config`: no such name, or the file does not say what a matrix must.
    /// - `Io`: the file cannot be read.
    pub fn load(name_or_path: &str) -> Result<Self> {
        if let Some(text) = builtin::text(name_or_path) {
            return Self::parse(text, Path::new(name_or_path));
        }
        let path = Path::new(name_or_path);
        let is_path = path.exists() || name_or_path.contains('/') || name_or_path.ends_with(".toml");
        if !is_path {
            let message = suggest::unknown("matrix", name_or_path, &builtin::names());
            let message = format!("{message}; or give a path to a .toml file");
            return Err(BenchError::new("load matrix", path, BenchErrorKind::Config(message)));
        }
        Self::parse(&fs::read_to_string(path).at("read matrix", path)?, path)
    }

    /// Reads a matrix from text; `path` names it in errors.
    ///
    /// # Errors
    ///
    /// `Config`, with the line and the wrong word.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let config = |message| BenchError::new("parse matrix", path, BenchErrorKind::Config(message));
        let mut matrix: Self = toml::from_str(text).map_err(|error| config(parse_message(text, &error)))?;
        matrix.command.iter().try_for_each(|it| it.check(text)).map_err(config)?;
        matrix.add_rows(&matrix.command.clone());
        matrix.check(text).map_err(config)?;
        Ok(matrix)
    }

    /// Gives each of `definitions` that no row names a row of its own.
    pub fn add_rows(&mut self, definitions: &[Definition]) {
        for Definition { name, options, .. } in definitions {
            if !self.driver.iter().any(|row| row.name == *name) {
                let sets = options_default().into_iter().chain(options.keys().cloned());
                self.driver.push(DriverRow { name: name.clone(), options: sets.collect() });
            }
        }
    }

    /// The option sets of the driver `name`, one of those that the matrix describes among them.
    fn options_of(&self, name: &str) -> Option<Vec<&str>> {
        let Some(own) = self.command.iter().find(|it| it.name == name) else {
            return driver::options_of(name).map(<[&str]>::to_vec);
        };
        Some(std::iter::once("default").chain(own.options.keys().map(String::as_str)).collect())
    }

    /// All names that a row may have.
    fn driver_names(&self) -> Vec<&str> {
        driver::names().into_iter().chain(self.command.iter().map(|it| it.name.as_str())).collect()
    }

    /// The matrix in TOML with every key, which [`parse`](Self::parse) reads back as the same matrix.
    ///
    /// # Errors
    ///
    /// A value cannot be written in TOML.
    pub fn to_toml(&self) -> Result<String> {
        let wrong = |error: toml::ser::Error| BenchErrorKind::Config(error.to_string());
        toml::to_string(self).map_err(|error| BenchError::new("write matrix", &self.name, wrong(error)))
    }

    /// Keeps only the drivers of `only`, if it names any; groups for none of them go.
    pub fn restrict(&mut self, only: &[String]) {
        if only.is_empty() {
            return;
        }
        self.driver.retain(|row| only.contains(&row.name));
        // A description that no row names would get one.
        self.command.retain(|it| only.contains(&it.name));
        self.group.retain_mut(|group| {
            let was_for_all = group.drivers.is_empty();
            group.drivers.retain(|name| only.contains(name));
            was_for_all || !group.drivers.is_empty()
        });
    }

    /// Checks words and ranges; an error names the line where the wrong value stands.
    fn check(&self, text: &str) -> Result<(), String> {
        let wrong = |value: &str, message: String| match line_of(text, value) {
            Some(line) => format!("line {line}: {message}"),
            None => message,
        };
        for row in &self.driver {
            let known = self.options_of(&row.name).ok_or_else(|| {
                wrong(&row.name, suggest::unknown("driver", &row.name, &self.driver_names()))
            })?;
            if let Some(option) = row.options.iter().find(|option| !known.contains(&option.as_str())) {
                let kind = format!("option set of {}", row.name);
                return Err(wrong(option, suggest::unknown(&kind, option, &known)));
            }
        }
        if let Some(name) = self.backing.iter().find(|name| !backing::NAMES.contains(&name.as_str())) {
            return Err(wrong(name, suggest::unknown("backing", name, backing::NAMES)));
        }
        for group in &self.group {
            if let Some(name) = group.models.iter().find(|name| model::by_name(name).is_none()) {
                return Err(wrong(name, suggest::unknown("model", name, &model::names())));
            }
            if let Some(name) = group.backing.iter().find(|name| !backing::NAMES.contains(&name.as_str())) {
                return Err(wrong(name, suggest::unknown("backing", name, backing::NAMES)));
            }
            let rows: Vec<&str> = self.driver.iter().map(|row| row.name.as_str()).collect();
            if let Some(name) = group.drivers.iter().find(|name| !rows.contains(&name.as_str())) {
                return Err(wrong(name, suggest::unknown("driver of this matrix", name, &rows)));
            }
            group.check_ranges().map_err(|(key, message)| wrong(key, message))?;
        }
        if let Some(name) = self.goals.as_ref().filter(|name| goals::text(name).is_none()) {
            return Err(wrong(name, suggest::unknown("goals", name, &goals::names())));
        }
        ranges::sessions(self.sessions).map_err(|(key, message)| wrong(key, message))?;
        self.rate.map_or(Ok(()), ranges::rate).map_err(|(key, message)| wrong(key, message))?;
        if self.driver.is_empty() || self.group.is_empty() || self.blocks_max == 0 {
            return Err("a matrix needs at least one driver, one group and one block".to_owned());
        }
        Ok(())
    }
}

impl Group {
    /// Refuses what no stack can hold; the error names the key.
    fn check_ranges(&self) -> Result<(), ranges::Wrong> {
        self.found_at.iter().chain(&self.n_layers).try_for_each(|it| ranges::layer(*it))?;
        self.dir_depth.iter().try_for_each(|it| ranges::dir_depth(*it))?;
        self.sizes.iter().try_for_each(|it| ranges::size(*it))?;
        for model in self.models.iter().filter_map(|it| model::by_name(it)) {
            self.sizes.iter().try_for_each(|it| ranges::size_for(model, *it))?;
        }
        ranges::files(self.files)?;
        self.entries.iter().try_for_each(|it| ranges::entries(*it))?;
        self.threads.iter().try_for_each(|it| ranges::threads(*it))?;
        ranges::blocks(self.blocks)?;
        let tallest = self.n_layers.iter().max().copied().unwrap_or(u32::MAX);
        if self.found_at.iter().all(|found_at| tallest < *found_at) {
            return Err(("found_at", "each layer lies below the stack".to_owned()));
        }
        Ok(())
    }
}

/// The first line that has `word` outside a comment, counted from 1.
pub fn line_of(text: &str, word: &str) -> Option<usize> {
    let code = |line: &str| line.split('#').next().unwrap_or_default().contains(word);
    text.lines().position(code).map(|index| index + 1)
}

/// Turns the parser's error into `line N: message`, with a hint for a wrong key.
pub fn parse_message(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let mut message = error.message().replace("unknown field", "unknown key").replace('`', "\"");
    let mut quoted = message.split('"').skip(1).step_by(2).map(str::to_owned);
    if message.starts_with("unknown key")
        && let Some(word) = quoted.next()
    {
        let known: Vec<String> = quoted.collect();
        if let Some(near) = suggest::nearest(&word, known.iter().map(String::as_str)) {
            message = format!("{message}; did you mean {near:?}?");
        }
    }
    match line {
        Some(line) => format!("line {line}: {message}"),
        None => message,
    }
}

#[cfg(test)]
mod tests;
