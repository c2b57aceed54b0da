//! The verdict on a terminal.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::Summary;

/// Verdict, arms, and a row for each cell; as wide as it needs to be where `width` is none.
pub fn table(summary: &Summary<'_>, width: Option<u16>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["cell", "blocks", "ratio (bounds)", ""]);
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    for row in &summary.rows {
        let (name, blocks) = (row.cell.name.clone(), row.n_blocks().to_string());
        table.add_row([name, blocks, row.ratio_text(), row.said.word().to_owned()]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let header = &summary.record.header;
    let rows: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    let mut text = format!("base  {}\nhead  {}\n\n", header.base.label(), header.head.label());
    text += &format!("{}\n\n", rows.join("\n"));
    for warning in summary.warnings() {
        text += &format!("note: {warning}\n");
    }
    text + &format!("{}: {}\n", summary.verdict(), summary.sentence())
}
