//! What was measured, and the tables made of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;

use serde::Serialize;

/// One measured value.
#[derive(Debug, Clone, Serialize)]
struct Sample {
    /// The figure it belongs to.
    figure: &'static str,
    /// What was measured; cases that are compared differ in `by` alone.
    case: String,
    /// By which means.
    by: &'static str,
    round: usize,
    value: f64,
    unit: &'static str,
}

/// All samples of one figure, in the order they were taken.
#[derive(Debug, Default)]
pub struct Samples(Vec<Sample>);

impl Samples {
    /// Keeps a value.
    pub fn keep(
        &mut self,
        figure: &'static str,
        case: impl Into<String>,
        by: &'static str,
        round: usize,
        (value, unit): (f64, &'static str),
    ) {
        self.0.push(Sample { figure, case: case.into(), by, round, value, unit });
    }

    /// Writes each as a line of JSON.
    pub fn write(&self, mut out: impl Write) -> anyhow::Result<()> {
        for sample in &self.0 {
            serde_json::to_writer(&mut out, sample)?;
            writeln!(out)?;
        }
        Ok(out.flush()?)
    }

    /// Median and quartiles of each case and means, and for each means the median of its ratio to the first of the same case, round by round.
    pub fn table(&self) -> String {
        let mut cases: Vec<(&str, &str, &'static str)> = Vec::new();
        let mut rounds: BTreeMap<(&str, &str), BTreeMap<usize, f64>> = BTreeMap::new();
        for sample in &self.0 {
            let key = (sample.case.as_str(), sample.by);
            if !rounds.contains_key(&key) {
                cases.push((key.0, key.1, sample.unit));
            }
            rounds.entry(key).or_default().insert(sample.round, sample.value);
        }
        let figure = self.0.first().map_or("", |it| it.figure);
        let mut text = format!("\n{figure}\n");
        // Writing to a string cannot fail.
        _ = writeln!(text, "{:<38} {:<16} {:>28} {:>18}", "what", "by", "median [quartiles]", "ratio");
        for (case, by, unit) in &cases {
            let values = &rounds[&(*case, *by)];
            let shown = quartiles(values.values().copied().collect());
            let first = cases.iter().find(|it| it.0 == *case).map_or(*by, |it| it.1);
            let ratio = if first == *by {
                String::new()
            } else {
                let base = &rounds[&(*case, first)];
                let ratios = values.iter().filter_map(|(round, value)| Some(value / base.get(round)?));
                format!("{} to {first}", brief(quartiles(ratios.collect())[1]))
            };
            let [low, middle, high] = shown.map(brief);
            let interval = if values.len() < 4 {
                format!("{middle} {unit}")
            } else {
                format!("{middle} [{low}–{high}] {unit}")
            };
            _ = writeln!(text, "{case:<38} {by:<16} {interval:>28} {ratio:>18}");
        }
        text
    }
}

/// The values at a quarter, at the middle and at three quarters, by nearest rank; 0 of none.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    [last / 4, last / 2, last - last / 4].map(|at| values.get(at).copied().unwrap_or(0.0))
}

/// Three significant digits.
fn brief(value: f64) -> String {
    match value.abs() {
        it if 99.95 <= it => format!("{value:.0}"),
        it if 9.995 <= it => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_same_round() {
        let mut samples = Samples::default();
        for (round, (ours, theirs)) in [(2.0, 1.0), (30.0, 10.0), (8.0, 4.0)].into_iter().enumerate() {
            samples.keep("start", "8 layers", "overlayfs", round, (theirs, "ms"));
            samples.keep("start", "8 layers", "aufs", round, (ours, "ms"));
        }
        let table = samples.table();
        assert!(table.contains("4.00 ms") && table.contains("8.00 ms"), "{table}");
        assert!(table.contains("2.00 to overlayfs"), "{table}");
    }

    #[test]
    fn quartiles_are_values_that_were_measured() {
        assert_eq!(quartiles(vec![5.0, 1.0, 2.0, 4.0, 3.0]), [2.0, 3.0, 4.0]);
        assert_eq!(quartiles(vec![7.0]), [7.0; 3]);
        assert_eq!(quartiles(Vec::new()), [0.0; 3]);
    }
}
