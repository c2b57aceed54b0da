//! `gate.json`.

use serde::Serialize;

use super::{Row, Summary};
use crate::error::{At as _, Result};
use crate::gate::arm::ArmFacts;
use crate::gate::decide::Rules;
use crate::gate::record::{CellLook, Ending, GateCell, SCHEMA, Skipped};
use crate::host::HostFacts;

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    verdict: &'static str,
    sentence: String,
    ending: Option<Ending>,
    exit_code: u8,
    elapsed_ms: u64,
    blocks: usize,
    base: &'a ArmFacts,
    head: &'a ArmFacts,
    inject: Option<&'a String>,
    rules: &'a Rules,
    cells: Vec<JsonRow<'a>>,
    skips: &'a [Skipped],
    errors: Vec<&'a String>,
    host: &'a HostFacts,
}

#[derive(Serialize)]
struct JsonRow<'a> {
    #[serde(flatten)]
    cell: &'a GateCell,
    said: String,
    #[serde(flatten)]
    look: Option<CellLook>,
}

/// The gate as JSON.
///
/// # Errors
///
/// A number has no JSON.
pub fn json<'a>(summary: &Summary<'a>) -> Result<String> {
    let (record, header) = (summary.record, &summary.record.header);
    let row = |it: &Row<'a>| JsonRow { cell: it.cell, said: it.said.word().to_lowercase(), look: it.look };
    let document = Document {
        schema: SCHEMA,
        verdict: summary.verdict(),
        sentence: summary.sentence(),
        ending: record.ending,
        exit_code: summary.exit as u8,
        elapsed_ms: summary.elapsed_ms(),
        blocks: record.blocks.len(),
        base: &header.base,
        head: &header.head,
        inject: header.inject.as_ref(),
        rules: &header.rules,
        cells: summary.rows.iter().map(row).collect(),
        skips: &header.skips,
        errors: record.errors.iter().map(|it| &it.1).collect(),
        host: &header.host,
    };
    let text = serde_json::to_string_pretty(&document).map_err(std::io::Error::from);
    text.map(|it| it + "\n").at("write", "gate.json")
}
