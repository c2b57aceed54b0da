//! `schema`: what a program may rely on when it reads results or writes a matrix.

use clap::{Args, ValueEnum};
use schemars::{Schema, schema_for};

use super::print_text;
use crate::error::{Exit, Result};
use crate::matrix::Matrix;
use crate::report::json::{Root, pretty};
use crate::run::record::Record;

/// Arguments of `schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Of what.
    pub of: Document,
}

/// A document with a schema.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Document {
    /// One line of samples.jsonl.
    Samples,
    /// A matrix, as its TOML reads in JSON.
    Matrix,
    /// summary.json.
    Summary,
}

/// Prints the schema.
///
/// # Errors
///
/// It cannot be written as JSON.
pub fn schema(args: &SchemaArgs) -> Result<Exit> {
    print_text(&pretty(&schema_of(args.of))?)?;
    Ok(Exit::Success)
}

fn schema_of(document: Document) -> Schema {
    match document {
        Document::Samples => schema_for!(Record),
        Document::Matrix => schema_for!(Matrix),
        Document::Summary => schema_for!(Root<'static>),
    }
}
