//! `report.html`: one file with its style and its figures inside, no network.

use super::document::{Document, Table};

const STYLE: &str = "
:root { color-scheme: light; }
body { font: 15px/1.5 'DejaVu Sans', Verdana, sans-serif; color: #222; background: #fff; max-width: 1120px;
       margin: 2em auto; padding: 0 1.2em; }
h1 { font-size: 1.6em; margin-bottom: .3em; }
h2 { font-size: 1.2em; margin-top: 2.2em; border-bottom: 1px solid #ddd; padding-bottom: .25em; }
.warning { background: #fff4e5; border-left: 4px solid #d55e00; padding: .6em 1em; margin: .8em 0; }
.note { color: #555; margin: .3em 0 .8em; }
figure { margin: 2em 0; overflow-x: auto; }
figure svg { max-width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 12.5px; font-variant-numeric: tabular-nums; }
th, td { padding: .25em .7em; text-align: right; border-bottom: 1px solid #eee; white-space: nowrap; }
th { border-bottom: 2px solid #999; background: #fff; }
th:first-child, td:first-child { text-align: left; }
table.text td, table.text th { text-align: left; white-space: normal; }
table.sentences td:last-child, table.sentences th:last-child { text-align: left; white-space: normal; min-width: 20em; }
table.sentences td:nth-child(2), table.sentences th:nth-child(2) { text-align: left; }
tbody tr:hover { background: #f5f9fc; }
tbody tr.first td { border-top: 1px solid #aaa; }
nav a { margin-right: 1em; }
footer { color: #777; font-size: 12px; margin: 3em 0 1em; }
";

/// The report as a page; `figures` are caption and SVG.
pub fn page(document: &Document, figures: &[(String, String)]) -> String {
    let title = escaped(&document.title);
    let mut text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    );
    for warning in &document.warnings {
        text += &format!("<p class=\"warning\">{}</p>\n", escaped(warning));
    }
    let shown =
        || document.tables.iter().chain([&document.skips, &document.errors]).filter(|it| !it.rows.is_empty());
    text += "<nav>";
    shown().enumerate().for_each(|(index, it)| {
        text += &format!("<a href=\"#t{index}\">{}</a>", escaped(&it.title));
    });
    text += "<a href=\"#host\">Host and run</a></nav>\n";
    for (caption, svg) in figures {
        text += &format!("<figure role=\"img\" aria-label=\"{}\">{svg}</figure>\n", escaped(caption));
    }
    for (index, table) in shown().enumerate() {
        text += &table_text(table, index);
    }
    text += "<h2 id=\"host\">Host and run</h2>\n<table class=\"text\"><tbody>\n";
    for (name, value) in &document.facts {
        text += &format!("<tr><th>{name}</th><td>{}</td></tr>\n", escaped(value));
    }
    text += "</tbody></table>\n<footer>Intervals are exact order-statistic intervals of the median at 95 %. Ratios \
             are medians over blocks of the ratio of both medians in the block. A p90 needs 100 samples, a p99 1000; \
             else the field is empty. All numbers are in summary.csv and metrics.csv, all samples in \
             samples.jsonl.</footer>\n</body>\n</html>\n";
    text
}

fn table_text(table: &Table, index: usize) -> String {
    let is_text = table.columns.len() < 6;
    // Sentences in the last column, as verdicts are, would make the table as wide as they are long.
    let has_sentences = table.rows.iter().filter_map(|row| row.last()).any(|it| 40 < it.chars().count());
    let class = match (is_text, has_sentences) {
        (true, _) => " class=\"text\"",
        (false, true) => " class=\"sentences\"",
        (false, false) => "",
    };
    let mut text = format!(
        "<h2 id=\"t{index}\">{}</h2>\n<p class=\"note\">{}</p>\n<div class=\"scroll\"><table{class}><thead><tr>",
        escaped(&table.title),
        escaped(&table.note)
    );
    table.columns.iter().for_each(|it| text += &format!("<th>{}</th>", escaped(it)));
    text += "</tr></thead><tbody>\n";
    let mut last: Option<&[String]> = None;
    for row in &table.rows {
        // A line above each new set of parameters: columns 1 to 6 of a table of results.
        let key = row.get(1..7);
        let first = !is_text && last.is_some() && last != key;
        last = key;
        text += if first { "<tr class=\"first\">" } else { "<tr>" };
        row.iter().for_each(|it| text += &format!("<td>{}</td>", escaped(it)));
        text += "</tr>\n";
    }
    text + "</tbody></table></div>\n"
}

/// `text` with the characters that mean something in HTML replaced.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_break_the_page() {
        assert_eq!(escaped("<b a=\"1\"> & co"), "&lt;b a=&quot;1&quot;&gt; &amp; co");
    }
}
