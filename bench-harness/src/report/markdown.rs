//! `report.md`.

use super::document::{Document, Table};
use super::page::Drawn;

/// The report in Markdown; the pictures are below `plots/`.
pub fn markdown(document: &Document, figures: &[Drawn]) -> String {
    let mut text = format!("# {}\n\n", document.title);
    for sentence in &document.headline {
        text += &format!("{}\n\n", escaped(sentence));
    }
    for warning in &document.warnings {
        text += &format!("> **{}**\n\n", escaped(warning));
    }
    for Drawn { name, caption, .. } in figures {
        text += &format!("![{caption}](plots/{name}.png)\n\n");
    }
    for table in document.tables.iter().chain([&document.skips, &document.errors]) {
        text += &table_text(table);
    }
    text += "## Host and run\n\n| fact | value |\n|---|---|\n";
    for (name, value) in &document.facts {
        text += &format!("| {name} | {} |\n", escaped(value));
    }
    text += "\n## How to reproduce\n\n";
    for (what, command) in &document.commands {
        text += &format!("{}\n\n    {command}\n\n", escaped(what));
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
    text.replace('|', "\\|").replace('<', "&lt;").replace('\n', " ")
}
