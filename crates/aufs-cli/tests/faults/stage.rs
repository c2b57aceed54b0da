//! One mount after the other, and what each case of it has to show in the end.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nix::errno::Errno;

use super::bed::{Bed, Descriptors, Setting};
use super::operations::Operation;
use super::tracer::{Position, Tracer, positions};
use super::tree::{self, Tree, differences};

/// Branches while they are mounted.
pub struct Stage {
    pub bed: Bed,
    pub server: i32,
    /// The next case that nobody touched.
    next: usize,
    /// What the earlier ones have to show after mounting again.
    expected: BTreeMap<usize, (String, Tree)>,
    pub problems: Vec<String>,
}

/// What an operation does when nothing is wrong.
pub struct Normal {
    pub before: Tree,
    pub after: Tree,
    pub after_mounting: Tree,
    /// The calls it makes.
    pub positions: Vec<Position>,
    /// What the server has open then, apart from directories.
    pub files: usize,
}

impl Stage {
    /// Plants the branches and mounts them.
    pub fn new(setting: Setting) -> Self {
        let bed = Bed::new(setting);
        let mut stage = Self { bed, server: 0, next: 0, expected: BTreeMap::new(), problems: Vec::new() };
        stage.begin();
        stage
    }

    fn begin(&mut self) {
        self.bed.reset();
        self.server = self.bed.mount();
        self.next = 0;
    }

    /// Unmounts, and compares what each case shows afterwards.
    pub fn finish(&mut self) {
        self.bed.unmount();
        self.find_leftovers();
        self.server = self.bed.mount();
        for (case, (what, expected)) in std::mem::take(&mut self.expected) {
            let found = self.shown(&what, case);
            self.problems.extend(compared(&what, "after mounting again", &expected, &found));
        }
        self.bed.unmount();
        self.find_leftovers();
    }

    fn find_leftovers(&mut self) {
        let found = self.bed.leftovers();
        self.problems.extend(found.into_iter().map(|it| format!("after unmounting: {it}")));
    }

    /// A case of its own, on new branches when all are used up.
    pub fn case(&mut self) -> usize {
        if self.next == self.bed.cases {
            self.finish();
            self.begin();
        }
        self.next += 1;
        self.next - 1
    }

    /// Notes what a case has to show in the end.
    pub fn expect(&mut self, case: usize, what: &str, tree: &Tree) {
        self.expected.insert(case, (what.to_owned(), tree.clone()));
    }

    /// Runs an operation without a fault, and notes its calls.
    pub fn traced(&mut self, operation: &Operation) -> Normal {
        self.normal(operation, |stage, case| {
            let tracer = Tracer::watching(stage.server, &stage.trace());
            let outcome = stage.act(operation, case, tracer.id());
            (outcome, positions(&tracer.end()))
        })
    }

    /// Runs an operation without a fault.
    pub fn undisturbed(&mut self, operation: &Operation) -> Normal {
        self.normal(operation, |stage, case| (stage.act(operation, case, stage.server), Vec::new()))
    }

    fn normal(
        &mut self,
        operation: &Operation,
        run: impl FnOnce(&Self, usize) -> (Result<(), Errno>, Vec<Position>),
    ) -> Normal {
        let case = self.case();
        let before = self.bed.look(case);
        let (outcome, positions) = run(self, case);
        assert_eq!(outcome, Ok(()), "{}, undisturbed", operation.name);
        let after = self.shown(operation.name, case).without_times();
        if !operation.links {
            self.problems.extend(compared(operation.name, "a new union", &after, &self.bed.look(case)));
        }
        let after_mounting = after.clone().without_link_counts(operation.with_hidden_names);
        self.expect(case, operation.name, &after_mounting);
        Normal { before, after, after_mounting, positions, files: Descriptors::of(self.server).files }
    }

    /// Where traces go.
    pub fn trace(&self) -> PathBuf {
        self.bed.host.path("trace")
    }

    /// Runs the operation in a case; `strace` may be at work on the server.
    pub fn act(&self, operation: &Operation, case: usize, strace: i32) -> Result<(), Errno> {
        let at = self.bed.case(case);
        let outcome = self.bed.over(operation.name, &[self.server, strace], || (operation.act)(&at));
        outcome.map_err(|error| error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw))
    }

    /// What the mount shows of a case.
    pub fn shown(&self, what: &str, case: usize) -> Tree {
        let at = self.bed.case(case);
        self.bed.over(what, &[self.server], || tree::read(&at))
    }
}

/// What a program was told, against what there is afterwards: after success the new state, else the old
/// one, on the mount and for a new union; bytes that were written to an open file may be either.
pub fn held(
    stage: &Stage,
    what: &str,
    operation: &Operation,
    normal: &Normal,
    case: usize,
    outcome: Result<(), Errno>,
) -> Vec<String> {
    let shown = stage.shown(what, case);
    let written = normal.before.clone().with_files_of(&normal.after, operation.writes);
    let (when, expected) = match outcome {
        Ok(()) => ("after success", vec![normal.after.clone()]),
        Err(_) => ("after failing", vec![normal.before.clone(), written]),
    };
    let mut problems = Vec::new();
    let mut hold = |whose: &str, expected: &[Tree], found: &Tree| {
        let differing = expected.iter().map(|it| compared(what, &format!("{whose} {when}"), it, found));
        let differing: Vec<_> = differing.collect();
        if differing.iter().all(Option::is_some) {
            problems.extend(differing.into_iter().flatten().take(1));
        }
    };
    hold("the mount", &expected, &shown);
    if !operation.links {
        hold("a new union", &expected, &stage.bed.look(case));
    } else if differences(&normal.before, &shown).is_empty() {
        // A union that may not write shows the names of a copied-up file apart.
        let apart = normal.before.clone().without_first_names();
        hold("a new union", &[apart], &stage.bed.look(case));
    }
    problems
}

/// Says how `found` is not as `expected`.
pub fn compared(what: &str, when: &str, expected: &Tree, found: &Tree) -> Option<String> {
    let lines = differences(expected, found);
    (!lines.is_empty()).then(|| format!("{what}: {when}:\n    {}", lines.join("\n    ")))
}
