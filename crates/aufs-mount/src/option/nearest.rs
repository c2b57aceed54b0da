//! The known word a mistyped one was probably meant to be.

/// Returns the word of `known` with the fewest edits from `word`, if few enough.
pub(super) fn nearest(word: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    // A hostile word may be 128 KiB long; no option is longer than this.
    if 40 < word.len() {
        return None;
    }
    let allowed = 1.max(word.len() / 3);
    known
        .map(|it| (edits(word.as_bytes(), it.as_bytes()), it))
        .filter(|it| it.0 <= allowed)
        .min()
        .map(|it| it.1)
}

/// Counts insertions, deletions, replacements and swaps of neighbours.
fn edits(from: &[u8], to: &[u8]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let mut cost = (last[j] + usize::from(a != b)).min(last[j + 1] + 1).min(row[j] + 1);
            if 0 < i && 0 < j && *a == to[j - 1] && from[i - 1] == *b {
                cost = cost.min(before[j - 1] + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_edits_win() {
        let known = || ["lowerdir", "upperdir", "workdir", "ro", "rw", "data"].into_iter();
        for (word, expected) in [
            ("lowedir", Some("lowerdir")),
            ("uperdir", Some("upperdir")),
            ("dtaa", Some("data")),
            ("or", Some("ro")),
            ("zzzzz", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known()), expected, "{word}");
        }
        assert_eq!(nearest(&"a".repeat(100_000), known()), None);
    }
}
