//! Kernel overlayfs.
//!
//! Layers are given one by one by `fsconfig(2)` (`lowerdir+`, Linux 6.8), since
//! the option page of `mount(2)` ends near a hundred layers. Older kernels get
//! the page.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};

use super::{Branch, Driver, Imported, View};
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::host;
use crate::layers::LayerStack;

/// Kernel overlayfs with the module's defaults or one option changed.
#[derive(Debug)]
pub struct Overlayfs;

/// The mount options of an option set: key, and value where it has one.
fn extra(options: &str) -> Option<(&'static str, Option<&'static str>)> {
    match options {
        "metacopy" => Some(("metacopy", Some("on"))),
        "volatile" => Some(("volatile", None)),
        "userxattr" => Some(("userxattr", None)),
        "redirect_dir" => Some(("redirect_dir", Some("on"))),
        _ => None,
    }
}

impl Driver for Overlayfs {
    fn name(&self) -> &'static str {
        "overlayfs"
    }

    fn options(&self) -> &'static [&'static str] {
        &["default", "metacopy", "volatile", "userxattr", "redirect_dir"]
    }

    fn needs(&self, _options: &str) -> Result<(), String> {
        match host::kernel_offers("overlay") {
            Ok(true) => Ok(()),
            Ok(false) => Err("no overlay in /proc/filesystems, and modprobe overlay did not help".to_owned()),
            Err(error) => Err(error.line()),
        }
    }

    fn import(&self, layers: &LayerStack, _home: &Path) -> Result<Imported> {
        // The layers hold no whiteouts, so that overlayfs reads them as they are.
        Ok(Imported::stacked(layers))
    }

    fn mount(&self, options: &str, imported: &Imported, branch: Branch) -> Result<View> {
        match mount_by_parts(options, imported, &branch) {
            Err(Errno::INVAL | Errno::NOSYS) => mount_by_page(options, imported, &branch)?,
            result => result.at("mount overlay on", &branch.target)?,
        }
        Ok(View::kernel(branch))
    }
}

/// A path that fsconfig takes: itself, or a short name of an open handle when it is too long.
fn short_path(path: &Path, handles: &mut Vec<File>) -> Result<PathBuf, Errno> {
    // fsconfig(2) takes strings of up to 256 bytes with their end.
    if path.as_os_str().len() < 256 {
        return Ok(path.to_owned());
    }
    let handle = File::open(path).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let name = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
    handles.push(handle);
    Ok(name)
}

fn mount_by_parts(options: &str, imported: &Imported, branch: &Branch) -> Result<(), Errno> {
    let mut handles = Vec::new();
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let mut set = |key: &str, path: &Path| {
        fsconfig_set_string(context.as_fd(), key, short_path(path, &mut handles)?.as_os_str().as_bytes())
    };
    for layer in &imported.layers {
        set("lowerdir+", layer)?;
    }
    set("upperdir", &branch.upper)?;
    set("workdir", &branch.work)?;
    set_extra(context.as_fd(), options)?;
    fsconfig_create(context.as_fd())?;
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let here = rustix::fs::CWD;
    move_mount(mount.as_fd(), "", here, &branch.target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn set_extra(context: BorrowedFd<'_>, options: &str) -> Result<(), Errno> {
    match extra(options) {
        None => Ok(()),
        Some((key, None)) => fsconfig_set_flag(context, key),
        Some((key, Some(value))) => fsconfig_set_string(context, key, value),
    }
}

/// The same by `mount(2)`, whose options must fit a page.
fn mount_by_page(options: &str, imported: &Imported, branch: &Branch) -> Result<()> {
    let mut page = OsString::from("lowerdir=");
    for (index, layer) in imported.layers.iter().enumerate() {
        page.push(if index == 0 { "" } else { ":" });
        page.push(layer);
    }
    for (key, dir) in [(",upperdir=", &branch.upper), (",workdir=", &branch.work)] {
        page.push(key);
        page.push(dir);
    }
    if let Some((key, value)) = extra(options) {
        page.push(format!(",{key}"));
        page.push(value.map(|value| format!("={value}")).unwrap_or_default());
    }
    if rustix::param::page_size() <= page.len() {
        let reason = format!("{} layers do not fit the option page of mount(2)", imported.layers.len());
        return Err(BenchError::new("mount overlay on", &branch.target, BenchErrorKind::Refused(reason)));
    }
    let overlay = Some("overlay");
    nix::mount::mount(overlay, &branch.target, overlay, MsFlags::empty(), Some(page.as_os_str()))
        .at("mount overlay on", &branch.target)
}
