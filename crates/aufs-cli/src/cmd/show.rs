//! How results are shown: columns and bytes for people, JSON for programs.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use clap::Args;
use serde::Serialize;

use super::UsageError;

/// What a list is to look like; columns by default.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Print only ids.
    #[arg(short, long, conflicts_with = "json")]
    pub quiet: bool,
}

/// Returns stdout for an archive, which a terminal is not for.
pub fn archive_stdout() -> anyhow::Result<File> {
    let stdout = io::stdout();
    if stdout.is_terminal() {
        let why = "stdout is a terminal; name a file, or pipe the archive on";
        return Err(UsageError(why.to_owned()).into());
    }
    Ok(stdout.as_fd().try_clone_to_owned()?.into())
}

/// Returns stdin for an archive, which a terminal is not for.
pub fn archive_stdin() -> anyhow::Result<File> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        let why = "stdin is a terminal; name the archive, or pipe one in";
        return Err(UsageError(why.to_owned()).into());
    }
    Ok(stdin.as_fd().try_clone_to_owned()?.into())
}

/// A text as one line that no terminal obeys: names in archives, options and directories may hold anything.
pub fn plain(text: &str) -> String {
    let plain = |it: char| {
        if it == '\n' {
            ' '
        } else if it.is_control() {
            '?'
        } else {
            it
        }
    };
    text.chars().map(plain).collect()
}

/// Writes JSON for programs.
pub fn to_json(value: &impl Serialize, out: &mut impl Write) -> anyhow::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    Ok(writeln!(out)?)
}

/// Writes rows with each column as wide as it needs to be; the first row is the heading.
pub fn write(rows: &[Vec<String>], mut out: impl Write) -> io::Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| rows.iter().filter_map(|it| it.get(at)).map(|it| it.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("   ").trim_end())?;
    }
    Ok(())
}

/// A row of texts.
pub fn row<const LEN: usize>(cells: [&str; LEN]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// Bytes with three digits and a decimal unit, as docker shows them.
pub fn bytes(count: u64) -> String {
    let mut scaled = count as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if scaled < 999.5 {
            let digits = if unit == "B" || 99.95 <= scaled {
                0
            } else if 9.995 <= scaled {
                1
            } else {
                2
            };
            return format!("{scaled:.digits$} {unit}");
        }
        scaled /= 1000.0;
    }
    format!("{scaled:.2} TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest() {
        let mut out = Vec::new();
        write(&[row(["NAME", "SIZE"]), row(["a-long-name", "1 B"]), row(["é", ""])], &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "NAME          SIZE\na-long-name   1 B\né\n");
    }

    #[test]
    fn bytes_have_three_digits() {
        for (count, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (1234, "1.23 kB"),
            (99_949, "99.9 kB"),
            (99_951, "100 kB"),
            (999_499, "999 kB"),
            (999_500, "1.00 MB"),
            (12_345_678_901, "12.3 GB"),
            (5_000_000_000_000, "5.00 TB"),
        ] {
            assert_eq!(bytes(count), expected);
        }
    }
}
