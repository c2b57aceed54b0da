//! Judges head against base from block values: slower, cleared, or not known yet.
//!
//! A block value of a cell is the median of ln head − ln base over its pairs.
//! At each *look* (a number of blocks) every cell still measured is tested:
//!
//! | question                       | test                                       | level                             |
//! |--------------------------------|--------------------------------------------|-----------------------------------|
//! | slower by more than the margin | exact signed-rank of θ ≤ ln(1 + margin)    | the look's α, Holm over all cells |
//! | cleared                        | exact upper bound of θ below ln(1 + limit) | `miss` divided by the looks       |
//! | improved, once cleared         | exact signed-rank of θ ≥ −ln(1 + margin)   | the look's α, Holm over all cells |
//!
//! One slower cell is a [`Verdict::Fail`] at once; a cell that is both slower than
//! the margin and below the limit is slower. All cells cleared is a
//! [`Verdict::Pass`]; open cells at the last look are [`Verdict::Inconclusive`].
//!
//! A cleared cell is measured no more, and takes part in later corrections with
//! p = 1: it still counts as one of the K cells, and p-values that only grow keep
//! their level. The sum of all α bounds the false alarms of a gate, `miss` the
//! probability that a cell slower by the limit or more is cleared.
//!
//! Pure: no clock, no chance. Why the tests are exact is in docs/GATE.md.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::stats::holm;
use crate::stats::order::{median, sorted};
use crate::stats::signed_rank::{N_MAX, Walsh, critical};

/// The constants of a gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// Slow-down that is no regression: other code has another layout.
    pub margin: f64,
    /// Slow-down that must not pass.
    pub limit: f64,
    /// Probability that a cell slower by `limit` is cleared at any look.
    pub miss: f64,
    /// Pairs of each cell and block.
    pub pairs: u32,
    /// When to judge; in ascending order of blocks.
    pub looks: Vec<Look>,
}

/// A time to judge.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// Number of blocks so far.
    pub blocks: u32,
    /// Probability of a false alarm spent here.
    pub alpha: f64,
}

impl Default for Rules {
    fn default() -> Self {
        let look = |(blocks, alpha)| Look { blocks, alpha };
        let looks = [(20, 0.002), (40, 0.002), (80, 0.003), (160, 0.003)].map(look).to_vec();
        Self { margin: 0.03, limit: 0.10, miss: 0.002, pairs: 8, looks }
    }
}

impl Rules {
    /// The rules by which cells that were judged slower are measured once more: slower at all, in 40 fresh blocks.
    pub fn confirming(&self) -> Self {
        Self { margin: 0.0, looks: vec![Look { blocks: 40, alpha: 0.01 }], ..self.clone() }
    }

    /// Probability of clearing a cell wrongly that each look may spend.
    pub fn miss_per_look(&self) -> f64 {
        self.miss / self.looks.len() as f64
    }

    /// Refuses what is no rule, and what can never decide about `n_cells` cells.
    ///
    /// The least p of n values is 2⁻ⁿ: where that is above the level of a look,
    /// the look could not see a regression of any size.
    ///
    /// # Errors
    ///
    /// One line that names the constant and what it must be.
    pub fn check(&self, n_cells: usize) -> Result<(), String> {
        if n_cells == 0 {
            return Err("a gate needs a cell".to_owned());
        }
        if !(0.0..1.0).contains(&self.margin) {
            return Err(format!("margin is {}, must be from 0 to below 1", self.margin));
        }
        if !(self.margin < self.limit && self.limit.is_finite()) {
            return Err(format!("limit is {}, must be above the margin of {}", self.limit, self.margin));
        }
        if !(0.0 < self.miss && self.miss < 0.5) {
            return Err(format!("miss is {}, must be between 0 and 0.5", self.miss));
        }
        if self.pairs == 0 {
            return Err("pairs is 0, must be 1 or more".to_owned());
        }
        self.check_looks(n_cells)
    }

    fn check_looks(&self, n_cells: usize) -> Result<(), String> {
        let Some(last) = self.looks.last() else { return Err("a gate needs a look".to_owned()) };
        if !self.looks.is_sorted_by(|a, b| a.blocks < b.blocks) {
            return Err("looks must be in ascending order of blocks".to_owned());
        }
        if N_MAX < last.blocks as usize {
            return Err(format!("look at {} blocks, must be {N_MAX} or fewer", last.blocks));
        }
        let spent: f64 = self.looks.iter().map(|it| it.alpha).sum();
        if !(self.looks.iter().all(|it| 0.0 < it.alpha) && spent < 0.5) {
            return Err(format!(
                "alpha of the looks is {spent} in all, each must be above 0 and the sum below 0.5"
            ));
        }
        for look in &self.looks {
            let blocks = look.blocks as usize;
            let cannot = |what: &str, level: f64| {
                let least = 0.5_f64.powi(i32::try_from(look.blocks).unwrap_or(i32::MAX));
                format!(
                    "look at {blocks} blocks can never {what}: the least p is {least:.2e}, the level {level:.2e}"
                )
            };
            let level = look.alpha / n_cells as f64;
            if critical(blocks, level).is_none() {
                return Err(cannot(&format!("find one of {n_cells} cells slower"), level));
            }
            if critical(blocks, self.miss_per_look()).is_none() {
                return Err(cannot("clear a cell", self.miss_per_look()));
            }
        }
        Ok(())
    }
}

/// Median of ln head − ln base over the pairs (base, head) of a block; none without pairs or with a time of 0.
pub fn block_value(pairs_ns: &[(u64, u64)]) -> Option<f64> {
    if pairs_ns.iter().any(|(base, head)| *base == 0 || *head == 0) {
        return None;
    }
    let ln_ratio = |(base, head): &(u64, u64)| (*head as f64).ln() - (*base as f64).ln();
    median(&sorted(pairs_ns.iter().map(ln_ratio).collect()))
}

/// What a gate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every cell is proved slower by less than the limit, or not slower.
    Pass,
    /// A cell is proved slower by more than the margin.
    Fail,
    /// The last look left cells of which neither is proved.
    Inconclusive,
}

/// What is known of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CellState {
    /// Nothing is proved yet.
    Open,
    /// Slower by less than the limit, or not slower; measured no more.
    Cleared,
    /// Slower by more than the margin.
    Slower,
    /// Cleared, and at that look faster by more than the margin.
    Improved,
}

/// What the last look at a cell found; a cleared cell keeps what cleared it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The cell.
    pub cell: usize,
    /// Block values it rests on.
    pub n_blocks: u32,
    /// Hodges–Lehmann estimate of ln(head/base); NaN before the first look.
    pub estimate: f64,
    /// Exact lower bound of ln(head/base), one-sided at `miss` divided by the looks.
    pub lower_bound: f64,
    /// Exact upper bound, likewise; below ln(1 + limit) the cell is cleared.
    pub upper_bound: f64,
    /// p of being slower by the margin or less, for this cell alone.
    pub p_slower: f64,
    /// p of being faster by the margin or less, for this cell alone.
    pub p_faster: f64,
    /// What follows.
    pub state: CellState,
}

impl Judgement {
    fn none(cell: usize) -> Self {
        let (lower_bound, upper_bound) = (f64::NEG_INFINITY, f64::INFINITY);
        let state = CellState::Open;
        Self {
            cell,
            n_blocks: 0,
            estimate: f64::NAN,
            lower_bound,
            upper_bound,
            p_slower: 1.0,
            p_faster: 1.0,
            state,
        }
    }
}

/// Collects block values, and judges when a look is due.
#[derive(Debug, Clone)]
pub struct Decider {
    rules: Rules,
    n_blocks: u32,
    n_looks: usize,
    values: Vec<Vec<f64>>,
    judgements: Vec<Judgement>,
    verdict: Option<Verdict>,
}

impl Decider {
    /// A gate of cells 0 to `n_cells` − 1 that knows nothing yet.
    ///
    /// # Errors
    ///
    /// What [`Rules::check`] refuses.
    pub fn new(rules: Rules, n_cells: usize) -> Result<Self, String> {
        rules.check(n_cells)?;
        let judgements = (0..n_cells).map(Judgement::none).collect();
        Ok(Self {
            rules,
            n_blocks: 0,
            n_looks: 0,
            values: vec![Vec::new(); n_cells],
            judgements,
            verdict: None,
        })
    }

    /// The constants.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Blocks so far.
    pub fn n_blocks(&self) -> u32 {
        self.n_blocks
    }

    /// Whether `cell` is to be measured in the next block.
    pub fn is_open(&self, cell: usize) -> bool {
        self.verdict.is_none() && self.judgements.get(cell).is_some_and(|it| it.state == CellState::Open)
    }

    /// The cells to be measured in the next block.
    pub fn open(&self) -> impl Iterator<Item = usize> {
        (0..self.judgements.len()).filter(|it| self.is_open(*it))
    }

    /// Adds a block: the value of each open cell that has one. Others, and what is not finite, are left out.
    pub fn push_block(&mut self, values: &BTreeMap<usize, f64>) {
        self.n_blocks += 1;
        for (cell, value) in values {
            if self.is_open(*cell) && value.is_finite() {
                self.values[*cell].push(*value);
            }
        }
    }

    /// Whether it is time to judge.
    pub fn look_due(&self) -> bool {
        let next = self.rules.looks.get(self.n_looks);
        self.verdict.is_none() && next.is_some_and(|it| it.blocks <= self.n_blocks)
    }

    /// Judges, if a look is due.
    pub fn look(&mut self) {
        if !self.look_due() {
            return;
        }
        let alpha = self.rules.looks[self.n_looks].alpha;
        self.n_looks += 1;
        let open: Vec<usize> = self.open().collect();
        for cell in &open {
            self.judgements[*cell] = self.tested(*cell);
        }
        let slower = self.corrected(&open, |it| it.p_slower);
        let faster = self.corrected(&open, |it| it.p_faster);
        let limit = self.rules.limit.ln_1p();
        for cell in open {
            let cleared = self.judgements[cell].upper_bound < limit;
            self.judgements[cell].state = match (slower[cell] <= alpha, cleared, faster[cell] <= alpha) {
                (true, ..) => CellState::Slower,
                (_, true, true) => CellState::Improved,
                (_, true, false) => CellState::Cleared,
                (_, false, _) => CellState::Open,
            };
        }
        self.verdict = self.conclusion();
    }

    /// What is known of each cell, in the order of cells.
    pub fn judgements(&self) -> &[Judgement] {
        &self.judgements
    }

    /// The cells that were judged slower.
    pub fn slower(&self) -> Vec<usize> {
        let slower = self.judgements.iter().filter(|it| it.state == CellState::Slower);
        slower.map(|it| it.cell).collect()
    }

    /// The end, or none: measure another block.
    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    fn tested(&self, cell: usize) -> Judgement {
        let none = Judgement::none(cell);
        let Some(walsh) = Walsh::of(&self.values[cell]) else { return none };
        let (margin, level) = (self.rules.margin.ln_1p(), self.rules.miss_per_look());
        Judgement {
            n_blocks: u32::try_from(self.values[cell].len()).unwrap_or(u32::MAX),
            estimate: walsh.estimate(),
            lower_bound: walsh.lower_bound(level),
            upper_bound: walsh.upper_bound(level),
            p_slower: walsh.p_above(margin),
            p_faster: walsh.p_below(-margin),
            ..none
        }
    }

    /// p-values corrected over all cells, of which those not in `open` have 1.
    fn corrected(&self, open: &[usize], p: impl Fn(&Judgement) -> f64) -> Vec<f64> {
        let mut p_values = vec![1.0; self.judgements.len()];
        open.iter().for_each(|cell| p_values[*cell] = p(&self.judgements[*cell]));
        holm::adjusted(&p_values)
    }

    fn conclusion(&self) -> Option<Verdict> {
        let any = |state| self.judgements.iter().any(|it| it.state == state);
        match (any(CellState::Slower), any(CellState::Open)) {
            (true, _) => Some(Verdict::Fail),
            (false, false) => Some(Verdict::Pass),
            (false, true) => (self.n_looks == self.rules.looks.len()).then_some(Verdict::Inconclusive),
        }
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
