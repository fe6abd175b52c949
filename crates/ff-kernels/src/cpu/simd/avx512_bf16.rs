//! AVX-512 with BF16: what [`Avx512`] does, and conversions and products of bfloat16 as instructions.

use std::arch::x86_64::*;

use super::{Bf16, Simd, avx2::Avx2, avx512::Avx512};

#[derive(Clone, Copy)]
pub(crate) struct Avx512Bf16;

/// Methods that are [`Avx512`]'s.
macro_rules! as_avx512 {
    ($($name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        $(
            #[inline(always)]
            unsafe fn $name($($arg: $type),*) $(-> $result)? {
                // SAFETY: the caller's promise; this level has all of that one's instructions.
                unsafe { Avx512::$name($($arg),*) }
            }
        )*
    };
}

impl Simd for Avx512Bf16 {
    type V = __m512;
    type W = __m512;
    type Pairs = __m512bh;
    type Octet = Avx2;
    const LANES: usize = 16;
    const GROUPS: usize = 2;

    as_avx512! {
        splat(x: f32) -> __m512;
        load(p: *const f32) -> __m512;
        store(p: *mut f32, v: __m512);
        add(a: __m512, b: __m512) -> __m512;
        sub(a: __m512, b: __m512) -> __m512;
        mul(a: __m512, b: __m512) -> __m512;
        fma(a: __m512, b: __m512, c: __m512) -> __m512;
        relu(a: __m512) -> __m512;
        keep_positive(a: __m512, m: __m512) -> __m512;
        pick(a: __m512, b: __m512, x: __m512, y: __m512) -> __m512;
        w_zero() -> __m512;
        w_load(p: *const f32) -> __m512;
        w_store(p: *mut f32, w: __m512);
        w_add(a: __m512, b: __m512) -> __m512;
        w_fma(x: __m512, b: __m512, c: __m512) -> __m512;
        prefetch(p: *const u8);
    }

    #[inline(always)]
    unsafe fn load_bf16(p: *const Bf16) -> __m512 {
        // SAFETY: AVX-512 F is available and `p` covers 16 values.
        unsafe {
            let half = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(half))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut Bf16, v: __m512) {
        // SAFETY: AVX-512 BF16 is available and `p` covers 16 values; both types are 32 bytes of any contents.
        unsafe { p.cast::<__m256bh>().write_unaligned(_mm512_cvtneps_pbh(v)) }
    }
    #[inline(always)]
    unsafe fn store_pairs(p: *mut Bf16, first: __m512, second: __m512) {
        // SAFETY: AVX-512 BF16 is available and `p` covers 32 values; the types are bits of any contents.
        unsafe {
            let first = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(first));
            let second = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(second));
            let high = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(second));
            _mm512_storeu_si512(p.cast(), _mm512_or_si512(_mm512_cvtepu16_epi32(first), high));
        }
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut Bf16, v: __m512) {
        // SAFETY: AVX-512 BF16 is available and `p` covers 32 values; the types are bits of any contents.
        unsafe {
            let first = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v));
            _mm512_storeu_si512(p.cast(), _mm512_cvtepu16_epi32(first));
        }
    }
    #[inline(always)]
    unsafe fn store_second(p: *mut Bf16, v: __m512) {
        // SAFETY: as in `store_first`.
        unsafe {
            let second = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v));
            let second = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(second));
            _mm512_storeu_si512(p.cast(), _mm512_or_si512(_mm512_loadu_si512(p.cast()), second));
        }
    }
    #[inline(always)]
    unsafe fn pairs(p: *const Bf16) -> __m512bh {
        // SAFETY: `p` covers 32 values.
        unsafe { p.cast::<__m512bh>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn w_dot(x: *const Bf16, b: __m512bh, c: __m512) -> __m512 {
        // SAFETY: AVX-512 BF16 is available and `x` covers a pair; both types are 64 bytes of any contents.
        unsafe {
            let pair = _mm512_set1_epi32(x.cast::<i32>().read_unaligned());
            _mm512_dpbf16_ps(c, std::mem::transmute::<__m512i, __m512bh>(pair), b)
        }
    }
}
