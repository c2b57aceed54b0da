//! Splits option texts where a separator is not escaped or quoted.

/// Words whose value may be quoted, as podman and Docker write SELinux labels.
pub(super) const QUOTED: [&[u8]; 4] = [b"context=", b"fscontext=", b"defcontext=", b"rootcontext="];

/// Splits `text` at each unescaped `separator`; escapes stay in the pieces.
pub(super) fn split(text: &[u8], separator: u8) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            found if found == separator => {
                pieces.push(&text[start..at]);
                at += 1;
                start = at;
            }
            _ => at += 1,
        }
    }
    pieces.push(&text[start..]);
    pieces
}

/// Splits an option text into words; `None` when a quote is not closed.
///
/// Quotes count only around the value of an SELinux context: elsewhere `"` is
/// an ordinary character of a file name.
pub(super) fn words(text: &[u8]) -> Option<Vec<&[u8]>> {
    let mut words = Vec::new();
    let mut rest = text;
    loop {
        let is_quoted = |name: &&&[u8]| rest.starts_with(name) && rest.get(name.len()) == Some(&b'"');
        let from = match QUOTED.iter().find(is_quoted) {
            Some(name) => name.len() + 2 + rest[name.len() + 1..].iter().position(|&it| it == b'"')?,
            None => 0,
        };
        let end = from + split(&rest[from..], b',').first().map_or(0, |it| it.len());
        words.push(&rest[..end]);
        match rest.get(end + 1..) {
            Some(more) => rest = more,
            None => return Some(words),
        }
    }
}

/// Splits at the last unescaped `=`: a path and its permission.
pub(super) fn split_perm(entry: &[u8]) -> (&[u8], Option<&[u8]>) {
    let pieces = split(entry, b'=');
    match pieces.as_slice() {
        [.., perm] if 1 < pieces.len() => (&entry[..entry.len() - perm.len() - 1], Some(perm)),
        _ => (entry, None),
    }
}

/// Characters that a backslash takes the meaning from.
const ESCAPED: &[u8] = b",:=\\";

/// Removes the escapes of a path.
pub(super) fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match (byte, bytes.peek()) {
            (b'\\', Some(next)) if ESCAPED.contains(next) => {}
            _ => {
                plain.push(byte);
                continue;
            }
        }
        plain.extend(bytes.next());
    }
    plain
}

/// Writes a path so that [`unescape`] reads it back.
pub(super) fn escape(path: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(path.len());
    for &byte in path {
        if ESCAPED.contains(&byte) {
            text.push(b'\\');
        }
        text.push(byte);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_count_unless_escaped() {
        for (text, expected) in [
            ("", &[""][..]),
            ("a:b", &["a", "b"]),
            (r"a\:b:c", &[r"a\:b", "c"]),
            (r"a\\:b", &[r"a\\", "b"]),
            (r"a\", &[r"a\"]),
            ("::", &["", "", ""]),
        ] {
            let expected: Vec<&[u8]> = expected.iter().map(|it| it.as_bytes()).collect();
            assert_eq!(split(text.as_bytes(), b':'), expected, "{text}");
        }
    }

    #[test]
    fn commas_within_a_quoted_context_do_not_split() {
        for (text, expected) in [
            ("a,b", Some(&["a", "b"][..])),
            (r#"ro,context="s0:c1,c2",rw"#, Some(&["ro", r#"context="s0:c1,c2""#, "rw"])),
            (r#"context="a"x,rw"#, Some(&[r#"context="a"x"#, "rw"])),
            (r#"br:/a"b,c"d"#, Some(&[r#"br:/a"b"#, r#"c"d"#])),
            ("context=a,b", Some(&["context=a", "b"])),
            (r#"context="a"#, None),
            (r#"context="""#, Some(&[r#"context="""#])),
            ("a,", Some(&["a", ""])),
        ] {
            let expected = expected.map(|it| it.iter().map(|it| it.as_bytes()).collect::<Vec<_>>());
            assert_eq!(words(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn the_last_equals_sign_separates_the_permission() {
        for (entry, path, perm) in [
            ("/a=rw", "/a", Some("rw")),
            ("/a=b=ro", "/a=b", Some("ro")),
            (r"/a\=b", r"/a\=b", None),
            ("/a", "/a", None),
            ("=ro", "", Some("ro")),
            ("/a=", "/a", Some("")),
        ] {
            let expected = (path.as_bytes(), perm.map(str::as_bytes));
            assert_eq!(split_perm(entry.as_bytes()), expected, "{entry}");
        }
    }

    #[test]
    fn escapes_read_back() {
        for (text, plain) in
            [(r"a\:b\,c\=d\\e", r"a:b,c=d\e"), (r"a\b", r"a\b"), (r"a\", r"a\"), (r"\\\:", r"\:")]
        {
            assert_eq!(unescape(text.as_bytes()), plain.as_bytes(), "{text}");
            assert_eq!(unescape(&escape(plain.as_bytes())), plain.as_bytes(), "{plain}");
        }
    }
}
