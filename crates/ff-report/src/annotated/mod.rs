//! A photo with its faces marked: a box around each, and a plate that says what was found.
//!
//! Readable on any background: lines are light with a dark outline, and letters stand on a dark plate. Colours are
//! those of Okabe and Ito (2008) that are light enough, which people who do not see all colours tell apart.

mod font;

use ff_data::RgbImage;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use crate::error::Result;

/// A face to be marked.
#[derive(Debug, Clone, PartialEq)]
pub struct FaceMark {
    /// Left, top, width and height of its box, in pixels.
    pub bounds: [f32; 4],
    /// Lines on its plate.
    pub lines: Vec<String>,
    /// Whether it was judged.
    pub tone: Tone,
}

/// How a face is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// In a colour.
    Bright,
    /// In grey: it was set aside.
    Grey,
}

/// Sky blue, orange, yellow, reddish purple, bluish green.
const COLORS: [[u8; 3]; 5] = [[86, 180, 233], [230, 159, 0], [240, 228, 66], [204, 121, 167], [0, 158, 115]];
const GREY: [u8; 3] = [187, 187, 187];
const DARK: [u8; 3] = [0, 0, 0];

/// What is found in the head of every picture that [`annotated_png`] makes.
pub const PNG_MARK: &[u8] = b"tEXtSoftware\0fairface";

/// A photo with its faces marked, as a PNG.
///
/// # Errors
/// The encoder fails.
pub fn annotated_png(mut photo: RgbImage, faces: &[FaceMark]) -> Result<Vec<u8>> {
    draw(&mut photo, faces);
    let side = |length: usize| u32::try_from(length).expect("decoded images have sides below 2^32");
    let mut png = Vec::new();
    PngEncoder::new(&mut png).write_image(
        &photo.pixels,
        side(photo.width),
        side(photo.height),
        ExtendedColorType::Rgb8,
    )?;
    // After the signature and the header.
    png.splice(33..33, text_chunk());
    Ok(png)
}

/// Says who made the picture: length, kind and content, CRC-32 of the latter two.
fn text_chunk() -> Vec<u8> {
    let length = u32::try_from(PNG_MARK.len() - 4).expect("it is short");
    [&length.to_be_bytes(), PNG_MARK, &crc32fast::hash(PNG_MARK).to_be_bytes()].concat()
}

/// Pixels from left to right and top to bottom, the ends not included. They may lie outside of the photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Area {
    left: i64,
    top: i64,
    right: i64,
    bottom: i64,
}

impl Area {
    fn grown(self, by: i64) -> Self {
        let Self { left, top, right, bottom } = self;
        Self { left: left - by, top: top - by, right: right + by, bottom: bottom + by }
    }

    /// How many pixels it has in common with another.
    fn shared(&self, other: &Self) -> i64 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        width.max(0) * height.max(0)
    }

    /// Moved as little as it takes to lie inside the photo, from its left upper corner on.
    fn inside(self, photo: &RgbImage) -> Self {
        let shift = |low: i64, high: i64, len: usize| {
            let back = (len as i64 - high).min(0);
            if low + back < 0 { -low } else { back }
        };
        let x = shift(self.left, self.right, photo.width);
        let y = shift(self.top, self.bottom, photo.height);
        Self { left: self.left + x, right: self.right + x, top: self.top + y, bottom: self.bottom + y }
    }
}

/// Draws all boxes and then all plates.
fn draw(photo: &mut RgbImage, faces: &[FaceMark]) {
    let longer = photo.width.max(photo.height);
    let (line, letter) = ((longer / 400).max(2) as i64, (longer / 800).max(1));
    let color = |(i, face): (usize, &FaceMark)| match face.tone {
        Tone::Bright => COLORS[i % COLORS.len()],
        Tone::Grey => GREY,
    };
    let boxes: Vec<Area> = faces.iter().map(|face| area(face.bounds)).collect();
    for (i, bounds) in boxes.iter().enumerate() {
        let outline = (line / 2).max(1);
        frame(photo, bounds.grown(line + outline), line + 2 * outline, DARK);
        frame(photo, bounds.grown(line), line, color((i, &faces[i])));
    }
    let mut plates: Vec<Area> = Vec::new();
    for (i, face) in faces.iter().enumerate().filter(|(_, face)| !face.lines.is_empty()) {
        let gap = letter as i64 * 2;
        let columns = face.lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
        let width = (columns * font::WIDTH * letter) as i64 + 2 * gap;
        let height = (face.lines.len() * font::HEIGHT * letter) as i64 + 2 * gap;
        let Area { left, top, right, bottom } = boxes[i].grown(2 * line);
        let corners = [(left, top - height), (left, bottom), (right, top), (left - width, top)];
        // The first that covers least of faces and other plates.
        let plate = |(x, y)| Area { left: x, top: y, right: x + width, bottom: y + height }.inside(photo);
        let places = corners.map(plate);
        let covered = |place: &Area| -> i64 { plates.iter().chain(&boxes).map(|a| a.shared(place)).sum() };
        let [first, others @ ..] = places;
        let place = others
            .into_iter()
            .fold(first, |best, place| if covered(&place) < covered(&best) { place } else { best });
        fill(photo, place, DARK);
        for (row, text) in face.lines.iter().enumerate() {
            let y = place.top + gap + (row * font::HEIGHT * letter) as i64;
            write(photo, (place.left + gap, y), text, letter, color((i, face)));
        }
        plates.push(place);
    }
}

fn area([x, y, width, height]: [f32; 4]) -> Area {
    // Boxes that reach far outside need not be drawn there.
    let whole = |v: f32| v.round().clamp(-1e6, 2e6) as i64;
    Area { left: whole(x), top: whole(y), right: whole(x + width), bottom: whole(y + height) }
}

/// A frame along the inside of an area.
fn frame(photo: &mut RgbImage, outer: Area, thickness: i64, color: [u8; 3]) {
    let Area { left, top, right, bottom } = outer;
    fill(photo, Area { bottom: top + thickness, ..outer }, color);
    fill(photo, Area { top: bottom - thickness, ..outer }, color);
    fill(photo, Area { right: left + thickness, ..outer }, color);
    fill(photo, Area { left: right - thickness, ..outer }, color);
}

/// Fills what lies inside the photo.
fn fill(photo: &mut RgbImage, area: Area, color: [u8; 3]) {
    let within = |at: i64, len: usize| at.clamp(0, len as i64) as usize;
    let (left, right) = (within(area.left, photo.width), within(area.right, photo.width));
    if left >= right {
        return;
    }
    for y in within(area.top, photo.height)..within(area.bottom, photo.height) {
        let row = &mut photo.pixels[(y * photo.width + left) * 3..(y * photo.width + right) * 3];
        row.as_chunks_mut().0.fill(color);
    }
}

/// Writes a line whose letters begin at a place, each pixel `scale` wide.
fn write(photo: &mut RgbImage, (x, y): (i64, i64), text: &str, scale: usize, color: [u8; 3]) {
    for (i, letter) in text.chars().enumerate() {
        for (row, bits) in font::rows(letter).into_iter().enumerate() {
            for column in (0..font::WIDTH).filter(|column| bits & (0x80 >> column) != 0) {
                let left = x + ((i * font::WIDTH + column) * scale) as i64;
                let top = y + (row * scale) as i64;
                let dot = Area { left, top, right: left + scale as i64, bottom: top + scale as i64 };
                fill(photo, dot, color);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(width: usize, height: usize, shade: u8) -> RgbImage {
        RgbImage { width, height, pixels: vec![shade; width * height * 3] }
    }

    fn pixel(image: &RgbImage, x: usize, y: usize) -> [u8; 3] {
        let i = (y * image.width + x) * 3;
        [image.pixels[i], image.pixels[i + 1], image.pixels[i + 2]]
    }

    fn mark(bounds: [f32; 4], lines: &[&str]) -> FaceMark {
        let lines = lines.iter().map(|&line| line.to_owned()).collect();
        FaceMark { bounds, lines, tone: Tone::Bright }
    }

    /// A row of the box's left edge, from outside in: photo, outline, two pixels of colour, outline, photo.
    #[test]
    fn a_box_is_light_between_dark_on_white_and_on_black() {
        for shade in [0, 255, 128] {
            let mut photo = plain(100, 80, shade);
            draw(&mut photo, &[mark([30.0, 20.0, 40.0, 30.0], &[])]);
            let row: Vec<_> = (25..33).map(|x| pixel(&photo, x, 35)).collect();
            let (plain, blue) = ([shade; 3], COLORS[0]);
            assert_eq!(row, [plain, plain, DARK, blue, blue, DARK, plain, plain]);
            let row: Vec<_> = (68..74).map(|x| pixel(&photo, x, 35)).collect();
            assert_eq!(row, [plain, DARK, blue, blue, DARK, plain]);
        }
    }

    #[test]
    fn a_plate_stands_above_the_box_with_letters_on_dark() {
        let mut photo = plain(200, 150, 200);
        draw(&mut photo, &[mark([60.0, 60.0, 50.0, 50.0], &["F"])]);
        // The plate: 12 x 17 pixels, its lower left corner four above and left of the box.
        let plate: Vec<String> = (39..56)
            .map(|y| {
                let shade = |x| match pixel(&photo, x, y) {
                    DARK => '.',
                    p if p == COLORS[0] => '#',
                    _ => ' ',
                };
                (56..68).map(shade).collect()
            })
            .collect();
        let letter = font::rows('F').map(|row| {
            let row = format!("{row:08b}").replace('0', ".").replace('1', "#");
            format!("..{row}..")
        });
        let blank = "............".to_owned();
        let expected = [vec![blank.clone(); 2], letter.to_vec(), vec![blank; 2]].concat();
        assert_eq!(plate, expected);
    }

    #[test]
    fn plates_stay_inside_and_off_other_faces() {
        let mut photo = plain(300, 300, 90);
        let faces = [
            mark([0.0, 0.0, 40.0, 40.0], &["at the corner"]),
            mark([250.0, 260.0, 60.0, 60.0], &["beyond the other corner"]),
            mark([100.0, 100.0, 40.0, 40.0], &["one"]),
            mark([100.0, 160.0, 40.0, 40.0], &["its neighbour"]),
        ];
        draw(&mut photo, &faces);
        // Below the first face, where there is room.
        assert_eq!(pixel(&photo, 1, 45), DARK);
        // The middle of the third face is as it was.
        assert_eq!(pixel(&photo, 120, 120), [90; 3]);
        // What is no box in this photo is drawn as far as it lies inside.
        let odd = [
            mark([-1e9, 5.0, 3e9, 1e30], &["far too large"]),
            mark([f32::NAN, 1.0, f32::INFINITY, -5.0], &["no box at all"]),
        ];
        draw(&mut photo, &odd);
        assert_eq!(photo.pixels.len(), 300 * 300 * 3);
    }

    #[test]
    fn the_picture_is_a_png_that_says_who_made_it() {
        let photo = plain(64, 48, 30);
        let png = annotated_png(photo.clone(), &[]).unwrap();
        assert!(png[..100].windows(PNG_MARK.len()).any(|bytes| bytes == PNG_MARK));
        assert_eq!(ff_data::decode(&png).unwrap(), photo, "the chunk's sum is right, or it would not decode");
    }
}
