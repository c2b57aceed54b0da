//! The memory that kernel and server share: for each entry a header and a payload.
//!
//! An entry belongs to the kernel or to the server, never to both. While it is
//! the server's there is one [`Slot`] for it, and only a slot reaches the memory.

use std::ptr::NonNull;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use zerocopy::{FromZeros, IntoBytes};

use super::lane::Lane;
use crate::abi::PAGE_LEN_BYTES;
use crate::abi::replies::OutHeader;
use crate::abi::uring::{EntryHeader, EntryInOut};

/// From one header to the next, in bytes: whole cache lines.
const HEADER_STRIDE_LEN_BYTES: usize = size_of::<EntryHeader>().next_multiple_of(64);

/// Headers and payloads of all entries of a ring; nothing of it is in memory before it is used.
#[derive(Debug)]
pub(super) struct Buffers {
    base: NonNull<u8>,
    len_bytes: usize,
    headers_len_bytes: usize,
    payload_len_bytes: usize,
    entries: u16,
}

#[expect(unsafe_code, reason = "the memory is a mapping, to which a pointer leads")]
// SAFETY: the mapping lives as long as the value, is not bound to a thread, and is reached by slots
// only, of which each entry has one at a time.
unsafe impl Send for Buffers {}

#[expect(unsafe_code, reason = "the memory is a mapping, to which a pointer leads")]
// SAFETY: as for `Send`; methods that take `&Buffers` compute addresses and do not follow them.
unsafe impl Sync for Buffers {}

impl Buffers {
    /// Maps memory for `entries`, each with a payload of at least `payload_len_bytes`.
    ///
    /// # Errors
    ///
    /// What `mmap(2)` reports, such as `ENOMEM`.
    pub(super) fn map(entries: u16, payload_len_bytes: usize) -> Result<Self, Errno> {
        let count = usize::from(entries);
        let headers_len_bytes = (count * HEADER_STRIDE_LEN_BYTES).next_multiple_of(PAGE_LEN_BYTES);
        let payload_len_bytes = payload_len_bytes.next_multiple_of(PAGE_LEN_BYTES);
        let len_bytes = headers_len_bytes + count * payload_len_bytes;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        #[expect(unsafe_code, reason = "memory that the kernel writes later has to be mapped")]
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use.
        let address = unsafe { mmap_anonymous(std::ptr::null_mut(), len_bytes, access, flags) }?;
        let base = NonNull::new(address.cast()).ok_or(Errno::NOMEM)?;
        let buffers = Self { base, len_bytes, headers_len_bytes, payload_len_bytes, entries };
        #[expect(unsafe_code, reason = "huge pages would make the first short answer cost 2 MiB")]
        // SAFETY: the range is the mapping just made; the advice changes no contents.
        let advised = unsafe { madvise(address, len_bytes, Advice::LinuxNoHugepage) };
        // A kernel without huge pages reports EINVAL, and has none to avoid.
        advised.or_else(|errno| if errno == Errno::INVAL { Ok(()) } else { Err(errno) })?;
        Ok(buffers)
    }

    /// Returns how many entries there are.
    pub(super) fn entries(&self) -> u16 {
        self.entries
    }

    /// Returns the two `struct iovec` that REGISTER tells the kernel: header and payload.
    pub(super) fn iovecs(&self, entry: u16) -> [usize; 4] {
        let base = self.base.as_ptr() as usize;
        [
            base + self.header_at(entry),
            size_of::<EntryHeader>(),
            base + self.payload_at(entry),
            self.payload_len_bytes,
        ]
    }

    fn header_at(&self, entry: u16) -> usize {
        debug_assert!(entry < self.entries);
        usize::from(entry) * HEADER_STRIDE_LEN_BYTES
    }

    fn payload_at(&self, entry: u16) -> usize {
        debug_assert!(entry < self.entries);
        self.headers_len_bytes + usize::from(entry) * self.payload_len_bytes
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "what was mapped has to be unmapped")]
        // SAFETY: the whole mapping, once; slots hold the lane that owns it, so none is left, and a
        // ring that may still hold entries keeps the lane for good.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len_bytes) };
        if let Err(errno) = unmapped {
            tracing::warn!(%errno, "the buffers of a ring stay mapped");
        }
    }
}

/// One entry that is the server's: the only way to its memory.
#[derive(Debug)]
pub(crate) struct Slot {
    lane: Arc<Lane>,
    entry: u16,
}

impl Slot {
    /// Takes an entry over from the kernel.
    ///
    /// # Safety
    ///
    /// The kernel gave the entry up by completing its command, or never had it, and no other slot
    /// of the entry exists.
    #[expect(unsafe_code, reason = "only the completion of a command proves whose the entry is")]
    pub(super) unsafe fn received(lane: &Arc<Lane>, entry: u16) -> Self {
        assert!(entry < lane.buffers.entries, "no such entry");
        Self { lane: Arc::clone(lane), entry }
    }

    /// Returns which entry it is.
    pub(super) fn entry(&self) -> u16 {
        self.entry
    }

    /// Returns how long a payload can be, in bytes.
    pub(crate) fn payload_len_bytes(&self) -> usize {
        self.lane.buffers.payload_len_bytes
    }

    /// Reads the header.
    pub(super) fn header(&self) -> EntryHeader {
        let mut header = EntryHeader::new_zeroed();
        header
            .as_mut_bytes()
            .copy_from_slice(self.bytes(self.lane.buffers.header_at(self.entry), size_of::<EntryHeader>()));
        header
    }

    /// Writes the header of an answer whose payload is in place.
    pub(super) fn write_header(&mut self, header: &OutHeader, payload_len_bytes: usize) {
        let at = self.lane.buffers.header_at(self.entry);
        self.bytes_mut(at, size_of::<OutHeader>()).copy_from_slice(header.as_bytes());
        let payload_sz = u32::try_from(payload_len_bytes).unwrap_or(u32::MAX);
        let entry = EntryInOut { payload_sz, ..EntryInOut::default() };
        let at = at + std::mem::offset_of!(EntryHeader, entry);
        self.bytes_mut(at, size_of::<EntryInOut>()).copy_from_slice(entry.as_bytes());
    }

    /// Returns the first `len_bytes` of the payload, or all of it.
    pub(super) fn payload(&self, len_bytes: usize) -> &[u8] {
        self.bytes(self.lane.buffers.payload_at(self.entry), len_bytes.min(self.payload_len_bytes()))
    }

    /// Returns the first `len_bytes` of the payload, or all of it, to be written.
    pub(crate) fn payload_mut(&mut self, len_bytes: usize) -> &mut [u8] {
        let len_bytes = len_bytes.min(self.payload_len_bytes());
        self.bytes_mut(self.lane.buffers.payload_at(self.entry), len_bytes)
    }

    /// Gives the memory of the payload back to the system; it reads as zeros afterwards.
    ///
    /// # Errors
    ///
    /// What `madvise(2)` reports.
    pub(super) fn release_payload(&mut self) -> Result<(), Errno> {
        let payload = self.payload_mut(usize::MAX);
        let (address, len_bytes) = (payload.as_mut_ptr().cast(), payload.len());
        #[expect(unsafe_code, reason = "memory once used for a long transfer would stay for good")]
        // SAFETY: the range is the payload, whole pages that only this slot reaches.
        unsafe {
            madvise(address, len_bytes, Advice::LinuxDontNeed)
        }
    }

    fn bytes(&self, at: usize, len_bytes: usize) -> &[u8] {
        #[expect(unsafe_code, reason = "the memory is a mapping, to which a pointer leads")]
        // SAFETY: `at` and `len_bytes` come from the layout of this entry, which lies in the mapping;
        // the mapping is zeroed at first, so all of it is initialized; the slot is the only way to
        // the entry, and is borrowed for as long as the slice.
        unsafe {
            std::slice::from_raw_parts(self.lane.buffers.base.as_ptr().add(at), len_bytes)
        }
    }

    fn bytes_mut(&mut self, at: usize, len_bytes: usize) -> &mut [u8] {
        #[expect(unsafe_code, reason = "the memory is a mapping, to which a pointer leads")]
        // SAFETY: as in `bytes`, and the slot is borrowed exclusively.
        unsafe {
            std::slice::from_raw_parts_mut(self.lane.buffers.base.as_ptr().add(at), len_bytes)
        }
    }
}
