//! How a run is made again: what a command does, and the command.

use crate::run::journal::RunRecord;

/// What makes the run again.
pub fn commands(run: &RunRecord) -> Vec<(String, String)> {
    let host = &run.header.host;
    let recorded = &run.header.command;
    let (how, command) = if recorded.is_empty() {
        let how =
            "As far as this run recorded it: the same matrix in the same order; give --budget and --backing.";
        (how, format!("aufs-bench run --matrix {} --seed {}", shell_word(&host.matrix), host.seed))
    } else {
        let command: Vec<String> = recorded.iter().map(|it| shell_word(it)).collect();
        let seed = if recorded.iter().any(|it| it.starts_with("--seed")) {
            String::new()
        } else {
            format!(" --seed {}", host.seed)
        };
        ("The command, with the seed that it drew.", format!("aufs-bench {}{seed}", command.join(" ")))
    };
    let report = "This page again, from its samples.";
    vec![(how.to_owned(), command), (report.to_owned(), "aufs-bench report DIR".to_owned())]
}

/// `word` as a shell reads it back.
pub fn shell_word(word: &str) -> String {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "-_./=:,+@%".contains(it);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        for (word, expected) in [
            ("--seed=3", "--seed=3"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$(x)", "'$(x)'"),
        ] {
            assert_eq!(shell_word(word), expected);
        }
    }
}
