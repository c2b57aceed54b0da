//! Attributes and errnos in the words of the protocol.

use aufs_fusedev::abi::flags::SetAttrValid;
use aufs_fusedev::abi::replies::{Attr as WireAttr, AttrOut, EntryOut, Statx, StatxOut, StatxTime};
use aufs_fusedev::abi::requests::SetAttrIn;
use aufs_union::UnionError;
use aufs_union::attr::{Attr, SetAttr, SetTime};
use rustix::fs::{StatxFlags, Timespec};
use rustix::io::Errno;
use tracing::{debug, warn};

/// How long the kernel keeps a name or attributes, in seconds; the kernel itself caps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ttl(u64);

impl Ttl {
    /// What only this server can change keeps for ever.
    pub(crate) const FOREVER: Self = Self(u32::MAX as u64);
    /// The kernel asks each time.
    pub(crate) const NONE: Self = Self(0);
}

/// Returns `attr` as the protocol has it.
pub(crate) fn wire_attr(attr: &Attr) -> WireAttr {
    let (atime, mtime, ctime) = (wire_time(attr.atime), wire_time(attr.mtime), wire_time(attr.ctime));
    WireAttr {
        ino: attr.ino,
        size: attr.len_bytes,
        blocks: attr.blocks,
        atime: atime.0,
        mtime: mtime.0,
        ctime: ctime.0,
        atimensec: atime.1,
        mtimensec: mtime.1,
        ctimensec: ctime.1,
        mode: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: kernel_device(attr.rdev),
        blksize: attr.blksize_bytes,
        flags: 0,
    }
}

/// Returns the answer to GETATTR and SETATTR.
pub(crate) fn attr_out(attr: &Attr, ttl: Ttl) -> AttrOut {
    AttrOut { attr_valid: ttl.0, attr_valid_nsec: 0, dummy: 0, attr: wire_attr(attr) }
}

/// Returns the answer to STATX, which has the time of birth too where that is known.
pub(crate) fn statx_out(attr: &Attr, born: Option<Timespec>, ttl: Ttl) -> StatxOut {
    let time = |time: Timespec| StatxTime {
        tv_sec: time.tv_sec,
        tv_nsec: u32::try_from(time.tv_nsec).unwrap_or(0),
        reserved: 0,
    };
    let known = StatxFlags::BASIC_STATS | born.map_or(StatxFlags::empty(), |_| StatxFlags::BTIME);
    StatxOut {
        attr_valid: ttl.0,
        attr_valid_nsec: 0,
        flags: 0,
        spare: [0; 2],
        stat: Statx {
            mask: known.bits(),
            blksize: attr.blksize_bytes,
            attributes: 0,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            mode: (attr.mode & 0xffff) as u16,
            spare0: [0],
            ino: attr.ino,
            size: attr.len_bytes,
            blocks: attr.blocks,
            attributes_mask: 0,
            atime: time(attr.atime),
            btime: time(born.unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 })),
            ctime: time(attr.ctime),
            mtime: time(attr.mtime),
            rdev_major: rustix::fs::major(attr.rdev),
            rdev_minor: rustix::fs::minor(attr.rdev),
            dev_major: 0,
            dev_minor: 0,
            spare2: [0; 14],
        },
    }
}

/// Returns the answer to LOOKUP and whatever makes an entry.
pub(crate) fn entry_out(number: u64, attr: &Attr, name_ttl: Ttl, attr_ttl: Ttl) -> EntryOut {
    EntryOut {
        nodeid: number,
        generation: 0, // Numbers are never used again.
        entry_valid: name_ttl.0,
        attr_valid: attr_ttl.0,
        entry_valid_nsec: 0,
        attr_valid_nsec: 0,
        attr: wire_attr(attr),
    }
}

/// Returns the answer to the LOOKUP of a name that shows nothing.
pub(crate) fn no_entry_out(name_ttl: Ttl) -> EntryOut {
    EntryOut {
        nodeid: 0,
        generation: 0,
        entry_valid: name_ttl.0,
        attr_valid: 0,
        entry_valid_nsec: 0,
        attr_valid_nsec: 0,
        attr: bare_attr(0, 0),
    }
}

/// Returns attributes of which only type and number are known.
pub(crate) fn bare_attr(ino: u64, mode: u32) -> WireAttr {
    WireAttr {
        ino,
        size: 0,
        blocks: 0,
        atime: 0,
        mtime: 0,
        ctime: 0,
        atimensec: 0,
        mtimensec: 0,
        ctimensec: 0,
        mode,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

/// Returns what a SETATTR changes.
pub(crate) fn changes_of(args: &SetAttrIn) -> SetAttr {
    let valid = args.valid();
    let has = |flag, value| valid.contains(flag).then_some(value);
    let time = |given, now, seconds: u64, nanos: u32| {
        if valid.contains(now) {
            Some(SetTime::Now)
        } else {
            let at = Timespec { tv_sec: seconds.cast_signed(), tv_nsec: i64::from(nanos) };
            has(given, SetTime::At(at))
        }
    };
    SetAttr {
        mode: valid.contains(SetAttrValid::MODE).then_some(args.mode & 0o7777),
        uid: valid.contains(SetAttrValid::UID).then_some(args.uid),
        gid: valid.contains(SetAttrValid::GID).then_some(args.gid),
        len_bytes: valid.contains(SetAttrValid::SIZE).then_some(args.size),
        atime: time(SetAttrValid::ATIME, SetAttrValid::ATIME_NOW, args.atime, args.atimensec),
        mtime: time(SetAttrValid::MTIME, SetAttrValid::MTIME_NOW, args.mtime, args.mtimensec),
    }
}

/// The time of modification in what may be the kernel's flush of the times of a file that it caches.
///
/// Without opens the kernel flushes them also where it only knows of a later change, as after removing a name: it
/// then tells the time of modification that the file has, and a time of change, which nobody can set.
pub(crate) fn flushed_mtime(args: &SetAttrIn) -> Option<Timespec> {
    let is_flush = args.valid().difference(SetAttrValid::FH) == SetAttrValid::MTIME | SetAttrValid::CTIME;
    let mtime = Timespec { tv_sec: args.mtime.cast_signed(), tv_nsec: i64::from(args.mtimensec) };
    is_flush.then_some(mtime)
}

/// The kernel's 32-bit form of a device number: `new_encode_dev` in `include/linux/kdev_t.h`.
fn kernel_device(device: u64) -> u32 {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// The reverse of [`kernel_device`].
pub(crate) fn host_device(device: u32) -> u64 {
    rustix::fs::makedev((device & 0x000f_ff00) >> 8, (device & 0xff) | ((device >> 12) & 0x000f_ff00))
}

/// Times before the epoch travel as the two's complement, as the kernel reads them.
fn wire_time(time: Timespec) -> (u64, u32) {
    (time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Logs `error` and returns the errno for the kernel.
///
/// Programs provoke `ENOENT`, `EEXIST` and the like all day, so those stay at
/// debug; only a failing host is worth a warning.
pub(crate) fn errno_of(error: &UnionError) -> Errno {
    let errno = error.errno();
    match errno {
        Errno::IO | Errno::NOMEM | Errno::MFILE => warn!(error = %error, %errno, "host failed"),
        _ => debug!(error = %error, %errno, "refused"),
    }
    errno
}

#[cfg(test)]
mod tests {
    use aufs_fusedev::abi::requests::SetAttrIn;

    use super::*;

    fn setattr(valid: SetAttrValid) -> SetAttrIn {
        SetAttrIn {
            valid: valid.bits(),
            padding: 0,
            fh: 0,
            size: 5,
            lock_owner: 0,
            atime: (-7_i64).cast_unsigned(),
            mtime: 9,
            ctime: 0,
            atimensec: 1,
            mtimensec: 2,
            ctimensec: 0,
            mode: 0o104_755,
            unused4: 0,
            uid: 1,
            gid: 2,
            unused5: 0,
        }
    }

    #[test]
    fn only_what_is_marked_changes() {
        use SetAttrValid as V;
        let none = changes_of(&setattr(V::FH | V::CTIME | V::KILL_SUIDGID));
        assert!(none.mode.is_none() && none.uid.is_none() && none.gid.is_none() && none.len_bytes.is_none());
        assert!(none.atime.is_none() && none.mtime.is_none());
        let all =
            changes_of(&setattr(V::MODE | V::UID | V::GID | V::SIZE | V::ATIME | V::MTIME | V::MTIME_NOW));
        assert_eq!((all.mode, all.uid, all.gid, all.len_bytes), (Some(0o4755), Some(1), Some(2), Some(5)));
        assert_eq!(all.atime, Some(SetTime::At(Timespec { tv_sec: -7, tv_nsec: 1 })));
        assert_eq!(all.mtime, Some(SetTime::Now), "now beats a given time");
    }

    #[test]
    fn a_flush_of_times_is_known() {
        use SetAttrValid as V;
        let mtime = Some(Timespec { tv_sec: 9, tv_nsec: 2 });
        for valid in [V::MTIME | V::CTIME, V::MTIME | V::CTIME | V::FH] {
            assert_eq!(flushed_mtime(&setattr(valid)), mtime);
        }
        for more in [V::ATIME, V::MTIME_NOW, V::SIZE, V::MODE, V::KILL_SUIDGID] {
            assert_eq!(flushed_mtime(&setattr(V::MTIME | V::CTIME | more)), None, "{more:?}");
        }
        assert_eq!(flushed_mtime(&setattr(V::MTIME)), None, "not with a write-back cache");
    }

    #[test]
    fn device_numbers_read_back() {
        for (major, minor) in [(0, 0), (1, 3), (8, 255), (259, 65_537), (4095, 1_048_575)] {
            let device = rustix::fs::makedev(major, minor);
            assert_eq!(host_device(kernel_device(device)), device, "{major}:{minor}");
        }
    }
}
