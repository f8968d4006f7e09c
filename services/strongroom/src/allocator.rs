//! The C library's allocator, told what this program does: buffers of shards and chunks come and go thousands of times a
//! second, and by default each would be mapped, filled with zeros by the kernel and unmapped again.

/// Allocations up to this size come from the heap; glibc takes no more.
const FROM_HEAP_BYTES_MAX: i32 = 32 << 20;

/// What a process may keep of freed memory.
#[derive(Debug, Clone, Copy)]
pub enum Keep {
    /// A node: a few shards.
    Shards,
    /// Whoever handles whole chunks: gateway and client.
    Chunks,
}

/// Sets the limits. Without glibc nothing is done.
pub fn keep(what: Keep) {
    let bytes = match what {
        Keep::Shards => 8 << 20,
        Keep::Chunks => 64 << 20,
    };
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two integers, touches only the allocator's own parameters, and may be called at any time; a
    // refused value leaves the default.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, FROM_HEAP_BYTES_MAX);
        libc::mallopt(libc::M_TRIM_THRESHOLD, bytes);
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = (bytes, FROM_HEAP_BYTES_MAX);
}
