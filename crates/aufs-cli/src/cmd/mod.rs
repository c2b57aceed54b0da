//! The verbs, one file each, and what their errors mean for the exit code.

use aufs_mount::error::{ErrorClass, MountError};
use aufs_mount::option::OptionError;

use crate::exit::Exit;

pub mod detect;
pub mod mount;
pub mod serve;
pub mod umount;

/// The command line is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

impl UsageError {
    /// Makes one line of clap's several.
    pub fn of_clap(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let told: Vec<&str> = text
            .lines()
            .map(str::trim)
            .take_while(|it| !it.starts_with("Usage:") && !it.starts_with("For more information"))
            .filter(|it| !it.is_empty())
            .collect();
        let line = told.join(" ");
        Self(format!("{}; see --help", line.strip_prefix("error: ").unwrap_or(&line)))
    }
}

/// Returns the exit code for an error.
pub fn exit_of(error: &anyhow::Error) -> Exit {
    if let Some(error) = error.downcast_ref::<MountError>() {
        exit_of_class(error.kind.class())
    } else if error.is::<OptionError>() || error.is::<UsageError>() {
        Exit::Usage
    } else {
        Exit::Failure
    }
}

/// Returns the exit code for a class of mount errors.
pub fn exit_of_class(class: ErrorClass) -> Exit {
    match class {
        ErrorClass::Failure => Exit::Failure,
        ErrorClass::Usage => Exit::Usage,
        ErrorClass::Unsupported => Exit::Unsupported,
        ErrorClass::Refused => Exit::Refused,
        ErrorClass::Busy => Exit::Busy,
    }
}
