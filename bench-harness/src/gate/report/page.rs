//! `gate.html`: the ratios as a forest plot, in one file that needs no other.

use askama::Template;

use super::{Row, Said, Summary};
use crate::error::{BenchError, BenchErrorKind, Result};
use crate::gate::settings::percent;
use crate::report::plot::forest::{Forest, Row as Bar, Section, Tone};
use crate::report::plot::register_fonts;
use crate::size::human_ns;
use crate::stats::order::Interval;
use crate::stats::summary::Ratio;

#[derive(Template)]
#[template(path = "gate.html")]
struct Page<'a> {
    verdict: &'static str,
    sentence: String,
    warnings: Vec<String>,
    figure: String,
    note: String,
    rows: Vec<PageRow<'a>>,
    facts: Vec<(&'static str, String)>,
    errors: Vec<&'a str>,
}

struct PageRow<'a> {
    name: &'a str,
    about: String,
    n_blocks: u32,
    ratio: String,
    p_slower: String,
    word: &'static str,
}

/// The page.
///
/// # Errors
///
/// The plot cannot be drawn.
pub fn page(summary: &Summary<'_>) -> Result<String> {
    register_fonts()?;
    let rows = summary.rows.iter().map(|it| PageRow {
        name: &it.cell.name,
        about: it.cell.params.to_string(),
        n_blocks: it.n_blocks(),
        ratio: it.ratio_text(),
        p_slower: it.look.map_or_else(|| "–".to_owned(), |look| format!("{:.2e}", look.p_slower)),
        word: it.said.word(),
    });
    let page = Page {
        verdict: summary.verdict(),
        sentence: summary.sentence(),
        warnings: summary.warnings(),
        figure: forest(summary).figure("gate".to_owned(), String::new()).svg()?,
        note: summary.interval_note(),
        rows: rows.collect(),
        facts: facts(summary),
        errors: summary.record.errors.iter().map(|it| it.1.as_str()).collect(),
    };
    page.render()
        .map_err(|error| BenchError::new("write", "gate.html", BenchErrorKind::Plot(error.to_string())))
}

/// Each judged cell as a bar, beside lines at margin and limit.
fn forest(summary: &Summary<'_>) -> Forest {
    let rules = &summary.record.header.rules;
    let bar = |row: &Row<'_>| {
        let look = row.look?;
        let interval = look.low.zip(look.high).map(|(low, high)| Interval { low, high });
        let tone = match row.said {
            Said::Cleared | Said::Improved => Tone::Good,
            Said::Undecided | Said::Unconfirmed => Tone::Open,
            Said::Slower | Said::Error => Tone::Bad,
        };
        let ratio = Ratio { p50: look.ratio?, interval, n_blocks: look.n_blocks as usize };
        let remark = format!("{} blocks   {}", look.n_blocks, row.said.word());
        Some(Bar { label: row.cell.name.clone(), ratio, remark, tone })
    };
    let host = &summary.record.header.host;
    let line = |share: f64, word: &str| (1.0 + share, format!("{word} {}", percent(share)));
    Forest {
        title: format!("Head against base: {}", summary.verdict()),
        subtitle: format!("matrix {}, Linux {}", host.matrix, host.kernel),
        x_label: "time of head by time of base".to_owned(),
        lines: vec![line(rules.margin, "margin"), line(rules.limit, "limit")],
        sections: vec![Section {
            heading: String::new(),
            rows: summary.rows.iter().filter_map(bar).collect(),
        }],
        note: summary.interval_note(),
    }
}

fn facts(summary: &Summary<'_>) -> Vec<(&'static str, String)> {
    let header = &summary.record.header;
    let host = &header.host;
    let backing = |it: &crate::host::BackingFacts| format!("{} ({}; {})", it.label(), it.fs_type, it.options);
    let looks = |it: &crate::gate::decide::Look| format!("{} blocks at {}", it.blocks, it.alpha);
    let digest = |arm: &crate::gate::arm::ArmFacts| {
        let program = arm.program.as_ref().map(|it| format!(", {}, sha256 {}", it.path.display(), it.sha256));
        format!("{}{}", arm.label(), program.unwrap_or_default())
    };
    vec![
        ("base", digest(&header.base)),
        ("head", digest(&header.head)),
        ("looks", header.rules.looks.iter().map(looks).collect::<Vec<_>>().join(", ")),
        ("pairs", format!("{} for each cell and block", header.rules.pairs)),
        ("host", format!("{}, Linux {}, {} × {}", host.label, host.kernel, host.cpus, host.cpu)),
        ("backings", host.backings.iter().map(backing).collect::<Vec<_>>().join(", ")),
        ("matrix, seed", format!("{}, {}", host.matrix, host.seed)),
        ("started", host.started_at.clone()),
        ("time of blocks", human_ns(summary.elapsed_ms() as f64 * 1e6)),
    ]
}
