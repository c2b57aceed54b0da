//! Plots: figures drawn once, saved as SVG and PNG.

mod axis;
mod canvas;
mod figures;
mod fit;
mod fits;
pub mod forest;
mod heat;
mod line;
mod palette;
mod ratios;

use std::path::Path;

use plotters::style::{FontStyle, register_font};

pub use figures::figures;
pub use fits::figures as fit_figures;
pub use palette::THEMED;

use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use canvas::Canvas;

/// A figure that can be drawn on any canvas.
#[derive(Debug)]
pub struct Figure {
    /// Name of its files, without extension.
    pub name: String,
    /// What it shows, for the page.
    pub caption: String,
    /// Width and height in points.
    size: (u32, u32),
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Lines(line::LineChart),
    Heat(heat::HeatMaps),
    Forest(forest::Forest),
    Fit(fit::FitChart),
}

/// Units of the canvas in a point; SVG coordinates are whole units.
const UNITS: u32 = 4;

/// Canvas units that one pixel of a PNG averages in each direction.
const PNG_SHRINK: u32 = 2;

static REGULAR: &[u8] = include_bytes!("../../../assets/DejaVuSans.ttf");
static BOLD: &[u8] = include_bytes!("../../../assets/DejaVuSans-Bold.ttf");

/// Makes the embedded fonts known; without them no text can be measured, not even for SVG.
///
/// # Errors
///
/// A font file is damaged.
pub fn register_fonts() -> Result<()> {
    for (style, bytes) in [(FontStyle::Normal, REGULAR), (FontStyle::Bold, BOLD)] {
        register_font("sans-serif", style, bytes)
            .map_err(|_| plot_error("register", "font", "the embedded font is damaged"))?;
    }
    Ok(())
}

fn plot_error(op: &'static str, path: impl AsRef<Path>, what: impl ToString) -> BenchError {
    BenchError::new(op, path, BenchErrorKind::Plot(what.to_string()))
}

impl Figure {
    fn draw(&self, canvas: &Canvas<'_>) -> Result<(), canvas::DrawError> {
        canvas.clear()?;
        match &self.kind {
            Kind::Lines(chart) => chart.draw(canvas),
            Kind::Heat(maps) => maps.draw(canvas),
            Kind::Forest(forest) => forest.draw(canvas),
            Kind::Fit(chart) => chart.draw(canvas),
        }
    }

    fn units(&self) -> (u32, u32) {
        (self.size.0 * UNITS, self.size.1 * UNITS)
    }

    /// The figure as SVG text.
    ///
    /// # Errors
    ///
    /// It cannot be drawn.
    pub fn svg(&self) -> Result<String> {
        let mut text = String::new();
        canvas::on_svg(&mut text, self.units(), UNITS, |canvas| self.draw(canvas))
            .map_err(|error| plot_error("draw", &self.name, error))?;
        // Drawn in fine units, shown in points; any sans-serif will do on the reader's side.
        let ((width, height), (w, h)) = (self.units(), self.size);
        let (fine, shown) =
            (format!("width=\"{width}\" height=\"{height}\""), format!("width=\"{w}\" height=\"{h}\""));
        let text = text.replacen(&fine, &shown, 1);
        Ok(text.replace("font-family=\"sans-serif\"", "font-family=\"DejaVu Sans, Verdana, sans-serif\""))
    }

    /// Saves the figure as PNG at two pixels a point.
    ///
    /// # Errors
    ///
    /// It cannot be drawn or written.
    pub fn save_png(&self, path: &Path) -> Result<()> {
        let (width, height) = self.units();
        let mut fine = vec![0; (width * height * 3) as usize];
        canvas::on_pixels(&mut fine, self.units(), UNITS, |canvas| self.draw(canvas))
            .map_err(|error| plot_error("draw", path, error))?;
        let pixels = shrink(&fine, width as usize, PNG_SHRINK as usize);
        let image = image::RgbImage::from_raw(width / PNG_SHRINK, height / PNG_SHRINK, pixels);
        let image = image.ok_or_else(|| plot_error("draw", path, "its size does not fit its pixels"))?;
        let draft = path.with_extension("draft");
        image
            .save_with_format(&draft, image::ImageFormat::Png)
            .map_err(|error| plot_error("write", &draft, error))?;
        std::fs::rename(&draft, path).at("rename to", path)
    }
}

/// Averages squares of `by`×`by` pixels, which smooths the edges that the bitmap backend leaves hard.
fn shrink(fine: &[u8], width: usize, by: usize) -> Vec<u8> {
    let rows = fine.len() / (width * 3) / by;
    let mut pixels = Vec::with_capacity(rows * width / by * 3);
    let at = |x: usize, y: usize, channel: usize| u32::from(fine[(y * width + x) * 3 + channel]);
    for y in 0..rows {
        for x in 0..width / by {
            for channel in 0..3 {
                let square = (0..by * by).map(|it| at(x * by + it % by, y * by + it / by, channel));
                let mean = square.sum::<u32>() / (by * by) as u32;
                pixels.push(u8::try_from(mean).unwrap_or(u8::MAX));
            }
        }
    }
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_are_averaged() {
        // Two by two pixels, each of one grey: 0, 10, 20, 30.
        let fine: Vec<u8> = [0, 10, 20, 30].into_iter().flat_map(|grey| [grey; 3]).collect();
        assert_eq!(shrink(&fine, 2, 2), [15, 15, 15]);
        assert_eq!(shrink(&fine, 2, 1), fine);
    }
}
