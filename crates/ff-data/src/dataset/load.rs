//! A sample's image: read, decoded and resized (or taken from the cache), augmented, normalised.

use std::time::Instant;

use super::{Dataset, Scratch};
use crate::{
    decode::decode_into, error::Result, image_file, resize::resize_into, rgb_image::RgbImage, transforms,
};

impl Dataset {
    /// Reads, decodes and resizes a sample's image, or the face in it: `(H,W,3)` u8, neither augmented nor normalised.
    /// Past the cache.
    ///
    /// # Errors
    /// [`Error::Image`](crate::Error::Image), without labels [`Error::ImageInput`](crate::Error::ImageInput): the file is
    /// missing or does not decode, or the face does not lie in it.
    ///
    /// # Panics
    /// There is no such sample.
    pub fn read_rgb<'s>(&self, sample_idx: usize, scratch: &'s mut Scratch) -> Result<&'s RgbImage> {
        let start = Instant::now();
        let mut decode_start = start;
        let mut read = |scratch: &mut Scratch| -> Result<()> {
            image_file::read(&self.image_path(sample_idx), &self.rules, &mut scratch.file)?;
            decode_start = Instant::now();
            decode_into(&scratch.file, &self.rules, &mut scratch.decoded)?;
            if let Some(face) = self.face(sample_idx) {
                face.cut(self.face_padding, &self.rules, &scratch.decoded, &mut scratch.narrow)?;
                std::mem::swap(&mut scratch.decoded, &mut scratch.narrow);
            }
            Ok(())
        };
        read(scratch).map_err(|error| self.image_error(sample_idx, error))?;
        let Scratch { decoded, narrow, resized, times, file_read, .. } = scratch;
        let fits = decoded.width == self.size.width && decoded.height == self.size.height;
        if !fits {
            resize_into(decoded, self.size, narrow, resized);
        }
        *file_read = Some(decode_start - start);
        times.read += decode_start - start;
        times.decode += decode_start.elapsed();
        Ok(if fits { decoded } else { resized })
    }

    /// Asks the system to begin reading a sample's file, and does not wait for it. Whatever is wrong with the file
    /// shows when it is read.
    pub(crate) fn read_ahead(&self, sample_idx: usize) {
        #[cfg(target_os = "linux")]
        if !self.cache.as_ref().is_some_and(|cache| cache.has(sample_idx))
            && let path = self.image_path(sample_idx)
            // Opening a pipe would wait for a writer.
            && fs_err::metadata(&path).is_ok_and(|metadata| metadata.is_file())
            && let Ok(file) = fs_err::File::open(path)
        {
            let _ = rustix::fs::fadvise(file.file(), 0, None, rustix::fs::Advice::WillNeed);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = sample_idx;
    }

    /// A sample's pixels `(H,W,3)` u8, neither augmented nor normalised, handed to `work`: from the cache, or decoded
    /// and then kept there. `work` also gets the planes of the scratch memory.
    fn with_pixels(
        &self,
        sample_idx: usize,
        scratch: &mut Scratch,
        work: impl FnOnce(&[u8], &mut Vec<f32>),
    ) -> Result<()> {
        let mut planes = std::mem::take(&mut scratch.planes);
        let start = Instant::now();
        let kept = self.cache.as_ref().and_then(|cache| cache.get(sample_idx, &mut scratch.kept));
        let mut work_start = Instant::now();
        if let Some(pixels) = kept {
            work(pixels, &mut planes);
            scratch.times.read += work_start - start;
        } else {
            let pixels = &self.read_rgb(sample_idx, scratch)?.pixels;
            let put_start = Instant::now();
            if let Some(cache) = &self.cache {
                cache.put(sample_idx, pixels);
            }
            work_start = Instant::now();
            work(pixels, &mut planes);
            scratch.times.read += work_start - put_start;
        }
        scratch.times.augment += work_start.elapsed();
        scratch.times.images += 1;
        scratch.planes = planes;
        Ok(())
    }

    /// Writes a sample's image `(3,H,W)` into `out`: decoded, resized, augmented in training, normalised.
    ///
    /// # Errors
    /// [`Error::Image`](crate::Error::Image): the file is missing or does not decode.
    ///
    /// # Panics
    /// There is no such sample, or `out` is not [`Dataset::image_len`] long.
    pub fn load(&self, epoch: u64, sample_idx: usize, scratch: &mut Scratch, out: &mut [f32]) -> Result<()> {
        let params = self.augment_params(epoch, sample_idx);
        self.with_pixels(sample_idx, scratch, |pixels, spare| {
            transforms::augment_into(&params, pixels, self.size, out, spare);
        })
    }

    /// As [`Dataset::load`], one plain pass per operation and past the cache: what `load` is tested against.
    ///
    /// # Errors
    /// As [`Dataset::load`].
    ///
    /// # Panics
    /// As [`Dataset::load`].
    pub fn load_reference(
        &self,
        epoch: u64,
        sample_idx: usize,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) -> Result<()> {
        let params = self.augment_params(epoch, sample_idx);
        let image = self.read_rgb(sample_idx, scratch)?;
        match transforms::change_pixels(&params, &image.pixels, self.size) {
            Some(changed) => transforms::to_planes(&changed, out),
            None => transforms::to_planes(image, out),
        }
        transforms::apply(&params, out, self.size, &mut scratch.planes);
        transforms::normalize(out);
        if let Some(part) = params.erase {
            transforms::erase(out, self.size, part);
        }
        Ok(())
    }

    /// Writes a sample's pixels `(H,W,3)` u8 into `out`: decoded and resized, for whoever augments them elsewhere with
    /// [`Dataset::augment_params`].
    ///
    /// # Errors
    /// As [`Dataset::load`].
    ///
    /// # Panics
    /// As [`Dataset::load`].
    pub fn load_pixels(&self, sample_idx: usize, scratch: &mut Scratch, out: &mut [u8]) -> Result<()> {
        self.with_pixels(sample_idx, scratch, |pixels, _| out.copy_from_slice(pixels))
    }
}
