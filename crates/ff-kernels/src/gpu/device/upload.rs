//! Batches in and small results out while the compute stream works on.
//!
//! A batch is copied on a stream of its own into one of a few slots; events order copy and use in both directions:
//! a copy waits until the slot's last user is done, a user until the copy is. The host waits for neither.
//!
//! Memory that a copy or a kernel may still work on is neither freed nor written to. Where the driver refuses the event
//! that would tell, the host waits for the whole stream; where that fails too, the memory is left alone for good.

use std::mem;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::{CudaEvent, CudaStream};

use super::driver::{During, Gpu};
use super::memory::{DeviceBytes, Pinned};
use super::span::{Memory, Span};
use crate::gpu::Buffer;
use crate::gpu::error::{Error, Result};
use crate::gpu::program::batch::RECIPE_LEN;

/// Bytes on the host that can be kept until they are copied: [`Pinned`], or a `Vec<u8>`.
pub trait HostBytes: Deref<Target = [u8]> + Send {}

impl<T: Deref<Target = [u8]> + Send> HostBytes for T {}

/// Room on the device for one batch.
struct Slot {
    pixels: DeviceBytes,
    recipes: DeviceBytes,
    /// The copy into the slot.
    copied: CudaEvent,
    /// The last use of the slot.
    used: CudaEvent,
    /// Whether an [`Uploaded`] still needs it.
    taken: AtomicBool,
}

/// What a copy into a slot reads.
struct UploadSource {
    slot: Arc<Slot>,
    /// Kept until the copy is over.
    pixels: Option<Box<dyn HostBytes>>,
    recipes: Pinned,
}

/// A ring of slots on the device, filled on a second stream.
pub struct Uploads {
    gpu: Arc<Gpu>,
    stream: Arc<CudaStream>,
    ring: Vec<UploadSource>,
    next: usize,
}

impl Uploads {
    /// `depth` slots, each for up to `pixels_len` bytes of pixels and `recipes_len` values of recipes.
    ///
    /// # Errors
    /// No room on the device, or for page-locked memory on the host.
    pub fn new(gpu: &Arc<Gpu>, depth: usize, pixels_len: usize, recipes_len: usize) -> Result<Self> {
        let doing = || "making a stream for uploads".to_owned();
        let context = gpu.stream().context();
        let stream = context.new_stream().during(doing)?;
        let source = || {
            let slot = Slot {
                pixels: DeviceBytes::new(gpu, pixels_len)?,
                recipes: DeviceBytes::new(gpu, 4 * recipes_len)?,
                copied: context.new_event(None).during(doing)?,
                used: context.new_event(None).during(doing)?,
                taken: AtomicBool::new(false),
            };
            let recipes = Pinned::new(gpu, 4 * recipes_len)?;
            Ok(UploadSource { slot: Arc::new(slot), pixels: None, recipes })
        };
        let ring = (0..depth).map(|_| source()).collect::<Result<_>>()?;
        // The slots are cleared on the compute stream.
        gpu.synchronize()?;
        Ok(Self { gpu: Arc::clone(gpu), stream, ring, next: 0 })
    }

    /// Begins to copy a batch: `pixels` (B,H,W,3) of `height` x `width`, and as many `recipes` as there are images.
    ///
    /// `pixels` is kept until it is copied. Page-locked memory is copied while the caller goes on, other memory before
    /// this returns.
    ///
    /// # Errors
    /// [`Error::NoSlot`], [`Error::Length`], or the driver refuses.
    pub fn upload(
        &mut self,
        pixels: Box<dyn HostBytes>,
        (height, width): (usize, usize),
        recipes: &[f32],
    ) -> Result<Uploaded> {
        let doing = || "uploading a batch".to_owned();
        let images = recipes.len() / RECIPE_LEN;
        // Beyond all memory, where it wraps.
        let expected = [height, width, 3].iter().fold(images, |product, &n| product.saturating_mul(n));
        if pixels.len() != expected {
            return Err(Error::Length { what: "pixels of a batch", expected, found: pixels.len() });
        }
        self.release();
        let depth = self.ring.len();
        let free = (0..depth)
            .map(|i| (self.next + i) % depth)
            .find(|&i| !self.ring[i].slot.taken.load(Ordering::Acquire));
        let i = free.ok_or(Error::NoSlot { depth })?;
        let source = &mut self.ring[i];
        let slot = &source.slot;
        for (what, room, found) in [
            ("room for pixels in an upload slot", slot.pixels.len(), pixels.len()),
            ("room for recipes in an upload slot", slot.recipes.len(), 4 * recipes.len()),
        ] {
            if found > room {
                return Err(Error::Length { what, expected: found, found: room });
            }
        }
        // The copies of the slot's last batch read what is written now; they were over long ago.
        slot.copied.synchronize().during(doing)?;
        for (to, value) in source.recipes.chunks_exact_mut(4).zip(recipes) {
            to.copy_from_slice(&value.to_le_bytes());
        }
        self.stream.wait(&slot.used).during(doing)?;
        source.pixels = Some(pixels);
        if let Err(error) = source.copy(&self.stream, recipes.len()).during(doing) {
            // What began before the failure reads and writes this source.
            match self.stream.synchronize() {
                Ok(()) => source.pixels = None,
                Err(_) => mem::forget(self.ring.swap_remove(i)),
            }
            return Err(error);
        }
        source.slot.taken.store(true, Ordering::Release);
        self.next = (i + 1) % depth;
        Ok(Uploaded {
            gpu: Arc::clone(&self.gpu),
            slot: Arc::clone(&source.slot),
            shape: [images, height, width],
            ended: AtomicBool::new(false),
        })
    }

    /// Lets go of what has been copied.
    fn release(&mut self) {
        for source in &mut self.ring {
            if source.slot.copied.is_complete() {
                source.pixels = None;
            }
        }
    }
}

impl UploadSource {
    /// Puts both copies on the stream, and the event that tells when they are over.
    fn copy(&self, stream: &CudaStream, recipes: usize) -> Result<(), DriverError> {
        let (slot, raw) = (&self.slot, stream.cu_stream());
        let pixels = self.pixels.as_deref().map_or(&[][..], Deref::deref);
        // SAFETY: `upload` checked that both fit and told this stream to wait for the slot's last use; the bytes on the
        // host are kept until `copied`, those on the device by the slot.
        unsafe {
            result::memcpy_htod_async(slot.pixels.address(), pixels, raw)?;
            result::memcpy_htod_async(slot.recipes.address(), &self.recipes[..4 * recipes], raw)?;
        }
        slot.copied.record(stream)
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        // Copies read what goes now.
        let ended = self.stream.synchronize();
        if ended.is_err() {
            mem::forget(mem::take(&mut self.ring));
        }
        self.gpu.stream().context().record_err(ended);
    }
}

/// A batch in its slot, from its upload until [`Uploaded::end`] or until it is dropped.
pub struct Uploaded {
    gpu: Arc<Gpu>,
    slot: Arc<Slot>,
    shape: [usize; 3],
    ended: AtomicBool,
}

impl Uploaded {
    /// Images, rows and columns: (B,H,W).
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Images of this size for which the slot has room; those beyond the batch hold old pixels.
    pub fn room(&self) -> usize {
        let [_, height, width] = self.shape;
        let pixels = self.slot.pixels.len() / (height * width * 3).max(1);
        pixels.min(self.slot.recipes.len() / (4 * RECIPE_LEN))
    }

    /// Makes the compute stream wait for the copy.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn begin(&self) -> Result<()> {
        self.gpu.stream().wait(&self.slot.copied).during(|| "waiting for an upload".to_owned())
    }

    /// Gives the slot back once the compute stream has done what was put on it so far.
    ///
    /// This marks the place on the compute stream: it is for the thread that runs engines, as a mark that is set while
    /// a pass is captured would belong to the graph. So is dropping.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn end(&self) -> Result<()> {
        if self.ended.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let stream = self.gpu.stream();
        let recorded = self.slot.used.record(stream);
        // Without the mark nobody could wait for the slot's users later; a slot whose users never end stays taken.
        if recorded.is_ok() || stream.synchronize().is_ok() {
            self.slot.taken.store(false, Ordering::Release);
        }
        recorded.during(|| "giving an upload slot back".to_owned())
    }

    /// The memory of pixels and recipes, all of the slot's.
    pub fn memory(&self) -> Memory<'_> {
        Memory::default()
            .with(Buffer::Pixels, self.slot.pixels.span())
            .with(Buffer::Recipes, self.slot.recipes.span())
    }
}

impl Drop for Uploaded {
    fn drop(&mut self) {
        // A failure shows at the next call of the driver.
        drop(self.end());
    }
}

/// A small result on its way to the host.
pub struct Readback {
    gpu: Arc<Gpu>,
    /// None where a copy may write to them that nothing can wait for.
    bytes: Option<Pinned>,
    len: usize,
    arrived: CudaEvent,
}

impl Readback {
    /// Room for `len` bytes.
    ///
    /// # Errors
    /// The system has no page-locked memory.
    pub fn new(gpu: &Arc<Gpu>, len: usize) -> Result<Self> {
        let arrived = gpu.stream().context().new_event(None).during(|| "making an event".to_owned())?;
        let bytes = Some(Pinned::new(gpu, len)?);
        Ok(Self { gpu: Arc::clone(gpu), bytes, len: 0, arrived })
    }

    /// Asks for the bytes of `from`, as they will be when the stream has come this far.
    ///
    /// # Errors
    /// [`Error::Length`], or the driver refuses: then there is nothing to wait for.
    pub fn begin(&mut self, from: Span<'_>) -> Result<()> {
        let len = from.len();
        let doing = || format!("reading {len} bytes back");
        let room = self.bytes.as_ref().map_or(0, |bytes| bytes.len());
        let Some(bytes) = self.bytes.as_mut().filter(|_| len <= room) else {
            return Err(Error::Length { what: "room to read back", expected: len, found: room });
        };
        // What was asked for before must not arrive while the caller reads this.
        self.arrived.synchronize().during(doing)?;
        self.len = 0;
        self.gpu.bind()?;
        let stream = self.gpu.stream();
        // SAFETY: the bytes on the host are kept until the copy is over, see below, `wait` and `drop`; those on the
        // device until the stream has passed.
        unsafe { result::memcpy_dtoh_async(&mut bytes[..len], from.address(), stream.cu_stream()) }
            .during(doing)?;
        if let Err(error) = self.arrived.record(stream).during(doing) {
            // The copy is under way, and no event tells when it is over.
            if stream.synchronize().is_err() {
                mem::forget(self.bytes.take());
            }
            return Err(error);
        }
        self.len = len;
        Ok(())
    }

    /// Waits for the bytes that were asked for last.
    ///
    /// # Errors
    /// Something on the stream before them failed.
    pub fn wait(&mut self) -> Result<&[u8]> {
        self.arrived.synchronize().during(|| "waiting for a result of the GPU".to_owned())?;
        Ok(self.bytes.as_ref().map_or(&[], |bytes| &bytes[..self.len]))
    }
}

impl Drop for Readback {
    fn drop(&mut self) {
        let arrived = self.arrived.synchronize();
        if arrived.is_err() {
            mem::forget(self.bytes.take());
        }
        self.gpu.stream().context().record_err(arrived);
    }
}
