//! A machine that runs the kernels on the processor.

use std::ffi::{CString, c_char, c_void};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::convolution;
use ff_kernels::gpu::check::Workbench;
use ff_kernels::gpu::{Bases, Buffer, BufferPlace, Convolve, Element, Launch, Machine, Operation};

type LaunchFn = unsafe extern "C" fn(*const c_char, u32, u32, u32, *mut *mut c_void, usize) -> i32;

/// The compiled kernels, and one allocation a buffer.
pub struct Emulator {
    library: libloading::Library,
    memory: [Vec<u128>; Buffer::COUNT],
    bases: Bases,
    /// The emulation keeps its state in globals.
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Emulator {
    /// Compiles the kernels for the host; `None` without a compiler.
    pub fn new() -> Option<Self> {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
        Command::new(&compiler).arg("--version").output().ok()?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let object = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels.so");
        let status = Command::new(&compiler)
            .args(["-x", "c++", "-std=c++17", "-O2", "-shared", "-fPIC", "-DEMULATED"])
            .args(["-ffp-contract=off", "-fno-strict-aliasing", "-Wno-unknown-pragmas"])
            .arg("-I")
            .arg(root.join("tests/gpu"))
            .arg(root.join("src/gpu/kernels/kernels.cu"))
            .arg("-o")
            .arg(&object)
            .status();
        assert!(status.unwrap().success(), "the kernels do not compile for the host");
        // SAFETY: the library was just made from our own sources; loading it registers kernels.
        let library = unsafe { libloading::Library::new(&object) }.unwrap();
        Some(Self { library, memory: Default::default(), bases: Bases::default(), _alone: alone })
    }

    fn bytes(&self, place: BufferPlace, len: usize) -> *mut u8 {
        let memory = &self.memory[place.buffer as usize];
        assert!(place.offset + len <= 16 * memory.len(), "{place:?} and {len} bytes: outside its buffer");
        memory.as_ptr().cast::<u8>().cast_mut().wrapping_add(place.offset)
    }

    fn read_elements(&self, element: Element, place: BufferPlace, len: usize) -> Vec<f32> {
        let bytes = self.get(place, len * element.bytes());
        match element {
            Element::F32 => {
                bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
            }
            Element::Bf16 => {
                let value = |b: &[u8]| f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16);
                bytes.chunks_exact(2).map(value).collect()
            }
        }
    }

    fn write_elements(&mut self, element: Element, place: BufferPlace, values: &[f32]) {
        let bytes: Vec<u8> = match element {
            Element::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Element::Bf16 => values
                .iter()
                .flat_map(|x| {
                    let bits = x.to_bits();
                    (((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16).to_le_bytes()
                })
                .collect(),
        };
        self.set(place, &bytes);
    }

    fn get(&self, place: BufferPlace, len: usize) -> Vec<u8> {
        // SAFETY: `bytes` checked that the range lies in the buffer.
        unsafe { std::slice::from_raw_parts(self.bytes(place, len), len) }.to_vec()
    }

    fn set(&mut self, place: BufferPlace, bytes: &[u8]) {
        // SAFETY: `bytes` checked that the range lies in the buffer, which nobody else borrows.
        unsafe { self.bytes(place, bytes.len()).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }
}

impl Machine for Emulator {
    type Error = String;

    fn launch(&mut self, launch: &Launch) -> Result<(), String> {
        let name = CString::new(launch.kernel.as_str()).unwrap();
        let mut values = launch.values(&self.bases);
        let mut pointers: Vec<*mut c_void> = values.iter_mut().map(|v| v.as_mut_ptr().cast()).collect();
        let [x, y, z] = launch.grid;
        // SAFETY: the library's own function of that type; it checks name and number of arguments.
        let code = unsafe {
            let run = self.library.get::<LaunchFn>(b"launch").unwrap();
            run(name.as_ptr(), x, y, z, pointers.as_mut_ptr(), pointers.len())
        };
        match code {
            0 => Ok(()),
            1 => Err(format!("no kernel named {}", launch.kernel)),
            _ => Err(format!("{}: another number of arguments than {}", launch.kernel, launch.args.len())),
        }
    }

    fn convolve(&mut self, convolve: &Convolve) -> Result<(), String> {
        let Convolve { geometry, operation, element, x, w, y, bias, residual } = *convolve;
        let read = |place, len| self.read_elements(element, place, len);
        match operation {
            Operation::Forward | Operation::Fused { .. } => {
                let mut outputs = vec![0.0; geometry.y_len()];
                let (x, w) = (read(x, geometry.x_len()), read(w, geometry.w_len()));
                convolution::forward(&geometry, &x, &w, &mut outputs);
                if let Operation::Fused { residual: has_residual, relu } = operation {
                    assert_eq!(has_residual, residual.is_some(), "a residual where one is added");
                    let biases = read(bias.unwrap(), geometry.outputs);
                    let residual = residual.map(|place| read(place, outputs.len()));
                    for (i, y) in outputs.iter_mut().enumerate() {
                        *y += biases[i % geometry.outputs] + residual.as_ref().map_or(0.0, |r| r[i]);
                        *y = if relu { y.max(0.0) } else { *y };
                    }
                }
                self.write_elements(element, y, &outputs);
            }
            Operation::BackwardData => {
                let mut values = vec![0.0; geometry.x_len()];
                let (y, w) = (read(y, geometry.y_len()), read(w, geometry.w_len()));
                convolution::backward_data(&geometry, &y, &w, &mut values);
                self.write_elements(element, x, &values);
            }
            Operation::BackwardFilter => {
                let mut weights = vec![0.0; geometry.w_len()];
                let (x, y) = (read(x, geometry.x_len()), read(y, geometry.y_len()));
                convolution::backward_filter(&geometry, &x, &y, &mut weights);
                self.write_elements(element, w, &weights);
            }
        }
        Ok(())
    }
}

impl Workbench for Emulator {
    fn reserve(&mut self, buffer: Buffer, len: usize) -> Result<(), String> {
        // Values that a kernel has no business to read are NaN, not 0.
        let mut memory = vec![u128::MAX; len.div_ceil(16) + 16];
        if buffer != Buffer::Arena {
            memory.fill(0);
        }
        self.bases = self.bases.with(buffer, memory.as_ptr() as u64);
        self.memory[buffer as usize] = memory;
        Ok(())
    }

    fn write(&mut self, place: BufferPlace, bytes: &[u8]) -> Result<(), String> {
        self.set(place, bytes);
        Ok(())
    }

    fn read(&mut self, place: BufferPlace, len: usize) -> Result<Vec<u8>, String> {
        Ok(self.get(place, len))
    }
}
