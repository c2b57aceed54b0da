//! INIT: what both sides can do, and what they agree on.
//!
//! Pure: [`Offer`] is what the kernel says, [`Wanted`] what the server would
//! like, [`settle`] finds what is in force. A flag the kernel does not offer is
//! never agreed on, so a server asks for all it can use and looks at
//! [`Agreed::flags`] afterwards.

use crate::abi::flags::InitFlags;
use crate::abi::replies::InitOut;
use crate::abi::requests::InitIn;
use crate::abi::{MAJOR, MINOR, MINOR_MIN, PAGE_LEN_BYTES};

/// What the kernel offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Its minor version.
    pub minor: u32,
    /// What it can do.
    pub flags: InitFlags,
    /// How far it reads ahead at most, in bytes.
    pub readahead_len_bytes_max: u32,
}

/// What the server would like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// What it can make use of.
    pub flags: InitFlags,
    /// Longest read or write, in bytes.
    pub request_len_bytes_max: u32,
    /// How far the kernel may read ahead, in bytes.
    pub readahead_len_bytes: u32,
    /// Requests without a waiting caller that may be on their way.
    pub background_max: u16,
    /// How many file systems may lie between this one and the last of its backing files.
    pub stack_depth_max: u32,
    /// Requests from one CPU that may be on their way over io_uring: [`RING_DEPTH`] unless there is a reason.
    pub ring_depth: u16,
}

/// Room for the long requests of a build with dozens of processes on few CPUs, and for short ones besides them.
///
/// A long request keeps its place until it is answered. An unused place costs some 500 bytes of the kernel's memory.
pub const RING_DEPTH: u16 = 32;

/// What is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// The minor version.
    pub minor: u32,
    /// What both can do.
    pub flags: InitFlags,
    /// Longest read or write, in bytes.
    pub request_len_bytes_max: u32,
}

/// Why there is no common ground.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// The kernel speaks another protocol.
    #[error("the kernel speaks FUSE {major}.{minor}, expected {}.{} or later", MAJOR, MINOR_MIN)]
    Version {
        /// Its major version.
        major: u32,
        /// Its minor version.
        minor: u32,
    },
}

/// Longest request a kernel without `MAX_PAGES` sends, in pages.
const PAGES_MAX_BY_DEFAULT: u32 = 32;

impl Offer {
    /// Reads the kernel's INIT.
    ///
    /// # Errors
    ///
    /// [`InitError::Version`]: not version 7, or older than Linux 4.20.
    pub fn of(init: &InitIn) -> Result<Self, InitError> {
        if init.major != MAJOR || init.minor < MINOR_MIN {
            return Err(InitError::Version { major: init.major, minor: init.minor });
        }
        let low = u64::from(init.flags);
        // Without this flag the second word is not the kernel's.
        let high = if low & InitFlags::INIT_EXT.bits() == 0 { 0 } else { u64::from(init.flags2) << 32 };
        Ok(Self {
            minor: init.minor,
            flags: InitFlags::from_bits_retain(low | high),
            readahead_len_bytes_max: init.max_readahead,
        })
    }
}

/// Returns what is in force when the kernel gets `wanted` as far as it offers it, and the reply that says so.
pub fn settle(offer: &Offer, wanted: &Wanted) -> (Agreed, InitOut) {
    let flags = offer.flags & (wanted.flags | InitFlags::INIT_EXT | InitFlags::MAX_PAGES);
    let page_len_bytes = u32::try_from(PAGE_LEN_BYTES).unwrap_or(u32::MAX);
    let pages_wanted = wanted.request_len_bytes_max.div_ceil(page_len_bytes).clamp(1, u32::from(u16::MAX));
    let pages = if flags.contains(InitFlags::MAX_PAGES) {
        pages_wanted
    } else {
        pages_wanted.min(PAGES_MAX_BY_DEFAULT)
    };
    let agreed = Agreed {
        minor: offer.minor.min(MINOR),
        flags,
        request_len_bytes_max: wanted.request_len_bytes_max.min(pages * page_len_bytes),
    };
    let reply = InitOut {
        major: MAJOR,
        minor: agreed.minor,
        max_readahead: offer.readahead_len_bytes_max.max(wanted.readahead_len_bytes),
        flags: (flags.bits() & u64::from(u32::MAX)) as u32,
        max_background: wanted.background_max,
        congestion_threshold: wanted.background_max - wanted.background_max / 4,
        max_write: agreed.request_len_bytes_max,
        time_gran: 1,
        max_pages: u16::try_from(pages).unwrap_or(u16::MAX),
        map_alignment: 0,
        flags2: (flags.bits() >> 32) as u32,
        max_stack_depth: if flags.contains(InitFlags::PASSTHROUGH) { wanted.stack_depth_max } else { 0 },
        request_timeout: 0,
        unused: [0; 11],
    };
    (agreed, reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All flags up to `SETXATTR_EXT`, but for `FILE_OPS` and those of DAX.
    const LOW_5_15: u32 = 0x33ff_fffb;
    /// With `INIT_EXT`, which 5.17 brought.
    const LOW_5_17: u32 = LOW_5_15 | 1 << 30;

    fn init(minor: u32, flags: u32, flags2: u32) -> InitIn {
        InitIn { major: 7, minor, max_readahead: 0x2_0000, flags, flags2, unused: [0; 11] }
    }

    fn wanted() -> Wanted {
        Wanted {
            flags: InitFlags::PARALLEL_DIROPS
                | InitFlags::HANDLE_KILLPRIV_V2
                | InitFlags::SETXATTR_EXT
                | InitFlags::HAS_EXPIRE_ONLY
                | InitFlags::PASSTHROUGH
                | InitFlags::OVER_IO_URING,
            request_len_bytes_max: 1 << 20,
            readahead_len_bytes: 1 << 20,
            background_max: 64,
            stack_depth_max: 2,
            ring_depth: RING_DEPTH,
        }
    }

    /// INIT as `fuse_send_init` in `fs/fuse/inode.c` of each version builds it from the flags of that version's
    /// `include/uapi/linux/fuse.h`: minor 28 in 4.20, 34 in 5.15, 37 in 6.1, 39 in 6.6, 41 in 6.12, 45 in 6.18.
    /// Before 5.17 the message ends after the first flag word, so what stands in the second is not the kernel's.
    #[test]
    fn each_kernel_gets_what_it_knows() {
        use InitFlags as F;
        let base = F::PARALLEL_DIROPS | F::HANDLE_KILLPRIV_V2 | F::SETXATTR_EXT;
        for (kernel, minor, flags, flags2, expected, expected_minor) in [
            ("4.20", 28, 0x00ff_fffb, 0, F::PARALLEL_DIROPS, 28),
            ("5.15", 34, LOW_5_15, 0xffff_ffff, base, 34),
            ("6.1", 37, LOW_5_17, 0x1, base, 37),
            ("6.6", 39, LOW_5_17, 0x1d, base | F::HAS_EXPIRE_ONLY, 39),
            ("6.12", 41, LOW_5_17, 0x1fd, base | F::HAS_EXPIRE_ONLY | F::PASSTHROUGH, 41),
            ("6.18, switch off", 45, LOW_5_17, 0x5fd, base | F::HAS_EXPIRE_ONLY | F::PASSTHROUGH, 45),
            ("6.18", 45, LOW_5_17, 0x7fd, wanted().flags, 45),
            ("one to come", 99, LOW_5_17, 0xffff_ffff, wanted().flags, 45),
        ] {
            let offer = Offer::of(&init(minor, flags, flags2)).unwrap();
            let (agreed, reply) = settle(&offer, &wanted());
            assert_eq!(agreed.flags & wanted().flags, expected, "{kernel}");
            assert_eq!(agreed.minor, expected_minor, "{kernel}");
            let sent = u64::from(reply.flags) | u64::from(reply.flags2) << 32;
            assert_eq!(sent, agreed.flags.bits(), "{kernel}");
            assert_eq!(sent & !(u64::from(flags) | u64::from(flags2) << 32), 0, "{kernel}: not offered");
            assert_eq!(reply.max_stack_depth != 0, expected.contains(F::PASSTHROUGH), "{kernel}");
            assert_eq!((reply.max_write, reply.max_pages), (1 << 20, 256), "{kernel}");
        }
    }

    #[test]
    fn kernels_without_long_requests_get_short_ones() {
        let offer = Offer::of(&init(28, 0, 0)).unwrap();
        let (agreed, reply) = settle(&offer, &wanted());
        assert_eq!(agreed.request_len_bytes_max, 32 * 4096);
        assert_eq!(reply.max_write, 32 * 4096);
    }

    #[test]
    fn other_protocols_are_refused() {
        for (major, minor) in [(6, 45), (8, 0), (7, 27), (7, 0)] {
            let refused = Offer::of(&InitIn { major, ..init(minor, 0, 0) });
            assert_eq!(refused, Err(InitError::Version { major, minor }));
        }
    }
}
