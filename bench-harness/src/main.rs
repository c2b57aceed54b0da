//! Measures storage drivers against each other and reports.
//!
//! ```text
//! matrix ─ expand ─► cells ─ probe drivers ─► layers, once per height
//!   ─► blocks: every cell once, in an order drawn from a recorded seed, on fresh branches
//!   ─► samples.jsonl ─► summaries ─► tables, plots, report.html
//! ```
//!
//! How a driver works is known in `driver/` only; what is timed is in `model/`
//! only; statistics and plots are functions of `samples.jsonl`.

mod backing;
mod cell;
mod claims;
mod cli;
mod compare;
mod doctor;
mod driver;
mod environment;
mod error;
mod gate;
mod goals;
mod history;
mod host;
mod layers;
mod matrix;
mod model;
mod pattern;
mod pool;
mod program;
mod report;
mod repository;
mod run;
mod sandbox;
mod size;
mod stats;
mod suggest;
mod tree;
mod verbs;

use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|it| it == program::WORD) {
        return verbs::noop::noop(arguments).into();
    }
    let cli = cli::Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    match verbs::execute(&cli.verb) {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("aufs-bench: {}", error.line());
            error.exit().into()
        }
    }
}
