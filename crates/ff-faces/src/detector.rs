//! Which looks at a photo find what.
//!
//! One look is the network over the photo at one size. Faces of 20 to 300 pixels are found in it; what a first look
//! cannot find asks for another: a smaller photo for close-ups, the other network for blurred and masked faces, turned
//! photos where nothing is upright, tiles of a large photo for small faces where those are wanted. `landmarks` looks
//! once more at each face that is tilted or lies on its side.

mod landmarks;

use std::borrow::Cow;

use crate::{
    chip::part_of,
    error::{Error, Result},
    face::Face,
    photo::{Photo, Point, Rect},
    shrink::shrink,
    trees::Trees,
    yunet::{Detection, Maps, YuNet, each_once},
};

/// The longest side of the first look.
const LOOK: usize = 640;
/// Wider faces than this are lost now and then: they ask for a smaller look.
const LARGE_FACE: f32 = 300.0;
/// Faces as wide as this are found in three of four cases.
const SMALL_FACE: f32 = 20.0;
/// Where somebody else says that there is a face, less is enough.
const GIVEN_SCORE: f32 = 0.3;
/// Side of a tile of a large look, and how much neighbours share: a face of up to that size is whole in one of them.
const TILE: usize = 1280;
const TILE_OVERLAP: usize = 320;
/// A box of somebody else's and one found beside it mean the same face where they overlap by so much.
const SAME_FACE: f32 = 0.3;

/// What is looked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The least score, 0 to 1.
    pub min_score: f32,
    /// The width in pixels of the smallest face that is wanted; larger photos are searched at more sizes for it.
    /// Without it photos are searched at up to 640 pixels, and whatever is found counts.
    pub min_face: Option<f32>,
    /// How many faces, the largest ones.
    pub max_faces: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Options { min_score: 0.6, min_face: None, max_faces: None }
    }
}

/// Finds faces. It keeps memory from photo to photo, so there is one a thread.
pub struct Detector {
    options: Options,
    n: YuNet,
    s: YuNet,
    trees: Trees,
    maps: Maps,
}

impl Detector {
    /// A detector with the networks and trees inside this crate.
    pub fn new(options: Options) -> Self {
        Detector { options, n: YuNet::n(), s: YuNet::s(), trees: Trees::embedded(), maps: Maps::default() }
    }

    /// Looks for something else from now on.
    pub fn set_options(&mut self, options: Options) {
        self.options = options;
    }

    /// The faces in an upright photo, the surest first.
    pub fn detect(&mut self, photo: &Photo<'_>) -> Vec<Face> {
        let mut found = self.search(photo);
        if let Some(min_face) = self.options.min_face {
            found.retain(|detection| detection.bounds.width >= min_face);
        }
        if let Some(max_faces) = self.options.max_faces
            && found.len() > max_faces
        {
            found.sort_by(|a, b| b.bounds.area().total_cmp(&a.bounds.area()));
            found.truncate(max_faces);
            found.sort_by(|a, b| b.score.total_cmp(&a.score));
        }
        found.iter().map(|detection| self.face(photo, detection)).collect()
    }

    /// The face that somebody else's box means: the one that is found there, or the box with the landmarks that the
    /// trees see in it.
    ///
    /// # Errors
    /// No finite numbers, or sides that are not above 0.
    pub fn face_in(&mut self, photo: &Photo<'_>, bounds: Rect) -> Result<Face> {
        let Rect { x, y, width, height } = bounds;
        if ![x, y, width, height].iter().all(|v| v.is_finite()) || width <= 0.0 || height <= 0.0 {
            return Err(Error::BadRect { found: format!("{x},{y},{width},{height}") });
        }
        // The box with as much again on every side, at a size at which its face is easily found.
        let span = |start: f32, len: f32, limit: usize| {
            let (low, high) = ((start - len).max(0.0), (start + 2.0 * len).min(limit as f32));
            (low < high).then(|| (low as usize, (high.ceil() as usize).min(limit)))
        };
        let found = match (span(x, width, photo.width), span(y, height, photo.height)) {
            (Some((x0, x1)), Some((y0, y1))) => {
                let pixels = part_of(photo, x0, y0, x1 - x0, y1 - y0);
                let part = Photo { width: x1 - x0, height: y1 - y0, pixels: &pixels };
                let longest = (part.longer_side() as f32 * 150.0 / width.max(height)) as usize;
                let found = look(&self.n, &mut self.maps, &part, longest.min(LOOK), GIVEN_SCORE);
                found.into_iter().map(|d| d.moved(1.0, (x0 as f32, y0 as f32))).collect()
            }
            _ => Vec::new(),
        };
        let overlap = |d: &Detection| d.bounds.iou(&bounds);
        let nearest = found.iter().max_by(|a, b| overlap(a).total_cmp(&overlap(b)));
        Ok(match nearest.filter(|d| overlap(d) >= SAME_FACE) {
            Some(detection) => Face { bounds, ..self.face(photo, detection) },
            None => Face::new(bounds, None, self.corners(photo, &bounds)),
        })
    }

    /// All looks that a photo asks for.
    fn search(&mut self, photo: &Photo<'_>) -> Vec<Detection> {
        let Detector { options, n, s, maps, .. } = self;
        let min_score = options.min_score;
        let small = Shrunk::new(photo, LOOK);
        let mut found = look(n, maps, &small.photo(), LOOK, min_score);
        if found.is_empty() || found.iter().any(|d| d.bounds.width > LARGE_FACE) {
            found.extend(look(n, maps, &small.photo(), LOOK / 2, min_score));
        }
        if found.is_empty() {
            found = look(s, maps, &small.photo(), LOOK, min_score);
        }
        if found.is_empty() {
            found = turned_looks(n, maps, &small.photo(), min_score);
        }
        let mut found: Vec<_> = found.iter().map(|d| d.moved(small.ratio, (0.0, 0.0))).collect();
        let mut side = 2 * LOOK;
        let wanted = |side: usize, min_face: f32| {
            let scale_before = (side / 2) as f32 / photo.longer_side() as f32;
            scale_before < 1.0 && min_face * scale_before < SMALL_FACE
        };
        while options.min_face.is_some_and(|min_face| wanted(side, min_face)) {
            let shrunk = Shrunk::new(photo, side);
            let tiles = tiles(n, maps, &shrunk.photo(), min_score);
            found.extend(tiles.iter().map(|d| d.moved(shrunk.ratio, (0.0, 0.0))));
            side *= 2;
        }
        each_once(found)
    }
}

/// A photo no longer than a look.
struct Shrunk<'a> {
    pixels: Cow<'a, [u8]>,
    width: usize,
    height: usize,
    /// Pixels of the photo in one of these.
    ratio: f32,
}

impl<'a> Shrunk<'a> {
    /// The photo itself where it is short enough.
    fn new(photo: &Photo<'a>, longest: usize) -> Self {
        let ratio = (photo.longer_side() as f32 / longest as f32).max(1.0);
        let len = |side: usize| ((side as f32 / ratio).round() as usize).clamp(1, side);
        let (width, height) = (len(photo.width), len(photo.height));
        let pixels = match ratio > 1.0 {
            true => Cow::Owned(shrink(photo, width, height)),
            false => Cow::Borrowed(photo.pixels),
        };
        Shrunk { pixels, width, height, ratio }
    }

    fn photo(&self) -> Photo<'_> {
        Photo { width: self.width, height: self.height, pixels: &self.pixels }
    }
}

/// One look at no more than this length.
fn look(net: &YuNet, maps: &mut Maps, photo: &Photo<'_>, longest: usize, min_score: f32) -> Vec<Detection> {
    let shrunk = Shrunk::new(photo, longest);
    let found = net.detect(&shrunk.photo(), min_score, maps);
    found.iter().map(|d| d.moved(shrunk.ratio, (0.0, 0.0))).collect()
}

/// The quarter turns of a photo, of which the one counts that shows most faces.
fn turned_looks(net: &YuNet, maps: &mut Maps, photo: &Photo<'_>, min_score: f32) -> Vec<Detection> {
    let mut best: Vec<Detection> = Vec::new();
    let sum = |found: &[Detection]| found.iter().map(|d| d.score).sum::<f32>();
    let (mut pixels, mut width, mut height) = (photo.pixels.to_vec(), photo.width, photo.height);
    for quarter in 1..4 {
        pixels = quarter_turn(&pixels, width, height);
        (width, height) = (height, width);
        let turned = Photo { width, height, pixels: &pixels };
        let found = net.detect(&turned, min_score, maps);
        if sum(&found) > sum(&best) {
            best = found.iter().map(|d| d.turned_back(quarter, (photo.width, photo.height))).collect();
        }
    }
    best
}

/// The photo turned clockwise by 90 degrees: what was (x, y) is (height - 1 - y, x).
fn quarter_turn(pixels: &[u8], width: usize, height: usize) -> Vec<u8> {
    let mut turned = Vec::with_capacity(pixels.len());
    for x in 0..width {
        for y in (0..height).rev() {
            turned.extend_from_slice(&pixels[(y * width + x) * 3..][..3]);
        }
    }
    turned
}

/// A large photo part by part, so that the network's maps stay small.
fn tiles(net: &YuNet, maps: &mut Maps, photo: &Photo<'_>, min_score: f32) -> Vec<Detection> {
    let mut found = Vec::new();
    for y in starts(photo.height) {
        for x in starts(photo.width) {
            let (width, height) = (TILE.min(photo.width - x), TILE.min(photo.height - y));
            let pixels = part_of(photo, x, y, width, height);
            let tile = Photo { width, height, pixels: &pixels };
            let inside = net.detect(&tile, min_score, maps);
            found.extend(inside.iter().map(|d| d.moved(1.0, (x as f32, y as f32))));
        }
    }
    found
}

/// Where tiles begin along a side.
fn starts(len: usize) -> Vec<usize> {
    let last = len.saturating_sub(TILE);
    let mut starts: Vec<usize> = (0..last).step_by(TILE - TILE_OVERLAP).collect();
    starts.push(last);
    starts
}

impl Detection {
    /// Stretched by a factor and then shifted.
    fn moved(&self, factor: f32, (dx, dy): (f32, f32)) -> Self {
        let Rect { x, y, width, height } = self.bounds;
        let bounds =
            Rect { x: x * factor + dx, y: y * factor + dy, width: width * factor, height: height * factor };
        let points = self.points.map(|p| Point::new(p.x * factor + dx, p.y * factor + dy));
        Detection { bounds, score: self.score, points }
    }

    /// From a photo that was turned clockwise so many times back into the one of this size.
    fn turned_back(&self, quarters: usize, (width, height): (usize, usize)) -> Self {
        let (w, h) = (width as f32 - 1.0, height as f32 - 1.0);
        let back = |p: Point| match quarters {
            1 => Point::new(p.y, h - p.x),
            2 => Point::new(w - p.x, h - p.y),
            _ => Point::new(w - p.y, p.x),
        };
        let Rect { x, y, width, height } = self.bounds;
        let [a, b] = [back(Point::new(x, y)), back(Point::new(x + width, y + height))];
        let bounds =
            Rect { x: a.x.min(b.x), y: a.y.min(b.y), width: (a.x - b.x).abs(), height: (a.y - b.y).abs() };
        Detection { bounds, score: self.score, points: self.points.map(back) }
    }
}
