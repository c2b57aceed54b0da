//! Progress on stderr: a bar on a terminal, a line for each block elsewhere.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows how far a run is.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    cells_per_block: u64,
    started: Instant,
    finish_at: Instant,
}

impl Progress {
    /// Starts a display for blocks of `cells_per_block` cells.
    pub fn start(cells_per_block: usize, deadline: Instant) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(4));
            // No ticker thread: it would wake up inside timed regions.
            if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len} cells") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        Self { bar, cells_per_block: cells_per_block as u64, started: Instant::now(), finish_at: deadline }
    }

    /// Says what is going on between blocks.
    pub fn stage(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(what.to_owned()),
            None => eprintln!("{what}"),
        }
    }

    /// A new estimate: `planned` blocks in all, of `block_time` each, `block` being next.
    pub fn plan(&mut self, block: u32, planned: u32, block_time: Option<Duration>) {
        let left = planned.saturating_sub(block);
        if let Some(block_time) = block_time {
            self.finish_at = Instant::now() + block_time * left;
        }
        let eta = human(self.finish_at.saturating_duration_since(Instant::now()));
        let message = match block_time {
            Some(_) => format!("block {} of {planned}, about {eta} left", block + 1),
            None => format!("block {} of at most {planned}, at most {eta} left", block + 1),
        };
        match &self.bar {
            Some(bar) => {
                bar.set_length(u64::from(planned) * self.cells_per_block);
                bar.set_position(u64::from(block) * self.cells_per_block);
                bar.set_message(message);
            }
            None => eprintln!("{message} ({} elapsed)", human(self.started.elapsed())),
        }
    }

    /// One more cell is done. Called between timed regions only.
    pub fn cell_done(&self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// Removes the display.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn human(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 { format!("{seconds} s") } else { format!("{} min {:02} s", seconds / 60, seconds % 60) }
}
