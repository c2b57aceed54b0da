//! Line charts: a line for each subject with intervals, labelled at its end.

use super::axis::{LogAxis, range, spread, time_labels};
use super::canvas::{Anchor, Canvas, DrawError, Ink, Place};
use super::palette::{FAINT_GRID, FAINT_INK, GRID, INK, Look};
use crate::stats::order::Interval;

/// A point with its interval.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Size, layer or 1/(1−q).
    pub x: f64,
    /// Latency in ns.
    pub y: f64,
    /// Interval of the latency.
    pub interval: Option<Interval>,
}

/// A line.
#[derive(Debug, Clone)]
pub struct Series {
    /// Its name in the legend.
    pub label: String,
    /// How it is drawn.
    pub look: Look,
    /// Its points, in rising order of x.
    pub points: Vec<Point>,
    /// Whether points are marked; a curve of many points is not.
    pub marked: bool,
}

/// A chart with two logarithmic axes.
#[derive(Debug, Clone)]
pub struct LineChart {
    /// What is shown.
    pub title: String,
    /// Where it was measured.
    pub subtitle: String,
    /// Name of the horizontal axis.
    pub x_label: String,
    /// Name of the vertical axis.
    pub y_label: String,
    /// Labelled ticks of the horizontal axis.
    pub x_ticks: Vec<(f64, String)>,
    /// The lines.
    pub series: Vec<Series>,
    /// What markers and bars mean.
    pub note: String,
}

const LEFT: f64 = 84.0;
const TOP: f64 = 72.0;
const BOTTOM: f64 = 80.0;
const LEGEND_GAP: f64 = 19.0;
const LEGEND_INK: Ink = Ink::new(12.5, INK);

/// The plotting area and its axes.
struct Frame {
    x: LogAxis,
    y: LogAxis,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl LineChart {
    /// Draws the chart on the whole canvas.
    ///
    /// # Errors
    ///
    /// The backend fails.
    pub fn draw(&self, canvas: &Canvas<'_>) -> Result<(), DrawError> {
        let Some(frame) = self.frame(canvas) else { return Ok(()) };
        draw_heading(canvas, &self.title, &self.subtitle)?;
        self.draw_grid(canvas, &frame)?;
        for series in self.series.iter().filter(|it| !it.marked) {
            draw_band(canvas, &frame, series)?;
        }
        for (index, series) in self.series.iter().enumerate() {
            let places: Vec<Place> = series.points.iter().map(|it| self.place(&frame, index, it)).collect();
            canvas.dashed(&places, series.look.color, series.look.width, series.look.dash)?;
        }
        for (index, series) in self.series.iter().enumerate().filter(|(_, it)| it.marked) {
            for point in &series.points {
                draw_point(canvas, &frame, series, point, self.place(&frame, index, point))?;
            }
        }
        self.draw_legend(canvas, &frame)
    }

    /// The place of a point of series `index`, a little aside so that the bars of all series stay visible.
    fn place(&self, frame: &Frame, index: usize, point: &Point) -> Place {
        let aside = (index as f64 - (self.series.len() as f64 - 1.0) / 2.0) * 2.6;
        let (x, y) = (frame.x.place(point.x), frame.y.place(point.y));
        (if self.series[index].marked { x + aside } else { x }, y)
    }

    fn frame(&self, canvas: &Canvas<'_>) -> Option<Frame> {
        let legend =
            self.series.iter().map(|it| canvas.text_width(&it.label, LEGEND_INK)).fold(0.0, f64::max);
        let (width, height) = canvas.size;
        let (left, right, top, bottom) = (LEFT, width - legend - 74.0, TOP, height - BOTTOM);
        let points = || self.series.iter().flat_map(|it| &it.points);
        let x = range(points().map(|it| it.x).chain(self.x_ticks.iter().map(|it| it.0)), 1.0)?;
        let shown = |it: &Point| {
            let interval = it.interval.unwrap_or(Interval { low: it.y, high: it.y });
            [it.y, interval.low, interval.high]
        };
        let y = at_least_a_decade(range(points().flat_map(shown), 1.25)?);
        let (x, y) = (LogAxis::new(x, (left + 24.0, right - 16.0)), LogAxis::new(y, (bottom, top)));
        Some(Frame { x, y, left, right, top, bottom })
    }

    fn draw_grid(&self, canvas: &Canvas<'_>, frame: &Frame) -> Result<(), DrawError> {
        let Frame { left, right, top, bottom, .. } = *frame;
        let (major, minor) = frame.y.ticks();
        let across = |value: f64| [(left, frame.y.place(value)), (right, frame.y.place(value))];
        minor.iter().try_for_each(|value| canvas.line(&across(*value), FAINT_GRID, 1.0))?;
        for (value, label) in time_labels(&major) {
            canvas.line(&across(value), GRID, 1.0)?;
            let place = (left - 9.0, frame.y.place(value));
            canvas.text(&label, place, Anchor::End, Ink::new(12.0, INK))?;
        }
        let mut last = f64::NEG_INFINITY;
        for (value, label) in &self.x_ticks {
            let x = frame.x.place(*value);
            canvas.line(&[(x, top), (x, bottom)], FAINT_GRID, 1.0)?;
            canvas.line(&[(x, bottom), (x, bottom + 5.0)], INK, 1.0)?;
            let ink = Ink::new(12.0, INK);
            let width = canvas.text_width(label, ink);
            if last + 6.0 < x - width / 2.0 {
                canvas.text(label, (x, bottom + 17.0), Anchor::Middle, ink)?;
                last = x + width / 2.0;
            }
        }
        canvas.line(&[(left, top), (left, bottom), (right, bottom)], INK, 1.2)?;
        let middle = f64::midpoint(left, right);
        canvas.text(&self.x_label, (middle, bottom + 41.0), Anchor::Middle, Ink::new(13.0, INK))?;
        canvas.text(&self.note, (middle, bottom + 63.0), Anchor::Middle, Ink::new(10.5, FAINT_INK))?;
        let upwards = Ink::new(13.0, INK).upwards();
        canvas.text(&self.y_label, (20.0, f64::midpoint(top, bottom)), Anchor::Middle, upwards)
    }

    /// Names each line right of the plot, at the height where it ends, moved apart as needed.
    fn draw_legend(&self, canvas: &Canvas<'_>, frame: &Frame) -> Result<(), DrawError> {
        let end = |(index, series): (usize, &'_ Series)| {
            series.points.last().map(|point| self.place(frame, index, point))
        };
        let mut ends: Vec<(Place, &Series)> =
            self.series.iter().enumerate().filter_map(|it| Some((end(it)?, it.1))).collect();
        ends.sort_by(|a, b| a.0.1.total_cmp(&b.0.1));
        let wanted: Vec<f64> = ends.iter().map(|it| it.0.1).collect();
        let placed = spread(&wanted, LEGEND_GAP, frame.top, frame.bottom);
        for (((x, y), series), at) in ends.into_iter().zip(placed) {
            let Look { color, marker, dash, width } = series.look;
            let start = frame.right + 8.0;
            canvas.line(&[(x + 7.0, y), (start, at)], GRID, 1.0)?;
            canvas.dashed(&[(start, at), (start + 30.0, at)], color, width, dash)?;
            if series.marked {
                canvas.marker((start + 15.0, at), marker, color, 4.2)?;
            }
            canvas.text(&series.label, (start + 37.0, at), Anchor::Start, LEGEND_INK)?;
        }
        Ok(())
    }
}

/// Widens a range to a factor of ten, so that small differences look small.
fn at_least_a_decade((low, high): (f64, f64)) -> (f64, f64) {
    let widen = (10.0 * low / high).max(1.0).sqrt();
    (low / widen, high * widen)
}

/// The two lines above every figure.
///
/// # Errors
///
/// The backend fails.
pub fn draw_heading(canvas: &Canvas<'_>, title: &str, subtitle: &str) -> Result<(), DrawError> {
    canvas.text(title, (20.0, 24.0), Anchor::Start, Ink::new(17.0, INK).bold())?;
    canvas.text(subtitle, (20.0, 47.0), Anchor::Start, Ink::new(11.5, FAINT_INK))
}

/// The intervals of a curve, as an area behind all curves.
fn draw_band(canvas: &Canvas<'_>, frame: &Frame, series: &Series) -> Result<(), DrawError> {
    let ends = || series.points.iter().filter_map(|it| Some((frame.x.place(it.x), it.interval?)));
    let upper = ends().map(|(x, it)| (x, frame.y.place(it.high)));
    let lower: Vec<Place> = ends().map(|(x, it)| (x, frame.y.place(it.low))).collect();
    let places: Vec<Place> = upper.chain(lower.into_iter().rev()).collect();
    if places.len() < 4 { Ok(()) } else { canvas.area(&places, series.look.color, 0.14) }
}

/// A marker and its bar.
fn draw_point(
    canvas: &Canvas<'_>,
    frame: &Frame,
    series: &Series,
    point: &Point,
    (x, y): Place,
) -> Result<(), DrawError> {
    let Look { color, marker, .. } = series.look;
    if let Some(Interval { low, high }) = point.interval {
        let (low, high) = (frame.y.place(low), frame.y.place(high));
        canvas.line(&[(x, low), (x, high)], color, 1.2)?;
        for end in [low, high] {
            canvas.line(&[(x - 3.0, end), (x + 3.0, end)], color, 1.2)?;
        }
    }
    canvas.marker((x, y), marker, color, 4.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_ranges_become_a_decade() {
        for (given, expected) in [((1.0, 100.0), (1.0, 100.0)), ((4.0, 4.0), (1.264_911, 12.649_11))] {
            let (low, high) = at_least_a_decade(given);
            assert!((low - expected.0).abs() < 1e-4 && (high - expected.1).abs() < 1e-4, "{low} {high}");
        }
    }
}
