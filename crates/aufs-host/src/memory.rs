//! Gives memory back to the host.

/// Returns what was freed to the host, as far as whole pages of it are free.
///
/// The allocator keeps what lies between pieces in use: after a walk over a million files and after the kernel
/// has forgotten them all, that is most of what they took. May take some milliseconds.
#[expect(unsafe_code, reason = "std knows nothing of its allocator, and no crate wraps this one call")]
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) may be called at any time from any thread, and takes nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
