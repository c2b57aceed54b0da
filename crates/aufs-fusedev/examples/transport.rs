//! Round trips over the transports, interleaved: `cargo run --release --example transport [ROUNDS]`, as root.
//!
//! Each round runs each operation over each transport in turn; shown are medians over the rounds of
//! the time in microseconds, and of the ratio to the first transport within the same round.
#![allow(clippy::unwrap_used, reason = "a measurement that cannot be made has failed")]

#[path = "../tests/toy/mod.rs"]
#[allow(dead_code, unused_imports, clippy::panic, reason = "the tests use more of it")]
mod toy;

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use aufs_fusedev::transport::Transport;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use self::toy::{Served, Settings, wanted};

/// Calls of one operation in a row.
const CALLS: u32 = 300;
const ROUNDS: usize = 40;

type Operation = (&'static str, fn(&Path));

const OPERATIONS: [Operation; 5] = [
    ("getattr", |at| {
        let file = File::open(at.join("big")).unwrap();
        timed(|| black_box(file.metadata()).is_ok());
    }),
    ("lookup missing", |at| {
        let path = at.join("missing");
        timed(|| std::fs::metadata(&path).is_err());
    }),
    ("open+release", |at| {
        let path = at.join("big");
        timed(|| File::open(&path).is_ok());
    }),
    ("read 4 KiB", |at| {
        let file = File::open(at.join("big")).unwrap();
        let mut buffer = [0; 4096];
        timed(|| file.read_at(&mut buffer, 0).is_ok());
    }),
    ("getattr, 2 threads", |at| {
        let file = File::open(at.join("big")).unwrap();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| (0..CALLS).all(|_| file.metadata().is_ok()));
            timed(|| file.metadata().is_ok());
            assert!(other.join().unwrap());
        });
    }),
];

thread_local! {
    static ELAPSED_US: std::cell::Cell<f64> = const { std::cell::Cell::new(0.0) };
}

fn timed(mut call: impl FnMut() -> bool) {
    let begin = Instant::now();
    assert!((0..CALLS).all(|_| call()));
    ELAPSED_US.set(begin.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS));
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let rounds = std::env::args().nth(1).map_or(ROUNDS, |it| it.parse().unwrap());
    let transports = [
        ("device, 1 reader", Transport::Device, 1),
        ("device, 2 readers", Transport::Device, 2),
        ("io_uring", Transport::IoUring, 1),
    ];
    let settings = Settings::set("Y", "0").unwrap();
    let served: Vec<_> = transports.iter().map(|it| Served::with(&wanted(), it.1, it.2).unwrap()).collect();
    drop(settings);
    let anywhere = sched_getaffinity(None).unwrap();
    let mut one = CpuSet::new();
    one.set(0);
    for (placement, cpus) in [("pinned", one), ("free", anywhere)] {
        sched_setaffinity(None, &cpus).unwrap();
        for (operation, run) in OPERATIONS {
            let mut times = vec![Vec::new(); served.len()];
            for _ in 0..rounds {
                for (times, served) in times.iter_mut().zip(&served) {
                    run(served.mounted.path());
                    times.push(ELAPSED_US.get());
                }
            }
            for ((name, ..), own) in transports.iter().zip(&times) {
                let ratios = own.iter().zip(&times[0]).map(|(own, first)| own / first).collect();
                println!(
                    "{placement:7} {operation:19} {name:18} {:7.1} us  {:5.2}",
                    median(own.clone()),
                    median(ratios)
                );
            }
        }
    }
    for served in served {
        served.end().unwrap();
    }
}
