//! PNG, BMP, WebP, GIF and TIFF by `image`, under its limits; other formats are named.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::{orientation::orientation, rules::ImageRules};
use crate::{
    error::{Error, Result},
    rgb_image::{ImageSize, RgbImage},
};

/// For what a decoder takes beside the pixels: compressed metadata, a palette, a row, a strip.
const BESIDE_PIXELS: u64 = 64 << 20;

/// The size that the header claims.
pub(super) fn size(bytes: &[u8], rules: &ImageRules) -> Result<ImageSize> {
    open(bytes, rules).map(|(_, size, _)| size)
}

/// Decodes into `image` and gives the orientation. Of an animation the first frame is taken.
pub(super) fn decode(bytes: &[u8], rules: &ImageRules, image: &mut RgbImage) -> Result<u32> {
    let (mut decoder, size, format) = open(bytes, rules)?;
    let limits = limits(decoder.total_bytes().saturating_add(BESIDE_PIXELS));
    let decoded = decoder.set_limits(limits).and_then(|()| DynamicImage::from_decoder(decoder));
    let decoded = decoded.map_err(|error| Error::Decode(format!("broken {format:?}: {error}")))?.into_rgb8();
    (image.width, image.height) = (size.width, size.height);
    image.pixels = decoded.into_raw();
    Ok(orientation(exif::Reader::new().read_from_container(&mut Cursor::new(bytes))))
}

fn open<'a>(bytes: &'a [u8], rules: &ImageRules) -> Result<(impl ImageDecoder + 'a, ImageSize, ImageFormat)> {
    let format = format(bytes)?;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits(BESIDE_PIXELS));
    let broken = |error| Error::Decode(format!("broken {format:?}: {error}"));
    let decoder = reader.into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    let size = ImageSize { width: width as usize, height: height as usize };
    rules.check_size(size)?;
    Ok((decoder, size, format))
}

fn limits(max_alloc: u64) -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(max_alloc);
    limits
}

/// The format by content, if it can be decoded here.
fn format(bytes: &[u8]) -> Result<ImageFormat> {
    let unsupported =
        |name: &str| Err(Error::Decode(format!("{name} is not supported; convert it to JPEG or PNG")));
    if let Some(name) = unsupported_name(bytes) {
        return unsupported(name);
    }
    match image::guess_format(bytes) {
        Ok(format) if format.reading_enabled() => Ok(format),
        Ok(format) => unsupported(&format!("{format:?}")),
        Err(_) => {
            let found = &bytes[..bytes.len().min(8)];
            let found =
                if found.is_empty() { "an empty file".to_owned() } else { format!("bytes {found:02x?}") };
            Err(Error::Decode(format!("expected a JPEG, PNG, BMP, WebP, GIF or TIFF image, found {found}")))
        }
    }
}

/// Formats that phones and browsers write and that `image` has no words for.
fn unsupported_name(bytes: &[u8]) -> Option<&'static str> {
    const JPEG_XL: [&[u8]; 2] = [&[0xff, 0x0a], b"\0\0\0\x0cJXL \r\n\x87\n"];
    if JPEG_XL.iter().any(|magic| bytes.starts_with(magic)) {
        return Some("JPEG XL");
    }
    if bytes.starts_with(b"\0\0\0\x0cjP  \r\n\x87\n") {
        return Some("JPEG 2000");
    }
    // ISO base media (ISO/IEC 14496-12, 4.3): a box `ftyp` with a brand, a version, and compatible brands.
    let len = u32::from_be_bytes(bytes.first_chunk::<4>().copied()?) as usize;
    let brands = bytes.get(4..len.min(bytes.len()))?.strip_prefix(b"ftyp")?;
    let has =
        |names: &[&[u8; 4]]| brands.chunks_exact(4).any(|brand| names.iter().any(|name| brand == *name));
    if has(&[b"avif", b"avis"]) {
        Some("AVIF")
    } else if has(&[b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"]) {
        Some("HEIC")
    } else {
        has(&[b"isom", b"mp41", b"mp42", b"qt  ", b"M4V "]).then_some("video")
    }
}
