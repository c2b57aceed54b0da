//! A run that is under way: sessions of blocks, and its end.

use std::path::Path;
use std::time::{Duration, Instant};

use super::bench::Bench;
use super::block::{Blocks, Number};
use super::budget::Budget;
use super::interrupt::Interrupt;
use super::journal::{Ending, Header, Journal, Record};
use super::progress::Progress;
use super::session::{Share, fits};
use super::standing::Standing;
use crate::error::{BenchError, BenchErrorKind, Result};
use crate::host::{steal_ticks, ticks_per_second};

/// A run that is under way.
pub struct Runner<'a> {
    /// What it works on.
    pub bench: Bench,
    /// What it set out to do.
    pub header: Header,
    /// Where it writes.
    pub journal: Journal,
    /// How long it may take.
    pub budget: Budget,
    /// What it shows.
    pub progress: Progress,
    /// Asks it to stop.
    pub interrupt: &'a Interrupt,
    /// Which cells are still measured.
    pub standing: Standing,
    /// Compare files of any length whole in each block.
    pub check_all: bool,
    /// The next session, and the one to end before.
    pub sessions: (u32, u32),
    /// When the last block should be over.
    pub deadline: Instant,
}

impl Runner<'_> {
    /// Measures from block `done` on, checks the layers, and writes the end.
    ///
    /// # Errors
    ///
    /// What cannot be built or written; `Full` with what to do when the disk is.
    pub fn go(mut self, done: u32, out: &Path) -> Result<()> {
        let mut changed = None;
        let measured = self.measure_sessions(done, &mut changed);
        if measured.is_err() {
            self.progress.finish();
        }
        let ending = match measured {
            Ok(ending) => ending,
            // Whatever failed after a signal may have failed of it.
            Err(error) if self.interrupt.check().is_err() => {
                tracing::debug!(error = error.line(), "interrupted");
                Ending::Interrupted
            }
            Err(error) if error.is_full() => return Err(kept(error, out)),
            Err(error) => return Err(error),
        };
        self.progress.stage("checking layers");
        self.check_layers(&mut changed);
        let layers_unchanged = changed.is_none();
        let ended = self.journal.append(&Record::End { ending, layers_unchanged });
        let ended = ended.and_then(|()| self.journal.flush());
        // Many files take a while, and whoever waits should know for what.
        self.progress.stage("removing layers and branches");
        let Self { bench, progress, .. } = self;
        drop(bench);
        progress.finish();
        ended.map_err(|error| if error.is_full() { kept(error, out) } else { error })
    }

    fn measure_sessions(&mut self, done: u32, changed: &mut Option<BenchError>) -> Result<Ending> {
        let (first, end) = self.sessions;
        let (mut next, mut prepare) = (done, Duration::ZERO);
        for session in first..end {
            let start = Instant::now();
            if first < session {
                if !fits(start, prepare, self.budget.block_time(), self.deadline) {
                    return Ok(Ending::Budget);
                }
                self.check_layers(changed);
                self.progress.stage("making layers anew");
                self.bench.renew(&self.header.cells)?;
            } else {
                self.progress.stage("building layers");
            }
            self.standing.begin_session(end - session);
            let share = Share::next(end - session, next, self.header.blocks_max, start, self.deadline);
            self.bench.build(&self.header.cells, self.interrupt)?;
            prepare = prepare.max(start.elapsed());
            next = self.measure_blocks(session, next, share)?;
            if self.header.blocks_max <= next || !self.standing.is_open() {
                return Ok(Ending::Complete);
            }
        }
        Ok(Ending::Budget)
    }

    /// Measures the blocks of a session from `first` on, and returns the number of the next.
    fn measure_blocks(&mut self, session: u32, first: u32, share: Share) -> Result<u32> {
        for block in first..share.end {
            // The first block of a session that was worth building only has to fit the whole.
            let until = if block == first { self.deadline } else { share.deadline };
            let planned = self.budget.planned(block, Instant::now(), until).min(share.end);
            if planned <= block || !self.standing.is_open() {
                return Ok(block);
            }
            self.progress.plan(block, planned, self.budget.block_time());
            let (start, steal) = (Instant::now(), steal_ticks());
            self.measure_block(Number { block, session })?;
            self.budget.took(start.elapsed());
            let elapsed_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
            let steal_ms = steal_ticks().saturating_sub(steal) * 1000 / ticks_per_second().max(1);
            self.journal.append(&Record::BlockEnd { block, elapsed_ms, steal_ms })?;
            self.journal.flush()?;
            self.standing.end_block(block + 1);
        }
        Ok(share.end.max(first))
    }

    fn measure_block(&mut self, number: Number) -> Result<()> {
        let mut blocks = Blocks {
            bench: &self.bench,
            cells: &self.header.cells,
            seed: self.header.host.seed,
            rate_per_s: self.header.method.rate_per_s,
            interrupt: self.interrupt,
            check_all: self.check_all,
            standing: &mut self.standing,
        };
        blocks.measure(number, &mut self.journal, &self.progress)
    }

    /// Compares all layers of the session with what was built; the first change is kept in `changed`.
    fn check_layers(&self, changed: &mut Option<BenchError>) {
        let bench = &self.bench;
        let found = bench.layers.values().find_map(|it| it.check_unchanged(&bench.pattern).err());
        if let Some(error) = found {
            tracing::error!(error = error.line(), "a layer was changed");
            changed.get_or_insert(error);
        }
    }
}

/// A full disk, with what is kept and what helps.
fn kept(error: BenchError, out: &Path) -> BenchError {
    let out = out.display();
    let what = format!(
        "{}; the samples so far are kept in {out}: make room, then continue with `run --resume --out {out}`, \
         or see them with `report {out}`",
        error.kind
    );
    BenchError { kind: BenchErrorKind::Full(what), ..error }
}
