//! Real faces: all of the sample decodes, and as libjpeg-turbo decodes it.

use ff_data::{Dataset, ImageSize, Mode, Scratch, Split, decode};

use crate::support::{difference, golden, sample, sample_splits};

#[test]
fn all_799_crops_decode() {
    let splits = sample_splits();
    let mut scratch = Scratch::default();
    let mut decoded = 0;
    for split in Split::ALL {
        let manifest = splits.get(split).clone();
        let dataset = Dataset::open(manifest, sample().join("images"), &splits.encoders, Mode::Eval).unwrap();
        for sample_idx in 0..dataset.len() {
            let image = dataset.read_rgb(sample_idx, &mut scratch).unwrap();
            let ImageSize { width, height } = ImageSize::DEFAULT;
            assert_eq!((image.width, image.height), (width, height));
            decoded += 1;
        }
    }
    assert_eq!(decoded, 799);
}

/// The golden image is OpenCV's (libjpeg-turbo's) decode of the 18th crop by name.
#[test]
fn decoding_agrees_with_libjpeg_turbo() {
    let Some(golden) = golden("augment_golden.safetensors") else { return };
    let entries = fs_err::read_dir(sample().join("images/val")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let image = decode(&fs_err::read(&paths[17]).unwrap()).unwrap();
    let (largest, mean) = difference(&image, &golden.image("image_u8"));
    eprintln!("{}: largest difference {largest}, mean {mean:.3}", paths[17].display());
    assert!(largest <= 4 && mean < 0.5, "largest difference {largest}, mean {mean}");
}
