//! What the kernel offers to drivers. No module is loaded to find out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::Finding;
use crate::environment::module_parameters;

/// Checks of overlayfs, aufs and FUSE.
pub fn findings(root: &Path) -> Vec<Finding> {
    let known = fs::read_to_string(root.join("proc/filesystems")).unwrap_or_default();
    let lists = |name: &str| aufs_detect::lists_filesystem(&known, name);
    vec![
        overlay(lists("overlay"), &module_parameters(root, "overlay")),
        aufs(lists("aufs")),
        fuse(lists("fuse"), root.join("dev/fuse").exists()),
    ]
}

fn overlay(listed: bool, parameters: &BTreeMap<String, String>) -> Finding {
    if !listed {
        return Finding::warn(
            "overlayfs",
            "not loaded",
            "modprobe overlay; without it its cells are skipped",
        );
    }
    let shown = ["metacopy", "redirect_dir", "index", "xino_auto"].into_iter();
    let shown: Vec<String> =
        shown.filter_map(|name| Some(format!("{name}={}", parameters.get(name)?))).collect();
    Finding::ok("overlayfs", format!("defaults {}", shown.join(" ")))
}

fn aufs(listed: bool) -> Finding {
    if listed {
        return Finding::ok("aufs", "the kernel has it");
    }
    Finding::ok("aufs", "not in this kernel; cells of aufs-kernel are skipped")
}

fn fuse(listed: bool, device: bool) -> Finding {
    match (listed, device) {
        (true, true) => Finding::ok("fuse", "/dev/fuse is there"),
        (false, _) => {
            Finding::warn("fuse", "not loaded", "modprobe fuse; without it FUSE drivers are skipped")
        }
        (true, false) => Finding::warn(
            "fuse",
            "no /dev/fuse",
            "mknod /dev/fuse c 10 229, or give the device to the container; without it FUSE drivers are skipped",
        ),
    }
}

/// Whether mounts can be made, given how entering a namespace went, and whether this process is in a user
/// namespace since: there it is root whoever started it.
pub fn privilege(entered: Result<(), String>, in_user_namespace: bool) -> Finding {
    match entered {
        Ok(()) if !in_user_namespace => Finding::ok("mounting", "allowed in a namespace of its own"),
        Ok(()) => Finding::warn(
            "mounting",
            "in a user namespace",
            "as root of the host more drivers can be measured",
        ),
        Err(reason) => Finding::red("mounting", reason, "run as root, or allow user namespaces"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level::{self, Red, Warn};
    use super::*;

    #[test]
    fn levels_follow_what_is_found() {
        let parameters = BTreeMap::from([("metacopy".to_owned(), "N".to_owned())]);
        for (finding, level, words) in [
            (overlay(true, &parameters), Level::Ok, "metacopy=N"),
            (overlay(false, &parameters), Warn, "not loaded"),
            (aufs(false), Level::Ok, "skipped"),
            (fuse(true, true), Level::Ok, "/dev/fuse"),
            (fuse(true, false), Warn, "no /dev/fuse"),
            (fuse(false, false), Warn, "not loaded"),
            (privilege(Err("unshare: refused".to_owned()), false), Red, "refused"),
            (privilege(Ok(()), false), Level::Ok, "of its own"),
            (privilege(Ok(()), true), Warn, "in a user namespace"),
        ] {
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.found.contains(words), "{finding:?}");
        }
    }
}
