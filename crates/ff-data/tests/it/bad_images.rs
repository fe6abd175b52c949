//! Every kind of file that somebody may put where an image should be, with the exact message that it gets; what claims
//! to be huge is refused before memory is taken for it.
//!
//! `UPDATE_MESSAGES=1` writes `bad_images.txt` anew.

use std::path::Path;

use ff_data::{Dataset, ImageInput, ImageRules, RgbImage, Scratch, decode, decode_into};
use image::{
    ExtendedColorType, ImageEncoder,
    codecs::{gif::GifEncoder, png::PngEncoder},
};

use crate::support::{Fixture, sample};

fn crop() -> Vec<u8> {
    fs_err::read(sample().join("images/val/10013.jpg")).unwrap()
}

fn png(pixels: &[u8], width: u32, height: u32, color: ExtendedColorType) -> Vec<u8> {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes).write_image(pixels, width, height, color).unwrap();
    bytes
}

/// A crop whose frame header claims another size.
fn jpeg_of(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = crop();
    let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

/// A chunk of a PNG: length, name, content, CRC-32 (ISO 3309) of name and content.
fn png_chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let body = [&name[..], content].concat();
    let mut crc = u32::MAX;
    for &byte in &body {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    [&(content.len() as u32).to_be_bytes()[..], &body, &(!crc).to_be_bytes()].concat()
}

fn png_with(width: u32, height: u32, chunks: &[Vec<u8>]) -> Vec<u8> {
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let head = png_chunk(b"IHDR", &[&size[..], &[8, 2, 0, 0, 0]].concat());
    [&b"\x89PNG\r\n\x1a\n"[..], &head, &chunks.concat()].concat()
}

fn gif_of(side: u16) -> Vec<u8> {
    let side = side.to_le_bytes();
    let frame = [&[0x2c, 0, 0, 0, 0][..], &side, &side, &[0, 2, 2, 0x4c, 1, 0, 0x3b]].concat();
    [&b"GIF89a"[..], &side, &side, &[0x80, 0, 0, 0, 0, 0, 255, 255, 255], &frame].concat()
}

fn bmp_of(side: u32) -> Vec<u8> {
    let side = side.to_le_bytes();
    let info = [&40_u32.to_le_bytes()[..], &side, &side, &[1, 0, 24, 0], &[0; 24]].concat();
    [&b"BM"[..], &54_u32.to_le_bytes(), &[0; 4], &54_u32.to_le_bytes(), &info].concat()
}

/// A WebP canvas with a chunk that claims a length.
fn webp_of(side: u32, chunk: &[u8; 4], len: u32) -> Vec<u8> {
    let side = &(side - 1).to_le_bytes()[..3];
    let canvas = [&b"VP8X\x0a\0\0\0\x2c\0\0\0"[..], side, side].concat();
    let body = [&b"WEBP"[..], &canvas, chunk, &len.to_le_bytes(), &[0; 16]].concat();
    [&b"RIFF"[..], &(body.len() as u32).to_le_bytes(), &body].concat()
}

/// A grey TIFF in one strip of which it claims a length, the file's other entries as they should be.
fn tiff_of(side: u32, strip_len: u32, n_strips: u32) -> Vec<u8> {
    let entries: [(u16, u16, u32, u32); 8] = [
        (256, 4, 1, side),
        (257, 4, 1, side),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, n_strips, 8),
        (278, 4, 1, side),
        (279, 4, n_strips, strip_len),
    ];
    let mut bytes = [&b"II*\0"[..], &8_u32.to_le_bytes(), &(entries.len() as u16).to_le_bytes()].concat();
    for (tag, kind, count, value) in entries {
        bytes.extend(
            [&tag.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes(), &value.to_le_bytes()]
                .concat(),
        );
    }
    bytes.extend([0; 20]);
    bytes
}

/// A box `ftyp` with a brand, as phones' files begin.
fn ftyp(brand: &[u8; 4]) -> Vec<u8> {
    [&24_u32.to_be_bytes()[..], b"ftyp", brand, &[0; 4], brand, b"miaf", &[0; 40]].concat()
}

fn two_frames() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut gif = GifEncoder::new(&mut bytes);
    for value in [40, 200] {
        gif.encode(&[value; 12 * 8 * 3], 12, 8, ExtendedColorType::Rgb8).unwrap();
    }
    drop(gif);
    bytes
}

/// Names and contents; the names say what they are.
fn files() -> Vec<(String, Vec<u8>)> {
    let fixture = Fixture::images();
    let whole = crop();
    let mut files: Vec<(String, Vec<u8>)> = (0..10)
        .map(|tenth| (format!("first-{tenth}-tenths.jpg"), whole[..whole.len() * tenth / 10].to_vec()))
        .collect();
    let noise = |n: usize| -> Vec<u8> { (0..n).map(|i| (i * 89 % 251) as u8).collect() };
    let named: [(&str, Vec<u8>); 33] = [
        ("all-but-2-bytes.jpg", whole[..whole.len() - 2].to_vec()),
        ("whole.jpg", whole),
        ("png-named.jpg", fixture.bytes("rgba.png")),
        ("16-bit.png", png(&noise(12 * 8 * 6), 12, 8, ExtendedColorType::Rgb16)),
        ("grey.png", png(&noise(12 * 8), 12, 8, ExtendedColorType::L8)),
        ("grey-alpha.png", png(&noise(12 * 8 * 2), 12, 8, ExtendedColorType::La8)),
        ("cmyk.jpg", fixture.bytes("cmyk.jpg")),
        ("animated.gif", two_frames()),
        ("1x1.png", png(&[1, 2, 3], 1, 1, ExtendedColorType::Rgb8)),
        ("20000x20000.jpg", jpeg_of(20_000, 20_000)),
        ("65535x65535.jpg", jpeg_of(65_535, 65_535)),
        ("0x100.jpg", jpeg_of(0, 100)),
        ("20000x20000.png", png_with(20_000, 20_000, &[png_chunk(b"IDAT", &[])])),
        ("20000x20000.gif", gif_of(20_000)),
        ("20000x20000.bmp", bmp_of(20_000)),
        ("16777216x16777216.webp", webp_of(16_777_216, b"VP8L", 100)),
        ("20000x20000.tiff", tiff_of(20_000, 100, 1)),
        ("long-strip.tiff", tiff_of(2000, u32::MAX, 1)),
        ("many-strips.tiff", tiff_of(2000, 100, u32::MAX)),
        ("long-profile.webp", webp_of(100, b"ICCP", u32::MAX - 100)),
        ("long-image.webp", webp_of(7000, b"VP8L", u32::MAX - 100)),
        ("cut.png", fixture.bytes("rgba.png")[..60].to_vec()),
        ("cut.tiff", fixture.bytes("rgb.tiff")[..60].to_vec()),
        ("photo.heic", ftyp(b"heic")),
        ("photo.avif", ftyp(b"avif")),
        ("avif-named.jpg", ftyp(b"avif")),
        ("photo.jxl", b"\xff\x0a\xfa\x1f\x41\x91".to_vec()),
        ("photo.jp2", b"\0\0\0\x0cjP  \r\n\x87\n".to_vec()),
        ("video.jpg", ftyp(b"isom")),
        ("icon.ico", b"\0\0\x01\0\x01\0\x10\x10".to_vec()),
        ("text.jpg", b"no face here".to_vec()),
        ("page.jpg", b"<!DOCTYPE html>".to_vec()),
        ("zeros.jpg", vec![0; 5000]),
    ];
    files.extend(named.map(|(name, bytes)| (name.to_owned(), bytes)));
    files
}

/// What reading an image comes to, in one line.
fn outcome(dir: &Path, name: &str, rules: ImageRules) -> String {
    let dataset = Dataset::unlabelled(vec![ImageInput::new(dir.join(name))]).unwrap().with_rules(rules);
    let size = ff_data::ImageSize { width: 2, height: 2 };
    match dataset.with_size(size).read_rgb(0, &mut Scratch::default()) {
        Ok(_) => format!("{name}: works"),
        Err(error) => {
            assert!(error.is_bad_image(), "{error}");
            let message = error.to_string().replace(&dir.display().to_string(), "DIR");
            message.strip_prefix("image DIR/").expect("messages name the image").to_owned()
        }
    }
}

#[cfg(unix)]
#[test]
fn every_bad_image_has_its_message() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let files = files();
    for (name, bytes) in &files {
        fs_err::write(path(name), bytes).unwrap();
    }
    fs_err::create_dir(path("folder.jpg")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(path("pipe.jpg")).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(path("socket.jpg")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", path("endless.jpg")).unwrap();
    std::os::unix::fs::symlink("loop.jpg", path("loop.jpg")).unwrap();
    let others = ["folder.jpg", "pipe.jpg", "socket.jpg", "endless.jpg", "loop.jpg", "missing.jpg"];

    let rules = ImageRules::default();
    let names = files.iter().map(|(name, _)| name.as_str()).chain(others);
    let mut lines: Vec<String> = names.map(|name| outcome(dir.path(), name, rules)).collect();
    for rules in [ImageRules { max_file: 1000, ..rules }, ImageRules { max_pixels: 224 * 224 - 1, ..rules }] {
        lines.push(outcome(dir.path(), "whole.jpg", rules));
    }
    let found = lines.join("\n") + "\n";
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/bad_images.txt");
    if std::env::var_os("UPDATE_MESSAGES").is_some() {
        fs_err::write(&expected, &found).unwrap();
    }
    assert_eq!(found, fs_err::read_to_string(&expected).unwrap());
}

/// One frame, one depth, three channels, whatever the file has.
#[test]
fn what_works_gives_the_right_pixels() {
    let pixels = |bytes: &[u8]| decode(bytes).unwrap().pixels;
    assert_eq!(pixels(&two_frames())[..3], [40; 3], "the first frame");
    assert_eq!(pixels(&png(&[7, 200], 1, 1, ExtendedColorType::La8)), [7; 3], "alpha is dropped");
    let deep = [0, 0, 0x80, 0x80, 0xff, 0xff];
    assert_eq!(pixels(&png(&deep, 1, 1, ExtendedColorType::Rgb16)), [0, 128, 255]);
}

/// The process may not take more than 1.2 GB of addresses: an allocation for what is claimed would end it.
#[cfg(target_os = "linux")]
#[test]
fn what_claims_to_be_huge_is_refused_before_memory_is_taken() {
    const BOUNDED: &str = "FAIRFACE_TEST_BOUNDED";
    if std::env::var_os(BOUNDED).is_none() {
        let test = "bad_images::what_claims_to_be_huge_is_refused_before_memory_is_taken";
        let command = "ulimit -v 1200000 && exec \"$0\" --exact \"$1\" --test-threads 1";
        let mut child = std::process::Command::new("sh");
        child.args(["-c", command]).arg(std::env::current_exe().unwrap()).arg(test).env(BOUNDED, "1");
        let output = child.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    // 170 MB of zeros, as a PNG's own encoder packs them, in place of a colour profile.
    let side = 13_000_u32;
    let zeros = png(&vec![0; (side * side) as usize], side, side, ExtendedColorType::L8);
    let packed = zeros.windows(4).position(|name| name == b"IDAT").unwrap();
    let packed = &zeros[packed + 4..zeros.len() - 16];
    assert!(packed.len() < 2_000_000);
    let profile = png_chunk(b"iCCP", &[b"bomb\0\0", packed].concat());
    let text = png_chunk(b"zTXt", &[b"bomb\0\0", packed].concat());
    let bombs = [
        ("JPEG", jpeg_of(16_384, 16_384)),
        ("PNG", png_with(30_000, 30_000, &[png_chunk(b"IDAT", &[])])),
        ("PNG's profile", png_with(8, 8, &[profile, png_chunk(b"IDAT", &[])])),
        ("PNG's text", png_with(8, 8, &[text, png_chunk(b"IDAT", &[])])),
        ("PNG of zeros", zeros),
        ("GIF", gif_of(65_535)),
        ("BMP", bmp_of(60_000)),
        ("WebP", webp_of(16_000_000, b"VP8L", 100)),
        ("WebP's profile", webp_of(100, b"ICCP", u32::MAX - 100)),
        ("WebP's data", webp_of(7000, b"VP8L", u32::MAX - 100)),
        ("TIFF", tiff_of(60_000, 100, 1)),
        ("TIFF's strip", tiff_of(2000, u32::MAX, 1)),
        ("TIFF's strips", tiff_of(2000, 4, u32::MAX)),
    ];
    let mut image = RgbImage::default();
    for (name, bomb) in bombs {
        let error = decode_into(&bomb, &ImageRules::default(), &mut image).expect_err(name);
        eprintln!("{name}, {} bytes: {error}", bomb.len());
        assert!(!error.to_string().contains("panicked"), "{name}: {error}");
    }
    assert!(image.pixels.capacity() < 10 << 20, "took {} bytes", image.pixels.capacity());
}

proptest::proptest! {
    /// Whatever a few overwritten bytes make of a file.
    #[test]
    fn any_bytes_give_an_image_or_an_error(
        which in 0..7_usize,
        changes in proptest::collection::vec((0.0..1.0_f64, 0..=255_u8), 1..8),
        cut in 0.0..2.0_f64,
    ) {
        let names = ["rgb.jpg", "progressive.jpg", "cmyk.jpg", "rgba.png", "rgb.bmp", "rgb.webp", "rgb.tiff"];
        let mut bytes = Fixture::images().bytes(names[which]);
        for (at, value) in changes {
            let at = (at * bytes.len() as f64) as usize;
            bytes[at] = value;
        }
        bytes.truncate((cut * bytes.len() as f64) as usize);
        let rules = ImageRules { max_pixels: 1 << 20, ..ImageRules::default() };
        let mut image = RgbImage::default();
        if decode_into(&bytes, &rules, &mut image).is_ok() {
            assert_eq!(image.pixels.len(), image.width * image.height * 3);
            assert!((1..=1 << 20).contains(&(image.width * image.height)));
        }
    }
}
