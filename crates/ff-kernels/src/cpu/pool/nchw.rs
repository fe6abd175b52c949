//! Max-pooling 3x3, stride 2, padding 1 (the ResNet stem's) on NCHW planes, forward and backward.
//!
//! Follows `torch.nn.MaxPool2d(3, 2, 1)`: padding never wins, the first maximum of a window in row-major order takes
//! the whole gradient, NaN propagates. The backward pass finds the winner again from the input, so the forward pass
//! stores no indices. This is the reference path's kernel; it knows nothing of batches or channels, only planes.

use crate::network::max_pool_size;

/// `input` (planes, h, w) -> `output` (planes, [`max_pool_size`]`(h)`, [`max_pool_size`]`(w)`).
pub fn forward(input: &[f32], (h, w): (usize, usize), output: &mut [f32]) {
    for (x, y) in
        planes(input, output.len(), h, w).zip(output.chunks_exact_mut(max_pool_size(h) * max_pool_size(w)))
    {
        for_each_window(x, h, w, |out_idx, winner| y[out_idx] = x[winner]);
    }
}

/// `input` (planes, h, w) and `grad_output` (planes, oh, ow) -> `grad_input` (planes, h, w), overwritten.
pub fn backward(input: &[f32], grad_output: &[f32], (h, w): (usize, usize), grad_input: &mut [f32]) {
    assert_eq!(input.len(), grad_input.len(), "gradient of the input has the input's length");
    grad_input.fill(0.0);
    let grads =
        grad_output.chunks_exact(max_pool_size(h) * max_pool_size(w)).zip(grad_input.chunks_exact_mut(h * w));
    for (x, (dy, dx)) in planes(input, grad_output.len(), h, w).zip(grads) {
        for_each_window(x, h, w, |out_idx, winner| dx[winner] += dy[out_idx]);
    }
}

/// The planes of `input`, after checking that the output has as many.
fn planes(input: &[f32], output_len: usize, h: usize, w: usize) -> std::slice::ChunksExact<'_, f32> {
    assert!(h > 0 && w > 0 && input.len().is_multiple_of(h * w), "input is not whole planes of {h}x{w}");
    let n_planes = input.len() / (h * w);
    assert_eq!(
        output_len,
        n_planes * max_pool_size(h) * max_pool_size(w),
        "output length for {n_planes} planes of {h}x{w}"
    );
    input.chunks_exact(h * w)
}

/// Calls `visit(output index, index of the winning input)` for every window of one plane.
fn for_each_window(x: &[f32], h: usize, w: usize, mut visit: impl FnMut(usize, usize)) {
    let (oh, ow) = (max_pool_size(h), max_pool_size(w));
    for oy in 0..oh {
        let rows = (2 * oy).saturating_sub(1)..(2 * oy + 2).min(h);
        for ox in 0..ow {
            let cols = (2 * ox).saturating_sub(1)..(2 * ox + 2).min(w);
            let mut winner = rows.start * w + cols.start;
            for iy in rows.clone() {
                for ix in cols.clone() {
                    let candidate = x[iy * w + ix];
                    if candidate > x[winner] || candidate.is_nan() {
                        winner = iy * w + ix;
                    }
                }
            }
            visit(oy * ow + ox, winner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, written the slow way: pad with minus infinity, take the maximum of nine.
    fn by_definition(x: &[f32], h: usize, w: usize) -> Vec<f32> {
        let at = |y: isize, x_: isize| {
            let inside = (0..h as isize).contains(&y) && (0..w as isize).contains(&x_);
            if inside { x[y as usize * w + x_ as usize] } else { f32::NEG_INFINITY }
        };
        let mut out = Vec::new();
        for oy in 0..max_pool_size(h) as isize {
            for ox in 0..max_pool_size(w) as isize {
                let window = (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (2 * oy + dy, 2 * ox + dx)));
                out.push(window.map(|(y, x)| at(y, x)).fold(f32::NEG_INFINITY, f32::max));
            }
        }
        out
    }

    proptest! {
        #[test]
        fn forward_is_the_windows_maximum((h, w, x) in (1usize..12, 1usize..12).prop_flat_map(|(h, w)|
            (Just(h), Just(w), prop::collection::vec(-9.0f32..9.0, h * w))))
        {
            let mut y = vec![0.0; max_pool_size(h) * max_pool_size(w)];
            forward(&x, (h, w), &mut y);
            prop_assert_eq!(y, by_definition(&x, h, w));
        }

        /// d(sum(y * g)) / dx by central differences. Values are a shuffled grid of step 1, so that a step of 0.25
        /// changes no winner and the differences are exact up to rounding.
        #[test]
        fn backward_is_the_forwards_derivative((h, w, order) in (1usize..9, 1usize..9).prop_flat_map(|(h, w)|
            (Just(h), Just(w), Just((0..h * w).collect::<Vec<_>>()).prop_shuffle())))
        {
            let x: Vec<f32> = order.iter().map(|&i| i as f32).collect();
            let n_out = max_pool_size(h) * max_pool_size(w);
            let g: Vec<f32> = (0..n_out).map(|i| 1.0 + i as f32 * 0.5).collect();
            let objective = |x: &[f32]| {
                let mut y = vec![0.0; n_out];
                forward(x, (h, w), &mut y);
                y.iter().zip(&g).map(|(y, g)| f64::from(y * g)).sum::<f64>()
            };
            let mut dx = vec![f32::NAN; h * w];
            backward(&x, &g, (h, w), &mut dx);
            for i in 0..h * w {
                let (mut up, mut down) = (x.clone(), x.clone());
                up[i] += 0.25;
                down[i] -= 0.25;
                let expected = (objective(&up) - objective(&down)) / 0.5;
                prop_assert!((f64::from(dx[i]) - expected).abs() < 1e-3, "at {}: {} vs {}", i, dx[i], expected);
            }
        }
    }

    #[test]
    fn ties_go_to_the_first_and_nan_propagates() {
        let mut dx = [0.0; 4];
        backward(&[5.0; 4], &[1.0], (2, 2), &mut dx);
        assert_eq!(dx, [1.0, 0.0, 0.0, 0.0]);
        let mut y = [0.0];
        forward(&[1.0, f32::NAN, 3.0, 2.0], (2, 2), &mut y);
        assert!(y[0].is_nan());
    }
}
