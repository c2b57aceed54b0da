//! Faults for the calls of a real server: strace answers them in the kernel's place, or kills the server at one.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    dead_code,
    reason = "shared by test programs; failing is their job"
)]

pub mod bed;
pub mod conditions;
pub mod disk;
pub mod errors;
pub mod kills;
pub mod operations;
pub mod stage;
pub mod tracer;
pub mod tree;
pub mod watch;

use nix::errno::Errno;

use operations::{Operation, all};
use tracer::{Position, changes};

/// What branches answer when something is wrong with their disk.
pub const ERRORS: [Errno; 4] = [Errno::EIO, Errno::ENOSPC, Errno::EDQUOT, Errno::EROFS];

/// Which faults are tried.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// One in so many of the calls that change something is a target.
    changes: usize,
    /// One in so many of the others, which are the most.
    looks: usize,
    /// Errors for each of them.
    pub errors: usize,
}

impl Extent {
    /// As said, with one error after the other; with `AUFS_FAULTS=all` each error at each call, with
    /// `AUFS_FAULTS=few` a fifth of what was said.
    pub fn one_in(changes: usize, looks: usize) -> Self {
        match std::env::var("AUFS_FAULTS").as_deref() {
            Ok("all") => Self { changes: 1, looks: 1, errors: ERRORS.len() },
            Ok("few") => Self { changes: 5 * changes, looks: 5 * looks, errors: 1 },
            _ => Self { changes, looks, errors: 1 },
        }
    }

    /// Whether nothing is left out.
    pub fn is_whole(self) -> bool {
        self.changes == 1 && self.looks == 1
    }

    /// Whether the call at `at` is a target, after the `seen` calls of either kind.
    fn takes(self, at: &Position, seen: &mut [usize; 2]) -> bool {
        let (count, every) =
            if changes(&at.call) { (&mut seen[0], self.changes) } else { (&mut seen[1], self.looks) };
        *count += 1;
        count.is_multiple_of(every)
    }
}

/// The operations that are `wanted`, but for those that `AUFS_FAULTS_ONLY` leaves out.
pub fn chosen(wanted: impl Fn(&Operation) -> bool) -> Vec<Operation> {
    let only = std::env::var("AUFS_FAULTS_ONLY").unwrap_or_default();
    all().into_iter().filter(|it| wanted(it) && it.name.contains(&only)).collect()
}

/// Fails with all that was found wrong.
pub fn judge(tried: usize, problems: &[String]) {
    println!("{tried} faults");
    assert!(problems.is_empty(), "{} problems with {tried} faults:\n{}", problems.len(), problems.join("\n"));
}
