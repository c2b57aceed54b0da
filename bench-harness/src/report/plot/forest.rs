//! Forest plots: a ratio and its interval in each row, beside lines that mean something.
//!
//! ```text
//!                      0.5   1    2
//! copy-up 4 KiB     ─●─ │    ┆          0.31 (0.29 – 0.33)  n 480
//! lookup             │ ─┼●─  ┆          1.04 (0.98 – 1.09)  n 96
//! ```

use plotters::style::RGBColor;

use super::axis::{LogAxis, range};
use super::canvas::{Anchor, Canvas, DrawError, Ink, Marker};
use super::line::draw_heading;
use super::palette::{BLUE, FAINT_GRID, FAINT_INK, GRID, INK, OPEN, VERMILLION};
use super::{Figure, Kind};
use crate::report::document::ratio_text;
use crate::stats::order::Interval;
use crate::stats::summary::Ratio;

/// What a row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tone {
    /// Faster than its base, or cleared.
    Good,
    /// Not told apart, or not decided.
    Open,
    /// Slower than its base.
    Bad,
}

impl Tone {
    /// What an interval says about 1; without one, nothing.
    pub fn of(interval: Option<Interval>) -> Self {
        match interval {
            Some(it) if it.high < 1.0 => Self::Good,
            Some(it) if 1.0 < it.low => Self::Bad,
            _ => Self::Open,
        }
    }

    /// The colour of its markers, and the shape that tells it without colour.
    fn look(self) -> (RGBColor, Marker) {
        match self {
            Self::Good => (BLUE, Marker::Down),
            Self::Open => (OPEN, Marker::Circle),
            Self::Bad => (VERMILLION, Marker::Up),
        }
    }
}

/// A row.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was compared.
    pub label: String,
    /// The ratio with its interval.
    pub ratio: Ratio,
    /// What follows the number: `n 480`, a verdict.
    pub remark: String,
    /// What it says.
    pub tone: Tone,
}

/// Rows under one heading.
#[derive(Debug, Clone)]
pub struct Section {
    /// The heading; none where it is empty.
    pub heading: String,
    /// The rows, from the top.
    pub rows: Vec<Row>,
}

/// A forest plot with a logarithmic axis of ratios.
#[derive(Debug, Clone)]
pub struct Forest {
    /// What is shown.
    pub title: String,
    /// Where it was measured.
    pub subtitle: String,
    /// Name of the axis.
    pub x_label: String,
    /// Ratios with a line of their own, and what it means; 1 always has one.
    pub lines: Vec<(f64, String)>,
    /// The rows.
    pub sections: Vec<Section>,
    /// What markers and bars mean.
    pub note: String,
}

const WIDTH: f64 = 980.0;
const TOP: f64 = 92.0;
const BOTTOM: f64 = 66.0;
const ROW: f64 = 20.0;
const HEADING: f64 = 27.0;
const LABEL_INK: Ink = Ink::new(11.5, INK);
const REMARK_INK: Ink = Ink::new(11.0, FAINT_INK);

impl Forest {
    /// The figure with its files' `name`.
    pub fn figure(self, name: String, caption: String) -> Figure {
        let rows = self.sections.iter().map(|it| it.rows.len()).sum::<usize>() as f64;
        let headings = self.sections.iter().filter(|it| !it.heading.is_empty()).count() as f64;
        let height = TOP + rows * ROW + headings * HEADING + BOTTOM;
        Figure { name, caption, size: (WIDTH as u32, height as u32), kind: Kind::Forest(self) }
    }

    /// The plot cut between sections into plots of at most `rows_max` rows, but for longer sections.
    pub fn paged(self, rows_max: usize) -> Vec<Self> {
        let mut pages: Vec<Vec<Section>> = Vec::new();
        let n_rows = |page: &[Section]| page.iter().map(|it| it.rows.len()).sum::<usize>();
        for section in &self.sections {
            match pages.last_mut() {
                Some(page) if n_rows(page) + section.rows.len() <= rows_max => page.push(section.clone()),
                _ => pages.push(vec![section.clone()]),
            }
        }
        let n = pages.len();
        let page = |(index, sections): (usize, Vec<Section>)| {
            let number = if n == 1 { String::new() } else { format!(" ({} of {n})", index + 1) };
            Self { title: format!("{}{number}", self.title), sections, ..self.clone() }
        };
        pages.into_iter().enumerate().map(page).collect()
    }

    /// Draws the plot on the whole canvas.
    ///
    /// # Errors
    ///
    /// The backend fails.
    pub fn draw(&self, canvas: &Canvas<'_>) -> Result<(), DrawError> {
        draw_heading(canvas, &self.title, &self.subtitle)?;
        let rows = || self.sections.iter().flat_map(|it| &it.rows);
        let widest = |ink: Ink, text: &dyn Fn(&Row) -> String| {
            rows().map(|it| canvas.text_width(&text(it), ink)).fold(0.0, f64::max)
        };
        let left = 24.0 + widest(LABEL_INK, &|it| it.label.clone()).min(WIDTH * 0.45);
        let right = canvas.size.0 - 30.0 - widest(REMARK_INK, &remark_of);
        let shown = |it: &Row| {
            let interval = it.ratio.interval.unwrap_or(Interval { low: it.ratio.p50, high: it.ratio.p50 });
            [it.ratio.p50, interval.low, interval.high]
        };
        let lines = self.lines.iter().map(|it| it.0).chain([1.0]);
        let ratios = rows().flat_map(shown).filter(|it| it.is_finite() && 0.0 < *it);
        let Some((low, high)) = range(ratios.chain(lines), 1.06) else { return Ok(()) };
        let axis = LogAxis::new((low, high), (left + 14.0, right - 14.0));
        let bottom = canvas.size.1 - BOTTOM;
        self.draw_axis(canvas, &axis, bottom)?;
        let mut y = TOP;
        for section in &self.sections {
            if !section.heading.is_empty() {
                canvas.text(&section.heading, (20.0, y + 15.0), Anchor::Start, LABEL_INK.bold())?;
                y += HEADING;
            }
            for row in &section.rows {
                draw_row(canvas, &axis, row, (left, right), y + ROW / 2.0)?;
                y += ROW;
            }
        }
        Ok(())
    }

    fn draw_axis(&self, canvas: &Canvas<'_>, axis: &LogAxis, bottom: f64) -> Result<(), DrawError> {
        let (major, _) = axis.ticks();
        let mut last = f64::NEG_INFINITY;
        for value in major {
            let x = axis.place(value);
            canvas.line(&[(x, TOP), (x, bottom)], GRID, 1.0)?;
            let (label, ink) = (plain_number(value), Ink::new(12.0, INK));
            let width = canvas.text_width(&label, ink);
            if last + 8.0 < x - width / 2.0 {
                canvas.text(&label, (x, bottom + 15.0), Anchor::Middle, ink)?;
                last = x + width / 2.0;
            }
        }
        let one = axis.place(1.0);
        canvas.line(&[(one, TOP - 6.0), (one, bottom)], INK, 1.3)?;
        for (value, meaning) in &self.lines {
            let x = axis.place(*value);
            canvas.dashed(&[(x, TOP - 6.0), (x, bottom)], VERMILLION, 1.2, &[4.0, 3.0])?;
            canvas.text(meaning, (x, TOP - 15.0), Anchor::Middle, Ink::new(10.5, FAINT_INK))?;
        }
        let middle = canvas.size.0 / 2.0;
        canvas.text(&self.x_label, (middle, bottom + 35.0), Anchor::Middle, Ink::new(12.5, INK))?;
        canvas.text(&self.note, (middle, bottom + 53.0), Anchor::Middle, Ink::new(10.5, FAINT_INK))
    }
}

fn remark_of(row: &Row) -> String {
    let number = ratio_text(row.ratio);
    if row.remark.is_empty() { number } else { format!("{number}   {}", row.remark) }
}

fn draw_row(
    canvas: &Canvas<'_>,
    axis: &LogAxis,
    row: &Row,
    (left, right): (f64, f64),
    y: f64,
) -> Result<(), DrawError> {
    canvas.text(&row.label, (20.0, y), Anchor::Start, LABEL_INK)?;
    canvas.line(&[(left + 4.0, y), (right, y)], FAINT_GRID, 0.7)?;
    let (color, marker) = row.tone.look();
    if let Some(Interval { low, high }) = row.ratio.interval {
        let (low, high) = (axis.place(low), axis.place(high));
        canvas.line(&[(low, y), (high, y)], color, 1.6)?;
        for end in [low, high] {
            canvas.line(&[(end, y - 3.5), (end, y + 3.5)], color, 1.4)?;
        }
    }
    canvas.marker((axis.place(row.ratio.p50), y), marker, color, 4.0)?;
    canvas.line(&[(right, y - ROW / 2.0), (right, y + ROW / 2.0)], GRID, 1.0)?;
    canvas.text(&remark_of(row), (right + 10.0, y), Anchor::Start, REMARK_INK)
}

/// `0.05`, `0.95`, `1`, `20`: a ratio without an exponent, and without zeros at its end.
fn plain_number(value: f64) -> String {
    let digits = (2.0 - value.log10().floor()).clamp(0.0, 9.0) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_decide_tones() {
        let interval = |low, high| Some(Interval { low, high });
        for (given, expected) in [
            (interval(0.5, 0.9), Tone::Good),
            (interval(0.9, 1.1), Tone::Open),
            (interval(1.01, 3.0), Tone::Bad),
            (None, Tone::Open),
        ] {
            assert_eq!(Tone::of(given), expected, "{given:?}");
        }
    }

    #[test]
    fn ratios_are_plain_numbers() {
        for (value, expected) in [
            (0.05, "0.05"),
            (0.5, "0.5"),
            (0.95, "0.95"),
            (1.05, "1.05"),
            (1.0, "1"),
            (20.0, "20"),
            (3000.0, "3000"),
        ] {
            assert_eq!(plain_number(value), expected);
        }
    }

    #[test]
    fn a_forest_is_drawn() {
        super::super::register_fonts().unwrap();
        let row = |p50, interval, remark: &str| Row {
            label: format!("copy-up {p50}"),
            ratio: Ratio { p50, interval, n_blocks: 20 },
            remark: remark.to_owned(),
            tone: Tone::of(interval),
        };
        let forest = Forest {
            title: "Title".to_owned(),
            subtitle: "Subtitle".to_owned(),
            x_label: "ratio".to_owned(),
            lines: vec![(1.03, "margin".to_owned())],
            sections: vec![Section {
                heading: "overlayfs".to_owned(),
                rows: vec![row(0.3, Some(Interval { low: 0.2, high: 0.4 }), "n 40"), row(1.2, None, "")],
            }],
            note: "note".to_owned(),
        };
        let mut long = forest.clone();
        long.sections = vec![forest.sections[0].clone(); 5];
        let pages = long.paged(5);
        assert_eq!(pages.iter().map(|it| it.sections.len()).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(pages[2].title, "Title (3 of 3)");
        assert_eq!(forest.clone().paged(1)[0].title, "Title", "a long section is left whole");
        let svg = forest.figure("f".to_owned(), "c".to_owned()).svg().unwrap();
        for text in ["copy-up 0.3", "overlayfs", "n 40", "margin", "0.30 (0.20"] {
            assert!(svg.contains(text), "{text}");
        }
    }
}
