//! `report.md`.

use super::document::{Document, Table};

/// The report in Markdown; `figures` are caption and file name below `plots/`.
pub fn markdown(document: &Document, figures: &[(String, String)]) -> String {
    let mut text = format!("# {}\n\n", document.title);
    for warning in &document.warnings {
        text += &format!("> **{}**\n\n", escaped(warning));
    }
    for (caption, name) in figures {
        text += &format!("![{caption}](plots/{name}.png)\n\n");
    }
    for table in document.tables.iter().chain([&document.skips, &document.errors]) {
        text += &table_text(table);
    }
    text += "## Host and run\n\n| fact | value |\n|---|---|\n";
    for (name, value) in &document.facts {
        text += &format!("| {name} | {} |\n", escaped(value));
    }
    text
}

/// A table with its heading; nothing for one without rows.
fn table_text(table: &Table) -> String {
    if table.rows.is_empty() {
        return String::new();
    }
    let mut text = format!("## {}\n\n{}\n\n", escaped(&table.title), escaped(&table.note));
    text += &format!("| {} |\n|{}\n", table.columns.join(" | "), "---|".repeat(table.columns.len()));
    for row in &table.rows {
        let cells: Vec<String> = row.iter().map(|it| escaped(it)).collect();
        text += &format!("| {} |\n", cells.join(" | "));
    }
    text + "\n"
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
