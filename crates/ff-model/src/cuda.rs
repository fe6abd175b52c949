//! The fast execution on CUDA: the whole backbone as one program of `ff_kernels::gpu` over the flat parameters.
//!
//! A training program is made for each shape of batch; one for inference also serves smaller batches, whose missing
//! images are zeros or old pixels, and whose surplus embeddings are left behind. Everything happens in the order of
//! candle's stream, so nothing waits. The heads stay candle's.

use std::ops::{Deref, Range};
use std::sync::Arc;

use candle_core::{CudaDevice, CudaStorage, DType, Storage, Tensor};
use ff_kernels::gpu::device::{self, Engine, Gpu, Memory, OnStream, Pass, Span};
use ff_kernels::gpu::{Buffer, Element, Program};
use ff_kernels::network::{Config, MOMENTUM};

use crate::images::checked_shape;
use crate::{Architecture, Backbone, Error, Images, Parameters, Precision, Result};

/// The backbone on a GPU.
pub struct Cuda {
    workshop: Workshop,
    /// One engine a shape of batch, the last used at the end.
    train: Vec<Engine>,
    infer: Option<Engine>,
    /// The version of the parameters that the inference engine's folded filters come from.
    prepared: Option<u64>,
    /// Whether the last engine of `train` waits for its backward pass.
    waiting: bool,
    /// What the kernels move in place of the running statistics, where a batch's own are asked for, and as many zeros.
    collected: Option<[Tensor; 2]>,
}

/// What it takes to make engines.
struct Workshop {
    gpu: Arc<Gpu>,
    /// What the engines at hand are of.
    architecture: Architecture,
    element: Element,
    tf32: bool,
}

/// [`Program::train`] or [`Program::infer`].
type MakeProgram = fn(&Config, Element, usize, usize, usize) -> Program;

impl Cuda {
    /// An execution on `device` with `precision`.
    ///
    /// # Errors
    /// The driver or cuDNN refuses.
    pub fn new(device: &CudaDevice, precision: Precision) -> Result<Self> {
        let gpu = Gpu::new(device.cuda_stream())?;
        let (element, tf32) = match precision {
            Precision::Bf16 => (Element::Bf16, false),
            Precision::F32 { tf32 } => (Element::F32, tf32),
        };
        let workshop = Workshop { gpu, architecture: Architecture::default(), element, tf32 };
        Ok(Self { workshop, train: Vec::new(), infer: None, prepared: None, waiting: false, collected: None })
    }

    /// Lets engines of another backbone go.
    fn set_architecture(&mut self, architecture: Architecture) {
        if self.workshop.architecture != architecture {
            self.workshop.architecture = architecture;
            self.train.clear();
            self.infer = None;
            self.waiting = false;
            self.collected = None;
        }
    }

    /// The training pass, which moves these statistics.
    fn train(&mut self, images: Images<'_>, parameters: &Parameters, statistics: &Tensor) -> Result<Tensor> {
        let shape = shape_of_images(images)?;
        let gpu = Arc::clone(&self.workshop.gpu);
        let engine = self.train_engine(shape)?;
        fill(&gpu, engine, images)?;
        let vectors = Vectors::new(parameters, parameters.values(), statistics)?;
        run(engine, Pass::Forward, &vectors.memory(&gpu)?)?;
        let embedding = embedding(&gpu, engine, shape[0], parameters)?;
        self.waiting = true;
        Ok(embedding)
    }

    /// Puts the training engine for this shape at the end of the list. If there is no room for a new one, the others
    /// go.
    fn train_engine(&mut self, shape: [usize; 3]) -> Result<&mut Engine> {
        let engine = match self.train.iter().position(|engine| shape_of(engine) == shape) {
            Some(i) => self.train.remove(i),
            None => match self.workshop.engine(Program::train, shape) {
                Err(Error::Gpu(device::Error::OutOfMemory { .. })) => {
                    self.train.clear();
                    self.infer = None;
                    self.workshop.engine(Program::train, shape)?
                }
                made => made?,
            },
        };
        self.train.push(engine);
        Ok(self.train.last_mut().expect("just pushed"))
    }

    /// The inference engine, if it serves these images, else a new one, with the filters of these parameters.
    fn infer_engine(&mut self, images: Images<'_>, parameters: &Parameters) -> Result<&mut Engine> {
        let [batch, height, width] = shape_of_images(images)?;
        let room = match images {
            Images::Planes(_) => usize::MAX,
            Images::Uploaded(uploaded) => uploaded.room(),
        };
        let at_hand = self.infer.take().filter(|engine| {
            let [most, rows, columns] = shape_of(engine);
            (batch..=room).contains(&most) && (rows, columns) == (height, width)
        });
        let engine = match at_hand {
            Some(engine) => engine,
            None => {
                self.prepared = None;
                match self.workshop.engine(Program::infer, [batch, height, width]) {
                    Err(Error::Gpu(device::Error::OutOfMemory { .. })) => {
                        self.train.clear();
                        self.waiting = false;
                        self.workshop.engine(Program::infer, [batch, height, width])?
                    }
                    made => made?,
                }
            }
        };
        let engine = self.infer.insert(engine);
        if self.prepared != Some(parameters.version()) {
            let vectors = Vectors::new(parameters, parameters.values(), parameters.statistics())?;
            run(engine, Pass::Prepare, &vectors.memory(&self.workshop.gpu)?)?;
            self.prepared = Some(parameters.version());
        }
        Ok(engine)
    }
}

impl Backbone for Cuda {
    fn embed(&mut self, images: Images<'_>, parameters: &Parameters) -> Result<Tensor> {
        let [batch, ..] = shape_of_images(images)?;
        self.set_architecture(parameters.architecture());
        let gpu = Arc::clone(&self.workshop.gpu);
        let engine = self.infer_engine(images, parameters)?;
        fill(&gpu, engine, images)?;
        let vectors = Vectors::new(parameters, parameters.values(), parameters.statistics())?;
        run(engine, Pass::Forward, &vectors.memory(&gpu)?)?;
        embedding(&gpu, engine, batch, parameters)
    }

    fn forward_train(&mut self, images: Images<'_>, parameters: &mut Parameters) -> Result<Tensor> {
        self.set_architecture(parameters.architecture());
        let statistics = parameters.statistics().clone();
        let embedding = self.train(images, parameters, &statistics)?;
        // They have moved.
        parameters.update(|_, _| Ok::<_, Error>(()))?;
        Ok(embedding)
    }

    /// Waits for the device. The kernels move zeros towards the batch's statistics, so that a share of these is found.
    fn forward_train_collecting(
        &mut self,
        images: Images<'_>,
        parameters: &Parameters,
    ) -> Result<(Tensor, Vec<f64>)> {
        self.set_architecture(parameters.architecture());
        let [moved, zeros] = match &self.collected {
            Some(tensors) => tensors.clone(),
            None => {
                let zeros = parameters.statistics().zeros_like()?;
                self.collected.insert([zeros.copy()?, zeros]).clone()
            }
        };
        moved.slice_set(&zeros, 0, 0)?;
        let embedding = self.train(images, parameters, &moved)?;
        let share = f64::from(MOMENTUM as f32);
        let statistics = moved.to_vec1::<f32>()?.into_iter().map(|moved| f64::from(moved) / share);
        Ok((embedding, statistics.collect()))
    }

    fn backward(
        &mut self,
        grad_embedding: &Tensor,
        parameters: &Parameters,
        gradient: &Tensor,
    ) -> Result<()> {
        let Some(engine) = self.train.last_mut().filter(|_| std::mem::take(&mut self.waiting)) else {
            return Err(Error::NoForward);
        };
        let gpu = &self.workshop.gpu;
        engine.write_grad_embedding(Held::new(&grad_embedding.contiguous()?)?.span(gpu)?)?;
        let vectors = Vectors::new(parameters, parameters.values(), parameters.statistics())?;
        let gradient = Held::new(gradient)?;
        let gradient = f32s(gradient.span(gpu)?, vectors.backbone.clone());
        run(engine, Pass::Backward, &vectors.memory(gpu)?.with(Buffer::Gradient, gradient))
    }

    fn gpu(&self) -> Option<&Arc<Gpu>> {
        Some(&self.workshop.gpu)
    }
}

impl Workshop {
    fn engine(&self, program: MakeProgram, [batch, height, width]: [usize; 3]) -> Result<Engine> {
        let config = self.architecture.config();
        let make = |batch| program(&config, self.element, batch, height, width);
        let engine = Engine::new(&self.gpu, make(batch), self.tf32)
            .map_err(|error| error.for_batch(batch, |batch| make(batch).arena_len()))?;
        for line in engine.algorithms() {
            tracing::debug!("{line}");
        }
        let mib = engine.bytes() >> 20;
        tracing::debug!("{mib} MiB of GPU memory for batches of {batch} images of {height} x {width}");
        Ok(engine)
    }
}

/// Images, rows and columns that an engine is for.
fn shape_of(engine: &Engine) -> [usize; 3] {
    let program = engine.program();
    [program.batch(), program.height(), program.width()]
}

/// Images, rows and columns of a batch that can go through.
fn shape_of_images(images: Images<'_>) -> Result<[usize; 3]> {
    match images {
        Images::Planes(planes) => checked_shape(planes.dims()).map(|[b, _, h, w]| [b, h, w]),
        Images::Uploaded(uploaded) => {
            let [b, h, w] = uploaded.shape();
            checked_shape(&[b, 3, h, w]).map(|_| [b, h, w])
        }
    }
}

/// The model's values; the backbone's come first in both vectors.
struct Vectors<'a> {
    values: Held<'a>,
    /// Of the values.
    backbone: Range<usize>,
    statistics: Held<'a>,
}

impl<'a> Vectors<'a> {
    fn new(parameters: &Parameters, values: &'a Tensor, statistics: &'a Tensor) -> Result<Self> {
        let backbone = parameters.layout().backbone();
        Ok(Self { values: Held::new(values)?, backbone, statistics: Held::new(statistics)? })
    }

    fn memory(&self, gpu: &Gpu) -> Result<Memory<'_>> {
        Ok(Memory::default()
            .with(Buffer::Parameters, f32s(self.values.span(gpu)?, self.backbone.clone()))
            .with(Buffer::Statistics, self.statistics.span(gpu)?))
    }
}

/// Some of the f32 in a span.
fn f32s(span: Span<'_>, elements: Range<usize>) -> Span<'_> {
    span.part(4 * elements.start..4 * elements.end)
}

/// Gives an engine its images; those that it has room for beyond the batch are zeros or old.
fn fill(gpu: &Gpu, engine: &mut Engine, images: Images<'_>) -> Result<()> {
    match images {
        Images::Uploaded(uploaded) => {
            uploaded.begin()?;
            engine.fill_images(device::Images::Pixels, &uploaded.memory())?;
        }
        Images::Planes(planes) => {
            let missing = engine.program().batch() - planes.dim(0)?;
            let planes = match missing {
                0 => planes.contiguous()?,
                _ => planes.pad_with_zeros(0, 0, missing)?.contiguous()?,
            };
            let planes = Held::new(&planes)?;
            let memory = Memory::default().with(Buffer::Planes, planes.span(gpu)?);
            engine.fill_images(device::Images::Planes, &memory)?;
        }
    }
    Ok(())
}

/// Runs a pass, and says so once if it cannot be captured.
fn run(engine: &mut Engine, pass: Pass, memory: &Memory<'_>) -> Result<()> {
    let captured = engine.uncaptured().is_none();
    engine.run(pass, memory)?;
    if let Some(reason) = engine.uncaptured().filter(|_| captured) {
        tracing::warn!("steps run command by command, which is slower: {reason}");
    }
    Ok(())
}

/// A fresh (images, 512) with an engine's first embeddings.
fn embedding(gpu: &Gpu, engine: &Engine, images: usize, parameters: &Parameters) -> Result<Tensor> {
    let shape = (images, parameters.architecture().embedding_len());
    let embedding = Tensor::zeros(shape, DType::F32, parameters.values().device())?;
    engine.read_embedding(Held::new(&embedding)?.span(gpu)?, images)?;
    Ok(embedding)
}

/// A contiguous f32 or u8 tensor on a GPU, held so that its memory stays where it is.
pub struct Held<'a> {
    storage: Box<dyn Deref<Target = Storage> + 'a>,
    dtype: DType,
    elements: Range<usize>,
}

impl<'a> Held<'a> {
    /// Holds a tensor.
    ///
    /// # Errors
    /// Another type, device or a layout with gaps.
    pub fn new(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let contiguous = match (&*storage, tensor.dtype()) {
            (Storage::Cuda(_), DType::F32 | DType::U8) => layout.contiguous_offsets(),
            _ => None,
        };
        let Some((start, end)) = contiguous else {
            let (dtype, device, stride) = (tensor.dtype(), tensor.device().location(), tensor.stride());
            return Err(candle_core::Error::Msg(format!(
                "expected a contiguous f32 or u8 tensor on CUDA, found {dtype:?} on {device:?} with strides {stride:?}"
            ))
            .into());
        };
        Ok(Self { storage: Box::new(storage), dtype: tensor.dtype(), elements: start..end })
    }

    /// Its memory, for work on the stream of `gpu`.
    ///
    /// # Errors
    /// It is on another stream than that of `gpu`.
    pub fn span(&self, gpu: &Gpu) -> Result<Span<'_>> {
        let storage = self.storage();
        let (span, bytes) = match self.dtype {
            DType::F32 => (Span::new(gpu, storage.as_cuda_slice::<f32>()?)?, size_of::<f32>()),
            _ => (Span::new(gpu, storage.as_cuda_slice::<u8>()?)?, 1),
        };
        Ok(span.part(bytes * self.elements.start..bytes * self.elements.end))
    }

    /// The memory of f32, for work on another stream.
    ///
    /// # Errors
    /// It is of another type.
    pub fn on_stream(&self) -> Result<OnStream<'_>> {
        let whole = OnStream::new(self.storage().as_cuda_slice::<f32>()?);
        let bytes = |element| size_of::<f32>() * element;
        Ok(whole.part(bytes(self.elements.start)..bytes(self.elements.end)))
    }

    fn storage(&self) -> &CudaStorage {
        let Storage::Cuda(storage) = &**self.storage else { unreachable!("checked by `new`") };
        storage
    }
}
