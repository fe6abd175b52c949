//! Inference: every BatchNorm folded into the convolution before it, the residual and ReLU into its epilogue.

use super::backbone::{Buffers, Plan};
use super::buffers::{Folded, FoldedBlock};
use crate::cpu::base::shape::check_len;
use crate::cpu::conv::winograd::Filters;
use crate::cpu::fuse::store::{Activation, Epilogue};
use crate::cpu::pool::global_average;
use crate::cpu::simd::Element;
use crate::network::{ConvSlot, EPS, NormSlot};

impl<E: Element> Plan<E> {
    /// `images (B,3,H,W) -> embedding (B,E)` with BatchNorm on running statistics.
    ///
    /// `B` is told by the length of `images` and may be anything up to the plan's batch. Folded weights are
    /// kept from call to call: say [`Self::invalidate_weights`] when parameters or statistics have changed.
    /// Panics on wrong lengths, or if the plan was made for training.
    pub fn forward_eval(&mut self, params: &[f32], running: &[f32], images: &[f32], embedding: &mut [f32]) {
        self.accept(images);
        check_len("parameters", params, self.layout.parameters_len());
        check_len("running statistics", running, self.layout.statistics_len());
        self.fold(params, running);
        let Self { pool, layout, stem, max_pool, blocks, workspace, buffers, .. } = self;
        let Buffers::Infer(infer) = buffers else { panic!("this plan was made for training") };
        let pool = &**pool;

        let [x, middle, branch_out] = &mut infer.maps;
        let (mut x, mut out) = (x, branch_out);
        let interleaved = &mut infer.images[..stem.interleaved_len()];
        let (weights, pooled) = (&params[layout.stem.conv.range()], &mut x[..max_pool.output().len()]);
        let Folded { scale, bias, .. } = &infer.stem;
        stem.forward_pooled(pool, images, interleaved, weights, scale, bias, pooled, workspace);

        let mut shape = max_pool.output();
        for (block, folded) in blocks.iter().zip(&infer.blocks) {
            let FoldedBlock { first, second, branch } = folded;
            shape = block.output;
            let len = shape.len();
            let (input, middle) = (&mut x[..block.input.len()], &mut middle[..len]);
            let filters = filters(first, params, &block.layout.first.conv);
            block.first.forward(pool, input, filters, middle, relu(first, None), workspace);
            let filters = self::filters(second, params, &block.layout.second.conv);
            let out_map = &mut out[..len];
            if let (Some(branch), Some(conv)) = (branch, &block.branch) {
                let packed = branch.filters.as_ref().expect("the branch is packed");
                let epilogue = Epilogue::Inference {
                    bias: &branch.bias,
                    residual: None,
                    activation: Activation::Identity,
                };
                conv.forward_packed(pool, input, packed, out_map, epilogue, workspace);
                // The input is dead: the result takes its place, so the branch stays in `out`.
                let epilogue = relu(second, Some(out_map));
                let to = &mut x[..len];
                block.second.forward(pool, middle, filters, to, epilogue, workspace);
            } else {
                let epilogue = relu(second, Some(input));
                block.second.forward(pool, middle, filters, out_map, epilogue, workspace);
                std::mem::swap(&mut x, &mut out);
            }
        }
        global_average(pool, shape, &x[..shape.len()], embedding);
    }

    /// Says that parameters or running statistics have changed since the last `forward_eval`.
    pub fn invalidate_weights(&mut self) {
        if let Buffers::Infer(infer) = &mut self.buffers {
            infer.fresh = false;
        }
    }

    fn fold(&mut self, params: &[f32], running: &[f32]) {
        let Self { pool, layout, blocks, buffers, .. } = self;
        let Buffers::Infer(infer) = buffers else { panic!("this plan was made for training") };
        if infer.fresh {
            return;
        }
        infer.stem.take(&layout.stem.norm, params, running);
        for (block, folded) in blocks.iter().zip(&mut infer.blocks) {
            let FoldedBlock { first, second, branch } = folded;
            for (folded, conv, layer) in
                [(first, &block.first, &block.layout.first), (second, &block.second, &block.layout.second)]
            {
                folded.take(&layer.norm, params, running);
                if let Some(filters) = &mut folded.filters {
                    conv.prepare(pool, &params[layer.conv.range()], &folded.scale, filters);
                }
            }
            if let (Some(folded), Some(conv), Some(layer)) = (branch, &block.branch, &block.layout.downsample)
            {
                folded.take(&layer.norm, params, running);
                if let Some(filters) = &mut folded.filters {
                    conv.pack(pool, &params[layer.conv.range()], Some(&folded.scale), filters);
                }
            }
        }
        infer.fresh = true;
    }
}

impl<E: Element> Folded<E> {
    fn take(&mut self, norm: &NormSlot, params: &[f32], running: &[f32]) {
        let ((gamma, beta), (mean, var)) = (norm.parameters(params), norm.running(running));
        for c in 0..norm.channels {
            let scale = f64::from(gamma[c]) / (f64::from(var[c]) + EPS).sqrt();
            self.scale[c] = scale as f32;
            self.bias[c] = (f64::from(beta[c]) - f64::from(mean[c]) * scale) as f32;
        }
    }
}

fn relu<'a, E: Element>(folded: &'a Folded<E>, residual: Option<&'a [E]>) -> Epilogue<'a, E> {
    Epilogue::Inference { bias: &folded.bias, residual, activation: Activation::Relu }
}

fn filters<'a, E: Element>(folded: &'a Folded<E>, params: &'a [f32], slot: &ConvSlot) -> Filters<'a, E> {
    match &folded.filters {
        Some(filters) => Filters::Transformed(filters),
        None => Filters::Weights { weights: &params[slot.range()], scale: Some(&folded.scale) },
    }
}
