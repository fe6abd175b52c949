//! The stand-ins themselves: that they notice what they are there to notice.

use std::sync::Arc;

use cudarc::cudnn::sys as cudnn;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUresult, CUstreamCaptureMode::*};
use cudarc::driver::{CudaContext, CudaStream, DriverError, result};
use ff_kernels::gpu::check::Workbench;
use ff_kernels::gpu::device::Testbed;
use ff_kernels::gpu::{Arg, Bases, Buffer, BufferPlace, Launch, Machine};

use crate::fake;

const LEN: usize = 64;

fn stream() -> Arc<CudaStream> {
    CudaContext::new(0).unwrap().new_stream().unwrap()
}

fn begin(stream: &CudaStream) {
    stream.begin_capture(CU_STREAM_CAPTURE_MODE_RELAXED).unwrap();
}

fn read(stream: &CudaStream, from: u64) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    // SAFETY: there are as many on the device, and other memory than page-locked is written before this returns.
    unsafe { result::memcpy_dtoh_async(&mut bytes, from, stream.cu_stream()) }.unwrap();
    bytes
}

#[test]
fn what_is_captured_runs_when_the_graph_does() {
    let Some(_device) = fake::alone_on_fake() else { return };
    let stream = stream();
    // SAFETY: the memory is used on this stream, which is waited for before it is freed.
    unsafe {
        let at = result::malloc_sync(LEN).unwrap();
        assert_eq!(read(&stream, at), [0xff; LEN], "fresh memory is not zero");
        begin(&stream);
        result::memset_d8_async(at, 7, LEN, stream.cu_stream()).unwrap();
        let graph = stream.end_capture(CUgraphInstantiate_flags(0)).unwrap().unwrap();
        assert_eq!(read(&stream, at), [0xff; LEN], "a captured memset has run");
        graph.launch().unwrap();
        assert_eq!(read(&stream, at), [7; LEN]);
        result::free_sync(at).unwrap();
    }
}

#[test]
fn allocating_and_waiting_end_a_capture() {
    let Some(device) = fake::alone_on_fake() else { return };
    let stream = stream();
    // SAFETY: refused.
    let allocate = || unsafe { result::malloc_sync(LEN) }.map(drop);
    let wait = || stream.synchronize();
    for disturb in [&allocate as &dyn Fn() -> Result<(), DriverError>, &wait] {
        begin(&stream);
        assert_eq!(disturb().unwrap_err().0, CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
        let ended = stream.end_capture(CUgraphInstantiate_flags(0)).err().unwrap();
        assert_eq!(ended.0, CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    }
    device.forgive();
}

#[test]
fn a_forgotten_wait_between_streams_shows() {
    let Some(_device) = fake::alone_on_fake() else { return };
    let (writer, reader) = (stream(), stream());
    // SAFETY: the memory is freed when both streams are done.
    unsafe {
        let at = result::malloc_sync(LEN).unwrap();
        result::memset_d8_async(at, 7, LEN, writer.cu_stream()).unwrap();
        assert_eq!(read(&reader, at), [0xff; LEN], "the reader is ahead");
        reader.join(&writer).unwrap();
        assert_eq!(read(&reader, at), [7; LEN]);
        result::free_sync(at).unwrap();
    }
}

/// `add_f32` of the first eight values to themselves, into eight from byte `to` on.
fn add(to: usize) -> Launch {
    let at = |offset| Arg::At(BufferPlace { buffer: Buffer::Planes, offset });
    Launch { kernel: "add_f32".into(), grid: [1; 3], args: vec![at(0), at(0), at(to), Arg::U32(1)] }
}

#[test]
fn a_kernel_that_writes_beyond_its_memory_is_noticed() {
    let Some(device) = fake::alone_on_fake() else { return };
    let gpu = device.gpu();
    // SAFETY: the stand-in notices.
    let mut bench = unsafe { Testbed::new(&gpu) };
    bench.reserve(Buffer::Planes, LEN - 4).unwrap();
    bench.launch(&add(0)).unwrap();
    gpu.synchronize().unwrap();
    bench.launch(&add(LEN - 32)).unwrap();
    let error = gpu.synchronize().unwrap_err().to_string();
    device.forgive();
    assert!(error.contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{error}");
}

#[test]
fn addresses_that_are_nowhere_are_noticed() {
    let Some(device) = fake::alone_on_fake() else { return };
    let gpu = device.gpu();
    let bases = Bases::default().with(Buffer::Planes, 0x1000);
    // SAFETY: the stand-in notices.
    let error = unsafe { gpu.launch(&add(0), &bases) }.unwrap_err().to_string();
    device.forgive();
    assert!(error.contains("launching add_f32") && error.contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{error}");
}

#[test]
fn descriptors_are_checked() {
    let Some(device) = fake::alone_on_fake() else { return };
    use cudnn::cudnnBackendAttributeName_t as Name;
    use cudnn::cudnnBackendAttributeType_t as Type;
    use cudnn::cudnnBackendDescriptorType_t as Kind;
    let mut tensor = std::ptr::null_mut();
    let value = 5_i64;
    let at = (&raw const value).cast();
    // SAFETY: every call gets as many values as it announces.
    unsafe {
        let kind = Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR;
        cudnn::cudnnBackendCreateDescriptor(kind, &raw mut tensor).result().unwrap();
        let set = |name, kind| cudnn::cudnnBackendSetAttribute(tensor, name, kind, 1, at).result();
        set(Name::CUDNN_ATTR_TENSOR_UNIQUE_ID, Type::CUDNN_TYPE_INT64).unwrap();
        set(Name::CUDNN_ATTR_TENSOR_UNIQUE_ID, Type::CUDNN_TYPE_FLOAT).unwrap_err();
        set(Name::CUDNN_ATTR_VARIANT_PACK_WORKSPACE, Type::CUDNN_TYPE_INT64).unwrap_err();
        let lacking = cudnn::cudnnBackendFinalize(tensor).result().unwrap_err();
        assert_eq!(lacking.0, cudnn::cudnnStatus_t::CUDNN_STATUS_BAD_PARAM);
        cudnn::cudnnBackendDestroyDescriptor(tensor).result().unwrap();
    }
    device.forgive();
}
