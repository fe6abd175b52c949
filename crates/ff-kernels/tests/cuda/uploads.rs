//! Batches in and results out, whichever stream is ahead.

use std::ops::{Deref, DerefMut};
use std::sync::mpsc::{Sender, channel};

use ff_kernels::gpu::Buffer;
use ff_kernels::gpu::device::{Error, Memory, Pinned, Readback, Uploads};
use ff_kernels::gpu::program::batch::RECIPE_LEN;

use crate::fake;

const IMAGES: usize = 2;
const SIZE: (usize, usize) = (5, 7);
const PIXELS: usize = IMAGES * SIZE.0 * SIZE.1 * 3;
const DEPTH: usize = 2;
const BATCHES: usize = 9;

/// Page-locked memory that comes back when nobody copies from it any more.
struct Lent {
    bytes: Option<Pinned>,
    back: Sender<Pinned>,
}

impl Deref for Lent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.as_ref().unwrap()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        drop(self.back.send(self.bytes.take().unwrap()));
    }
}

fn pixels_of(batch: usize) -> Vec<u8> {
    (0..PIXELS).map(|i| (31 * batch + i) as u8).collect()
}

fn recipes_of(batch: usize) -> Vec<f32> {
    (0..IMAGES * RECIPE_LEN).map(|i| (100 * batch + i) as f32).collect()
}

fn read(readback: &mut Readback, memory: &Memory<'_>, buffer: Buffer, len: usize) {
    readback.begin(memory.span(buffer).unwrap().part(0..len)).unwrap();
}

/// `eager`: whether the compute stream, and whether that of the copies, runs ahead.
fn batches_arrive(eager: [bool; 2]) {
    let mut device = fake::alone();
    if !device.is_fake() && eager != [true; 2] {
        return;
    }
    if device.is_fake() {
        device.set("eager", i64::from(eager[0]), 0);
    }
    let gpu = device.gpu();
    if device.is_fake() {
        device.set("eager", i64::from(eager[1]), 0);
    }
    let mut uploads = Uploads::new(&gpu, DEPTH, PIXELS, IMAGES * RECIPE_LEN).unwrap();
    let (back, returned) = channel();
    let mut pinned = 0;
    let mut results = Vec::new();
    for batch in 0..BATCHES {
        let mut bytes = returned.try_recv().unwrap_or_else(|_| {
            pinned += 1;
            Pinned::new(&gpu, PIXELS).unwrap()
        });
        bytes.deref_mut().copy_from_slice(&pixels_of(batch));
        let lent = Lent { bytes: Some(bytes), back: back.clone() };
        let uploaded = uploads.upload(Box::new(lent), SIZE, &recipes_of(batch)).unwrap();
        assert_eq!((uploaded.shape(), uploaded.room()), ([IMAGES, SIZE.0, SIZE.1], IMAGES));

        uploaded.begin().unwrap();
        let memory = uploaded.memory();
        let mut pair = [PIXELS, 4 * IMAGES * RECIPE_LEN].map(|len| Readback::new(&gpu, len).unwrap());
        read(&mut pair[0], &memory, Buffer::Pixels, PIXELS);
        read(&mut pair[1], &memory, Buffer::Recipes, 4 * IMAGES * RECIPE_LEN);
        uploaded.end().unwrap();
        results.push(pair);
    }
    assert!(pinned <= DEPTH + 1, "{pinned} page-locked buffers for {DEPTH} slots");
    for (batch, [pixels, recipes]) in results.iter_mut().enumerate() {
        assert_eq!(pixels.wait().unwrap(), pixels_of(batch), "pixels of batch {batch}");
        let bytes: Vec<u8> = recipes_of(batch).iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(recipes.wait().unwrap(), bytes, "recipes of batch {batch}");
    }
}

#[test]
fn batches_arrive_when_both_streams_lag() {
    batches_arrive([false, false]);
}

#[test]
fn batches_arrive_when_copies_run_ahead() {
    batches_arrive([false, true]);
}

#[test]
fn batches_arrive_when_copies_lag() {
    batches_arrive([true, false]);
}

#[test]
fn batches_arrive_when_nothing_lags() {
    batches_arrive([true, true]);
}

#[test]
fn pageable_batches_arrive_too() {
    let device = fake::alone();
    let gpu = device.gpu();
    let mut uploads = Uploads::new(&gpu, 1, PIXELS, IMAGES * RECIPE_LEN).unwrap();
    for batch in 0..3 {
        let uploaded = uploads.upload(Box::new(pixels_of(batch)), SIZE, &recipes_of(batch)).unwrap();
        uploaded.begin().unwrap();
        let mut pixels = Readback::new(&gpu, PIXELS).unwrap();
        read(&mut pixels, &uploaded.memory(), Buffer::Pixels, PIXELS);
        assert_eq!(pixels.wait().unwrap(), pixels_of(batch));
    }
}

#[test]
fn batches_arrive_from_one_thread_in_another() {
    let device = fake::alone();
    let gpu = device.gpu();
    let mut uploads = Uploads::new(&gpu, DEPTH, PIXELS, IMAGES * RECIPE_LEN).unwrap();
    let mut pixels = Readback::new(&gpu, PIXELS).unwrap();
    for batch in 0..2 * DEPTH {
        let upload = || uploads.upload(Box::new(pixels_of(batch)), SIZE, &recipes_of(batch)).unwrap();
        let uploaded = fake::elsewhere(upload);
        fake::elsewhere(|| uploaded.begin().unwrap());
        let memory = uploaded.memory();
        fake::elsewhere(|| read(&mut pixels, &memory, Buffer::Pixels, PIXELS));
        fake::elsewhere(|| drop(uploaded));
        fake::elsewhere(|| assert_eq!(pixels.wait().unwrap(), pixels_of(batch)));
    }
    fake::elsewhere(|| drop((uploads, pixels)));
}

#[test]
fn a_slot_that_is_not_given_back_is_not_filled() {
    let device = fake::alone();
    let gpu = device.gpu();
    let mut uploads = Uploads::new(&gpu, DEPTH, PIXELS, IMAGES * RECIPE_LEN).unwrap();
    let mut upload = |batch| uploads.upload(Box::new(pixels_of(batch)), SIZE, &recipes_of(batch));
    let _first = upload(0).unwrap();
    let second = upload(1).unwrap();
    assert!(matches!(upload(2), Err(Error::NoSlot { depth: DEPTH })));
    drop(second);
    assert!(upload(2).is_ok());
}

#[test]
fn batches_of_a_wrong_length_are_refused() {
    let device = fake::alone();
    let gpu = device.gpu();
    let mut uploads = Uploads::new(&gpu, 1, PIXELS, IMAGES * RECIPE_LEN).unwrap();
    let mut refused = |pixels: usize, images: usize| {
        let recipes = vec![0.0; images * RECIPE_LEN];
        uploads.upload(Box::new(vec![0; pixels]), SIZE, &recipes).err().unwrap().to_string()
    };
    assert_eq!(refused(PIXELS - 1, IMAGES), "pixels of a batch: expected 210 bytes, found 209");
    let more = PIXELS / IMAGES * (IMAGES + 1);
    assert_eq!(refused(more, IMAGES + 1), "room for pixels in an upload slot: expected 315 bytes, found 210");
    let mut readback = Readback::new(&gpu, 4).unwrap();
    let uploaded = uploads.upload(Box::new(pixels_of(0)), SIZE, &recipes_of(0)).unwrap();
    let five = uploaded.memory().span(Buffer::Pixels).unwrap().part(0..5);
    assert!(matches!(readback.begin(five), Err(Error::Length { expected: 5, found: 4, .. })));
    // A product that wrapped to the length of nothing.
    let recipes = [0.0; RECIPE_LEN];
    assert!(uploads.upload(Box::new(Vec::new()), (1 << 32, 1 << 32), &recipes).is_err());
}

/// Uploads a batch of memory that says when it goes, with a failure on the way; whether the error came, and then a
/// batch that arrives whole.
fn fails_once(setting: &'static str, at: i64) {
    let Some(mut device) = fake::alone_on_fake() else { return };
    let gpu = device.gpu();
    let mut uploads = Uploads::new(&gpu, 1, PIXELS, IMAGES * RECIPE_LEN).unwrap();
    let (back, returned) = channel();
    let mut bytes = Pinned::new(&gpu, PIXELS).unwrap();
    bytes.copy_from_slice(&pixels_of(0));
    device.set(setting, at, 0);
    let lent = Lent { bytes: Some(bytes), back };
    let error = uploads.upload(Box::new(lent), SIZE, &recipes_of(0)).err().unwrap().to_string();
    assert!(
        error.starts_with("uploading a batch: ") && error.contains("CUDA_ERROR_LAUNCH_FAILED"),
        "{error}"
    );
    // Nothing copies from it any more, so that whoever gets it may write to it or free it at once.
    assert_eq!(device.queued(), 0, "a copy is under way");
    drop(returned.try_recv().expect("the pixels are given back"));
    let uploaded = uploads.upload(Box::new(pixels_of(1)), SIZE, &recipes_of(1)).unwrap();
    uploaded.begin().unwrap();
    let mut pixels = Readback::new(&gpu, PIXELS).unwrap();
    read(&mut pixels, &uploaded.memory(), Buffer::Pixels, PIXELS);
    assert_eq!(pixels.wait().unwrap(), pixels_of(1));
}

/// The first copy used to be under way when its error came back, from memory that the caller could free.
#[test]
fn a_failed_second_copy_leaves_none_under_way() {
    fails_once("fail_copy", 2);
}

#[test]
fn a_failed_event_after_the_copies_leaves_none_under_way() {
    fails_once("fail_record", 1);
}

#[test]
fn a_failed_event_after_a_readback_leaves_no_copy_under_way() {
    let Some(mut device) = fake::alone_on_fake() else { return };
    let gpu = device.gpu();
    let mut uploads = Uploads::new(&gpu, 1, PIXELS, IMAGES * RECIPE_LEN).unwrap();
    let uploaded = uploads.upload(Box::new(pixels_of(0)), SIZE, &recipes_of(0)).unwrap();
    uploaded.begin().unwrap();
    let mut readback = Readback::new(&gpu, PIXELS).unwrap();
    device.set("fail_record", 1, 0);
    let memory = uploaded.memory();
    let pixels = memory.span(Buffer::Pixels).unwrap();
    assert!(readback.begin(pixels).is_err());
    assert_eq!(device.queued(), 0, "a copy is under way");
    assert_eq!(readback.wait().unwrap(), [0_u8; 0], "there is nothing to read");
    readback.begin(pixels).unwrap();
    assert_eq!(readback.wait().unwrap(), pixels_of(0));
}

/// A slot without the mark of its last use would be filled while it is read.
#[test]
fn a_slot_whose_mark_fails_is_given_back_when_its_users_are_done() {
    let Some(mut device) = fake::alone_on_fake() else { return };
    let gpu = device.gpu();
    let mut uploads = Uploads::new(&gpu, 1, PIXELS, IMAGES * RECIPE_LEN).unwrap();
    let first = uploads.upload(Box::new(pixels_of(0)), SIZE, &recipes_of(0)).unwrap();
    first.begin().unwrap();
    let mut pixels = Readback::new(&gpu, PIXELS).unwrap();
    read(&mut pixels, &first.memory(), Buffer::Pixels, PIXELS);
    device.set("fail_record", 1, 0);
    assert!(first.end().is_err());
    let _second = uploads.upload(Box::new(pixels_of(1)), SIZE, &recipes_of(1)).unwrap();
    drop(uploads);
    assert_eq!(pixels.wait().unwrap(), pixels_of(0), "overwritten while it was read");
}

/// Where not even waiting works, memory that a copy may still use is left alone, and a slot that may be read stays
/// taken.
#[test]
fn what_cannot_be_waited_for_is_left_alone() {
    let Some(mut device) = fake::alone_on_fake() else { return };
    let gpu = device.gpu();
    let mut uploads = Uploads::new(&gpu, 2, PIXELS, IMAGES * RECIPE_LEN).unwrap();
    let (back, returned) = channel();
    let lent = Lent { bytes: Some(Pinned::new(&gpu, PIXELS).unwrap()), back };
    device.set("fail_copy", 2, 0);
    device.set("fail_wait", 1, 0);
    assert!(uploads.upload(Box::new(lent), SIZE, &recipes_of(0)).is_err());
    assert!(returned.try_recv().is_err(), "memory was given back under a copy");
    // One slot is lost, the other serves on, until it cannot be given back either.
    let uploaded = uploads.upload(Box::new(pixels_of(1)), SIZE, &recipes_of(1)).unwrap();
    assert!(matches!(
        uploads.upload(Box::new(pixels_of(2)), SIZE, &recipes_of(2)),
        Err(Error::NoSlot { depth: 1 })
    ));
    device.set("fail_record", 1, 0);
    device.set("fail_wait", 1, 0);
    assert!(uploaded.end().is_err());
    drop(uploaded);
    assert!(matches!(
        uploads.upload(Box::new(pixels_of(2)), SIZE, &recipes_of(2)),
        Err(Error::NoSlot { depth: 1 })
    ));
    device.expect_left_behind();
}
