//! `--annotate`: photos with their faces marked, a PNG a photo.
//!
//! Every name is looked at before the first photo is: a file that this program did not write stays.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::Result;
use ff_data::{ImageInput, RgbImage};
use ff_report::{FaceMark, Tone, annotated_png};
use ff_train::infer::{PhotoPrediction, Photos, Rect};

use crate::output::percent;
use crate::output_file::{ForceFlag, Kind, OutputFile};

/// Writes photos as their rows come.
pub struct Annotator<'p> {
    photos: &'p Photos,
    outputs: HashMap<&'p Path, OutputFile>,
    /// The photo at hand, and its rows so far.
    current: Option<(usize, Vec<PhotoPrediction>)>,
    written: usize,
    file: Vec<u8>,
}

impl<'p> Annotator<'p> {
    /// Chooses a name for every photo: its own, as a PNG, with a number where several photos share it.
    ///
    /// # Errors
    /// The folder cannot be written into, or a file that is no annotated photo stands there.
    pub fn new(folder: &Path, photos: &'p Photos, replace: ForceFlag) -> Result<Self> {
        let (mut outputs, mut taken) = (HashMap::new(), HashSet::new());
        for ImageInput { path, .. } in &photos.inputs {
            if outputs.contains_key(path.as_path()) {
                continue;
            }
            let stem = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
            let names =
                std::iter::once(format!("{stem}.png")).chain((2..).map(|i| format!("{stem}-{i}.png")));
            // Some file systems do not tell cases apart.
            let mut free = names.skip_while(|name| taken.contains(&name.to_lowercase()));
            let name = free.next().expect("there is no end to numbers");
            taken.insert(name.to_lowercase());
            outputs.insert(
                path.as_path(),
                OutputFile::claim(&folder.join(name), Kind::AnnotatedPhoto, replace)?,
            );
        }
        Ok(Self { photos, outputs, current: None, written: 0, file: Vec::new() })
    }

    /// Takes rows, in order, and writes the photos that are complete.
    ///
    /// # Errors
    /// A photo is gone, or its picture cannot be written.
    pub fn add(&mut self, rows: &[PhotoPrediction]) -> Result<()> {
        for row in rows {
            let path = |photo: usize| &self.photos.inputs[photo].path;
            // A CSV may name a photo once a face.
            if self.current.as_ref().is_some_and(|(photo, _)| path(*photo) != path(row.photo)) {
                self.write()?;
            }
            self.current.get_or_insert((row.photo, Vec::new())).1.push(row.clone());
        }
        Ok(())
    }

    /// Writes the last photo; gives how many there are.
    ///
    /// # Errors
    /// As [`Annotator::add`].
    pub fn finish(mut self) -> Result<usize> {
        self.write()?;
        Ok(self.written)
    }

    fn write(&mut self) -> Result<()> {
        let Some((photo, rows)) = self.current.take() else { return Ok(()) };
        let (input, mut image) = (&self.photos.inputs[photo], RgbImage::default());
        input.read(&self.photos.options.rules, &mut self.file, &mut image)?;
        let marks: Vec<FaceMark> = rows.iter().filter_map(mark).collect();
        let output = &self.outputs[input.path.as_path()];
        output.write(&annotated_png(image, &marks)?)?;
        self.written += 1;
        Ok(())
    }
}

/// How a row is shown, if there is a face.
fn mark(row: &PhotoPrediction) -> Option<FaceMark> {
    let face = row.face.as_ref()?;
    let Rect { x, y, width, height } = face.face.bounds;
    let mut lines = vec![format!("#{}", face.index)];
    for answer in row.tasks.iter().flat_map(|tasks| tasks.values()) {
        lines.push(format!("{} {}", answer.label, percent(f64::from(answer.probability))));
    }
    if let (None, Some(score)) = (&row.tasks, face.face.score) {
        lines.push(format!("face {}", percent(f64::from(score))));
    }
    let tone = match face.set_aside {
        None => Tone::Bright,
        Some(why) => {
            lines.push(why.text().to_owned());
            Tone::Grey
        }
    };
    Some(FaceMark { bounds: [x, y, width, height], lines, tone })
}

/// Where pictures go.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct AnnotateFlags {
    /// Write every photo with its faces marked into this folder too, as NAME.png.
    #[arg(long, value_name = "DIR")]
    pub annotate: Option<PathBuf>,
    #[command(flatten)]
    pub force: ForceFlag,
}
