//! Texts of others in messages: as much of them as somebody reads.

/// Names for a message.
pub fn list(names: &[String]) -> String {
    const MOST: usize = 20;
    match names {
        [] => "none".to_owned(),
        _ if names.len() <= MOST => names.join(", "),
        _ => format!("{} and {} more", names[..MOST].join(", "), names.len() - MOST),
    }
}

/// Names of which one is to be chosen: `a, b or c`.
pub fn either(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        [name] => name.clone(),
        [names @ .., last] => format!("{} or {last}", list(names)),
    }
}

/// A text from a file.
pub fn shortened(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
