//! The portable level: arrays of 8 floats in plain Rust.

use super::{Octet, Simd, emulated::emulate_bf16};

#[derive(Clone, Copy)]
pub(crate) struct Portable;

type V = [f32; 8];

#[inline(always)]
fn zip(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Portable {
    type V = V;
    type W = [V; 2];
    type Pairs = [Self::W; 2];
    type Octet = Self;
    const LANES: usize = 8;
    const GROUPS: usize = 1;

    #[inline(always)]
    unsafe fn splat(x: f32) -> V {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> V {
        // SAFETY: the caller gives 8 readable floats.
        unsafe { p.cast::<V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: V) {
        // SAFETY: the caller gives 8 writable floats.
        unsafe { p.cast::<V>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn add(a: V, b: V) -> V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: V, b: V) -> V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: V, b: V) -> V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn fma(a: V, b: V, c: V) -> V {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn relu(a: V) -> V {
        a.map(|x| if x <= 0.0 { 0.0 } else { x })
    }
    #[inline(always)]
    unsafe fn keep_positive(a: V, m: V) -> V {
        zip(a, m, |a, m| if m > 0.0 { a } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn pick(a: V, b: V, x: V, y: V) -> V {
        std::array::from_fn(|i| if a[i] > b[i] || a[i].is_nan() { x[i] } else { y[i] })
    }

    #[inline(always)]
    unsafe fn w_zero() -> [V; 2] {
        [[0.0; 8]; 2]
    }
    #[inline(always)]
    unsafe fn w_load(p: *const f32) -> [V; 2] {
        // SAFETY: the caller gives 16 readable floats.
        unsafe { p.cast::<[V; 2]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn w_store(p: *mut f32, w: [V; 2]) {
        // SAFETY: the caller gives 16 writable floats.
        unsafe { p.cast::<[V; 2]>().write_unaligned(w) }
    }
    #[inline(always)]
    unsafe fn w_add(a: [V; 2], b: [V; 2]) -> [V; 2] {
        [zip(a[0], b[0], |a, b| a + b), zip(a[1], b[1], |a, b| a + b)]
    }
    #[inline(always)]
    unsafe fn w_fma(x: V, b: [V; 2], c: [V; 2]) -> [V; 2] {
        // SAFETY: nothing to promise on this level.
        unsafe { [Self::fma(x, b[0], c[0]), Self::fma(x, b[1], c[1])] }
    }

    emulate_bf16!();
}

impl Octet for Portable {
    #[inline(always)]
    unsafe fn transpose(rows: [V; 8]) -> [V; 8] {
        std::array::from_fn(|i| std::array::from_fn(|j| rows[j][i]))
    }
}
