//! The verbs, one file each, and what their errors mean for the exit code.

use std::process::ExitCode;

use aufs_fuse::FuseError;
use aufs_mount::error::{ErrorClass, MountError};
use aufs_mount::option::OptionError;
use aufs_storage::container::{ContainerError, ContainerErrorKind};
use aufs_storage::error::{StorageError, StorageErrorKind};
use aufs_storage::image::error::{ImageError, ImageErrorKind};
use aufs_union::OpenUnionError;
use nix::errno::Errno;

use crate::exit::{Exit, FsckExit};

pub mod branch;
pub mod container;
mod cp;
pub mod detect;
pub mod exec;
pub mod fsck;
pub mod image;
pub mod info;
pub mod live;
pub mod manual;
pub mod mount;
pub mod root;
pub mod serve;
pub mod show;
pub mod stat;
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

/// Opening a union, or mounting it, failed in this process.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ServeError {
    /// One line for the user.
    pub message: String,
    /// The errno behind it.
    pub errno: i32,
    /// What to exit with.
    pub exit: Exit,
}

impl ServeError {
    /// The union could not be opened.
    pub fn of_union(error: OpenUnionError) -> Self {
        let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |it| it.source());
        let message = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        let exit = match error {
            OpenUnionError::NoBranches => Exit::Usage,
            OpenUnionError::Marker(_) => Exit::Failure,
            _ => Exit::Refused,
        };
        Self { message, errno: error.errno().raw_os_error(), exit }
    }

    /// The union could not be mounted.
    pub fn of_fuse(error: FuseError) -> Self {
        let errno = error.errno().raw_os_error();
        let exit = match error {
            FuseError::Device(_) | FuseError::NoPassthrough { .. } | FuseError::NoIoUring(_) => {
                Exit::Unsupported
            }
            _ if errno == Errno::EPERM as i32 => Exit::Unsupported,
            _ => Exit::Failure,
        };
        Self { message: error.to_string(), errno, exit }
    }
}

/// Returns the exit code for an error.
pub fn code_of(error: &anyhow::Error) -> ExitCode {
    match error.is::<fsck::FsckError>() {
        true => FsckExit::Failure.into(),
        false => exit_of(error).into(),
    }
}

fn exit_of(error: &anyhow::Error) -> Exit {
    if error.is::<live::PartlyDone>() {
        Exit::Failure
    } else if let Some(error) = error.downcast_ref::<MountError>() {
        exit_of_class(error.kind.class())
    } else if let Some(error) = error.downcast_ref::<ServeError>() {
        error.exit
    } else if let Some(error) = error.downcast_ref::<live::ChangeError>() {
        error.exit()
    } else if let Some(error) = error.downcast_ref::<StorageError>() {
        exit_of_storage(&error.kind)
    } else if let Some(error) = error.downcast_ref::<ImageError>() {
        exit_of_image(&error.kind)
    } else if let Some(error) = error.downcast_ref::<ContainerError>() {
        exit_of_container(&error.kind)
    } else if error.is::<OptionError>() || error.is::<UsageError>() {
        Exit::Usage
    } else {
        Exit::Failure
    }
}

fn exit_of_storage(kind: &StorageErrorKind) -> Exit {
    match kind {
        StorageErrorKind::Mount(error) => exit_of_class(error.kind.class()),
        StorageErrorKind::InUse { .. } => Exit::Busy,
        StorageErrorKind::Call { errno, .. } => match *errno {
            rustix::io::Errno::PERM | rustix::io::Errno::ACCESS => Exit::Unsupported,
            _ => Exit::Failure,
        },
        StorageErrorKind::Archive(_)
        | StorageErrorKind::Record { .. }
        | StorageErrorKind::Branches(_)
        | StorageErrorKind::Union(_) => Exit::Failure,
        _ => Exit::Refused,
    }
}

fn exit_of_image(kind: &ImageErrorKind) -> Exit {
    match kind {
        ImageErrorKind::Reference(_) => Exit::Usage,
        ImageErrorKind::Unknown | ImageErrorKind::Ambiguous { .. } => Exit::Refused,
        ImageErrorKind::InUse { .. } => Exit::Busy,
        ImageErrorKind::Storage(kind) => exit_of_storage(kind),
        ImageErrorKind::Driver(error) => exit_of_storage(&error.kind),
        _ => Exit::Failure,
    }
}

fn exit_of_container(kind: &ContainerErrorKind) -> Exit {
    match kind {
        ContainerErrorKind::Name => Exit::Usage,
        ContainerErrorKind::Started => Exit::Busy,
        ContainerErrorKind::Interrupted => Exit::Failure,
        ContainerErrorKind::Image(error) => exit_of_image(&error.kind),
        ContainerErrorKind::Driver(error) => exit_of_storage(&error.kind),
        ContainerErrorKind::Storage(kind) => exit_of_storage(kind),
        _ => Exit::Refused,
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
