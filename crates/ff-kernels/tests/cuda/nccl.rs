//! Ranks of a job, a thread each, on the stand-in for NCCL: what they come to, how they end, and what the stand-in
//! notices.

use std::ffi::c_long;
use std::sync::{Barrier, mpsc};
use std::time::{Duration, Instant};

use cudarc::driver::{CudaContext, DevicePtr, DevicePtrMut};
use cudarc::nccl::sys::{self, ncclDataType_t, ncclResult_t};
use ff_kernels::gpu::check::values::noise;
use ff_kernels::gpu::device::nccl::{Communicator, Lookout, UniqueId, unique_id};
use ff_kernels::gpu::device::{Error, Gpu, OnStream, Result};
use ff_kernels::gpu::{Arg, Bases, Buffer, BufferPlace, Launch};
use libloading::Library;

use crate::fake::{self, Device};

const MOST_RANKS: usize = 4;
/// For what is not stuck on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// The stand-ins, with a GPU a rank.
fn job() -> Option<Device> {
    let mut device = fake::alone_on_fake()?;
    device.set("devices", MOST_RANKS as i64, 1);
    Some(device)
}

fn nobody_has_gone() -> Lookout {
    Box::new(|| None)
}

fn join(id: &UniqueId, rank: usize, size: usize) -> Communicator {
    Communicator::join(rank, id, (rank, size), PATIENCE, nobody_has_gone()).unwrap()
}

/// Does the same as so many ranks at once.
fn ranks<T: Send>(size: usize, work: impl Fn(Communicator) -> T + Sync) -> Vec<T> {
    let id = unique_id().unwrap();
    std::thread::scope(|scope| {
        let (id, work) = (&id, &work);
        let threads: Vec<_> = (0..size).map(|rank| scope.spawn(move || work(join(id, rank, size)))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Waits for those that are aborted by threads of their own.
fn all_have_ended() {
    // SAFETY: loaded already, as this program links to it.
    let library = unsafe { Library::new("libnccl.so.2") }.unwrap();
    // SAFETY: the stand-in's own function is of that type.
    let left = unsafe { library.get::<unsafe extern "C" fn() -> c_long>(b"fake_communicators") }.unwrap();
    let begun = Instant::now();
    // SAFETY: as above.
    while unsafe { left() } > 0 {
        assert!(begun.elapsed() < PATIENCE, "communicators that do not end");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The order of additions, written down once more.
fn tree(parts: &[Vec<f32>]) -> Vec<f32> {
    match parts {
        [one] => one.clone(),
        _ => {
            let (earlier, later) = parts.split_at(1 << (parts.len() - 1).ilog2());
            tree(earlier).iter().zip(tree(later)).map(|(a, b)| a + b).collect()
        }
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn everybody_gets_the_same() {
    let Some(_device) = job() else { return };
    let long = |rank: usize| vec![rank as u8 + 1; [0, 248, 249, 5000][rank]];
    for size in [1, 2, 3, 4] {
        let found = ranks(size, |mut comm| {
            let rank = comm.rank();
            assert_eq!(comm.size(), size);
            for round in 0..10 {
                let all = comm.gather(&[rank as u8, round]).unwrap();
                assert_eq!(all, (0..size).map(|rank| vec![rank as u8, round]).collect::<Vec<_>>());
            }
            assert_eq!(comm.gather(&long(rank)).unwrap(), (0..size).map(long).collect::<Vec<_>>());
            let mut word = if rank == 0 { b"from the first".repeat(1000) } else { vec![7; rank] };
            comm.broadcast(&mut word).unwrap();
            let mut nothing = vec![1; rank];
            comm.broadcast(&mut nothing).unwrap();
            comm.leave().unwrap();
            (word, nothing)
        });
        assert_eq!(found, vec![(b"from the first".repeat(1000), Vec::new()); size]);
    }
}

/// Of vectors that no number of ranks divides, too, and of ranks that have nothing to add.
#[test]
fn sums_have_the_bits_of_the_tree() {
    let Some(_device) = job() else { return };
    for size in [1, 2, 3, 4] {
        ranks(size, |mut comm| {
            for (n, len) in (1..=size).flat_map(|n| [1, 8, 31, 1000, 4099].map(|len| (n, len))) {
                let part = |rank: usize| noise(len, 100 + rank as u64);
                let mut values = part(comm.rank());
                comm.sum(&mut values, n).unwrap();
                let expected = tree(&(0..n).map(part).collect::<Vec<_>>());
                assert_eq!(bits(&values), bits(&expected), "{n} of {size} ranks, {len} values");
            }
            comm.leave().unwrap();
        });
    }
}

#[test]
fn batches_add_up_to_the_same_bytes_on_any_number_of_ranks() {
    let Some(_device) = job() else { return };
    let batches: Vec<Vec<f32>> = (0..8).map(|batch| noise(777, batch)).collect();
    let whole = bits(&tree(&batches));
    for size in [1, 2, 4] {
        let found = ranks(size, |mut comm| {
            let share = batches.len() / size;
            let mut own = tree(&batches[comm.rank() * share..][..share]);
            comm.sum(&mut own, size).unwrap();
            comm.leave().unwrap();
            bits(&own)
        });
        assert_eq!(found, vec![whole.clone(); size], "{size} ranks");
    }
}

/// A gradient lies where the model computes: on a stream that is not the communicator's.
#[test]
fn sums_on_the_device_follow_what_made_them() {
    let Some(_device) = job() else { return };
    ranks(2, |mut comm| {
        let stream = CudaContext::new(comm.rank()).unwrap().new_stream().unwrap();
        let gpu = Gpu::new(stream.clone()).unwrap();
        let part = |rank: usize| noise(100, rank as u64);
        let values = stream.clone_htod(&part(comm.rank())).unwrap();
        let bases = Bases::default().with(Buffer::Gradient, values.device_ptr(&stream).0);
        let place = || Arg::At(BufferPlace { buffer: Buffer::Gradient, offset: 0 });
        let args = vec![place(), place(), place(), Arg::U32(11)];
        // Not waited for: what is added must be what this makes of the first 88.
        // SAFETY: there are as many values.
        unsafe { gpu.launch(&Launch { kernel: "add_f32".into(), grid: [1; 3], args }, &bases) }.unwrap();
        comm.sum_on_device(&OnStream::new(&values).part(16..400), 2).unwrap();
        let doubled = |rank: usize| {
            let mut part = part(rank);
            part[..88].iter_mut().for_each(|value| *value += *value);
            part
        };
        let (found, sum) = (stream.clone_dtoh(&values).unwrap(), tree(&[doubled(0), doubled(1)]));
        assert_eq!(bits(&found[..4]), bits(&doubled(comm.rank())[..4]));
        assert_eq!(bits(&found[4..]), bits(&sum[4..]));
        drop(values);
        comm.leave().unwrap();
    });
}

fn says<T>(result: Result<T>) -> String {
    result.err().unwrap().to_string()
}

#[test]
fn a_rank_that_goes_ends_the_others_with_a_word_of_why() {
    let Some(mut device) = job() else { return };
    device.expect_left_behind();
    let found = ranks(3, |mut comm| {
        comm.gather(&[1]).unwrap();
        if comm.rank() == 1 {
            return None;
        }
        let why = says(comm.sum(&mut [1.0; 100], 3));
        // And there is no way back.
        assert!(says(comm.gather(&[])).ends_with("an exchange before it has failed"));
        Some(why)
    });
    all_have_ended();
    for (rank, why) in found.iter().enumerate().filter_map(|(rank, why)| Some((rank, why.as_ref()?))) {
        let expected = format!(
            "rank {rank}, adding gradients: NCCL says remote process exited or there was a network error: \
             rank 1 has gone"
        );
        assert_eq!(*why, expected);
    }
    assert_eq!(found.iter().flatten().count(), 2);
}

/// Some ways in which a rank goes are hidden from NCCL.
#[test]
fn whoever_else_knows_that_a_rank_has_gone_is_heard() {
    let Some(mut device) = job() else { return };
    device.expect_left_behind();
    let id = unique_id().unwrap();
    let (tell, hear) = mpsc::channel();
    let (joined, has_joined) = mpsc::channel();
    std::thread::scope(|scope| {
        let id = &id;
        let waits = scope.spawn(move || {
            let lookout = Box::new(move || hear.try_recv().ok());
            let mut comm = Communicator::join(0, id, (0, 2), PATIENCE, lookout).unwrap();
            joined.send(()).unwrap();
            says(comm.gather(&[]))
        });
        let stuck = join(id, 1, 2);
        has_joined.recv().unwrap();
        tell.send("rank 1 has left the others".to_owned()).unwrap();
        let why = waits.join().unwrap();
        assert_eq!(why, "rank 0, gathering records: rank 1 has left the others");
        drop(stuck);
    });
    all_have_ended();
}

#[test]
fn nobody_waits_for_ever_for_a_rank_that_does_not_come() {
    let Some(_device) = job() else { return };
    let id = unique_id().unwrap();
    let soon = Duration::from_millis(50);
    let why = says(Communicator::join(0, &id, (0, 2), soon, nobody_has_gone()));
    assert_eq!(why, "rank 0, joining the job: the other ranks do not come");
    all_have_ended();
}

#[test]
fn two_ranks_on_one_gpu_are_refused() {
    let Some(device) = job() else { return };
    let id = unique_id().unwrap();
    let found: Vec<String> = std::thread::scope(|scope| {
        let id = &id;
        let join = move |rank| says(Communicator::join(3, id, (rank, 2), PATIENCE, nobody_has_gone()));
        let threads = [0, 1].map(|rank| scope.spawn(move || join(rank)));
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    device.forgive();
    all_have_ended();
    for why in found {
        assert!(
            why.contains("joining the job: NCCL says invalid usage") && why.contains("Duplicate GPU"),
            "{why}"
        );
    }
}

/// What NCCL would hang or crash on.
#[test]
fn ranks_that_do_not_do_the_same_are_noticed() {
    let Some(mut device) = job() else { return };
    device.expect_left_behind();
    let lengths = ranks(2, |mut comm| {
        let len = [64, 128][comm.rank()];
        says(comm.sum(&mut vec![1.0; len], 2))
    });
    let kinds = ranks(2, |mut comm| match comm.rank() {
        0 => says(comm.gather(&[1])),
        _ => says(comm.broadcast(&mut vec![1])),
    });
    let forever = ranks(2, |mut comm| match comm.rank() {
        0 => says(comm.gather(&[1])),
        _ => says(comm.sum(&mut [1.0; 16], 2)),
    });
    device.forgive();
    all_have_ended();
    for (found, expected) in [
        (
            lengths,
            "rank 0 has a send to rank 1 of 32 of type 7 and rank 1 has a receive from rank 0 of 64 of type 7",
        ),
        (
            kinds,
            "rank 0 has an all-gather of 256 of type 1 and rank 1 has a broadcast from rank 0 of 8 of type 1",
        ),
        (
            forever,
            "ranks wait for each other for ever: rank 0 waits in an all-gather of 256 of type 1, rank 1 waits in a \
             send to rank 0 of 8 of type 7",
        ),
    ] {
        for why in found {
            assert!(why.ends_with(expected), "{why}\nexpected ... {expected}");
        }
    }
}

/// A communicator by NCCL's own functions.
fn raw(size: i32, rank: i32, id: &UniqueId) -> sys::ncclComm_t {
    let mut comm = std::ptr::null_mut();
    let id = sys::ncclUniqueId { internal: id.map(|byte| byte as _) };
    // SAFETY: all of it is a number, and the fields that are read are set below.
    let mut config: sys::ncclConfig_t = unsafe { std::mem::zeroed() };
    (config.size, config.magic) = (size_of_val(&config), 0xcafe_beef);
    // SAFETY: as NCCL asks for it.
    unsafe {
        let asked = sys::ncclCommInitRankConfig(&raw mut comm, size, id, rank, &raw mut config);
        assert_eq!(asked, ncclResult_t::ncclInProgress);
        settle(comm);
    }
    comm
}

/// # Safety
/// It is a communicator.
unsafe fn settle(comm: sys::ncclComm_t) {
    let mut state = ncclResult_t::ncclInProgress;
    while state == ncclResult_t::ncclInProgress {
        std::thread::sleep(Duration::from_millis(1));
        // SAFETY: as promised.
        unsafe { sys::ncclCommGetAsyncError(comm, &raw mut state) };
    }
    assert_eq!(state, ncclResult_t::ncclSuccess);
}

#[test]
fn calls_that_nccl_takes_at_their_word_are_checked() {
    let Some(device) = job() else { return };
    use ncclResult_t::{ncclInProgress, ncclInvalidArgument, ncclInvalidUsage, ncclSuccess};
    let context = CudaContext::new(0).unwrap();
    let other = CudaContext::new(1).unwrap();
    context.bind_to_thread().unwrap();
    let stream = context.new_stream().unwrap();
    let floats = stream.alloc_zeros::<f32>(64).unwrap();
    let at = floats.device_ptr(&stream).0;
    let on = stream.cu_stream().cast();
    let comm = raw(1, 0, &unique_id().unwrap());
    let gather = |from: u64, to: u64, count: usize, kind| {
        // SAFETY: the stand-in checks it.
        unsafe { sys::ncclAllGather(from as *const _, to as *mut _, count, kind, comm, on) }
    };
    let float = ncclDataType_t::ncclFloat32;
    // SAFETY: the stand-in checks every call.
    unsafe {
        assert_eq!(sys::ncclGroupEnd(), ncclInvalidUsage);
        assert_eq!(gather(at, 0, 8, float), ncclInvalidArgument);
        assert_eq!(gather(at, at, 8, ncclDataType_t::ncclNumTypes), ncclInvalidArgument);
        assert_eq!(gather(at, at + 4, 8, float), ncclInvalidUsage, "buffers that overlap");
        assert_eq!(sys::ncclSend(at as *const _, 8, float, 1, comm, on), ncclInvalidArgument);
        assert_eq!(sys::ncclSend(at as *const _, 8, float, 0, comm, on), ncclInvalidUsage);
        other.bind_to_thread().unwrap();
        assert_eq!(gather(at, at, 8, float), ncclInvalidUsage, "another GPU");
        context.bind_to_thread().unwrap();
        assert_eq!(gather(at, at, 8, float), ncclInProgress);
        assert_eq!(gather(at, at, 8, float), ncclInvalidUsage, "in progress");
        settle(comm);
        assert_eq!(sys::ncclCommFinalize(comm), ncclInvalidUsage, "still on the stream");
        stream.synchronize().unwrap();
        assert_eq!(sys::ncclCommDestroy(comm), ncclInvalidUsage, "not finalised");
        assert_eq!(sys::ncclCommFinalize(comm), ncclSuccess);
        assert_eq!(gather(at, at, 8, float), ncclInvalidUsage, "finalised");
        assert_eq!(sys::ncclCommDestroy(comm), ncclSuccess);
        assert_eq!(sys::ncclCommDestroy(comm), ncclInvalidArgument);
    }
    drop(floats);
    drop(stream);
    device.forgive();
}

/// Nothing is there before it is asked for often enough, and a stream waits for the others without stopping the host.
#[test]
fn calls_come_to_their_stream_late_and_wait_there() {
    let Some(_device) = job() else { return };
    let (id, met) = (unique_id().unwrap(), Barrier::new(2));
    std::thread::scope(|scope| {
        for rank in 0..2 {
            let (id, met) = (&id, &met);
            scope.spawn(move || {
                let context = CudaContext::new(rank).unwrap();
                let stream = context.new_stream().unwrap();
                let mut bytes = stream.clone_htod(&[[5_u8; 4], [6; 4]][rank]).unwrap();
                let comm = raw(2, rank as i32, id);
                let event =
                    |stream: &std::sync::Arc<cudarc::driver::CudaStream>| stream.record_event(None).unwrap();
                if rank == 1 {
                    met.wait();
                }
                let at = bytes.device_ptr_mut(&stream).0 as *mut _;
                // SAFETY: the bytes stay until the stream has passed.
                unsafe {
                    let on = stream.cu_stream().cast();
                    sys::ncclBroadcast(at, at, 4, ncclDataType_t::ncclUint8, 0, comm, on);
                    let early = event(&stream);
                    // Twice, as the first time what is done at once is done.
                    assert!(!early.is_complete() && early.is_complete(), "it is on the stream too early");
                    settle(comm);
                    let done = event(&stream);
                    if rank == 0 {
                        (0..3).for_each(|_| assert!(!done.is_complete(), "nobody else has come"));
                        met.wait();
                    }
                    while !done.is_complete() {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    assert_eq!(stream.clone_dtoh(&bytes).unwrap(), [5; 4]);
                    assert_eq!(sys::ncclCommFinalize(comm), ncclResult_t::ncclSuccess);
                    sys::ncclCommDestroy(comm);
                }
            });
        }
    });
}

#[test]
fn a_gpu_that_is_not_there_is_named() {
    let Some(_device) = job() else { return };
    let id = unique_id().unwrap();
    let error = Communicator::join(9, &id, (0, 2), PATIENCE, nobody_has_gone()).err().unwrap();
    assert_eq!(error, Error::NoGpu { asked: 9, found: MOST_RANKS });
}
