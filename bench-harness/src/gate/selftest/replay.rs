//! Gates over recorded latencies.
//!
//! A trace is dealt to both arms in the order in which it was recorded: the next
//! time of a cell is that of whichever arm comes next. Each trial starts at a
//! place of its own and has fresh coins, so that with head = base it is an honest
//! randomisation test on a real machine's drift, bursts and tails.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::SelftestOptions;
use super::check::{Check, Judged, Part, Required};
use super::simulate::SLOWER;
use super::trial::{Setup, SlowDown, Source, Tally, tally};
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::gate::decide::Rules;
use crate::gate::interleave::Arm;

/// The trace that the program contains; fixtures/traces/README.md says what it is.
const OWN: &[u8] = include_bytes!("../../../../fixtures/traces/copyup-overlayfs-tmpfs.csv.gz");

/// Names of the fields of a line.
const FIELDS: [&str; 5] = ["start_ns", "round", "layers", "size", "elapsed_ns"];

/// Most bytes of a trace, unpacked.
const BYTES_MAX: u64 = 1 << 30;

/// Recorded latencies.
#[derive(Debug)]
pub struct Trace {
    /// Where it is from.
    pub name: String,
    /// Times of each cell in the order of recording, in ns; all of the same number.
    cells: Vec<Vec<u64>>,
}

/// The traces at `paths`; without paths the one inside the program.
///
/// # Errors
///
/// A file that cannot be read, a line that is none, or too few samples of a cell.
pub fn traces(paths: &[PathBuf]) -> Result<Vec<Trace>> {
    if paths.is_empty() {
        return Ok(vec![parse(
            OWN,
            Path::new("the trace inside the program"),
            "overlayfs on tmpfs".to_owned(),
        )?]);
    }
    let read = |path: &PathBuf| {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        parse(&std::fs::read(path).at("read", path)?, path, name)
    };
    paths.iter().map(read).collect()
}

/// Samples of each cell that the longest gate takes.
fn needed(rules: &Rules) -> usize {
    rules.looks.last().map_or(0, |it| it.blocks as usize) * rules.pairs as usize * 2
}

fn parse(bytes: &[u8], path: &Path, name: String) -> Result<Trace> {
    let refuse = |why: String| BenchError::new("read trace", path, BenchErrorKind::Config(why));
    let mut text = Vec::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        GzDecoder::new(bytes).take(BYTES_MAX).read_to_end(&mut text).at("unpack", path)?;
    } else {
        text.write_all(bytes).at("read", path)?;
    }
    let mut cells: BTreeMap<(u32, String), Vec<u64>> = BTreeMap::new();
    let mut lines = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_slice());
    for line in lines.records() {
        let line = line.map_err(|error| refuse(error.to_string()))?;
        let (layers, size, elapsed_ns) = fields(&line).map_err(refuse)?;
        cells.entry((layers, size)).or_default().push(elapsed_ns);
    }
    let least = cells.iter().min_by_key(|it| it.1.len());
    let Some(((layers, size), n)) = least.map(|(cell, times)| (cell, times.len())) else {
        return Err(refuse("the trace has no samples".to_owned()));
    };
    let needed = needed(&Rules::default());
    if n < needed {
        return Err(refuse(format!(
            "cell of {layers} layers and size {size} has {n} samples, a gate needs {needed}"
        )));
    }
    let cells: Vec<Vec<u64>> = cells.into_values().map(|it| it[..n].to_vec()).collect();
    Rules::default().check(cells.len()).map_err(refuse)?;
    Ok(Trace { name, cells })
}

/// Layers, size and time of a line.
fn fields(line: &csv::StringRecord) -> std::result::Result<(u32, String, u64), String> {
    let at = line.position().map_or(0, csv::Position::line);
    if line.len() != FIELDS.len() {
        return Err(format!("line {at} has {} fields, expected {}", line.len(), FIELDS.join(",")));
    }
    let number = |index: usize| -> std::result::Result<u64, String> {
        let wrong = |_| format!("line {at}: {} {:?} is not a whole number", FIELDS[index], &line[index]);
        line[index].trim().parse().map_err(wrong)
    };
    let layers =
        u32::try_from(number(2)?).map_err(|_| format!("line {at}: {} layers are too many", &line[2]))?;
    let elapsed_ns = number(4)?;
    if elapsed_ns == 0 {
        return Err(format!("line {at}: elapsed_ns is 0, no call takes no time"));
    }
    Ok((layers, line[3].trim().to_owned(), elapsed_ns))
}

/// Times of a trace from some place on.
struct Replayed<'a> {
    trace: &'a Trace,
    next: Vec<usize>,
}

impl<'a> Replayed<'a> {
    fn new(trace: &'a Trace, seed: u64) -> Self {
        let room = trace.cells[0].len() - needed(&Rules::default()) + 1;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Not a stream of the coin, which has the same seed.
        rng.set_stream(u64::MAX);
        let start = ((u128::from(rng.next_u64()) * room as u128) >> 64) as usize;
        Self { trace, next: vec![start; trace.cells.len()] }
    }
}

impl Source for Replayed<'_> {
    fn respawn(&mut self) {}

    fn next_ns(&mut self, cell: usize, _: Arm) -> f64 {
        let at = self.next[cell];
        self.next[cell] += 1;
        self.trace.cells[cell][at] as f64
    }
}

/// Gates with head = base, and with +10 % in one cell.
///
/// # Errors
///
/// A gate that ended without a verdict.
pub fn checks(trace: &Trace, options: &SelftestOptions) -> Result<Vec<Check>> {
    let n_cells = trace.cells.len();
    let gates =
        |setup: &Setup| tally(setup, options.seed, options.n_gates, |seed| Replayed::new(trace, seed));
    let same = gates(&Setup::same(n_cells))?;
    let one = gates(&Setup::slowed(n_cells, SlowDown::OneCell(SLOWER)))?;
    let by_form = Judged::by_form(options.is_full());
    let missed = Required::AtMost(Rules::default().miss);
    let one_done = format!("+10 % in one of {n_cells} cells");
    let check = |done: &str, what: &str, tally: Tally, share, required, judged| {
        Check::counted(Part::Replayed, &trace.name, done, what, share, required, judged).with_gates(tally)
    };
    Ok(vec![
        check("head is base", "FAIL", same, same.failed(), Required::AtMost(0.01), by_form),
        check(&one_done, "FAIL", one, one.failed(), Required::AtLeast(0.99), by_form),
        check("the same gates", "PASS", one, one.passed(), missed, Judged::ByChance),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> std::result::Result<Trace, String> {
        parse(text.as_bytes(), Path::new("t.csv"), "t".to_owned()).map_err(|error| error.line())
    }

    #[test]
    fn odd_traces_are_refused_by_line_and_field() {
        let short = "1,0,1,4K,500\n".repeat(2559);
        for (text, expected) in [
            ("", "no samples"),
            ("1,0,1,4K\n", "line 1 has 4 fields, expected start_ns,round,layers,size,elapsed_ns"),
            ("1,0,1,4K,5\n1,0,1,4K,5,6\n", "line 2 has 6 fields"),
            ("1,0,1,4K,5\n1,0,1,4K,-5\n", "line 2: elapsed_ns \"-5\" is not a whole number"),
            ("start_ns,round,layers,size,elapsed_ns\n", "line 1: layers \"layers\" is not a whole number"),
            ("1,0,99999999999,4K,5\n", "99999999999 layers are too many"),
            ("1,0,1,4K,0\n", "line 1: elapsed_ns is 0"),
            (&short, "cell of 1 layers and size 4K has 2559 samples, a gate needs 2560"),
        ] {
            let refused = parsed(text).unwrap_err();
            assert!(
                refused.contains(expected) && refused.starts_with("read trace t.csv"),
                "{text:.40}: {refused}"
            );
        }
        let enough = parsed(&format!("{short}1,0,1,4K,700\n")).unwrap();
        assert_eq!((enough.cells.len(), enough.cells[0].len(), enough.cells[0][2559]), (1, 2560, 700));
    }

    #[test]
    fn the_trace_inside_the_program_is_whole() {
        let own = traces(&[]).unwrap();
        assert_eq!(own[0].cells.iter().map(Vec::len).collect::<Vec<_>>(), [4000; 6]);
    }

    #[test]
    fn both_arms_share_the_order_of_recording() {
        let own = traces(&[]).unwrap();
        let mut times = Replayed::new(&own[0], 5);
        let at = times.next[2];
        let dealt = [Arm::Base, Arm::Head, Arm::Head].map(|arm| times.next_ns(2, arm) as u64);
        assert_eq!(dealt, own[0].cells[2][at..at + 3]);
        assert_eq!(times.next[0], at, "cells are dealt on their own");
    }
}
