//! Convolutions on the processor, quick enough for a whole ResNet-34: every output pixel's patch of the input is
//! gathered, so that filters, their gradients and patches are rows of one length.

use ff_kernels::gpu::Geometry;

/// Threads that images are shared out to.
const THREADS: usize = 2;

/// `y = conv(x, w)`
pub fn forward(g: &Geometry, x: &[f32], w: &[f32], y: &mut [f32]) {
    let len = g.w_len() / g.outputs;
    each_image(g, x, y, |x, y| {
        let mut patch = vec![0.0; len];
        for (pixel, y) in y.chunks_exact_mut(g.outputs).enumerate() {
            gather(g, x, pixel, &mut patch);
            for (y, filter) in y.iter_mut().zip(w.chunks_exact(len)) {
                *y = dot(&patch, filter);
            }
        }
    });
}

/// `x = ` gradient of the input.
pub fn backward_data(g: &Geometry, y: &[f32], w: &[f32], x: &mut [f32]) {
    let len = g.w_len() / g.outputs;
    each_image(g, y, x, |y, x| {
        let mut patch = vec![0.0; len];
        x.fill(0.0);
        for (pixel, y) in y.chunks_exact(g.outputs).enumerate() {
            patch.fill(0.0);
            for (&y, filter) in y.iter().zip(w.chunks_exact(len)) {
                add(y, filter, &mut patch);
            }
            scatter(g, &patch, pixel, x);
        }
    });
}

/// `w = ` gradient of the filters.
pub fn backward_filter(g: &Geometry, x: &[f32], y: &[f32], w: &mut [f32]) {
    let len = g.w_len() / g.outputs;
    let (x_len, y_len) = (g.x_len() / g.batch, g.y_len() / g.batch);
    let images: Vec<_> = x.chunks_exact(x_len).zip(y.chunks_exact(y_len)).collect();
    let of_images = |images: &[(&[f32], &[f32])]| {
        let (mut sum, mut patch) = (vec![0.0; g.w_len()], vec![0.0; len]);
        for (x, y) in images {
            for (pixel, y) in y.chunks_exact(g.outputs).enumerate() {
                gather(g, x, pixel, &mut patch);
                for (&y, sum) in y.iter().zip(sum.chunks_exact_mut(len)) {
                    add(y, &patch, sum);
                }
            }
        }
        sum
    };
    w.fill(0.0);
    std::thread::scope(|scope| {
        let chunks = images.chunks(images.len().div_ceil(THREADS));
        let threads: Vec<_> = chunks.map(|images| scope.spawn(move || of_images(images))).collect();
        for thread in threads {
            add(1.0, &thread.join().unwrap(), w);
        }
    });
}

/// Runs `work` on the parts of `from` and `to` that belong to one image each.
fn each_image(g: &Geometry, from: &[f32], to: &mut [f32], work: impl Fn(&[f32], &mut [f32]) + Sync) {
    let (from_len, to_len) = (from.len() / g.batch, to.len() / g.batch);
    let images: Vec<_> = from.chunks_exact(from_len).zip(to.chunks_exact_mut(to_len)).collect();
    let share = images.len().div_ceil(THREADS);
    let mut images = images.into_iter();
    std::thread::scope(|scope| {
        loop {
            let part: Vec<_> = images.by_ref().take(share).collect();
            if part.is_empty() {
                return;
            }
            let work = &work;
            scope.spawn(move || part.into_iter().for_each(|(from, to)| work(from, to)));
        }
    });
}

/// Where a tap of an output pixel reads its channels; `None` outside the map.
fn source(g: &Geometry, pixel: usize, tap: usize) -> Option<usize> {
    let columns = g.output().1;
    let y = (pixel / columns * g.stride + tap / g.kernel).checked_sub(g.padding)?;
    let x = (pixel % columns * g.stride + tap % g.kernel).checked_sub(g.padding)?;
    (y < g.height && x < g.width).then_some((y * g.width + x) * g.inputs)
}

fn gather(g: &Geometry, x: &[f32], pixel: usize, patch: &mut [f32]) {
    for (tap, to) in patch.chunks_exact_mut(g.inputs).enumerate() {
        match source(g, pixel, tap) {
            Some(at) => to.copy_from_slice(&x[at..at + g.inputs]),
            None => to.fill(0.0),
        }
    }
}

fn scatter(g: &Geometry, patch: &[f32], pixel: usize, x: &mut [f32]) {
    for (tap, from) in patch.chunks_exact(g.inputs).enumerate() {
        if let Some(at) = source(g, pixel, tap) {
            add(1.0, from, &mut x[at..at + g.inputs]);
        }
    }
}

/// `to += factor * from`
fn add(factor: f32, from: &[f32], to: &mut [f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 32];
    let (a_chunks, b_chunks) = (a.chunks_exact(32), b.chunks_exact(32));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    rest + sums.iter().sum::<f32>()
}
