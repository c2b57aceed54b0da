//! Kernel aufs, where a kernel has it.

use std::ffi::OsString;
use std::path::Path;

use nix::mount::MsFlags;

use super::aufs_fuse::escaped;
use super::{Branch, Driver, Imported, View};
use crate::error::{At as _, Result};
use crate::host;
use crate::layers::LayerStack;

/// Kernel aufs with its defaults.
#[derive(Debug)]
pub struct AufsKernel;

/// Most branches given in one call; more options than a page are cut off by the kernel.
const BRANCHES_PER_CALL: usize = 80;

impl Driver for AufsKernel {
    fn name(&self) -> &'static str {
        "aufs-kernel"
    }

    fn needs(&self, _options: &str) -> Result<(), String> {
        match host::kernel_offers("aufs") {
            Ok(true) => Ok(()),
            Ok(false) => Err("no aufs in /proc/filesystems; this kernel was built without it".to_owned()),
            Err(error) => Err(error.line()),
        }
    }

    fn import(&self, layers: &LayerStack, _home: &Path) -> Result<Imported> {
        Ok(Imported::stacked(layers))
    }

    fn mount(&self, _options: &str, imported: &Imported, branch: Branch) -> Result<View> {
        let mut rows: Vec<OsString> = vec![perm(&branch.upper, "=rw")];
        rows.extend(imported.layers.iter().map(|layer| perm(layer, "=ro+wh")));
        let calls = option_pages(&rows, rustix::param::page_size());
        let mut view = None;
        for page in calls {
            let flags = if view.is_some() { MsFlags::MS_REMOUNT } else { MsFlags::empty() };
            nix::mount::mount(Some("aufs"), &branch.target, Some("aufs"), flags, Some(page.as_os_str()))
                .at("mount aufs on", &branch.target)?;
            // From the first call on, an error must unmount.
            view.get_or_insert_with(|| View::kernel(branch.clone()));
        }
        Ok(view.unwrap_or_else(|| View::plain(branch.target)))
    }
}

fn perm(path: &Path, perm: &str) -> OsString {
    let mut row = escaped(path);
    row.push(perm);
    row
}

/// Option strings: the first mounts, each further one appends branches by a remount.
fn option_pages(rows: &[OsString], page_size: usize) -> Vec<OsString> {
    let mut pages: Vec<OsString> = Vec::new();
    let mut count = 0;
    for row in rows {
        let fits = |page: &OsString| page.len() + row.len() + ",append:".len() < page_size;
        match pages.last_mut().filter(|page| count < BRANCHES_PER_CALL && fits(page)) {
            None => {
                let mut page = OsString::from(if pages.is_empty() { "br:" } else { "append:" });
                page.push(row);
                pages.push(page);
                count = 1;
            }
            Some(page) => {
                let first_call = page.as_encoded_bytes().starts_with(b"br:");
                page.push(if first_call { ":" } else { ",append:" });
                page.push(row);
                count += 1;
            }
        }
    }
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_are_spread_over_pages() {
        let rows = |n: usize| (0..n).map(|it| OsString::from(format!("/l/{it}=ro+wh"))).collect::<Vec<_>>();
        assert_eq!(option_pages(&rows(2), 4096), ["br:/l/0=ro+wh:/l/1=ro+wh"]);
        let pages = option_pages(&rows(100), 4096);
        assert_eq!(pages.len(), 2);
        assert!(pages[1].as_encoded_bytes().starts_with(b"append:/l/80=ro+wh,append:/l/81"));
        let tight = option_pages(&rows(100), 256);
        assert!(tight.iter().all(|page| page.len() < 256), "each fits its page");
        let total: usize = tight.iter().map(|it| it.to_string_lossy().matches("/l/").count()).sum();
        assert_eq!(total, 100, "none is lost");
    }
}
