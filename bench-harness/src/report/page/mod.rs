//! `report.html`: one file with its style, its script, its figures and its data inside; no network.

mod download;
mod sort_key;
mod table;
mod theme;

use askama::Template;

use super::document::Document;
use crate::error::{BenchError, BenchErrorKind, Result};
pub use download::Download;
use table::TableView;

/// A figure of the page.
#[derive(Debug, Clone)]
pub struct Drawn {
    /// Name of its files, without extension.
    pub name: String,
    /// What it shows.
    pub caption: String,
    /// The picture, as it is saved too.
    pub svg: String,
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    title: &'a str,
    style: &'static str,
    script: &'static str,
    headline: &'a [String],
    warnings: &'a [String],
    figures: Vec<Drawn>,
    more_figures: Vec<Drawn>,
    tables: Vec<TableView<'a>>,
    commands: &'a [(String, String)],
    facts: &'a [(&'static str, String)],
    downloads: &'a [Download],
    method: &'a str,
}

const STYLE: &str = include_str!("../../../templates/report.css");
const SCRIPT: &str = include_str!("../../../templates/report.js");

/// So many figures are shown at once; the rest is one click away.
const FIRST_FIGURES: usize = 7;

/// The report as a page.
///
/// # Errors
///
/// The template cannot be filled, which no text leads to.
pub fn page(document: &Document, figures: &[Drawn], downloads: &[Download]) -> Result<String> {
    let drawn = |it: &Drawn| Drawn { svg: theme::themed(&it.svg), ..it.clone() };
    let (first, more) = figures.split_at(figures.len().min(FIRST_FIGURES));
    let tables = document.tables.iter().chain([&document.skips, &document.errors]);
    let page = Page {
        title: &document.title,
        style: STYLE,
        script: SCRIPT,
        headline: &document.headline,
        warnings: &document.warnings,
        figures: first.iter().map(drawn).collect(),
        more_figures: more.iter().map(drawn).collect(),
        tables: tables.filter(|it| !it.rows.is_empty()).map(TableView::of).collect(),
        commands: &document.commands,
        facts: &document.facts,
        downloads,
        method: &document.method,
    };
    let wrong = |error: askama::Error| BenchErrorKind::Plot(error.to_string());
    page.render().map_err(|error| BenchError::new("write", "report.html", wrong(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::document::Table;

    #[test]
    fn text_cannot_break_the_page() {
        let hostile = "</script><script>alert(1)</script><b a=\"1\">' & co";
        let table = || Table {
            title: hostile.to_owned(),
            note: hostile.to_owned(),
            columns: vec![hostile.to_owned()],
            rows: vec![vec![hostile.to_owned()]],
        };
        let document = Document {
            title: hostile.to_owned(),
            headline: vec![hostile.to_owned()],
            warnings: vec![hostile.to_owned()],
            facts: vec![("label", hostile.to_owned())],
            commands: vec![(hostile.to_owned(), hostile.to_owned())],
            tables: vec![table()],
            skips: table(),
            errors: table(),
            method: hostile.to_owned(),
        };
        let text = page(&document, &[], &[]).unwrap();
        assert!(!text.contains("<script>alert") && !text.contains("<b a="), "{text}");
        assert_eq!(text.matches("</script>").count(), 1, "only the page's own script ends");
    }
}
