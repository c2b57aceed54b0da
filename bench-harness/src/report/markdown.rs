//! `report.md`.

use super::document::{Document, Table};
use super::page::Drawn;

/// The report in Markdown; the pictures are below `plots/`.
pub fn markdown(document: &Document, figures: &[Drawn]) -> String {
    let mut text = format!("# {}\n\n", escaped(&document.title));
    for sentence in &document.headline {
        text += &format!("{}\n\n", escaped(sentence));
    }
    for warning in &document.warnings {
        text += &format!("> **{}**\n\n", escaped(warning));
    }
    for Drawn { name, caption, .. } in figures {
        let caption = escaped(caption).replace('[', "\\[").replace(']', "\\]");
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
    let heads: Vec<String> = table.columns.iter().map(|it| escaped(it)).collect();
    text += &format!("| {} |\n|{}\n", heads.join(" | "), "---|".repeat(table.columns.len()));
    for row in &table.rows {
        let cells: Vec<String> = row.iter().map(|it| escaped(it)).collect();
        text += &format!("| {} |\n", cells.join(" | "));
    }
    text + "\n"
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_a_table_or_a_picture() {
        let hostile = "a|b <img>\n[c]".to_owned();
        let table = Table {
            title: hostile.clone(),
            note: hostile.clone(),
            columns: vec![hostile.clone(), hostile.clone()],
            rows: vec![vec![hostile.clone(), hostile.clone()]],
        };
        let empty = Table { rows: Vec::new(), ..table.clone() };
        let document = Document {
            title: hostile.clone(),
            warnings: vec![hostile.clone()],
            headline: vec![hostile.clone()],
            facts: vec![("fact", hostile.clone())],
            tables: vec![table],
            skips: empty.clone(),
            errors: empty,
            commands: Vec::new(),
            method: String::new(),
        };
        let figure = Drawn { name: "f".to_owned(), caption: hostile, svg: String::new() };
        let text = markdown(&document, &[figure]);
        assert!(!text.contains('<') && !text.contains("a|b"), "{text}");
        assert!(text.starts_with("# a\\|b &lt;img> [c]\n"), "{text}");
        assert!(text.contains(r"![a\|b &lt;img> \[c\]](plots/f.png)"), "{text}");
        let rows: Vec<&str> = text.lines().filter(|it| it.starts_with("| a")).collect();
        assert_eq!(rows.len(), 2);
        assert!(rows.iter().all(|it| it.matches('|').count() == 5), "three ends and two escaped: {rows:?}");
    }
}
