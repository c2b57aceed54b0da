//! What a mount asks of the kernel, and which data mode comes of it; pure.

use aufs_fusedev::abi::PAGE_LEN_BYTES;
use aufs_fusedev::abi::flags::InitFlags;
use aufs_fusedev::init::{Offer, RING_DEPTH, Wanted};
use aufs_union::Union;

use crate::options::{DataMode, ServeOptions};
use crate::shared::REQUEST_LEN_BYTES_MAX;

/// How far the kernel reads ahead where pages are its own.
pub(crate) const READ_AHEAD_LEN_BYTES: u32 = REQUEST_LEN_BYTES;
/// Longest request on a host that was not told otherwise.
const REQUEST_LEN_BYTES: u32 = 1 << 20;
/// Where an administrator allows longer requests, in pages, since Linux 6.13.
const PAGES_LIMIT: &str = "/proc/sys/fs/fuse/max_pages_limit";
/// Read-aheads and delayed writes that may be on their way together.
const BACKGROUND_MAX: u16 = 64;
/// The most the kernel allows, so that branches may themselves lie on overlayfs.
const STACK_DEPTH_MAX: u32 = 2;

/// What decides about the data mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needs {
    /// What was asked for.
    asked: DataMode,
    /// Branches may change behind the union, so every open must reach the server.
    revalidates: bool,
    /// Only root of the host may give the kernel backing files.
    is_host_root: bool,
    /// Every write finds a branch that takes it.
    is_top_writable: bool,
    /// ACLs are extended attributes.
    has_xattrs: bool,
    request_len_bytes: u32,
}

/// Returns the length of requests to ask for, by the text of the kernel's limit.
fn request_len_bytes(pages_limit: Option<&str>) -> u32 {
    let pages: u32 = pages_limit.and_then(|it| it.trim().parse().ok()).unwrap_or(0);
    let page_len_bytes = u32::try_from(PAGE_LEN_BYTES).unwrap_or(u32::MAX);
    pages.saturating_mul(page_len_bytes).clamp(REQUEST_LEN_BYTES, REQUEST_LEN_BYTES_MAX)
}

impl Needs {
    pub(crate) fn of(union: &Union, options: &ServeOptions) -> Self {
        Self {
            asked: options.data,
            revalidates: options.revalidate,
            is_host_root: union.has_host_privilege(),
            is_top_writable: union.is_top_writable(),
            has_xattrs: !options.no_xattrs,
            request_len_bytes: request_len_bytes(std::fs::read_to_string(PAGES_LIMIT).ok().as_deref()),
        }
    }

    /// Says why there can be no passthrough where it is demanded.
    pub(crate) fn refuse_passthrough(self) -> Result<(), &'static str> {
        match (self.asked, self.may_pass()) {
            (DataMode::Passthrough, Err(reason)) => Err(reason),
            _ => Ok(()),
        }
    }

    fn may_pass(self) -> Result<(), &'static str> {
        if self.revalidates {
            // Changes behind the union are seen only when the server is asked each time.
            Err("udba=reval needs every open")
        } else if self.is_host_root {
            Ok(())
        } else {
            Err("it needs root in the initial user namespace")
        }
    }

    /// Returns the mode of a kernel that offers, or agreed on, `flags`; never [`DataMode::Auto`].
    pub(crate) fn mode(self, flags: InitFlags) -> DataMode {
        match self.asked {
            DataMode::Auto | DataMode::Passthrough
                if self.may_pass().is_ok() && flags.contains(InitFlags::PASSTHROUGH) =>
            {
                DataMode::Passthrough
            }
            DataMode::Cached => DataMode::Cached,
            _ if self.revalidates => DataMode::Cached,
            _ => DataMode::NoOpen,
        }
    }

    /// Returns what a server can make use of.
    pub(crate) fn wanted(self, offer: &Offer) -> Wanted {
        let mut flags = InitFlags::ASYNC_READ
            | InitFlags::BIG_WRITES
            | InitFlags::DONT_MASK
            | InitFlags::DO_READDIRPLUS
            | InitFlags::READDIRPLUS_AUTO
            | InitFlags::ASYNC_DIO
            | InitFlags::PARALLEL_DIROPS
            | InitFlags::ABORT_ERROR
            | InitFlags::CACHE_SYMLINKS
            | InitFlags::NO_OPENDIR_SUPPORT
            | InitFlags::HANDLE_KILLPRIV_V2
            | InitFlags::SETXATTR_EXT
            | InitFlags::HAS_EXPIRE_ONLY;
        flags.set(InitFlags::AUTO_INVAL_DATA, self.revalidates);
        flags.set(InitFlags::POSIX_ACL, self.has_xattrs);
        flags |= match self.mode(offer.flags) {
            // Never ATOMIC_O_TRUNC: the kernel would take truncations for done that no OPEN told the server of.
            // Never a late answer to a write that no branch may take.
            DataMode::NoOpen if self.is_top_writable => {
                InitFlags::NO_OPEN_SUPPORT | InitFlags::WRITEBACK_CACHE
            }
            DataMode::NoOpen => InitFlags::NO_OPEN_SUPPORT,
            // Here a truncation of its own would come too late: opening has copied the bytes up by then.
            DataMode::Passthrough => InitFlags::ATOMIC_O_TRUNC | InitFlags::PASSTHROUGH,
            // The kernel looks whether the file is being executed before it truncates, but after it opens.
            DataMode::Cached | DataMode::Auto => InitFlags::empty(),
        };
        Wanted {
            flags,
            request_len_bytes_max: self.request_len_bytes,
            readahead_len_bytes: READ_AHEAD_LEN_BYTES,
            background_max: BACKGROUND_MAX,
            stack_depth_max: STACK_DEPTH_MAX,
            ring_depth: RING_DEPTH,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Needs = Needs {
        asked: DataMode::Auto,
        revalidates: false,
        is_host_root: true,
        is_top_writable: true,
        has_xattrs: true,
        request_len_bytes: REQUEST_LEN_BYTES,
    };
    const USER: Needs = Needs { is_host_root: false, ..ROOT };

    #[test]
    fn the_mode_follows_from_what_was_asked_and_what_the_kernel_offers() {
        use DataMode::{Auto, Cached, NoOpen, Passthrough};
        let (new, old) = (InitFlags::all(), InitFlags::all() - InitFlags::PASSTHROUGH);
        for (case, needs, asked, flags, expected) in [
            ("root", ROOT, Auto, new, Passthrough),
            ("root on an old kernel", ROOT, Auto, old, NoOpen),
            ("root who wants no opens", ROOT, NoOpen, new, NoOpen),
            ("a user namespace", USER, Auto, new, NoOpen),
            ("cached as asked", ROOT, Cached, new, Cached),
            ("branches that change", Needs { revalidates: true, ..ROOT }, Auto, new, Cached),
            ("branches that change, no opens", Needs { revalidates: true, ..ROOT }, NoOpen, new, Cached),
        ] {
            assert_eq!(Needs { asked, ..needs }.mode(flags), expected, "{case}");
        }
    }

    #[test]
    fn requests_are_as_long_as_the_host_allows() {
        for (limit, expected) in [
            (None, 1 << 20),
            (Some("256\n"), 1 << 20),
            (Some("512\n"), 2 << 20),
            (Some("65535\n"), REQUEST_LEN_BYTES_MAX),
            (Some("1\n"), 1 << 20),
            (Some("many"), 1 << 20),
        ] {
            assert_eq!(request_len_bytes(limit), expected, "{limit:?}");
        }
    }

    #[test]
    fn passthrough_that_cannot_be_is_refused_only_where_it_is_demanded() {
        let demanded = |needs: Needs| Needs { asked: DataMode::Passthrough, ..needs }.refuse_passthrough();
        assert_eq!(demanded(ROOT), Ok(()));
        assert!(demanded(USER).is_err() && demanded(Needs { revalidates: true, ..ROOT }).is_err());
        assert_eq!(USER.refuse_passthrough(), Ok(()));
    }

    #[test]
    fn truncations_and_refused_writes_are_never_lost_without_opens() {
        let offer = |flags| Offer { minor: 45, flags, readahead_len_bytes_max: 1 << 17 };
        let without_opens = Needs { asked: DataMode::NoOpen, ..ROOT };
        let wanted = without_opens.wanted(&offer(InitFlags::all())).flags;
        assert!(wanted.contains(InitFlags::NO_OPEN_SUPPORT | InitFlags::WRITEBACK_CACHE));
        assert!(!wanted.intersects(InitFlags::ATOMIC_O_TRUNC | InitFlags::PASSTHROUGH));
        let below = Needs { is_top_writable: false, ..without_opens };
        assert!(!below.wanted(&offer(InitFlags::all())).flags.contains(InitFlags::WRITEBACK_CACHE));
        let passing = ROOT.wanted(&offer(InitFlags::all())).flags;
        assert!(passing.contains(InitFlags::PASSTHROUGH) && !passing.contains(InitFlags::WRITEBACK_CACHE));
        let cached = Needs { asked: DataMode::Cached, ..ROOT }.wanted(&offer(InitFlags::all())).flags;
        assert!(!cached.contains(InitFlags::ATOMIC_O_TRUNC), "a running program would be cut");
    }
}
