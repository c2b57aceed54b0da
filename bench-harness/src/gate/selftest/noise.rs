//! Simulated latencies: what a host does to a time, level by level.
//!
//! A time is its cell's own, multiplied by
//!
//! | factor   | what it stands for                                                       |
//! |----------|--------------------------------------------------------------------------|
//! | jitter   | lognormal, of each sample alone                                          |
//! | drift    | lognormal, of the host, forgetting itself over some hundred samples      |
//! | burst    | now and then, for some samples in a row: another tenant, a writeback     |
//! | slow way | a share of the samples takes a second way (a cache that misses)          |
//! | process  | lognormal, of one arm in one block: its layout and its addresses         |
//!
//! Standard deviations of block values of eight pairs are 0.025 (`quiet`, a machine
//! without load), 0.10 (`shared`; the trace in fixtures/traces has 0.07 to 0.09 by
//! cell) and 0.20 (`nasty`; a machine at a load of 5 to 9 had 0.10 to 0.16). Base
//! and head get the same noise; only what is injected differs.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// A level of noise.
#[derive(Debug, Clone, Copy)]
pub struct Noise {
    /// Its name.
    pub name: &'static str,
    /// Standard deviation of ln jitter.
    jitter: f64,
    /// Standard deviation of ln drift.
    drift: f64,
    /// Probability that a burst begins at a sample.
    burst_begins: f64,
    /// Probability that it ends at one.
    burst_ends: f64,
    /// Mean and standard deviation of the ln factor of a burst.
    burst: (f64, f64),
    /// Share of samples on the slow way, and its ln factor.
    slow_way: (f64, f64),
    /// Standard deviation of the ln factor of a process.
    process: f64,
}

/// A machine with nothing else to do.
pub const QUIET: Noise = Noise {
    name: "quiet",
    jitter: 0.04,
    drift: 0.03,
    burst_begins: 0.0002,
    burst_ends: 0.2,
    burst: (0.7, 0.4),
    slow_way: (0.02, 0.3),
    process: 0.004,
};

/// A virtual machine with neighbours.
pub const SHARED: Noise = Noise {
    name: "shared",
    jitter: 0.14,
    drift: 0.15,
    burst_begins: 0.001,
    burst_ends: 0.08,
    burst: (0.9, 0.5),
    slow_way: (0.10, 0.35),
    process: 0.012,
};

/// A machine that is in use by several others at once.
pub const NASTY: Noise = Noise {
    name: "nasty",
    jitter: 0.25,
    drift: 0.30,
    burst_begins: 0.004,
    burst_ends: 0.05,
    burst: (1.2, 0.8),
    slow_way: (0.30, 0.5),
    process: 0.03,
};

/// How much of the drift is left after one sample.
const DRIFT_KEPT: f64 = 0.995;

/// A stream of its own: the coin of the same seed has those from 2³² on by block, and the order those below.
const STREAM: u64 = u64::MAX;

/// A host that makes times.
#[derive(Debug)]
pub struct Host {
    noise: Noise,
    rng: ChaCha8Rng,
    drift: f64,
    burst: Option<f64>,
    processes: [f64; 2],
    spare: Option<f64>,
}

impl Host {
    /// A host of `noise` whose whole future is `seed`.
    pub fn new(noise: Noise, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(STREAM);
        let mut host = Self { noise, rng, drift: 0.0, burst: None, processes: [0.0; 2], spare: None };
        host.drift = noise.drift * host.normal();
        host
    }

    /// New processes for both arms.
    pub fn respawn(&mut self) {
        self.processes = [self.noise.process * self.normal(), self.noise.process * self.normal()];
    }

    /// The ln factor of the next sample, of the arm with number `process`.
    pub fn ln_factor(&mut self, process: usize) -> f64 {
        let kept = (1.0 - DRIFT_KEPT * DRIFT_KEPT).sqrt();
        self.drift = DRIFT_KEPT * self.drift + kept * self.noise.drift * self.normal();
        let turns = self.uniform();
        self.burst = match self.burst {
            Some(_) if turns < self.noise.burst_ends => None,
            None if turns < self.noise.burst_begins => {
                Some(self.noise.burst.0 + self.noise.burst.1 * self.normal())
            }
            same => same,
        };
        let slow_way = if self.uniform() < self.noise.slow_way.0 { self.noise.slow_way.1 } else { 0.0 };
        let jitter = self.noise.jitter * self.normal();
        jitter + self.drift + self.burst.unwrap_or(0.0).max(0.0) + slow_way + self.processes[process % 2]
    }

    fn uniform(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A standard normal number, by Box and Muller.
    fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        self.spare = Some(radius * sin);
        radius * cos
    }
}
