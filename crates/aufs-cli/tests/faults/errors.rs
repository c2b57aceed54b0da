//! An error at each call of the server while a program does something.

use nix::errno::Errno;

use super::bed::{Descriptors, Setting};
use super::operations::Operation;
use super::stage::{Normal, Stage, compared, held};
use super::tracer::{Fault, Position, Tracer};
use super::{ERRORS, Extent};

/// Tries one error after the other.
pub struct Errors {
    pub stage: Stage,
    setting: Setting,
    extent: Extent,
    /// Errors that a call met.
    pub tried: usize,
    /// Calls that were possible targets.
    seen: [usize; 2],
}

/// A case in which a call failed.
struct Met<'a> {
    what: String,
    operation: &'a Operation,
    normal: &'a Normal,
    at: &'a Position,
    errno: Errno,
    case: usize,
    before: Descriptors,
    outcome: Result<(), Errno>,
}

impl Errors {
    pub fn new(setting: Setting, extent: Extent) -> Self {
        Self { stage: Stage::new(setting), setting, extent, tried: 0, seen: [0; 2] }
    }

    /// Has errors happen while `operation` runs.
    pub fn try_operation(&mut self, operation: &Operation) {
        let normal = self.stage.traced(operation);
        for at in &normal.positions {
            if self.extent.takes(at, &mut self.seen) {
                self.try_position(operation, &normal, at);
            }
        }
        if self.extent.is_whole() {
            // What tolerates an error may make more calls than usual.
            for mut at in last_of_each(&normal.positions) {
                at.when += 1;
                while self.try_position(operation, &normal, &at) {
                    at.when += 1;
                }
            }
        }
    }

    /// Tries the errors for one call; whether the call came.
    fn try_position(&mut self, operation: &Operation, normal: &Normal, at: &Position) -> bool {
        for turn in 0..self.extent.errors {
            // Where not all are tried at each call, one comes after the other.
            let first = if 1 < self.extent.errors { 0 } else { self.tried };
            let errno = ERRORS[(first + turn) % ERRORS.len()];
            let case = self.stage.case();
            let what = format!("{}: {errno:?} at {} number {}", operation.name, at.call, at.when);
            self.stage.expect(case, &what, &normal.after_mounting);
            let before = Descriptors::of(self.stage.server);
            let fault = Fault::Error(errno);
            let tracer = Tracer::injecting(self.stage.server, &self.stage.trace(), at, fault);
            let outcome = self.stage.act(operation, case, tracer.id());
            if !tracer.end().contains("(INJECTED)") {
                return false;
            }
            self.tried += 1;
            let problems = self.examine(&Met { what, operation, normal, at, errno, case, before, outcome });
            self.stage.problems.extend(problems);
        }
        true
    }

    /// Looks at what a failed call left, does the same again, and looks again.
    fn examine(&self, met: &Met<'_>) -> Vec<String> {
        let Met { what, operation, normal, case, .. } = met;
        let mut problems = held(&self.stage, what, operation, normal, *case, met.outcome);
        // Only an error of removing a whiteout may leave one beside its name.
        if met.at.call != "unlinkat" {
            let doubled = self.stage.bed.files_with_whiteouts(*case);
            problems.extend(doubled.iter().map(|it| format!("{what}: {it} and its whiteout are both there")));
        }
        if let Err(errno) = met.outcome {
            let is_late = self.setting.writes_back() && operation.hears_at_close;
            if errno != met.errno && !(is_late && errno == Errno::EIO) {
                problems.push(format!("{what}: the caller got {errno:?}"));
            }
            if let Err(errno) = self.stage.act(operation, *case, self.stage.server) {
                problems.push(format!("{what}: {errno:?} when trying again"));
            }
            let shown = self.stage.shown(what, *case);
            problems.extend(compared(what, "after trying again", &normal.after, &shown));
        }
        problems.extend(self.leaks(met).map(|it| format!("{what}: {it}")));
        problems
    }

    /// Says what is open that need not be.
    fn leaks(&self, met: &Met<'_>) -> Option<String> {
        let after = Descriptors::of(self.stage.server);
        let files = met.before.files.max(met.normal.files);
        let doubles = after.doubles(&met.before);
        if met.at.call == "close" {
            return None; // The close was not made.
        }
        if files < after.files && !self.setting.writes_back() {
            return Some(format!("{} files are open instead of {files}", after.files));
        }
        (doubles != 0).then(|| format!("{doubles} directories are open twice"))
    }
}

/// The last call of each name.
fn last_of_each(positions: &[Position]) -> Vec<Position> {
    let mut last: Vec<Position> = Vec::new();
    for at in positions {
        match last.iter_mut().find(|it| it.call == at.call) {
            Some(known) => known.when = known.when.max(at.when),
            None => last.push(at.clone()),
        }
    }
    last
}
