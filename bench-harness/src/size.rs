//! File sizes and durations as people write them.

/// Reads `4K`, `1M`, `1G` or a plain number of bytes (binary units).
///
/// # Errors
///
/// The text is none of these; the message says what was expected.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let expected =
        || format!("{text:?} is not a size; expected bytes or a number with K, M or G, such as \"64K\"");
    let trimmed = text.trim_end_matches("iB");
    let (digits, shift) = match trimmed.as_bytes().last() {
        Some(b'K' | b'k') => (&trimmed[..trimmed.len() - 1], 10),
        Some(b'M' | b'm') => (&trimmed[..trimmed.len() - 1], 20),
        Some(b'G' | b'g') => (&trimmed[..trimmed.len() - 1], 30),
        _ => (trimmed, 0),
    };
    let count: u64 = digits.parse().map_err(|_| expected())?;
    count.checked_mul(1 << shift).ok_or_else(expected)
}

/// Longest time that is taken; clocks and sums of times overflow far above it.
const SECONDS_MAX: f64 = 1e9;

/// Reads `90s`, `5m`, `1h` or a plain number of seconds; the result is in seconds.
///
/// # Errors
///
/// The text is none of these, not above zero, or absurdly long.
pub fn parse_seconds(text: &str) -> Result<f64, String> {
    let expected = || format!("{text:?} is not a duration; expected a number with s, m or h, such as \"5m\"");
    let (digits, factor) = match text.as_bytes().last() {
        Some(b's') => (&text[..text.len() - 1], 1.0),
        Some(b'm') => (&text[..text.len() - 1], 60.0),
        Some(b'h') => (&text[..text.len() - 1], 3600.0),
        _ => (text, 1.0),
    };
    let count: f64 = digits.parse().map_err(|_| expected())?;
    let seconds = count * factor;
    match seconds {
        _ if SECONDS_MAX < seconds => Err(format!("{text:?} is longer than thirty years")),
        _ if seconds.is_finite() && 0.0 < seconds => Ok(seconds),
        _ => Err(expected()),
    }
}

/// Reads `2.5%` or `0.025`; the result is a share of one.
///
/// # Errors
///
/// The text is neither, or not between 0 and 1.
pub fn parse_share(text: &str) -> Result<f64, String> {
    let expected = || format!("{text:?} is not a share; expected a number with %, such as \"2.5%\"");
    let (digits, scale) = text.strip_suffix('%').map_or((text, 1.0), |digits| (digits, 100.0));
    let share: f64 = digits.trim().parse::<f64>().map_err(|_| expected())? / scale;
    if 0.0 < share && share < 1.0 { Ok(share) } else { Err(expected()) }
}

/// `4 KiB`, `1 MiB`, `512 B`; one decimal only where needed.
pub fn human_bytes(bytes: f64) -> String {
    scaled(bytes, &[("B", 1.0), ("KiB", 1024.0), ("MiB", 1_048_576.0), ("GiB", 1_073_741_824.0)])
}

/// `850 ns`, `3.3 µs`, `12 ms`, `1.5 s`: three significant digits at most.
pub fn human_ns(ns: f64) -> String {
    scaled(ns, &[("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)])
}

/// A short form of a size for file names: `4K`, `1M`, `100`.
pub fn short_bytes(bytes: u64) -> String {
    for (unit, shift) in [("G", 30), ("M", 20), ("K", 10)] {
        if bytes != 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

fn scaled(value: f64, units: &[(&str, f64)]) -> String {
    // 0.9995 keeps 999.7 ns from being printed as "1000 ns".
    let (unit, scale) = units
        .iter()
        .rev()
        .find(|(_, scale)| *scale * 0.9995 <= value.abs())
        .or(units.first())
        .copied()
        .unwrap_or(("", 1.0));
    let shown = value / scale;
    let text = match shown.abs() {
        size if size < 9.995 => format!("{shown:.2}"),
        size if size < 99.95 => format!("{shown:.1}"),
        _ => format!("{shown:.0}"),
    };
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, expected) in [
            ("0", Some(0)),
            ("512", Some(512)),
            ("4K", Some(4096)),
            ("64k", Some(65536)),
            ("1M", Some(1 << 20)),
            ("1MiB", Some(1 << 20)),
            ("2G", Some(2 << 30)),
            ("", None),
            ("K", None),
            ("-1", None),
            ("1.5M", None),
            ("99999999999G", None),
        ] {
            assert_eq!(parse_bytes(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn durations_are_read() {
        for (text, expected) in [
            ("90s", Some(90.0)),
            ("5m", Some(300.0)),
            ("1.5m", Some(90.0)),
            ("1h", Some(3600.0)),
            ("12", Some(12.0)),
            ("0s", None),
            ("-3s", None),
            ("inf", None),
            ("soon", None),
            ("1e9s", Some(1e9)),
            ("1e19s", None),
            ("1e300h", None),
        ] {
            assert_eq!(parse_seconds(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn numbers_are_written_for_people() {
        for (bytes, expected) in
            [(0.0, "0 B"), (512.0, "512 B"), (4096.0, "4 KiB"), (1_048_576.0, "1 MiB"), (1536.0, "1.5 KiB")]
        {
            assert_eq!(human_bytes(bytes), expected);
        }
        for (ns, expected) in
            [(850.0, "850 ns"), (999.7, "1 µs"), (3300.0, "3.3 µs"), (12.04e6, "12 ms"), (123.4e6, "123 ms")]
        {
            assert_eq!(human_ns(ns), expected);
        }
        for (bytes, expected) in [(0, "0"), (4096, "4K"), (1 << 20, "1M"), (1500, "1500"), (3 << 30, "3G")] {
            assert_eq!(short_bytes(bytes), expected);
        }
    }
}
