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
    error::{Error, Result},
    face_box::FaceBox,
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
            from_csv(path, images)?
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

    /// An entry of a list.
    fn listed(name: impl AsRef<Path>, images: &Path, face: Option<FaceBox>) -> Self {
        let name = name.as_ref();
        ImageInput { name: name.to_string_lossy().into_owned(), path: images.join(name), face }
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
            found.push(ImageInput::listed(native(path).map_err(bad)?, images, None));
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

fn from_csv(path: &Path, images: &Path) -> Result<Vec<ImageInput>> {
    let bytes = read_csv(path)?;
    let mut table = Table::new(path, &bytes)?;
    let columns = Columns::new(&table.header).map_err(|reason| Error::bad_csv(path, reason))?;
    let mut found = Vec::new();
    while let Some(record) = table.next_row()? {
        let entry = columns.entry(&record);
        let (name, face) = entry.map_err(|reason| Error::bad_row(path, record.line, reason))?;
        found.push(ImageInput::listed(name, images, face));
    }
    Ok(found)
}

/// Where path and box stand in a CSV.
struct Columns {
    path: usize,
    face: Option<[usize; 4]>,
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
        let face = FaceBox::COLUMNS.map(place);
        let (there, missing): (Vec<_>, Vec<_>) =
            FaceBox::COLUMNS.into_iter().partition(|&name| place(name).is_some());
        if !there.is_empty() && !missing.is_empty() {
            let (all, there, missing) = (FaceBox::COLUMNS.join(", "), there.join(", "), missing.join(", "));
            return Err(format!(
                "expected all of the columns {all} or none, found {there} without {missing}"
            ));
        }
        let face = missing.is_empty().then(|| face.map(Option::unwrap_or_default));
        Ok(Columns { path, face })
    }

    /// The path and the box of a row, or what is wrong with it. A row may leave its box empty.
    fn entry<'r>(&self, record: &'r Record) -> Result<(&'r str, Option<FaceBox>), String> {
        let field = |i: usize| record.fields[i].trim();
        let name = field(self.path);
        if name.is_empty() {
            return Err("expected a path, found none".to_owned());
        }
        let face = self.face.map(|places| FaceBox::from_fields(places.map(field))).transpose();
        Ok((name, face.map_err(|error| error.to_string())?.flatten()))
    }
}
