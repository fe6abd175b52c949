//! Images of other sizes than 224: all that is known of that one holds for them.

use std::sync::Arc;

use ff_data::{
    Augment, Batch, CacheSpec, Dataset, ImageSize, Layout, Loader, LoaderConfig, Mode, Sampling, Scratch,
    transforms,
};

use crate::support::{sample_dataset, sample_inputs};

const SIDES: [usize; 3] = [64, 96, 320];

fn dataset(side: usize) -> Dataset {
    sample_dataset(9, Mode::train(Augment::Balanced, 5)).with_image_size(side).unwrap()
}

fn batches(dataset: Dataset, layout: Layout) -> Vec<Batch> {
    let config = LoaderConfig::train(4).with_workers(2).with_layout(layout);
    Loader::new(Arc::new(dataset), config).unwrap().epoch(1, 0).map(Result::unwrap).collect()
}

#[test]
fn the_fused_pass_is_the_reference_at_every_size() {
    for (side, sampling) in SIDES.into_iter().zip([Sampling::Nearest, Sampling::Bilinear, Sampling::Nearest])
    {
        let mode = Mode::train(Augment::Balanced.spec().with_sampling(sampling), 5);
        let dataset = sample_dataset(9, mode).with_image_size(side).unwrap();
        assert_eq!(
            (dataset.size(), dataset.image_len()),
            (ImageSize::square(side).unwrap(), 3 * side * side)
        );
        let (mut scratch, len) = (Scratch::default(), dataset.image_len());
        for sample_idx in 0..dataset.len() {
            let (mut fused, mut reference) = (vec![f32::NAN; len], vec![f32::NAN; len]);
            dataset.load(2, sample_idx, &mut scratch, &mut fused).unwrap();
            dataset.load_reference(2, sample_idx, &mut scratch, &mut reference).unwrap();
            let agree = fused.iter().zip(&reference).all(|(a, b)| (a - b).abs() <= 1e-5);
            assert!(agree, "side {side}, sample {sample_idx}");
        }
    }
}

/// Slots, both layouts, and draws that shift by a share of the side.
#[test]
fn batches_have_the_size_in_both_layouts() {
    for side in SIDES {
        let (planes, pixels) =
            (batches(dataset(side), Layout::Planes), batches(dataset(side), Layout::Pixels));
        assert_eq!((planes.len(), pixels.len()), (2, 2));
        let (area, size) = (side * side, ImageSize::square(side).unwrap());
        let mut out = vec![f32::NAN; 3 * area];
        for (planes, pixels) in planes.iter().zip(&pixels) {
            assert_eq!((planes.shape, pixels.shape), ([4, 3, side, side], [4, side, side, 3]));
            let images = planes.planes().chunks(3 * area).zip(pixels.pixels().chunks(3 * area));
            for ((plane, pixel), params) in images.zip(&pixels.augment) {
                transforms::augment_into(params, pixel, size, &mut out, &mut Vec::new());
                assert!(plane == out, "side {side}");
            }
        }
        let shifts = planes.iter().flat_map(|batch| &batch.augment);
        let (shifts, most) = (shifts.map(|params| params.affine.unwrap().translate), side as i32 / 10);
        assert!(shifts.clone().all(|(x, y)| x.abs() <= most && y.abs() <= most), "side {side}");
        assert!(shifts.map(|(x, y)| x.abs().max(y.abs())).max() > Some(most / 2), "side {side}");
    }
}

/// Two sizes in one folder are two files, and each is found again.
#[test]
fn a_disk_cache_is_of_one_size() {
    let dir = tempfile::tempdir().unwrap();
    let spec = CacheSpec::Disk(dir.path().to_owned());
    let open = |side| {
        Dataset::unlabelled(sample_inputs(3))
            .unwrap()
            .with_image_size(side)
            .unwrap()
            .with_cache(&spec)
            .unwrap()
    };
    let pixels = |side| {
        let dataset = open(side);
        let mut pixels = vec![0; dataset.image_len()];
        (0..3).for_each(|i| dataset.load_pixels(i, &mut Scratch::default(), &mut pixels).unwrap());
        pixels
    };
    let first = [96, 64].map(pixels);
    assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 2);
    assert_eq!([64, 96].map(|side| open(side).cache().unwrap().kept()), [3, 3]);
    assert!([96, 64].map(pixels) == first);
    assert_eq!(open(224).cache().unwrap().kept(), 0);
}

#[test]
fn sizes_that_no_network_takes_are_refused() {
    for side in [0, 1, 32, 63, 100, 224 + 1, 512 + 32, usize::MAX] {
        let message = sample_dataset(1, Mode::Eval).with_image_size(side).unwrap_err().to_string();
        let expected = format!("data.image_size: expected a multiple of 32 from 64 to 512, found {side}");
        assert_eq!(message, expected);
    }
    for side in [64, 224, 512] {
        let dataset = sample_dataset(1, Mode::Eval).with_image_size(side).unwrap();
        let image = dataset.read_rgb(0, &mut Scratch::default()).unwrap().clone();
        assert_eq!((image.width, image.height), (side, side));
    }
}
