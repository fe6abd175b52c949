//! JPEG by zune-jpeg called directly (0.24 ms for a FairFace crop, against 0.40 through `image`).
//!
//! Strict decoding wants every block of the image from the data, and all data used up by the blocks. zune-jpeg alone
//! makes up what is missing before the end marker from zeros, and does not say what it left over. So it is given the
//! file with a run of ones before the end marker: no Huffman code is all ones (ITU-T T.81, C.2), hence a decoder that
//! comes there fails. And its reads are watched: what it had not come near to when it was done was left over.
//!
//! Damage that leaves as many blocks as before, as a few bits that flip, cannot be told from a picture that looks like
//! that. How much of which damage is found is measured in `tests/it/damage.rs`.

use std::cell::Cell;

use zune_core::{
    bytestream::{ZByteIoError, ZByteReaderTrait, ZCursor, ZSeekFrom},
    colorspace::ColorSpace,
    options::DecoderOptions,
};
use zune_jpeg::JpegDecoder;

use super::{
    orientation::{UPRIGHT, orientation},
    rules::{Decoding, ImageRules},
};
use crate::{
    error::{Error, Result},
    rgb_image::{ImageSize, RgbImage},
};

const START_OF_IMAGE: [u8; 2] = [0xff, 0xd8];
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;
const PROGRESSIVE: u8 = 0xc2;
/// Ones, as they stand in a JPEG's data.
const ONES: [u8; 128] = {
    let mut ones = [0xff; 128];
    let mut i = 1;
    while i < ones.len() {
        ones[i] = 0;
        i += 2;
    }
    ones
};
/// The decoder reads four bytes at a time when it has less than four left, and `ff` takes two: at most so much lies
/// between its last read and the end of what it decoded, with a byte that ones fill up.
const NEAR: usize = 9;

pub(super) fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&START_OF_IMAGE)
}

/// The size that the header claims; `None` where `bytes` end before it.
pub(super) fn size(bytes: &[u8]) -> Result<Option<ImageSize>> {
    for (marker, segment) in Markers::new(bytes) {
        match marker {
            // Start of frame, of whatever kind; between them are tables (c4, cc) and an extension (c8).
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let Some(&[_, _, _, y1, y0, x1, x0]) = bytes.get(segment..segment + 7) else {
                    return Ok(None);
                };
                let word = |high, low| usize::from(u16::from_be_bytes([high, low]));
                return Ok(Some(ImageSize { width: word(x1, x0), height: word(y1, y0) }));
            }
            START_OF_SCAN | END_OF_IMAGE => {
                return Err(Error::Decode("broken JPEG: expected a frame header, found none".into()));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// Decodes into `image` and gives the orientation.
pub(super) fn decode(bytes: &[u8], rules: &ImageRules, image: &mut RgbImage) -> Result<u32> {
    if let Some(size) = size(bytes)? {
        rules.check_size(size)?;
    }
    match rules.decoding {
        Decoding::Strict => decode_strictly(bytes, rules, image),
        Decoding::Lenient => {
            let (mut decoder, options) = open(ZCursor::new(bytes), rules, image)?;
            decoder.set_options(options.set_strict_mode(false));
            decoder.decode_into(&mut image.pixels).map_err(|error| broken(&error))?;
            Ok(orientation_of(&decoder))
        }
    }
}

fn decode_strictly(bytes: &[u8], rules: &ImageRules, image: &mut RgbImage) -> Result<u32> {
    let Some(end) = End::of(bytes) else {
        return Err(broken(&"expected an end of image marker, found the end of the file"));
    };
    let mut padded = Vec::with_capacity(end.data_end + ONES.len() + 2);
    padded.extend_from_slice(&bytes[..end.data_end]);
    if end.takes_padding {
        padded.extend_from_slice(&ONES);
    }
    padded.extend_from_slice(&[0xff, END_OF_IMAGE]);

    let last_read = Cell::new(0);
    let watched = Watched { cursor: ZCursor::new(&padded), last_read: &last_read };
    let (mut decoder, options) = open(watched, rules, image)?;
    // Lenient with headers, as libjpeg is, but strict with the pixels.
    decoder.set_options(options.set_strict_mode(true));
    let decoded = decoder.decode_into(&mut image.pixels);
    if decoded.is_err() && end.takes_padding && last_read.get() > end.data_end {
        return Err(broken(&"expected data for the whole image, found their end"));
    }
    decoded.map_err(|error| broken(&error))?;
    // Zeros after the last block are padding and do no harm.
    let zeros = bytes[..end.data_end].iter().rev().take_while(|&&byte| byte == 0).count();
    let left = (end.data_end - zeros).saturating_sub(last_read.get());
    if left > NEAR {
        return Err(broken(&format_args!(
            "expected the end of the image, found about {left} more bytes of data"
        )));
    }
    Ok(orientation_of(&decoder))
}

fn broken(reason: &dyn std::fmt::Display) -> Error {
    Error::Decode(format!("broken JPEG: {reason}"))
}

/// Reads the headers and gives `image` its size.
fn open<R: ZByteReaderTrait>(
    reader: R,
    rules: &ImageRules,
    image: &mut RgbImage,
) -> Result<(JpegDecoder<R>, DecoderOptions)> {
    let options = DecoderOptions::default().jpeg_set_out_colorspace(ColorSpace::RGB);
    let options = options.set_max_width(usize::MAX).set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(reader, options);
    decoder.decode_headers().map_err(|error| broken(&error))?;
    let Some((width, height)) = decoder.dimensions() else {
        return Err(broken(&"expected a frame header, found none"));
    };
    rules.reshape(image, ImageSize { width, height })?;
    Ok((decoder, options))
}

fn orientation_of<R: ZByteReaderTrait>(decoder: &JpegDecoder<R>) -> u32 {
    decoder.exif().map_or(UPRIGHT, |exif| orientation(exif::Reader::new().read_raw(exif.clone())))
}

/// Where the data of the last scan end.
struct End {
    data_end: usize,
    /// Whether ones may follow. zune-jpeg wants the marker after the first scan of a progressive image to follow at
    /// once, and no later one.
    takes_padding: bool,
}

impl End {
    fn of(bytes: &[u8]) -> Option<Self> {
        let (mut scans, mut progressive) = (0, false);
        for (marker, segment) in Markers::new(bytes) {
            match marker {
                PROGRESSIVE => progressive = true,
                START_OF_SCAN => scans += 1,
                END_OF_IMAGE if scans > 0 => {
                    let takes_padding = !progressive || scans > 1;
                    // More of them may stand before a marker than its own.
                    let fill = bytes[..segment - 1].iter().rev().take_while(|&&byte| byte == 0xff).count();
                    return Some(End { data_end: segment - 1 - fill, takes_padding });
                }
                _ => {}
            }
        }
        None
    }
}

/// The markers of a JPEG, each with where its segment begins (with its length). Junk between segments is passed over,
/// as are restarts and the `ff 00` of entropy-coded data: the marker after those is the scan's end.
struct Markers<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Markers<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Markers { bytes, at: START_OF_IMAGE.len() }
    }
}

impl Iterator for Markers<'_> {
    type Item = (u8, usize);

    fn next(&mut self) -> Option<(u8, usize)> {
        loop {
            let rest = self.bytes.get(self.at..)?;
            self.at += rest.iter().position(|&byte| byte == 0xff)?;
            let fill = self.bytes[self.at..].iter().position(|&byte| byte != 0xff)?;
            self.at += fill;
            let (marker, segment) = (self.bytes[self.at], self.at + 1);
            self.at = segment;
            match marker {
                // Stuffing, TEM, restarts, start of image: no segment.
                0x00 | 0x01 | 0xd0..=0xd8 => {}
                END_OF_IMAGE => return Some((marker, segment)),
                _ => {
                    let len =
                        self.bytes.get(segment..segment + 2).map(|len| u16::from_be_bytes([len[0], len[1]]));
                    self.at += usize::from(len.unwrap_or(2).max(2));
                    return Some((marker, segment));
                }
            }
        }
    }
}

/// zune-jpeg's own cursor, and where it last stood when four bytes were wanted: only its bit reader does.
struct Watched<'a> {
    cursor: ZCursor<&'a [u8]>,
    last_read: &'a Cell<usize>,
}

impl ZByteReaderTrait for Watched<'_> {
    #[inline(always)]
    fn read_byte_no_error(&mut self) -> u8 {
        self.cursor.read_byte_no_error()
    }

    #[inline(always)]
    fn read_exact_bytes(&mut self, buf: &mut [u8]) -> Result<(), ZByteIoError> {
        if buf.len() == 4 {
            self.last_read.set(self.cursor.z_position()? as usize);
        }
        self.cursor.read_exact_bytes(buf)
    }

    #[inline(always)]
    fn read_bytes(&mut self, buf: &mut [u8]) -> Result<usize, ZByteIoError> {
        self.cursor.read_bytes(buf)
    }

    #[inline(always)]
    fn peek_bytes(&mut self, buf: &mut [u8]) -> Result<usize, ZByteIoError> {
        self.cursor.peek_bytes(buf)
    }

    #[inline(always)]
    fn peek_exact_bytes(&mut self, buf: &mut [u8]) -> Result<(), ZByteIoError> {
        self.cursor.peek_exact_bytes(buf)
    }

    #[inline(always)]
    fn z_seek(&mut self, from: ZSeekFrom) -> Result<u64, ZByteIoError> {
        self.cursor.z_seek(from)
    }

    #[inline(always)]
    fn is_eof(&mut self) -> Result<bool, ZByteIoError> {
        self.cursor.is_eof()
    }

    #[inline(always)]
    fn z_position(&mut self) -> Result<u64, ZByteIoError> {
        self.cursor.z_position()
    }

    fn read_remaining(&mut self, sink: &mut Vec<u8>) -> Result<usize, ZByteIoError> {
        self.cursor.read_remaining(sink)
    }
}
