//! `gate.md`, which is also the step summary of a CI job.

use super::{Said, Summary};
use crate::size::human_ns;

/// The gate in Markdown.
pub fn markdown(summary: &Summary<'_>) -> String {
    let header = &summary.record.header;
    let mut text = format!("## Gate: {}\n\n{}.\n\n", summary.verdict(), escaped(&summary.sentence()));
    for warning in summary.warnings() {
        text += &format!("> **{}**\n\n", escaped(&warning));
    }
    text += "| cell | blocks | ratio (bounds) | |\n|---|--:|---|---|\n";
    for row in &summary.rows {
        let word = match row.said {
            Said::Slower | Said::Error => format!("**{}**", row.said.word()),
            _ => row.said.word().to_owned(),
        };
        let name = escaped(&row.cell.name);
        text += &format!("| {name} | {} | {} | {word} |\n", row.n_blocks(), row.ratio_text());
    }
    text += &format!("\n{}.\n\n| | |\n|---|---|\n", summary.interval_note());
    let host = &header.host;
    for (name, value) in [
        ("base", header.base.label()),
        ("head", header.head.label()),
        ("host", format!("{}, Linux {}, {} × {}", host.label, host.kernel, host.cpus, host.cpu)),
        ("matrix, seed", format!("{}, {}", host.matrix, host.seed)),
        ("time of blocks", human_ns(summary.elapsed_ms() as f64 * 1e6)),
    ] {
        text += &format!("| {name} | {} |\n", escaped(&value));
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace(['\n', '\r'], " ")
}
