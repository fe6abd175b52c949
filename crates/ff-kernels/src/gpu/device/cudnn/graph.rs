//! A convolution as cuDNN's operation graph.
//!
//! Tensors are (N,C,H,W) with the strides of NHWC; sums are f32. A fused convolution is the pattern that cuDNN has
//! ready-made kernels for: convolution, plus residual, plus bias, then perhaps a ReLU, all between them virtual f32,
//! and the bias of the tensors' own element.

use std::sync::Arc;

use cudarc::cudnn::sys;
use sys::cudnnBackendAttributeName_t as Name;
use sys::cudnnBackendDescriptorType_t as Kind;
use sys::cudnnDataType_t as DataType;
use sys::cudnnPointwiseMode_t as Mode;

use super::descriptor::Descriptor;
use crate::gpu::error::Result;
use crate::gpu::{Element, Geometry, Operation};

/// Tensors by the numbers that a variant pack names them with.
pub(super) const X: i64 = 1;
pub(super) const W: i64 = 2;
pub(super) const Y: i64 = 3;
pub(super) const BIAS: i64 = 4;
pub(super) const RESIDUAL: i64 = 5;
/// The first of those without memory.
const VIRTUAL: i64 = 100;

/// What every address is a multiple of: filters and biases begin at multiples of 8 elements or more.
const ALIGNMENT: i64 = 16;

/// An operation graph and all that it refers to; what refers is dropped first.
pub(super) struct Graph {
    graph: Descriptor,
    _parts: Vec<Arc<Descriptor>>,
}

impl Graph {
    /// The graph of one operation over these shapes, for the GPU of `handle` or for one that is named later.
    ///
    /// # Errors
    /// cuDNN refuses it.
    pub(super) fn new(
        geometry: &Geometry,
        operation: Operation,
        element: Element,
        handle: Option<sys::cudnnHandle_t>,
    ) -> Result<Self> {
        let element = match element {
            Element::F32 => DataType::CUDNN_DATA_FLOAT,
            Element::Bf16 => DataType::CUDNN_DATA_BFLOAT16,
        };
        let mut builder = Builder { geometry, element, operations: Vec::new(), parts: Vec::new() };
        builder.operation(operation)?;
        let Builder { operations, mut parts, .. } = builder;
        let operations_of: Vec<&Descriptor> = operations.iter().map(|operation| &**operation).collect();
        let mut graph = Descriptor::new(Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)?
            .refer(Name::CUDNN_ATTR_OPERATIONGRAPH_OPS, &operations_of)?;
        if let Some(handle) = handle {
            graph = graph.set(Name::CUDNN_ATTR_OPERATIONGRAPH_HANDLE, &[handle])?;
        }
        let graph = graph.finalize("an operation graph")?;
        parts.extend(operations);
        Ok(Self { graph, _parts: parts })
    }

    /// For heuristics.
    pub(super) fn descriptor(&self) -> &Descriptor {
        &self.graph
    }
}

struct Builder<'a> {
    geometry: &'a Geometry,
    element: DataType,
    operations: Vec<Arc<Descriptor>>,
    parts: Vec<Arc<Descriptor>>,
}

impl Builder<'_> {
    fn operation(&mut self, operation: Operation) -> Result<()> {
        use Name as N;
        let x = self.tensor(X, self.x_shape(), self.element)?;
        let w = self.tensor(W, self.w_shape(), self.element)?;
        let y = self.tensor(Y, self.y_shape(), self.element)?;
        match operation {
            Operation::Forward => self.forward(&x, &w, &y),
            Operation::Fused { residual, relu } => self.fused(&x, &w, &y, residual, relu),
            Operation::BackwardData => self.convolution(
                Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                N::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                [
                    N::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                    N::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA,
                ],
                [
                    (N::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, &x),
                    (N::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, &w),
                    (N::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, &y),
                ],
            ),
            Operation::BackwardFilter => self.convolution(
                Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                N::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                [
                    N::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                    N::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA,
                ],
                [
                    (N::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, &x),
                    (N::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, &w),
                    (N::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, &y),
                ],
            ),
        }
    }

    fn forward(&mut self, x: &Descriptor, w: &Descriptor, y: &Descriptor) -> Result<()> {
        use Name as N;
        self.convolution(
            Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
            N::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
            [
                N::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                N::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
            ],
            [
                (N::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x),
                (N::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, w),
                (N::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, y),
            ],
        )
    }

    /// Convolution, [residual], bias, [ReLU]: each step's output is the next one's input, the last is `y`.
    fn fused(
        &mut self,
        x: &Descriptor,
        w: &Descriptor,
        y: &Arc<Descriptor>,
        residual: bool,
        relu: bool,
    ) -> Result<()> {
        let bias = self.tensor(BIAS, [1, self.geometry.outputs, 1, 1], self.element)?;
        let mut steps = Vec::new();
        if residual {
            let residual = self.tensor(RESIDUAL, self.y_shape(), self.element)?;
            steps.push((Mode::CUDNN_POINTWISE_ADD, Some(residual)));
        }
        steps.push((Mode::CUDNN_POINTWISE_ADD, Some(bias)));
        if relu {
            steps.push((Mode::CUDNN_POINTWISE_RELU_FWD, None));
        }
        let mut at = self.between(0)?;
        self.forward(x, w, &at)?;
        let last = steps.len() - 1;
        for (i, (mode, operand)) in steps.into_iter().enumerate() {
            let out = if i == last { Arc::clone(y) } else { self.between(i as i64 + 1)? };
            self.pointwise(mode, &at, operand.as_deref(), &out)?;
            at = out;
        }
        Ok(())
    }

    fn convolution(
        &mut self,
        kind: Kind,
        shape: Name,
        factors: [Name; 2],
        tensors: [(Name, &Descriptor); 3],
    ) -> Result<()> {
        let both = |value: usize| [value as i64; 2];
        let padding = both(self.geometry.padding);
        let convolution = Descriptor::new(Kind::CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR)?
            .set(Name::CUDNN_ATTR_CONVOLUTION_COMP_TYPE, &[DataType::CUDNN_DATA_FLOAT])?
            .set(
                Name::CUDNN_ATTR_CONVOLUTION_CONV_MODE,
                &[sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION],
            )?
            .set(Name::CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, &[2_i64])?
            .set(Name::CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, &padding)?
            .set(Name::CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, &padding)?
            .set(Name::CUDNN_ATTR_CONVOLUTION_DILATIONS, &both(1))?
            .set(Name::CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, &both(self.geometry.stride))?
            .finalize("a convolution's description")?;
        let convolution = self.keep(convolution);
        let [alpha, beta] = factors;
        let mut operation = Descriptor::new(kind)?
            .refer(shape, &[&convolution])?
            .set(alpha, &[1.0_f32])?
            .set(beta, &[0.0_f32])?;
        for (name, tensor) in tensors {
            operation = operation.refer(name, &[tensor])?;
        }
        self.operations.push(Arc::new(operation.finalize("a convolution")?));
        Ok(())
    }

    /// `out = at + operand`, or `max(at, 0)`.
    fn pointwise(
        &mut self,
        mode: Mode,
        at: &Descriptor,
        operand: Option<&Descriptor>,
        out: &Descriptor,
    ) -> Result<()> {
        let what = Descriptor::new(Kind::CUDNN_BACKEND_POINTWISE_DESCRIPTOR)?
            .set(Name::CUDNN_ATTR_POINTWISE_MODE, &[mode])?
            .set(Name::CUDNN_ATTR_POINTWISE_MATH_PREC, &[DataType::CUDNN_DATA_FLOAT])?
            .finalize("a pointwise operation's description")?;
        let what = self.keep(what);
        let mut operation = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)?
            .refer(Name::CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, &[&what])?
            .refer(Name::CUDNN_ATTR_OPERATION_POINTWISE_XDESC, &[at])?
            .refer(Name::CUDNN_ATTR_OPERATION_POINTWISE_YDESC, &[out])?;
        if let Some(operand) = operand {
            operation = operation.refer(Name::CUDNN_ATTR_OPERATION_POINTWISE_BDESC, &[operand])?;
        }
        self.operations.push(Arc::new(operation.finalize("a pointwise operation")?));
        Ok(())
    }

    /// A tensor in memory.
    fn tensor(&mut self, uid: i64, shape: [usize; 4], element: DataType) -> Result<Arc<Descriptor>> {
        let tensor = describe(uid, shape, element)?.finalize("a tensor's description")?;
        Ok(self.keep(tensor))
    }

    /// An output of the convolution's shape that never reaches memory.
    fn between(&mut self, i: i64) -> Result<Arc<Descriptor>> {
        let tensor = describe(VIRTUAL + i, self.y_shape(), DataType::CUDNN_DATA_FLOAT)?
            .set(Name::CUDNN_ATTR_TENSOR_IS_VIRTUAL, &[true])?
            .finalize("a virtual tensor's description")?;
        Ok(self.keep(tensor))
    }

    fn keep(&mut self, part: Descriptor) -> Arc<Descriptor> {
        let part = Arc::new(part);
        self.parts.push(Arc::clone(&part));
        part
    }

    fn x_shape(&self) -> [usize; 4] {
        let Geometry { batch, inputs, height, width, .. } = *self.geometry;
        [batch, inputs, height, width]
    }

    fn w_shape(&self) -> [usize; 4] {
        let Geometry { inputs, outputs, kernel, .. } = *self.geometry;
        [outputs, inputs, kernel, kernel]
    }

    fn y_shape(&self) -> [usize; 4] {
        let (rows, columns) = self.geometry.output();
        [self.geometry.batch, self.geometry.outputs, rows, columns]
    }
}

/// A tensor (N,C,H,W) that lies as NHWC.
fn describe(uid: i64, shape: [usize; 4], element: DataType) -> Result<Descriptor> {
    let [n, c, h, w] = shape.map(|len| len as i64);
    Descriptor::new(Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR)?
        .set(Name::CUDNN_ATTR_TENSOR_UNIQUE_ID, &[uid])?
        .set(Name::CUDNN_ATTR_TENSOR_DATA_TYPE, &[element])?
        .set(Name::CUDNN_ATTR_TENSOR_DIMENSIONS, &[n, c, h, w])?
        .set(Name::CUDNN_ATTR_TENSOR_STRIDES, &[h * w * c, 1, w * c, c])?
        .set(Name::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, &[ALIGNMENT])
}
