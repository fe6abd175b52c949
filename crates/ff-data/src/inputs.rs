//! What people point at when they want predictions -> a list of images.
//!
//! A file, a folder (with all below it), a quoted pattern, a CSV with a column of paths, `-` for a list on standard
//! input. The order is that of the arguments; folders and patterns are sorted. Links are followed, and every folder is
//! looked into once, so that links in a ring end. No image is opened here: one that is missing or broken is found when
//! it is loaded, and is no reason to stop.

mod walk;

use std::{
    ffi::OsString,
    io::{BufRead, Read},
    path::{Path, PathBuf},
};

use ff_core::{
    table::{MAX_FIELD_LEN, Record, Table, read_csv},
    text::{list, shortened},
};

use crate::{
    decode::{ImageRules, decode_into},
    error::{Error, Result},
    face_box::FaceBox,
    face_points::{FacePoints, FacePointsKind},
    image_file,
    rgb_image::RgbImage,
};

/// Names of the column that holds the paths, the first that is there counts; FairFace's own tools say `img_path`.
const PATH_COLUMNS: [&str; 6] = ["file", "img_path", "path", "image", "filename", "face_name_align"];
/// What a folder's images end in.
const EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "bmp", "webp", "gif", "tif", "tiff"];

/// An image to look at.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageInput {
    /// What results call it: as it was given, with a mark in the place of what is no UTF-8.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// The face in it; `None` where the image is a crop already.
    pub face: Option<FaceBox>,
    /// Points of the face in it, where somebody said them.
    pub points: Option<FacePoints>,
}

/// A CSV of images: those, and what else its rows say.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageTable {
    /// The images, in the order of the rows.
    pub inputs: Vec<ImageInput>,
    /// Names of the columns that say neither which image nor where a face is in it: labels, as a rule.
    pub columns: Vec<String>,
    /// A row an image: what stands in those columns.
    pub rows: Vec<Vec<String>>,
}

impl ImageInput {
    /// A crop under its own path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        ImageInput { name: path.to_string_lossy().into_owned(), path, face: None, points: None }
    }

    /// The images behind one argument. Paths in lists are relative to `images`; `stdin` is read for `-` only.
    ///
    /// # Errors
    /// A folder, pattern or list without images; a CSV that cannot be read, has no column of paths, or only some of
    /// the columns of a box.
    pub fn expand(argument: &str, images: &Path, stdin: &mut dyn BufRead) -> Result<Vec<Self>> {
        let path = Path::new(argument);
        let is_csv = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"));
        let found = if argument == "-" {
            from_lines(images, stdin)?
        } else if path.is_dir() {
            walk::folder(path, is_image)?.into_iter().map(Self::new).collect()
        } else if is_csv {
            ImageTable::read(path, images)?.inputs
        } else if argument.contains(['*', '?', '[']) && !path.exists() {
            walk::pattern(argument)?.into_iter().map(Self::new).collect()
        } else {
            vec![Self::new(path)]
        };
        if found.is_empty() {
            let message = "expected at least one image, found none".to_owned();
            return Err(Error::BadInput { input: argument.to_owned(), message });
        }
        Ok(found)
    }

    /// Reads and decodes the whole image, upright, into memory that is used again.
    ///
    /// # Errors
    /// [`Error::ImageInput`]: the file is missing, breaks the rules or does not decode.
    pub fn read(&self, rules: &ImageRules, file: &mut Vec<u8>, image: &mut RgbImage) -> Result<()> {
        let read = image_file::read(&self.path, rules, file).and_then(|()| decode_into(file, rules, image));
        read.map_err(|reason| self.error(reason))
    }

    /// Names the file in an error about it.
    pub fn error(&self, reason: Error) -> Error {
        Error::ImageInput { path: self.path.clone(), reason: Box::new(reason) }
    }

    /// An entry of a list.
    fn listed(name: impl AsRef<Path>, images: &Path) -> Self {
        let name = name.as_ref();
        ImageInput { path: images.join(name), ..Self::new(name) }
    }
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    EXTENSIONS.iter().any(|e| extension.eq_ignore_ascii_case(e))
}

fn from_lines(images: &Path, mut lines: &mut dyn BufRead) -> Result<Vec<ImageInput>> {
    let mut found = Vec::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let n = (&mut lines).take(MAX_FIELD_LEN as u64 + 1).read_until(b'\n', &mut line)?;
        let bad = |message| Error::BadInput { input: format!("line {number} of the list"), message };
        if n == 0 {
            break;
        }
        if n > MAX_FIELD_LEN {
            return Err(bad(format!("expected a path of at most {MAX_FIELD_LEN} bytes, found more")));
        }
        let path = line.strip_suffix(b"\n").unwrap_or(&line);
        let path = path.strip_suffix(b"\r").unwrap_or(path);
        if !path.trim_ascii().is_empty() {
            found.push(ImageInput::listed(native(path).map_err(bad)?, images));
        }
    }
    Ok(found)
}

/// A path's bytes as the system has them: on Unix they need not be UTF-8.
#[cfg(unix)]
fn native(path: &[u8]) -> Result<OsString, String> {
    Ok(std::os::unix::ffi::OsStringExt::from_vec(path.to_vec()))
}

#[cfg(not(unix))]
fn native(path: &[u8]) -> Result<OsString, String> {
    let text = std::str::from_utf8(path).map_err(|error| format!("expected UTF-8 text, found {error}"))?;
    Ok(text.into())
}

impl ImageTable {
    /// Reads a CSV whose paths are relative to `images`. A row may leave its box or its points empty.
    ///
    /// # Errors
    /// It cannot be read, has no column of paths, or only some of the columns of a box or of points; a row whose box or
    /// points are none.
    pub fn read(path: &Path, images: &Path) -> Result<Self> {
        let bytes = read_csv(path)?;
        let mut table = Table::new(path, &bytes)?;
        let columns = Columns::new(&table.header).map_err(|reason| Error::bad_csv(path, reason))?;
        let others: Vec<usize> = (0..table.header.len()).filter(|i| !columns.has(*i)).collect();
        let names = others.iter().map(|&i| table.header[i].clone()).collect();
        let mut found = ImageTable { inputs: Vec::new(), columns: names, rows: Vec::new() };
        while let Some(record) = table.next_row()? {
            let input = columns.input(&record, images);
            found.inputs.push(input.map_err(|reason| Error::bad_row(path, record.line, reason))?);
            found.rows.push(others.iter().map(|&i| record.fields[i].to_string()).collect());
        }
        Ok(found)
    }
}

/// Where path, box and points stand in a CSV.
struct Columns {
    path: usize,
    face: Option<[usize; 4]>,
    points: Option<(FacePointsKind, [usize; 10])>,
}

impl Columns {
    /// Finds them, or says what is wrong with the header.
    fn new(header: &[String]) -> Result<Self, String> {
        let place = |name: &str| header.iter().position(|field| field == name);
        let Some(path) = PATH_COLUMNS.iter().find_map(|name| place(name)) else {
            let found: Vec<String> = header.iter().filter(|f| !f.is_empty()).map(|f| shortened(f)).collect();
            let (expected, found) = (PATH_COLUMNS.join(", "), list(&found));
            return Err(format!("expected a column of paths named one of {expected}, found {found}"));
        };
        let face = all_or_none(header, FaceBox::COLUMNS)?;
        let mut points = None;
        for kind in FacePointsKind::ALL {
            let found = all_or_none(header, kind.columns())?.map(|places| (kind, places));
            points = points.or(found);
        }
        Ok(Columns { path, face, points })
    }

    /// Whether a column says which image, or where a face is in it.
    fn has(&self, column: usize) -> bool {
        let of_face = self.face.is_some_and(|places| places.contains(&column));
        let of_points = self.points.is_some_and(|(_, places)| places.contains(&column));
        column == self.path || of_face || of_points
    }

    /// The image of a row, or what is wrong with it.
    fn input(&self, record: &Record, images: &Path) -> Result<ImageInput, String> {
        let field = |i: usize| record.fields[i].trim();
        let name = field(self.path);
        if name.is_empty() {
            return Err("expected a path, found none".to_owned());
        }
        let face = self.face.map(|places| FaceBox::from_fields(places.map(field))).transpose();
        let face = face.map_err(|error| error.to_string())?.flatten();
        let points = self.points.map(|(kind, places)| FacePoints::from_fields(kind, places.map(field)));
        Ok(ImageInput { face, points: points.transpose()?.flatten(), ..ImageInput::listed(name, images) })
    }
}

/// Where columns stand that mean something together; `None` where there are none of them.
fn all_or_none<const N: usize>(header: &[String], names: [&str; N]) -> Result<Option<[usize; N]>, String> {
    let places = names.map(|name| header.iter().position(|field| field == name));
    let (there, missing): (Vec<_>, Vec<_>) = names.iter().zip(places).partition(|(_, place)| place.is_some());
    if !there.is_empty() && !missing.is_empty() {
        let list = |columns: Vec<(&&str, Option<usize>)>| {
            columns.iter().map(|(name, _)| **name).collect::<Vec<_>>().join(", ")
        };
        let (all, there, missing) = (names.join(", "), list(there), list(missing));
        return Err(format!("expected all of the columns {all} or none, found {there} without {missing}"));
    }
    Ok(missing.is_empty().then(|| places.map(Option::unwrap_or_default)))
}
