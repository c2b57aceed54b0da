//! What the kernel's FUSE can do for this process.

use std::fmt;
use std::fs;
use std::path::Path;

use aufs_host::fuse_probe::{FuseProbe, probe};
use aufs_host::private_child::{Namespaces, Step, TrialError};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::fact::{Answer, Fact, NO_SCRATCH, explain};

const DEVICE: &str = "/dev/fuse";
const IO_URING_SWITCH: &str = "/sys/module/fuse/parameters/enable_uring";

/// What the kernel's FUSE can do for this process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FuseFacts {
    /// Whether `/dev/fuse` opens for reading and writing.
    pub device: Fact<bool>,
    /// Whether a trial mount works, in a user namespace where the process may mount only there.
    pub mount: Fact<Answer>,
    /// Version of the protocol, told by the kernel to a trial mount.
    pub abi: Fact<Option<FuseAbi>>,
    /// Whether the kernel takes a backing file.
    pub passthrough: Fact<Passthrough>,
    /// Whether requests may travel by io_uring.
    pub io_uring: Fact<Answer>,
}

/// Version of the FUSE protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FuseAbi {
    /// 7 since 2005.
    pub major: u32,
    /// Counts up with features.
    pub minor: u32,
}

impl fmt::Display for FuseAbi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// How the trial of passthrough ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Passthrough {
    /// The kernel took a backing file.
    Works,
    /// The kernel has it, but not for this process.
    NotPermitted,
    /// The kernel does not offer it.
    NotAdvertised,
    /// The kernel offers it and then fails.
    Fails,
    /// No trial could be made.
    Unknown,
}

impl Passthrough {
    /// Returns how the report shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::NotPermitted => "not permitted",
            Self::NotAdvertised => "not advertised",
            Self::Fails => "fails",
            Self::Unknown => "unknown",
        }
    }
}

/// Tries FUSE; `scratch` is a directory to hide below a tmpfs.
pub(crate) fn detect(namespaces: Namespaces, scratch: Option<&Path>) -> FuseFacts {
    let device = match fs::File::options().read(true).write(true).open(DEVICE) {
        Ok(_) => Fact::new(true, format!("{DEVICE} opens")),
        Err(error) => Fact::new(false, format!("{DEVICE}: {error}")),
    };
    let probe = match scratch {
        // Without the device there is nothing to try, and its reason is the plain one.
        _ if !device.value => Err(device.reason.clone()),
        None => Err(NO_SCRATCH.to_owned()),
        Some(scratch) => {
            probe(namespaces, scratch).map_err(|error| format!("no trial mount: {}", explain(&error)))
        }
    };
    let place = match namespaces {
        Namespaces::Mount => "a trial mount",
        Namespaces::UserAndMount => "a trial mount in a user namespace",
    };
    FuseFacts {
        mount: mount(probe.as_ref(), device.value, place),
        abi: match &probe {
            Ok(FuseProbe { abi: (major, minor), .. }) => {
                Fact::new(Some(FuseAbi { major: *major, minor: *minor }), format!("FUSE_INIT of {place}"))
            }
            Err(reason) => Fact::new(None, reason.clone()),
        },
        passthrough: match &probe {
            Ok(probe) => passthrough(probe.backing_open),
            Err(reason) => Fact::new(Passthrough::Unknown, reason.clone()),
        },
        io_uring: io_uring(fs::read_to_string(IO_URING_SWITCH)),
        device,
    }
}

fn mount(probe: Result<&FuseProbe, &String>, has_device: bool, place: &str) -> Fact<Answer> {
    match probe {
        Ok(_) => Fact::new(Answer::Yes, format!("{place} worked")),
        Err(reason) if !has_device => Fact::new(Answer::No, reason.clone()),
        Err(reason) => Fact::new(Answer::Unknown, reason.clone()),
    }
}

/// Judges how the kernel answered the offer of a backing file.
fn passthrough(backing_open: Option<Result<(), TrialError>>) -> Fact<Passthrough> {
    match backing_open {
        None => Fact::new(
            Passthrough::NotAdvertised,
            "FUSE_INIT has no FUSE_PASSTHROUGH; Linux 6.9 with CONFIG_FUSE_PASSTHROUGH has it",
        ),
        Some(Ok(())) => Fact::new(Passthrough::Works, "the kernel took a backing file"),
        Some(Err(TrialError { step: Step::OpenBacking, errno: Errno::PERM })) => Fact::new(
            Passthrough::NotPermitted,
            "FUSE_DEV_IOC_BACKING_OPEN: EPERM; it needs CAP_SYS_ADMIN in the initial user namespace",
        ),
        Some(Err(error)) => Fact::new(Passthrough::Fails, explain(&error)),
    }
}

/// Judges the text of the module's switch.
fn io_uring(switch: std::io::Result<String>) -> Fact<Answer> {
    match switch.as_deref().map(str::trim) {
        Ok("Y") => Fact::new(Answer::Yes, format!("{IO_URING_SWITCH} is Y")),
        Ok(other) => Fact::new(
            Answer::No,
            format!("{IO_URING_SWITCH} is {other}; root turns it on by writing 1, before the mount"),
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Fact::new(Answer::No, format!("there is no {IO_URING_SWITCH}; Linux 6.14 has it"))
        }
        Err(error) => Fact::new(Answer::Unknown, format!("{IO_URING_SWITCH}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn refusals_of_passthrough_are_told_apart() {
        let refused = |step, errno| Some(Err(TrialError { step, errno }));
        for (backing_open, expected) in [
            (None, Passthrough::NotAdvertised),
            (Some(Ok(())), Passthrough::Works),
            (refused(Step::OpenBacking, Errno::PERM), Passthrough::NotPermitted),
            (refused(Step::OpenBacking, Errno::OPNOTSUPP), Passthrough::Fails),
            (refused(Step::ReplyInit, Errno::PERM), Passthrough::Fails),
        ] {
            assert_eq!(passthrough(backing_open).value, expected, "{backing_open:?}");
        }
    }

    #[test]
    fn the_switch_of_io_uring_is_read() {
        for (switch, expected) in [
            (Ok("Y\n"), Answer::Yes),
            (Ok("N\n"), Answer::No),
            (Err(io::ErrorKind::NotFound), Answer::No),
            (Err(io::ErrorKind::PermissionDenied), Answer::Unknown),
        ] {
            let text = switch.map(str::to_owned).map_err(io::Error::from);
            assert_eq!(io_uring(text).value, expected, "{switch:?}");
        }
    }
}
