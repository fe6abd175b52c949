//! Instruction sets: a small vector trait, its implementations, and run-time dispatch.
//!
//! A kernel is a struct of arguments with a generic `run::<S: Simd>`; `dispatch` calls it inside a function
//! compiled for the wanted instruction set. Everything a kernel calls must be `#[inline(always)]`, or it would
//! be compiled for the baseline. The logic is the same code at every level; only the vector types differ.
//!
//! Tests run on every level that the machine has: all have passed them, AVX-512 on a Zen 4, with BF16 on a Zen 5.
//! Elsewhere (NEON included) the portable level is used, which the compiler vectorises as it can.

mod bf16;
mod element;
mod emulated;
mod pixels;
mod portable;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_bf16;

pub use bf16::Bf16;
pub use element::Element;
pub(crate) use element::{Lanes, elements};
pub(crate) use pixels::{PixelKernel, Pixels, dispatch_pixels};
pub(crate) use portable::Portable;

/// An instruction set that the kernels can run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Plain Rust, on whatever the target guarantees (SSE2 on x86-64).
    Portable,
    /// AVX2 with fused multiply-add: 8 floats a vector.
    Avx2,
    /// AVX-512 F: 16 floats a vector.
    Avx512,
    /// AVX-512 F with BF16: as [`Self::Avx512`], and products of bfloat16 pairs.
    Avx512Bf16,
}

impl Level {
    /// Every level, slowest first.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Bf16];

    /// The fastest level this machine has.
    pub fn best() -> Self {
        Self::available().last().unwrap_or(Self::Portable)
    }

    /// Whether it multiplies bfloat16 itself; the others emulate that, which proves results and saves no time.
    pub fn has_bf16(self) -> bool {
        self == Self::Avx512Bf16
    }

    /// The levels this machine has, slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|level| level.is_available())
    }

    /// Whether this machine has it.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            match self {
                Self::Portable => true,
                Self::Avx2 => avx2,
                Self::Avx512 => avx2 && is_x86_feature_detected!("avx512f"),
                Self::Avx512Bf16 => Self::Avx512.is_available() && is_x86_feature_detected!("avx512bf16"),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Self::Portable
        }
    }
}

/// Vectors of an instruction set. `V` is one register; `W` is always 16 floats, the width of a channel block.
///
/// Every method requires that the instruction set is available; loads and stores require that the pointer
/// covers the vector (no alignment needed).
pub(crate) trait Simd: Copy + 'static {
    /// One register of `LANES` floats.
    type V: Copy;
    /// Sixteen floats, one or two registers.
    type W: Copy;
    /// Sixteen pairs of bfloat16.
    type Pairs: Copy;
    /// The 8-lane instruction set used where data is transposed.
    type Octet: Octet;
    /// Floats in a `V`: 8 or 16.
    const LANES: usize;
    /// Rows of 16 floats that fit the register file as accumulators, in groups of 6 (1: 6 rows, 2: 12).
    const GROUPS: usize;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a` where `a > 0`, else 0; NaN stays NaN.
    unsafe fn relu(a: Self::V) -> Self::V;
    /// `a` where `m > 0`, else 0.
    unsafe fn keep_positive(a: Self::V, m: Self::V) -> Self::V;
    /// `x` where `a > b` or `a` is NaN, else `y`.
    unsafe fn pick(a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;

    unsafe fn w_zero() -> Self::W;
    unsafe fn w_load(p: *const f32) -> Self::W;
    unsafe fn w_store(p: *mut f32, w: Self::W);
    unsafe fn w_add(a: Self::W, b: Self::W) -> Self::W;
    /// `x * b + c`, `x` the same in every lane.
    unsafe fn w_fma(x: Self::V, b: Self::W, c: Self::W) -> Self::W;

    /// `LANES` values, widened.
    unsafe fn load_bf16(p: *const Bf16) -> Self::V;
    /// Rounds as [`Bf16::from_f32`] does.
    unsafe fn store_bf16(p: *mut Bf16, v: Self::V);
    /// `LANES` pairs, of one value of each, rounded likewise.
    unsafe fn store_pairs(p: *mut Bf16, first: Self::V, second: Self::V);
    /// The first values of `LANES` pairs, rounded likewise; the second ones become zero.
    unsafe fn store_first(p: *mut Bf16, v: Self::V);
    /// The second values of `LANES` pairs that [`Self::store_first`] wrote, rounded likewise.
    unsafe fn store_second(p: *mut Bf16, v: Self::V);
    /// Asks for the cache line at `p`, which need not be there, to be brought near.
    #[inline(always)]
    unsafe fn prefetch(_p: *const u8) {}
    /// Sixteen pairs that lie side by side.
    unsafe fn pairs(p: *const Bf16) -> Self::Pairs;
    /// `x[0] * b[0] + x[1] * b[1] + c`, the pair at `x` the same in every lane, products exact and sums in f32.
    unsafe fn w_dot(x: *const Bf16, b: Self::Pairs, c: Self::W) -> Self::W;
}

/// An instruction set with 8 lanes that can transpose.
pub(crate) trait Octet: Simd {
    /// Transposes an 8x8 block held as 8 rows.
    unsafe fn transpose(rows: [Self::V; 8]) -> [Self::V; 8];
}

/// A kernel's arguments, and the kernel.
pub(crate) trait Kernel {
    /// Whether it reads or writes bfloat16: only such a kernel is compiled for [`Level::Avx512Bf16`].
    const BF16: bool = false;

    /// # Safety
    /// `S` must be available on this machine, and the arguments must describe valid memory.
    unsafe fn run<S: Simd>(self);
}

/// Runs `kernel` on `level`.
///
/// # Safety
/// `level` must be available (a [`ThreadPool`](crate::ThreadPool)'s always is) and the kernel's arguments valid.
pub(crate) unsafe fn dispatch<K: Kernel>(level: Level, kernel: K) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        unsafe fn on_avx2<K: Kernel>(kernel: K) {
            // SAFETY: the caller's promise.
            unsafe { kernel.run::<avx2::Avx2>() }
        }
        #[target_feature(enable = "avx512f,avx2,fma")]
        unsafe fn on_avx512<K: Kernel>(kernel: K) {
            // SAFETY: the caller's promise.
            unsafe { kernel.run::<avx512::Avx512>() }
        }
        #[target_feature(enable = "avx512f,avx512bf16,avx2,fma")]
        unsafe fn on_avx512_bf16<K: Kernel>(kernel: K) {
            // SAFETY: the caller's promise.
            unsafe { kernel.run::<avx512_bf16::Avx512Bf16>() }
        }
        // SAFETY: the level is available, the arguments valid: the caller's promise.
        unsafe {
            match level {
                Level::Avx512Bf16 if K::BF16 => on_avx512_bf16(kernel),
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
