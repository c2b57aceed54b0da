//! The description of a driver in TOML, and what is checked about it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::template::{Hole, Template};
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::matrix::{line_of, parse_message};

/// A driver that is a command: how it mounts and unmounts. Arguments are given as they are, never to a shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Its name in matrices and reports.
    pub name: String,
    /// The command that says its version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub version: Vec<String>,
    /// The command that mounts.
    pub mount: Vec<String>,
    /// The command that unmounts; `umount2(2)` without it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmount: Vec<String>,
    /// What one layer is in `{lowers}`.
    #[serde(default = "lower_default")]
    pub lower: String,
    /// What stands between layers in `{lowers}`.
    #[serde(default = "separator_default")]
    pub lowers_separator: String,
    /// What `{layers}` stands for: these arguments once for each layer, topmost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layer_argument: Vec<String>,
    /// Whether the command itself serves and stays; else it returns when the stack is mounted.
    #[serde(default)]
    pub foreground: bool,
    /// Whether a process of its own serves the mount; not so where the command asks the kernel to.
    #[serde(default = "yes")]
    pub server: bool,
    /// Whether files that were changed appear in `{upper}` under their own paths, so that it can be checked.
    #[serde(default = "yes")]
    pub copies_up: bool,
    /// Option sets besides `default`, and the arguments of each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, Vec<String>>,
}

fn lower_default() -> String {
    "{layer}".to_owned()
}
fn separator_default() -> String {
    ":".to_owned()
}
fn yes() -> bool {
    true
}

/// The templates of a [`Definition`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Templates {
    /// Of `mount`.
    pub mount: Vec<Template>,
    /// Of `unmount`.
    pub unmount: Vec<Template>,
    /// Of `lower`.
    pub lower: Template,
    /// Of `layer_argument`.
    pub layer_argument: Vec<Template>,
}

/// A file of descriptions, as `--drivers` takes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DriversFile {
    command: Vec<Definition>,
}

/// Reads the descriptions in `path`.
///
/// # Errors
///
/// `Config`, with the line and the wrong word; or the file cannot be read.
pub fn load(path: &Path) -> Result<Vec<Definition>> {
    let text = fs::read_to_string(path).at("read drivers", path)?;
    parse(&text).map_err(|what| BenchError::new("parse drivers", path, BenchErrorKind::Config(what)))
}

fn parse(text: &str) -> Result<Vec<Definition>, String> {
    let file: DriversFile = toml::from_str(text).map_err(|error| parse_message(text, &error))?;
    file.command.iter().try_for_each(|it| it.check(text))?;
    Ok(file.command)
}

impl Definition {
    /// Checks names and holes; `text` is the file that an error's line is looked up in.
    ///
    /// # Errors
    ///
    /// `line N: …`, with the wrong word.
    pub fn check(&self, text: &str) -> Result<(), String> {
        self.templates().map(|_| ()).map_err(|(word, what)| match line_of(text, &word) {
            Some(line) => format!("line {line}: {what}"),
            None => what,
        })
    }

    /// All arguments with their holes.
    ///
    /// # Errors
    ///
    /// The wrong word, and what is wrong with it.
    pub fn templates(&self) -> Result<Templates, (String, String)> {
        let wrong = |what: String| Err((self.name.clone(), what));
        let names = std::iter::once(&self.name).chain(self.options.keys());
        if let Some(name) = names.into_iter().find(|it| !is_name(it)) {
            let what = format!("{name:?} is no name: letters, digits, \"-\", \"_\", \"+\" and \".\" only");
            return Err((name.clone(), what));
        }
        if super::is_built_in(&self.name) {
            return wrong(format!("{:?} is a driver of the bench; take another name", self.name));
        }
        if let Some(key) = self.without_program() {
            return wrong(format!("{key} of {:?} names no program", self.name));
        }
        if self.options.contains_key("default") {
            return wrong(format!("\"default\" of {:?} is the option set with no arguments", self.name));
        }
        if self.foreground && !self.server {
            return wrong(format!("{:?} cannot be in the foreground and have no server", self.name));
        }
        let all = |texts: &[String], allowed: &[Hole]| -> Result<Vec<Template>, (String, String)> {
            texts.iter().map(|it| Template::parse(it, allowed)).collect()
        };
        use Hole::{Layer, Layers, Lowers, Options, Target, Upper, Work};
        let mount = all(&self.mount, &[Lowers, Upper, Work, Target, Options, Layers])?;
        let has = |hole| mount.iter().any(|it| it.has(hole));
        if !has(Target) || !(has(Lowers) || has(Layers)) {
            return wrong(format!("mount of {:?} lacks {{target}}, {{lowers}} or {{layers}}", self.name));
        }
        if has(Layers) == self.layer_argument.is_empty() {
            return wrong(format!("{:?} needs both {{layers}} and layer_argument, or neither", self.name));
        }
        Ok(Templates {
            mount,
            unmount: all(&self.unmount, &[Upper, Work, Target])?,
            lower: Template::parse(&self.lower, &[Layer])?,
            layer_argument: all(&self.layer_argument, &[Layer])?,
        })
    }

    fn without_program(&self) -> Option<&'static str> {
        let is_empty = |argv: &[String]| argv.first().is_none_or(String::is_empty);
        let given = |argv: &[String]| !argv.is_empty() && is_empty(argv);
        if is_empty(&self.mount) {
            return Some("mount");
        }
        [("unmount", &self.unmount), ("version", &self.version)]
            .into_iter()
            .find(|it| given(it.1))
            .map(|it| it.0)
    }
}

/// Names become parts of paths, of labels and of CSV lines.
fn is_name(name: &str) -> bool {
    let good = |it: char| it.is_ascii_alphanumeric() || "-_+.".contains(it);
    !name.is_empty() && !name.starts_with(['.', '-']) && name.chars().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"[[command]]
name = "my-union"
version = ["my-union", "--version"]
mount = ["my-union", "-o", "lowerdir={lowers},upperdir={upper},workdir={work}", "{target}"]
unmount = ["fusermount3", "-u", "{target}"]
options = { fast = ["-o", "fast"] }
"#;

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let [it] = parse(GOOD).unwrap().try_into().unwrap();
        assert_eq!((it.lower.as_str(), it.lowers_separator.as_str()), ("{layer}", ":"));
        assert_eq!((it.foreground, it.server, it.copies_up), (false, true, true));
        let json = serde_json::to_string(&it).unwrap();
        assert_eq!(serde_json::from_str::<Definition>(&json).unwrap(), it, "a header carries it");
    }

    #[test]
    fn errors_name_the_line_and_the_word() {
        for (from, to, expected) in [
            ("{upper}", "{uper}", &["line 4", "placeholder \"uper\"", "did you mean \"upper\"?"][..]),
            ("\"{target}\"]\nunmount", "\"x\"]\nunmount", &["line 2", "lacks {target}"]),
            ("lowerdir={lowers},", "", &["line 2", "lacks {target}, {lowers}"]),
            ("\"-u\", \"{target}\"", "\"{lowers}\"", &["line 4", "placeholder \"lowers\""]),
            ("\"my-union\"\nversion", "\"overlayfs\"\nversion", &["line 2", "\"overlayfs\" is a driver of"]),
            ("\"my-union\"\nversion", "\"my union\"\nversion", &["line 2", "\"my union\" is no name"]),
            ("[\"fusermount3\", \"-u\", \"{target}\"]", "[\"\"]", &["line 2", "unmount of", "no program"]),
            ("fast = [\"-o\", \"fast\"]", "default = []", &["line 2", "\"default\" of"]),
            ("unmount =", "unmont =", &["line 5", "unknown key \"unmont\"", "did you mean \"unmount\"?"]),
            ("options = {", "layer_argument = [\"{layer}\"]\noptions = {", &["line 2", "or neither"]),
            ("options = {", "foreground = true\nserver = false\noptions = {", &["line 2", "no server"]),
            ("options = {", "lower = \"{layr}\"\noptions = {", &["line 6", "did you mean \"layer\"?"]),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "{from} is in the text");
            let message = parse(&text).unwrap_err();
            for part in expected {
                assert!(message.contains(part), "{to}: {message:?} lacks {part:?}");
            }
        }
    }
}
