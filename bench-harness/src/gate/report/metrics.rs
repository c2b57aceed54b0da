//! `metrics.txt`: OpenMetrics text, as GitLab's metrics reports and Prometheus read it.

use super::Summary;

/// The gate as OpenMetrics.
pub fn metrics(summary: &Summary<'_>) -> String {
    let mut text = String::new();
    let mut family = |name: &str, help: &str, samples: Vec<(String, f64)>| {
        text += &format!("# TYPE {name} gauge\n# HELP {name} {help}\n");
        samples.iter().for_each(|(labels, value)| text += &format!("{name}{labels} {value}\n"));
    };
    let of_cells = |value: &dyn Fn(&super::Row<'_>) -> Option<f64>| -> Vec<(String, f64)> {
        let label = |name: &str| format!("{{cell=\"{}\"}}", escaped(name));
        summary.rows.iter().filter_map(|it| Some((label(&it.cell.name), value(it)?))).collect()
    };
    let ratio = of_cells(&|it| it.look?.ratio);
    family("aufs_bench_gate_ratio", "Time of head by time of base.", ratio);
    let low = of_cells(&|it| it.look?.low);
    family("aufs_bench_gate_ratio_low", "Exact lower bound of the ratio.", low);
    let high = of_cells(&|it| it.look?.high);
    family("aufs_bench_gate_ratio_high", "Exact upper bound of the ratio.", high);
    let blocks = of_cells(&|it| Some(f64::from(it.n_blocks())));
    family("aufs_bench_gate_blocks", "Blocks that the judgement rests on.", blocks);
    let exit = vec![(String::new(), f64::from(summary.exit as u8))];
    family("aufs_bench_gate_exit_code", "Exit code of the gate: 0 passes.", exit);
    text + "# EOF\n"
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
