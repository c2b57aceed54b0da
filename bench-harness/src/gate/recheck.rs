//! Judges the pairs of a recorded gate again: looks and an end that do not follow from them are refused.

use std::collections::BTreeMap;

use super::decide::{Decider, Rules, Verdict, block_value};
use super::record::{CellLook, Ending, FILE_NAME, GateRecord, Stage};
use crate::error::{BenchError, BenchErrorKind, Result};

impl GateRecord {
    /// Judges the pairs again, and compares with what was judged while they were measured.
    ///
    /// # Errors
    ///
    /// `Journal`: a look or the end differs, or the rules cannot be used.
    pub fn recheck(&self) -> Result<()> {
        self.rechecked().map_err(|what| BenchError::new("recheck", FILE_NAME, BenchErrorKind::Journal(what)))
    }

    fn rechecked(&self) -> Result<(), String> {
        let rules = &self.header.rules;
        let all: Vec<usize> = (0..self.header.cells.len()).collect();
        let gate = self.replayed(Stage::Gate, rules.clone(), &all)?;
        let has_more = self.blocks.iter().any(|it| it.1 == Stage::Confirm)
            || self.looks.iter().any(|it| it.0 == Stage::Confirm);
        let again = match gate.slower() {
            slower if has_more && slower.is_empty() => {
                return Err("it confirms what is not slower".to_owned());
            }
            slower if has_more => Some(self.replayed(Stage::Confirm, rules.confirming(), &slower)?.verdict()),
            _ => None,
        };
        let follows = match self.ending {
            Some(Ending::Pass) => (gate.verdict(), again) == (Some(Verdict::Pass), None),
            Some(Ending::Inconclusive) => (gate.verdict(), again) == (Some(Verdict::Inconclusive), None),
            Some(Ending::Budget) => (gate.verdict(), again) == (None, None),
            // No confirmation was wanted, or there was no time for it, or it confirms.
            Some(Ending::Fail) => {
                gate.verdict() == Some(Verdict::Fail)
                    && matches!(again, None | Some(None | Some(Verdict::Fail)))
            }
            Some(Ending::Unconfirmed) => {
                gate.verdict() == Some(Verdict::Fail)
                    && matches!(again, Some(Some(Verdict::Pass | Verdict::Inconclusive)))
            }
            Some(Ending::Error | Ending::Interrupted) | None => true,
        };
        if follows { Ok(()) } else { Err("its end does not follow from the pairs".to_owned()) }
    }

    /// The judge of `stage`, whose cells are `cells`, after all of its blocks.
    fn replayed(&self, stage: Stage, rules: Rules, cells: &[usize]) -> Result<Decider, String> {
        let mut decider = Decider::new(rules, cells.len())?;
        let mut pairs: BTreeMap<(u32, usize), Vec<(u64, u64)>> = BTreeMap::new();
        for it in &self.pairs {
            pairs.entry((it.block, it.cell)).or_default().push((it.base_ns, it.head_ns));
        }
        let mut looks = self.looks.iter().filter(|it| it.0 == stage);
        for (block, _, _) in self.blocks.iter().filter(|it| it.1 == stage) {
            let value = |cell: &usize| block_value(pairs.get(&(*block, *cell))?);
            let values = (0..).zip(cells).filter_map(|(own, cell)| Some((own, value(cell)?))).collect();
            decider.push_block(&values);
            if !decider.look_due() {
                continue;
            }
            decider.look();
            match looks.next() {
                Some((_, recorded)) if agree(&decider, cells, recorded) => {}
                Some(_) => {
                    return Err(format!("the look after block {block} does not follow from the pairs"));
                }
                // A gate may have been stopped between a block and its look.
                None if self.ending.is_none_or(|it| matches!(it, Ending::Error | Ending::Interrupted)) => {}
                None => return Err(format!("there is no look after block {block}")),
            }
        }
        match looks.next() {
            Some(_) => Err("it has a look for which there are no blocks".to_owned()),
            None => Ok(decider),
        }
    }
}

/// Whether `recorded` is what `decider` says of its cells, which the record calls `cells`.
fn agree(decider: &Decider, cells: &[usize], recorded: &[CellLook]) -> bool {
    let again = decider.judgements().iter().map(|it| CellLook { cell: cells[it.cell], ..CellLook::of(it) });
    again.len() == recorded.len() && again.zip(recorded).all(|(again, it)| again.agrees(it))
}

#[cfg(test)]
mod tests {
    use super::super::arm::ArmFacts;
    use super::super::interleave::Arm;
    use super::super::record::{GateCell, Header, Pair, SCHEMA};
    use super::*;
    use crate::host::HostFacts;
    use crate::report::example::{cell, subject};

    fn header() -> Header {
        let arm = ArmFacts { subject: subject("plain", "default"), program: None };
        let params = cell("plain", "default", "copy-up", 4096, 1).params;
        Header {
            schema: SCHEMA,
            host: HostFacts::read(7, "example").unwrap(),
            base: arm.clone(),
            head: arm,
            rules: Rules::default(),
            cells: ["a", "b"].map(|it| GateCell { name: it.to_owned(), params: params.clone() }).to_vec(),
            skips: Vec::new(),
            inject: None,
        }
    }

    /// Measures `n_blocks` in which head takes `head_ns` instead of 1000 in cell 1, and judges them as a gate does.
    fn measured(
        record: &mut GateRecord,
        stage: Stage,
        cells: &[usize],
        head_ns: u64,
        n_blocks: u32,
    ) -> Decider {
        let rules = record.header.rules.clone();
        let rules = if stage == Stage::Gate { rules } else { rules.confirming() };
        let mut decider = Decider::new(rules, cells.len()).unwrap();
        let first = u32::try_from(record.blocks.len()).unwrap();
        for block in first..first + n_blocks {
            let head = |cell: usize| if cell == 1 { head_ns } else { 1000 };
            let pair =
                |cell| Pair { block, cell, pair: 0, first: Arm::Base, base_ns: 1000, head_ns: head(cell) };
            record.pairs.extend(cells.iter().map(|it| pair(*it)));
            record.blocks.push((block, stage, 1));
            let value = |cell| block_value(&[(1000, head(cell))]).unwrap();
            decider.push_block(&(0..).zip(cells).map(|(own, cell)| (own, value(*cell))).collect());
            if decider.look_due() {
                decider.look();
                let numbered = |it: CellLook| CellLook { cell: cells[it.cell], ..it };
                let judged = decider.judgements().iter().map(|it| numbered(CellLook::of(it))).collect();
                record.looks.push((stage, judged));
            }
        }
        decider
    }

    fn gate(head_ns: u64, ending: Ending) -> GateRecord {
        let mut record = GateRecord {
            header: header(),
            pairs: Vec::new(),
            blocks: Vec::new(),
            looks: Vec::new(),
            errors: Vec::new(),
            ending: Some(ending),
        };
        measured(&mut record, Stage::Gate, &[0, 1], head_ns, 20);
        record
    }

    #[test]
    fn an_end_must_follow_from_the_pairs() {
        use Ending::{Budget, Error, Fail, Inconclusive, Interrupted, Pass, Unconfirmed};
        for (head_ns, right) in [(1000, Pass), (1200, Fail)] {
            for ending in [Pass, Fail, Inconclusive, Budget, Unconfirmed] {
                let checked = gate(head_ns, ending).recheck();
                assert_eq!(checked.is_ok(), ending == right, "{head_ns} {ending:?}: {checked:?}");
            }
            for ending in [Error, Interrupted] {
                gate(head_ns, ending).recheck().unwrap();
            }
        }
    }

    #[test]
    fn looks_must_be_there_and_no_others() {
        let mut less = gate(1200, Ending::Fail);
        less.looks.clear();
        assert!(less.recheck().unwrap_err().line().contains("no look after block 19"));
        less.ending = None;
        less.recheck().unwrap();
        let mut more = gate(1200, Ending::Fail);
        more.looks.push(more.looks[0].clone());
        assert!(more.recheck().unwrap_err().line().contains("no blocks"));
    }

    #[test]
    fn a_confirmation_is_judged_again_too() {
        let confirmed = |head_ns, n_blocks, ending| {
            let mut record = gate(1200, ending);
            measured(&mut record, Stage::Confirm, &[1], head_ns, n_blocks);
            record.recheck().is_ok()
        };
        assert!(confirmed(1200, 40, Ending::Fail) && !confirmed(1200, 40, Ending::Unconfirmed));
        assert!(confirmed(1000, 40, Ending::Unconfirmed) && !confirmed(1000, 40, Ending::Fail));
        assert!(confirmed(1000, 7, Ending::Fail), "no time for it");
        assert!(!confirmed(1000, 7, Ending::Unconfirmed));
    }
}
