//! A program on a device: its memory, the way to do each convolution, and its passes as CUDA graphs.
//!
//! The first run of a pass is plain, so that whatever loads itself lazily is there; the second is captured as a graph,
//! and replayed from then on while the addresses that it names stay the same.

use std::collections::HashMap;
use std::sync::Arc;

use cudarc::driver::CudaGraph;
use cudarc::driver::result;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};

use super::cudnn::{self, Algorithm, Convolution};
use super::driver::{During, Gpu};
use super::memory::DeviceBytes;
use super::span::{Memory, Span};
use crate::gpu::error::{Error, Result};
use crate::gpu::{
    Bases, Buffer, BufferPlace, Command, Constants, Convolve, Launch, Machine, Program, buffers_of,
};

/// A list of a program's commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// [`Program::prepare`].
    Prepare,
    /// [`Program::forward`].
    Forward,
    /// [`Program::backward`].
    Backward,
}

impl Pass {
    const ALL: [Self; 3] = [Self::Prepare, Self::Forward, Self::Backward];

    fn commands(self, program: &Program) -> &[Command] {
        match self {
            Self::Prepare => &program.prepare,
            Self::Forward => &program.forward,
            Self::Backward => &program.backward,
        }
    }
}

/// Where images come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Images {
    /// [`Buffer::Pixels`] and [`Buffer::Recipes`].
    Pixels,
    /// [`Buffer::Planes`].
    Planes,
}

/// A pass and what has become of it.
enum Recorded {
    /// It never ran.
    Fresh,
    /// It ran, command by command.
    Warm,
    /// It is a graph with these addresses.
    Captured(Bases, Graph),
}

struct Graph(CudaGraph);

// SAFETY: the driver lets any thread use a graph, one at a time, which `&mut Engine` sees to.
unsafe impl Send for Graph {}

/// A program on a GPU.
pub struct Engine {
    program: Program,
    /// What works on the memory goes before it, and the GPU last.
    passes: [Recorded; Pass::ALL.len()],
    /// The buffers that each pass names.
    named: [Vec<Buffer>; Pass::ALL.len()],
    uncaptured: Option<Error>,
    convolutions: HashMap<Convolve, Convolution>,
    workspace: DeviceBytes,
    arena: DeviceBytes,
    gpu: Arc<Gpu>,
}

impl Engine {
    /// Allocates the program's memory and finds the fastest way to do each convolution, which takes seconds for shapes
    /// that this GPU's handle has not seen yet. With `tf32`, f32 convolutions may use tensor cores, which round their
    /// inputs to 10 bits.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; cuDNN has no way to do a convolution.
    pub fn new(gpu: &Arc<Gpu>, program: Program, tf32: bool) -> Result<Self> {
        let arena = DeviceBytes::new(gpu, program.arena_len)?;
        let bases = Bases::default().with(Buffer::Arena, arena.address());
        let mut algorithms: Vec<(Convolve, Arc<Algorithm>)> = Vec::new();
        for convolve in convolutions(&program) {
            algorithms.push((convolve, cudnn::fastest(gpu, &convolve, &bases, tf32)?));
        }
        let most = algorithms.iter().map(|(_, algorithm)| algorithm.workspace()).max().unwrap_or(0);
        let workspace = DeviceBytes::uninitialised(gpu, most)?;
        let bind = |(convolve, algorithm): (Convolve, Arc<Algorithm>)| {
            Ok((convolve, Convolution::new(algorithm, &convolve, &bases, workspace.address())?))
        };
        let convolutions = algorithms.into_iter().map(bind).collect::<Result<_>>()?;
        let named = Pass::ALL.map(|pass| buffers_of(pass.commands(&program)));
        let engine = Self {
            gpu: Arc::clone(gpu),
            program,
            named,
            arena,
            workspace,
            convolutions,
            passes: [Recorded::Fresh, Recorded::Fresh, Recorded::Fresh],
            uncaptured: None,
        };
        engine.write_constants()?;
        Ok(engine)
    }

    /// What it runs.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Fills the program's images from `source`, which `memory` has.
    ///
    /// # Errors
    /// [`Error::Length`], or the driver refuses.
    pub fn fill_images(&mut self, source: Images, memory: &Memory<'_>) -> Result<()> {
        let commands = match source {
            Images::Pixels => &self.program.from_pixels,
            Images::Planes => &self.program.from_planes,
        };
        self.check(&buffers_of(commands), memory)?;
        self.bound(memory.bases()).run(commands)
    }

    /// Runs a pass; `memory` has all that it names but the arena.
    ///
    /// # Errors
    /// [`Error::Length`]; the driver or cuDNN refuses, or reports an earlier failure.
    pub fn run(&mut self, pass: Pass, memory: &Memory<'_>) -> Result<()> {
        self.check(&self.named[pass as usize], memory)?;
        let bases = memory.bases();
        let recorded = &self.passes[pass as usize];
        if let Recorded::Captured(of, graph) = recorded
            && *of == bases
        {
            return graph.0.launch().during(|| format!("replaying the {pass:?} pass"));
        }
        let warm = !matches!(recorded, Recorded::Fresh);
        if warm && self.uncaptured.is_none() && !pass.commands(&self.program).is_empty() {
            match self.capture(pass, bases) {
                Ok(graph) => {
                    let launched = graph.0.launch().during(|| format!("replaying the {pass:?} pass"));
                    self.passes[pass as usize] = Recorded::Captured(bases, graph);
                    return launched;
                }
                Err(error) => self.uncaptured = Some(error),
            }
        }
        self.passes[pass as usize] = Recorded::Warm;
        self.bound(bases).run(pass.commands(&self.program))
    }

    /// Why passes run command by command, if they do: a capture failed.
    pub fn uncaptured(&self) -> Option<&Error> {
        self.uncaptured.as_ref()
    }

    /// Copies the embeddings (images, E) f32 of the first images to `to`.
    ///
    /// # Errors
    /// [`Error::Length`]: no room, or more images than the program's; or the driver refuses.
    pub fn read_embedding(&self, to: Span<'_>, images: usize) -> Result<()> {
        let batch = self.program.batch;
        if images > batch {
            let what = "images to read the embeddings of, of a batch";
            return Err(Error::Length { what, expected: batch, found: images });
        }
        let len = self.embedding_bytes(images);
        let to = to.at_least("room for embeddings", len)?;
        self.copy(to.address(), self.address(self.program.embedding), len)
    }

    /// Copies dL/d(embedding) (B, E) f32 from `from`.
    ///
    /// # Errors
    /// [`Error::Length`], or the driver refuses.
    ///
    /// # Panics
    /// The program is one for inference.
    pub fn write_grad_embedding(&self, from: Span<'_>) -> Result<()> {
        let to = self.program.grad_embedding.expect("a training program has a gradient of the embedding");
        let len = self.embedding_bytes(self.program.batch);
        let from = from.at_least("the gradient of the embeddings", len)?;
        self.copy(self.address(to), from.address(), len)
    }

    /// Bytes of the arena and the workspace of convolutions.
    pub fn bytes(&self) -> usize {
        self.arena.len() + self.workspace.len()
    }

    /// One line a convolution: shapes, operation, the engine chosen, its time and workspace.
    pub fn algorithms(&self) -> Vec<String> {
        let lines = convolutions(&self.program).into_iter();
        lines.filter_map(|convolve| Some(self.convolutions.get(&convolve)?.describe(&convolve))).collect()
    }

    /// Whether buffers have as many bytes as the program's commands touch.
    fn check(&self, named: &[Buffer], memory: &Memory<'_>) -> Result<()> {
        let given = named.iter().filter(|&&buffer| buffer != Buffer::Arena);
        given.into_iter().try_for_each(|&buffer| memory.check(buffer, self.program.bytes_of(buffer)))
    }

    /// `bases` of memory that was checked.
    fn bound(&self, bases: Bases) -> Bound<'_> {
        Bound { engine: self, bases: bases.with(Buffer::Arena, self.arena.address()) }
    }

    /// The pass as a graph, which has not run yet.
    fn capture(&self, pass: Pass, bases: Bases) -> Result<Graph> {
        let doing = || format!("capturing the {pass:?} pass");
        let stream = self.gpu.stream();
        // Relaxed: cuDNN may load a kernel lazily even now; nothing that runs in the graph depends on that.
        stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED).during(doing)?;
        let ran = self.bound(bases).run(pass.commands(&self.program));
        let graph = stream.end_capture(CUgraphInstantiate_flags(0)).during(doing);
        ran?;
        let nothing = || Error::Driver { doing: doing(), says: "that nothing was captured".to_owned() };
        graph?.map(Graph).ok_or_else(nothing)
    }

    fn write_constants(&self) -> Result<()> {
        let Constants { place, bytes } = &self.program.constants;
        let doing = || "writing a program's constants".to_owned();
        self.gpu.bind()?;
        // SAFETY: the program's constants lie within its arena; the host's bytes stay until the stream has passed.
        unsafe {
            result::memcpy_htod_async(self.address(*place), bytes, self.gpu.stream().cu_stream())
                .during(doing)?;
        }
        self.gpu.synchronize()
    }

    fn address(&self, place: BufferPlace) -> u64 {
        Bases::default().with(Buffer::Arena, self.arena.address()).address(place)
    }

    fn embedding_bytes(&self, images: usize) -> usize {
        4 * images * self.program.layout.blocks.last().map_or(0, |block| block.outputs())
    }

    fn copy(&self, to: u64, from: u64, len: usize) -> Result<()> {
        self.gpu.bind()?;
        // SAFETY: one end lies within the arena, the other in a span of as many bytes.
        unsafe { result::memcpy_dtod_async(to, from, len, self.gpu.stream().cu_stream()) }
            .during(|| format!("copying {len} bytes on the GPU"))
    }
}

/// Every convolution of a program once.
fn convolutions(program: &Program) -> Vec<Convolve> {
    let mut all = Vec::new();
    for pass in Pass::ALL {
        for command in pass.commands(program) {
            if let Command::Convolve(convolve) = command
                && !all.contains(convolve)
            {
                all.push(*convolve);
            }
        }
    }
    all
}

/// An engine and the addresses of a run: of memory that was checked against the program.
struct Bound<'a> {
    engine: &'a Engine,
    bases: Bases,
}

impl Machine for Bound<'_> {
    type Error = Error;

    fn launch(&mut self, launch: &Launch) -> Result<()> {
        // SAFETY: a program's command, on memory that has as many bytes as the program touches and stays until the
        // stream has passed.
        unsafe { self.engine.gpu.launch(launch, &self.bases) }
    }

    fn convolve(&mut self, convolve: &Convolve) -> Result<()> {
        let convolution =
            self.engine.convolutions.get(convolve).expect("every convolution was bound by `new`");
        // SAFETY: as above; it was bound to the arena and the engine's workspace.
        unsafe { convolution.run(&self.engine.gpu, &self.bases) }
    }
}
