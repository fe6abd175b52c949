//! Global average pool, NHWC: a map to one value a channel.

use crate::cpu::base::shape::{MapShape, check_channels, check_len, product};
use crate::cpu::base::threads::{ThreadPool, split};
use crate::cpu::fuse::store::{CheckedEpilogue, Epilogue, Store, with_store};
use crate::cpu::simd::{Element, Kernel, Lanes, Simd, dispatch};

/// `out (B,C) = mean over pixels of x`.
pub fn global_average<E: Element>(pool: &ThreadPool, shape: MapShape, x: &[E], out: &mut [f32]) {
    check_len("average pool input", x, shape.len());
    check_len("average pool output", out, product("average pool", &[shape.batch, shape.channels]));
    let (pixels, channels) = (shape.height * shape.width, shape.channels);
    let factor = 1.0 / pixels as f32;
    pool.for_each_rows(out, channels, |first, chunk| {
        for (i, mean) in chunk.chunks_exact_mut(channels).enumerate() {
            mean.fill(0.0);
            let image = &x[(first + i) * pixels * channels..][..pixels * channels];
            for pixel in image.chunks_exact(channels) {
                for (mean, &x) in mean.iter_mut().zip(pixel) {
                    *mean += x.to_f32();
                }
            }
            for mean in mean {
                *mean *= factor;
            }
        }
    });
}

/// `grad_in = epilogue(grad_out (B,C) / pixels)` for every pixel.
pub fn global_average_backward<E: Element>(
    pool: &ThreadPool,
    shape: MapShape,
    grad_out: &[f32],
    grad_in: &mut [E],
    epilogue: Epilogue<'_, E>,
) {
    check_channels("average pool", shape.channels);
    let outputs = product("average pool", &[shape.batch, shape.channels]);
    check_len("average pool output gradient", grad_out, outputs);
    let epilogue = epilogue.checked(shape, grad_in, pool.threads());
    pool.run(|thread| {
        let images = split(shape.batch, pool.threads(), thread);
        let kernel = AverageBackward { shape, grad: grad_out.as_ptr(), epilogue, images, thread };
        // SAFETY: the pool's level is available; lengths are checked; images are disjoint.
        unsafe { dispatch(pool.level(), kernel) }
    });
}

struct AverageBackward<E> {
    shape: MapShape,
    grad: *const f32,
    epilogue: CheckedEpilogue<E>,
    images: std::ops::Range<usize>,
    thread: usize,
}

impl<E: Lanes> Kernel for AverageBackward<E> {
    const BF16: bool = E::BF16;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the maker of this kernel checked the lengths.
        unsafe { with_store!(self.epilogue, store => self.go::<S, _>(store)) }
    }
}

impl<E: Lanes> AverageBackward<E> {
    /// # Safety
    /// `S` available, lengths checked.
    #[inline(always)]
    unsafe fn go<S: Simd, T: Store>(&self, store: T) {
        let (pixels, channels) = (self.shape.height * self.shape.width, self.shape.channels);
        for image in self.images.clone() {
            let mut channel = 0;
            while channel < channels {
                // SAFETY: the caller's promises.
                unsafe {
                    let factor = S::splat(1.0 / pixels as f32);
                    let v = S::mul(S::load(self.grad.add(image * channels + channel)), factor);
                    let mut run = store.begin::<S>(channel);
                    for pixel in 0..pixels {
                        let offset = (image * pixels + pixel) * channels + channel;
                        store.apply::<S>(&mut run, v, offset);
                    }
                    store.end::<S>(run, self.thread, channel);
                }
                channel += S::LANES;
            }
        }
    }
}
