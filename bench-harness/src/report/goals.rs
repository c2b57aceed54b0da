//! The tables that end a report with goals, and the same as JSON.

use schemars::JsonSchema;
use serde::Serialize;

use super::document::{Table, ratio_text, words};
use super::json::{RatioJson, ratio_json};
use super::tables::backing_label;
use crate::cell::Params;
use crate::error::Result;
use crate::goals::judge::{Certainty, Judgement, PeerRow, Verdict, against_peers, judge};
use crate::goals::{Goal, Goals, Measure};
use crate::run::journal::RunRecord;
use crate::size::human_bytes;
use crate::stats::summary::{Ratio, Summary};

/// Goals and what comes of them.
#[derive(Debug)]
pub struct Judged {
    goals: Goals,
    rows: Vec<Judgement>,
    peers: Vec<PeerRow>,
}

/// A goal in `summary.json`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct GoalJson<'a> {
    row: &'a str,
    #[serde(flatten)]
    place: Option<&'a Params>,
    limit: String,
    best: Option<String>,
    value: Option<RatioJson>,
    verdict: String,
    met: Option<bool>,
    columns: Vec<(String, Option<RatioJson>)>,
}

/// A row against the peers in `summary.json`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PeerJson<'a> {
    #[serde(flatten)]
    place: &'a Params,
    best: String,
    /// Peer, limit, ratio, whether it is met.
    peers: Vec<(String, f64, RatioJson, bool)>,
}

impl Judged {
    /// Judges the goals of `run`; `None` where it has none.
    ///
    /// # Errors
    ///
    /// The run names goals that this program does not have.
    pub fn of(summary: &Summary, run: &RunRecord) -> Result<Option<Self>> {
        let Some(name) = &run.header.goals else { return Ok(None) };
        let goals = Goals::load(name)?;
        let (rows, peers) = (judge(&goals, summary, run), against_peers(&goals, summary, run));
        Ok(Some(Self { goals, rows, peers }))
    }

    /// Every row against the peers, then the goals.
    pub fn tables(&self, run: &RunRecord) -> Vec<Table> {
        vec![self.peer_table(run), self.goal_table(run)]
    }

    fn column_labels(&self) -> Vec<String> {
        self.goals.ours.iter().chain(&self.goals.others).map(|it| it.0.label()).collect()
    }

    fn goal_table(&self, run: &RunRecord) -> Table {
        let row = |it: &Judgement| {
            let goal = &self.goals.goal[it.goal];
            let place = it.place.as_ref().map(|place| place_text(place, run)).unwrap_or_default();
            let mut row = vec![goal.row.clone(), place];
            let shown = |ratio: &Option<Ratio>| ratio.map(|it| value_text(goal, it)).unwrap_or_default();
            row.extend(it.columns.iter().map(shown));
            row.resize(2 + self.column_labels().len(), String::new());
            row.push(limit_text(goal));
            let best = it
                .best
                .as_ref()
                .map(|(subject, ratio)| format!("{}: {}", subject.label(), value_text(goal, *ratio)));
            row.extend([best.unwrap_or_default(), verdict_text(&it.verdict)]);
            row
        };
        let mut columns = words(&["row", "where"]);
        columns.extend(self.column_labels());
        columns.extend(words(&["goal", "best of ours", "verdict"]));
        Table {
            title: "Goals".to_owned(),
            note: format!(
                "Columns are ratios to {} with their 95 % intervals, or values where the goal limits a value; the best \
                 of ours is the ratio that the goal is about. Time ratios below 1 are faster.",
                self.goals.column_base.0.label()
            ),
            columns,
            rows: self.rows.iter().map(row).collect(),
        }
    }

    fn peer_table(&self, run: &RunRecord) -> Table {
        let every = &self.goals.every;
        let row = |it: &PeerRow| {
            let mut row = vec![it.place.model.clone(), place_text(&it.place, run), it.best.label()];
            let cell = |peer: &Option<(f64, Ratio, bool)>| match peer {
                None => String::new(),
                Some((limit, ratio, met)) => {
                    let word = if *met { "met" } else { "missed" };
                    format!("{} {word} (≤ {limit})", ratio_text(*ratio))
                }
            };
            row.extend(it.peers.iter().map(cell));
            row
        };
        let mut columns = words(&["row", "where", "fastest of ours"]);
        columns.extend(every.peers.iter().map(|it| format!("÷ {}", it.0.label())));
        let note = format!(
            "Time of our fastest option set in that of each peer. Against {} the limit is {} where it takes more than \
             {} times of {}; elsewhere a ratio is met when its interval reaches 1.",
            every.strict_peer.0.label(),
            every.strict_at_most,
            every.room_from,
            every.native.0.label()
        );
        let rows = self.peers.iter().map(row).collect();
        Table { title: "Every row against every peer".to_owned(), note, columns, rows }
    }

    /// The goals for `summary.json`.
    pub fn goals_json(&self) -> Vec<GoalJson<'_>> {
        let json = |it: &'_ Judgement| {
            let goal = &self.goals.goal[it.goal];
            (goal, it.best.as_ref().map(|(subject, ratio)| (subject.label(), *ratio)))
        };
        let rows = self.rows.iter().map(|it| {
            let (goal, best) = json(it);
            let columns = self.column_labels().into_iter().zip(&it.columns);
            GoalJson {
                row: &goal.row,
                place: it.place.as_ref(),
                limit: limit_text(goal),
                best: best.as_ref().map(|it| it.0.clone()),
                value: best.map(|it| ratio_json(it.1)),
                verdict: verdict_text(&it.verdict),
                met: match it.verdict {
                    Verdict::Met(_) => Some(true),
                    Verdict::Missed(..) => Some(false),
                    Verdict::Unjudged(_) => None,
                },
                columns: columns.map(|(label, ratio)| (label, ratio.map(ratio_json))).collect(),
            }
        });
        rows.collect()
    }

    /// The rows against peers for `summary.json`.
    pub fn peers_json(&self) -> Vec<PeerJson<'_>> {
        let labels = || self.goals.every.peers.iter().map(|it| it.0.label());
        let row = |it: &'_ PeerRow| {
            let pairs = labels().zip(it.peers.clone());
            pairs
                .filter_map(|(label, peer)| {
                    peer.map(|(limit, ratio, met)| (label, limit, ratio_json(ratio), met))
                })
                .collect()
        };
        let rows = self.peers.iter();
        rows.map(|it| PeerJson { place: &it.place, best: it.best.label(), peers: row(it) }).collect()
    }
}

/// `loop:ext4, 8 layers, 4 KiB × 10000, fresh`; `at layer 1 of 8` where it is not the lowest.
pub fn place_text(place: &Params, run: &RunRecord) -> String {
    let layers = match (place.found_at, place.n_layers) {
        (found_at, n_layers) if found_at != n_layers => format!("at layer {found_at} of {n_layers}"),
        (_, 1) => "1 layer".to_owned(),
        (_, n_layers) => format!("{n_layers} layers"),
    };
    let mut text = format!("{}, {layers}", backing_label(run, &place.backing));
    if place.file_bytes != 0 {
        text += &format!(", {}", human_bytes(place.file_bytes as f64));
    }
    if place.entries != 0 {
        text += &format!(" × {}", place.entries);
    }
    if place.threads != 0 {
        text += &format!(" by {} threads", place.threads);
    }
    if place.dir_depth != 1 {
        text += &format!(", {} directories deep", place.dir_depth);
    }
    format!("{text}, {}", place.cache.as_str())
}

fn value_text(goal: &Goal, ratio: Ratio) -> String {
    if !goal.measure.is_bytes() || goal.base.is_some() {
        return ratio_text(ratio);
    }
    match ratio.interval {
        Some(it) => {
            format!("{} ({} – {})", human_bytes(ratio.p50), human_bytes(it.low), human_bytes(it.high))
        }
        None => human_bytes(ratio.p50),
    }
}

/// `time ≤ 0.5 × overlayfs`.
fn limit_text(goal: &Goal) -> String {
    let what = match goal.measure {
        Measure::Time => "time",
        Measure::Speed => "speed",
        Measure::CachedPerByte => "cached bytes of a byte",
        Measure::Scaling => "scaling",
        Measure::ServerIdlePssBytes | Measure::ServerWalkedPssBytes => "memory",
    };
    let (sign, limit) = match (goal.at_most, goal.at_least) {
        (Some(limit), _) => ("≤", limit),
        (None, limit) => ("≥", limit.unwrap_or_default()),
    };
    let number =
        if goal.measure.is_bytes() && goal.base.is_none() { human_bytes(limit) } else { limit.to_string() };
    let Some(base) = &goal.base else { return format!("{what} {sign} {number}") };
    let mut of = base.subject.as_ref().map_or_else(|| "itself".to_owned(), |it| it.0.label());
    if let Some(model) = &base.model {
        of += &format!(" {model}");
    }
    if let Some(n_layers) = base.n_layers {
        of += &format!(" at {n_layers} layers");
    }
    format!("{what} {sign} {number} × {}", of.replace("at 1 layers", "at 1 layer"))
}

fn verdict_text(verdict: &Verdict) -> String {
    let (text, certainty) = match verdict {
        Verdict::Unjudged(reason) => return format!("not judged: {reason}"),
        Verdict::Met(certainty) => ("met".to_owned(), certainty),
        Verdict::Missed(by, certainty) => (format!("missed by {:.0} %", (by * 100.0).max(1.0)), certainty),
    };
    match certainty {
        Certainty::Certain => text,
        Certainty::WithinNoise => format!("{text}, but the interval reaches the limit"),
        Certainty::NoInterval => format!("{text}; too few blocks for an interval"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goal(text: &str) -> Goal {
        toml::from_str(&format!("row = \"r\"\nmodel = \"lookup\"\n{text}")).unwrap()
    }

    #[test]
    fn places_of_unlike_cells_read_unlike() {
        use crate::report::example;
        let cell = example::cell("plain", "default", "copy-up", 4096, 8);
        let run = example::run(&[(cell.clone(), 1)], 1);
        for (found_at, n_layers, dir_depth, expected) in [
            (8, 8, 1, "dir, 8 layers, 4 KiB, fresh"),
            (1, 1, 1, "dir, 1 layer, 4 KiB, fresh"),
            (1, 8, 1, "dir, at layer 1 of 8, 4 KiB, fresh"),
            (8, 8, 64, "dir, 8 layers, 4 KiB, 64 directories deep, fresh"),
        ] {
            let place = Params { found_at, n_layers, dir_depth, ..cell.params.clone() };
            assert_eq!(place_text(&place, &run), expected);
        }
    }

    #[test]
    fn limits_are_written_in_words() {
        for (text, expected) in [
            ("base = { subject = \"overlayfs/volatile\" }\nat_most = 2.0", "time ≤ 2 × overlayfs (volatile)"),
            ("measure = \"speed\"\nbase = { subject = \"plain\" }\nat_least = 0.95", "speed ≥ 0.95 × plain"),
            ("base = { n_layers = 1 }\nat_most = 1.3", "time ≤ 1.3 × itself at 1 layer"),
            (
                "base = { subject = \"plain\", model = \"bare-copy\" }\nat_most = 1.05",
                "time ≤ 1.05 × plain bare-copy",
            ),
            ("measure = \"server_idle_pss_bytes\"\nat_most = 1048576.0", "memory ≤ 1 MiB"),
        ] {
            assert_eq!(limit_text(&goal(text)), expected);
        }
    }

    #[test]
    fn verdicts_say_by_how_much_and_how_sure() {
        for (verdict, expected) in [
            (Verdict::Met(Certainty::Certain), "met"),
            (Verdict::Missed(0.234, Certainty::Certain), "missed by 23 %"),
            (
                Verdict::Missed(0.001, Certainty::WithinNoise),
                "missed by 1 %, but the interval reaches the limit",
            ),
            (Verdict::Met(Certainty::NoInterval), "met; too few blocks for an interval"),
            (Verdict::Unjudged("why".to_owned()), "not judged: why"),
        ] {
            assert_eq!(verdict_text(&verdict), expected);
        }
    }
}
