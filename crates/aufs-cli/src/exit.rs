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
}
