//! How much of the damage that disks, networks and people do to JPEGs strict decoding notices, and that it takes no
//! sound face for damaged.

use std::path::{Path, PathBuf};

use ff_data::{Decoding, ImageRules, RgbImage, decode, decode_into};

use crate::support::sample;

const END: [u8; 2] = [0xff, 0xd9];

/// Where the entropy-coded data of a crop lie: after the scan's header, before the end marker.
fn data(jpeg: &[u8]) -> std::ops::Range<usize> {
    let scan = jpeg.windows(2).rposition(|pair| pair == [0xff, 0xda]).unwrap();
    let len = usize::from(u16::from_be_bytes([jpeg[scan + 2], jpeg[scan + 3]]));
    assert!(jpeg.ends_with(&END));
    scan + 2 + len..jpeg.len() - 2
}

/// A kind of damage, and the least share of 200 crops in which it is noticed. What is not noticed left as many blocks
/// as there should be.
struct Damage {
    name: &'static str,
    least: f64,
    /// The file, where its data lie, and a number that is another for every crop.
    make: fn(&mut Vec<u8>, std::ops::Range<usize>, usize),
}

macro_rules! damages {
    ($($name:literal $least:literal |$jpeg:ident, $data:ident, $n:ident| $make:expr;)*) => {
        &[$(Damage { name: $name, least: $least, make: |$jpeg, $data, $n| { let _ = $n; $make; } }),*]
    };
}

fn cut(jpeg: &mut Vec<u8>, data: std::ops::Range<usize>, tenths: usize) {
    jpeg.truncate(data.start + data.len() * tenths / 10);
    jpeg.extend(END);
}

fn middle(data: &std::ops::Range<usize>, len: usize, n: usize) -> std::ops::Range<usize> {
    let len = len.min(data.len() / 2);
    let at = data.start + (n * 7919) % (data.len() - len);
    at..at + len
}

const DAMAGES: &[Damage] = damages! {
    "cut at 1/10, end marker" 1.0 |jpeg, data, n| cut(jpeg, data, 1);
    "cut at 2/10, end marker" 1.0 |jpeg, data, n| cut(jpeg, data, 2);
    "cut at 3/10, end marker" 1.0 |jpeg, data, n| cut(jpeg, data, 3);
    "cut at 4/10, end marker" 1.0 |jpeg, data, n| cut(jpeg, data, 4);
    "cut at 5/10, end marker" 1.0 |jpeg, data, n| cut(jpeg, data, 5);
    "cut at 6/10, end marker" 1.0 |jpeg, data, n| cut(jpeg, data, 6);
    "cut at 7/10, end marker" 1.0 |jpeg, data, n| cut(jpeg, data, 7);
    "cut at 8/10, end marker" 1.0 |jpeg, data, n| cut(jpeg, data, 8);
    "cut at 9/10, end marker" 1.0 |jpeg, data, n| cut(jpeg, data, 9);
    "last 16 bytes cut, end marker" 1.0 |jpeg, data, n| { jpeg.truncate(data.end - 16); jpeg.extend(END) };
    "cut in the middle" 1.0 |jpeg, data, n| jpeg.truncate(data.start + data.len() / 2);
    "half zeroed" 1.0 |jpeg, data, n| jpeg[data.start + data.len() / 4..data.end - data.len() / 4].fill(0);
    "a tenth zeroed" 1.0 |jpeg, data, n| { let r = middle(&data, data.len() / 10, n); jpeg[r].fill(0) };
    "512 bytes zeroed" 1.0 |jpeg, data, n| { let r = middle(&data, 512, n); jpeg[r].fill(0) };
    "64 bytes zeroed" 0.9 |jpeg, data, n| { let r = middle(&data, 64, n); jpeg[r].fill(0) };
    "512 bytes of 0xaa" 1.0 |jpeg, data, n| { let r = middle(&data, 512, n); jpeg[r].fill(0xaa) };
    "512 bytes of 0xff" 1.0 |jpeg, data, n| { let r = middle(&data, 512, n); jpeg[r].fill(0xff) };
    "1 byte removed" 0.2 |jpeg, data, n| drop(jpeg.drain(middle(&data, 1, n)));
    "2 bytes removed" 0.3 |jpeg, data, n| drop(jpeg.drain(middle(&data, 2, n)));
    "10 bytes removed" 0.55 |jpeg, data, n| drop(jpeg.drain(middle(&data, 10, n)));
    "100 bytes removed" 0.97 |jpeg, data, n| drop(jpeg.drain(middle(&data, 100, n)));
    "512 bytes removed" 1.0 |jpeg, data, n| drop(jpeg.drain(middle(&data, 512, n)));
    "a third removed" 1.0 |jpeg, data, n| drop(jpeg.drain(middle(&data, data.len() / 3, n)));
    "512 bytes twice" 1.0 |jpeg, data, n| {
        let r = middle(&data, 512, n);
        let again = jpeg[r.clone()].to_vec();
        jpeg.splice(r.end..r.end, again);
    };
    "two stretches of 512 bytes swapped" 0.75 |jpeg, data, n| {
        let (a, b) = (data.start + 100, data.start + data.len() / 2);
        let len = 512.min(data.len() / 2 - 100);
        let (left, right) = jpeg.split_at_mut(b);
        left[a..a + len].swap_with_slice(&mut right[..len]);
    };
    "16 zeros put in" 0.2 |jpeg, data, n| { let r = middle(&data, 1, n); jpeg.splice(r.start..r.start, [0; 16]); };
    "1 byte overwritten" 0.2 |jpeg, data, n| { let r = middle(&data, 1, n); jpeg[r].fill(0x5a) };
    "1 bit flipped" 0.12 |jpeg, data, n| { let r = middle(&data, 1, n); jpeg[r.start] ^= 1 << (n % 8) };
};

fn crops(folder: &Path, n: usize) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.truncate(n);
    paths
}

#[test]
fn damaged_jpegs_do_not_pass_as_good() {
    let faces: Vec<Vec<u8>> =
        crops(&sample().join("images/val"), 200).iter().map(|path| fs_err::read(path).unwrap()).collect();
    let mut total = 0;
    for damage in DAMAGES {
        let mut noticed = 0;
        for (n, face) in faces.iter().enumerate() {
            let mut jpeg = face.clone();
            (damage.make)(&mut jpeg, data(face), n);
            assert_ne!(jpeg, *face, "{}: crop {n} is as it was", damage.name);
            noticed += usize::from(decode(&jpeg).is_err());
        }
        let share = noticed as f64 / faces.len() as f64;
        eprintln!("{:36} {:6.1} % noticed", damage.name, 100.0 * share);
        total += noticed;
        assert!(share >= damage.least, "{}: {share} noticed, expected {}", damage.name, damage.least);
    }
    let all = DAMAGES.len() * faces.len();
    eprintln!("of {} kinds in {all} files {:.1} % noticed", DAMAGES.len(), 100.0 * total as f64 / all as f64);
}

#[test]
fn lenient_decoding_takes_what_is_there() {
    let face = fs_err::read(&crops(&sample().join("images/val"), 1)[0]).unwrap();
    let whole = decode(&face).unwrap();
    let mut jpeg = face.clone();
    cut(&mut jpeg, data(&face), 5);
    assert!(decode(&jpeg).is_err());
    let lenient = ImageRules { decoding: Decoding::Lenient, ..ImageRules::default() };
    let mut image = RgbImage::default();
    decode_into(&jpeg, &lenient, &mut image).unwrap();
    let third = whole.pixels.len() / 3;
    assert_eq!(image.pixels[..third], whole.pixels[..third]);
    assert_ne!(image, whole);
    decode_into(&face, &lenient, &mut image).unwrap();
    assert_eq!(image, whole);
}

/// All faces that are at hand: the sample's 799, and those of FAIRFACE_TEST_DATA.
#[test]
fn no_sound_face_is_taken_for_damaged() {
    let mut folders = vec![sample().join("images/val")];
    let more = std::env::var_os("FAIRFACE_TEST_DATA").map(|root| Path::new(&root).join("data/fairface-men"));
    match more.filter(|more| more.is_dir()) {
        Some(more) => folders.extend(["train", "val"].map(|split| more.join(split))),
        None => eprintln!("skipped in part: FAIRFACE_TEST_DATA names no folder with data/fairface-men"),
    }
    let mut n = 0;
    for path in folders.iter().flat_map(|folder| crops(folder, 4000)) {
        if let Err(error) = decode(&fs_err::read(&path).unwrap()) {
            panic!("{}: {error}", path.display());
        }
        n += 1;
    }
    eprintln!("{n} sound faces decode");
    assert!(n >= 799);
}
