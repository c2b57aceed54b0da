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
use crate::layers::LayerStack;
use crate::{host, sandbox};

/// Kernel overlayfs with the module's defaults or one option changed.
#[derive(Debug)]
pub struct Overlayfs;

/// A mount option: key, and value where it has one.
type MountOption = (&'static str, Option<&'static str>);

const METACOPY: MountOption = ("metacopy", Some("on"));
const REDIRECT_DIR: MountOption = ("redirect_dir", Some("on"));
const USERXATTR: MountOption = ("userxattr", None);
const VOLATILE: MountOption = ("volatile", None);

/// The mount options of an option set.
fn options_of(set: &str) -> &'static [MountOption] {
    match set {
        "metacopy" => &[METACOPY],
        "volatile" => &[VOLATILE],
        "metacopy+volatile" => &[METACOPY, VOLATILE],
        "userxattr" => &[USERXATTR],
        "redirect_dir" => &[REDIRECT_DIR],
        _ => &[],
    }
}

/// The mount options of `set` in a user namespace or outside.
///
/// In one, overlayfs cannot write its `trusted.*` attributes; `userxattr`, which
/// container engines give there too, makes it use `user.*` instead.
fn given(set: &str, in_user_namespace: bool) -> Vec<MountOption> {
    let mut options = options_of(set).to_vec();
    if in_user_namespace && !options.contains(&USERXATTR) {
        options.push(USERXATTR);
    }
    options
}

/// Why the kernel refuses `set` in a user namespace, if it does.
fn refused_in_user_namespace(set: &str) -> Option<String> {
    let trusted = options_of(set).iter().find(|it| [METACOPY, REDIRECT_DIR].contains(it))?;
    Some(format!("{} needs trusted.* attributes, which only the host's root may write", trusted.0))
}

impl Driver for Overlayfs {
    fn name(&self) -> &'static str {
        "overlayfs"
    }

    fn options(&self) -> &'static [&'static str] {
        &["default", "metacopy", "volatile", "userxattr", "redirect_dir", "metacopy+volatile"]
    }

    fn needs(&self, options: &str) -> Result<(), String> {
        if sandbox::in_user_namespace()
            && let Some(reason) = refused_in_user_namespace(options)
        {
            return Err(reason);
        }
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
        let options = given(options, sandbox::in_user_namespace());
        match mount_by_parts(&options, imported, &branch) {
            Err(Errno::INVAL | Errno::NOSYS) => mount_by_page(&options, imported, &branch)?,
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

fn mount_by_parts(options: &[MountOption], imported: &Imported, branch: &Branch) -> Result<(), Errno> {
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
    set_options(context.as_fd(), options)?;
    fsconfig_create(context.as_fd())?;
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let here = rustix::fs::CWD;
    move_mount(mount.as_fd(), "", here, &branch.target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn set_options(context: BorrowedFd<'_>, options: &[MountOption]) -> Result<(), Errno> {
    options.iter().try_for_each(|(key, value)| match value {
        None => fsconfig_set_flag(context, *key),
        Some(value) => fsconfig_set_string(context, *key, *value),
    })
}

/// The same by `mount(2)`, whose options must fit a page.
fn mount_by_page(options: &[MountOption], imported: &Imported, branch: &Branch) -> Result<()> {
    let mut page = OsString::from("lowerdir=");
    for (index, layer) in imported.layers.iter().enumerate() {
        page.push(if index == 0 { "" } else { ":" });
        page.push(layer);
    }
    for (key, dir) in [(",upperdir=", &branch.upper), (",workdir=", &branch.work)] {
        page.push(key);
        page.push(dir);
    }
    for (key, value) in options {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_option_set_has_options_of_its_own() {
        let sets: Vec<_> = Overlayfs.options().iter().map(|it| options_of(it)).collect();
        for (index, options) in sets.iter().enumerate() {
            assert!(!sets[index + 1..].contains(options), "{options:?} twice");
        }
        for (set, inside, expected) in [
            ("default", false, &[][..]),
            ("default", true, &[USERXATTR]),
            ("userxattr", true, &[USERXATTR]),
            ("volatile", true, &[VOLATILE, USERXATTR]),
            ("metacopy+volatile", false, &[METACOPY, VOLATILE]),
        ] {
            assert_eq!(given(set, inside), expected, "{set}, in a user namespace: {inside}");
        }
    }

    #[test]
    fn sets_that_need_trusted_attributes_say_so() {
        let refused = |it: &&str| refused_in_user_namespace(it).is_some();
        let all: Vec<_> = Overlayfs.options().iter().copied().filter(refused).collect();
        assert_eq!(all, ["metacopy", "redirect_dir", "metacopy+volatile"]);
    }
}
