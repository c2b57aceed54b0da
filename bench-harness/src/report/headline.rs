//! The two or three sentences that a person would want first, made from the numbers.

use std::collections::{BTreeMap, BTreeSet};

use super::document::ratio_text;
use super::goals::place_text;
use super::versus::{is_measured, subjects};
use crate::cell::{Cache, Params, Subject};
use crate::run::journal::RunRecord;
use crate::size::{human_bytes, human_ns};
use crate::stats::order::Interval;
use crate::stats::summary::{CellSummary, Summary};

/// The size that the first sentence is about, or whatever is nearest to it.
const USUAL_BYTES: f64 = 4096.0;

/// Names of skipped or failed subjects that are told; the rest is counted.
const NAMES_MAX: usize = 4;

/// What `run` says in short, with ratios to `base`.
pub fn headline(summary: &Summary, run: &RunRecord, base: Option<&Subject>) -> Vec<String> {
    let Some((hero, base)) = base.and_then(|base| Some((hero(summary, base)?, base))) else {
        return vec!["No cell has numbers.".to_owned(), failures(run)];
    };
    let mut said = Vec::new();
    if let Some(first) = first_cell(summary, &hero) {
        said.push(cell_sentence(summary, run, first, base, true));
        said.extend(largest_cell(summary, first).map(|it| cell_sentence(summary, run, it, base, false)));
    }
    said.extend(tally(summary, &hero, base));
    said.push(failures(run));
    said
}

/// Whom the sentences are about: our own driver where it was measured, else the first that is not the base.
fn hero(summary: &Summary, base: &Subject) -> Option<Subject> {
    let measured = |it: &Subject| summary.cells.iter().any(|cell| is_measured(cell, it));
    let all: Vec<Subject> = subjects(summary).into_iter().filter(measured).collect();
    let ours = |it: &&Subject| it.driver.starts_with("aufs-") && *it != base;
    let other = |it: &&Subject| *it != base && it.driver != "plain";
    all.iter().find(ours).or_else(|| all.iter().find(other)).or(all.first()).cloned()
}

/// The hero's cell that most people ask for: the first write to a small file, sampled most, far down.
fn first_cell<'a>(summary: &'a Summary, hero: &Subject) -> Option<&'a CellSummary> {
    let measured = || summary.cells.iter().filter(|it| is_measured(it, hero));
    let is_first_write = |params: &Params| params.model == "copy-up" && params.dir_depth == 1;
    let of_copy_up = measured().filter(|it| is_first_write(&it.cell.params)).min_by(|a, b| {
        let key = |it: &CellSummary| {
            let params = &it.cell.params;
            let away = ((params.file_bytes.max(1) as f64) / USUAL_BYTES).ln().abs();
            (away, params.cache != Cache::Fresh, it.latency.as_ref().map_or(0, |it| it.n), params.found_at)
        };
        let (a, b) = (key(a), key(b));
        a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(b.2.cmp(&a.2)).then(b.3.cmp(&a.3))
    });
    of_copy_up.or_else(|| measured().next())
}

/// The same work on the largest file.
fn largest_cell<'a>(summary: &'a Summary, first: &CellSummary) -> Option<&'a CellSummary> {
    let own = &first.cell.params;
    let alike = |it: &&CellSummary| {
        let params = &it.cell.params;
        it.cell.subject() == first.cell.subject()
            && it.latency.is_some()
            && (&params.model, &params.backing, params.cache, params.dir_depth)
                == (&own.model, &own.backing, own.cache, own.dir_depth)
            && own.file_bytes < params.file_bytes
    };
    let samples = |it: &CellSummary| it.latency.as_ref().map_or(0, |it| it.n);
    summary.cells.iter().filter(alike).max_by_key(|it| (it.cell.params.file_bytes, samples(it)))
}

/// `The first write to a 4 KiB file of layer 8 takes 45 µs with aufs-fuse (p50, n = 480), 0.31 (0.29 – 0.33) of overlayfs.`
fn cell_sentence(
    summary: &Summary,
    run: &RunRecord,
    cell: &CellSummary,
    base: &Subject,
    with_rivals: bool,
) -> String {
    let (params, hero) = (&cell.cell.params, cell.cell.subject());
    let Some(latency) = &cell.latency else { return String::new() };
    let what = if params.model == "copy-up" {
        let size = human_bytes(params.file_bytes as f64);
        format!("The first write to a {size} file of layer {} of {}", params.found_at, params.n_layers)
    } else {
        format!("{} ({})", params.model, place_text(params, run))
    };
    let p50 = human_ns(latency.p50);
    let mut text = format!("{what} takes {p50} with {} (p50, n = {}", hero.label(), latency.n);
    if let Some(Interval { low, high }) = latency.p50_interval {
        text += &format!(", 95 % interval {} – {}", human_ns(low), human_ns(high));
    }
    text += ")";
    if let Some(ratio) = summary.ratio(cell, base).filter(|_| hero != *base) {
        text += &format!(", {} of {}", ratio_text(ratio), base.label());
    }
    // Overlayfs syncs each file it copies, unless volatile; whoever compares wants both.
    let volatile = Subject { driver: "overlayfs".to_owned(), options: "volatile".to_owned() };
    if with_rivals && base.driver == "overlayfs" && base.options == "default" && params.model == "copy-up" {
        text += ", which syncs each copied file";
        let rival = summary.find(&volatile, params).and_then(|it| it.latency.as_ref());
        if let Some(rival) = rival.filter(|_| hero != volatile) {
            text += &format!("; {}, which does not, takes {}", volatile.label(), human_ns(rival.p50));
        }
    }
    text + "."
}

/// In how many cells the hero is faster, slower, or not told apart.
fn tally(summary: &Summary, hero: &Subject, base: &Subject) -> Option<String> {
    let own = summary.cells.iter().filter(|it| it.cell.subject() == *hero);
    let ratios: Vec<_> = own.filter_map(|it| summary.ratio(it, base)).collect();
    let intervals: Vec<Interval> = ratios.iter().filter_map(|it| it.interval).collect();
    if hero == base || ratios.is_empty() {
        return None;
    }
    let (hero, base, n) = (hero.label(), base.label(), ratios.len());
    let cells = if n == 1 { "the cell" } else { "the cells" };
    if intervals.is_empty() {
        return Some(format!(
            "In {n} of {cells} {hero} can be compared with {base}, with too few blocks for intervals."
        ));
    }
    let faster = intervals.iter().filter(|it| it.high < 1.0).count();
    let slower = intervals.iter().filter(|it| 1.0 < it.low).count();
    Some(format!(
        "In the {n} cells that it shares with {base}, {hero} is faster in {faster}, slower in {slower}, and not told \
         apart in {} (95 % intervals of paired ratios, not corrected for their number).",
        n - faster - slower
    ))
}

/// What has no numbers.
fn failures(run: &RunRecord) -> String {
    let failed: BTreeSet<String> =
        run.errors().keys().map(|it| run.header.cells[*it].cell.subject().label()).collect();
    let skipped = skipped(run);
    let failures = match run.errors().len() {
        0 => "No cell failed".to_owned(),
        1 => format!("1 cell failed and has no numbers ({})", listed(&failed)),
        n => format!("{n} cells failed and have no numbers ({})", listed(&failed)),
    };
    if skipped.is_empty() {
        return format!("{failures}; no driver was skipped.");
    }
    format!("{failures}; not possible here: {}.", listed(&skipped))
}

/// Who was skipped: everywhere, or on which backings where it was measured on others.
fn skipped(run: &RunRecord) -> BTreeSet<String> {
    let mut backings: BTreeMap<&Subject, BTreeSet<&str>> = BTreeMap::new();
    for it in run.header.skips.iter().filter(|it| it.model.is_none()) {
        backings.entry(&it.subject).or_default().insert(&it.backing);
    }
    let has_cells = |subject: &Subject| run.header.cells.iter().any(|it| it.cell.subject() == *subject);
    let text = |(subject, backings): (&Subject, BTreeSet<&str>)| match has_cells(subject) {
        true => format!("{} on {}", subject.label(), Vec::from_iter(backings).join(" or ")),
        false => subject.label(),
    };
    backings.into_iter().map(text).collect()
}

fn listed(names: &BTreeSet<String>) -> String {
    let mut shown: Vec<String> = names.iter().take(NAMES_MAX).cloned().collect();
    if NAMES_MAX < names.len() {
        shown.push(format!("{} more", names.len() - NAMES_MAX));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example::{cell, run, subject, usual};
    use crate::report::versus::base;
    use crate::run::journal::Skip;

    fn said(record: &RunRecord) -> Vec<String> {
        let summary = Summary::of(record);
        headline(&summary, record, base(&summary, None).as_ref())
    }

    #[test]
    fn a_usual_run_is_told_in_four_sentences() {
        let said = said(&usual(12));
        assert_eq!(said.len(), 4, "{said:#?}");
        let first = &said[0];
        assert!(first.starts_with(
            "The first write to a 4 KiB file of layer 8 of 8 takes 55 µs with aufs-fuse (p50, n = 120, "
        ));
        assert!(
            first.contains("), 0.33 (0.33 – 0.33) of overlayfs, which syncs each copied file"),
            "{first}"
        );
        assert!(first.ends_with("; overlayfs (volatile), which does not, takes 44 µs."), "{first}");
        let second = &said[1];
        assert!(
            second
                .starts_with("The first write to a 64 MiB file of layer 8 of 8 takes 5.5 ms with aufs-fuse"),
            "{second}"
        );
        assert!(said[2].starts_with("In the 5 cells that it shares with overlayfs, aufs-fuse is faster in 4, slower in 0, and not told apart in 1 "));
        assert_eq!(said[3], "1 cell failed and has no numbers (aufs-fuse); not possible here: aufs-kernel.");
        // Where a driver runs on other file systems it is possible here.
        let mut some = usual(12);
        let mut skip = some.header.skips[0].clone();
        skip.subject = subject("plain", "default");
        some.header
            .skips
            .extend(["dir", "loop:xfs"].map(|it| Skip { backing: it.to_owned(), ..skip.clone() }));
        assert!(super::failures(&some).ends_with("here: aufs-kernel, plain on dir or loop:xfs."));
    }

    #[test]
    fn whatever_was_measured_has_a_headline() {
        let copy_up = |driver: &str, ns| (cell(driver, "default", "copy-up", 4096, 1), ns);
        let lookup = |driver: &str, ns| (cell(driver, "default", "lookup", 4096, 1), ns);
        for (what, record, expected) in [
            ("no numbers", run(&[copy_up("plain", 0)], 12), "No cell has numbers."),
            (
                "one driver",
                run(&[copy_up("plain", 4000)], 12),
                "The first write to a 4 KiB file of layer 1 of 1 takes 4 µs with plain (p50",
            ),
            ("no copy-up", run(&[lookup("plain", 900), lookup("vfs", 1800)], 12), "lookup ("),
            (
                "yardsticks of plain",
                run(&[(cell("plain", "default", "reference", 0, 1), 25_000), copy_up("vfs", 8000)], 12),
                "The first write to a 4 KiB file of layer 1 of 1 takes 8 µs with vfs (p50",
            ),
            (
                "few blocks",
                run(&[copy_up("plain", 4000), copy_up("vfs", 8000)], 1),
                "The first write to a 4 KiB file of layer 1 of 1 takes 8 µs with vfs (p50, n = 10, 95 % interval",
            ),
        ] {
            let said = said(&record);
            assert!(said[0].starts_with(expected), "{what}: {said:#?}");
            assert!(said.iter().all(|it| it.ends_with('.')), "{what}: {said:#?}");
        }
    }

    #[test]
    fn the_base_is_chosen() {
        let record = usual(12);
        let summary = Summary::of(&record);
        let volatile = subject("overlayfs", "volatile");
        let said = headline(&summary, &record, base(&summary, Some(&volatile)).as_ref());
        assert!(said[0].ends_with("), 1.25 (1.25 – 1.25) of overlayfs (volatile)."), "{said:#?}");
    }
}
