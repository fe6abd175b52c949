//! What image kernels need of a vector beyond [`Simd`]: interleaved bytes in, comparisons, gathers.
//!
//! Positions are whole numbers held as f32, exact below 2^24: an image has fewer pixels than that.

use super::{Level, Portable, Simd};

/// A [`Simd`] that reads `(H,W,3)` u8 pixels.
pub(crate) trait Pixels: Simd {
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn abs(a: Self::V) -> Self::V;
    /// `x` where `a == b`, else `y`.
    unsafe fn select_eq(a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// `x` where `a >= b`, else `y`.
    unsafe fn select_ge(a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// `LANES` pixels from `p` on, 0 to 255: `3 * LANES` bytes are read.
    unsafe fn rgb(p: *const u8) -> [Self::V; 3];
    /// As `rgb`, the last pixel first.
    unsafe fn rgb_mirrored(p: *const u8) -> [Self::V; 3];
    /// The pixels at `positions` of an image of `len >= 4` bytes. Every position must be inside it.
    unsafe fn rgb_at(p: *const u8, len: usize, positions: Self::V) -> [Self::V; 3];
}

/// A kernel over pixels.
pub(crate) trait PixelKernel {
    /// # Safety
    /// As [`super::Kernel::run`].
    unsafe fn run<S: Pixels>(self);
}

/// As [`super::dispatch`], for a kernel over pixels.
///
/// # Safety
/// As [`super::dispatch`].
pub(crate) unsafe fn dispatch_pixels<K: PixelKernel>(level: Level, kernel: K) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        unsafe fn on_avx2<K: PixelKernel>(kernel: K) {
            // SAFETY: the caller's promise.
            unsafe { kernel.run::<super::avx2::Avx2>() }
        }
        #[target_feature(enable = "avx512f,avx2,fma")]
        unsafe fn on_avx512<K: PixelKernel>(kernel: K) {
            // SAFETY: the caller's promise.
            unsafe { kernel.run::<super::avx512::Avx512>() }
        }
        // SAFETY: the level is available, the arguments valid: the caller's promise.
        unsafe {
            match level {
                Level::Avx512 | Level::Avx512Bf16 => on_avx512(kernel),
                Level::Avx2 => on_avx2(kernel),
                Level::Portable => kernel.run::<Portable>(),
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = level;
        // SAFETY: the arguments are valid: the caller's promise.
        unsafe { kernel.run::<Portable>() }
    }
}

type Eight = [f32; 8];

#[inline(always)]
fn select(keep: impl Fn(usize) -> bool, x: Eight, y: Eight) -> Eight {
    std::array::from_fn(|i| if keep(i) { x[i] } else { y[i] })
}

impl Pixels for Portable {
    #[inline(always)]
    unsafe fn min(a: Eight, b: Eight) -> Eight {
        select(|i| a[i] < b[i], a, b)
    }
    #[inline(always)]
    unsafe fn max(a: Eight, b: Eight) -> Eight {
        select(|i| a[i] > b[i], a, b)
    }
    #[inline(always)]
    unsafe fn div(a: Eight, b: Eight) -> Eight {
        std::array::from_fn(|i| a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn abs(a: Eight) -> Eight {
        a.map(f32::abs)
    }
    #[inline(always)]
    unsafe fn select_eq(a: Eight, b: Eight, x: Eight, y: Eight) -> Eight {
        select(|i| a[i] == b[i], x, y)
    }
    #[inline(always)]
    unsafe fn select_ge(a: Eight, b: Eight, x: Eight, y: Eight) -> Eight {
        select(|i| a[i] >= b[i], x, y)
    }
    #[inline(always)]
    unsafe fn rgb(p: *const u8) -> [Eight; 3] {
        // SAFETY: the caller gives 24 readable bytes.
        let bytes = unsafe { p.cast::<[u8; 24]>().read() };
        std::array::from_fn(|c| std::array::from_fn(|i| f32::from(bytes[3 * i + c])))
    }
    #[inline(always)]
    unsafe fn rgb_mirrored(p: *const u8) -> [Eight; 3] {
        // SAFETY: the caller gives 24 readable bytes.
        let bytes = unsafe { p.cast::<[u8; 24]>().read() };
        std::array::from_fn(|c| std::array::from_fn(|i| f32::from(bytes[3 * (7 - i) + c])))
    }
    #[inline(always)]
    unsafe fn rgb_at(p: *const u8, _len: usize, positions: Eight) -> [Eight; 3] {
        // SAFETY: every position is inside the image.
        let byte = |i: usize, c: usize| unsafe { *p.add(3 * positions[i] as usize + c) };
        std::array::from_fn(|c| std::array::from_fn(|i| f32::from(byte(i, c))))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Pixels, Simd};
    use crate::cpu::simd::{avx2::Avx2, avx512::Avx512};

    /// Byte shuffles that make eight 32-bit lanes of a channel: four pixels from bytes 0.. of the lower half, four
    /// from bytes 4.. of the upper half. -1 gives 0.
    const fn lanes(channel: i8, mirrored: bool) -> [i8; 32] {
        let mut bytes = [-1; 32];
        let mut i = 0;
        while i < 4 {
            let at = if mirrored { 3 - i } else { i } as i8 * 3 + channel;
            // Mirrored, the later pixels (which start at byte 4) come first.
            (bytes[4 * i], bytes[16 + 4 * i]) = if mirrored { (at + 4, at) } else { (at, at + 4) };
            i += 1;
        }
        bytes
    }

    const STRAIGHT: [[i8; 32]; 3] = [lanes(0, false), lanes(1, false), lanes(2, false)];
    const MIRRORED: [[i8; 32]; 3] = [lanes(0, true), lanes(1, true), lanes(2, true)];

    /// # Safety
    /// AVX2 available.
    #[inline(always)]
    unsafe fn spread(pixels: __m256i, masks: &[[i8; 32]; 3]) -> [__m256; 3] {
        // SAFETY: AVX2 is available.
        unsafe { [channel(pixels, &masks[0]), channel(pixels, &masks[1]), channel(pixels, &masks[2])] }
    }

    /// # Safety
    /// AVX2 available.
    #[inline(always)]
    unsafe fn channel(pixels: __m256i, mask: &[i8; 32]) -> __m256 {
        // SAFETY: AVX2 is available; a mask is 32 bytes.
        unsafe { _mm256_cvtepi32_ps(_mm256_shuffle_epi8(pixels, _mm256_loadu_si256(mask.as_ptr().cast()))) }
    }

    // Sound for the same reason as the blocks of `Simd for Avx2`: the trait's callers promise AVX2 and pointers that
    // cover what is read.
    impl Pixels for Avx2 {
        #[inline(always)]
        unsafe fn min(a: __m256, b: __m256) -> __m256 {
            // SAFETY: AVX is available.
            unsafe { _mm256_min_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: __m256, b: __m256) -> __m256 {
            // SAFETY: AVX is available.
            unsafe { _mm256_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn div(a: __m256, b: __m256) -> __m256 {
            // SAFETY: AVX is available.
            unsafe { _mm256_div_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn abs(a: __m256) -> __m256 {
            // SAFETY: AVX is available.
            unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), a) }
        }
        #[inline(always)]
        unsafe fn select_eq(a: __m256, b: __m256, x: __m256, y: __m256) -> __m256 {
            // SAFETY: AVX is available.
            unsafe { _mm256_blendv_ps(y, x, _mm256_cmp_ps::<_CMP_EQ_OQ>(a, b)) }
        }
        #[inline(always)]
        unsafe fn select_ge(a: __m256, b: __m256, x: __m256, y: __m256) -> __m256 {
            // SAFETY: AVX is available.
            unsafe { _mm256_blendv_ps(y, x, _mm256_cmp_ps::<_CMP_GE_OQ>(a, b)) }
        }
        #[inline(always)]
        unsafe fn rgb(p: *const u8) -> [__m256; 3] {
            // SAFETY: `p` covers 24 bytes: 16 from 0 on and 16 from 8 on.
            unsafe {
                let (first, last) = (_mm_loadu_si128(p.cast()), _mm_loadu_si128(p.add(8).cast()));
                spread(_mm256_set_m128i(last, first), &STRAIGHT)
            }
        }
        #[inline(always)]
        unsafe fn rgb_mirrored(p: *const u8) -> [__m256; 3] {
            // SAFETY: as `rgb`.
            unsafe {
                let (first, last) = (_mm_loadu_si128(p.cast()), _mm_loadu_si128(p.add(8).cast()));
                spread(_mm256_set_m128i(first, last), &MIRRORED)
            }
        }
        #[inline(always)]
        unsafe fn rgb_at(p: *const u8, len: usize, positions: __m256) -> [__m256; 3] {
            // SAFETY: a lane reads 4 bytes at an offset of at most `len - 4`. The last pixel ends with the image, so
            // it is read a byte early and shifted.
            unsafe {
                let at = _mm256_mullo_epi32(_mm256_cvtps_epi32(positions), _mm256_set1_epi32(3));
                let from = _mm256_min_epi32(at, _mm256_set1_epi32(len as i32 - 4));
                let early = _mm256_slli_epi32::<3>(_mm256_sub_epi32(at, from));
                let pixels = _mm256_srlv_epi32(_mm256_i32gather_epi32::<1>(p.cast(), from), early);
                let byte = _mm256_set1_epi32(0xff);
                [
                    _mm256_cvtepi32_ps(_mm256_and_si256(pixels, byte)),
                    _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32::<8>(pixels), byte)),
                    _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32::<16>(pixels), byte)),
                ]
            }
        }
    }

    /// # Safety
    /// AVX-512 F available.
    #[inline(always)]
    unsafe fn join(low: [__m256; 3], high: [__m256; 3]) -> [__m512; 3] {
        // SAFETY: AVX-512 F is available.
        unsafe { [join_one(low[0], high[0]), join_one(low[1], high[1]), join_one(low[2], high[2])] }
    }

    /// # Safety
    /// AVX-512 F available.
    #[inline(always)]
    unsafe fn join_one(low: __m256, high: __m256) -> __m512 {
        // SAFETY: AVX-512 F is available.
        unsafe {
            let low = _mm512_castpd256_pd512(_mm256_castps_pd(low));
            _mm512_castpd_ps(_mm512_insertf64x4::<1>(low, _mm256_castps_pd(high)))
        }
    }

    // Bytes are taken apart 8 pixels at a time, as AVX2 does it: shuffles of 64 bytes would need AVX-512 BW.
    impl Pixels for Avx512 {
        #[inline(always)]
        unsafe fn min(a: __m512, b: __m512) -> __m512 {
            // SAFETY: AVX-512 F is available.
            unsafe { _mm512_min_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: __m512, b: __m512) -> __m512 {
            // SAFETY: AVX-512 F is available.
            unsafe { _mm512_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn div(a: __m512, b: __m512) -> __m512 {
            // SAFETY: AVX-512 F is available.
            unsafe { _mm512_div_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn abs(a: __m512) -> __m512 {
            // SAFETY: AVX-512 F is available.
            unsafe { _mm512_abs_ps(a) }
        }
        #[inline(always)]
        unsafe fn select_eq(a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
            // SAFETY: AVX-512 F is available.
            unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b), y, x) }
        }
        #[inline(always)]
        unsafe fn select_ge(a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
            // SAFETY: AVX-512 F is available.
            unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(a, b), y, x) }
        }
        #[inline(always)]
        unsafe fn rgb(p: *const u8) -> [__m512; 3] {
            // SAFETY: `p` covers 48 bytes.
            unsafe { join(Avx2::rgb(p), Avx2::rgb(p.add(24))) }
        }
        #[inline(always)]
        unsafe fn rgb_mirrored(p: *const u8) -> [__m512; 3] {
            // SAFETY: `p` covers 48 bytes.
            unsafe { join(Avx2::rgb_mirrored(p.add(24)), Avx2::rgb_mirrored(p)) }
        }
        #[inline(always)]
        unsafe fn rgb_at(p: *const u8, len: usize, positions: __m512) -> [__m512; 3] {
            // SAFETY: the caller's promise, for either half of the positions.
            unsafe {
                let mut halves = [0.0; 16];
                Avx512::store(halves.as_mut_ptr(), positions);
                let low = Avx2::rgb_at(p, len, Avx2::load(halves.as_ptr()));
                join(low, Avx2::rgb_at(p, len, Avx2::load(halves.as_ptr().add(8))))
            }
        }
    }
}
