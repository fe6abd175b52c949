//! A map cut into tiles of up to 4x4 outputs, and how work on them is shared out.
//!
//! A map whose sides are no multiples of 4 has narrower tiles at its right and lower edge: 14 is
//! 4 + 4 + 4 + 2, and 7 is 4 + 3, which takes a sixth of the products less than padding to 16 and 8. F(2,3) and F(3,3)
//! use four and five of F(4,3)'s six points, so all tiles share the same filters; a point that the narrow tiles lack is
//! simply multiplied for fewer tiles. Tiles are ordered by kind, `Tiling::KINDS`, so that those of any point lie side
//! by side.

use std::ops::Range;

use crate::cpu::base::shape::MapShape;
use crate::cpu::base::threads::split;

/// Rows and columns of outputs that a full tile makes.
pub(crate) const TILE: usize = 4;
/// Points of the transform, which is also the side of an input tile.
pub(crate) const POINTS: usize = 6;
/// Points in two dimensions.
pub(crate) const XI: usize = POINTS * POINTS;

/// Outputs that a tile makes along one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    /// F(2,3) at 0, A, -A and infinity.
    Two,
    /// F(3,3) at 0, A, -A, B and infinity.
    Three,
    /// F(4,3) at all six points.
    Four,
}

impl Span {
    pub(crate) const fn outputs(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Three => 3,
            Self::Four => TILE,
        }
    }

    /// Inputs that these outputs read.
    pub(crate) const fn inputs(self) -> usize {
        self.outputs() + 2
    }

    /// Whether its transform has this one of the six points.
    pub(crate) const fn has(self, point: usize) -> bool {
        match self {
            Self::Two => point != 3 && point != 4,
            Self::Three => point != 4,
            Self::Four => true,
        }
    }
}

/// One side of a map in tiles.
#[derive(Clone, Copy)]
struct Side {
    /// Pixels.
    len: usize,
    /// Tiles of four.
    full: usize,
    /// The narrow tile behind them, which may reach one pixel over the edge.
    edge: Option<Span>,
}

impl Side {
    fn new(len: usize) -> Self {
        let edge = match len % TILE {
            0 => None,
            3 => Some(Span::Three),
            _ => Some(Span::Two),
        };
        Self { len, full: len / TILE, edge }
    }

    /// Points of all its tiles.
    fn points(&self) -> usize {
        let edge = self.edge.map_or(0, |edge| edge.inputs());
        self.full * POINTS + edge
    }

    /// First pixel and span of a tile.
    #[inline(always)]
    fn place(&self, full: bool, at: usize) -> (usize, Span) {
        match self.edge {
            Some(edge) if !full => (self.full * TILE, edge),
            _ => (at * TILE, Span::Four),
        }
    }

    /// Whether the narrow tile has no such point.
    #[inline(always)]
    fn lacks(&self, point: usize) -> bool {
        self.edge.is_some_and(|edge| !edge.has(point))
    }
}

/// A map cut into tiles, kind by kind, image by image, row by row.
#[derive(Clone, Copy)]
pub(crate) struct Tiling {
    rows: Side,
    columns: Side,
    batch: usize,
}

/// Where a tile lies.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) image: usize,
    /// First row of its outputs.
    pub(crate) y: usize,
    /// First column of its outputs.
    pub(crate) x: usize,
    pub(crate) rows: Span,
    pub(crate) columns: Span,
}

/// Some of a map's tiles: a range of each kind. A tile's place among them all is its rank.
#[derive(Clone)]
pub(crate) struct Tiles {
    kinds: [Range<usize>; Tiling::KINDS.len()],
}

impl Tiling {
    /// Kinds of tiles, by whether rows and columns are full. Any point's tiles are a run of these: all; the first two
    /// (a point that narrow rows lack); the second and third (narrow columns); or the second alone.
    const KINDS: [(bool, bool); 4] = [(true, false), (true, true), (false, true), (false, false)];

    pub(crate) fn new(shape: MapShape) -> Self {
        let MapShape { batch, height, width, .. } = shape;
        Self { rows: Side::new(height), columns: Side::new(width), batch }
    }

    pub(crate) fn height(&self) -> usize {
        self.rows.len
    }

    pub(crate) fn width(&self) -> usize {
        self.columns.len
    }

    /// How many kinds of tiles there are.
    pub(crate) fn kinds(&self) -> usize {
        self.tiles().kinds.iter().filter(|kind| !kind.is_empty()).count()
    }

    /// Products a pair of channels.
    pub(crate) fn products(&self) -> usize {
        self.batch * self.rows.points() * self.columns.points()
    }

    /// Tiles of a kind down and across an image.
    #[inline(always)]
    fn grid(&self, kind: usize) -> (usize, usize) {
        let count = |side: &Side, full: bool| if full { side.full } else { usize::from(side.edge.is_some()) };
        let (rows, columns) = Self::KINDS[kind];
        (count(&self.rows, rows), count(&self.columns, columns))
    }

    /// All tiles.
    pub(crate) fn tiles(&self) -> Tiles {
        let kinds = std::array::from_fn(|kind| {
            let (rows, columns) = self.grid(kind);
            0..self.batch * rows * columns
        });
        Tiles { kinds }
    }

    /// The tiles from a rank on, in order.
    #[inline(always)]
    pub(crate) fn places<'a>(&'a self, tiles: &'a Tiles, from: usize) -> Places<'a> {
        let mut places =
            Places { tiling: self, tiles, kind: 0, at: from, left: 0, row: 0, column: 0, image: 0 };
        places.enter();
        places
    }

    /// How many of the tiles have a point.
    #[inline(always)]
    pub(crate) fn count_at(&self, tiles: &Tiles, row: usize, column: usize) -> usize {
        let lack = (self.rows.lacks(row), self.columns.lacks(column));
        let has = |(rows, columns): (bool, bool)| (rows || !lack.0) && (columns || !lack.1);
        (0..tiles.kinds.len())
            .filter(|&kind| has(Self::KINDS[kind]))
            .map(|kind| tiles.kinds[kind].len())
            .sum()
    }

    /// How many of the first tiles lack the columns of points B and -B: a tile's rank less that is its place among
    /// those that have the column.
    #[inline(always)]
    pub(crate) fn skipped(&self, tiles: &Tiles) -> [usize; 2] {
        [3, 4].map(|point| if self.columns.lacks(point) { tiles.kinds[0].len() } else { 0 })
    }
}

/// See [`Tiling::places`].
pub(crate) struct Places<'a> {
    tiling: &'a Tiling,
    tiles: &'a Tiles,
    kind: usize,
    /// Place among the kind's tiles at hand; tiles of it that are left from there on.
    at: usize,
    left: usize,
    image: usize,
    row: usize,
    column: usize,
}

impl Places<'_> {
    /// Goes to tile `at` of this kind or of those behind it.
    #[inline(always)]
    fn enter(&mut self) {
        let kinds = &self.tiles.kinds;
        while self.kind < kinds.len() && self.at >= kinds[self.kind].len() {
            self.at -= kinds[self.kind].len();
            self.kind += 1;
        }
        if self.kind < kinds.len() {
            let (kind, (rows, columns)) = (&kinds[self.kind], self.tiling.grid(self.kind));
            let tile = kind.start + self.at;
            let row = tile / columns;
            (self.image, self.row, self.column) = (row / rows, row % rows, tile % columns);
            self.left = kind.len() - self.at;
        }
    }
}

impl Iterator for Places<'_> {
    type Item = Place;

    #[inline(always)]
    fn next(&mut self) -> Option<Place> {
        if self.left == 0 {
            if self.kind + 1 >= self.tiles.kinds.len() {
                return None;
            }
            (self.kind, self.at) = (self.kind + 1, 0);
            self.enter();
            if self.kind == self.tiles.kinds.len() {
                return None;
            }
        }
        let Tiling { rows, columns, .. } = self.tiling;
        let (full, (down, across)) = (Tiling::KINDS[self.kind], self.tiling.grid(self.kind));
        let (y, row_span) = rows.place(full.0, self.row);
        let (x, column_span) = columns.place(full.1, self.column);
        let place = Place { image: self.image, y, x, rows: row_span, columns: column_span };
        self.left -= 1;
        self.column += 1;
        if self.column == across {
            (self.column, self.row) = (0, self.row + 1);
            if self.row == down {
                (self.row, self.image) = (0, self.image + 1);
            }
        }
        Some(place)
    }
}

impl Tiles {
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.kinds.iter().map(|kind| kind.len()).sum()
    }

    /// One of several parts, alike in what they hold of each kind.
    pub(crate) fn part(&self, parts: usize, index: usize) -> Self {
        let part = |kind: &Range<usize>| {
            let part = split(kind.len(), parts, index);
            kind.start + part.start..kind.start + part.end
        };
        Self { kinds: std::array::from_fn(|kind| part(&self.kinds[kind])) }
    }
}

/// The work of one thread: pairs of (unit of tiles, block of 16 channels), numbered unit by unit.
#[derive(Clone)]
pub(crate) struct Items {
    pub(crate) tiles: Tiles,
    from: usize,
    to: usize,
}

/// The channels of one tile that a thread transforms.
pub(crate) struct Part {
    /// The tile's rank.
    pub(crate) rank: usize,
    /// The first channel.
    pub(crate) from: usize,
    /// The one after the last.
    pub(crate) to: usize,
}

impl Items {
    /// Every block of these tiles, `unit` tiles of which share the lines that they are packed into.
    pub(crate) fn all(tiles: Tiles, channels: usize, unit: usize) -> Self {
        let to = tiles.len().div_ceil(unit) * (channels / 16);
        Self { tiles, from: 0, to }
    }

    /// The share of one of several threads.
    pub(crate) fn share(self, threads: usize, thread: usize) -> Self {
        let part = split(self.to, threads, thread);
        Self { from: part.start, to: part.end, ..self }
    }

    /// The rank of the first tile.
    pub(crate) fn first(&self, channels: usize, unit: usize) -> usize {
        self.from / (channels / 16) * unit
    }

    /// The items tile by tile, of maps of this many channels.
    #[inline(always)]
    pub(crate) fn parts(&self, channels: usize, unit: usize) -> impl Iterator<Item = Part> {
        let (blocks, from, to, tiles) = (channels / 16, self.from, self.to, self.tiles.len());
        let units = if from < to { from / blocks..to.div_ceil(blocks) } else { 0..0 };
        units.flat_map(move |at| {
            let (first, last) = (from.max(at * blocks), to.min((at + 1) * blocks));
            (at * unit..tiles.min((at + 1) * unit)).map(move |rank| Part {
                rank,
                from: (first - at * blocks) * 16,
                to: (last - at * blocks) * 16,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every output belongs to one tile, in however many parts; a point's tiles follow each other, so a tile's rank
    /// less what is skipped counts them.
    #[test]
    fn tiles_cover_a_map_once_and_points_count_them() {
        for (height, width, batch) in (1..18).flat_map(|h| (1..18).map(move |w| (h, w, 1 + (h + w) % 3))) {
            let shape = MapShape { batch, height, width, channels: 16 };
            let tiling = Tiling::new(shape);
            let (mut made, mut products) = (vec![0; batch * height * width], 0);
            for part in 0..3 {
                let tiles = tiling.tiles().part(3, part);
                let places: Vec<Place> = tiling.places(&tiles, 0).collect();
                assert_eq!(places.len(), tiles.len());
                for (rank, place) in places.iter().enumerate() {
                    let again = tiling.places(&tiles, rank).next().expect("a tile of this rank");
                    assert_eq!((again.image, again.y, again.x), (place.image, place.y, place.x));
                    for y in place.y..height.min(place.y + place.rows.outputs()) {
                        for x in place.x..width.min(place.x + place.columns.outputs()) {
                            made[(place.image * height + y) * width + x] += 1;
                        }
                    }
                }
                for (row, column) in (0..POINTS).flat_map(|row| (0..POINTS).map(move |column| (row, column)))
                {
                    let skipped = if let 3 | 4 = column { tiling.skipped(&tiles)[column - 3] } else { 0 };
                    let has = |place: &Place| place.rows.has(row) && place.columns.has(column);
                    let ranks: Vec<usize> = (0..places.len()).filter(|&rank| has(&places[rank])).collect();
                    let count = tiling.count_at(&tiles, row, column);
                    assert_eq!(
                        ranks,
                        (skipped..skipped + count).collect::<Vec<_>>(),
                        "{shape:?} {row} {column}"
                    );
                    products += count;
                }
            }
            assert!(made.iter().all(|&times| times == 1), "{shape:?}");
            assert_eq!(products, tiling.products());
        }
    }
}
