//! Lets a reader of the device run where its caller runs.
//!
//! A request is a conversation of two threads that never run at the same time.
//! On one CPU each hands over to the other directly; across two, either side
//! has to be woken from another CPU first, which costs more than most requests
//! do. The kernel's scheduler puts the reader on an idle CPU, so a reader that
//! hears one caller nearly all the time goes after it, and is free again as
//! soon as there are several.

use std::fs;

use tracing::debug;

use crate::cpus;

/// Requests after which a reader that follows somebody looks around.
const ROUND: u32 = 64;
/// Requests after which a free reader does; whom it hears then is asked for its CPU.
const FIRST_ROUND: u32 = 16;

/// Where one reader runs, and whom it heard.
#[derive(Debug)]
pub(crate) struct Follow {
    heard: u32,
    /// The thread most requests of this round came from, by the vote of Boyer and Moore.
    caller: u32,
    votes: u32,
    cpu: Option<u16>,
    is_possible: bool,
}

impl Follow {
    pub(crate) fn new() -> Self {
        let is_possible = cpus::remember_allowed().is_ok();
        Self { heard: 0, caller: 0, votes: 0, cpu: None, is_possible }
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
        if self.heard < self.round() {
            return;
        }
        let target = if self.has_one_caller() { cpu_of(self.caller) } else { None };
        (self.heard, self.votes) = (0, 0);
        if self.is_possible && target != self.cpu {
            self.go(target);
        }
    }

    fn round(&self) -> u32 {
        if self.cpu.is_none() { FIRST_ROUND } else { ROUND }
    }

    /// Whether one caller sent nearly all requests of this round.
    fn has_one_caller(&self) -> bool {
        self.heard - self.heard / 8 <= self.votes
    }

    /// Runs on `target` from now on; none stands for every CPU.
    fn go(&mut self, target: Option<u16>) {
        let gone = target.map_or_else(cpus::unpin, cpus::pin_to);
        match gone {
            Ok(()) => self.cpu = target,
            Err(errno) => {
                debug!(%errno, ?target, "a reader follows nobody any more");
                self.is_possible = false;
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
                let cpu = (round == ROUND).then_some(0);
                let mut follow = Follow { heard: 0, caller: 0, votes: 0, cpu, is_possible: false };
                let mut pids = pids.iter().cycle();
                while follow.heard < round - 1 {
                    follow.note(*pids.next().unwrap());
                }
                assert_eq!(follow.has_one_caller(), followed, "{case}, {round}");
            }
        }
    }
}
