//! The death of the server before each call while a program does something.

use super::Extent;
use super::bed::Setting;
use super::operations::Operation;
use super::stage::{Normal, Stage, compared};
use super::tracer::{Fault, Position, Tracer};
use crate::host::is_running;

/// Kills one server after the other.
pub struct Kills {
    pub stage: Stage,
    extent: Extent,
    /// Servers that were killed.
    pub tried: usize,
    /// Calls that were possible targets.
    seen: [usize; 2],
}

impl Kills {
    pub fn new(setting: Setting, extent: Extent) -> Self {
        Self { stage: Stage::new(setting), extent, tried: 0, seen: [0; 2] }
    }

    /// Has the server die while `operation` runs.
    pub fn try_operation(&mut self, operation: &Operation) {
        let normal = self.stage.traced(operation);
        for at in &normal.positions {
            if self.extent.takes(at, &mut self.seen) {
                self.try_position(operation, &normal, at);
            }
        }
    }

    fn try_position(&mut self, operation: &Operation, normal: &Normal, at: &Position) {
        let (case, server) = (self.stage.case(), self.stage.server);
        let what = format!("{}: killed at {} number {}", operation.name, at.call, at.when);
        self.stage.expect(case, &what, &normal.after_mounting);
        let tracer = Tracer::injecting(server, &self.stage.trace(), at, Fault::Kill);
        let outcome = self.stage.act(operation, case, tracer.id());
        drop(tracer);
        if is_running(server) {
            return; // This time it made fewer such calls.
        }
        self.tried += 1;
        self.stage.bed.unmount();
        self.stage.server = self.stage.bed.mount();
        let mut problems: Vec<_> = self.stage.bed.hidden_names();
        for it in &mut problems {
            *it = format!("{what}: {it} stays after mounting again");
        }
        let shown = self.stage.shown(&what, case);
        let is_new = compared(&what, "", &normal.after_mounting, &shown).is_none();
        if !is_new {
            let old = normal.before.clone();
            let written = old.clone().with_files_of(&normal.after_mounting, operation.writes);
            let in_steps = old.clone().with_facts_of(&normal.after_mounting, operation.in_steps);
            let differing =
                [old, written, in_steps].map(|it| compared(&what, "neither old nor new", &it, &shown));
            if differing.iter().all(Option::is_some) {
                problems.extend(differing.into_iter().flatten().take(1));
            }
            if outcome.is_ok() && operation.writes.is_empty() {
                problems.push(format!("{what}: the caller was told of success, and all is as before"));
            }
            if let Err(errno) = self.stage.act(operation, case, self.stage.server) {
                problems.push(format!("{what}: {errno:?} when trying again"));
            }
        }
        self.stage.problems.extend(problems);
    }
}
