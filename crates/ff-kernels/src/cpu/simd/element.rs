//! What maps and filters hold: f32, or bfloat16 that is computed with in f32.
//!
//! A kernel that is generic over its element reads, rounds and multiplies through it, and is otherwise the same code:
//! a product takes one channel a step in f32, and a pair of them in bfloat16.

use super::{Bf16, Simd};

/// A type that maps and filters may hold: `f32` or [`Bf16`].
#[expect(private_bounds, reason = "what kernels ask of an element is no business of a caller's")]
pub trait Element: Lanes {}

impl Element for f32 {}
impl Element for Bf16 {}

/// How vectors are made of elements, and products of them.
pub(crate) trait Lanes: Copy + Default + std::fmt::Debug + Send + Sync + 'static {
    /// Summed channels of a step of a product.
    const STEP: usize;
    /// Whether kernels of it are to be compiled for instructions on bfloat16.
    const BF16: bool;
    /// Sixteen filters' values of a step.
    type Row<S: Simd>: Copy;

    /// `LANES` values.
    ///
    /// # Safety
    /// As [`Simd`] says; so for all of these.
    unsafe fn load<S: Simd>(p: *const Self) -> S::V;
    /// The nearest values to `v`.
    ///
    /// # Safety
    /// As `load`.
    unsafe fn store<S: Simd>(p: *mut Self, v: S::V);
    /// Sixteen filters' values `[16][STEP]`.
    ///
    /// # Safety
    /// As `load`.
    unsafe fn row<S: Simd>(p: *const Self) -> Self::Row<S>;
    /// Writes a row from f32 values `[STEP][16]`, the steps `stride` apart.
    ///
    /// # Safety
    /// As `load`.
    unsafe fn store_row<S: Simd>(p: *mut Self, from: *const f32, stride: usize);
    /// The value `step` of `LANES` steps; the first clears the others of its steps, so it comes first.
    ///
    /// # Safety
    /// As `load`.
    unsafe fn store_step<S: Simd>(p: *mut Self, v: S::V, step: usize);
    /// `sum over the step of x * b + c`, the values at `x` the same in every lane.
    ///
    /// # Safety
    /// As `load`.
    unsafe fn multiply<S: Simd>(x: *const Self, b: Self::Row<S>, c: S::W) -> S::W;
    /// One value, rounded.
    fn from_f32(x: f32) -> Self;
    /// One value.
    fn to_f32(self) -> f32;
}

impl Lanes for f32 {
    const STEP: usize = 1;
    const BF16: bool = false;
    type Row<S: Simd> = S::W;

    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const f32) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::load(p) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(p: *mut f32, v: S::V) {
        // SAFETY: the caller's promise.
        unsafe { S::store(p, v) }
    }
    #[inline(always)]
    unsafe fn row<S: Simd>(p: *const f32) -> S::W {
        // SAFETY: the caller's promise.
        unsafe { S::w_load(p) }
    }
    #[inline(always)]
    unsafe fn store_row<S: Simd>(p: *mut f32, from: *const f32, _stride: usize) {
        // SAFETY: the caller's promise.
        unsafe { S::w_store(p, S::w_load(from)) }
    }
    #[inline(always)]
    unsafe fn store_step<S: Simd>(p: *mut f32, v: S::V, _step: usize) {
        // SAFETY: the caller's promise.
        unsafe { S::store(p, v) }
    }
    #[inline(always)]
    unsafe fn multiply<S: Simd>(x: *const f32, b: S::W, c: S::W) -> S::W {
        // SAFETY: the caller's promise.
        unsafe { S::w_fma(S::splat(*x), b, c) }
    }
    #[inline(always)]
    fn from_f32(x: f32) -> f32 {
        x
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
}

impl Lanes for Bf16 {
    const STEP: usize = 2;
    const BF16: bool = true;
    type Row<S: Simd> = S::Pairs;

    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const Bf16) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::load_bf16(p) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(p: *mut Bf16, v: S::V) {
        // SAFETY: the caller's promise.
        unsafe { S::store_bf16(p, v) }
    }
    #[inline(always)]
    unsafe fn row<S: Simd>(p: *const Bf16) -> S::Pairs {
        // SAFETY: the caller's promise.
        unsafe { S::pairs(p) }
    }
    #[inline(always)]
    unsafe fn store_row<S: Simd>(p: *mut Bf16, from: *const f32, stride: usize) {
        let mut lane = 0;
        while lane < 16 {
            // SAFETY: the caller's promise.
            unsafe {
                let (first, second) = (S::load(from.add(lane)), S::load(from.add(stride + lane)));
                S::store_pairs(p.add(2 * lane), first, second);
            }
            lane += S::LANES;
        }
    }
    #[inline(always)]
    unsafe fn store_step<S: Simd>(p: *mut Bf16, v: S::V, step: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            if step == 0 {
                S::store_first(p, v);
            } else {
                S::store_second(p, v);
            }
        }
    }
    #[inline(always)]
    unsafe fn multiply<S: Simd>(x: *const Bf16, b: S::Pairs, c: S::W) -> S::W {
        // SAFETY: the caller's promise.
        unsafe { S::w_dot(x, b, c) }
    }
    #[inline(always)]
    fn from_f32(x: f32) -> Bf16 {
        Bf16::from_f32(x)
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        Bf16::to_f32(self)
    }
}

/// Space as elements, which are no larger than floats and take any bits.
pub(crate) fn elements<E: Element>(space: &mut [f32]) -> &mut [E] {
    let len = size_of_val(space) / size_of::<E>();
    // SAFETY: the same bytes, exclusively borrowed; an element is aligned as a float or less.
    unsafe { std::slice::from_raw_parts_mut(space.as_mut_ptr().cast(), len) }
}
