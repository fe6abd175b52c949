//! A fixed-size, zero-initialised buffer of elements, aligned for vectors and, when large, for huge pages.
//!
//! Invariant: the address is a multiple of 64 and the length never changes.
//! The Winograd transforms walk 36 streams at once, which 4 KiB pages do not survive (the TLB does not hold
//! them), so large buffers ask the kernel for 2 MiB pages where it offers them on request.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::cpu::base::shape::product;
use crate::cpu::simd::Element;

const CACHE_LINE: usize = 64;
const HUGE_PAGE: usize = 2 << 20;

/// A zero-initialised, cache-line-aligned slice of `f32` or [`Bf16`](crate::Bf16) of fixed length.
pub struct Buffer<E: Element = f32> {
    data: NonNull<E>,
    len: usize,
}

// SAFETY: a Buffer owns its memory exclusively, like a `Box<[f32]>`.
unsafe impl<E: Element> Send for Buffer<E> {}
// SAFETY: shared access gives `&[E]` only.
unsafe impl<E: Element> Sync for Buffer<E> {}

impl<E: Element> Buffer<E> {
    /// `len` zeros.
    ///
    /// # Panics
    /// More bytes than the address space has.
    pub fn zeroed(len: usize) -> Self {
        if len == 0 {
            return Self { data: NonNull::dangling(), len };
        }
        let layout = Self::layout(len);
        // SAFETY: the layout's size is not zero.
        let raw = unsafe { alloc(layout) }.cast::<E>();
        let Some(data) = NonNull::new(raw) else { handle_alloc_error(layout) };
        if layout.align() == HUGE_PAGE {
            advise_huge_pages(raw.cast(), layout.size());
        }
        // SAFETY: the allocation holds `len` elements, and all-zero bits are 0.0 of each.
        unsafe { raw.write_bytes(0, len) };
        Self { data, len }
    }

    fn layout(len: usize) -> Layout {
        let size = product("a buffer's bytes", &[len, size_of::<E>()]);
        let align = if size >= 2 * HUGE_PAGE { HUGE_PAGE } else { CACHE_LINE };
        Layout::from_size_align(size, align).expect("a buffer is smaller than the address space")
    }
}

// Miri runs no foreign functions.
#[cfg(all(target_os = "linux", not(miri)))]
fn advise_huge_pages(data: *mut u8, size: usize) {
    const MADV_HUGEPAGE: i32 = 14;
    unsafe extern "C" {
        fn madvise(addr: *mut std::ffi::c_void, length: usize, advice: i32) -> i32;
    }
    // SAFETY: the range is ours and page-aligned; the advice changes no contents. A refusal does no harm.
    unsafe { madvise(data.cast(), size, MADV_HUGEPAGE) };
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn advise_huge_pages(_data: *mut u8, _size: usize) {}

impl<E: Element> Drop for Buffer<E> {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: allocated in `zeroed` with the same layout.
            unsafe { dealloc(self.data.as_ptr().cast(), Self::layout(self.len)) };
        }
    }
}

impl<E: Element> Deref for Buffer<E> {
    type Target = [E];
    fn deref(&self) -> &[E] {
        // SAFETY: `data` holds `len` initialised elements (dangling only for length 0).
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

impl<E: Element> DerefMut for Buffer<E> {
    fn deref_mut(&mut self) -> &mut [E] {
        // SAFETY: as in `deref`, and `&mut self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }
}
