//! What the threads of a parallel loop share and what each has of its own.

use std::cell::RefCell;

use pulp::{Arch, Simd, WithSimd};

/// A destination that several threads write to, each to places of its own.
#[derive(Clone, Copy)]
pub(crate) struct Shared(*mut f32);

// SAFETY: `Shared` only carries the address; `Shared::at` is unsafe and asks for disjoint places.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub(crate) fn new(values: &mut [f32]) -> Self {
        Self(values.as_mut_ptr())
    }

    /// # Safety
    /// `offset` must lie in the slice, and no two threads may use the same place.
    #[inline(always)]
    pub(crate) unsafe fn at(self, offset: usize) -> *mut f32 {
        // SAFETY: passed on to the caller.
        unsafe { self.0.add(offset) }
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Lends a thread's own buffer of at least `count` values, whatever they are.
#[inline(always)]
pub(crate) fn with_scratch<R>(count: usize, run: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = SCRATCH.take();
    if buffer.len() < count {
        buffer.resize(count, 0.0);
    }
    let result = run(&mut buffer[..count]);
    SCRATCH.replace(buffer);
    result
}

/// The width of a panel: two vectors of the machine.
pub(crate) fn panel_width(arch: Arch) -> usize {
    struct Width;
    impl WithSimd for Width {
        type Output = usize;
        fn with_simd<S: Simd>(self, _: S) -> usize {
            2 * S::F32_LANES
        }
    }
    arch.dispatch(Width)
}
