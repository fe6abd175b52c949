//! The training forward pass: raw convolution outputs and block outputs are kept, normalised ones are not.

use super::backbone::{Buffers, Plan};
use super::buffers::{Normed, TrainBlock};
use crate::cpu::base::shape::{MapShape, check_len};
use crate::cpu::conv::winograd::Filters;
use crate::cpu::fuse::load::FusedLoad;
use crate::cpu::fuse::store::Epilogue;
use crate::cpu::fuse::sums::ChannelSums;
use crate::cpu::norm::{BatchStatistics, Norm, Residual, add_relu, move_running};
use crate::cpu::pool::global_average;
use crate::cpu::simd::Element;
use crate::network::{ConvNorm, ConvSlot, EPS, NormSlot};

impl<E: Element> Plan<E> {
    /// `images (B,3,H,W) -> embedding (B,E)` with BatchNorm on batch statistics, which also move `running`.
    ///
    /// `B` is told by the length of `images` and may be anything up to the plan's batch.
    /// Panics on wrong lengths, or if the plan was made for inference.
    pub fn forward_train(
        &mut self,
        params: &[f32],
        running: &mut [f32],
        images: &[f32],
        embedding: &mut [f32],
    ) {
        check_len("running statistics", running, self.layout.statistics_len());
        move_running(running, self.forward_train_collecting(params, images, embedding));
    }

    /// As [`Plan::forward_train`], with no running statistics but the batch's own, mean and unbiased variance in their
    /// places: for whoever has them move later ([`move_running`]).
    pub fn forward_train_collecting(
        &mut self,
        params: &[f32],
        images: &[f32],
        embedding: &mut [f32],
    ) -> &[f64] {
        self.accept(images);
        check_len("parameters", params, self.layout.parameters_len());
        let Self { pool, layout, stem, max_pool, blocks, sums, workspace, buffers, .. } = self;
        let Buffers::Train(train) = buffers else { panic!("this plan was made for inference") };
        let statistics = &mut train.statistics;
        let pool = &**pool;

        let packed = &mut train.packed_images[..stem.packed_len()];
        stem.pack_images(pool, images, packed);
        let raw = &mut train.stem.raw[..stem.output().len()];
        let ConvNorm { conv, norm: bn } = &layout.stem;
        sums.reset(stem.output().channels);
        let epilogue = Epilogue::Statistics(sums);
        stem.forward(pool, packed, &params[conv.range()], None, raw, epilogue, workspace);
        normalise(&mut train.stem.norm, sums, stem.output(), bn, params, statistics);
        let pooled = &mut train.pooled[..max_pool.output().len()];
        let argmax = &mut train.argmax[..pooled.len()];
        max_pool.forward(pool, bn_relu(raw, &train.stem.norm), pooled, argmax);

        for (i, block) in blocks.iter().enumerate() {
            let (done, rest) = train.blocks.split_at_mut(i);
            let x: &[E] = done.last().map_or(&train.pooled, |last| &last.out);
            let x = &x[..block.input.len()];
            let TrainBlock { first, second, branch, out } = &mut rest[0];
            let (Normed { raw: raw1, norm: norm1 }, Normed { raw: raw2, norm: norm2 }) = (first, second);
            let len = block.output.len();
            let (raw1, raw2, out) = (&mut raw1[..len], &mut raw2[..len], &mut out[..len]);

            sums.reset(block.output.channels);
            let filters = weights(params, &block.layout.first.conv);
            block.first.forward(pool, x, filters, raw1, Epilogue::Statistics(sums), workspace);
            normalise(norm1, sums, block.output, &block.layout.first.norm, params, statistics);

            sums.reset(block.output.channels);
            let filters = weights(params, &block.layout.second.conv);
            let epilogue = Epilogue::Statistics(sums);
            block.second.winograd().forward(pool, bn_relu(raw1, norm1), filters, raw2, epilogue, workspace);
            normalise(norm2, sums, block.output, &block.layout.second.norm, params, statistics);

            let residual = match (branch, &block.branch, &block.layout.downsample) {
                (Some(Normed { raw, norm }), Some(conv), Some(layer)) => {
                    let raw = &mut raw[..len];
                    sums.reset(block.output.channels);
                    conv.forward(
                        pool,
                        x,
                        &params[layer.conv.range()],
                        raw,
                        Epilogue::Statistics(sums),
                        workspace,
                    );
                    normalise(norm, sums, block.output, &layer.norm, params, statistics);
                    Residual::Bn { raw, norm }
                }
                _ => Residual::Plain(x),
            };
            add_relu(pool, block.output, raw2, norm2, residual, out);
        }
        let (last, shape): (&[E], _) = match (train.blocks.last(), blocks.last()) {
            (Some(last), Some(block)) => (&last.out, block.output),
            _ => (&train.pooled, max_pool.output()),
        };
        global_average(pool, shape, &last[..shape.len()], embedding);
        train.ready = true;
        &train.statistics
    }
}

/// `relu(batchnorm(raw))`, on the fly.
pub(super) fn bn_relu<'a, E>(raw: &'a [E], norm: &'a Norm) -> FusedLoad<'a, E> {
    FusedLoad::BnRelu { raw, scale: &norm.scale, shift: &norm.shift }
}

fn weights<'a, E>(params: &'a [f32], slot: &ConvSlot) -> Filters<'a, E> {
    Filters::Weights { weights: &params[slot.range()], scale: None }
}

fn normalise(
    norm: &mut Norm,
    sums: &ChannelSums,
    shape: MapShape,
    slot: &NormSlot,
    params: &[f32],
    statistics: &mut [f64],
) {
    let (gamma, beta) = slot.parameters(params);
    let (mean, var) = slot.running_mut(statistics);
    norm.from_sums(sums, shape.pixels(), gamma, beta, BatchStatistics { mean, var }, EPS as f32);
}
