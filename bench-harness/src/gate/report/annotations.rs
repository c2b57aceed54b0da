//! Workflow commands of GitHub Actions: errors and warnings beside a change.

use super::{Said, Summary};
use crate::error::Exit;

/// One line for each cell that is slower, failed or undecided, and one for what no cell is to blame for.
pub fn annotations(summary: &Summary<'_>) -> Vec<String> {
    let undecided = if summary.exit == Exit::Success { "warning" } else { "error" };
    let mut lines = Vec::new();
    for row in &summary.rows {
        let (level, message) = match row.said {
            Said::Slower => ("error", format!("slower: {}", row.ratio_text())),
            Said::Error => ("error", row.error.unwrap_or("a sample failed").to_owned()),
            Said::Unconfirmed => (undecided, format!("slower, but not confirmed: {}", row.ratio_text())),
            Said::Undecided => (undecided, format!("undecided: {}", row.ratio_text())),
            Said::Cleared | Said::Improved => continue,
        };
        lines.push(command(level, &format!("gate: {}", row.cell.name), &message));
    }
    if summary.exit != Exit::Success && lines.is_empty() {
        lines.push(command("error", "gate", &summary.sentence()));
    }
    lines
}

fn command(level: &str, title: &str, message: &str) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = data(title).replace(':', "%3A").replace(',', "%2C");
    format!("::{level} title={property}::{}", data(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_stay_on_their_line() {
        assert_eq!(
            command("error", "gate: loop:xfs, 4K", "10% slower\nor more: 1"),
            "::error title=gate%3A loop%3Axfs%2C 4K::10%25 slower%0Aor more: 1"
        );
    }
}
