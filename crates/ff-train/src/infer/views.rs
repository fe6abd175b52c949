//! What a model answers to several views of every image, for whoever takes logits.

use candle_core::Tensor;
use ff_eval::TestTimeAugmentation;
use ff_model::{FaceModel, Images};

use crate::Result;
use crate::feed::view_of;

/// Logits (B, classes) a task whose softmax is the mean of the views' probabilities; the model's own where there is one
/// view.
///
/// # Errors
/// Several views of pixels that lie on a GPU.
pub fn logits_of_views(
    model: &mut FaceModel,
    images: Images<'_>,
    augmentation: TestTimeAugmentation,
) -> Result<Vec<Tensor>> {
    let [_, others @ ..] = &augmentation.views()[..] else { unreachable!("the image itself is a view") };
    if others.is_empty() {
        return Ok(model.predict(images)?.logits);
    }
    let planes = images.planes()?;
    let mut sums = probabilities(model, planes)?;
    for &view in others {
        let of_view = probabilities(model, &view_of(planes, view)?)?;
        sums = sums.iter().zip(&of_view).map(|(sum, p)| Ok((sum + p)?)).collect::<Result<_>>()?;
    }
    let n = 1.0 + others.len() as f64;
    // A logarithm of 0 is no number. Added, as a GPU's maximum makes a number of what is none: that is to stay none, and
    // is refused where files have names.
    sums.iter().map(|sum| Ok(((sum / n)? + f64::from(f32::MIN_POSITIVE))?.log()?)).collect()
}

fn probabilities(model: &mut FaceModel, planes: &Tensor) -> Result<Vec<Tensor>> {
    let logits = model.predict(planes)?.logits;
    logits.iter().map(|logits| Ok(candle_nn::ops::softmax_last_dim(&logits.contiguous()?)?)).collect()
}
