//! `multipart/form-data` (RFC 7578) in a body that is there as a whole: its parts, without a copy.

use axum::body::Bytes;

use crate::problem::Problem;

/// A part of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The field.
    pub name: String,
    /// The file's name, where the part is one.
    pub file: Option<String>,
    /// What it holds.
    pub bytes: Bytes,
}

/// The longest head of a part.
const MAX_HEAD: usize = 4096;
/// The most parts.
const MAX_PARTS: usize = 1000;
/// The longest name that is kept of a file.
const MAX_NAME: usize = 255;

/// The boundary in a header `Content-Type`, which is of a form.
///
/// # Errors
/// There is none, or one that may not be.
pub fn boundary(content_type: &str) -> Result<String, Problem> {
    let parameters = content_type.split(';').skip(1);
    let found = parameters.filter_map(|parameter| parameter.split_once('=')).find_map(|(name, value)| {
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"'))
    });
    match found {
        Some(boundary) if (1..=70).contains(&boundary.len()) && boundary.is_ascii() => {
            Ok(boundary.to_owned())
        }
        _ => Err(Problem::bad_request(
            "expected multipart/form-data with a boundary of 1 to 70 characters, found another or none",
        )),
    }
}

/// The parts of a form.
///
/// # Errors
/// It is no form of this boundary, or does not end.
pub fn parts(body: &Bytes, boundary: &str) -> Result<Vec<Part>, Problem> {
    let delimiter = format!("\r\n--{boundary}");
    let delimiter = delimiter.as_bytes();
    // The first delimiter has no line before it where nothing stands before it.
    let mut at = if body.starts_with(&delimiter[2..]) {
        delimiter.len() - 2
    } else {
        find(body, delimiter, 0)
            .map(|start| start + delimiter.len())
            .ok_or_else(|| bad("its boundary, found none"))?
    };
    let mut parts = Vec::new();
    loop {
        if body[at..].starts_with(b"--") {
            return Ok(parts);
        }
        // Blanks may follow a boundary.
        let line = find(body, b"\r\n", at)
            .ok_or_else(|| bad("a part or the end after a boundary, found neither"))?;
        if !body[at..line].iter().all(|byte| matches!(byte, b' ' | b'\t')) {
            return Err(bad("a part or the end after a boundary, found something else"));
        }
        if parts.len() == MAX_PARTS {
            return Err(bad(&format!("at most {MAX_PARTS} parts, found more")));
        }
        // From the end of that line, so that a head without a line is one.
        let head_end = find(body, b"\r\n\r\n", line)
            .ok_or_else(|| bad("a blank line after a part's head, found none"))?;
        let (head, content) = (&body[line..head_end], head_end + 4);
        if head.len() > MAX_HEAD {
            return Err(bad(&format!("heads of at most {MAX_HEAD} bytes, found {}", head.len())));
        }
        // The line break before a boundary is the boundary's, also that of an empty part.
        let end = find(body, delimiter, head_end + 2)
            .ok_or_else(|| bad("a boundary after every part, found none"))?;
        let (name, file) = names(head)?;
        parts.push(Part { name, file, bytes: body.slice(content.min(end)..end) });
        at = end + delimiter.len();
    }
}

/// Field and file name of a part's head.
fn names(head: &[u8]) -> Result<(String, Option<String>), Problem> {
    let head = String::from_utf8_lossy(head);
    let disposition = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then(|| value.trim().to_owned())
    });
    let disposition =
        disposition.ok_or_else(|| bad("a header Content-Disposition in every part, found none"))?;
    let (mut name, mut file) = (None, None);
    let mut rest = disposition.split_once(';').map_or("", |(_, rest)| rest);
    while let Some((key, after)) = rest.split_once('=') {
        let after = after.trim_start();
        // Quoted values may hold semicolons; browsers write a quote as %22.
        let (value, left) = match after.strip_prefix('"').and_then(|quoted| quoted.split_once('"')) {
            Some((value, left)) => (value, left.split_once(';').map_or("", |(_, left)| left)),
            None => after.split_once(';').unwrap_or((after, "")),
        };
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => name = Some(value.trim().to_owned()),
            "filename" => file = Some(shown_name(value)),
            _ => {}
        }
        rest = left;
    }
    Ok((name.ok_or_else(|| bad("a name for every part, found none"))?, file))
}

/// What answers call a file: as it was named, without controls, no longer than a file's name can be.
pub fn shown_name(name: &str) -> String {
    name.chars().filter(|character| !character.is_control()).take(MAX_NAME).collect()
}

fn bad(expected: &str) -> Problem {
    Problem::bad_request(format!("form: expected {expected}"))
}

/// Where `what` begins in `body`, from `from` on.
fn find(body: &[u8], what: &[u8], from: usize) -> Option<usize> {
    let (&first, rest) = what.split_first()?;
    let mut at = from;
    loop {
        at += body.get(at..)?.iter().position(|&byte| byte == first)?;
        if body[at + 1..].starts_with(rest) {
            return Some(at);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn form(parts: &[(&str, Option<&str>, &[u8])], boundary: &str) -> Bytes {
        let mut body = Vec::new();
        for (name, file, bytes) in parts {
            body.extend(
                format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"").into_bytes(),
            );
            if let Some(file) = file {
                body.extend(format!("; filename=\"{file}\"\r\nContent-Type: image/jpeg").into_bytes());
            }
            body.extend(b"\r\n\r\n");
            body.extend(*bytes);
            body.extend(b"\r\n");
        }
        body.extend(format!("--{boundary}--\r\n").into_bytes());
        body.into()
    }

    proptest! {
        #[test]
        fn parts_come_back_whatever_they_hold(
            contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..5)
        ) {
            let sent: Vec<(&str, Option<&str>, &[u8])> =
                contents.iter().map(|bytes| ("photo", Some("a; b=c.jpg"), bytes.as_slice())).collect();
            let found = parts(&form(&sent, "x--y"), "x--y").unwrap();
            prop_assert_eq!(found.len(), sent.len());
            for (part, (name, file, bytes)) in found.iter().zip(sent) {
                prop_assert_eq!((part.name.as_str(), part.file.as_deref(), &part.bytes[..]), (name, file, bytes));
            }
        }

        #[test]
        fn no_bytes_are_a_panic(bytes in prop::collection::vec(prop::sample::select(b"-b\r\n:;=\"a".to_vec()), 0..60)) {
            let _ = parts(&Bytes::from(bytes), "b");
        }
    }

    #[test]
    fn what_is_no_form_says_why() {
        for (body, said) in [
            (&b""[..], "its boundary"),
            (b"--b", "a part or the end"),
            (b"--b\r\n", "a blank line"),
            (b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\nno end", "a boundary after every part"),
            (b"--b\r\n\r\n\r\n--b--", "Content-Disposition"),
            (b"--b\r\nContent-Disposition: form-data\r\n\r\n\r\n--b--", "a name for every part"),
            (b"--bb\r\n", "something else"),
        ] {
            let detail = parts(&Bytes::copy_from_slice(body), "b").unwrap_err().detail;
            assert!(detail.contains(said), "{detail}");
        }
        let empty = b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n--b--";
        assert_eq!(parts(&Bytes::from_static(empty), "b").unwrap()[0].bytes.len(), 0);
        for (header, found) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            ("multipart/form-data; charset=utf-8; Boundary=\"a b\"", Some("a b")),
            ("multipart/form-data", None),
            ("multipart/form-data; boundary=", None),
        ] {
            assert_eq!(boundary(header).ok().as_deref(), found, "{header}");
        }
    }
}
