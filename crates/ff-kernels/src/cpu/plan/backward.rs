//! The backward pass, block by block from the last.
//!
//! On entry to a block, the gradient of its output is already masked by its ReLU and the two sums of its second
//! BatchNorm are gathered: the input-gradient convolution of the block behind did both as it stored its output.

use super::backbone::{Buffers, Plan};
use super::block::Conv;
use super::buffers::{Normed, TrainBlock};
use super::forward::bn_relu;
use crate::cpu::base::shape::{MapShape, check_len};
use crate::cpu::conv::indirect::Branch;
use crate::cpu::conv::stem::StemGradient;
use crate::cpu::fuse::load::FusedLoad;
use crate::cpu::fuse::store::{Accumulate, Epilogue, Gradient, Mask, Moments};
use crate::cpu::fuse::sums::ChannelSums;
use crate::cpu::norm::{Coefficients, Norm, apply_backward, gather_backward};
use crate::cpu::pool::global_average_backward;
use crate::cpu::simd::Element;
use crate::network::{ConvNorm, NormSlot};

impl<E: Element> Plan<E> {
    /// `grad_embedding (B,E) -> grads`, all of them overwritten, for the batch of the last `forward_train`.
    ///
    /// `params` must be those of that forward pass. Panics on wrong lengths, or without such a pass.
    pub fn backward(&mut self, params: &[f32], grad_embedding: &[f32], grads: &mut [f32]) {
        self.backward_in_parts(params, grad_embedding, grads, &mut |_| {});
    }

    /// As [`Self::backward`], but gives `grads` away in parts, each as soon as it is final, in those of
    /// [`Layout::part_begins`](crate::network::Layout::part_begins). `done` is called on this thread, so whatever takes
    /// long is for it to leave to another one.
    pub fn backward_in_parts<'g>(
        &mut self,
        params: &[f32],
        grad_embedding: &[f32],
        mut grads: &'g mut [f32],
        done: &mut dyn FnMut(&'g mut [f32]),
    ) {
        check_len("parameters", params, self.layout.parameters_len());
        check_len("gradients", grads, self.layout.parameters_len());
        let Self { pool, layout, stem, max_pool, blocks, sums, coefficients, workspace, buffers, .. } = self;
        let Buffers::Train(train) = buffers else { panic!("this plan was made for inference") };
        assert!(std::mem::take(&mut train.ready), "backward needs a forward_train before it");
        let pool = &**pool;
        let [coefficients, branch_coefficients] = coefficients;
        let [grad, inner, outer] = &mut train.grads;
        let (mut grad, mut next) = (grad, outer);

        let last = train.blocks.len().checked_sub(1);
        let (shape, activation): (MapShape, &[E]) = match last {
            Some(last) => (blocks[last].output, &train.blocks[last].out),
            None => (max_pool.output(), &train.pooled),
        };
        sums.reset(shape.channels);
        let moments = last.map(|last| {
            let block = &train.blocks[last];
            Moments { raw: &block.second.raw[..shape.len()], mean: &block.second.norm.mean, sums: &mut *sums }
        });
        let mask = Mask::Activation(&activation[..shape.len()]);
        let epilogue = Epilogue::Gradient(Gradient { accumulate: Accumulate::No, mask, moments });
        global_average_backward(pool, shape, grad_embedding, &mut grad[..shape.len()], epilogue);

        for (i, block) in blocks.iter().enumerate().rev() {
            let TrainBlock { first, second, branch, .. } = &train.blocks[i];
            let (Normed { raw: raw1, norm: norm1 }, Normed { raw: raw2, norm: norm2 }) = (first, second);
            let (len, pixels) = (block.output.len(), block.output.pixels());
            let (raw1, raw2) = (&raw1[..len], &raw2[..len]);
            let g = &mut grad[..len];

            backward(norm2, sums, pixels, &block.layout.second.norm, params, grads, coefficients);
            let d_raw2 = FusedLoad::BnBackward { grad: g, raw: raw2, coefficients };
            let (slot, inner) = (&block.layout.second.conv, &mut inner[..len]);
            block.second.winograd().weight_gradient(
                pool,
                bn_relu(raw1, norm1),
                d_raw2,
                &mut grads[slot.range()],
                workspace,
            );
            sums.reset(block.output.channels);
            let epilogue = Epilogue::Gradient(Gradient {
                accumulate: Accumulate::No,
                mask: Mask::Bn { raw: raw1, scale: &norm1.scale, shift: &norm1.shift },
                moments: Some(Moments { raw: raw1, mean: &norm1.mean, sums }),
            });
            block.second.winograd().input_gradient(
                pool,
                d_raw2,
                &params[slot.range()],
                inner,
                epilogue,
                workspace,
            );

            backward(norm1, sums, pixels, &block.layout.first.norm, params, grads, coefficients);
            let x: &[E] = if i > 0 { &train.blocks[i - 1].out } else { &train.pooled };
            let x = &x[..block.input.len()];
            let slot = &block.layout.first.conv;
            if let (Some(Normed { raw, norm }), Some(conv), Some(layer)) =
                (branch, &block.branch, &block.layout.downsample)
            {
                let raw = &raw[..len];
                sums.reset(block.output.channels);
                gather_backward(pool, block.output, g, raw, &norm.mean, sums);
                backward(norm, sums, pixels, &layer.norm, params, grads, branch_coefficients);
                apply_backward(pool, block.output, raw, branch_coefficients, g);
                let to = &mut grads[layer.conv.range()];
                conv.weight_gradient(pool, x, FusedLoad::Plain(g), to, workspace);
            }
            let before = (i > 0).then(|| &train.blocks[i - 1]);
            sums.reset(block.input.channels);
            let epilogue = |accumulate, sums| {
                let moments = before.map(|before| Moments {
                    raw: &before.second.raw[..block.input.len()],
                    mean: &before.second.norm.mean,
                    sums,
                });
                Epilogue::Gradient(Gradient { accumulate, mask: Mask::Activation(x), moments })
            };
            match &block.first {
                Conv::Winograd(conv) => {
                    let d_raw1 = FusedLoad::BnBackward { grad: inner, raw: raw1, coefficients };
                    conv.weight_gradient(
                        pool,
                        FusedLoad::Plain(x),
                        d_raw1,
                        &mut grads[slot.range()],
                        workspace,
                    );
                    let weights = &params[slot.range()];
                    match (&block.branch, &block.layout.downsample) {
                        (Some(branch), Some(layer)) => {
                            let to = &mut next[..block.input.len()];
                            let branch_weights = &params[layer.conv.range()];
                            branch.input_gradient(
                                pool,
                                g,
                                branch_weights,
                                None,
                                to,
                                Epilogue::Store,
                                workspace,
                            );
                            let epilogue = epilogue(Accumulate::Yes, sums);
                            conv.input_gradient(pool, d_raw1, weights, to, epilogue, workspace);
                            std::mem::swap(&mut grad, &mut next);
                        }
                        _ => conv.input_gradient(
                            pool,
                            d_raw1,
                            weights,
                            g,
                            epilogue(Accumulate::Yes, sums),
                            workspace,
                        ),
                    }
                }
                Conv::Indirect(conv) => {
                    apply_backward(pool, block.output, raw1, coefficients, inner);
                    let inner = &*inner;
                    conv.weight_gradient(
                        pool,
                        x,
                        FusedLoad::Plain(inner),
                        &mut grads[slot.range()],
                        workspace,
                    );
                    let branch = block
                        .layout
                        .downsample
                        .as_ref()
                        .map(|layer| Branch { grad_out: g, weights: &params[layer.conv.range()] });
                    let to = &mut next[..block.input.len()];
                    let weights = &params[slot.range()];
                    conv.input_gradient(
                        pool,
                        inner,
                        weights,
                        branch,
                        to,
                        epilogue(Accumulate::No, sums),
                        workspace,
                    );
                    std::mem::swap(&mut grad, &mut next);
                }
            }
            if i > 0 && blocks[i - 1].layout.stage < block.layout.stage {
                let (before, stage) = std::mem::take(&mut grads).split_at_mut(slot.offset);
                done(stage);
                grads = before;
            }
        }

        let (shape, norm) = (max_pool.output(), &train.stem.norm);
        let (raw, argmax) = (&train.stem.raw[..stem.output().len()], &train.argmax[..shape.len()]);
        let g = &grad[..shape.len()];
        sums.reset(shape.channels);
        max_pool.gather_backward(pool, g, argmax, raw, &norm.mean, sums, workspace);
        let ConvNorm { conv: slot, norm: bn } = &layout.stem;
        backward(norm, sums, stem.output().pixels(), bn, params, grads, coefficients);
        let gradient = StemGradient { pool: *max_pool, grad: g, argmax, raw, coefficients };
        let packed = &train.packed_images[..stem.packed_len()];
        stem.weight_gradient(pool, packed, gradient, &mut grads[slot.range()], workspace);
        done(grads);
    }
}

fn backward(
    norm: &Norm,
    sums: &ChannelSums,
    pixels: usize,
    slot: &NormSlot,
    params: &[f32],
    grads: &mut [f32],
    coefficients: &mut Coefficients,
) {
    let (grad_gamma, grad_beta) = slot.parameters_mut(grads);
    norm.backward(sums, pixels, slot.parameters(params).0, grad_gamma, grad_beta, coefficients);
}
