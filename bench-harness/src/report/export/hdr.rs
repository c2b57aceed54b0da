//! HdrHistogram V2 interval logs: a log for each cell, an interval for each block.

use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError};

use super::labels::file_name;
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::run::journal::RunRecord;
use crate::stats::histogram;

/// The column of maxima is in ms, as other tools write it; histograms are in ns.
const NS_PER_MS: f64 = 1e6;

/// File name and text of each log; cells without numbers have none.
///
/// # Errors
///
/// A histogram cannot be written.
pub fn logs(run: &RunRecord) -> Result<Vec<(String, String)>> {
    let errors = run.errors();
    let mut logs = Vec::new();
    for index in (0..run.header.cells.len()).filter(|it| !errors.contains_key(it)) {
        if let Some(text) = log(run, index)? {
            logs.push((format!("{}.hlog", file_name(&run.header.cells[index].cell)?), text));
        }
    }
    Ok(logs)
}

/// The log of cell `index`; none where it has no samples.
fn log(run: &RunRecord, index: usize) -> Result<Option<String>> {
    let cell = &run.header.cells[index].cell;
    let wrong = |what: String| BenchError::new("write", "interval log", BenchErrorKind::Journal(what));
    let start = started(run);
    let mut bytes = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    builder
        .add_comment(&cell.to_string())
        .add_comment(
            "Latencies in ns, maxima in ms. An interval is a block; intervals start one after the other.",
        )
        .with_start_time(start)
        .with_base_time(start)
        .with_max_value_divisor(NS_PER_MS);
    let mut writer = builder.begin_log_with(&mut bytes, &mut serializer).at("write", "interval log")?;
    let (mut at, mut n) = (Duration::ZERO, 0);
    for block in run.counted() {
        let took = Duration::from_millis(block.ended.map_or(0, |it| it.0));
        let own = block.samples.iter().filter(|it| it.0 == index).map(|it| it.2);
        if let Some(histogram) = histogram::of(own) {
            let written = writer.write_histogram(&histogram, at, took, None);
            written.map_err(|error| match error {
                IntervalLogWriterError::SerializeError(error) => wrong(error.to_string()),
                IntervalLogWriterError::IoError(error) => wrong(error.to_string()),
            })?;
            n += histogram.len();
        }
        at += took;
    }
    drop(writer);
    let text = String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
    Ok((0 < n).then_some(text))
}

/// When the run started; the epoch where it is not known.
fn started(run: &RunRecord) -> SystemTime {
    let start = run.header.host.started_at.parse::<jiff::Timestamp>();
    start.map_or(SystemTime::UNIX_EPOCH, SystemTime::from)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::report::example::{FILES, usual};

    #[test]
    fn logs_are_read_back_sample_by_sample() {
        let run = usual(3);
        let logs = logs(&run).unwrap();
        assert_eq!(logs.len(), run.header.cells.len() - 1, "the failed cell has no log");
        for (index, (name, text)) in logs.iter().enumerate() {
            let mut all = Histogram::<u64>::new(3).unwrap();
            let mut starts = Vec::new();
            for entry in IntervalLogIterator::new(text.as_bytes()) {
                let LogEntry::Interval(interval) = entry.unwrap() else { continue };
                let bytes = base64::prelude::BASE64_STANDARD.decode(interval.encoded_histogram()).unwrap();
                let of_block: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
                assert!((interval.max() - of_block.max() as f64 / 1e6).abs() < 1e-3 * interval.max() + 1e-3);
                assert_eq!(of_block.len(), u64::from(FILES), "{name}");
                starts.push(interval.start_timestamp());
                all.add(of_block).unwrap();
            }
            assert_eq!(starts, [0, 50, 100].map(Duration::from_millis), "{name}");
            let samples = run.blocks.values().flat_map(|it| &it.samples).filter(|it| it.0 == index);
            let expected = histogram::of(samples.map(|it| it.2)).unwrap();
            assert!(expected.iter_recorded().eq(all.iter_recorded()), "{name}: other counts");
        }
    }
}
