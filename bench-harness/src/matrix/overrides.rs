//! `--set key=value`: changes of a matrix on the command line.
//!
//! A key is a path of names with dots: `budget`, `group.0.files`, `driver.1.options`;
//! `*` stands for all of a list. A value is TOML, or a text without its quotes; where a
//! list is wanted, its members may be given with commas between.

use serde::Deserialize as _;
use toml::{Table, Value};

use super::{Matrix, parse_message};
use crate::error::{BenchError, BenchErrorKind, Result};
use crate::suggest;

/// `matrix` with each of `assignments` made, one after the other.
///
/// # Errors
///
/// `Config`, with the assignment, and the nearest key where it names none.
pub fn apply(matrix: Matrix, assignments: &[String]) -> Result<Matrix> {
    assignments.iter().try_fold(matrix, |matrix, assignment| {
        assign(&matrix, assignment)
            .map_err(|message| BenchError::new("set", assignment, BenchErrorKind::Config(message)))
    })
}

fn assign(matrix: &Matrix, assignment: &str) -> Result<Matrix, String> {
    let (key, value) = assignment.split_once('=').ok_or("expected key=value, such as \"budget=30s\"")?;
    let mut table = Value::Table(Table::try_from(matrix).map_err(|error| error.to_string())?);
    let steps: Vec<&str> = key.trim().split('.').collect();
    place(&mut table, &steps, value.trim())?;
    let changed = Matrix::deserialize(table).map_err(|error| parse_message("", &error))?;
    changed.check("")?;
    Ok(changed)
}

/// Puts `text` where `steps` lead from `at`.
fn place(at: &mut Value, steps: &[&str], text: &str) -> Result<(), String> {
    let Some((step, rest)) = steps.split_first() else {
        *at = value_of(text, at.is_array());
        return Ok(());
    };
    match at {
        Value::Table(table) => match table.get_mut(*step) {
            Some(inner) => place(inner, rest, text),
            // A key that has its default; an unknown one is refused when the matrix is read.
            None if rest.is_empty() => {
                table.insert((*step).to_owned(), value_of(text, LISTS.contains(step)));
                Ok(())
            }
            None => Err(suggest::unknown("key", step, &table.keys().map(String::as_str).collect::<Vec<_>>())),
        },
        Value::Array(list) if *step == "*" => list.iter_mut().try_for_each(|it| place(it, rest, text)),
        Value::Array(list) => {
            let len = list.len();
            let member = step.parse::<usize>().ok().and_then(|index| list.get_mut(index));
            let last = len.saturating_sub(1);
            member
                .ok_or_else(|| format!("{step:?} is no member of a list; expected 0 to {last}, or *"))
                .and_then(|it| place(it, rest, text))
        }
        _ => Err(format!("{step:?} is no key of a single value")),
    }
}

/// Keys of lists that may be missing.
const LISTS: &[&str] = &["options"];

/// `text` as TOML, or as it stands; a list of it where a list is wanted.
fn value_of(text: &str, wants_list: bool) -> Value {
    let parsed = |text: &str| {
        Table::deserialize(toml::Deserializer::parse(&format!("v = {text}")).ok()?).ok()?.remove("v")
    };
    let single = |text: &str| parsed(text).unwrap_or_else(|| Value::String(text.to_owned()));
    match parsed(text) {
        Some(list @ Value::Array(_)) => list,
        _ if wants_list => Value::Array(text.split(',').map(|it| single(it.trim())).collect()),
        Some(value) => value,
        None => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(assignments: &[&str]) -> Result<Matrix> {
        let assignments: Vec<String> = assignments.iter().map(ToString::to_string).collect();
        apply(Matrix::load("quick").unwrap(), &assignments)
    }

    #[test]
    fn keys_are_set() {
        let matrix = set(&[
            "budget=30s",
            "sessions=3",
            "precision=2.5%",
            "rate=100.5",
            "backing=tmpfs,dir",
            "driver.2.options=[\"metacopy\"]",
            "group.*.files=2",
            "group.0.sizes=64K",
            "group.0.found_at=1,3",
            "group.1.budget_min=1m",
            "blocks_max = 7",
        ])
        .unwrap();
        assert_eq!((matrix.budget, matrix.sessions, matrix.precision), (30.0, 3, Some(0.025)));
        assert_eq!((matrix.rate, matrix.blocks_max), (Some(100.5), 7));
        assert_eq!(matrix.backing, ["tmpfs", "dir"]);
        assert_eq!(matrix.driver[2].options, ["metacopy"]);
        assert!(matrix.group.iter().all(|it| it.files == 2));
        assert_eq!((&matrix.group[0].sizes[..], &matrix.group[0].found_at[..]), (&[65536][..], &[1, 3][..]));
        assert_eq!(matrix.group[1].budget_min, Some(60.0));
    }

    #[test]
    fn mistakes_name_the_assignment_and_the_nearest_word() {
        for (assignment, expected) in [
            ("budgt=30s", "did you mean \"budget\"?"),
            ("budget", "expected key=value"),
            ("budget=soon", "\"soon\" is not a duration"),
            ("group.0.filse=2", "did you mean \"files\"?"),
            ("group.9.files=2", "expected 0 to 3, or *"),
            ("group.files=2", "\"files\" is no member of a list"),
            ("grup.0.files=2", "did you mean \"group\"?"),
            ("group.0.files=0", "outside 1 to 4096"),
            ("group.0.models=copyup", "did you mean \"copy-up\"?"),
            ("driver.0.name=plane", "did you mean \"plain\"?"),
            ("precision=300%", "such as \"2.5%\""),
            ("precision=3", "expected a string"),
            ("rate=-1.0", "outside 0.001"),
            ("sessions=0", "outside 1 to 100"),
            ("name.x=1", "no key of a single value"),
        ] {
            let line = set(&[assignment]).unwrap_err().line();
            assert!(line.contains(assignment) && line.contains(expected), "{line} lacks {expected}");
        }
    }

    #[test]
    fn every_matrix_survives_being_printed() {
        for name in super::super::builtin::names() {
            let matrix = Matrix::load(name).unwrap();
            let printed = matrix.to_toml().unwrap();
            let again = Matrix::parse(&printed, std::path::Path::new(name)).unwrap();
            assert_eq!(again, matrix, "{printed}");
        }
    }
}
