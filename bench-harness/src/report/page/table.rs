//! A table as the page shows it: without empty columns, and knowing which are numbers and what they are sorted by.

use super::sort_key::sort_key;
use crate::report::document::Table;

/// Longer tables start folded.
const OPEN_ROWS_MAX: usize = 12;

/// Texts longer than this may wrap.
const WORDS_FROM: usize = 40;

/// A table of the page.
#[derive(Debug)]
pub struct TableView<'a> {
    pub title: &'a str,
    pub note: &'a str,
    pub columns: Vec<Column<'a>>,
    pub rows: Vec<RowView<'a>>,
    /// Whether it starts unfolded.
    pub open: bool,
}

/// A column.
#[derive(Debug)]
pub struct Column<'a> {
    pub head: &'a str,
    pub is_number: bool,
}

/// A row.
#[derive(Debug)]
pub struct RowView<'a> {
    /// Whether another set of parameters than that of the row before begins.
    pub first: bool,
    pub cells: Vec<CellView<'a>>,
}

/// A cell of the table.
#[derive(Debug)]
pub struct CellView<'a> {
    pub text: &'a str,
    pub key: Option<f64>,
    pub class: &'static str,
}

impl<'a> TableView<'a> {
    /// How `table` is shown.
    pub fn of(table: &'a Table) -> Self {
        let columns: Vec<(usize, Column<'a>)> =
            (0..).zip(&table.columns).filter_map(|it| column(table, it)).collect();
        let rows = table.rows.iter().enumerate().map(|(index, row)| {
            let before = index.checked_sub(1).and_then(|it| table.rows.get(it)?.get(1..7));
            let cells = columns.iter().filter_map(|(at, column)| Some(cell(row.get(*at)?, column.is_number)));
            RowView {
                first: table.is_grouped() && before.is_some_and(|it| Some(it) != row.get(1..7)),
                cells: cells.collect(),
            }
        });
        let rows: Vec<RowView<'_>> = rows.collect();
        Self {
            title: &table.title,
            note: &table.note,
            open: rows.len() <= OPEN_ROWS_MAX,
            columns: columns.into_iter().map(|it| it.1).collect(),
            rows,
        }
    }
}

/// The column `head` at `index`; none where all its cells are empty.
fn column<'a>(table: &Table, (index, head): (usize, &'a String)) -> Option<(usize, Column<'a>)> {
    let texts = || table.rows.iter().filter_map(|row| row.get(index)).filter(|it| !it.is_empty());
    let (numbers, all) = (texts().filter(|it| sort_key(it).is_some()).count(), texts().count());
    // `error` among numbers leaves it a column of numbers.
    let is_number = 0 < numbers && all <= 2 * numbers;
    (0 < all).then_some((index, Column { head, is_number }))
}

fn cell(text: &str, is_number: bool) -> CellView<'_> {
    let class = match (is_number, WORDS_FROM < text.chars().count()) {
        (true, _) => "number",
        (false, true) => "words",
        (false, false) => "",
    };
    CellView { text, key: sort_key(text).filter(|_| is_number), class }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_numbers_are_found() {
        let words = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let table = Table {
            title: String::new(),
            note: String::new(),
            columns: words(&["driver", "p50", "mixed", "empty"]),
            rows: vec![
                words(&["a", "45 µs", "1", ""]),
                words(&["b", "error", "x", ""]),
                words(&["c", "", "y", ""]),
            ],
        };
        let view = TableView::of(&table);
        let numbers: Vec<bool> = view.columns.iter().map(|it| it.is_number).collect();
        assert_eq!(numbers, [false, true, false], "and the empty one is left out");
        assert_eq!(view.rows[0].cells[1].key, Some(45e3));
        assert_eq!(view.rows[0].cells[2].key, None, "a lone number among words is no key");
        assert_eq!(view.rows[1].cells[1].key, None);
    }
}
