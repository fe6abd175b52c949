//! Words of anybody as Markdown and as YAML: nothing of them becomes markup.

use serde_json::Value;

/// Text as it reads within a line: never a table's border, emphasis, a link, a formula or HTML. Line breaks and what
/// cannot be seen become blanks. A line must not begin with it.
pub fn text(words: &str) -> String {
    let words: String = words.chars().map(|c| if is_unseen(c) { ' ' } else { c }).collect();
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut escaped = String::with_capacity(words.len());
    for c in words.chars() {
        match c {
            '_' | '*' | '[' | ']' => escaped.extend(['\\', c]),
            // By number, not behind backslashes: tables are cut at `|` before anybody looks at those.
            '\\' | '|' | '`' | '<' | '>' | '{' | '}' | '~' | '^' | '&' | '$' | '#' | '@' => {
                escaped.push_str(&format!("&#{};", c as u32));
            }
            c => escaped.push(c),
        }
    }
    escaped.replace("://", "&#58;//")
}

/// A table.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let rows = rows.iter().map(|row| line(row.iter().map(|cell| text(cell)).collect()));
    let rule = line(vec!["---".to_owned(); header.len()]);
    [line(header.iter().map(|cell| text(cell)).collect()), rule].into_iter().chain(rows).collect()
}

/// A table of what is what.
pub fn facts(rows: &[(&str, String)]) -> String {
    let rows = rows.iter().map(|(what, value)| vec![(*what).to_owned(), value.clone()]);
    table(&["", ""], &rows.collect::<Vec<_>>())
}

/// A value as YAML in block style. Keys are ours; strings are quoted as JSON, which is YAML too.
pub fn yaml(value: &Value) -> String {
    lines(value).join("\n") + "\n"
}

fn lines(value: &Value) -> Vec<String> {
    let indented = |value: &Value| lines(value).into_iter().map(|line| format!("  {line}"));
    match value {
        Value::Object(entries) => entries
            .iter()
            .flat_map(|(key, value)| match value {
                Value::Object(_) | Value::Array(_) => {
                    [format!("{key}:")].into_iter().chain(indented(value)).collect()
                }
                scalar => vec![format!("{key}: {}", lines(scalar)[0])],
            })
            .collect(),
        Value::Array(items) => items
            .iter()
            .flat_map(|item| {
                indented(item)
                    .enumerate()
                    .map(|(i, line)| match i {
                        0 => format!("- {}", line.trim_start()),
                        _ => line,
                    })
                    .collect::<Vec<_>>()
            })
            .collect(),
        Value::String(text) => vec![quoted(text)],
        number => vec![number.to_string()],
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if is_unseen(c) => quoted.push_str(&format!("\\u{:04x}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// Controls, breaks of lines and of the direction of writing: YAML forbids some of them, others mislead readers.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
    use serde_json::json;
    use yaml_rust2::YamlLoader;

    use super::*;

    /// All that readers of Markdown add to it, but for quotes that are made typographic.
    fn extensions() -> Options {
        Options::all() - Options::ENABLE_SMART_PUNCTUATION
    }

    /// What a reader sees of a table: its cells.
    ///
    /// # Panics
    /// There is anything in it but text.
    fn cells(markdown: &str) -> Vec<String> {
        let mut cells = Vec::new();
        for event in Parser::new_ext(markdown, extensions()) {
            match event {
                Event::Start(Tag::TableCell) => cells.push(String::new()),
                Event::Text(text) => cells.last_mut().expect("text is in cells").push_str(&text),
                Event::Start(Tag::Table(_) | Tag::TableHead | Tag::TableRow) | Event::End(_) => {}
                other => panic!("found {other:?} in {markdown}"),
            }
        }
        cells
    }

    fn seen(words: &str) -> String {
        let words: String = words.chars().map(|c| if is_unseen(c) { ' ' } else { c }).collect();
        words.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    const HOSTILE: &[&str] = &[
        "a | b",
        "\\| \\\\| |",
        "</td><script>alert(1)</script>",
        "two\nlines\r\n\n# heading",
        "[x](javascript:y) ![z](w) <http://a> https://b",
        "`code` **bold** __bold__ ~~gone~~ $x^2$ $$y$$ &lt; &#124;",
        "--- # \"quoted': {a: b} [c] !tag *alias &anchor % @",
        "\u{202e}evil\u{85}\u{2028}\u{feff}\0",
        "",
    ];

    fn check(words: &str) {
        let found = cells(&table(&["h", words], &[vec![words.to_owned(), "1".to_owned()]]));
        let expected = ["h".to_owned(), seen(words), seen(words), "1".to_owned()];
        assert_eq!(found, expected, "{words:?}");
        let value = json!({ "a": words, "list": [{ "b": words, "c": [words, 0.5] }, words], "last": 1 });
        let text = yaml(&value);
        let found = &YamlLoader::load_from_str(&text).unwrap_or_else(|e| panic!("{e} in {text}"))[0];
        let strings = [&found["a"], &found["list"][0]["b"], &found["list"][0]["c"][0], &found["list"][1]];
        for string in strings {
            assert_eq!(string.as_str(), Some(words), "{text}");
        }
        assert_eq!(
            (found["list"][0]["c"][1].as_f64(), found["last"].as_i64()),
            (Some(0.5), Some(1)),
            "{text}"
        );
    }

    #[test]
    fn hostile_words_stay_words() {
        HOSTILE.iter().for_each(|words| check(words));
        let paragraph = format!("so: {}", text(HOSTILE[4]));
        let events: Vec<_> = Parser::new_ext(&paragraph, extensions()).collect();
        assert_eq!(events.first(), Some(&Event::Start(Tag::Paragraph)));
        assert_eq!(events.last(), Some(&Event::End(TagEnd::Paragraph)));
        assert!(
            events[1..events.len() - 1].iter().all(|event| matches!(event, Event::Text(_))),
            "{events:?}"
        );
    }

    fn words() -> impl Strategy<Value = String> {
        prop_oneof!["\\PC*", "[-\\\\|`*_<>&#$~!:\\[\\]{}\"'\n\r\t a1.]*", any::<String>()]
    }

    proptest! {
        #[test]
        fn any_words_stay_words(words in words()) {
            check(&words);
        }
    }
}
