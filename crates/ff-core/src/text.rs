//! Texts of others in messages: as much of them as somebody reads, and what they probably meant.

use std::any::Any;

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

/// What a panic says.
pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// The name that is the fewest slips away, if they are few for its length.
pub fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let close = names.map(|known| (slips(name, known), known));
    let (n, known) = close.min_by_key(|(slips, _)| *slips)?;
    (n <= 1.max(known.chars().count() / 3)).then_some(known)
}

/// Letters to add, drop, change, or swap with their neighbour, to get from one word to another (the optimal string
/// alignment distance).
fn slips(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_counted_as_people_make_them() {
        for (a, b, n) in [
            ("epoch", "epochs", 1),
            ("trian", "train", 1),
            ("", "lr", 2),
            ("lr", "lr", 0),
            ("seeed", "seed", 1),
        ] {
            assert_eq!(slips(a, b), n, "{a} {b}");
        }
    }
}
