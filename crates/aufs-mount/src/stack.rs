//! Branch stacks that can be mounted: looked at, and found to fit together.
//!
//! Every refusal happens here, before anything is mounted or written. Paths come
//! out absolute and free of symlinks, since the server works from `/` and podman
//! names layers by symlinks.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aufs_union::branch::{BranchPerm, BranchSpec};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};

use crate::error::{MountError, MountErrorKind};
use crate::option::{MountOptions, Warning, path_line};
use crate::overlay_marks;

/// Most branches in one stack: what an index of 16 bits counts.
pub const BRANCHES_MAX: usize = 65_535;

/// A checked stack and where it is to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchStack {
    branches: Vec<BranchSpec>,
    workdir: Option<PathBuf>,
    mountpoint: PathBuf,
}

/// A directory as found on the host.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    dev: u64,
    ino: u64,
}

impl BranchStack {
    /// Checks the branches, the workdir and the mount point against each other and the host.
    ///
    /// Writes nothing. Of several `rw` branches only the first stays so. Under `ro`, a
    /// writable branch that cannot be written becomes `ro+wh`.
    ///
    /// # Errors
    ///
    /// The first thing found that cannot be used; class [`Refused`] or [`Usage`].
    ///
    /// [`Refused`]: crate::error::ErrorClass::Refused
    /// [`Usage`]: crate::error::ErrorClass::Usage
    pub fn check(options: &MountOptions, mountpoint: &Path) -> Result<(Self, Vec<Warning>), MountError> {
        let mount_place = look("mount point", mountpoint)?;
        let count = options.branches.len();
        if count == 0 {
            return Err(MountErrorKind::NoBranches.during("mount", mountpoint));
        }
        if BRANCHES_MAX < count {
            return Err(MountErrorKind::TooManyBranches { count }.during("mount", mountpoint));
        }
        let places: Vec<Place> =
            options.branches.iter().map(|it| look("branch", &it.path)).collect::<Result<_, _>>()?;
        refuse_twins(&places)?;
        refuse_nesting(&places)?;
        refuse_mounting_inside(&mount_place, &places)?;

        let mut warnings = Vec::new();
        let mut branches: Vec<BranchSpec> = places
            .iter()
            .zip(&options.branches)
            .map(|(place, spec)| BranchSpec { path: place.path.clone(), perm: spec.perm })
            .collect();
        warnings.extend(keep_one_writable(&mut branches));
        warnings.extend(check_writable(&mut branches, options.flags.read_only == Some(true))?);
        warnings.extend(find_overlay_markers(&branches));
        let upper = branches.iter().position(|it| it.perm.is_writable()).and_then(|it| places.get(it));
        let workdir = match (&options.workdir, upper) {
            (Some(given), Some(upper)) => Some(check_workdir(given, upper, &places)?),
            (Some(_), None) => {
                warnings.push(Warning::WorkdirUnused);
                None
            }
            (None, _) => None,
        };
        Ok((Self { branches, workdir, mountpoint: mount_place.path }, warnings))
    }

    /// Returns the branches, topmost first, with absolute paths; at most one is `rw`.
    pub fn branches(&self) -> &[BranchSpec] {
        &self.branches
    }

    /// Returns the absolute path of the workdir, on the file system of the `rw` branch.
    pub fn workdir(&self) -> Option<&Path> {
        self.workdir.as_deref()
    }

    /// Returns the absolute path of the mount point.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }
}

/// Finds the directory behind `path`, through symlinks and from the current directory.
fn look(op: &'static str, path: &Path) -> Result<Place, MountError> {
    let refuse = |error: std::io::Error| {
        match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
            Errno::ENOENT => MountErrorKind::Missing,
            Errno::ENOTDIR => MountErrorKind::NotDirectory,
            Errno::ENOTCONN => MountErrorKind::DeadMount,
            errno => MountErrorKind::Inaccessible(errno),
        }
        .during(op, path)
    };
    // Looked at before it is resolved: resolving a dead mount gives a less telling errno.
    let found = fs::metadata(path).map_err(refuse)?;
    if !found.is_dir() {
        return Err(MountErrorKind::NotDirectory.during(op, path));
    }
    if is_dead(path) {
        return Err(MountErrorKind::DeadMount.during(op, path));
    }
    let path = fs::canonicalize(path).map_err(refuse)?;
    Ok(Place { path, dev: found.dev(), ino: found.ino() })
}

/// Whether a FUSE mount without a server lies at `path`; the kernel may know its attributes still,
/// but has to ask for its sizes. Who asks while the server dies is told that the connection is aborted.
pub(crate) fn is_dead(path: &Path) -> bool {
    matches!(nix::sys::statvfs::statvfs(path), Err(Errno::ENOTCONN | Errno::ECONNABORTED))
}

/// Two branches may be one directory under two names, by a bind mount for instance.
fn refuse_twins(places: &[Place]) -> Result<(), MountError> {
    let mut seen = HashMap::new();
    for place in places {
        if let Some(other) = seen.insert((place.dev, place.ino), place) {
            let kind = MountErrorKind::Twice { other: other.path.clone() };
            return Err(kind.during("branch", &place.path));
        }
    }
    Ok(())
}

fn refuse_nesting(places: &[Place]) -> Result<(), MountError> {
    let mut sorted: Vec<&Path> = places.iter().map(|it| it.path.as_path()).collect();
    sorted.sort_unstable();
    // Paths sort by component, so what lies inside a directory follows it at once.
    for pair in sorted.windows(2) {
        if let [outer, inner] = pair
            && inner.starts_with(outer)
        {
            let kind = MountErrorKind::Nested { outer: outer.to_path_buf() };
            return Err(kind.during("branch", inner));
        }
    }
    Ok(())
}

fn refuse_mounting_inside(mountpoint: &Place, places: &[Place]) -> Result<(), MountError> {
    for Place { path: branch, dev, ino } in places {
        let kind = if (*dev, *ino) == (mountpoint.dev, mountpoint.ino) || mountpoint.path.starts_with(branch)
        {
            MountErrorKind::InsideBranch { branch: branch.clone() }
        } else if branch.starts_with(&mountpoint.path) {
            MountErrorKind::AroundBranch { branch: branch.clone() }
        } else {
            continue;
        };
        return Err(kind.during("mount point", &mountpoint.path));
    }
    Ok(())
}

fn keep_one_writable(branches: &mut [BranchSpec]) -> Option<Warning> {
    let further: Vec<&mut BranchSpec> =
        branches.iter_mut().filter(|it| it.perm.is_writable()).skip(1).collect();
    let paths: Vec<String> = further.iter().map(|it| path_line(&it.path)).collect();
    for branch in further {
        branch.perm = BranchPerm::ReadOnly { whiteouts: true };
    }
    (!paths.is_empty()).then_some(Warning::ManyWritable { paths })
}

fn check_writable(branches: &mut [BranchSpec], mount_is_ro: bool) -> Result<Option<Warning>, MountError> {
    let Some(branch) = branches.iter_mut().find(|it| it.perm.is_writable()) else {
        return Ok(None);
    };
    let wanted = AccessFlags::W_OK | AccessFlags::X_OK;
    match faccessat(AT_FDCWD, &branch.path, wanted, AtFlags::AT_EACCESS) {
        Ok(()) => Ok(None),
        Err(errno) if mount_is_ro => {
            branch.perm = BranchPerm::ReadOnly { whiteouts: true };
            Ok(Some(Warning::Demoted { path: path_line(&branch.path), reason: errno.desc().to_owned() }))
        }
        Err(errno) => Err(MountErrorKind::NotWritable(errno).during("branch", &branch.path)),
    }
}

fn check_workdir(given: &Path, upper: &Place, branches: &[Place]) -> Result<PathBuf, MountError> {
    let place = look("workdir", given)?;
    if place.dev != upper.dev {
        let kind = MountErrorKind::WorkdirElsewhere { upper: upper.path.clone() };
        return Err(kind.during("workdir", given));
    }
    // Drafts inside a branch would show in the union, as would the branch's files among the drafts.
    for branch in branches {
        if place.path.starts_with(&branch.path) || branch.path.starts_with(&place.path) {
            let outer = if place.path.starts_with(&branch.path) { &branch.path } else { &place.path };
            return Err(MountErrorKind::Nested { outer: outer.clone() }.during("workdir", given));
        }
    }
    let wanted = AccessFlags::W_OK | AccessFlags::X_OK;
    faccessat(AT_FDCWD, &place.path, wanted, AtFlags::AT_EACCESS)
        .map_err(|errno| MountErrorKind::NotWritable(errno).during("workdir", given))?;
    Ok(place.path)
}

fn find_overlay_markers(branches: &[BranchSpec]) -> Option<Warning> {
    branches.iter().find_map(|branch| {
        let marker = overlay_marks::find(&branch.path)?;
        Some(Warning::OverlayMarkers { path: path_line(&branch.path), marker })
    })
}
