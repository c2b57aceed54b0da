//! Colours, markers and dashes: one look for each subject in every plot.
//!
//! The hues are Okabe and Ito's, which stay apart for colour-blind readers;
//! markers and dashes tell them apart without any colour.

use plotters::style::RGBColor;

use super::canvas::Marker;
use crate::cell::Subject;

/// Text and axes.
pub const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
/// Secondary text.
pub const FAINT_INK: RGBColor = RGBColor(0x60, 0x60, 0x60);
/// Lines of the grid at labelled ticks.
pub const GRID: RGBColor = RGBColor(0xDD, 0xDD, 0xDD);
/// Lines between them.
pub const FAINT_GRID: RGBColor = RGBColor(0xF2, 0xF2, 0xF2);

const BLACK: RGBColor = RGBColor(0x00, 0x00, 0x00);
const GREY: RGBColor = RGBColor(0x88, 0x88, 0x88);
const ORANGE: RGBColor = RGBColor(0xE6, 0x9F, 0x00);
const SKY: RGBColor = RGBColor(0x56, 0xB4, 0xE9);
const GREEN: RGBColor = RGBColor(0x00, 0x9E, 0x73);
/// What is faster, and overlayfs.
pub const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xB2);
/// What is slower, and our own drivers.
pub const VERMILLION: RGBColor = RGBColor(0xD5, 0x5E, 0x00);
const PURPLE: RGBColor = RGBColor(0xCC, 0x79, 0xA7);

const WHITE: RGBColor = RGBColor(0xFF, 0xFF, 0xFF);

/// Text on a coloured cell, which stays as it is where a page turns dark.
const ON_LIGHT: RGBColor = RGBColor(0x11, 0x11, 0x11);
/// The same on a dark cell.
const ON_DARK: RGBColor = RGBColor(0xFE, 0xFE, 0xFE);

/// What an undecided row is drawn with.
pub const OPEN: RGBColor = RGBColor(0x6E, 0x6E, 0x6E);

/// Colours that change with the theme of a page, each with the name of its variable there.
pub const THEMED: &[(RGBColor, &str)] = &[
    (WHITE, "paper"),
    (INK, "ink"),
    (FAINT_INK, "faint-ink"),
    (GRID, "grid"),
    (FAINT_GRID, "faint-grid"),
    (BLACK, "black"),
    (GREY, "grey"),
    (OPEN, "open"),
    (ORANGE, "orange"),
    (SKY, "sky"),
    (GREEN, "green"),
    (BLUE, "blue"),
    (VERMILLION, "vermillion"),
    (PURPLE, "purple"),
];

/// How a subject is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    /// Colour.
    pub color: RGBColor,
    /// Shape of its points.
    pub marker: Marker,
    /// Drawn and empty lengths of its line, in points; empty for a solid line.
    pub dash: &'static [f64],
    /// Width of its line, in points.
    pub width: f64,
}

const SOLID: &[f64] = &[];
const DASHED: &[f64] = &[7.0, 4.0];
const DOTTED: &[f64] = &[2.0, 3.0];
const DASH_DOT: &[f64] = &[8.0, 3.0, 2.0, 3.0];

/// The look of `subject`.
pub fn look(subject: &Subject) -> Look {
    let (color, marker, dash) = match (subject.driver.as_str(), subject.options.as_str()) {
        ("plain", _) => (BLACK, Marker::Circle, SOLID),
        ("volume", _) => (BLACK, Marker::Diamond, DOTTED),
        ("btrfs", _) => (GREY, Marker::Up, DASH_DOT),
        ("vfs", _) => (GREY, Marker::Square, DASHED),
        ("reflink", _) => (GREY, Marker::Diamond, DOTTED),
        ("overlayfs", "default") => (BLUE, Marker::Square, SOLID),
        ("overlayfs", "metacopy") => (SKY, Marker::Diamond, DASHED),
        ("overlayfs", "volatile") => (GREEN, Marker::Up, SOLID),
        ("overlayfs", _) => (BLUE, Marker::Down, DOTTED),
        ("aufs-fuse", "passthrough") => (VERMILLION, Marker::Square, SOLID),
        ("aufs-fuse", "noopen") => (VERMILLION, Marker::Down, DASHED),
        ("aufs-fuse", "default") => (VERMILLION, Marker::Circle, SOLID),
        ("aufs-fuse", _) => (VERMILLION, Marker::Up, DOTTED),
        ("aufs-kernel", _) => (VERMILLION, Marker::Diamond, DASHED),
        ("fuse-overlayfs", _) => (PURPLE, Marker::Down, DASH_DOT),
        ("fuse-overlayfs-2", _) => (PURPLE, Marker::Up, SOLID),
        _ => (ORANGE, Marker::Diamond, DASHED),
    };
    let width = if subject.driver == "aufs-fuse" { 2.6 } else { 1.8 };
    Look { color, marker, dash, width }
}

/// The colour of a `share` of 0 to 1 on the viridis scale.
pub fn viridis(share: f64) -> RGBColor {
    // Every eighth of matplotlib's viridis (CC0); between them colours are mixed.
    const STOPS: [(u8, u8, u8); 9] = [
        (68, 1, 84),
        (71, 44, 122),
        (59, 81, 139),
        (44, 113, 142),
        (33, 144, 141),
        (39, 173, 129),
        (92, 200, 99),
        (170, 220, 50),
        (253, 231, 37),
    ];
    let scaled = share.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let index = (scaled as usize).min(STOPS.len() - 2);
    let (a, b, t) = (STOPS[index], STOPS[index + 1], scaled - index as f64);
    let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * t).round() as u8;
    RGBColor(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
}

/// Black or white, whichever reads better on `color`; neither changes with a theme, as `color` does not.
pub fn ink_on(color: RGBColor) -> RGBColor {
    let luma = 0.299 * f64::from(color.0) + 0.587 * f64::from(color.1) + 0.114 * f64::from(color.2);
    if luma < 140.0 { ON_DARK } else { ON_LIGHT }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver;

    #[test]
    fn looks_differ_even_without_colour() {
        let mut looks = Vec::new();
        for driver in driver::names() {
            for options in driver::options_of(driver).unwrap_or_default().iter().take(3) {
                let subject = Subject { driver: driver.to_owned(), options: (*options).to_owned() };
                looks.push((subject.label(), look(&subject)));
            }
        }
        for (index, (label, one)) in looks.iter().enumerate() {
            for (other_label, other) in &looks[index + 1..] {
                assert_ne!(one, other, "{label} and {other_label}");
            }
        }
    }

    #[test]
    fn viridis_runs_from_dark_to_light() {
        assert_eq!(viridis(0.0), RGBColor(68, 1, 84));
        assert_eq!(viridis(1.0), RGBColor(253, 231, 37));
        assert_eq!((ink_on(viridis(0.0)), ink_on(viridis(1.0))), (ON_DARK, ON_LIGHT));
        assert!(
            !THEMED.iter().any(|it| it.0 == ON_DARK || it.0 == ON_LIGHT),
            "text on a colour keeps its own"
        );
    }
}
