//! The fast execution on CUDA: the whole backbone as one program of `ff_kernels::gpu` over the flat parameters.
//!
//! A training program is made for each shape of batch; one for inference also serves smaller batches, whose missing
//! images are zeros or old pixels, and whose surplus embeddings are left behind. Everything happens in the order of
//! candle's stream, so nothing waits. The heads stay candle's.

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr};
use candle_core::{CudaDevice, CudaStorage, DType, Device, Storage, Tensor};
use ff_kernels::cuda::{self, Engine, Gpu, Pass};
use ff_kernels::gpu::{Bases, Buffer, Element, Program};
use ff_kernels::resnet::Config;

use crate::architecture::EMBEDDING;
use crate::fast::{checked_shape, image_shape};
use crate::{Backbone, Error, Images, Parameters, Precision, Result};

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
}

/// What it takes to make engines.
struct Workshop {
    gpu: Arc<Gpu>,
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
        let workshop = Workshop { gpu, element, tf32 };
        Ok(Self { workshop, train: Vec::new(), infer: None, prepared: None, waiting: false })
    }

    /// Puts the training engine for this shape at the end of the list. If there is no room for a new one, the others
    /// go.
    fn train_engine(&mut self, shape: [usize; 3]) -> Result<&mut Engine> {
        let engine = match self.train.iter().position(|engine| shape_of(engine) == shape) {
            Some(i) => self.train.remove(i),
            None => match self.workshop.engine(Program::train, shape) {
                Err(Error::Gpu(cuda::Error::OutOfMemory { .. })) => {
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
                    Err(Error::Gpu(cuda::Error::OutOfMemory { .. })) => {
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
            let (values, statistics) = (parameters.values(), parameters.statistics());
            run(engine, Pass::Prepare, bases(parameters, values, statistics)?)?;
            self.prepared = Some(parameters.version());
        }
        Ok(engine)
    }
}

impl Backbone for Cuda {
    fn embed(&mut self, images: Images<'_>, parameters: &Parameters) -> Result<Tensor> {
        let [batch, ..] = shape_of_images(images)?;
        let bases = bases(parameters, parameters.values(), parameters.statistics())?;
        let engine = self.infer_engine(images, parameters)?;
        fill(engine, images)?;
        run(engine, Pass::Forward, bases)?;
        embedding(engine, batch, parameters.values().device())
    }

    fn forward_train(&mut self, images: Images<'_>, parameters: &mut Parameters) -> Result<Tensor> {
        let shape = shape_of_images(images)?;
        let bases = bases(parameters, parameters.values(), parameters.statistics())?;
        let engine = self.train_engine(shape)?;
        fill(engine, images)?;
        parameters.update(|_, _| run(engine, Pass::Forward, bases))?;
        let embedding = embedding(engine, shape[0], parameters.values().device())?;
        self.waiting = true;
        Ok(embedding)
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
        engine.write_grad_embedding(device_address(&grad_embedding.contiguous()?)?)?;
        let backbone = parameters.layout().backbone();
        let gradient = device_address(&gradient.narrow(0, backbone.start, backbone.len())?)?;
        let bases = bases(parameters, parameters.values(), parameters.statistics())?;
        run(engine, Pass::Backward, bases.with(Buffer::Gradient, gradient))
    }

    fn gpu(&self) -> Option<&Arc<Gpu>> {
        Some(&self.workshop.gpu)
    }
}

impl Workshop {
    fn engine(&self, program: MakeProgram, [batch, height, width]: [usize; 3]) -> Result<Engine> {
        let make = |batch| program(&Config::resnet34(), self.element, batch, height, width);
        let engine = Engine::new(&self.gpu, make(batch), self.tf32)
            .map_err(|error| error.for_batch(batch, |batch| make(batch).arena_len))?;
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
    [program.batch, program.height, program.width]
}

/// Images, rows and columns of a batch that can go through.
fn shape_of_images(images: Images<'_>) -> Result<[usize; 3]> {
    match images {
        Images::Planes(planes) => image_shape(planes).map(|[b, _, h, w]| [b, h, w]),
        Images::Uploaded(uploaded) => {
            let [b, h, w] = uploaded.shape();
            checked_shape(&[b, 3, h, w]).map(|_| [b, h, w])
        }
    }
}

/// Where the model's values are; the backbone's come first in both vectors.
fn bases(parameters: &Parameters, values: &Tensor, statistics: &Tensor) -> Result<Bases> {
    let backbone = parameters.layout().backbone();
    let values = values.narrow(0, backbone.start, backbone.len())?;
    Ok(Bases::default()
        .with(Buffer::Parameters, device_address(&values)?)
        .with(Buffer::Statistics, device_address(statistics)?))
}

/// Gives an engine its images; those that it has room for beyond the batch are zeros or old.
fn fill(engine: &mut Engine, images: Images<'_>) -> Result<()> {
    match images {
        Images::Uploaded(uploaded) => {
            uploaded.begin()?;
            engine.fill_images(cuda::Images::Pixels, uploaded.bases(Bases::default()))?;
        }
        Images::Planes(planes) => {
            let missing = engine.program().batch - planes.dim(0)?;
            let planes = match missing {
                0 => planes.contiguous()?,
                _ => planes.pad_with_zeros(0, 0, missing)?.contiguous()?,
            };
            let bases = Bases::default().with(Buffer::Planes, device_address(&planes)?);
            engine.fill_images(cuda::Images::Planes, bases)?;
        }
    }
    Ok(())
}

/// Runs a pass, and says so once if it cannot be captured.
fn run(engine: &mut Engine, pass: Pass, bases: Bases) -> Result<()> {
    let captured = engine.uncaptured().is_none();
    engine.run(pass, bases)?;
    if let Some(reason) = engine.uncaptured().filter(|_| captured) {
        tracing::warn!("steps run command by command, which is slower: {reason}");
    }
    Ok(())
}

/// A fresh (images, 512) with an engine's first embeddings.
fn embedding(engine: &Engine, images: usize, device: &Device) -> Result<Tensor> {
    let embedding = Tensor::zeros((images, EMBEDDING), DType::F32, device)?;
    engine.read_embedding(device_address(&embedding)?, images)?;
    Ok(embedding)
}

/// Where a contiguous f32 or u8 tensor lies on its GPU. Good as long as the tensor, for work on the tensor's stream.
///
/// # Errors
/// Another type, device or a layout with gaps.
pub fn device_address(tensor: &Tensor) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    let found = match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cuda(storage), Some((start, _))) => match tensor.dtype() {
            DType::F32 => Some(address(storage, storage.as_cuda_slice::<f32>()?) + 4 * start as u64),
            DType::U8 => Some(address(storage, storage.as_cuda_slice::<u8>()?) + start as u64),
            _ => None,
        },
        _ => None,
    };
    found.ok_or_else(|| {
        let (dtype, device, stride) = (tensor.dtype(), tensor.device().location(), tensor.stride());
        candle_core::Error::Msg(format!(
            "expected a contiguous f32 or u8 tensor on CUDA, found {dtype:?} on {device:?} with strides {stride:?}"
        ))
        .into()
    })
}

/// The guard that comes with the address orders streams; there is one stream, and `Gpu::new` turned tracking off.
fn address<T>(storage: &CudaStorage, slice: &CudaSlice<T>) -> u64 {
    slice.device_ptr(&storage.device.cuda_stream()).0
}
