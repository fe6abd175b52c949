//! What people point at when they want predictions -> a list of images.
//!
//! A file, a folder (with all below it), a quoted pattern, a CSV with a column of paths, `-` for a list on standard
//! input. The order is that of the arguments; folders and patterns are sorted. No image is opened here: one that is
//! missing or broken is found when it is loaded, and is no reason to stop.

use std::{
    io::BufRead,
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, Result},
    face_box::FaceBox,
    manifest::LineCounter,
};

/// Names of the column that holds the paths, the first that is there counts; FairFace's own tools say `img_path`.
const PATH_COLUMNS: [&str; 6] = ["file", "img_path", "path", "image", "filename", "face_name_align"];
/// Names of the columns of a face's box, all four or none.
const BOX_COLUMNS: [&str; 4] = ["x", "y", "w", "h"];
/// What a folder's images end in.
const EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "bmp", "webp", "gif", "tif", "tiff"];

/// An image to look at.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageInput {
    /// What results call it: as it was given.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// The face in it; `None` where the image is a crop already.
    pub face: Option<FaceBox>,
}

impl ImageInput {
    /// A crop under its own path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        ImageInput { name: path.to_string_lossy().into_owned(), path, face: None }
    }

    /// The images behind one argument. Paths in lists are relative to `images`; `stdin` is read for `-` only.
    ///
    /// # Errors
    /// A folder, pattern or list without images; a CSV that cannot be read or has no column of paths.
    pub fn expand(argument: &str, images: &Path, stdin: &mut dyn BufRead) -> Result<Vec<Self>> {
        let path = Path::new(argument);
        let is_csv = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"));
        let found = if argument == "-" {
            from_lines(images, stdin)?
        } else if path.is_dir() {
            let mut found = Vec::new();
            from_folder(path, &mut found)?;
            found
        } else if is_csv {
            from_csv(path, images)?
        } else if argument.contains(['*', '?', '[']) && !path.exists() {
            from_pattern(argument)?
        } else {
            vec![Self::new(path)]
        };
        if found.is_empty() {
            let message = "expected at least one image, found none".to_owned();
            return Err(Error::BadInput { input: argument.to_owned(), message });
        }
        Ok(found)
    }

    /// An entry of a list.
    fn listed(name: &str, images: &Path, face: Option<FaceBox>) -> Self {
        ImageInput { name: name.to_owned(), path: images.join(name), face }
    }
}

fn from_lines(images: &Path, lines: &mut dyn BufRead) -> Result<Vec<ImageInput>> {
    let mut found = Vec::new();
    for line in lines.lines() {
        let line = line?;
        if !line.trim().is_empty() {
            found.push(ImageInput::listed(line.trim_end_matches('\r'), images, None));
        }
    }
    Ok(found)
}

fn from_folder(folder: &Path, found: &mut Vec<ImageInput>) -> Result<()> {
    let entries = fs_err::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut entries = entries.collect::<std::io::Result<Vec<PathBuf>>>()?;
    entries.sort();
    for path in entries {
        let is_image = || {
            let extension = path.extension().unwrap_or_default();
            EXTENSIONS.iter().any(|e| extension.eq_ignore_ascii_case(e))
        };
        if path.is_dir() {
            from_folder(&path, found)?;
        } else if is_image() {
            found.push(ImageInput::new(path));
        }
    }
    Ok(())
}

fn from_pattern(pattern: &str) -> Result<Vec<ImageInput>> {
    let bad = |message: String| Error::BadInput { input: pattern.to_owned(), message };
    let mut found = Vec::new();
    for path in glob::glob(pattern).map_err(|error| bad(error.to_string()))? {
        let path = path.map_err(|error| bad(error.to_string()))?;
        if path.is_file() {
            found.push(ImageInput::new(path));
        }
    }
    Ok(found)
}

fn from_csv(path: &Path, images: &Path) -> Result<Vec<ImageInput>> {
    let bytes = fs_err::read(path)?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let mut lines = LineCounter::new(bytes);
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    let mut columns = None;
    let mut found = Vec::new();
    loop {
        let line = lines.at(reader.position().byte());
        let bad_row = |reason| Error::BadRow { path: path.to_owned(), line, reason };
        let mut record = csv::StringRecord::new();
        if !reader.read_record(&mut record).map_err(|error| bad_row(error.to_string()))? {
            return Ok(found);
        }
        let Some(columns) = &columns else {
            columns = Some(Columns::new(path, &record)?);
            continue;
        };
        let (name, face) = columns.entry(&record).map_err(bad_row)?;
        found.push(ImageInput::listed(name, images, face));
    }
}

/// Where path and box stand in a CSV.
struct Columns {
    path: usize,
    face: Option<[usize; 4]>,
}

impl Columns {
    fn new(csv: &Path, header: &csv::StringRecord) -> Result<Self> {
        let place = |name: &str| header.iter().position(|field| field.trim() == name);
        let Some(path) = PATH_COLUMNS.iter().find_map(|name| place(name)) else {
            let found: Vec<&str> = header.iter().filter(|field| !field.is_empty()).collect();
            let (expected, found) = (PATH_COLUMNS.join(", "), found.join(", "));
            let message = format!("expected a column of paths named one of {expected}, found {found}");
            return Err(Error::BadInput { input: csv.display().to_string(), message });
        };
        let face = BOX_COLUMNS.map(place);
        let face = face.iter().all(Option::is_some).then(|| face.map(Option::unwrap_or_default));
        Ok(Columns { path, face })
    }

    /// The path and the box of a row, or what is wrong with it. A row may leave its box empty.
    fn entry<'r>(&self, record: &'r csv::StringRecord) -> Result<(&'r str, Option<FaceBox>), String> {
        let field = |i: usize| record.get(i).map(str::trim).unwrap_or_default();
        let name = field(self.path);
        if name.is_empty() {
            return Err("expected a path, found none".to_owned());
        }
        let face = self.face.map(|places| places.map(field).join(",")).filter(|text| text != ",,,");
        let face = face.map(|text| text.parse::<FaceBox>()).transpose().map_err(|error| error.to_string())?;
        Ok((name, face))
    }
}
