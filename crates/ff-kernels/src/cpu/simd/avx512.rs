//! AVX-512 F: 16 floats a register, 32 registers.

use std::arch::x86_64::*;

use super::{Simd, avx2::Avx2, emulated::emulate_bf16};

#[derive(Clone, Copy)]
pub(crate) struct Avx512;

impl Simd for Avx512 {
    type V = __m512;
    type W = __m512;
    type Pairs = [Self::W; 2];
    type Octet = Avx2;
    const LANES: usize = 16;
    const GROUPS: usize = 2;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        // SAFETY: AVX-512 F is available.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        // SAFETY: AVX-512 F is available and `p` covers 16 floats.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m512) {
        // SAFETY: AVX-512 F is available and `p` covers 16 floats.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: AVX-512 F is available.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        // SAFETY: AVX-512 F is available.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: AVX-512 F is available.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: AVX-512 F is available.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn relu(a: __m512) -> __m512 {
        // SAFETY: AVX-512 F is available. `max` returns its second operand when one is NaN, so NaN stays.
        unsafe { _mm512_max_ps(_mm512_setzero_ps(), a) }
    }
    #[inline(always)]
    unsafe fn keep_positive(a: __m512, m: __m512) -> __m512 {
        // SAFETY: AVX-512 F is available.
        unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(m, _mm512_setzero_ps()), a) }
    }
    #[inline(always)]
    unsafe fn pick(a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        // SAFETY: AVX-512 F is available.
        unsafe {
            let wins = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b) | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a);
            _mm512_mask_blend_ps(wins, y, x)
        }
    }

    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        // SAFETY: a prefetch of any address does no harm.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn w_zero() -> __m512 {
        // SAFETY: AVX-512 F is available.
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn w_load(p: *const f32) -> __m512 {
        // SAFETY: AVX-512 F is available and `p` covers 16 floats.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn w_store(p: *mut f32, w: __m512) {
        // SAFETY: AVX-512 F is available and `p` covers 16 floats.
        unsafe { _mm512_storeu_ps(p, w) }
    }
    #[inline(always)]
    unsafe fn w_add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: AVX-512 F is available.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn w_fma(x: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: AVX-512 F is available.
        unsafe { _mm512_fmadd_ps(x, b, c) }
    }

    emulate_bf16!();
}
