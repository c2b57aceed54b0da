//! A series of values as a line of blocks.

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// `values` on a logarithmic scale from the least to the largest; equal ones stand in the middle.
///
/// A span below a tenth takes the middle of the scale only, so that noise does not look like mountains.
pub fn sparkline(values: &[f64]) -> String {
    let logs: Vec<f64> = values.iter().map(|it| it.max(f64::MIN_POSITIVE).ln()).collect();
    let (low, high) =
        logs.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |it, log| (it.0.min(*log), it.1.max(*log)));
    let span = (high - low).max(1.1_f64.ln());
    let middle = f64::midpoint(low, high);
    let block = |log: &f64| {
        let share = (log - middle) / span + 0.5;
        BLOCKS[((share * 8.0) as usize).min(7)]
    };
    logs.iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_rise_with_values() {
        for (values, expected) in [
            (&[][..], ""),
            (&[3.0], "▅"),
            (&[1.0, 1.0, 1.0], "▅▅▅"),
            (&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0], "▁▂▃▄▅▆▇█"),
            (&[1.0, 1.01], "▄▅"),
        ] {
            assert_eq!(sparkline(values), expected, "{values:?}");
        }
    }
}
