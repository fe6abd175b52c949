//! The whole network: backbone, shared projection and heads over one set of parameters.
//!
//! `images (B,3,H,W) f32 -> embedding (B,512) -> logits (B, classes) a task`, and back: a loss on the logits becomes
//! one flat gradient. It does not know datasets, losses or optimisers.

use std::path::Path;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};

use crate::heads::{self, Dropout};
use crate::host::with_slice;
use crate::weights::{Scope, TaskLabels, WeightFile};
use crate::{Architecture, Backbone, Compute, Error, HeadSpec, Images, Parameters, Precision, Result};

/// Whether the backbone learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackboneMode {
    /// Trains with everything else.
    #[default]
    Trainable,
    /// A fixed feature extractor: no gradients, BatchNorm on its running statistics, which stay as they are.
    Frozen,
}

/// A ResNet, Linear(512,512) + ReLU + dropout, and one linear head a task.
pub struct FaceModel {
    heads: Vec<HeadSpec>,
    parameters: Parameters,
    gradient: Tensor,
    backbone: Box<dyn Backbone>,
    backbone_mode: BackboneMode,
    precision: Precision,
}

/// Embedding and logits of a batch.
#[derive(Debug, Clone)]
pub struct Prediction {
    /// (B,512).
    pub embedding: Tensor,
    /// (B, classes) for each head, in the heads' order.
    pub logits: Vec<Tensor>,
}

/// A training forward pass: its logits, and what [`FaceModel::backward`] needs.
#[derive(Debug)]
pub struct TrainPass {
    /// (B, classes) for each head, in the heads' order; compute the loss from these.
    pub logits: Vec<Tensor>,
    /// (B,512), a leaf of the logits' graph.
    pub embedding: Var,
    variables: Vec<(String, Var)>,
    /// Of a trainable backbone's batch, where the running ones were not moved: for [`Parameters::move_statistics`].
    pub statistics: Option<Vec<f64>>,
}

/// What a training pass does with the statistics of its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Statistics {
    Move,
    Collect,
}

impl FaceModel {
    /// A model with seeded initial values.
    pub fn new(architecture: Architecture, heads: &[HeadSpec], compute: &Compute, seed: u64) -> Result<Self> {
        let parameters = Parameters::initialise(architecture, heads, seed, &compute.device)?;
        let gradient = parameters.zero_gradient()?;
        let backbone = compute.backbone()?;
        Ok(Self {
            heads: heads.to_vec(),
            parameters,
            gradient,
            backbone,
            backbone_mode: BackboneMode::default(),
            precision: compute.precision,
        })
    }

    /// Opens a complete model, with the labels of its classes: a checkpoint's `model.safetensors`, or FairFace's own.
    ///
    /// # Errors
    /// [`Error::NoHeads`] for a backbone alone; a file that cannot be read or does not fit.
    pub fn open(path: &Path, compute: &Compute) -> Result<(Self, Vec<TaskLabels>)> {
        let file = WeightFile::read(path)?;
        let labels = file.labels().ok_or_else(|| Error::NoHeads { path: path.to_owned() })?.to_vec();
        let heads = file.heads();
        file.check(Scope::Model, &heads)?;
        let mut model = Self::new(file.architecture(), &heads, compute, 0)?;
        file.fill(Scope::Model, &mut model.parameters)?;
        Ok((model, labels))
    }

    /// The tasks in the order of the logits.
    pub fn heads(&self) -> &[HeadSpec] {
        &self.heads
    }

    /// The backbone.
    pub fn architecture(&self) -> Architecture {
        self.parameters.architecture()
    }

    /// Where the model computes; images must be there too.
    pub fn device(&self) -> &Device {
        self.gradient.device()
    }

    /// What the backbone computes with.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The GPU that the backbone runs on by commands of its own: for uploads, and for more commands.
    #[cfg(feature = "cuda")]
    pub fn gpu(&self) -> Option<&std::sync::Arc<ff_kernels::gpu::device::Gpu>> {
        self.backbone.gpu()
    }

    /// The values of the model.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The values of the model, to write to.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// The flat gradient (N,) that the last [`FaceModel::backward`] wrote.
    pub fn gradient(&self) -> &Tensor {
        &self.gradient
    }

    /// The gradient of one parameter in its own shape.
    pub fn gradient_of(&self, name: &str) -> Result<Tensor> {
        let entry =
            self.parameters.layout().get(name).ok_or(Error::UnknownTensor { name: name.to_owned() })?;
        Ok(self.gradient.narrow(0, entry.offset, entry.len())?.reshape(entry.shape.as_slice())?)
    }

    /// Whether the backbone learns.
    pub fn backbone_mode(&self) -> BackboneMode {
        self.backbone_mode
    }

    /// Freezes or thaws the backbone.
    pub fn set_backbone_mode(&mut self, mode: BackboneMode) {
        self.backbone_mode = mode;
    }

    /// Number of parameters that learn.
    pub fn trainable_parameters(&self) -> usize {
        let layout = self.parameters.layout();
        match self.backbone_mode {
            BackboneMode::Trainable => layout.len(),
            BackboneMode::Frozen => layout.len() - layout.backbone().len(),
        }
    }

    /// Evaluation: images (B,3,H,W) -> embedding (B,512).
    pub fn embed<'a>(&mut self, images: impl Into<Images<'a>>) -> Result<Tensor> {
        self.backbone.embed(images.into(), &self.parameters)
    }

    /// Evaluation: images (B,3,H,W) -> embedding and logits. No dropout, running statistics, no gradients.
    pub fn predict<'a>(&mut self, images: impl Into<Images<'a>>) -> Result<Prediction> {
        let embedding = self.embed(images)?;
        let logits = heads::logits(&embedding, &self.heads, None, |name| self.parameters.get(name))?;
        Ok(Prediction { embedding, logits })
    }

    /// Training: images (B,3,H,W) -> logits with their graph. Moves the running statistics of a trainable backbone.
    pub fn forward_train<'a>(
        &mut self,
        images: impl Into<Images<'a>>,
        dropout: Dropout,
    ) -> Result<TrainPass> {
        self.train_pass(images.into(), dropout, Statistics::Move)
    }

    /// As [`FaceModel::forward_train`], but leaves the running statistics alone: the batch's are in the pass.
    pub fn forward_train_collecting<'a>(
        &mut self,
        images: impl Into<Images<'a>>,
        dropout: Dropout,
    ) -> Result<TrainPass> {
        self.train_pass(images.into(), dropout, Statistics::Collect)
    }

    fn train_pass(
        &mut self,
        images: Images<'_>,
        dropout: Dropout,
        statistics: Statistics,
    ) -> Result<TrainPass> {
        // Small copies to a GPU may wait for what it has been given to do: this one goes before the forward pass.
        let embedding_len = self.architecture().embedding_len();
        let mask = dropout.mask((images.batch()?, embedding_len), self.device())?;
        let (embedding, statistics) = match (self.backbone_mode, statistics) {
            (BackboneMode::Frozen, _) => (self.backbone.embed(images, &self.parameters)?, None),
            (BackboneMode::Trainable, Statistics::Move) => {
                (self.backbone.forward_train(images, &mut self.parameters)?, None)
            }
            (BackboneMode::Trainable, Statistics::Collect) => {
                let (embedding, statistics) =
                    self.backbone.forward_train_collecting(images, &self.parameters)?;
                (embedding, Some(statistics))
            }
        };
        let embedding = Var::from_tensor(&embedding)?;
        let layout = self.parameters.layout();
        let first = layout.backbone().end;
        let mut variables = Vec::new();
        for entry in layout.entries().iter().skip_while(|e| e.offset < first) {
            variables.push((entry.name.clone(), Var::from_tensor(&self.parameters.get(&entry.name)?)?));
        }
        let logits = heads::logits(embedding.as_tensor(), &self.heads, mask.as_ref(), |name| {
            let variable = variables.iter().find(|(n, _)| n == name);
            let (_, variable) = variable.ok_or(Error::UnknownTensor { name: name.to_owned() })?;
            Ok(variable.as_tensor().clone())
        })?;
        Ok(TrainPass { logits, embedding, variables, statistics })
    }

    /// From a scalar `loss` on `pass.logits`, writes the gradient of every parameter over [`FaceModel::gradient`];
    /// zero for those that the loss does not reach or that are frozen.
    pub fn backward(&mut self, pass: &TrainPass, loss: &Tensor) -> Result<()> {
        let grads = loss.backward()?;
        for (name, variable) in &pass.variables {
            let (offset, grad) = self.head_gradient(&grads, name, variable)?;
            self.gradient.slice_set(&grad, 0, offset)?;
        }
        if self.backbone_mode == BackboneMode::Trainable {
            let grad_embedding = embedding_gradient(&grads, pass)?;
            self.backbone.backward(&grad_embedding, &self.parameters, &self.gradient)?;
        } else {
            let frozen = self.parameters.layout().backbone().len();
            self.gradient.slice_set(&Tensor::zeros(frozen, self.gradient.dtype(), self.device())?, 0, 0)?;
        }
        Ok(())
    }

    /// Where the parts begin in which [`FaceModel::backward_in_parts`] gives the gradient away.
    pub fn part_begins(&self) -> Vec<usize> {
        let mut begins = vec![self.parameters.layout().backbone().end];
        if self.backbone_mode == BackboneMode::Trainable {
            begins.extend(self.backbone.part_begins(&self.parameters));
        }
        begins
    }

    /// As [`FaceModel::backward`] on the host, over `gradient` (N,), which it gives away in parts, from the end to the
    /// beginning, each as soon as it is final: the heads' first, a frozen backbone's not at all.
    pub fn backward_in_parts<'g>(
        &mut self,
        pass: &TrainPass,
        loss: &Tensor,
        gradient: &'g mut [f32],
        done: &mut dyn FnMut(&'g mut [f32]),
    ) -> Result<()> {
        let grads = loss.backward()?;
        let (of_backbone, of_heads) = gradient.split_at_mut(self.parameters.layout().backbone().end);
        for (name, variable) in &pass.variables {
            let (offset, grad) = self.head_gradient(&grads, name, variable)?;
            let begin = offset - of_backbone.len();
            with_slice(&grad, |grad| {
                of_heads[begin..begin + grad.len()].copy_from_slice(grad);
                Ok(())
            })?;
        }
        done(of_heads);
        if self.backbone_mode == BackboneMode::Frozen {
            of_backbone.fill(0.0);
            return Ok(());
        }
        let grad_embedding = embedding_gradient(&grads, pass)?;
        self.backbone.backward_in_parts(&grad_embedding, &self.parameters, of_backbone, done)
    }

    /// Where a variable of the heads lies in the flat vector, and its gradient, flat.
    fn head_gradient(&self, grads: &GradStore, name: &str, variable: &Var) -> Result<(usize, Tensor)> {
        let entry = self
            .parameters
            .layout()
            .get(name)
            .ok_or_else(|| Error::UnknownTensor { name: name.to_owned() })?;
        let grad = match grads.get(variable) {
            Some(grad) => grad.flatten_all()?.contiguous()?,
            None => variable.zeros_like()?.flatten_all()?,
        };
        Ok((entry.offset, grad))
    }
}

/// dL/d(embedding) (B,E).
fn embedding_gradient(grads: &GradStore, pass: &TrainPass) -> Result<Tensor> {
    Ok(match grads.get(&pass.embedding) {
        Some(grad) => grad.contiguous()?,
        None => pass.embedding.zeros_like()?,
    })
}
