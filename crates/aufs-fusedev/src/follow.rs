//! Lets a reader of the device run where its caller runs.
//!
//! A request is a conversation of two threads that never run at the same time.
//! On one CPU each hands over to the other directly; across two, either side
//! has to be woken from another CPU first, which costs more than most requests
//! do. The kernel's scheduler puts the reader on an idle CPU, so a reader that
//! hears one caller nearly all the time goes after it, and is free again as
//! soon as there are several. [`stay`](crate::stay) keeps the caller from fleeing.

use std::fs;

use tracing::debug;

use crate::cpus;
use crate::stay::let_stay;

/// Requests after which a reader that follows somebody looks around.
const ROUND: u32 = 64;
/// Requests after which a reader does that is free, or has just begun to follow.
const FIRST_ROUND: u32 = 16;
/// Rounds for which a caller that fled is made to stay, until it is seen once whether it still would.
const STAYS_ROUNDS: u32 = 256;

/// Where one reader runs, and whom it heard.
#[derive(Debug)]
pub(crate) struct Follow {
    heard: u32,
    /// The thread most requests of this round came from, by the vote of Boyer and Moore.
    caller: u32,
    votes: u32,
    place: Place,
    is_possible: bool,
}

/// Where a reader runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Anywhere,
    /// On this CPU, which was its caller's when it came.
    Came(u16),
    /// On this CPU, which is its caller's, of whom nothing is asked.
    Beside(u16),
    /// On this CPU; its caller, who fled before, stays for so many rounds more.
    Holds(u16, u32),
}

impl Place {
    fn cpu(self) -> Option<u16> {
        match self {
            Self::Anywhere => None,
            Self::Came(cpu) | Self::Beside(cpu) | Self::Holds(cpu, _) => Some(cpu),
        }
    }

    fn lets_stay(self) -> bool {
        matches!(self, Self::Holds(..))
    }

    /// The place after a round at whose end the only caller ran on `cpu`; none: there was no such caller.
    fn next(self, cpu: Option<u16>) -> Self {
        let Some(cpu) = cpu else { return Self::Anywhere };
        match self {
            Self::Anywhere => Self::Came(cpu),
            _ if self.cpu() != Some(cpu) => Self::Holds(cpu, STAYS_ROUNDS),
            Self::Came(_) | Self::Beside(_) | Self::Holds(_, 0) => Self::Beside(cpu),
            Self::Holds(_, rounds) => Self::Holds(cpu, rounds - 1),
        }
    }

    fn round(self) -> u32 {
        match self {
            Self::Anywhere | Self::Came(_) => FIRST_ROUND,
            Self::Beside(_) | Self::Holds(..) => ROUND,
        }
    }
}

impl Follow {
    pub(crate) fn new() -> Self {
        let is_possible = cpus::remember_allowed().is_ok() && cpus::are_several();
        Self { heard: 0, caller: 0, votes: 0, place: Place::Anywhere, is_possible }
    }

    /// Notes a request of the thread `pid`, and goes where it runs when it is time.
    pub(crate) fn note(&mut self, pid: u32) {
        if pid == 0 {
            return; // Nobody waits for what the kernel sends of its own accord.
        }
        if pid == self.caller {
            self.votes += 1;
        } else if self.votes == 0 {
            (self.caller, self.votes) = (pid, 1);
        } else {
            self.votes -= 1;
        }
        self.heard += 1;
        if self.heard < self.place.round() {
            return;
        }
        let cpu = if self.has_one_caller() { cpu_of(self.caller) } else { None };
        (self.heard, self.votes) = (0, 0);
        if self.is_possible {
            self.go(self.place.next(cpu));
        }
    }

    /// Whether one caller sent nearly all requests of this round.
    fn has_one_caller(&self) -> bool {
        self.heard - self.heard / 8 <= self.votes
    }

    /// Is at `place` from now on.
    fn go(&mut self, place: Place) {
        if place.lets_stay() != self.place.lets_stay() {
            let_stay(place.lets_stay());
        }
        let gone = match place.cpu() {
            cpu if cpu == self.place.cpu() => Ok(()),
            Some(cpu) => cpus::pin_to(cpu),
            None => cpus::unpin(),
        };
        match gone {
            Ok(()) => self.place = place,
            Err(errno) => {
                debug!(%errno, ?place, "a reader follows nobody any more");
                self.is_possible = false;
                let_stay(false);
                if let Err(errno) = cpus::unpin() {
                    debug!(%errno, "a reader stays bound to a CPU");
                }
            }
        }
    }
}

/// Returns the CPU a thread ran on last; none when it is gone, or of another PID namespace.
fn cpu_of(pid: u32) -> Option<u16> {
    processor(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 39 of proc_pid_stat(5), counted from behind the name, which may hold anything.
fn processor(stat: &str) -> Option<u16> {
    const FIELDS_TO_NAME: usize = 2;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(39 - FIELDS_TO_NAME - 1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_found_behind_any_name() {
        let rest = (3..=52).map(|field| format!(" {}", field * 10)).collect::<String>();
        assert_eq!(processor(&format!("7 (a) b) c){rest}")), Some(390));
        assert_eq!(processor("7 (short) S 1"), None);
        assert_eq!(processor(""), None);
        let own = cpu_of(std::process::id()).unwrap();
        assert!(usize::from(own) < rustix::thread::CpuSet::MAX_CPU);
    }

    #[test]
    fn only_a_caller_that_is_heard_nearly_always_is_followed() {
        for (case, pids, followed) in [
            ("one", vec![5], true),
            ("one, and the kernel itself", vec![5, 0], true),
            ("one among few others", [vec![5; 40], vec![6]].concat(), true),
            ("two in turn", vec![5, 6], false),
            ("one that is heard three times of four", vec![5, 5, 5, 6], false),
        ] {
            for round in [FIRST_ROUND, ROUND] {
                let place = if round == ROUND { Place::Beside(0) } else { Place::Anywhere };
                let mut follow = Follow { heard: 0, caller: 0, votes: 0, place, is_possible: false };
                let mut pids = pids.iter().cycle();
                while follow.heard < round - 1 {
                    follow.note(*pids.next().unwrap());
                }
                assert_eq!(follow.has_one_caller(), followed, "{case}, {round}");
            }
        }
    }

    #[test]
    fn a_caller_is_held_only_if_it_flees() {
        let after = |cpus: &[Option<u16>]| cpus.iter().fold(Place::Anywhere, |place, cpu| place.next(*cpu));
        assert_eq!(after(&[Some(1)]), Place::Came(1));
        assert_eq!(after(&[Some(1), Some(1), Some(1)]), Place::Beside(1));
        assert_eq!(after(&[Some(1), Some(0)]), Place::Holds(0, STAYS_ROUNDS));
        assert_eq!(after(&[Some(1), Some(1), Some(0)]), Place::Holds(0, STAYS_ROUNDS));
        assert_eq!(after(&[Some(1), Some(0), Some(0), None]), Place::Anywhere);
        // Held for a while, then seen once whether it still flees.
        let mut place = after(&[Some(1), Some(0)]);
        for _ in 0..STAYS_ROUNDS {
            place = place.next(Some(0));
            assert!(place.lets_stay());
        }
        let free = place.next(Some(0));
        assert_eq!((free, free.next(Some(0))), (Place::Beside(0), Place::Beside(0)));
        assert_eq!(free.next(Some(1)), Place::Holds(1, STAYS_ROUNDS));
    }
}
