//! Tables on a terminal.

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{ContentArrangement, Table as Grid};

use super::document::Table;

/// Width where the terminal does not tell its own, as in a pipe.
const WIDTH: u16 = 200;

/// `table` as text with its heading, as wide as the terminal.
pub fn text_of(table: &Table) -> String {
    let mut grid = Grid::new();
    grid.load_style(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    grid.set_width(terminal_width().unwrap_or(WIDTH)).set_header(&table.columns);
    table.rows.iter().for_each(|row| {
        grid.add_row(row);
    });
    format!("{}\n{}\n{grid}\n", table.title, table.note)
}

/// Columns of the terminal, where stdout is one.
fn terminal_width() -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (0 < size.ws_col).then_some(size.ws_col)
}
