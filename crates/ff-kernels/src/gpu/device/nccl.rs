//! GPUs of one job, a rank each, that talk to each other by NCCL: bytes of the host, and sums on the device.
//!
//! A sum is an exchange of slices, a tree of additions over them by our kernel, and a second exchange: NCCL's own
//! reductions add in an order that it chooses by size, number of ranks and wiring. The order is that of a balanced tree
//! over the ranks, halved at the largest power of two below their number: `((ab)(cd))((ef)g)`.
//!
//! No call blocks. Whoever waits asks now and then whether the stream has come to its end, what NCCL says of the
//! others, and the owner's [`Lookout`]. A communicator that has failed is aborted, by a thread that nobody waits for:
//! the abort itself has been seen to hang.

use std::ffi::{CStr, c_int, c_void};
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{ptr, thread};

use cudarc::driver::{CudaContext, result};
use cudarc::nccl::sys::{self, ncclResult_t};

use super::driver::{During, Gpu};
use super::memory::DeviceBytes;
use super::span::{OnStream, Span};
use crate::gpu::error::{Error, Result};
use crate::gpu::{Arg, BLOCK, Bases, Buffer, BufferPlace, Launch};

/// What ranks must know to find each other; NCCL's to make, the caller's to hand round.
pub type UniqueId = [u8; 128];

/// Says why nobody should wait any longer, if there is a reason: another rank has gone.
pub type Lookout = Box<dyn FnMut() -> Option<String> + Send>;

/// Between two looks at an exchange.
const BETWEEN_LOOKS: Duration = Duration::from_micros(50);
/// Bytes of a rank that a gathering brings at once, eight for their number before them; most have no more.
const FIRST: usize = 256;
/// Bytes of a broadcast at once.
const MOST_BYTES: usize = 16 << 20;
/// Values that a thread of the kernel adds: slices are whole ones.
const LANES: usize = 8;

/// This rank among those of its job.
pub struct Communicator {
    handle: Handle,
    rank: usize,
    size: usize,
    /// For what comes from the host: a stream of its own.
    gpu: Arc<Gpu>,
    /// On the device: what travels of the host's bytes, and the ranks' parts of a slice.
    bytes: Room,
    parts: Room,
    lookout: Lookout,
    /// How long the others may take to join and to leave.
    timeout: Duration,
    /// What is being done, for errors.
    doing: &'static str,
    /// Nobody knows what its streams still do.
    failed: bool,
}

/// A communicator of NCCL's.
struct Handle(sys::ncclComm_t);

// SAFETY: NCCL lets any thread use it, one at a time.
unsafe impl Send for Handle {}

/// Memory on the device that grows with what it is asked for; left alone where nobody knows who still works on it.
#[derive(Default)]
struct Room(Option<ManuallyDrop<DeviceBytes>>);

/// The id of a new job, to be made by one rank.
///
/// # Errors
/// NCCL finds no network to listen on.
pub fn unique_id() -> Result<UniqueId> {
    let mut id = sys::ncclUniqueId { internal: [0; 128] };
    // SAFETY: writes the id.
    match unsafe { sys::ncclGetUniqueId(&raw mut id) } {
        ncclResult_t::ncclSuccess => Ok(id.internal.map(|byte| byte as u8)),
        failed => {
            Err(Error::Nccl { rank: 0, doing: "making the job's id", says: says(failed, ptr::null_mut()) })
        }
    }
}

impl Communicator {
    /// Joins the job of `id` as this rank of so many, with GPU number `ordinal`, when all have come.
    ///
    /// # Errors
    /// A rank does not come before `timeout` is over; two have the same GPU; the driver or NCCL refuse.
    pub fn join(
        ordinal: usize,
        id: &UniqueId,
        (rank, size): (usize, usize),
        timeout: Duration,
        lookout: Lookout,
    ) -> Result<Self> {
        Gpu::look(ordinal)?;
        let doing = || format!("making a stream on GPU cuda:{ordinal}");
        let gpu =
            Gpu::new(CudaContext::new(ordinal).and_then(|context| context.new_stream()).during(doing)?)?;
        let mut joined = Self {
            handle: Handle(ptr::null_mut()),
            rank,
            size,
            gpu,
            bytes: Room::default(),
            parts: Room::default(),
            lookout,
            timeout,
            doing: "joining the job",
            failed: false,
        };
        let id = sys::ncclUniqueId { internal: id.map(|byte| byte as _) };
        let mut config = config();
        // SAFETY: the context of the GPU is current since its kernels were loaded; NCCL copies the configuration.
        let asked = unsafe {
            sys::ncclCommInitRankConfig(
                &raw mut joined.handle.0,
                size as c_int,
                id,
                rank as c_int,
                &raw mut config,
            )
        };
        joined.exchange("joining the job", |joined| {
            joined.accept(asked)?;
            joined.settle(Some(Instant::now() + timeout))
        })?;
        Ok(joined)
    }

    /// Which rank this is, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many ranks there are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Everybody's bytes, by rank.
    ///
    /// # Errors
    /// [`Error::Nccl`]: a rank is gone, or ranks do not do the same.
    pub fn gather(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.exchange("gathering records", |comm| comm.gather_unequal(bytes))
    }

    fn gather_unequal(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let begin = bytes.len().min(FIRST - size_of::<u64>());
        let mut first = (bytes.len() as u64).to_le_bytes().to_vec();
        first.extend(&bytes[..begin]);
        let first = self.gather_equal(&first, FIRST)?;
        let mut all: Vec<Vec<u8>> = Vec::new();
        let mut lengths = Vec::new();
        for of_rank in first.chunks(FIRST) {
            let (length, begin) = of_rank.split_at(size_of::<u64>());
            let length = u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize;
            lengths.push(length);
            all.push(begin[..length.min(begin.len())].to_vec());
        }
        let rest = |length: usize| length.saturating_sub(FIRST - size_of::<u64>());
        let most = lengths.iter().copied().map(rest).max().unwrap_or(0);
        if most > 0 {
            let others = self.gather_equal(&bytes[begin..], most)?;
            for ((all, &length), others) in all.iter_mut().zip(&lengths).zip(others.chunks(most)) {
                all.extend(&others[..rest(length)]);
            }
        }
        Ok(all)
    }

    /// The first `len` bytes of every rank, one after the other; `bytes` are no more.
    fn gather_equal(&mut self, bytes: &[u8], len: usize) -> Result<Vec<u8>> {
        let room = self.bytes.at_least(&self.gpu, len * self.size)?;
        let own = room + (self.rank * len) as u64;
        self.upload(own, bytes)?;
        // SAFETY: the room has `len` bytes a rank, and is used on its GPU's stream alone.
        unsafe { self.all_gather(own, room, len)? };
        self.wait()?;
        let mut all = vec![0; len * self.size];
        self.download(room, &mut all)?;
        Ok(all)
    }

    /// What rank 0 has in `bytes`, which need not be anything elsewhere.
    ///
    /// # Errors
    /// As [`Self::gather`].
    pub fn broadcast(&mut self, bytes: &mut Vec<u8>) -> Result<()> {
        self.exchange("sharing what rank 0 has", |comm| {
            let mut length = (bytes.len() as u64).to_le_bytes();
            comm.broadcast_part(&mut length)?;
            bytes.resize(u64::from_le_bytes(length) as usize, 0);
            bytes.chunks_mut(MOST_BYTES).try_for_each(|part| comm.broadcast_part(part))
        })
    }

    fn broadcast_part(&mut self, part: &mut [u8]) -> Result<()> {
        let room = self.bytes.at_least(&self.gpu, part.len())?;
        if self.rank == 0 {
            self.upload(room, part)?;
        }
        let (at, stream) = (room as *mut c_void, self.gpu.stream().cu_stream().cast());
        // SAFETY: the room has as many bytes.
        let asked = unsafe {
            sys::ncclBroadcast(at, at, part.len(), sys::ncclDataType_t::ncclUint8, 0, self.handle.0, stream)
        };
        self.accept(asked)?;
        self.settle(None)?;
        self.wait()?;
        if self.rank == 0 { Ok(()) } else { self.download(room, part) }
    }

    /// Replaces `values` by the sum of those of the first `n` ranks: the same bits everywhere.
    ///
    /// # Errors
    /// As [`Self::gather`].
    ///
    /// # Panics
    /// There are not so many ranks.
    pub fn sum(&mut self, values: &mut [f32], n: usize) -> Result<()> {
        self.exchange("adding gradients", |comm| {
            let len = size_of_val(values);
            let room = comm.bytes.at_least(&comm.gpu, len)?;
            comm.upload(room, values)?;
            // SAFETY: the room stays as it is until the sum is done.
            comm.add_up(unsafe { Span::from_raw(room, len) }, n)?;
            comm.download(room, values)
        })
    }

    /// As [`Self::sum`], of f32 on this rank's GPU, when their stream has done what it was given before. It is done
    /// when this returns.
    ///
    /// # Errors
    /// As [`Self::gather`].
    ///
    /// # Panics
    /// There are not so many ranks.
    pub fn sum_on_device(&mut self, values: &OnStream<'_>, n: usize) -> Result<()> {
        self.exchange("adding gradients", |comm| {
            comm.gpu.stream().join(values.stream()).during(|| "waiting for the gradient".to_owned())?;
            comm.add_up(values.span, n)
        })
    }

    fn add_up(&mut self, values: Span<'_>, n: usize) -> Result<()> {
        assert!((1..=self.size).contains(&n), "expected 1 to {} ranks to add, found {n}", self.size);
        let len = values.len() / size_of::<f32>();
        // Values of a slice, of which the last ones may have fewer or none.
        let slice = len.div_ceil(self.size).next_multiple_of(LANES);
        let of_rank = |rank: usize| len.saturating_sub(rank * slice).min(slice);
        let place = |from: u64, rank: usize| from + (rank * slice * size_of::<f32>()) as u64;
        self.gpu.bind()?;
        let parts = self.parts.at_least(&self.gpu, self.size * slice * size_of::<f32>())?;
        let stream = self.gpu.stream().cu_stream();
        let mine = of_rank(self.rank);

        self.group(|comm, others| {
            for peer in others {
                let (to, theirs) = (peer as c_int, of_rank(peer));
                // SAFETY: slices lie within the values, and parts within their room, one after the other.
                unsafe {
                    let float = sys::ncclDataType_t::ncclFloat32;
                    if comm.rank < n && theirs > 0 {
                        let from = place(values.address(), peer) as *const c_void;
                        comm.accept(sys::ncclSend(from, theirs, float, to, comm.handle.0, stream.cast()))?;
                    }
                    if peer < n && mine > 0 {
                        let part = place(parts, peer) as *mut c_void;
                        comm.accept(sys::ncclRecv(part, mine, float, to, comm.handle.0, stream.cast()))?;
                    }
                }
            }
            Ok(())
        })?;
        let copy = |to: u64, from: u64, values: usize| match values * size_of::<f32>() {
            0 => Ok(()),
            // SAFETY: both are within the values or the parts.
            bytes => unsafe { result::memcpy_dtod_async(to, from, bytes, stream) }
                .during(|| format!("copying {bytes} bytes on the GPU")),
        };
        let own = place(parts, self.rank);
        if self.rank < n {
            copy(own, place(values.address(), self.rank), mine)?;
        }
        self.add(parts, slice, n)?;
        if n == 1 && self.rank > 0 {
            copy(own, parts, slice)?;
        }
        // SAFETY: the parts have a slice a rank.
        unsafe { self.all_gather(own, parts, slice * size_of::<f32>())? };
        copy(values.address(), parts, len)?;
        self.wait()
    }

    /// Adds the first `n` parts of `slice` values, which lie one behind the other; the sum is then in this rank's
    /// place.
    fn add(&self, parts: u64, slice: usize, n: usize) -> Result<()> {
        let bases = Bases::default().with(Buffer::Arena, parts);
        let at = |part: usize| Arg::At(BufferPlace::f32s(Buffer::Arena, part * slice));
        let eights = slice / LANES;
        let mut step = 1;
        while step < n {
            for earlier in (0..n - step).step_by(2 * step) {
                let to = if 2 * step >= n { self.rank } else { earlier };
                let launch = Launch {
                    kernel: "add_f32".to_owned(),
                    grid: [eights.div_ceil(BLOCK as usize).max(1) as u32, 1, 1],
                    args: vec![at(earlier), at(earlier + step), at(to), Arg::U32(eights as u32)],
                };
                // SAFETY: the arguments are the kernel's, and parts below the job's size lie in their room.
                unsafe { self.gpu.launch(&launch, &bases)? };
            }
            step *= 2;
        }
        Ok(())
    }

    /// Leaves the job when all ranks have come to this.
    ///
    /// # Errors
    /// As [`Self::gather`].
    pub fn leave(mut self) -> Result<()> {
        self.exchange("leaving the job", |comm| {
            comm.gpu.bind()?;
            // SAFETY: the communicator was made and has not failed.
            let asked = unsafe { sys::ncclCommFinalize(comm.handle.0) };
            comm.accept(asked)?;
            comm.settle(Some(Instant::now() + comm.timeout))?;
            let handle = std::mem::replace(&mut comm.handle.0, ptr::null_mut());
            // SAFETY: nobody has it any more.
            let ended = unsafe { sys::ncclCommDestroy(handle) };
            comm.accept(ended)
        })
    }

    /// Does something with the others. After a failure there is nothing more to do with them.
    fn exchange<T>(&mut self, doing: &'static str, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.failed {
            return Err(self.error("an exchange before it has failed".to_owned()));
        }
        self.doing = doing;
        let done = work(self);
        if done.is_err() {
            self.failed = true;
            self.abort();
        }
        done
    }

    /// `calls` as one; `others` are all ranks but this one.
    fn group(
        &mut self,
        calls: impl FnOnce(&mut Self, &mut dyn Iterator<Item = usize>) -> Result<()>,
    ) -> Result<()> {
        // SAFETY: no arguments.
        let begun = unsafe { sys::ncclGroupStart() };
        self.accept(begun)?;
        let rank = self.rank;
        let called = calls(self, &mut (0..self.size).filter(|&other| other != rank));
        // SAFETY: as above.
        let ended = unsafe { sys::ncclGroupEnd() };
        called?;
        self.accept(ended)?;
        self.settle(None)
    }

    /// Puts on the stream that every rank gets everybody's `len` bytes at `all`, where its own are at `own`.
    ///
    /// # Safety
    /// There are as many bytes for every rank.
    unsafe fn all_gather(&mut self, own: u64, all: u64, len: usize) -> Result<()> {
        let stream = self.gpu.stream().cu_stream().cast();
        // SAFETY: as promised.
        let asked = unsafe {
            sys::ncclAllGather(
                own as *const c_void,
                all as *mut c_void,
                len,
                sys::ncclDataType_t::ncclUint8,
                self.handle.0,
                stream,
            )
        };
        self.accept(asked)?;
        self.settle(None)
    }

    fn upload<T>(&self, to: u64, values: &[T]) -> Result<()> {
        self.gpu.bind()?;
        let len = size_of_val(values);
        // SAFETY: the callers' room has as many bytes, and every exchange is waited for.
        unsafe { result::memcpy_htod_async(to, values, self.gpu.stream().cu_stream()) }
            .during(|| format!("copying {len} bytes to the GPU"))
    }

    fn download<T>(&self, from: u64, values: &mut [T]) -> Result<()> {
        let len = size_of_val(values);
        // SAFETY: the callers' room has as many bytes, and the stream is waited for.
        unsafe { result::memcpy_dtoh_async(values, from, self.gpu.stream().cu_stream()) }
            .during(|| format!("copying {len} bytes from the GPU"))?;
        self.gpu.synchronize()
    }

    /// What a call says of itself: fine, or still in progress.
    fn accept(&self, said: ncclResult_t) -> Result<()> {
        match said {
            ncclResult_t::ncclSuccess | ncclResult_t::ncclInProgress => Ok(()),
            failed => Err(self.error(says(failed, self.handle.0))),
        }
    }

    /// What NCCL says of the communicator: whether nothing is in progress.
    fn look(&mut self) -> Result<bool> {
        let mut said = ncclResult_t::ncclSuccess;
        // SAFETY: writes the result.
        let asked = unsafe { sys::ncclCommGetAsyncError(self.handle.0, &raw mut said) };
        self.accept(asked)?;
        self.accept(said)?;
        match (self.lookout)() {
            None => Ok(said == ncclResult_t::ncclSuccess),
            Some(why) => Err(self.error(why)),
        }
    }

    /// Waits until the last call is on its stream.
    fn settle(&mut self, deadline: Option<Instant>) -> Result<()> {
        while !self.look()? {
            if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                return Err(self.error("the other ranks do not come".to_owned()));
            }
            thread::sleep(BETWEEN_LOOKS);
        }
        Ok(())
    }

    /// Waits until the stream has come to its end.
    fn wait(&mut self) -> Result<()> {
        let doing = self.doing;
        let doing = || doing.to_owned();
        let event = self.gpu.stream().record_event(None).during(doing)?;
        while !event.try_is_complete().during(doing)? {
            self.look()?;
            thread::sleep(BETWEEN_LOOKS);
        }
        Ok(())
    }

    fn error(&self, says: String) -> Error {
        Error::Nccl { rank: self.rank, doing: self.doing, says }
    }

    /// Gives the others up.
    fn abort(&mut self) {
        let handle = Handle(std::mem::replace(&mut self.handle.0, ptr::null_mut()));
        if handle.0.is_null() {
            return;
        }
        // Where there is no thread for it, the process ends with it open.
        let _ = thread::Builder::new().name("ff-kernels abort".to_owned()).spawn(move || {
            let handle = handle;
            // SAFETY: nobody else has it any more; NCCL chooses the GPU itself.
            unsafe { sys::ncclCommAbort(handle.0) }
        });
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        self.abort();
        if !self.failed {
            self.bytes.free();
            self.parts.free();
        }
    }
}

impl Room {
    /// Where at least `len` bytes are, with whatever they hold. Nobody may be at work on the room.
    fn at_least(&mut self, gpu: &Arc<Gpu>, len: usize) -> Result<u64> {
        if self.0.as_ref().is_none_or(|bytes| bytes.len() < len) {
            self.free();
            self.0 = Some(ManuallyDrop::new(DeviceBytes::uninitialised(gpu, len)?));
        }
        Ok(self.0.as_ref().map_or(0, |bytes| bytes.address()))
    }

    fn free(&mut self) {
        self.0.take().map(ManuallyDrop::into_inner);
    }
}

/// One that does not block; all else as NCCL likes. A library that knows fewer fields reads as many as it knows.
fn config() -> sys::ncclConfig_t {
    const UNDEFINED: c_int = c_int::MIN;
    sys::ncclConfig_t {
        size: size_of::<sys::ncclConfig_t>(),
        magic: 0xcafe_beef,
        version: 2_28_00,
        blocking: 0,
        cgaClusterSize: UNDEFINED,
        minCTAs: UNDEFINED,
        maxCTAs: UNDEFINED,
        netName: ptr::null(),
        splitShare: UNDEFINED,
        trafficClass: UNDEFINED,
        commName: ptr::null(),
        collnetEnable: UNDEFINED,
        CTAPolicy: UNDEFINED,
        shrinkShare: UNDEFINED,
        nvlsCTAs: UNDEFINED,
        nChannelsPerNetPeer: UNDEFINED,
        nvlinkCentricSched: UNDEFINED,
        graphUsageMode: UNDEFINED,
        numRmaCtx: UNDEFINED,
        maxP2pPeers: UNDEFINED,
    }
}

/// NCCL's words for what has failed, and what it says of the last error.
fn says(failed: ncclResult_t, comm: sys::ncclComm_t) -> String {
    let text = |words: *const std::ffi::c_char| match words.is_null() {
        true => String::new(),
        // SAFETY: NCCL's strings end, and stay.
        false => unsafe { CStr::from_ptr(words) }.to_string_lossy().trim().to_owned(),
    };
    // SAFETY: both take what they are given; no communicator asks for the last error of all.
    let (what, last) = unsafe { (text(sys::ncclGetErrorString(failed)), text(sys::ncclGetLastError(comm))) };
    if last.is_empty() { format!("NCCL says {what}") } else { format!("NCCL says {what}: {last}") }
}
