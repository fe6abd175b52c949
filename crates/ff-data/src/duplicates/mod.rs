//! Images that show the same picture: byte for byte, or after a change that nobody would call another photo.
//!
//! ```text
//! files -> scan -> Fingerprint (SHA-256, 32x32 grey thumbnail) -> Duplicates { exact groups, near pairs }
//! ```
//!
//! Exact duplicates have the same SHA-256. Near duplicates are searched in three sieves, each finer and dearer than the
//! one before: a perceptual hash of 63 bits (`hash`), the correlation of low frequencies (`hash`), and the correlation
//! of fine detail, plain and evened, after the two thumbnails are laid over each other (`alignment`). Mirror images
//! count. What the sieves find of planted changes, and how far unrelated faces stay away, is measured in
//! `tests/it/duplicates.rs` and stated in the guide. All pairs are compared; whose labels or splits these are is for
//! others to say.

mod alignment;
mod fingerprint;
mod hash;
mod hash_file;
mod scan;

use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
};

pub use fingerprint::Fingerprint;
pub use hash_file::{HashFile, default_hash_file};
pub use scan::scan;

use alignment::Aligner;
use hash::{Candidate, Hashes};

/// How alike the fine detail of two aligned thumbnails must be: unrelated faces of the sample reach 0.62, and of the
/// changed copies that come this far one in a hundred stays below 0.91. Of FairFace's faces a few that are dark before a
/// plain ground reach 0.85; evened detail, which `alignment` demands as well, is alike by 0.71 at most in these, and by
/// 0.74 at least in its right pairs.
pub const MIN_SIMILARITY: f32 = 0.8;

/// Images that show the same picture, as indices into the list that was searched.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Duplicates {
    /// Images with the same bytes: each group ascending, groups by their first.
    pub exact: Vec<Vec<usize>>,
    /// Images that look the same; of exact duplicates only the first is compared. Ascending.
    pub near: Vec<NearPair>,
}

/// Two images that look the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NearPair {
    /// The earlier image.
    pub a: usize,
    /// The later image.
    pub b: usize,
    /// Correlation of fine detail after alignment, from [`MIN_SIMILARITY`] to 1.
    pub similarity: f32,
    /// Whether one is the other's mirror image.
    pub facing: Facing,
}

/// Which way round the second image of a pair is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Facing {
    /// As the first.
    Same,
    /// Left and right swapped.
    Mirrored,
}

impl Duplicates {
    /// Searches all pairs with some threads; `None` stands for an image that could not be read. Blank images have no
    /// near duplicates. `progress` is told now and then how many images were compared with all others.
    ///
    /// Comparing the hashes of n images takes n^2 / 2 steps of about a nanosecond.
    pub fn find(
        fingerprints: &[Option<Fingerprint>],
        workers: usize,
        mut progress: impl FnMut(usize),
    ) -> Self {
        let mut by_content: HashMap<[u8; 32], Vec<usize>> = HashMap::new();
        for (i, fingerprint) in fingerprints.iter().enumerate() {
            if let Some(fingerprint) = fingerprint {
                by_content.entry(fingerprint.sha256).or_default().push(i);
            }
        }
        let mut contents: Vec<Vec<usize>> = by_content.into_values().collect();
        contents.sort();
        let images = contents.iter().filter_map(|group| Some((group[0], fingerprints[group[0]].as_ref()?)));
        let images: Vec<(usize, &Fingerprint)> = images.filter(|(_, image)| !image.is_blank()).collect();
        let search = Search::new(&images);
        let mut near: Vec<NearPair> = std::thread::scope(|scope| {
            let helpers: Vec<_> = (1..workers).map(|_| scope.spawn(|| search.work(|_| {}))).collect();
            let mut near = search.work(&mut progress);
            for helper in helpers {
                near.extend(helper.join().expect("a panic in there is one in here"));
            }
            near
        });
        near.sort_by_key(|pair| (pair.a, pair.b));
        contents.retain(|group| group.len() > 1);
        Duplicates { exact: contents, near }
    }

    /// All images with the bytes of one of them, itself included.
    pub(crate) fn copies_of<'a>(&'a self, image: &'a usize) -> &'a [usize] {
        let group = self.exact.iter().find(|group| group.contains(image));
        group.map_or(std::slice::from_ref(image), Vec::as_slice)
    }

    /// Leaves all copies but the first out of `n` images: returns those that stay, and numbers the near pairs anew as
    /// they stand in there.
    pub fn drop_copies(&mut self, n: usize) -> Vec<usize> {
        let mut stays = vec![true; n];
        for group in std::mem::take(&mut self.exact) {
            group[1..].iter().for_each(|&i| stays[i] = false);
        }
        let kept: Vec<usize> = (0..n).filter(|&i| stays[i]).collect();
        for pair in &mut self.near {
            let place = |i: usize| kept.binary_search(&i).expect("near pairs are between first copies");
            (pair.a, pair.b) = (place(pair.a), place(pair.b));
        }
        kept
    }

    /// Images that belong together, directly or by way of others; each group ascending, groups by their first.
    pub fn groups(&self) -> Vec<Vec<usize>> {
        let mut parents: HashMap<usize, usize> = HashMap::new();
        fn root(parents: &HashMap<usize, usize>, mut i: usize) -> usize {
            while let Some(&parent) = parents.get(&i).filter(|&&parent| parent != i) {
                i = parent;
            }
            i
        }
        let exact = self.exact.iter().flat_map(|group| group.iter().map(|&i| (group[0], i)));
        for (a, b) in exact.chain(self.near.iter().map(|pair| (pair.a, pair.b))) {
            let (a, b) = (root(&parents, a), root(&parents, b));
            // The smaller one is the root: groups are then named by their first image.
            parents.insert(a, a.min(b));
            parents.insert(b, a.min(b));
        }
        let mut groups: HashMap<usize, Vec<usize>> = HashMap::new();
        for &i in parents.keys() {
            groups.entry(root(&parents, i)).or_default().push(i);
        }
        let mut groups: Vec<Vec<usize>> = groups.into_values().collect();
        groups.iter_mut().for_each(|group| group.sort_unstable());
        groups.sort();
        groups
    }
}

/// The images to compare, and which of them is next.
struct Search<'a> {
    images: &'a [(usize, &'a Fingerprint)],
    hashes: Hashes,
    next: AtomicUsize,
}

impl<'a> Search<'a> {
    fn new(images: &'a [(usize, &'a Fingerprint)]) -> Self {
        let hashes = Hashes::new(images.iter().map(|(_, image)| &*image.thumbnail));
        Search { images, hashes, next: AtomicUsize::new(0) }
    }

    /// Compares image after image with all later ones, until none is left.
    fn work(&self, mut progress: impl FnMut(usize)) -> Vec<NearPair> {
        let mut pairs = Vec::new();
        let mut candidates = Vec::new();
        loop {
            let first = self.next.fetch_add(1, Ordering::Relaxed);
            if first >= self.images.len() {
                return pairs;
            }
            self.hashes.candidates(first, &mut candidates);
            if !candidates.is_empty() {
                let (a, image) = self.images[first];
                let aligner = Aligner::new(&image.thumbnail);
                for &Candidate { other, facing } in &candidates {
                    let (b, image) = self.images[other];
                    let similarity = aligner.similarity(&image.thumbnail, facing);
                    if similarity >= MIN_SIMILARITY {
                        pairs.push(NearPair { a, b, similarity, facing });
                    }
                }
            }
            progress(first + 1);
        }
    }
}
