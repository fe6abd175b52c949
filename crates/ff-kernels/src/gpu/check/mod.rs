//! Every kernel beside a twin on the processor, on small shapes with odd edges.
//!
//! The same checks run in the tests, on a processor that emulates a GPU, and on a GPU itself
//! (`fairface sanity --device cuda --full`): a [`Workbench`] is a [`Machine`] with memory to lay inputs out in.

mod images;
mod layers;
mod network;
mod update;
pub mod values;

use crate::gpu::program::command::{Buffer, BufferPlace, Element, Machine};
use values::noise;

/// A machine with memory that checks can fill and read.
pub trait Workbench: Machine {
    /// Makes room for `len` bytes of a buffer, zeros, in place of what it held before.
    ///
    /// # Errors
    /// There is no such memory.
    fn reserve(&mut self, buffer: Buffer, len: usize) -> Result<(), Self::Error>;

    /// Writes bytes from a place on.
    ///
    /// # Errors
    /// The memory cannot be written.
    fn write(&mut self, place: BufferPlace, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Reads `len` bytes from a place on, when all commands are through.
    ///
    /// # Errors
    /// The memory cannot be read, or a command failed.
    fn read(&mut self, place: BufferPlace, len: usize) -> Result<Vec<u8>, Self::Error>;
}

/// What became of a check.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The kernel or the part of the engine, and the element type.
    pub name: String,
    /// The largest difference from the twin, as a share of the twin's largest value.
    pub difference: f64,
    /// What is allowed.
    pub tolerance: f64,
}

impl Verdict {
    /// Whether the difference is small enough; NaN is not.
    pub fn passed(&self) -> bool {
        self.difference <= self.tolerance
    }
}

/// Runs all checks.
///
/// # Errors
/// What the machine says when it refuses a command; a wrong result is a verdict.
pub fn run<W: Workbench>(bench: &mut W) -> Result<Vec<Verdict>, W::Error> {
    let mut bench = Bench { machine: bench, verdicts: Vec::new() };
    for element in [Element::F32, Element::Bf16] {
        layers::check(&mut bench, element)?;
        images::check(&mut bench, element)?;
        network::check(&mut bench, element)?;
    }
    update::check(&mut bench)?;
    Ok(bench.verdicts)
}

/// A workbench with typed reads and writes, and the verdicts so far.
struct Bench<'a, W> {
    machine: &'a mut W,
    verdicts: Vec<Verdict>,
}

impl<W: Workbench> Bench<'_, W> {
    fn write_f32(&mut self, place: BufferPlace, values: &[f32]) -> Result<(), W::Error> {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.machine.write(place, &bytes)
    }

    /// Makes a buffer of these values.
    fn fill(&mut self, buffer: Buffer, values: &[f32]) -> Result<(), W::Error> {
        self.machine.reserve(buffer, 4 * values.len())?;
        self.write_f32(BufferPlace { buffer, offset: 0 }, values)
    }

    fn read_f32(&mut self, place: BufferPlace, len: usize) -> Result<Vec<f32>, W::Error> {
        let bytes = self.machine.read(place, 4 * len)?;
        let value = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        Ok(bytes.chunks_exact(4).map(value).collect())
    }

    fn write(&mut self, element: Element, place: BufferPlace, values: &[f32]) -> Result<(), W::Error> {
        match element {
            Element::F32 => self.write_f32(place, values),
            Element::Bf16 => {
                let bytes: Vec<u8> = values.iter().flat_map(|&x| to_bf16(x).to_le_bytes()).collect();
                self.machine.write(place, &bytes)
            }
        }
    }

    fn read(&mut self, element: Element, place: BufferPlace, len: usize) -> Result<Vec<f32>, W::Error> {
        if element == Element::F32 {
            return self.read_f32(place, len);
        }
        let bytes = self.machine.read(place, 2 * len)?;
        let value = |b: &[u8]| f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16);
        Ok(bytes.chunks_exact(2).map(value).collect())
    }

    /// Compares with a twin. What is stored in bf16 may be off by its rounding.
    fn compare(&mut self, name: String, stored: Element, found: &[f32], twin: &[f64]) {
        let tolerance = match stored {
            Element::F32 => 2e-5,
            Element::Bf16 => 1.0 / 128.0,
        };
        self.compare_within(name, tolerance, found, twin);
    }

    fn compare_within(&mut self, name: String, tolerance: f64, found: &[f32], twin: &[f64]) {
        assert_eq!(found.len(), twin.len(), "{name}: a twin of another length");
        let largest = twin.iter().fold(f64::MIN_POSITIVE, |largest, x| largest.max(x.abs()));
        let difference = found.iter().zip(twin).map(|(&a, b)| (f64::from(a) - b).abs());
        // `max` would drop a NaN.
        let worst = difference.fold(0.0, |worst, d| if d > worst || d.is_nan() { d } else { worst });
        self.verdicts.push(Verdict { name, difference: worst / largest, tolerance });
    }
}

/// Noise that survives being stored as `element`.
fn stored_noise(element: Element, len: usize, seed: u64) -> Vec<f32> {
    let mut values = noise(len, seed);
    if element == Element::Bf16 {
        values.iter_mut().for_each(|x| *x = rounded(*x));
    }
    values
}

/// To bfloat16, half to even.
fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16 | 0x40) as u16;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

fn rounded(x: f32) -> f32 {
    f32::from_bits(u32::from(to_bf16(x)) << 16)
}

/// Floats as the twins compute: f64.
fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}
