//! bfloat16 on instruction sets without it: widened one by one, and multiplied in f32.
//!
//! Every product of two bfloat16 values is exact in f32, so only the order of the sums may differ from an
//! instruction's.

use super::{Bf16, Simd};

/// [`Simd::load_bf16`]
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn load<S: Simd>(p: *const Bf16) -> S::V {
    let mut wide = [0.0f32; 16];
    // SAFETY: the caller's promise; the array holds a vector of any level.
    unsafe {
        for (lane, wide) in wide[..S::LANES].iter_mut().enumerate() {
            *wide = (*p.add(lane)).to_f32();
        }
        S::load(wide.as_ptr())
    }
}

/// [`Simd::store_bf16`]
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn store<S: Simd>(p: *mut Bf16, v: S::V) {
    let mut wide = [0.0f32; 16];
    // SAFETY: as in `load`.
    unsafe {
        S::store(wide.as_mut_ptr(), v);
        for (lane, &wide) in wide[..S::LANES].iter().enumerate() {
            *p.add(lane) = Bf16::from_f32(wide);
        }
    }
}

/// [`Simd::store_pairs`]
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn store_pairs<S: Simd>(p: *mut Bf16, first: S::V, second: S::V) {
    let mut wide = [[0.0f32; 16]; 2];
    // SAFETY: as in `load`.
    unsafe {
        S::store(wide[0].as_mut_ptr(), first);
        S::store(wide[1].as_mut_ptr(), second);
        for lane in 0..S::LANES {
            *p.add(2 * lane) = Bf16::from_f32(wide[0][lane]);
            *p.add(2 * lane + 1) = Bf16::from_f32(wide[1][lane]);
        }
    }
}

/// [`Simd::store_second`]
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn store_second<S: Simd>(p: *mut Bf16, v: S::V) {
    let mut wide = [0.0f32; 16];
    // SAFETY: as in `load`.
    unsafe {
        S::store(wide.as_mut_ptr(), v);
        for lane in 0..S::LANES {
            *p.add(2 * lane + 1) = Bf16::from_f32(wide[lane]);
        }
    }
}

/// [`Simd::pairs`]: the first values of the pairs, and the second.
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn pairs<S: Simd>(p: *const Bf16) -> [S::W; 2] {
    let mut wide = [[0.0f32; 16]; 2];
    // SAFETY: as in `load`.
    unsafe {
        for lane in 0..16 {
            wide[0][lane] = (*p.add(2 * lane)).to_f32();
            wide[1][lane] = (*p.add(2 * lane + 1)).to_f32();
        }
        [S::w_load(wide[0].as_ptr()), S::w_load(wide[1].as_ptr())]
    }
}

/// [`Simd::w_dot`]
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn dot<S: Simd>(x: *const Bf16, [first, second]: [S::W; 2], c: S::W) -> S::W {
    // SAFETY: the caller's promise.
    unsafe {
        let sum = S::w_fma(S::splat((*x).to_f32()), first, c);
        S::w_fma(S::splat((*x.add(1)).to_f32()), second, sum)
    }
}

/// The bfloat16 part of a [`Simd`] that has no instructions for it.
macro_rules! emulate_bf16 {
    () => {
        #[inline(always)]
        unsafe fn load_bf16(p: *const crate::cpu::simd::Bf16) -> Self::V {
            // SAFETY: the caller's promise.
            unsafe { crate::cpu::simd::emulated::load::<Self>(p) }
        }
        #[inline(always)]
        unsafe fn store_bf16(p: *mut crate::cpu::simd::Bf16, v: Self::V) {
            // SAFETY: the caller's promise.
            unsafe { crate::cpu::simd::emulated::store::<Self>(p, v) }
        }
        #[inline(always)]
        unsafe fn store_pairs(p: *mut crate::cpu::simd::Bf16, first: Self::V, second: Self::V) {
            // SAFETY: the caller's promise.
            unsafe { crate::cpu::simd::emulated::store_pairs::<Self>(p, first, second) }
        }
        #[inline(always)]
        unsafe fn store_first(p: *mut crate::cpu::simd::Bf16, v: Self::V) {
            // SAFETY: the caller's promise.
            unsafe { crate::cpu::simd::emulated::store_pairs::<Self>(p, v, Self::splat(0.0)) }
        }
        #[inline(always)]
        unsafe fn store_second(p: *mut crate::cpu::simd::Bf16, v: Self::V) {
            // SAFETY: the caller's promise.
            unsafe { crate::cpu::simd::emulated::store_second::<Self>(p, v) }
        }
        #[inline(always)]
        unsafe fn pairs(p: *const crate::cpu::simd::Bf16) -> Self::Pairs {
            // SAFETY: the caller's promise.
            unsafe { crate::cpu::simd::emulated::pairs::<Self>(p) }
        }
        #[inline(always)]
        unsafe fn w_dot(x: *const crate::cpu::simd::Bf16, b: Self::Pairs, c: Self::W) -> Self::W {
            // SAFETY: the caller's promise.
            unsafe { crate::cpu::simd::emulated::dot::<Self>(x, b, c) }
        }
    };
}
pub(super) use emulate_bf16;
