//! A page to draw on, in points from the top left, over any backend of plotters.

use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea as _};
use plotters::element::{Circle, PathElement, Polygon, Rectangle, Text};
use plotters::prelude::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, FontStyle, FontTransform, RGBColor, ShapeStyle, TextStyle};

/// Why a figure could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DrawError(String);

/// A place in points.
pub type Place = (f64, f64);

/// Where a text sits relative to its place, horizontally.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// It starts there.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

/// How a text looks.
#[derive(Debug, Clone, Copy)]
pub struct Ink {
    /// Height of the font in points.
    pub size: f64,
    /// Colour.
    pub color: RGBColor,
    /// Bold or not.
    pub bold: bool,
    /// Turned to read upwards.
    pub upwards: bool,
}

impl Ink {
    /// Upright regular text.
    pub const fn new(size: f64, color: RGBColor) -> Self {
        Self { size, color, bold: false, upwards: false }
    }

    /// The same in bold.
    pub const fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    /// The same reading upwards.
    pub const fn upwards(self) -> Self {
        Self { upwards: true, ..self }
    }
}

/// Shapes of data points, told apart without colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// A disc.
    Circle,
    /// A square.
    Square,
    /// A triangle that points up.
    Up,
    /// A triangle that points down.
    Down,
    /// A square on its corner.
    Diamond,
}

/// What a figure is drawn with; hides the backend.
trait Surface {
    fn fill(&self) -> Result<(), DrawError>;
    fn path(&self, points: Vec<(i32, i32)>, color: RGBColor, alpha: f64, width: u32)
    -> Result<(), DrawError>;
    fn polygon(&self, points: Vec<(i32, i32)>, color: RGBColor, alpha: f64) -> Result<(), DrawError>;
    fn rectangle(&self, corners: [(i32, i32); 2], color: RGBColor) -> Result<(), DrawError>;
    fn disc(&self, center: (i32, i32), radius: i32, color: RGBColor) -> Result<(), DrawError>;
    fn text(&self, text: &str, at: (i32, i32), style: TextStyle<'_>) -> Result<(), DrawError>;
    fn text_width(&self, text: &str, style: &TextStyle<'_>) -> u32;
}

impl<DB: DrawingBackend> Surface for DrawingArea<DB, Shift> {
    fn fill(&self) -> Result<(), DrawError> {
        DrawingArea::fill(self, &plotters::style::WHITE).map_err(|error| DrawError(error.to_string()))
    }

    fn path(
        &self,
        points: Vec<(i32, i32)>,
        color: RGBColor,
        alpha: f64,
        width: u32,
    ) -> Result<(), DrawError> {
        let style = ShapeStyle { color: color.mix(alpha), filled: false, stroke_width: width };
        self.draw(&PathElement::new(points, style)).map_err(|error| DrawError(error.to_string()))
    }

    fn polygon(&self, points: Vec<(i32, i32)>, color: RGBColor, alpha: f64) -> Result<(), DrawError> {
        self.draw(&Polygon::new(points, color.mix(alpha).filled()))
            .map_err(|error| DrawError(error.to_string()))
    }

    fn rectangle(&self, corners: [(i32, i32); 2], color: RGBColor) -> Result<(), DrawError> {
        self.draw(&Rectangle::new(corners, color.filled())).map_err(|error| DrawError(error.to_string()))
    }

    fn disc(&self, center: (i32, i32), radius: i32, color: RGBColor) -> Result<(), DrawError> {
        self.draw(&Circle::new(center, radius, color.filled())).map_err(|error| DrawError(error.to_string()))
    }

    fn text(&self, text: &str, at: (i32, i32), style: TextStyle<'_>) -> Result<(), DrawError> {
        self.draw(&Text::new(text, at, style)).map_err(|error| DrawError(error.to_string()))
    }

    fn text_width(&self, text: &str, style: &TextStyle<'_>) -> u32 {
        self.estimate_text_size(text, style).map_or(0, |size| size.0)
    }
}

/// A page to draw on.
pub struct Canvas<'a> {
    surface: &'a dyn Surface,
    units: f64,
    /// How far down text must go to look centred, as a share of its size.
    text_drop: f64,
    /// Width and height in points.
    pub size: Place,
}

/// Draws on SVG text of `size` units, `units` to a point.
///
/// # Errors
///
/// What `draw` reports.
pub fn on_svg(
    text: &mut String,
    size: (u32, u32),
    units: u32,
    draw: impl FnOnce(&Canvas<'_>) -> Result<(), DrawError>,
) -> Result<(), DrawError> {
    on(SVGBackend::with_string(text, size), size, units, 0.0, draw)
}

/// Draws on RGB pixels, one for each unit.
///
/// # Errors
///
/// What `draw` reports.
pub fn on_pixels(
    pixels: &mut [u8],
    size: (u32, u32),
    units: u32,
    draw: impl FnOnce(&Canvas<'_>) -> Result<(), DrawError>,
) -> Result<(), DrawError> {
    // The bitmap backend centres the box of the font, which leaves the letters high.
    on(BitMapBackend::with_buffer(pixels, size), size, units, 0.13, draw)
}

fn on<DB: DrawingBackend>(
    backend: DB,
    size: (u32, u32),
    units: u32,
    text_drop: f64,
    draw: impl FnOnce(&Canvas<'_>) -> Result<(), DrawError>,
) -> Result<(), DrawError> {
    let area = backend.into_drawing_area();
    let units = f64::from(units);
    let size = (f64::from(size.0) / units, f64::from(size.1) / units);
    draw(&Canvas { surface: &area, units, text_drop, size })?;
    area.present().map_err(|error| DrawError(error.to_string()))
}

impl Canvas<'_> {
    fn unit(&self, points: f64) -> i32 {
        (points * self.units).round() as i32
    }

    fn at(&self, place: Place) -> (i32, i32) {
        (self.unit(place.0), self.unit(place.1))
    }

    fn width(&self, points: f64) -> u32 {
        u32::try_from(self.unit(points)).unwrap_or(0).max(1)
    }

    /// Makes the page white.
    ///
    /// # Errors
    ///
    /// The backend fails.
    pub fn clear(&self) -> Result<(), DrawError> {
        self.surface.fill()
    }

    /// A line through `places`.
    ///
    /// # Errors
    ///
    /// The backend fails.
    pub fn line(&self, places: &[Place], color: RGBColor, width: f64) -> Result<(), DrawError> {
        let points = places.iter().map(|place| self.at(*place)).collect();
        self.surface.path(points, color, 1.0, self.width(width))
    }

    /// A line through `places`, drawn and left out by turns as `dash` says; an empty one is solid.
    ///
    /// # Errors
    ///
    /// The backend fails.
    pub fn dashed(
        &self,
        places: &[Place],
        color: RGBColor,
        width: f64,
        dash: &[f64],
    ) -> Result<(), DrawError> {
        if dash.is_empty() {
            return self.line(places, color, width);
        }
        dash_pieces(places, dash).iter().try_for_each(|piece| self.line(piece, color, width))
    }

    /// A filled area.
    ///
    /// # Errors
    ///
    /// The backend fails.
    pub fn area(&self, places: &[Place], color: RGBColor, alpha: f64) -> Result<(), DrawError> {
        self.surface.polygon(places.iter().map(|place| self.at(*place)).collect(), color, alpha)
    }

    /// A filled rectangle between two corners.
    ///
    /// # Errors
    ///
    /// The backend fails.
    pub fn rectangle(&self, from: Place, to: Place, color: RGBColor) -> Result<(), DrawError> {
        self.surface.rectangle([self.at(from), self.at(to)], color)
    }

    /// A data point with a white rim, so that it stands out from lines behind it.
    ///
    /// # Errors
    ///
    /// The backend fails.
    pub fn marker(
        &self,
        place: Place,
        marker: Marker,
        color: RGBColor,
        radius: f64,
    ) -> Result<(), DrawError> {
        self.shape(place, marker, plotters::style::WHITE, radius + 1.0)?;
        self.shape(place, marker, color, radius)
    }

    fn shape(&self, (x, y): Place, marker: Marker, color: RGBColor, r: f64) -> Result<(), DrawError> {
        let corners = match marker {
            Marker::Circle => return self.surface.disc(self.at((x, y)), self.unit(r), color),
            Marker::Square => {
                let r = r * 0.9;
                vec![(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)]
            }
            Marker::Up => vec![(x, y - r * 1.2), (x + r * 1.1, y + r * 0.8), (x - r * 1.1, y + r * 0.8)],
            Marker::Down => vec![(x, y + r * 1.2), (x + r * 1.1, y - r * 0.8), (x - r * 1.1, y - r * 0.8)],
            Marker::Diamond => {
                vec![(x, y - r * 1.25), (x + r * 1.25, y), (x, y + r * 1.25), (x - r * 1.25, y)]
            }
        };
        self.area(&corners, color, 1.0)
    }

    /// A text, vertically centred on its place.
    ///
    /// # Errors
    ///
    /// The backend fails.
    pub fn text(&self, text: &str, place: Place, anchor: Anchor, ink: Ink) -> Result<(), DrawError> {
        let horizontal = match anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let style = self.style(ink).pos(Pos::new(horizontal, VPos::Center));
        let style = if ink.upwards { style.transform(FontTransform::Rotate270) } else { style };
        let drop = self.text_drop * ink.size;
        let place = if ink.upwards { (place.0 + drop, place.1) } else { (place.0, place.1 + drop) };
        self.surface.text(text, self.at(place), style)
    }

    /// Width of `text` in points.
    pub fn text_width(&self, text: &str, ink: Ink) -> f64 {
        f64::from(self.surface.text_width(text, &self.style(ink))) / self.units
    }

    fn style(&self, ink: Ink) -> TextStyle<'static> {
        let weight = if ink.bold { FontStyle::Bold } else { FontStyle::Normal };
        let mut style = TextStyle::from(("sans-serif", ink.size * self.units, weight));
        style.color = ink.color.to_backend_color();
        style
    }
}

/// Cuts the way along `places` into the drawn parts of `dash`, lengths in points.
fn dash_pieces(places: &[Place], dash: &[f64]) -> Vec<Vec<Place>> {
    let mut pieces: Vec<Vec<Place>> = Vec::new();
    let (mut turn, mut left) = (0, dash.first().copied().unwrap_or(1.0));
    let mut piece: Vec<Place> = places.first().copied().into_iter().collect();
    for pair in places.windows(2) {
        let (mut from, to) = (pair[0], pair[1]);
        loop {
            let (dx, dy) = (to.0 - from.0, to.1 - from.1);
            let length = dx.hypot(dy);
            if length <= left {
                left -= length;
                piece.push(to);
                break;
            }
            from = (from.0 + dx * left / length, from.1 + dy * left / length);
            piece.push(from);
            if turn % 2 == 0 {
                pieces.push(std::mem::take(&mut piece));
            }
            piece = vec![from];
            turn += 1;
            left = dash[turn % dash.len()];
        }
    }
    if turn % 2 == 0 && 1 < piece.len() {
        pieces.push(piece);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_are_cut_along_the_way() {
        let pieces = dash_pieces(&[(0.0, 0.0), (10.0, 0.0), (10.0, 6.0)], &[4.0, 3.0]);
        assert_eq!(
            pieces,
            [
                vec![(0.0, 0.0), (4.0, 0.0)],
                vec![(7.0, 0.0), (10.0, 0.0), (10.0, 1.0)],
                vec![(10.0, 4.0), (10.0, 6.0)],
            ]
        );
    }
}
