//! A slow-down made on purpose, by which the gate is tried: `10%` or `10%@copy-up-*`.

use std::fmt;
use std::time::{Duration, Instant};

use glob::Pattern;

use super::settings::{parse_percent, percent};
use crate::host::elapsed_ns;

/// Most that head is slowed down by: far more than any gate needs, and no sample becomes endless.
const SHARE_MAX: f64 = 100.0;

/// How much longer head takes, and in which cells.
#[derive(Debug, Clone, PartialEq)]
pub struct Inject {
    share: f64,
    cells: Pattern,
}

impl Inject {
    /// Reads `SHARE[@GLOB]`; without a glob it is all cells.
    ///
    /// # Errors
    ///
    /// The share is not a percentage above zero and up to 10 000 %, or the glob is damaged.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (share, cells) = text.split_once('@').unwrap_or((text, "*"));
        let cells = Pattern::new(cells).map_err(|error| format!("{cells:?} is no glob: {}", error.msg))?;
        let share = parse_percent(share)?;
        if SHARE_MAX < share {
            return Err(format!("{text:?} is more than {}", percent(SHARE_MAX)));
        }
        Ok(Self { share, cells })
    }

    /// Whether the cell called `name` gets it.
    pub fn hits(&self, name: &str) -> bool {
        self.cells.matches(name)
    }

    /// Works on for the share of a sample that took `measured_ns`, and returns the time of both together.
    ///
    /// The time is spent, not added up: what disturbs a longer operation disturbs this too.
    pub fn spin(&self, measured_ns: u64) -> u64 {
        let wanted = Duration::from_nanos(measured_ns).mul_f64(self.share);
        let start = Instant::now();
        while start.elapsed() < wanted {
            std::hint::spin_loop();
        }
        measured_ns.saturating_add(elapsed_ns(start))
    }
}

impl fmt::Display for Inject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", percent(self.share), self.cells)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_cells_are_read() {
        for (text, hit, missed) in [
            ("10%", "lookup-4K-8-fresh", None),
            ("2.5%@copy-up-*", "copy-up-1M-8-fresh", Some("create-4K-8-fresh")),
        ] {
            let inject = Inject::parse(text).unwrap();
            assert!(inject.hits(hit) && !missed.is_some_and(|it| inject.hits(it)), "{text}");
            assert_eq!(Inject::parse(&inject.to_string()).unwrap(), inject);
        }
        for text in ["", "ten", "0%", "-3%", "10%@[", "inf%", "1e30%"] {
            assert!(Inject::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_time_is_really_spent() {
        let inject = Inject::parse("10%").unwrap();
        for measured_ns in [0, 1_000, 3_000_000] {
            let start = Instant::now();
            let both = inject.spin(measured_ns);
            assert!(measured_ns + measured_ns / 10 <= both, "{both}");
            assert!(both - measured_ns <= elapsed_ns(start), "no more than what passed");
        }
    }
}
