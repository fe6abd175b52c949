//! Outcomes as JUnit XML, which CI systems show.

use std::fmt::Write;

use super::Outcome;

/// The outcomes as JUnit XML: a test case a requirement.
pub fn junit(outcomes: &[Outcome]) -> String {
    let failed = outcomes.iter().filter(|outcome| !outcome.met).count();
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"fairface\" tests=\"{}\" \
         failures=\"{failed}\" errors=\"0\" skipped=\"0\">\n",
        outcomes.len()
    );
    for outcome in outcomes {
        let (name, line) = (escaped(&outcome.text), escaped(&outcome.to_string()));
        let case = match outcome.met {
            true => format!("      <system-out>{line}</system-out>\n"),
            false => format!("      <failure message=\"{line}\" type=\"requirement\"/>\n"),
        };
        let _ = write!(xml, "    <testcase classname=\"require\" name=\"{name}\">\n{case}    </testcase>\n");
    }
    xml + "  </testsuite>\n</testsuites>\n"
}

/// Text as XML may hold it, in attributes too; control characters have no place in it.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\t' | '\n' | '\r' => escaped.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_test_cases_whatever_is_in_their_text() {
        let outcome = |text: &str, met| Outcome {
            text: text.to_owned(),
            value: Some(0.25),
            low: None,
            high: None,
            n: 3,
            margin: Some(-0.25),
            met,
            why: None,
        };
        let xml = junit(&[outcome("a.ece[\"<&'\u{1}\n]>=1", false), outcome("b.nll<=1", true)]);
        let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<testsuites>
  <testsuite name=\"fairface\" tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"0\">
    <testcase classname=\"require\" name=\"a.ece[&quot;&lt;&amp;&apos;\u{fffd} ]&gt;=1\">
      <failure message=\"not met: a.ece[&quot;&lt;&amp;&apos;\u{fffd} ]&gt;=1, 0.2500, n = 3, margin -0.2500\" \
                        type=\"requirement\"/>
    </testcase>
    <testcase classname=\"require\" name=\"b.nll&lt;=1\">
      <system-out>met: b.nll&lt;=1, 0.2500, n = 3, margin -0.2500</system-out>
    </testcase>
  </testsuite>
</testsuites>
";
        assert_eq!(xml, expected);
    }
}
