//! What all pages are made of: one file each, no script, nothing from elsewhere.
//!
//! The policy in a page's head makes the browser refuse whatever is not in the file itself. All text is escaped by
//! `maud`; [`PreEscaped`] stands only around what was built here: the style sheet and the thumbnails' rules.

use maud::{DOCTYPE, Markup, PreEscaped, Render, html};

/// The style sheet of all pages and charts.
pub const STYLE: &str = include_str!("style.css");
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// The whole page. `rules` are added to the style sheet.
pub fn document(title: &str, rules: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) (PreEscaped(rules)) }
            }
            body { main { (body) } }
        }
    };
    page.into_string()
}

/// Links to the sections that there are, by id and heading.
pub fn contents(sections: &[(String, String)]) -> Markup {
    html! {
        nav { @for (id, heading) in sections { a href={ "#" (id) } { (heading) } } }
    }
}

/// A section with a heading.
pub fn section(id: &str, heading: &str, body: &Markup) -> Markup {
    html! { section id=(id) { h2 { (heading) } (body) } }
}

/// What is worth a look, where anything is.
pub fn findings(sentences: &[String]) -> Markup {
    if sentences.is_empty() {
        return html! {};
    }
    let list = html! { ul class="findings" { @for sentence in sentences { li { (sentence) } } } };
    section("findings", "Worth a look", &list)
}

/// Things side by side where there is room.
pub fn grid(parts: &[Markup]) -> Markup {
    html! { div class="grid" { @for part in parts { (part) } } }
}

/// A chart with its heading.
pub fn figure(id: &str, heading: &str, chart: &Markup) -> Markup {
    html! { figure id=(id) { figcaption { (heading) } (chart) } }
}

/// Something folded away.
pub fn more(summary: impl Render, body: &Markup) -> Markup {
    html! { details { summary { (summary) } (body) } }
}

/// A table; the first column is to the left, the others are numbers.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> Markup {
    html! { div class="scroll" { (bare_table(header, rows)) } }
}

/// A table as it stands in a figure, which scrolls by itself.
pub fn bare_table(header: &[&str], rows: &[Vec<String>]) -> Markup {
    html! {
        table {
            thead { tr { @for cell in header { th { (cell) } } } }
            tbody { @for row in rows { tr { @for cell in row { td { (cell) } } } } }
        }
    }
}

/// A name as a heading, or at the beginning of a sentence.
pub fn capital(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever a page shows comes from files that anybody may have written.
    #[test]
    fn nothing_that_is_shown_becomes_markup() {
        const HOSTILE: &str = "</style></title><script>\"&'";
        let cells = [HOSTILE, HOSTILE].map(str::to_owned).to_vec();
        let body = html! {
            (contents(&[(HOSTILE.to_owned(), HOSTILE.to_owned())]))
            (findings(&[HOSTILE.to_owned()]))
            (section(HOSTILE, HOSTILE, &grid(&[figure(HOSTILE, HOSTILE, &html! {})])))
            (more(HOSTILE, &table(&[HOSTILE, HOSTILE], &[cells])))
        };
        let page = document(HOSTILE, "", &body);
        assert!(!page.contains("<script>") && !page.contains("\"&'"), "{page}");
        assert_eq!((page.matches("</style>").count(), page.matches("</title>").count()), (1, 1), "{page}");
        assert!(page.contains("&lt;/style&gt;&lt;/title&gt;&lt;script&gt;&quot;&amp;'"), "{page}");
    }

    /// The policy is what a browser holds a page to; it must come before anything that it forbids.
    #[test]
    fn the_policy_allows_styles_and_pictures_of_the_file_alone() {
        let page = document("t", ".a{}", &html! { p { "text" } });
        assert!(page.starts_with("<!DOCTYPE html>"), "{page}");
        let policy =
            page.find("content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\"").unwrap();
        assert!(policy < page.find("<style>").unwrap() && page.find("<title>").unwrap() < 1024, "{page}");
        assert!(page.contains(".a{}</style>") && page.contains("<main><p>text</p></main>"), "{page}");
    }

    #[test]
    fn names_begin_with_a_capital() {
        assert_eq!(
            ["age", "", "äußeres", "with glasses"].map(capital),
            ["Age", "", "Äußeres", "With glasses"]
        );
    }
}
