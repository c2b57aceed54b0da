//! Fits: times by size with the fitted lines, and below them how far each time lies from its line.

use super::axis::{LogAxis, range, spread, time_labels};
use super::canvas::{Anchor, Canvas, DrawError, Ink, Place};
use super::line::draw_heading;
use super::palette::{FAINT_GRID, FAINT_INK, GRID, INK, Look};

/// A measured time.
#[derive(Debug, Clone, Copy)]
pub struct Dot {
    /// Length of the file, in bytes.
    pub size_bytes: f64,
    /// Time in ns.
    pub time_ns: f64,
    /// Time in that of the line.
    pub ratio: f64,
}

/// One subject.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its name in the legend.
    pub label: String,
    /// What its line says, below the name.
    pub detail: String,
    /// How it is drawn.
    pub look: Look,
    /// What was measured, in rising order of size.
    pub dots: Vec<Dot>,
    /// Size and time along the fitted line.
    pub curve: Vec<(f64, f64)>,
}

/// Both panels.
#[derive(Debug, Clone)]
pub struct FitChart {
    /// What is shown.
    pub title: String,
    /// Where it was measured.
    pub subtitle: String,
    /// Labelled sizes.
    pub x_ticks: Vec<(f64, String)>,
    /// The subjects.
    pub lines: Vec<Line>,
    /// What the panels show.
    pub note: String,
}

const LEFT: f64 = 84.0;
const TOP: f64 = 72.0;
const GAP: f64 = 34.0;
const BOTTOM: f64 = 80.0;
/// Share of the height that times take; residuals have the rest.
const TIMES: f64 = 0.66;
const LEGEND_GAP: f64 = 36.0;
const LABEL: Ink = Ink::new(12.5, INK);
const DETAIL: Ink = Ink::new(10.5, FAINT_INK);

/// Residuals beyond this factor are drawn at the edge.
const RATIO_MAX: f64 = 2.5;

/// Labelled ratios; those too near each other are left out.
const RATIOS: &[f64] = &[1.0, 0.5, 2.0, 0.75, 1.3, 0.9, 1.1, 0.95, 1.05];

/// Axes and places of the panels.
struct Frame {
    x: LogAxis,
    time: LogAxis,
    ratio: LogAxis,
    left: f64,
    right: f64,
    /// Top and bottom of the times, then of the residuals.
    edges: [f64; 4],
}

impl FitChart {
    /// Draws both panels on the whole canvas.
    ///
    /// # Errors
    ///
    /// The backend fails.
    pub fn draw(&self, canvas: &Canvas<'_>) -> Result<(), DrawError> {
        let Some(frame) = self.frame(canvas) else { return Ok(()) };
        draw_heading(canvas, &self.title, &self.subtitle)?;
        self.draw_axes(canvas, &frame)?;
        for line in &self.lines {
            let Look { color, dash, width, .. } = line.look;
            let curve: Vec<Place> =
                line.curve.iter().map(|it| (frame.x.place(it.0), frame.time.place(it.1))).collect();
            canvas.dashed(&curve, color, width, dash)?;
            let residuals: Vec<Place> = self.places(&frame, line).map(|it| it.1).collect();
            canvas.dashed(&residuals, color, 1.0, dash)?;
        }
        for line in &self.lines {
            for (time, residual) in self.places(&frame, line) {
                canvas.marker(time, line.look.marker, line.look.color, 4.2)?;
                canvas.marker(residual, line.look.marker, line.look.color, 3.4)?;
            }
        }
        self.draw_legend(canvas, &frame)
    }

    /// Where the dots of `line` stand in both panels.
    fn places<'a>(&self, frame: &'a Frame, line: &'a Line) -> impl Iterator<Item = (Place, Place)> + 'a {
        line.dots.iter().map(|it| {
            let x = frame.x.place(it.size_bytes);
            ((x, frame.time.place(it.time_ns)), (x, frame.ratio.place(it.ratio)))
        })
    }

    fn frame(&self, canvas: &Canvas<'_>) -> Option<Frame> {
        let text = |it: &Line| canvas.text_width(&it.label, LABEL).max(canvas.text_width(&it.detail, DETAIL));
        let legend = self.lines.iter().map(text).fold(0.0, f64::max);
        let (width, height) = canvas.size;
        let (left, right) = (LEFT, width - legend - 74.0);
        let split = TOP + (height - BOTTOM - GAP - TOP) * TIMES;
        let edges = [TOP, split, split + GAP, height - BOTTOM];
        let dots = || self.lines.iter().flat_map(|it| &it.dots);
        let curves = self.lines.iter().flat_map(|it| it.curve.iter().map(|it| it.1));
        let time = range(dots().map(|it| it.time_ns).chain(curves), 1.25)?;
        let x = range(self.x_ticks.iter().map(|it| it.0), 1.0)?;
        let off = dots().map(|it| it.ratio.max(1.0 / it.ratio)).fold(1.15, f64::max).min(RATIO_MAX);
        Some(Frame {
            x: LogAxis::new(x, (left + 24.0, right - 16.0)),
            time: LogAxis::new(time, (edges[1], edges[0])),
            ratio: LogAxis::new((1.0 / off, off), (edges[3] - 6.0, edges[2] + 6.0)),
            left,
            right,
            edges,
        })
    }

    fn draw_axes(&self, canvas: &Canvas<'_>, frame: &Frame) -> Result<(), DrawError> {
        let Frame { left, right, edges, .. } = *frame;
        let across = |y: f64| [(left, y), (right, y)];
        let tick = Ink::new(12.0, INK);
        let (major, minor) = frame.time.ticks();
        minor.iter().try_for_each(|it| canvas.line(&across(frame.time.place(*it)), FAINT_GRID, 1.0))?;
        for (value, label) in time_labels(&major) {
            let y = frame.time.place(value);
            canvas.line(&across(y), GRID, 1.0)?;
            canvas.text(&label, (left - 9.0, y), Anchor::End, tick)?;
        }
        for (y, label) in ratio_ticks(&frame.ratio, edges[2], edges[3]) {
            canvas.line(&across(y), GRID, if label == "0 %" { 2.0 } else { 1.0 })?;
            canvas.text(&label, (left - 9.0, y), Anchor::End, tick)?;
        }
        let mut last = f64::NEG_INFINITY;
        for (value, label) in &self.x_ticks {
            let x = frame.x.place(*value);
            canvas.line(&[(x, edges[0]), (x, edges[1])], FAINT_GRID, 1.0)?;
            canvas.line(&[(x, edges[2]), (x, edges[3] + 5.0)], FAINT_GRID, 1.0)?;
            let width = canvas.text_width(label, tick);
            if last + 6.0 < x - width / 2.0 {
                canvas.text(label, (x, edges[3] + 17.0), Anchor::Middle, tick)?;
                last = x + width / 2.0;
            }
        }
        for (top, bottom) in [(edges[0], edges[1]), (edges[2], edges[3])] {
            canvas.line(&[(left, top), (left, bottom), (right, bottom)], INK, 1.2)?;
        }
        let (middle, bottom) = (f64::midpoint(left, right), edges[3]);
        canvas.text("file size", (middle, bottom + 41.0), Anchor::Middle, Ink::new(13.0, INK))?;
        canvas.text(&self.note, (middle, bottom + 63.0), Anchor::Middle, Ink::new(10.5, FAINT_INK))?;
        let upwards = Ink::new(13.0, INK).upwards();
        let y = f64::midpoint(edges[0], edges[1]);
        canvas.text("latency (median)", (20.0, y), Anchor::Middle, upwards)?;
        canvas.text("residual", (20.0, f64::midpoint(edges[2], edges[3])), Anchor::Middle, upwards)
    }

    /// Names each line at its end, with what it says below.
    fn draw_legend(&self, canvas: &Canvas<'_>, frame: &Frame) -> Result<(), DrawError> {
        let end = |it: &Line| it.curve.last().map(|it| (frame.x.place(it.0), frame.time.place(it.1)));
        let mut ends: Vec<(Place, &Line)> = self.lines.iter().filter_map(|it| Some((end(it)?, it))).collect();
        ends.sort_by(|a, b| a.0.1.total_cmp(&b.0.1));
        let wanted: Vec<f64> = ends.iter().map(|it| it.0.1).collect();
        let placed = spread(&wanted, LEGEND_GAP, frame.edges[0], frame.edges[3]);
        for (((x, y), line), at) in ends.into_iter().zip(placed) {
            let Look { color, marker, dash, width } = line.look;
            let start = frame.right + 8.0;
            canvas.line(&[(x + 7.0, y), (start, at)], GRID, 1.0)?;
            canvas.dashed(&[(start, at), (start + 30.0, at)], color, width, dash)?;
            canvas.marker((start + 15.0, at), marker, color, 4.2)?;
            canvas.text(&line.label, (start + 37.0, at - 6.0), Anchor::Start, LABEL)?;
            canvas.text(&line.detail, (start + 37.0, at + 8.0), Anchor::Start, DETAIL)?;
        }
        Ok(())
    }
}

/// Places and labels of ratios between `top` and `bottom`, the most useful first.
fn ratio_ticks(axis: &LogAxis, top: f64, bottom: f64) -> Vec<(f64, String)> {
    let mut ticks: Vec<(f64, String)> = Vec::new();
    for ratio in RATIOS {
        let y = axis.place(*ratio);
        let is_shown = top + 7.0 < y && y < bottom - 7.0;
        if is_shown && ticks.iter().all(|it| 15.0 <= (it.0 - y).abs()) {
            let percent = (ratio - 1.0) * 100.0;
            let label = if percent.abs() < 0.5 { "0 %".to_owned() } else { format!("{percent:+.0} %") };
            ticks.push((y, label));
        }
    }
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn residuals_have_ticks_around_zero() {
        for (off, expected) in [
            (2.5, &["0 %", "-50 %", "+100 %", "-25 %", "+30 %"][..]),
            (1.15, &["0 %", "-10 %", "+10 %", "-5 %", "+5 %"]),
        ] {
            let axis = LogAxis::new((1.0 / off, off), (150.0, 0.0));
            let labels: Vec<String> = ratio_ticks(&axis, 0.0, 150.0).into_iter().map(|it| it.1).collect();
            assert_eq!(labels, expected);
        }
    }
}
