//! Results for a terminal: tables as wide as it is, with small bars; plain where nobody looks.

use std::io::IsTerminal;

use comfy_table::{CellAlignment, LineStyle, Table as Grid, presets};

use super::document::Table;
use super::versus::subjects;
use crate::cell::Subject;
use crate::model;
use crate::run::journal::RunRecord;
use crate::stats::order::{median, sorted};
use crate::stats::summary::{CellSummary, Summary};

/// Where a table is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// Its width in columns; none where it is not a terminal.
    pub width: Option<u16>,
}

impl Screen {
    /// The screen that `out` writes to.
    pub fn of(out: &(impl IsTerminal + std::os::fd::AsFd)) -> Self {
        let width = || rustix::termios::tcgetwinsize(out).ok().map(|it| it.ws_col).filter(|it| 0 < *it);
        Self { width: out.is_terminal().then(|| width().unwrap_or(80)) }
    }
}

/// Steps of a bar, from an eighth of the base to eight times.
const BARS: [char; 7] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇'];

/// What `run` says in short, with ratios to `wanted` or the usual base; empty where nothing can be compared.
pub fn summary(run: &RunRecord, wanted: Option<&Subject>, screen: Screen) -> String {
    let summary = Summary::of(run);
    let base = super::versus::base(&summary, wanted);
    base.and_then(|base| ratios(&summary, &base, screen)).unwrap_or_default()
}

/// For each model, the median over its parameters of each subject's ratio to `base`; none where nothing can be compared.
pub fn ratios(summary: &Summary, base: &Subject, screen: Screen) -> Option<String> {
    let others: Vec<Subject> = subjects(summary).into_iter().filter(|it| it != base).collect();
    let entry = |model: &str, subject: &Subject| {
        let own = |it: &&CellSummary| it.cell.params.model == model && it.cell.subject() == *subject;
        let ratios = summary.cells.iter().filter(own).filter_map(|it| Some(summary.ratio(it, base)?.p50));
        median(&sorted(ratios.collect()))
    };
    let rows: Vec<(&str, Vec<Option<f64>>)> = model::names()
        .into_iter()
        .map(|model| (model, others.iter().map(|it| entry(model, it)).collect()))
        .filter(|it: &(_, Vec<_>)| it.1.iter().any(Option::is_some))
        .collect();
    if rows.is_empty() {
        return None;
    }
    let title = format!("time as a ratio to {} (median over parameters; below 1 is faster)\n", base.label());
    let shown: Vec<usize> =
        (0..others.len()).filter(|it| rows.iter().any(|row| row.1[*it].is_some())).collect();
    let mut text = title;
    for columns in fitting(&shown, &others, screen) {
        let mut grid = grid(screen);
        let heads = columns.iter().map(|it| others[*it].label());
        grid.set_header(["model".to_owned()].into_iter().chain(heads));
        for (model, values) in &rows {
            let cells =
                columns.iter().map(|it| values[*it].map(|it| entry_text(it, screen)).unwrap_or_default());
            grid.add_row([(*model).to_owned()].into_iter().chain(cells));
        }
        grid.column_iter_mut().skip(1).for_each(|it| it.set_cell_alignment(CellAlignment::Right));
        text += &lines_of(&grid);
    }
    Some(text)
}

/// `0.31 ▂`; without a terminal only the number.
fn entry_text(ratio: f64, screen: Screen) -> String {
    let number = super::document::number_text(ratio);
    if screen.width.is_none() {
        return number;
    }
    let step = (ratio.log2() + (BARS.len() / 2) as f64).round().clamp(0.0, (BARS.len() - 1) as f64);
    format!("{number} {}", BARS[step as usize])
}

/// `columns` in groups that fit the screen.
fn fitting(columns: &[usize], subjects: &[Subject], screen: Screen) -> Vec<Vec<usize>> {
    const MODEL_WIDTH: usize = 20;
    let width = screen.width.map_or(usize::MAX, usize::from);
    let mut groups: Vec<(usize, Vec<usize>)> = Vec::new();
    for column in columns {
        // A number with a bar takes ten columns, and two separate it from the next.
        let own = subjects[*column].label().chars().count().max(10) + 3;
        match groups.last_mut() {
            Some((used, group)) if *used + own <= width => {
                *used += own;
                group.push(*column);
            }
            _ => groups.push((MODEL_WIDTH + own, vec![*column])),
        }
    }
    groups.into_iter().map(|it| it.1).collect()
}

/// `table` with its heading, for a screen.
pub fn table(table: &Table, screen: Screen) -> String {
    let mut grid = grid(screen);
    if let Some(width) = screen.width {
        grid.set_content_arrangement(comfy_table::ContentArrangement::Dynamic).set_width(width);
    }
    let used: Vec<usize> = (0..table.columns.len())
        .filter(|it| table.rows.iter().any(|row| row.get(*it).is_some_and(|it| !it.is_empty())))
        .collect();
    grid.set_header(used.iter().map(|it| one_line(&table.columns[*it])));
    for row in &table.rows {
        grid.add_row(used.iter().map(|it| row.get(*it).map(|it| one_line(it)).unwrap_or_default()));
    }
    format!("{}\n{}", one_line(&table.title), lines_of(&grid))
}

/// `table` with its heading and what to know when reading it, for a screen.
pub fn explained(shown: &Table, screen: Screen) -> String {
    let text = table(shown, screen);
    let (title, rows) = text.split_once('\n').unwrap_or((&text, ""));
    format!("{title}\n{}\n{rows}", one_line(&shown.note))
}

/// `text` without what a terminal would obey.
pub fn one_line(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect()
}

fn grid(screen: Screen) -> Grid {
    let mut grid = Grid::new();
    let lined = presets::NOTHING.header_separator(LineStyle::none().fill('─'));
    grid.load_style(if screen.width.is_some() { lined } else { presets::NOTHING });
    grid
}

fn lines_of(grid: &Grid) -> String {
    grid.lines().map(|it| format!("{}\n", it.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example::{subject, usual};

    #[test]
    fn lines_fit_the_screen_and_numbers_stay() {
        let run = usual(12);
        let summary = Summary::of(&run);
        let base = subject("overlayfs", "default");
        for width in [None, Some(200), Some(80), Some(40)] {
            let text = ratios(&summary, &base, Screen { width }).unwrap();
            let longest = text.lines().skip(1).map(|it| it.chars().count()).max().unwrap();
            assert!(longest <= width.map_or(usize::MAX, usize::from), "{width:?}\n{text}");
            let ours = text.lines().filter(|it| it.contains("copy-up")).collect::<String>();
            assert!(ours.contains("0.33") && ours.contains("0.027"), "{width:?}\n{text}");
            assert_eq!(text.contains('▂'), width.is_some(), "bars are for people: {text}");
            assert!(!text.contains('\u{1b}'), "no colours");
        }
        assert!(ratios(&summary, &subject("vfs", "default"), Screen { width: None }).is_none());
    }

    #[test]
    fn texts_cannot_steer_the_terminal() {
        let table = Table {
            title: "a\u{1b}[2J".to_owned(),
            note: String::new(),
            columns: vec!["x".to_owned()],
            rows: vec![vec!["\u{1b}]0;evil\u{7}".to_owned()]],
        };
        for width in [None, Some(60)] {
            assert!(!super::table(&table, Screen { width }).contains(['\u{1b}', '\u{7}']));
        }
    }
}
