//! Numbers of tar headers and extended headers. Pure.
//!
//! The `tar` crate's own reader takes no negative base-256 numbers, cuts large ones, and refuses fields that are
//! padded at the front by zero bytes; Go's, by which Docker's layers are written and read, is the measure here.

/// Reads a field of a header: octal digits, or base 256 where the first bit is set.
///
/// Spaces and zero bytes around the digits do not count; an empty field is 0.
pub(crate) fn field(bytes: &[u8]) -> Option<i64> {
    match bytes.first() {
        Some(first) if first & 0x80 != 0 => base_256(*first, bytes.get(1..)?),
        _ => octal(bytes),
    }
}

/// As two's complement: the second bit of the first byte is the sign.
fn base_256(first: u8, rest: &[u8]) -> Option<i64> {
    let is_negative = first & 0x40 != 0;
    let mut number: i64 = if is_negative { i64::from(first) - 256 } else { i64::from(first & 0x3f) };
    for byte in rest {
        number = number.checked_mul(256)?.checked_add(i64::from(*byte))?;
    }
    Some(number)
}

fn octal(bytes: &[u8]) -> Option<i64> {
    let is_padding = |byte: &u8| matches!(byte, b' ' | 0);
    let start = bytes.iter().position(|byte| !is_padding(byte)).unwrap_or(bytes.len());
    let digits = bytes.get(start..)?;
    let end = digits.iter().position(is_padding).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if !rest.iter().all(is_padding) && !rest.starts_with(&[0]) {
        return None; // Digits, a space, and more digits.
    }
    digits.iter().try_fold(0_i64, |number, digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// Reads a whole decimal number that is not negative.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A time: seconds since the epoch, and nanoseconds after that second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// Reads a time of an extended header: `[-]SECONDS[.FRACTION]`; digits beyond nanoseconds are cut.
pub(crate) fn time(text: &[u8]) -> Option<Time> {
    let (is_negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let whole = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0, |number: u32, digit| number * 10 + u32::from(digit - b'0'));
    Some(match (is_negative, nanoseconds) {
        (false, _) => Time { seconds: whole, nanoseconds },
        (true, 0) => Time { seconds: -whole, nanoseconds: 0 },
        // The fraction counts upwards from the second before.
        (true, _) => Time { seconds: -whole - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_octal_or_base_256() {
        let big = |bytes: &[u8]| field(bytes);
        for (text, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\x00644\0\0", Some(0o644)),
            (b"77777777", Some(0o77_777_777)),
            (b"", Some(0)),
            (b"\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"12\x003junk", Some(0o12)),
            (b"12 34", None),
            (b"8", None),
            (b"-1", None),
            (b"0x10", None),
            (b"1\xff", None),
        ] {
            assert_eq!(field(text), expected, "{text:?}");
        }
        assert_eq!(big(&[0x80, 0, 0, 0, 0, 0, 1, 0]), Some(256));
        assert_eq!(big(&[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Some(i64::MAX));
        assert_eq!(big(&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(big(&[0xff; 12]), Some(-1));
        assert_eq!(big(&[0xff, 0xff, 0xff, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]), Some(i64::MIN));
        assert_eq!(big(&[0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(big(&[0xbf; 12]), None);
    }

    #[test]
    fn times_are_decimal_with_a_fraction() {
        let time_of = |seconds, nanoseconds| Some(Time { seconds, nanoseconds });
        for (text, expected) in [
            ("0", time_of(0, 0)),
            ("1350244992.023960108", time_of(1_350_244_992, 23_960_108)),
            ("1.5", time_of(1, 500_000_000)),
            ("1.0000000019", time_of(1, 1)),
            ("1.", time_of(1, 0)),
            ("-1", time_of(-1, 0)),
            ("-1.25", time_of(-2, 750_000_000)),
            ("-0.5", time_of(-1, 500_000_000)),
            ("", None),
            (".5", None),
            ("1.x", None),
            ("--1", None),
            ("+1", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(time(text.as_bytes()), expected, "{text:?}");
        }
    }
}
