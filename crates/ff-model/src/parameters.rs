//! The model's values: one flat vector of parameters and one of BatchNorm statistics, on a device.
//!
//! These two vectors are the only truth. Whatever an execution derives from them (a variable per tensor, transformed
//! filters) it keeps under the [`Parameters::version`] that it was derived from. Values are f32 always.

use candle_core::{DType, Device, Tensor};
use ff_kernels::cpu::norm::move_running;

use crate::host::with_slice_mut;
use crate::{Architecture, Error, HeadSpec, ParameterLayout, Result, init};

/// Parameters (N,) and BatchNorm statistics (M,) with the layouts that name their parts.
#[derive(Debug)]
pub struct Parameters {
    architecture: Architecture,
    layout: ParameterLayout,
    values: Tensor,
    statistics_layout: ParameterLayout,
    statistics: Tensor,
    version: u64,
}

impl Parameters {
    /// Seeded initial values: see [`init`].
    pub fn initialise(
        architecture: Architecture,
        heads: &[HeadSpec],
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let layout = ParameterLayout::parameters(architecture, heads);
        let statistics_layout = ParameterLayout::statistics(architecture);
        let values = Tensor::new(init::values(&layout, seed), device)?;
        let statistics = Tensor::new(init::values(&statistics_layout, seed), device)?;
        Ok(Self { architecture, layout, values, statistics_layout, statistics, version: 0 })
    }

    /// The backbone that they are for.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// Names and places of the parameters.
    pub fn layout(&self) -> &ParameterLayout {
        &self.layout
    }

    /// Names and places of the statistics.
    pub fn statistics_layout(&self) -> &ParameterLayout {
        &self.statistics_layout
    }

    /// All parameters, (N,) f32. Write to it only inside [`Parameters::update`].
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// All BatchNorm statistics, (M,) f32. Write to it only inside [`Parameters::update`].
    pub fn statistics(&self) -> &Tensor {
        &self.statistics
    }

    /// Changes whenever the values may have changed.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Lets `change` write to the values and the statistics in place, and moves the version on.
    pub fn update<T, E>(
        &mut self,
        change: impl FnOnce(&Tensor, &Tensor) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        self.version += 1;
        change(&self.values, &self.statistics)
    }

    /// Moves the running statistics towards a batch's, mean and unbiased variance in their places (M,).
    ///
    /// # Errors
    /// Statistics of another number.
    pub fn move_statistics(&mut self, batch: &[f64]) -> Result<()> {
        let (expected, found) = (self.statistics_layout.len(), batch.len());
        if expected != found {
            return Err(Error::StatisticsLength { expected, found });
        }
        self.update(|_, statistics| {
            if statistics.device().is_cpu() {
                return with_slice_mut(statistics, |running| {
                    move_running(running, batch);
                    Ok(())
                });
            }
            let mut running = statistics.to_vec1::<f32>()?;
            move_running(&mut running, batch);
            Ok(statistics.slice_set(&Tensor::new(running, statistics.device())?, 0, 0)?)
        })
    }

    /// A view of one parameter or statistic in its own shape.
    ///
    /// # Errors
    /// [`Error::UnknownTensor`] when nothing has this name.
    pub fn get(&self, name: &str) -> Result<Tensor> {
        for (layout, values) in [(&self.layout, &self.values), (&self.statistics_layout, &self.statistics)] {
            if let Some(entry) = layout.get(name) {
                return Ok(values.narrow(0, entry.offset, entry.len())?.reshape(entry.shape.as_slice())?);
            }
        }
        Err(Error::UnknownTensor { name: name.to_owned() })
    }

    /// Every tensor under its checkpoint name, parameters first.
    pub fn named(&self) -> Result<Vec<(String, Tensor)>> {
        let entries = self.layout.entries().iter().chain(self.statistics_layout.entries());
        entries.map(|e| Ok((e.name.clone(), self.get(&e.name)?))).collect()
    }

    /// A flat gradient to write to, (N,) of zeros.
    pub fn zero_gradient(&self) -> Result<Tensor> {
        Ok(Tensor::zeros(self.layout.len(), DType::F32, self.values.device())?)
    }
}
