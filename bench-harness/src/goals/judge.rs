//! Goals against the numbers of a run: pure functions over summaries.

use std::collections::BTreeSet;

use super::{Goal, Goals, Measure};
use crate::cell::{Params, Subject};
use crate::run::journal::RunRecord;
use crate::stats::summary::{Blocks, Ratio, Summary, ratio_of, value_of};

/// One goal at one set of parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// Index of the goal.
    pub goal: usize,
    /// Where; `None` when the run has no such cell.
    pub place: Option<Params>,
    /// Ratio to the column base of ours and the others, or the value where the goal limits that.
    pub columns: Vec<Option<Ratio>>,
    /// The best of ours, with what the goal limits.
    pub best: Option<(Subject, Ratio)>,
    /// What comes of it.
    pub verdict: Verdict,
}

/// What comes of a goal.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Within the limit; certain where the whole interval is.
    Met(Certainty),
    /// Beyond the limit by this share of it.
    Missed(f64, Certainty),
    /// Nothing to judge, for this reason.
    Unjudged(String),
}

/// What the interval says of a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    /// The interval does not reach the limit.
    Certain,
    /// It does.
    WithinNoise,
    /// There are too few blocks for one.
    NoInterval,
}

impl Verdict {
    /// The verdict on `ratio` for a limit from above (`at_most`) or below (`at_least`).
    pub fn of(ratio: Ratio, at_most: Option<f64>, at_least: Option<f64>) -> Self {
        let (limit, beyond) = match (at_most, at_least) {
            (Some(limit), _) => (limit, ratio.p50 - limit),
            (None, Some(limit)) => (limit, limit - ratio.p50),
            (None, None) => return Self::Unjudged("the goal has no limit".to_owned()),
        };
        let certainty = match ratio.interval {
            None => Certainty::NoInterval,
            Some(it) if it.low <= limit && limit <= it.high => Certainty::WithinNoise,
            Some(_) => Certainty::Certain,
        };
        if beyond <= 0.0 { Self::Met(certainty) } else { Self::Missed(beyond / limit, certainty) }
    }
}

/// Judges all `goals` in the order of rows.
pub fn judge(goals: &Goals, summary: &Summary, run: &RunRecord) -> Vec<Judgement> {
    let judge = Judge { goals, summary, run };
    goals.goal.iter().enumerate().flat_map(|(index, goal)| judge.rows(index, goal)).collect()
}

struct Judge<'a> {
    goals: &'a Goals,
    summary: &'a Summary,
    run: &'a RunRecord,
}

impl Judge<'_> {
    fn rows(&self, index: usize, goal: &Goal) -> Vec<Judgement> {
        let mut places: BTreeSet<&Params> =
            self.run.params().into_iter().filter(|it| goal.covers(it)).collect();
        // At the base itself there is nothing to compare.
        let at_base = |it: &Params| goal.base.as_ref().and_then(|base| base.n_layers) == Some(it.n_layers);
        places.retain(|it| !at_base(it));
        if places.is_empty() {
            let verdict = Verdict::Unjudged("not part of this run".to_owned());
            return vec![Judgement { goal: index, place: None, columns: Vec::new(), best: None, verdict }];
        }
        places.into_iter().map(|place| self.row(index, goal, place)).collect()
    }

    fn row(&self, index: usize, goal: &Goal, place: &Params) -> Judgement {
        let column_base = &self.goals.column_base.0;
        let column = |subject: &Subject| {
            let own = self.values(subject, place, goal.measure)?;
            match &goal.base {
                None => value_of(&own),
                Some(_) => ratio_of(&own, &self.values(column_base, place, goal.measure)?),
            }
        };
        let all = self.goals.ours.iter().chain(&self.goals.others);
        let columns = all.map(|it| column(&it.0)).collect();
        let ours = if goal.ours.is_empty() { &self.goals.ours } else { &goal.ours };
        let judged = ours.iter().filter_map(|it| Some((it.0.clone(), self.judged(goal, &it.0, place)?)));
        let rank = |ratio: &Ratio| if goal.at_most.is_some() { ratio.p50 } else { -ratio.p50 };
        let best = judged.min_by(|a, b| rank(&a.1).total_cmp(&rank(&b.1)));
        let verdict = match &best {
            Some((_, ratio)) => Verdict::of(*ratio, goal.at_most, goal.at_least),
            None => Verdict::Unjudged(self.why_not(goal, ours.first().map(|it| &it.0), place)),
        };
        Judgement { goal: index, place: Some(place.clone()), columns, best, verdict }
    }

    /// What `goal` limits, for `subject`.
    fn judged(&self, goal: &Goal, subject: &Subject, place: &Params) -> Option<Ratio> {
        let own = self.values(subject, place, goal.measure)?;
        let Some(base) = &goal.base else { return value_of(&own) };
        let of = base.subject.as_ref().map_or(subject, |it| &it.0);
        ratio_of(&own, &self.values(of, &base_place(goal, place), goal.measure)?)
    }

    /// Values of `measure` by block.
    fn values(&self, subject: &Subject, place: &Params, measure: Measure) -> Option<Blocks> {
        let per =
            |values: Blocks, scale: f64| values.into_iter().map(|(block, it)| (block, it * scale)).collect();
        match measure.metric() {
            Some(metric) => {
                let found = self.summary.metrics.iter().find(|it| {
                    it.metric == metric && it.cell.params == *place && it.cell.subject() == *subject
                })?;
                let scale = match measure {
                    Measure::CachedPerByte => 1.0 / place.file_bytes.max(1) as f64,
                    Measure::Scaling => 1e-3,
                    _ => 1.0,
                };
                Some(per(found.block_medians.clone(), scale))
            }
            None => {
                let cell = self.summary.find(subject, place).filter(|it| it.latency.is_some())?;
                let times = cell.block_medians.iter();
                let value = |ns: f64| if measure == Measure::Speed { 1.0 / ns } else { ns };
                Some(times.map(|(block, ns)| (*block, value(*ns))).collect())
            }
        }
    }

    /// Who is missing, and the reason that the run gives.
    fn why_not(&self, goal: &Goal, ours: Option<&Subject>, place: &Params) -> String {
        let base = goal.base.as_ref().and_then(|it| it.subject.as_ref()).map(|it| &it.0);
        let has = |subject: &Subject, place: &Params| self.values(subject, place, goal.measure).is_some();
        let base_missing = base.filter(|it| !has(it, &base_place(goal, place)));
        let Some(missing) = base_missing.or(ours) else { return "no option set of ours is named".to_owned() };
        let cell = self.summary.find(missing, place);
        if let Some(error) = cell.and_then(|it| it.error.as_ref()) {
            return format!("{} failed: {error}", missing.label());
        }
        let of = |it: &&crate::run::journal::Skip| it.subject == *missing && it.backing == place.backing;
        match self.run.header.skips.iter().find(of) {
            Some(skip) => format!("{} was skipped: {}", missing.label(), skip.reason),
            None => format!("{} has no numbers here", missing.label()),
        }
    }
}

/// The parameters of what a goal divides by.
fn base_place(goal: &Goal, place: &Params) -> Params {
    let mut params = place.clone();
    if let Some(base) = &goal.base {
        params.model = base.model.clone().unwrap_or(params.model);
        if let Some(n_layers) = base.n_layers {
            (params.n_layers, params.found_at) = (n_layers, n_layers);
        }
    }
    params
}

/// One row of the run against each peer.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerRow {
    /// What was measured.
    pub place: Params,
    /// The fastest of ours.
    pub best: Subject,
    /// The limit to the ratio, and what the ratio is, for each peer; `None` where it has no numbers.
    pub peers: Vec<Option<(f64, Ratio, bool)>>,
}

/// Compares the fastest of ours with each peer at every parameter set of the run.
///
/// A ratio is met when it is at most the strict limit, for the strict peer where
/// it has room; elsewhere when its interval reaches 1 or lies below.
pub fn against_peers(goals: &Goals, summary: &Summary, run: &RunRecord) -> Vec<PeerRow> {
    let every = &goals.every;
    let judge = Judge { goals, summary, run };
    let row = |place: &Params| {
        let times = |subject: &Subject| judge.values(subject, place, Measure::Time);
        let ours = goals.ours.iter().filter_map(|it| Some((it.0.clone(), times(&it.0)?)));
        let middle = |blocks: &Blocks| value_of(blocks).map_or(f64::INFINITY, |it| it.p50);
        let (best, own) = ours.min_by(|a, b| middle(&a.1).total_cmp(&middle(&b.1)))?;
        let native = times(&every.native.0);
        let peer = |peer: &Subject| {
            let peer_times = times(peer)?;
            let ratio = ratio_of(&own, &peer_times)?;
            // Without a native number the peer is taken to have room.
            let to_native = native.as_ref().and_then(|native| ratio_of(&peer_times, native));
            let has_room = to_native.is_none_or(|it| every.room_from < it.p50);
            let strict = *peer == every.strict_peer.0 && has_room;
            let reached = ratio.interval.map_or(ratio.p50, |it| it.low);
            let met = if strict { ratio.p50 <= every.strict_at_most } else { reached <= 1.0 };
            Some((if strict { every.strict_at_most } else { 1.0 }, ratio, met))
        };
        let peers = every.peers.iter().map(|it| peer(&it.0)).collect();
        Some(PeerRow { place: place.clone(), best, peers })
    };
    let wanted = |place: &&&Params| !every.except.contains(&place.model);
    run.params().iter().filter(wanted).filter_map(|place| row(place)).collect()
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
