//! Exit codes of the `aufs` command; part of its interface.

use std::process::ExitCode;

/// What the exit code of `aufs` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// The operation failed; stderr says why.
    Failure = 1,
    /// The command line or an option is wrong.
    Usage = 2,
    /// This host, or this user's rights, lack what the command needs.
    Unsupported = 3,
    /// A branch or the mount point cannot be used as asked; nothing was changed.
    Refused = 4,
    /// The mount is in use.
    Busy = 5,
}

/// The codes as the help text shows them.
pub const HELP: &str = "\
Exit codes:
  0  done
  1  the operation failed; stderr says why
  2  the command line or an option is wrong
  3  this host, or this user's rights, lack what the command needs
  4  a branch or the mount point cannot be used as asked; nothing was changed
  5  the mount is in use";

/// What the exit code of `aufs fsck` says.
///
/// Source: fsck(8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FsckExit {
    /// Nothing is wrong.
    Clean = 0,
    /// All that was wrong is repaired.
    Repaired = 1,
    /// Something is wrong.
    Left = 4,
    /// The data root could not be looked at; stderr says why.
    Failure = 8,
}

/// The codes of `aufs fsck` as its help text shows them.
pub const FSCK_HELP: &str = "\
Exit codes, as those of fsck(8):
  0  nothing is wrong
  1  all that was wrong is repaired
  2  the command line is wrong
  4  something is wrong
  8  the data root could not be looked at; stderr says why";

impl Exit {
    /// Returns the exit code for a number from the serving process.
    pub fn of_code(code: u8) -> Self {
        [Self::Success, Self::Usage, Self::Unsupported, Self::Refused, Self::Busy]
            .into_iter()
            .find(|it| *it as u8 == code)
            .unwrap_or(Self::Failure)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<FsckExit> for ExitCode {
    fn from(exit: FsckExit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_read_back_and_are_in_the_help() {
        for code in 0..=5 {
            assert_eq!(Exit::of_code(code) as u8, code);
            assert!(HELP.contains(&format!("\n  {code}  ")), "{code}");
        }
        assert_eq!(Exit::of_code(99), Exit::Failure);
    }

    #[test]
    fn codes_of_fsck_are_in_its_help() {
        for exit in [FsckExit::Clean, FsckExit::Repaired, FsckExit::Left, FsckExit::Failure] {
            assert!(FSCK_HELP.contains(&format!("\n  {}  ", exit as u8)), "{exit:?}");
        }
    }
}
