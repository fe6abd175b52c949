//! Multiply-adds in registers only: the peak that kernels are measured against.

use crate::cpu::base::threads::ThreadPool;
use crate::cpu::simd::{Kernel, Level, Simd, dispatch};

/// Chains of dependent multiply-adds, 16 lanes each: with two registers a chain (AVX2) six hide the latency.
const CHAINS: usize = 6;

/// Runs `steps` steps of independent multiply-adds on every thread of the pool.
pub fn fma_burn(pool: &ThreadPool, steps: usize) {
    pool.run(|_| {
        let mut sink = [0.0; 16];
        // SAFETY: the pool's level is available.
        unsafe { dispatch(pool.level(), Burn { steps, sink: &mut sink }) };
        std::hint::black_box(sink);
    });
}

/// Floating-point operations that [`fma_burn`] makes.
pub fn fma_burn_flop(pool: &ThreadPool, steps: usize) -> f64 {
    2.0 * (steps * chains(pool) * 16 * pool.threads()) as f64
}

fn chains(pool: &ThreadPool) -> usize {
    if pool.level() >= Level::Avx512 { 2 * CHAINS } else { CHAINS }
}

struct Burn<'a> {
    steps: usize,
    sink: &'a mut [f32; 16],
}

impl Kernel for Burn<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: `S` is available; the sink holds 16 floats.
        unsafe {
            let x = S::splat(std::hint::black_box(0.5));
            if S::GROUPS == 2 {
                burn::<S, { 2 * CHAINS }>(x, self.steps, self.sink);
            } else {
                burn::<S, CHAINS>(x, self.steps, self.sink);
            }
        }
    }
}

/// # Safety
/// `S` available.
#[inline(always)]
unsafe fn burn<S: Simd, const N: usize>(x: S::V, steps: usize, sink: &mut [f32; 16]) {
    // SAFETY: the sink holds 16 floats.
    unsafe {
        let b = S::w_load(sink.as_ptr());
        let mut sums = [S::w_zero(); N];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = S::w_fma(x, b, *sum);
            }
        }
        let mut total = S::w_zero();
        for sum in sums {
            total = S::w_add(total, sum);
        }
        S::w_store(sink.as_mut_ptr(), total);
    }
}
