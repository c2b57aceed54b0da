//! Heat maps: latency by size and layer, a panel for each subject, one scale for all.

use std::collections::BTreeMap;

use super::axis::{LogAxis, range, time_labels};
use super::canvas::{Anchor, Canvas, DrawError, Ink};
use super::line::draw_heading;
use super::palette::{FAINT_INK, INK, ink_on, viridis};
use crate::size::{human_bytes, human_ns};

/// One panel.
#[derive(Debug, Clone)]
pub struct Panel {
    /// The subject.
    pub label: String,
    /// Median latency in ns and number of samples by column and row.
    pub values: BTreeMap<(usize, usize), (f64, usize)>,
}

/// Panels side by side.
#[derive(Debug, Clone)]
pub struct HeatMaps {
    /// What is shown.
    pub title: String,
    /// Where it was measured.
    pub subtitle: String,
    /// File sizes, in bytes: the columns.
    pub sizes: Vec<u64>,
    /// Layers: the rows, the first at the bottom.
    pub layers: Vec<u32>,
    /// A panel for each subject.
    pub panels: Vec<Panel>,
}

const COLUMNS: usize = 3;
const CELL: (f64, f64) = (56.0, 30.0);
const LEFT: f64 = 62.0;
const TOP: f64 = 84.0;
const SCALE_WIDTH: f64 = 92.0;
const GAP: (f64, f64) = (56.0, 66.0);

impl HeatMaps {
    fn panel_size(&self) -> (f64, f64) {
        (CELL.0 * self.sizes.len() as f64, CELL.1 * self.layers.len() as f64)
    }

    /// Width and height of the figure, in points.
    pub fn size(&self) -> (u32, u32) {
        let (width, height) = self.panel_size();
        let columns = self.panels.len().clamp(1, COLUMNS) as f64;
        let rows = self.panels.len().div_ceil(COLUMNS).max(1) as f64;
        let wide = LEFT + columns * (width + GAP.0) + SCALE_WIDTH;
        ((wide.max(720.0)) as u32, (TOP + rows * (height + GAP.1) + 10.0) as u32)
    }

    /// Draws all panels and the scale.
    ///
    /// # Errors
    ///
    /// The backend fails.
    pub fn draw(&self, canvas: &Canvas<'_>) -> Result<(), DrawError> {
        draw_heading(canvas, &self.title, &self.subtitle)?;
        let all = self.panels.iter().flat_map(|it| it.values.values().map(|it| it.0));
        let Some((low, high)) = range(all, 1.0) else { return Ok(()) };
        let shade = LogAxis::new((low, high), (0.0, 1.0));
        let (width, height) = self.panel_size();
        for (index, panel) in self.panels.iter().enumerate() {
            let left = LEFT + (index % COLUMNS) as f64 * (width + GAP.0);
            let top = TOP + (index / COLUMNS) as f64 * (height + GAP.1);
            self.draw_panel(canvas, panel, (left, top), &shade)?;
        }
        self.draw_scale(canvas, (low, high))
    }

    fn draw_panel(
        &self,
        canvas: &Canvas<'_>,
        panel: &Panel,
        (left, top): (f64, f64),
        shade: &LogAxis,
    ) -> Result<(), DrawError> {
        let (width, height) = self.panel_size();
        canvas.text(&panel.label, (left, top - 11.0), Anchor::Start, Ink::new(12.5, INK).bold())?;
        for column in 0..self.sizes.len() {
            for row in 0..self.layers.len() {
                let x = left + CELL.0 * column as f64;
                let y = top + height - CELL.1 * (row + 1) as f64;
                let value = panel.values.get(&(column, row)).copied();
                draw_cell(canvas, (x, y), value, shade)?;
            }
        }
        for (column, size) in self.sizes.iter().enumerate() {
            let x = left + CELL.0 * (column as f64 + 0.5);
            let label = human_bytes(*size as f64);
            canvas.text(&label, (x, top + height + 11.0), Anchor::Middle, Ink::new(10.5, INK))?;
        }
        for (row, layer) in self.layers.iter().enumerate() {
            let y = top + height - CELL.1 * (row as f64 + 0.5);
            canvas.text(&layer.to_string(), (left - 6.0, y), Anchor::End, Ink::new(10.5, INK))?;
        }
        let below = (left + width / 2.0, top + height + 27.0);
        canvas.text("file size", below, Anchor::Middle, Ink::new(10.5, FAINT_INK))?;
        let beside = (left - 29.0, top + height / 2.0);
        canvas.text("layer", beside, Anchor::Middle, Ink::new(10.5, FAINT_INK).upwards())
    }

    fn draw_scale(&self, canvas: &Canvas<'_>, (low, high): (f64, f64)) -> Result<(), DrawError> {
        let (width, height) = canvas.size;
        let (left, right, top, bottom) = (width - 88.0, width - 72.0, TOP, (height - 60.0).min(TOP + 320.0));
        let steps = 120;
        let step = (bottom - top) / f64::from(steps);
        for index in 0..steps {
            let y = bottom - step * f64::from(index);
            let color = viridis((f64::from(index) + 0.5) / f64::from(steps));
            canvas.rectangle((left, y - step - 0.25), (right, y), color)?;
        }
        let axis = LogAxis::new((low, high), (bottom, top));
        for (value, label) in time_labels(&axis.ticks().0) {
            let y = axis.place(value);
            canvas.line(&[(right, y), (right + 5.0, y)], INK, 1.0)?;
            canvas.text(&label, (right + 9.0, y), Anchor::Start, Ink::new(11.0, INK))?;
        }
        canvas.text("median", (left, top - 11.0), Anchor::Start, Ink::new(11.0, INK))
    }
}

/// One cell with its median and its number of samples; a grey frame where nothing was measured.
fn draw_cell(
    canvas: &Canvas<'_>,
    (x, y): (f64, f64),
    value: Option<(f64, usize)>,
    shade: &LogAxis,
) -> Result<(), DrawError> {
    let (from, to) = ((x + 0.5, y + 0.5), (x + CELL.0 - 0.5, y + CELL.1 - 0.5));
    let middle = (x + CELL.0 / 2.0, y + CELL.1 / 2.0);
    match value {
        Some((value, n)) => {
            let color = viridis(shade.place(value));
            canvas.rectangle(from, to, color)?;
            let (above, below) = ((middle.0, middle.1 - 4.5), (middle.0, middle.1 + 8.0));
            canvas.text(&human_ns(value), above, Anchor::Middle, Ink::new(10.0, ink_on(color)))?;
            canvas.text(&format!("n {n}"), below, Anchor::Middle, Ink::new(7.5, ink_on(color)))
        }
        None => {
            canvas.rectangle(from, to, super::palette::FAINT_GRID)?;
            canvas.text("–", middle, Anchor::Middle, Ink::new(10.0, FAINT_INK))
        }
    }
}
