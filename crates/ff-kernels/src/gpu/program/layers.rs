//! The commands of one layer each. Arguments are in the order of the kernels' parameters.

use super::arena::{Arena, Block};
use super::command::{
    Arg, BLOCK, Buffer, BufferPlace, Command, Constants, Convolve, Element, Launch, Operation,
};
use super::convs::{Conv, Convs, pooled};
use crate::cpu::base::shape::MapShape;
use crate::network::{EPS, MOMENTUM, NormSlot};

/// Channels that a thread works on.
const LANES: usize = 8;
/// Blocks that a sum over rows is spread over at most: four for each multiprocessor of the largest GPUs.
const MOST_SUM_BLOCKS: usize = 528;
/// Rows of a map that are worth a block of their own.
const LEAST_ROWS: usize = 64;
/// Blocks along one convolution's filters.
const FILTER_BLOCKS: u32 = 64;

/// Filters, biases or gradients of all convolutions in the arena.
#[derive(Clone, Copy, Debug)]
pub(in crate::gpu) struct Filters {
    at: BufferPlace,
    biases: Option<BufferPlace>,
    table: BufferPlace,
}

impl Filters {
    /// Where a convolution's filters lie.
    pub(in crate::gpu) fn of(&self, conv: &Conv, element: Element) -> BufferPlace {
        BufferPlace { offset: self.at.offset + conv.packed * element.bytes(), ..self.at }
    }

    /// Where a convolution's bias lies.
    pub(in crate::gpu) fn bias_of(&self, conv: &Conv, element: Element) -> BufferPlace {
        let biases = self.biases.expect("folded filters have biases");
        BufferPlace { offset: biases.offset + conv.bias * element.bytes(), ..biases }
    }
}

/// Which gradients a ReLU lets through: `Mask` of norm.cuh.
#[derive(Clone, Copy, Debug)]
pub(in crate::gpu) enum Mask {
    None,
    /// Where this activation is positive.
    Activation(BufferPlace),
    /// Where the BatchNorm itself is.
    Normed,
}

/// What is added before the ReLU of a BatchNorm.
#[derive(Clone, Copy, Debug)]
pub(in crate::gpu) enum Residual {
    None,
    Plain(BufferPlace),
    /// Through a BatchNorm of its own.
    Normed {
        raw: BufferPlace,
        norm: BufferPlace,
    },
}

/// Writes commands down, and hands out the arena as it goes.
#[derive(Debug)]
pub(in crate::gpu) struct Writer {
    pub(in crate::gpu) arena: Arena,
    pub(in crate::gpu) element: Element,
    pub(in crate::gpu) commands: Vec<Command>,
    /// Room for the partial sums of a map.
    partial: BufferPlace,
    coefficients: BufferPlace,
    table: Constants,
}

impl Writer {
    pub(in crate::gpu) fn new(element: Element, convs: &Convs) -> Self {
        let widest = convs.all().map(|conv| conv.geometry.outputs).fold(0, usize::max);
        let mut arena = Arena::default();
        let partial = arena.keep(4 * 2 * widest * MOST_SUM_BLOCKS);
        let coefficients = arena.keep(4 * 3 * widest);
        let bytes = convs.table();
        let table = Constants { place: arena.keep(bytes.len()), bytes };
        Self { arena, element, commands: Vec::new(), partial, coefficients, table }
    }

    /// What must be in the arena before the first command.
    pub(in crate::gpu) fn constants(&self) -> Constants {
        self.table.clone()
    }

    /// Room for a map of this shape.
    pub(in crate::gpu) fn map(&mut self, shape: MapShape) -> Block {
        self.arena.take(shape.len() * self.element.bytes())
    }

    /// Room for filters, or gradients, of all convolutions.
    pub(in crate::gpu) fn filters(&mut self, convs: &Convs) -> Filters {
        let at = self.arena.keep(convs.packed_len * self.element.bytes());
        Filters { at, biases: None, table: self.table.place }
    }

    /// Room for filters and biases that include the BatchNorms.
    pub(in crate::gpu) fn folded_filters(&mut self, convs: &Convs) -> Filters {
        let biases = Some(self.arena.keep(convs.bias_len * self.element.bytes()));
        Filters { biases, ..self.filters(convs) }
    }

    fn launch(&mut self, kernel: String, grid: [u32; 3], args: Vec<Arg>) {
        self.commands.push(Command::Launch(Launch { kernel, grid, args }));
    }

    /// A kernel whose name ends in the element type, a thread for every 8 of `len` values.
    fn elementwise(&mut self, kernel: &str, len: usize, args: Vec<Arg>) {
        let blocks = len.div_ceil(LANES * BLOCK as usize);
        self.launch(format!("{kernel}_{}", self.element), [blocks as u32, 1, 1], args);
    }

    fn over_filters(&mut self, kernel: &str, convs: &Convs, args: Vec<Arg>) {
        let kernel = format!("{kernel}_{}", self.element);
        self.launch(kernel, [FILTER_BLOCKS, convs.all().count() as u32, 1], args);
    }

    /// Flat parameters -> filters.
    pub(in crate::gpu) fn pack(&mut self, convs: &Convs, filters: Filters) {
        let args = vec![flat(Buffer::Parameters), Arg::At(filters.table), Arg::At(filters.at)];
        self.over_filters("pack_filters", convs, args);
    }

    /// Flat parameters and running statistics -> filters and biases that include the BatchNorms.
    pub(in crate::gpu) fn fold(&mut self, convs: &Convs, filters: Filters) {
        let biases = filters.biases.expect("folded filters have biases");
        let args = vec![
            flat(Buffer::Parameters),
            flat(Buffer::Statistics),
            Arg::At(filters.table),
            Arg::F32(EPS as f32),
            Arg::At(filters.at),
            Arg::At(biases),
        ];
        self.over_filters("fold_filters", convs, args);
    }

    /// Gradients of filters -> the flat gradient.
    pub(in crate::gpu) fn unpack(&mut self, convs: &Convs, gradients: Filters) {
        let args = vec![Arg::At(gradients.at), Arg::At(gradients.table), flat(Buffer::Gradient)];
        self.over_filters("unpack_gradients", convs, args);
    }

    /// A convolution without anything behind it, or one of its gradients.
    pub(in crate::gpu) fn convolve(
        &mut self,
        conv: &Conv,
        operation: Operation,
        x: BufferPlace,
        filters: Filters,
        y: BufferPlace,
    ) {
        let convolve = self.convolution(conv, operation, x, filters, y);
        self.commands.push(Command::Convolve(convolve));
    }

    /// `y = act(conv(x) + bias + residual)`, the BatchNorm folded.
    pub(in crate::gpu) fn convolve_fused(
        &mut self,
        conv: &Conv,
        x: BufferPlace,
        filters: Filters,
        residual: Option<BufferPlace>,
        relu: bool,
        y: BufferPlace,
    ) {
        let operation = Operation::Fused { residual: residual.is_some(), relu };
        let bias = Some(filters.bias_of(conv, self.element));
        let convolve = Convolve { bias, residual, ..self.convolution(conv, operation, x, filters, y) };
        self.commands.push(Command::Convolve(convolve));
    }

    fn convolution(
        &self,
        conv: &Conv,
        operation: Operation,
        x: BufferPlace,
        filters: Filters,
        y: BufferPlace,
    ) -> Convolve {
        let (geometry, element) = (conv.geometry, self.element);
        let w = filters.of(conv, element);
        Convolve { geometry, operation, element, x, w, y, bias: None, residual: None }
    }

    /// Batch statistics of a convolution's output into `norm` (4, C), moving the running ones.
    pub(in crate::gpu) fn norm_statistics(&mut self, conv: &Conv, raw: BufferPlace, norm: BufferPlace) {
        let Sums { blocks, rows, channels, rows_of_block } = Sums::of(conv.output());
        let args = vec![Arg::At(raw), rows.clone(), channels.clone(), rows_of_block.clone(), self.partial()];
        self.launch(format!("norm_sums_{}", self.element), [blocks, 1, 1], args);
        let norm_slot = &conv.layer.norm;
        let (gamma, beta) = parameters(Buffer::Parameters, norm_slot);
        let (mean, var) = pair(Buffer::Statistics, norm_slot.running, norm_slot.channels);
        let args = vec![
            self.partial(),
            Arg::U32(blocks),
            rows,
            channels,
            rows_of_block,
            gamma,
            beta,
            Arg::F32(MOMENTUM as f32),
            Arg::F32(EPS as f32),
            mean,
            var,
            Arg::At(norm),
        ];
        self.launch("norm_finish".into(), [norm_slot.channels as u32, 1, 1], args);
    }

    /// `out = relu(norm(raw) + residual)`
    pub(in crate::gpu) fn norm_relu(
        &mut self,
        conv: &Conv,
        raw: BufferPlace,
        norm: BufferPlace,
        residual: Residual,
        out: BufferPlace,
    ) {
        let shape = conv.output();
        let (residual, residual_norm) = match residual {
            Residual::None => (Arg::Null, Arg::Null),
            Residual::Plain(place) => (Arg::At(place), Arg::Null),
            Residual::Normed { raw, norm } => (Arg::At(raw), Arg::At(norm)),
        };
        let args = [Arg::At(raw), Arg::At(norm), residual, residual_norm, Arg::At(out)];
        self.elementwise("norm_apply", shape.len(), args.into_iter().chain(rows_of(shape)).collect());
    }

    /// The gradient behind a BatchNorm, `grad + more` behind the mask: its sums, with them the gradients of scale and
    /// shift, and the coefficients that [`Self::norm_input_gradient`] goes by. Stores it in `masked` if asked.
    pub(in crate::gpu) fn norm_gradient(
        &mut self,
        conv: &Conv,
        grad: BufferPlace,
        more: Option<BufferPlace>,
        mask: Mask,
        raw: BufferPlace,
        norm: BufferPlace,
        masked: Option<BufferPlace>,
    ) {
        let sums = Sums::of(conv.output());
        let args = vec![
            Arg::At(grad),
            or_null(more),
            mask.code(),
            match mask {
                Mask::Activation(place) => Arg::At(place),
                Mask::None | Mask::Normed => Arg::Null,
            },
            Arg::At(raw),
            Arg::At(norm),
            or_null(masked),
            sums.rows.clone(),
            sums.channels.clone(),
            sums.rows_of_block.clone(),
            self.partial(),
        ];
        self.launch(format!("norm_backward_sums_{}", self.element), [sums.blocks, 1, 1], args);
        self.norm_gradient_finish(conv, &sums, norm);
    }

    fn norm_gradient_finish(&mut self, conv: &Conv, sums: &Sums, norm: BufferPlace) {
        let norm_slot = &conv.layer.norm;
        let (gamma, _) = parameters(Buffer::Parameters, norm_slot);
        let (grad_gamma, grad_beta) = parameters(Buffer::Gradient, norm_slot);
        let args = vec![
            self.partial(),
            Arg::U32(sums.blocks),
            sums.rows.clone(),
            sums.channels.clone(),
            gamma,
            Arg::At(norm),
            grad_gamma,
            grad_beta,
            Arg::At(self.coefficients),
        ];
        self.launch("norm_backward_finish".into(), [norm_slot.channels as u32, 1, 1], args);
    }

    /// From the gradient behind a BatchNorm to that of the convolution's output.
    pub(in crate::gpu) fn norm_input_gradient(
        &mut self,
        conv: &Conv,
        grad: BufferPlace,
        mask: Mask,
        raw: BufferPlace,
        norm: BufferPlace,
        out: BufferPlace,
    ) {
        let shape = conv.output();
        let coefficients = Arg::At(self.coefficients);
        let args = [Arg::At(grad), mask.code(), Arg::At(raw), Arg::At(norm), coefficients, Arg::At(out)];
        self.elementwise(
            "norm_backward_apply",
            shape.len(),
            args.into_iter().chain(rows_of(shape)).collect(),
        );
    }

    /// `pooled = maxpool(relu(norm(raw)))` behind the stem, and which places won.
    pub(in crate::gpu) fn max_pool(
        &mut self,
        stem: &Conv,
        raw: BufferPlace,
        norm: BufferPlace,
        out: BufferPlace,
        places: BufferPlace,
    ) {
        let args = vec![Arg::At(raw), Arg::At(norm), pool_size(stem), Arg::At(out), Arg::At(places)];
        self.elementwise("max_pool", pooled(stem.output()).len(), args);
    }

    /// `pooled = maxpool(x)` of what is behind its ReLU already.
    pub(in crate::gpu) fn max_pool_only(&mut self, stem: &Conv, x: BufferPlace, out: BufferPlace) {
        let args = vec![Arg::At(x), Arg::Null, pool_size(stem), Arg::At(out), Arg::Null];
        self.elementwise("max_pool", pooled(stem.output()).len(), args);
    }

    /// From the gradient behind the max-pool to that of the stem's convolution, and those of its BatchNorm.
    pub(in crate::gpu) fn max_pool_gradient(
        &mut self,
        stem: &Conv,
        grad: BufferPlace,
        places: BufferPlace,
        raw: BufferPlace,
        norm: BufferPlace,
        out: BufferPlace,
    ) {
        let sums = Sums::of(stem.output());
        let [grad, places, raw, norm_at] = [grad, places, raw, norm].map(Arg::At);
        let size = pool_size(stem);
        let of_both = [grad, places, raw, norm_at];
        let rest = [size.clone(), sums.rows_of_block.clone(), self.partial()];
        let args = of_both.iter().cloned().chain(rest).collect();
        self.launch(format!("max_pool_backward_sums_{}", self.element), [sums.blocks, 1, 1], args);
        self.norm_gradient_finish(stem, &sums, norm);
        let rest = [Arg::At(self.coefficients), size, Arg::At(out)];
        let args = of_both.into_iter().chain(rest).collect();
        self.elementwise("max_pool_backward_apply", stem.output().len(), args);
    }

    /// `to = a + b`
    pub(in crate::gpu) fn add(&mut self, shape: MapShape, a: BufferPlace, b: BufferPlace, to: BufferPlace) {
        let args = vec![Arg::At(a), Arg::At(b), Arg::At(to), Arg::U32((shape.len() / LANES) as u32)];
        self.elementwise("add", shape.len(), args);
    }

    /// (B,H,W,C) -> (B,C) f32
    pub(in crate::gpu) fn average(&mut self, shape: MapShape, map: BufferPlace, embedding: BufferPlace) {
        let args = [Arg::At(map)].into_iter().chain(average_size(shape)).chain([Arg::At(embedding)]);
        self.elementwise("average", shape.batch * shape.channels, args.collect());
    }

    /// (B,C) f32 -> (B,H,W,C)
    pub(in crate::gpu) fn average_gradient(&mut self, shape: MapShape, grad: BufferPlace, out: BufferPlace) {
        let args = [Arg::At(grad)].into_iter().chain(average_size(shape)).chain([Arg::At(out)]);
        self.elementwise("average_backward", shape.len(), args.collect());
    }

    fn partial(&self) -> Arg {
        Arg::At(self.partial)
    }
}

impl Mask {
    fn code(self) -> Arg {
        Arg::U32(match self {
            Self::None => 0,
            Self::Activation(_) => 1,
            Self::Normed => 2,
        })
    }
}

/// How a sum over the rows of a map is split into blocks.
struct Sums {
    blocks: u32,
    rows: Arg,
    channels: Arg,
    rows_of_block: Arg,
}

impl Sums {
    fn of(shape: MapShape) -> Self {
        let rows = shape.pixels();
        let rows_of_block = rows.div_ceil((rows / LEAST_ROWS).clamp(1, MOST_SUM_BLOCKS));
        Self {
            blocks: rows.div_ceil(rows_of_block) as u32,
            rows: Arg::U32(rows as u32),
            channels: Arg::U32(shape.channels as u32),
            rows_of_block: Arg::U32(rows_of_block as u32),
        }
    }
}

fn flat(buffer: Buffer) -> Arg {
    Arg::At(BufferPlace { buffer, offset: 0 })
}

fn or_null(place: Option<BufferPlace>) -> Arg {
    place.map_or(Arg::Null, Arg::At)
}

fn rows_of(shape: MapShape) -> [Arg; 2] {
    [Arg::U32(shape.pixels() as u32), Arg::U32(shape.channels as u32)]
}

fn average_size(shape: MapShape) -> [Arg; 3] {
    [shape.batch, shape.height * shape.width, shape.channels].map(|n| Arg::U32(n as u32))
}

/// Two vectors of `channels` f32, one behind the other.
fn pair(buffer: Buffer, first: usize, channels: usize) -> (Arg, Arg) {
    (Arg::At(BufferPlace::f32s(buffer, first)), Arg::At(BufferPlace::f32s(buffer, first + channels)))
}

/// Scale and shift of a BatchNorm in the parameters, or their gradients.
fn parameters(buffer: Buffer, norm: &NormSlot) -> (Arg, Arg) {
    pair(buffer, norm.offset, norm.channels)
}

/// `PoolSize` of pool.cuh.
fn pool_size(stem: &Conv) -> Arg {
    let (input, output) = (stem.output(), pooled(stem.output()));
    let sizes = [input.batch, input.height, input.width, input.channels, output.height, output.width];
    Arg::Struct(sizes.iter().flat_map(|&n| (n as u32).to_le_bytes()).collect())
}
