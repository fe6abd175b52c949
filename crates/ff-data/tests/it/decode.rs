//! Every kind of image file gives upright RGB; what is broken says so. Expected pixels are Pillow's.

use ff_data::{Dataset, Error, ImageSize, Mode, Scratch, decode, resize};

use crate::support::{Fixture, difference, planted};

/// zune-jpeg and libjpeg-turbo round their inverse DCT, their colour conversion and their chroma upsampling
/// differently; everything lossless must be exact.
#[test]
fn every_format_decodes_as_pillow_decodes_it() {
    let fixture = Fixture::images();
    let mut seen = 0;
    for name in fixture.names() {
        if name.starts_with("resize.") || name.ends_with(".rgb") {
            continue;
        }
        let image = decode(&fixture.bytes(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (largest, mean) = difference(&image, &fixture.image(&format!("{name}.rgb")));
        eprintln!("{name}: largest difference {largest}, mean {mean:.3}");
        let tolerance = if name.ends_with(".jpg") { 4 } else { 0 };
        assert!(largest <= tolerance, "{name}: differs by {largest}");
        seen += 1;
    }
    assert_eq!(seen, 25);
}

#[test]
fn resizing_is_pillows_to_the_bit() {
    let fixture = Fixture::images();
    let image = fixture.image("resize.in");
    for (width, height) in [(16, 9), (40, 33), (31, 12), (9, 23), (5, 50), (30, 24)] {
        let expected = fixture.image(&format!("resize.{width}x{height}"));
        assert_eq!(resize(&image, ImageSize { width, height }), expected, "to {width}x{height}");
    }
    assert_eq!(resize(&image, ImageSize { width: 31, height: 23 }), image);
}

#[test]
fn one_pixel_fills_any_size() {
    let image = ff_data::RgbImage { width: 1, height: 1, pixels: vec![7, 100, 255] };
    let large = resize(&image, ImageSize::DEFAULT);
    assert!(large.pixels.chunks_exact(3).all(|pixel| pixel == image.pixels));
}

#[test]
fn whatever_is_cut_off_is_an_error() {
    let fixture = Fixture::images();
    for name in ["rgb.jpg", "progressive.jpg", "cmyk.jpg", "rgba.png", "rgb.bmp", "rgb.webp", "rgb.tiff"] {
        let bytes = fixture.bytes(name);
        for cut in [0, 1, 2, 7, 30, bytes.len() / 2, bytes.len() * 9 / 10] {
            let result = decode(&bytes[..cut]);
            assert!(matches!(result, Err(Error::Decode(_))), "{name} cut to {cut} bytes decodes");
        }
    }
    let bytes = fixture.bytes("rgb.jpg");
    for missing in 1..100 {
        assert!(
            decode(&bytes[..bytes.len() - missing]).is_err(),
            "JPEG without its last {missing} bytes decodes"
        );
    }
}

#[test]
fn bytes_after_a_jpeg_do_no_harm() {
    let fixture = Fixture::images();
    let mut bytes = fixture.bytes("rgb.jpg");
    bytes.extend([0; 100]);
    assert_eq!(decode(&bytes).unwrap(), decode(&fixture.bytes("rgb.jpg")).unwrap());
}

/// libjpeg takes junk between headers, and cameras write it.
#[test]
fn junk_between_jpeg_headers_does_no_harm() {
    let bytes = Fixture::images().bytes("rgb.jpg");
    let tables = bytes.windows(2).position(|pair| pair == [0xff, 0xdb]).unwrap();
    let junk = [&bytes[..tables], &[0x11; 9], &bytes[tables..]].concat();
    assert_eq!(decode(&junk).unwrap(), decode(&bytes).unwrap());
}

#[test]
fn broken_exif_leaves_the_image_upright() {
    let fixture = Fixture::images();
    let mut bytes = fixture.bytes("exif6.jpg");
    let tiff = bytes.windows(6).position(|window| window == b"Exif\0\0").unwrap() + 6;
    bytes[tiff..tiff + 4].fill(0xee);
    assert_eq!(decode(&bytes).unwrap(), decode(&fixture.bytes("exif1.jpg")).unwrap());
}

/// Extensions lie: a PNG named .jpg is a PNG, a text file named .jpg is an error that names path, CSV, line and folder.
#[test]
fn formats_go_by_content_and_errors_name_the_row() {
    let fixture = Fixture::images();
    let dir = tempfile::tempdir().unwrap();
    let png = fixture.bytes("rgba.png");
    let jpeg = fixture.bytes("rgb.jpg");
    let files: [(&str, &[u8]); 4] =
        [("png.jpg", &png), ("text.jpg", b"no face here"), ("empty.jpg", b""), ("cut.jpg", &jpeg[..400])];
    let (manifest, encoders) = planted(dir.path(), &files);
    let dataset = Dataset::open(manifest, dir.path(), &encoders, Mode::Eval).unwrap();
    let mut scratch = Scratch::default();
    let small = resize(&fixture.image("rgba.png.rgb"), ImageSize::DEFAULT);
    assert_eq!(*dataset.read_rgb(0, &mut scratch).unwrap(), small);
    for (sample_idx, reason) in [(1, "expected a JPEG"), (2, "an empty file"), (3, "broken JPEG")] {
        let message = dataset.read_rgb(sample_idx, &mut scratch).unwrap_err().to_string();
        let path = dir.path().join(files[sample_idx].0).display().to_string();
        let line = format!("planted.csv line {},", sample_idx + 2);
        for part in [reason, &path, &line, "images folder"] {
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
    }
}
