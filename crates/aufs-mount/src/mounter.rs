//! Mounts a stack: with kernel aufs where a kernel has it, else with our FUSE server.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use aufs_detect::lists_filesystem;
use nix::unistd::Uid;
use serde::Serialize;

use crate::error::{MountError, MountErrorKind};
use crate::kernel::{self, KernelCall, PlanOptions};
use crate::option::{DataMode, MountOptions, Warning};
use crate::request::ServeRequest;
use crate::server;
use crate::stack::BranchStack;

/// What shows the union.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mounter {
    /// aufs of the running kernel.
    Kernel,
    /// Our FUSE server.
    Fuse,
}

/// The text is not a mounter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown mounter {0:?}, expected kernel or fuse")]
pub struct MounterError(String);

impl FromStr for Mounter {
    type Err = MounterError;

    fn from_str(text: &str) -> Result<Self, MounterError> {
        match text {
            "kernel" => Ok(Self::Kernel),
            "fuse" => Ok(Self::Fuse),
            _ => Err(MounterError(text.to_owned())),
        }
    }
}

/// What to mount, where, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MountRequest {
    /// The parsed options.
    pub options: MountOptions,
    /// Where to mount.
    pub mountpoint: PathBuf,
    /// The mounter, if not to be chosen.
    pub mounter: Option<Mounter>,
    /// The program that serves, if not to be searched for.
    pub program: Option<PathBuf>,
    /// Where the server writes its log; absolute.
    pub log: Option<PathBuf>,
}

/// A request that was checked and can be carried out; nothing has happened yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    stack: BranchStack,
    options: MountOptions,
    program: Option<PathBuf>,
    how: How,
    /// What the user should hear.
    pub warnings: Vec<Warning>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum How {
    Kernel(Vec<KernelCall>),
    Fuse(Box<ServeRequest>),
}

/// A mount that is usable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mounted {
    /// Where, as an absolute path; lossy where it is not UTF-8.
    pub mountpoint: String,
    /// By whom.
    pub mounter: Mounter,
    /// The data mode in force; none for kernel aufs.
    pub data_mode: Option<DataMode>,
    /// The serving process; none for kernel aufs.
    pub pid: Option<i32>,
}

/// Checks a request and decides who mounts it.
///
/// # Errors
///
/// Branches or mount point that cannot be used, or a mounter that this host does not have.
pub fn prepare(request: &MountRequest) -> Result<Prepared, MountError> {
    let MountRequest { options, mountpoint, mounter, program, log } = request;
    let (stack, mut warnings) = BranchStack::check(options, mountpoint)?;
    let refuse = |kind: MountErrorKind| kind.during("mount", mountpoint);
    let fuse = || How::Fuse(Box::new(ServeRequest::new(&stack, options, log.as_deref())));
    let how = match mounter {
        Some(Mounter::Kernel) => How::Kernel(plan_for_kernel(&stack, options).map_err(refuse)?),
        Some(Mounter::Fuse) => fuse(),
        None => match plan_for_kernel(&stack, options) {
            Ok(calls) => How::Kernel(calls),
            Err(reason) => {
                tracing::debug!(%reason, "not with kernel aufs");
                fuse()
            }
        },
    };
    if matches!(how, How::Fuse(_)) {
        server::check_host().map_err(refuse)?;
        if options.flags.context.as_ref().is_some_and(|it| !it.is_empty()) {
            warnings.push(Warning::ContextUnused);
        }
    }
    Ok(Prepared { stack, options: options.clone(), program: program.clone(), how, warnings })
}

impl Prepared {
    /// Returns the request for the server, unless the kernel is to mount.
    pub fn serve_request(&self) -> Option<&ServeRequest> {
        match &self.how {
            How::Kernel(_) => None,
            How::Fuse(request) => Some(request),
        }
    }

    /// Returns where this will be mounted, as an absolute path.
    pub fn mountpoint(&self) -> &Path {
        self.stack.mountpoint()
    }

    /// Mounts.
    ///
    /// # Errors
    ///
    /// What the kernel or the server reported; nothing stays mounted.
    pub fn mount(&self) -> Result<Mounted, MountError> {
        let mountpoint = self.mountpoint();
        let shown = mountpoint.to_string_lossy().into_owned();
        match &self.how {
            How::Kernel(calls) => {
                kernel::mount(calls, mountpoint, &self.options.flags)?;
                Ok(Mounted { mountpoint: shown, mounter: Mounter::Kernel, data_mode: None, pid: None })
            }
            How::Fuse(request) => {
                let program = server::find_program(self.program.as_deref());
                let program = program.map_err(|kind| kind.during("mount", mountpoint))?;
                let served = server::start(&program, request)?;
                Ok(Mounted {
                    mountpoint: shown,
                    mounter: Mounter::Fuse,
                    data_mode: Some(served.data),
                    pid: Some(served.pid),
                })
            }
        }
    }
}

/// Checks and mounts in one step; warnings go to the log.
///
/// # Errors
///
/// As [`prepare`] and [`Prepared::mount`].
pub fn mount(request: &MountRequest) -> Result<Mounted, MountError> {
    let prepared = prepare(request)?;
    for warning in &prepared.warnings {
        tracing::warn!("{warning}");
    }
    prepared.mount()
}

/// Decides the kernel's calls, or says why the kernel cannot show this stack.
fn plan_for_kernel(stack: &BranchStack, options: &MountOptions) -> Result<Vec<KernelCall>, MountErrorKind> {
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !lists_filesystem(&filesystems, "aufs") {
        return Err(MountErrorKind::NoKernelAufs);
    }
    let cannot = |reason: &str| MountErrorKind::KernelAufsCannot { reason: reason.to_owned() };
    if !Uid::effective().is_root() {
        return Err(cannot("only root may mount it"));
    }
    if options.data.is_some_and(|it| it != DataMode::Auto) {
        return Err(cannot("it has no data= modes"));
    }
    if options.sync {
        return Err(cannot("it has no sync copy-ups"));
    }
    if options.volatile {
        return Err(cannot("it flushes when asked to"));
    }
    if options.no_xattrs {
        return Err(cannot("it keeps extended attributes"));
    }
    if options.transport.is_some() {
        return Err(cannot("it needs no transport"));
    }
    if options.workdir.is_some() {
        return Err(cannot("it has no workdir"));
    }
    let plan_options = PlanOptions {
        page_size: rustix::param::page_size(),
        dirperm1: true,
        udba: options.udba,
        always_opaque: options.always_opaque,
        context: options.flags.context.clone().filter(|it| !it.is_empty()),
    };
    kernel::plan(stack.branches(), &plan_options)
        .map_err(|reason| MountErrorKind::KernelAufsCannot { reason })
}
