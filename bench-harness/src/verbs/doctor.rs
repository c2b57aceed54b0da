//! `doctor`: what on this machine would disturb a measurement.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{outln, print_text};
use crate::doctor::{Level, examine};
use crate::error::{Exit, Result};
use crate::report::json::pretty;
use crate::size::parse_seconds;

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Directory for layers and branches, as of `run`.
    #[arg(long, value_name = "DIR", default_value = "target/bench/scratch")]
    pub backing: PathBuf,

    /// How long to look for stolen time, such as 3s.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_seconds)]
    pub watch: f64,

    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// Prints one line for each check, and what to do.
///
/// # Errors
///
/// The backing cannot be written, or `/proc` cannot be read.
pub fn doctor(args: &DoctorArgs) -> Result<Exit> {
    let report = examine(&args.backing, Duration::from_secs_f64(args.watch))?;
    if args.json {
        print_text(&pretty(&report)?)?;
    } else {
        for it in &report.findings {
            outln!("{:<4}  {:<16} {}", it.level.as_str(), it.check, it.found)?;
            if let Some(remedy) = &it.remedy {
                outln!("{:<4}  {:<16} → {remedy}", "", "")?;
            }
        }
        outln!("{}", report.verdict())?;
    }
    Ok(if report.worst() == Level::Red { Exit::Refused } else { Exit::Success })
}
