//! Bytes as the text of a scenario, and errnos as their names.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::io::Errno;

/// The bytes that `text` stands for.
///
/// `base64:…` is decoded, `repeat:C:N` is `N` times `C`; the rest stands for
/// itself. Text that only looks like one of them stands for itself, too.
pub fn bytes_of(text: &str) -> Vec<u8> {
    if let Some(encoded) = text.strip_prefix("base64:")
        && let Ok(bytes) = STANDARD.decode(encoded)
    {
        return bytes;
    }
    if let Some((unit, count)) = text.strip_prefix("repeat:").and_then(|it| it.split_once(':'))
        && let Ok(count) = count.parse::<usize>()
    {
        return unit.as_bytes().repeat(count);
    }
    text.as_bytes().to_vec()
}

/// `bytes` as text: themselves if printable, else `base64:…`.
pub fn text_of(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t') => text.to_owned(),
        _ => format!("base64:{}", STANDARD.encode(bytes)),
    }
}

/// The name of `errno`, as the recordings spell it.
pub fn name_of(errno: Errno) -> String {
    if errno == Errno::NOTSUP {
        return "ENOTSUP".to_owned(); // The same number as EOPNOTSUPP, which nix prefers.
    }
    format!("{:?}", nix::errno::Errno::from_raw(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_convert_both_ways() {
        for (text, bytes) in [
            ("a\n", &b"a\n"[..]),
            ("base64:AAE=", &[0, 1]),
            ("repeat:x:3", b"xxx"),
            ("repeat:x", b"repeat:x"),
        ] {
            assert_eq!(bytes_of(text), bytes, "{text}");
        }
        assert_eq!(text_of(&[0xff]), "base64:/w==");
        assert_eq!(text_of(b"tab\t"), "tab\t");
    }

    #[test]
    fn errnos_have_the_names_of_the_recordings() {
        for (errno, name) in
            [(Errno::NOTSUP, "ENOTSUP"), (Errno::AGAIN, "EAGAIN"), (Errno::NOTEMPTY, "ENOTEMPTY")]
        {
            assert_eq!(name_of(errno), name);
        }
    }
}
