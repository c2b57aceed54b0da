//! What `go test -bench` prints: a line for each block of each cell, which benchstat takes for one sample.
//!
//! The samples of a block are alike, and benchstat takes lines for independent;
//! hence a line is the median of its block.

use super::labels::labels;
use crate::error::Result;
use crate::run::journal::RunRecord;
use crate::stats::summary::{CellSummary, Summary};

/// `run` as benchstat reads it. Cells that failed have no line.
///
/// # Errors
///
/// A cell cannot be written.
pub fn text(summary: &Summary, run: &RunRecord) -> Result<String> {
    let host = &run.header.host;
    let mut text = String::from("goos: linux\npkg: aufs-bench\n");
    for (key, value) in
        [("cpu", &host.cpu), ("kernel", &host.kernel), ("host", &host.label), ("matrix", &host.matrix)]
    {
        text += &format!("{key}: {}\n", value.replace(char::is_control, " "));
    }
    text += "Unit ns/op better=lower\n";
    for cell in summary.cells.iter().filter(|it| it.latency.is_some()) {
        let name = name(cell, host.cpus)?;
        for median in cell.block_medians.values() {
            text += &format!("{name} 1 {median} ns/op\n");
        }
    }
    Ok(text)
}

/// `BenchmarkCopyUp/driver=plain/…-2`: what differs is `key=value`, by which benchstat can group.
fn name(cell: &CellSummary, cpus: usize) -> Result<String> {
    let capital = |word: &str| {
        let mut chars = word.chars();
        chars.next().map(|first| first.to_uppercase().chain(chars).collect::<String>()).unwrap_or_default()
    };
    let model: String = cell.cell.params.model.split('-').map(capital).collect();
    let mut name = format!("Benchmark{model}");
    for (key, value) in labels(&cell.cell)?.iter().filter(|it| it.0 != "model") {
        let plain = |it: char| if it.is_whitespace() || it.is_control() || it == '/' { '_' } else { it };
        name += &format!("/{key}={}", value.chars().map(plain).collect::<String>());
    }
    Ok(format!("{name}-{cpus}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example::usual;

    #[test]
    fn each_block_is_a_line_of_the_format() {
        let mut run = usual(3);
        run.header.host.cpu = "odd\ncpu: no".to_owned();
        let summary = Summary::of(&run);
        let text = text(&summary, &run).unwrap();
        let (lines, config): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|it| it.starts_with("Benchmark"));
        assert_eq!(lines.len(), 3 * (run.header.cells.len() - 1));
        assert_eq!(
            config.iter().filter(|it| it.starts_with("cpu: ")).count(),
            1,
            "a value cannot begin a line"
        );
        for line in &lines {
            let fields: Vec<&str> = line.split(' ').collect();
            let [name, "1", ns, "ns/op"] = fields[..] else { panic!("{line}") };
            assert!(0.0 < ns.parse::<f64>().unwrap(), "{line}");
            assert!(name.contains("/driver=") && name.contains("/found_at="), "{line}");
        }
        assert!(
            lines[0].starts_with("BenchmarkCopyUp/") && !text.contains("Chmod"),
            "the failed cell has none"
        );
    }
}
