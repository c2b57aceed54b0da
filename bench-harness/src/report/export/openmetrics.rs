//! The text format of OpenMetrics 1.0: gauges and summaries of a run, for a node exporter or a push gateway.

use std::collections::BTreeMap;

use super::labels::labels;
use crate::cell::{Cell, Subject};
use crate::error::Result;
use crate::run::journal::{Metric, RunRecord};
use crate::stats::order::Interval;
use crate::stats::summary::Summary;

/// A metric family: its name without unit, its unit, its type, what it is, and its lines.
#[derive(Debug)]
struct Family {
    name: String,
    unit: &'static str,
    kind: &'static str,
    help: &'static str,
    lines: String,
}

impl Family {
    fn new(name: &str, unit: &'static str, kind: &'static str, help: &'static str) -> Self {
        let name = format!("aufs_bench_{name}");
        // The unit of a family ends its name.
        let name = if unit.is_empty() || name.ends_with(&format!("_{unit}")) {
            name
        } else {
            format!("{name}_{unit}")
        };
        Self { name, unit, kind, help, lines: String::new() }
    }

    /// Adds a value of the sample `suffix` of this family.
    fn add(&mut self, suffix: &str, labels: &[(String, String)], more: &[(&str, &str)], value: f64) {
        let own = labels.iter().map(|it| (it.0.as_str(), it.1.as_str()));
        let pairs: Vec<String> = own
            .chain(more.iter().copied())
            .map(|(key, value)| format!("{key}=\"{}\"", escaped(value)))
            .collect();
        self.lines += &format!("{}{suffix}{{{}}} {value}\n", self.name, pairs.join(","));
    }

    fn text(&self) -> String {
        if self.lines.is_empty() {
            return String::new();
        }
        let Self { name, unit, kind, help, lines } = self;
        let unit = if unit.is_empty() { String::new() } else { format!("# UNIT {name} {unit}\n") };
        format!("# TYPE {name} {kind}\n{unit}# HELP {name} {help}\n{lines}")
    }
}

const NS_PER_S: f64 = 1e9;

/// `run` in the text format, with ratios to `base`.
///
/// # Errors
///
/// A cell cannot be written.
pub fn text(summary: &Summary, run: &RunRecord, base: Option<&Subject>) -> Result<String> {
    let mut families = vec![about(run)];
    families.extend(latencies(summary)?);
    if let Some(base) = base {
        families.push(ratios(summary, base)?);
    }
    families.extend(metrics(summary)?);
    let texts: String = families.iter().map(Family::text).collect();
    Ok(texts + "# EOF\n")
}

fn about(run: &RunRecord) -> Family {
    let host = &run.header.host;
    let mut family = Family::new("run", "", "info", "The run that the rest is from.");
    let seed = host.seed.to_string();
    let pairs = [
        ("host", host.label.as_str()),
        ("kernel", &host.kernel),
        ("cpu", &host.cpu),
        ("matrix", &host.matrix),
        ("seed", &seed),
        ("started_at", &host.started_at),
        ("git_rev", host.git_rev.as_deref().unwrap_or_default()),
    ];
    family.add("_info", &[], &pairs, 1.0);
    family
}

/// Times of all cells; a percentile is there where enough samples lie beyond it.
fn latencies(summary: &Summary) -> Result<Vec<Family>> {
    let mut times = Family::new("latency", "seconds", "summary", "Service time of a sample.");
    let interval = "95 % interval of the median, over blocks where there are six.";
    let mut bounds = Family::new("latency_p50_bound", "seconds", "gauge", interval);
    let mut longest = Family::new("latency_max", "seconds", "gauge", "The longest sample.");
    let mut failed = Family::new("cell_failed", "", "gauge", "Cells that failed, which have no numbers.");
    for it in &summary.cells {
        let labels = labels(&it.cell)?;
        let Some(latency) = &it.latency else {
            if it.error.is_some() {
                failed.add("", &labels, &[], 1.0);
            }
            continue;
        };
        for (quantile, value) in [("0.5", Some(latency.p50)), ("0.9", latency.p90), ("0.99", latency.p99)] {
            if let Some(ns) = value {
                times.add("", &labels, &[("quantile", quantile)], ns / NS_PER_S);
            }
        }
        times.add("_count", &labels, &[], latency.n as f64);
        longest.add("", &labels, &[], latency.max / NS_PER_S);
        if let Some(Interval { low, high }) = latency.p50_interval {
            bounds.add("", &labels, &[("bound", "low")], low / NS_PER_S);
            bounds.add("", &labels, &[("bound", "high")], high / NS_PER_S);
        }
    }
    Ok(vec![times, bounds, longest, failed])
}

fn ratios(summary: &Summary, base: &Subject) -> Result<Family> {
    let mut family =
        Family::new("time", "ratio", "gauge", "Median over blocks of the ratio of both medians.");
    let name = base.label();
    for it in summary.cells.iter().filter(|it| it.cell.subject() != *base) {
        let Some(ratio) = summary.ratio(it, base) else { continue };
        let labels = labels(&it.cell)?;
        let interval = ratio.interval.map(|it| [("low", it.low), ("high", it.high)]);
        for (bound, value) in [("estimate", ratio.p50)].into_iter().chain(interval.into_iter().flatten()) {
            family.add("", &labels, &[("base", &name), ("bound", bound)], value);
        }
    }
    Ok(family)
}

/// What is not a time: a family for each metric.
fn metrics(summary: &Summary) -> Result<Vec<Family>> {
    let mut families: BTreeMap<&str, (Family, Vec<&Cell>)> = BTreeMap::new();
    for it in &summary.metrics {
        let name = it.metric.as_str();
        let new = || {
            (Family::new(name, unit(it.metric), "gauge", "Median of what was measured besides time."), vec![])
        };
        let (family, seen) = families.entry(name).or_insert_with(new);
        // A cell has one value of a metric; the format forbids a second.
        if !seen.contains(&&it.cell) {
            seen.push(&it.cell);
            family.add("", &labels(&it.cell)?, &[], it.p50);
        }
    }
    Ok(families.into_values().map(|it| it.0).collect())
}

/// The unit of `metric` as the end of a name; nothing for one that no name can end with, such as `1/s`.
fn unit(metric: Metric) -> &'static str {
    let is_of_names = |it: char| it.is_ascii_alphanumeric() || it == '_';
    Some(metric.unit()).filter(|it| it.chars().all(is_of_names)).unwrap_or_default()
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::report::example::{subject, usual};

    /// Name, labels and value of a sample line.
    fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
        let (name, mut rest) = line.split_once('{').unwrap();
        let mut labels = BTreeMap::new();
        loop {
            let (key, after) = rest.split_once("=\"").unwrap();
            let (mut value, mut chars) = (String::new(), after.char_indices());
            let end = loop {
                match chars.next().unwrap() {
                    (at, '"') => break at + 1,
                    (_, '\\') => match chars.next().unwrap().1 {
                        'n' => value.push('\n'),
                        it @ ('\\' | '"') => value.push(it),
                        it => panic!("escape of {it:?} in {line}"),
                    },
                    (_, it) => value.push(it),
                }
            };
            assert!(key.chars().all(|it| it.is_ascii_alphanumeric() || it == '_'), "label {key}");
            assert_eq!(labels.insert(key.to_owned(), value), None, "label twice in {line}");
            match after[end..].split_at(1) {
                (",", after) => rest = after,
                ("}", after) => return (name.to_owned(), labels, after.trim_start().parse().unwrap()),
                (it, _) => panic!("{it:?} in {line}"),
            }
        }
    }

    /// Whether `text` is `[a-zA-Z_:][a-zA-Z0-9_:]*`.
    fn is_name(text: &str) -> bool {
        let begins = |it: char| it.is_ascii_alphabetic() || it == '_' || it == ':';
        text.starts_with(begins) && text.chars().all(|it| begins(it) || it.is_ascii_digit())
    }

    /// Checks the rules of the format, and returns all samples.
    fn parse(text: &str) -> Vec<(String, BTreeMap<String, String>, f64)> {
        let body = text.strip_suffix("# EOF\n").unwrap();
        let (mut samples, mut seen, mut families) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        let (mut family, mut kind) = (String::new(), String::new());
        for line in body.lines() {
            let words: Vec<&str> = line.splitn(4, ' ').collect();
            match words[..] {
                ["#", "TYPE", name, type_name] => {
                    assert!(is_name(name), "{name}");
                    assert!(families.insert(name.to_owned()), "{name} comes twice");
                    (family, kind) = (name.to_owned(), type_name.to_owned());
                }
                ["#", "UNIT", name, unit] => {
                    assert!(name == family && name.ends_with(&format!("_{unit}")), "{line}");
                }
                ["#", "HELP", name, _] => assert_eq!(name, family),
                _ => {
                    let (name, labels, value) = sample(line);
                    let suffix = name.strip_prefix(&family).unwrap();
                    let allowed: &[&str] = match kind.as_str() {
                        "summary" => &["", "_count"],
                        "info" => &["_info"],
                        "gauge" => &[""],
                        it => panic!("type {it}"),
                    };
                    assert!(allowed.contains(&suffix) && value.is_finite(), "{line}");
                    assert!(seen.insert((name.clone(), labels.clone())), "twice: {line}");
                    samples.push((name, labels, value));
                }
            }
        }
        samples
    }

    #[test]
    fn the_text_is_valid_and_says_what_was_measured() {
        let mut run = usual(12);
        run.header.host.label = "a \"b\" \\ c\nd".to_owned();
        let summary = Summary::of(&run);
        let samples = parse(&text(&summary, &run, Some(&subject("overlayfs", "default"))).unwrap());
        let named = |name: &str| {
            let name = format!("aufs_bench_{name}");
            samples.iter().filter(move |it| it.0 == name)
        };
        assert_eq!(named("run_info").next().unwrap().1["host"], run.header.host.label);
        let n_cells = run.header.cells.len() - 1;
        assert_eq!(named("latency_seconds_count").count(), n_cells);
        // 120 samples are enough for a p90 and not for a p99.
        let quantiles: BTreeSet<&str> =
            named("latency_seconds").map(|it| it.1["quantile"].as_str()).collect();
        assert_eq!(quantiles, BTreeSet::from(["0.5", "0.9"]));
        let ours = |it: &&(String, BTreeMap<String, String>, f64)| {
            it.1["driver"] == "aufs-fuse"
                && it.1["found_at"] == "8"
                && it.1["file_bytes"] == "4096"
                && it.1["model"] == "copy-up"
        };
        let p50 = named("latency_seconds").filter(ours).find(|it| it.1["quantile"] == "0.5").unwrap().2;
        assert!((p50 - 55e-6).abs() < 1e-6, "{p50}");
        let ratio = named("time_ratio").filter(ours).find(|it| it.1["bound"] == "estimate").unwrap();
        assert!((ratio.2 - 1.0 / 3.0).abs() < 1e-3 && ratio.1["base"] == "overlayfs");
        assert_eq!(named("cell_failed").count(), 1);
        assert_eq!(named("upper_bytes").next().unwrap().2, 4096.0);
    }

    #[test]
    fn every_metric_is_a_valid_family() {
        let schema = serde_json::to_value(schemars::schema_for!(Metric)).unwrap();
        let names = schema["oneOf"].as_array().unwrap().iter().map(|it| it["const"].clone());
        let all: Vec<Metric> = names.map(|it| serde_json::from_value(it).unwrap()).collect();
        assert!(all.contains(&Metric::Writes) && 20 <= all.len(), "{all:?}");
        let mut run = usual(3);
        for block in run.blocks.values_mut() {
            block.metrics = all.iter().map(|it| (0, *it, 7)).collect();
        }
        let samples = parse(&text(&Summary::of(&run), &run, None).unwrap());
        for metric in all {
            let name = format!("aufs_bench_{}", metric.as_str());
            assert!(samples.iter().any(|it| it.0.starts_with(&name) && it.2 == 7.0), "{name}");
        }
    }
}
