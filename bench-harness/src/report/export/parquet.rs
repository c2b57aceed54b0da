//! Parquet: a row for each sample and each other measurement, for DuckDB, Spark, ClickHouse and their kind.
//!
//! Rows name their run, so that files of many runs can be read as one table.
//! Nothing is left out: what a report does not count has `whole` false or an `error`.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::record::RecordWriter as _;
use parquet_derive::ParquetRecordWriter;

use crate::error::{At as _, Result};
use crate::run::journal::{Metric, RunRecord};
use crate::run::reader::Block;

/// Rows that are encoded at once, and read at once by most readers.
const GROUP_ROWS: usize = 1 << 20;

/// A row: which run, which cell, when in the run, and what was measured.
#[derive(ParquetRecordWriter)]
struct Row<'a> {
    started_at: &'a str,
    host: &'a str,
    git_rev: Option<&'a str>,
    matrix: &'a str,
    seed: u64,
    driver: &'a str,
    options: &'a str,
    model: &'a str,
    backing: &'a str,
    file_bytes: u64,
    found_at: u32,
    n_layers: u32,
    dir_depth: u32,
    cache: &'a str,
    entries: Option<u32>,
    threads: Option<u32>,
    session: u32,
    block: u32,
    whole: bool,
    file: Option<u32>,
    metric: &'a str,
    unit: &'a str,
    value: u64,
    open_ns: Option<u64>,
    response_ns: Option<u64>,
    involuntary_switches: Option<u32>,
    error: Option<&'a str>,
}

/// What was measured, without where.
struct Measured {
    file: Option<u32>,
    metric: &'static str,
    unit: &'static str,
    value: u64,
    open_ns: Option<u64>,
    response_ns: Option<u64>,
    involuntary_switches: Option<u32>,
}

impl Measured {
    fn metric(metric: Metric, value: u64) -> Self {
        Self {
            file: None,
            metric: metric.as_str(),
            unit: metric.unit(),
            value,
            open_ns: None,
            response_ns: None,
            involuntary_switches: None,
        }
    }

    fn sample(run: &RunRecord, block: &Block, sample: (usize, u32, u64, Option<u64>)) -> Self {
        let (cell, file, value, open_ns) = sample;
        let switches = || block.switches.get(&(cell, file)).copied().unwrap_or(0);
        Self {
            file: Some(file),
            metric: "latency_ns",
            unit: "ns",
            value,
            open_ns,
            response_ns: block.responses.get(&(cell, file)).copied(),
            involuntary_switches: run.header.counts_switches().then(switches),
        }
    }
}

/// All that `run` measured, and its header as the value of the key `header`.
///
/// # Errors
///
/// It cannot be encoded.
pub fn encode(run: &RunRecord) -> Result<Vec<u8>> {
    let header = serde_json::to_string(&run.header).map_err(io::Error::from).at("write", "header")?;
    let errors = run.errors();
    let rows = rows(run, &errors);
    write(&rows, header).map_err(io::Error::other).at("encode", "Parquet")
}

fn write(rows: &[Row<'_>], header: String) -> Result<Vec<u8>, ParquetError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(format!("aufs-bench {}", env!("CARGO_PKG_VERSION")))
        .set_key_value_metadata(Some(vec![KeyValue::new("header".to_owned(), header)]))
        .build();
    let mut writer = SerializedFileWriter::new(Vec::new(), rows.schema()?, Arc::new(properties))?;
    for rows in rows.chunks(GROUP_ROWS) {
        let mut group = writer.next_row_group()?;
        rows.write_to_row_group(&mut group)?;
        group.close()?;
    }
    writer.into_inner()
}

fn rows<'a>(run: &'a RunRecord, errors: &'a BTreeMap<usize, String>) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    for (&number, block) in &run.blocks {
        let samples = block.samples.iter().map(|it| (it.0, Measured::sample(run, block, *it)));
        let metrics = block.metrics.iter().map(|it| (it.0, Measured::metric(it.1, it.2)));
        rows.extend(
            samples
                .chain(metrics)
                .map(|(cell, it)| row(run, (number, block), cell, it, errors.get(&cell).map(String::as_str))),
        );
    }
    rows
}

fn row<'a>(
    run: &'a RunRecord,
    (number, block): (u32, &Block),
    cell: usize,
    measured: Measured,
    error: Option<&'a str>,
) -> Row<'a> {
    let (host, cell) = (&run.header.host, &run.header.cells[cell].cell);
    let params = &cell.params;
    let axis = |value: u32| (value != 0).then_some(value);
    Row {
        started_at: &host.started_at,
        host: &host.label,
        git_rev: host.git_rev.as_deref(),
        matrix: &host.matrix,
        seed: host.seed,
        driver: &cell.driver,
        options: &cell.options,
        model: &params.model,
        backing: &params.backing,
        file_bytes: params.file_bytes,
        found_at: params.found_at,
        n_layers: params.n_layers,
        dir_depth: params.dir_depth,
        cache: params.cache.as_str(),
        entries: axis(params.entries),
        threads: axis(params.threads),
        session: block.session,
        block: number,
        whole: block.ended.is_some(),
        file: measured.file,
        metric: measured.metric,
        unit: measured.unit,
        value: measured.value,
        open_ns: measured.open_ns,
        response_ns: measured.response_ns,
        involuntary_switches: measured.involuntary_switches,
        error,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;

    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::{Field, Row as Read};

    use super::*;
    use crate::report::example::{FILES, usual};

    fn read(run: &RunRecord) -> SerializedFileReader<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&encode(run).unwrap()).unwrap();
        SerializedFileReader::new(file).unwrap()
    }

    fn fields(row: &Read) -> BTreeMap<&str, &Field> {
        row.get_column_iter().map(|(name, value)| (name.as_str(), value)).collect()
    }

    #[test]
    fn all_that_was_measured_is_read_back() {
        let mut run = usual(3);
        let block = run.blocks.get_mut(&1).unwrap();
        block.switches.insert((0, 2), 7);
        block.responses.insert((0, 2), 99);
        block.ended = None;
        let reader = read(&run);
        let rows: Vec<Read> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        let n_samples = 3 * (run.header.cells.len() - 1) * FILES as usize;
        assert_eq!(rows.len(), n_samples + 3, "samples, and a metric for each block");
        let mut of_run: Vec<u64> =
            run.blocks.values().flat_map(|it| it.samples.iter().map(|it| it.2)).collect();
        let mut read: Vec<u64> = rows
            .iter()
            .map(fields)
            .filter(|it| *it["metric"] == Field::Str("latency_ns".into()))
            .map(|it| if let Field::ULong(ns) = it["value"] { *ns } else { panic!("{it:?}") })
            .collect();
        of_run.sort_unstable();
        read.sort_unstable();
        assert_eq!(read, of_run);
        let odd = rows.iter().map(fields).find(|it| *it["response_ns"] == Field::ULong(99)).unwrap();
        assert_eq!(*odd["involuntary_switches"], Field::UInt(7));
        assert_eq!((odd["block"], odd["file"]), (&Field::UInt(1), &Field::UInt(2)));
        assert_eq!(*odd["whole"], Field::Bool(false), "its block was cut off");
        assert_eq!(*odd["threads"], Field::Null, "an axis that the cell does not have");
    }

    #[test]
    fn the_header_goes_along_and_failed_cells_say_why() {
        let mut run = usual(2);
        run.blocks.get_mut(&1).unwrap().errors.push((0, "late".to_owned()));
        let reader = read(&run);
        let metadata = reader.metadata().file_metadata().key_value_metadata().unwrap();
        let header = metadata.iter().find(|it| it.key == "header").unwrap().value.as_ref().unwrap();
        assert_eq!(
            serde_json::from_str::<crate::run::journal::Header>(header).unwrap(),
            run.header,
            "with the skips and the fingerprint"
        );
        for row in reader.get_row_iter(None).unwrap() {
            let row = row.unwrap();
            let fields = fields(&row);
            let first = *fields["driver"] == Field::Str(run.header.cells[0].cell.driver.clone())
                && *fields["file_bytes"] == Field::ULong(4096)
                && *fields["model"] == Field::Str("copy-up".into())
                && *fields["found_at"] == Field::UInt(1);
            let expected = if first { Field::Str("late".into()) } else { Field::Null };
            assert_eq!(*fields["error"], expected, "{fields:?}");
        }
    }

    #[test]
    fn runs_of_version_1_count_no_switches() {
        for (schema, expected) in [(1, Field::Null), (2, Field::UInt(0))] {
            let mut run = usual(1);
            run.header.schema = schema;
            let reader = read(&run);
            let rows: Vec<Read> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
            let sample = rows.iter().map(fields).find(|it| *it["metric"] == Field::Str("latency_ns".into()));
            assert_eq!(*sample.unwrap()["involuntary_switches"], expected, "version {schema}");
        }
    }

    #[test]
    fn a_run_without_samples_is_an_empty_table() {
        let mut run = usual(1);
        run.blocks.clear();
        assert_eq!(read(&run).metadata().file_metadata().num_rows(), 0);
    }
}
