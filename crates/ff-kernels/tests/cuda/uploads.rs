//! Batches in and results out, whichever stream is ahead.

use std::ops::{Deref, DerefMut};
use std::sync::mpsc::{Sender, channel};

use ff_kernels::cuda::{Error, Pinned, Readback, Uploads};
use ff_kernels::gpu::batch::RECIPE_LEN;
use ff_kernels::gpu::{Bases, Buffer, Place};

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

fn read(readback: &mut Readback, bases: &Bases, buffer: Buffer, len: usize) {
    readback.begin(bases.address(Place { buffer, offset: 0 }), len).unwrap();
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
        let bases = uploaded.bases(Bases::default());
        let mut pair = [PIXELS, 4 * IMAGES * RECIPE_LEN].map(|len| Readback::new(&gpu, len).unwrap());
        read(&mut pair[0], &bases, Buffer::Pixels, PIXELS);
        read(&mut pair[1], &bases, Buffer::Recipes, 4 * IMAGES * RECIPE_LEN);
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
        read(&mut pixels, &uploaded.bases(Bases::default()), Buffer::Pixels, PIXELS);
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
        let bases = uploaded.bases(Bases::default());
        fake::elsewhere(|| read(&mut pixels, &bases, Buffer::Pixels, PIXELS));
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
    assert!(matches!(readback.begin(0, 5), Err(Error::Length { expected: 5, found: 4, .. })));
}
