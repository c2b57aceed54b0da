//! How long a verb waits for a driver.

use std::time::Duration;

use clap::Args;

use crate::driver::Limits;
use crate::size::parse_seconds;

/// Time after which a driver counts as hung: its processes are ended, and the cell is an error.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct LimitArgs {
    /// Most time for one mount or unmount.
    #[arg(long, value_name = "TIME", value_parser = parse_limit, default_value = "60s")]
    mount_timeout: Duration,

    /// Most time for one sample.
    #[arg(long, value_name = "TIME", value_parser = parse_limit, default_value = "5m")]
    sample_timeout: Duration,
}

impl LimitArgs {
    /// Makes them the limits of this process.
    pub fn choose(&self) {
        Limits { mount: self.mount_timeout, sample: self.sample_timeout }.choose();
    }
}

fn parse_limit(text: &str) -> Result<Duration, String> {
    let seconds = parse_seconds(text)?;
    if seconds < 0.1 {
        return Err(format!("{text:?} is shorter than 100 ms"));
    }
    Ok(Duration::from_secs_f64(seconds))
}
