//! The verbs of the command line: one file each, with its arguments.

pub mod claims;
pub mod compare;
pub mod doctor;
pub mod export;
pub mod fit;
pub mod gate;
pub mod history;
pub mod limits;
pub mod list;
pub mod manual;
pub mod matrix;
pub mod merge;
pub mod noop;
pub mod overhead;
pub mod report;
pub mod run;
pub mod schema;
pub mod selftest;
pub mod signals;
pub mod trials;
pub mod verify;

use std::io::{ErrorKind, Write as _};

use crate::cli::Verb;
use crate::error::{At as _, Exit, Result};
use crate::report::keep;

/// Does what the command line asks for.
///
/// # Errors
///
/// Why it could not be done.
pub fn execute(verb: &Verb) -> Result<Exit> {
    match verb {
        Verb::List(args) => list::list(args),
        Verb::Run(args) => run::run(args),
        Verb::Report(args) => report::report(args),
        Verb::Verify(args) => verify::verify(args),
        Verb::Gate(args) => gate::gate(args),
        Verb::Merge(args) => merge::merge(args),
        Verb::Schema(args) => schema::schema(args),
        Verb::Doctor(args) => doctor::doctor(args),
        Verb::Keep(args) => keep::keep(args),
        Verb::Overhead(args) => overhead::overhead(args),
        Verb::Fit(args) => fit::fit(args),
        Verb::Claims(args) => claims::claims(args),
        Verb::History(args) => history::history(args),
        Verb::Compare(args) => compare::compare(args),
        Verb::Export(args) => export::export(args),
        Verb::Completions(args) => manual::completions(args),
        Verb::Man(args) => manual::pages(args),
    }
}

/// Prints a line on stdout, as `println` does, but without a panic where nobody reads it.
macro_rules! outln {
    ($($text:tt)*) => { $crate::verbs::print_text(&(format!($($text)*) + "\n")) };
}
pub(crate) use outln;

/// Writes `text` to stdout; a reader that has had enough, such as `head`, is no error.
pub fn print_text(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.at("write to", "stdout"),
    }
}
