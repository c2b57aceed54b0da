//! By what a column of texts is sorted: the number at the start of each, in the unit that follows it.

/// Units as reports print them, with what a unit is worth.
const UNITS: &[(&str, f64)] = &[
    ("ns", 1.0),
    ("µs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("B", 1.0),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("%", 1.0),
];

/// The number that `text` is sorted by: `45 µs`, `1.23 (1.20 – 1.27)`, `33 µs – 37 µs` by its start.
///
/// None for what is no number, or where words follow it.
pub fn sort_key(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace();
    let number: f64 = words.next()?.parse().ok().filter(|it: &f64| it.is_finite())?;
    let Some(word) = words.next() else { return Some(number) };
    let (factor, after) = match UNITS.iter().find(|it| it.0 == word) {
        Some((_, factor)) => (*factor, words.next()),
        None => (1.0, Some(word)),
    };
    let is_interval = after.is_none_or(|it| it == "–" || it.starts_with('('));
    is_interval.then_some(number * factor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::size::{human_bytes, human_ns};

    #[test]
    fn numbers_lead() {
        for (text, expected) in [
            ("45 µs", Some(45e3)),
            ("3.3 ms – 3.4 ms", Some(3.3e6)),
            ("0.31 (0.29 – 0.33)", Some(0.31)),
            ("480", Some(480.0)),
            ("4 KiB", Some(4096.0)),
            ("", None),
            ("error", None),
            ("inf", None),
            ("NaN", None),
            ("3 layers", None),
            ("4 KiB × 10", None),
        ] {
            assert_eq!(sort_key(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn keys_are_in_the_order_of_what_was_printed(a in 0.0..1e12_f64, b in 0.0..1e12_f64) {
            let (low, high) = (a.min(b), a.max(b));
            for human in [human_ns, human_bytes] {
                let (low, high) = (sort_key(&human(low)), sort_key(&human(high)));
                prop_assert!(low.is_some() && low <= high, "{:?} {:?}", low, high);
            }
        }
    }
}
