//! The 9 taps of 3x3 filters, OIHW in memory, as vectors of 8 filters: in and out.

use crate::cpu::simd::Octet;

/// The 9 taps of 8 filters that lie `stride` floats apart, one vector a tap.
///
/// # Safety
/// `O` available; 8 rows of 9 floats readable.
#[inline(always)]
pub(crate) unsafe fn load_taps<O: Octet>(from: *const f32, stride: usize) -> [O::V; 9] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut rows = [O::splat(0.0); 8];
        let mut last = [0.0f32; 8];
        for i in 0..8 {
            rows[i] = O::load(from.add(i * stride));
            last[i] = *from.add(i * stride + 8);
        }
        let [a, b, c, d, e, f, g, h] = O::transpose(rows);
        [a, b, c, d, e, f, g, h, O::load(last.as_ptr())]
    }
}

/// The inverse of [`load_taps`].
///
/// # Safety
/// `O` available; 8 rows of 9 floats writable.
#[inline(always)]
pub(crate) unsafe fn store_taps<O: Octet>(to: *mut f32, stride: usize, taps: [O::V; 9]) {
    let [a, b, c, d, e, f, g, h, i] = taps;
    // SAFETY: the caller's promise.
    unsafe {
        let rows = O::transpose([a, b, c, d, e, f, g, h]);
        let mut last = [0.0f32; 8];
        O::store(last.as_mut_ptr(), i);
        for i in 0..8 {
            O::store(to.add(i * stride), rows[i]);
            *to.add(i * stride + 8) = last[i];
        }
    }
}
