//! The allocator of the process, and what it keeps back.

// Frames are freed on other threads than made them; glibc's allocator is slow at that, musl's at everything.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// The crate has no name for it.
unsafe extern "C" {
    fn mi_collect(force: bool);
}

/// Gives the memory that this thread has freed back to the system.
pub fn release() {
    // SAFETY: mimalloc is linked, as it is the allocator; the function may be called by any thread at any time.
    unsafe { mi_collect(true) }
}
