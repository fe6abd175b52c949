//! AVX2 with FMA: 8 floats a register, 16 registers.

use std::arch::x86_64::*;

use super::{Octet, Simd, emulated::emulate_bf16};

#[derive(Clone, Copy)]
pub(crate) struct Avx2;

// Every block below is sound for the same reason: the trait's callers promise that AVX2 and FMA are available
// and that pointers cover the vector.
impl Simd for Avx2 {
    type V = __m256;
    type W = [__m256; 2];
    type Pairs = [Self::W; 2];
    type Octet = Self;
    const LANES: usize = 8;
    const GROUPS: usize = 1;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        // SAFETY: AVX is available.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m256 {
        // SAFETY: AVX is available and `p` covers 8 floats.
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m256) {
        // SAFETY: AVX is available and `p` covers 8 floats.
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: AVX is available.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        // SAFETY: AVX is available.
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        // SAFETY: AVX is available.
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: FMA is available.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn relu(a: __m256) -> __m256 {
        // SAFETY: AVX is available. `max` returns its second operand when one is NaN, so NaN stays.
        unsafe { _mm256_max_ps(_mm256_setzero_ps(), a) }
    }
    #[inline(always)]
    unsafe fn keep_positive(a: __m256, m: __m256) -> __m256 {
        // SAFETY: AVX is available.
        unsafe { _mm256_and_ps(a, _mm256_cmp_ps::<_CMP_GT_OQ>(m, _mm256_setzero_ps())) }
    }
    #[inline(always)]
    unsafe fn pick(a: __m256, b: __m256, x: __m256, y: __m256) -> __m256 {
        // SAFETY: AVX is available.
        unsafe {
            let wins = _mm256_or_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a, b), _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a));
            _mm256_blendv_ps(y, x, wins)
        }
    }

    #[inline(always)]
    unsafe fn w_zero() -> [__m256; 2] {
        // SAFETY: AVX is available.
        unsafe { [_mm256_setzero_ps(); 2] }
    }
    #[inline(always)]
    unsafe fn w_load(p: *const f32) -> [__m256; 2] {
        // SAFETY: AVX is available and `p` covers 16 floats.
        unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
    }
    #[inline(always)]
    unsafe fn w_store(p: *mut f32, w: [__m256; 2]) {
        // SAFETY: AVX is available and `p` covers 16 floats.
        unsafe {
            _mm256_storeu_ps(p, w[0]);
            _mm256_storeu_ps(p.add(8), w[1]);
        }
    }
    #[inline(always)]
    unsafe fn w_add(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: AVX is available.
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn w_fma(x: __m256, b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: FMA is available.
        unsafe { [_mm256_fmadd_ps(x, b[0], c[0]), _mm256_fmadd_ps(x, b[1], c[1])] }
    }

    emulate_bf16!();
}

impl Octet for Avx2 {
    #[inline(always)]
    unsafe fn transpose(r: [__m256; 8]) -> [__m256; 8] {
        // SAFETY: AVX is available. Pairs, then quadruples within 128-bit halves, then the halves.
        unsafe {
            let (a0, a1) = (_mm256_unpacklo_ps(r[0], r[1]), _mm256_unpackhi_ps(r[0], r[1]));
            let (a2, a3) = (_mm256_unpacklo_ps(r[2], r[3]), _mm256_unpackhi_ps(r[2], r[3]));
            let (a4, a5) = (_mm256_unpacklo_ps(r[4], r[5]), _mm256_unpackhi_ps(r[4], r[5]));
            let (a6, a7) = (_mm256_unpacklo_ps(r[6], r[7]), _mm256_unpackhi_ps(r[6], r[7]));
            let b0 = _mm256_shuffle_ps::<0x44>(a0, a2);
            let b1 = _mm256_shuffle_ps::<0xEE>(a0, a2);
            let b2 = _mm256_shuffle_ps::<0x44>(a1, a3);
            let b3 = _mm256_shuffle_ps::<0xEE>(a1, a3);
            let b4 = _mm256_shuffle_ps::<0x44>(a4, a6);
            let b5 = _mm256_shuffle_ps::<0xEE>(a4, a6);
            let b6 = _mm256_shuffle_ps::<0x44>(a5, a7);
            let b7 = _mm256_shuffle_ps::<0xEE>(a5, a7);
            [
                _mm256_permute2f128_ps::<0x20>(b0, b4),
                _mm256_permute2f128_ps::<0x20>(b1, b5),
                _mm256_permute2f128_ps::<0x20>(b2, b6),
                _mm256_permute2f128_ps::<0x20>(b3, b7),
                _mm256_permute2f128_ps::<0x31>(b0, b4),
                _mm256_permute2f128_ps::<0x31>(b1, b5),
                _mm256_permute2f128_ps::<0x31>(b2, b6),
                _mm256_permute2f128_ps::<0x31>(b3, b7),
            ]
        }
    }
}
