//! Numbers as people read them: on the pages, and in the command line's tables.
//!
//! Plain functions of numbers; they know nothing of what is counted.

/// A share as a percentage with one decimal: `51.2 %`; `-` for what is no number.
pub fn percent(share: f64) -> String {
    if share.is_finite() { format!("{} %", points(share)) } else { NONE.to_owned() }
}

/// A share, or a difference of shares, in percentage points: `51.2`.
pub fn points(share: f64) -> String {
    fixed(100.0 * share, 1)
}

/// With so many decimals: `0.98`; `-` for what is no number.
pub fn fixed(x: f64, decimals: usize) -> String {
    if x.is_finite() { format!("{x:.decimals$}") } else { NONE.to_owned() }
}

/// The ends of an interval: `35.2 % to 64.8 %`.
pub fn range((low, high): (f64, f64), show: fn(f64) -> String) -> String {
    format!("{} to {}", show(low), show(high))
}

/// Stands where there is no number.
pub const NONE: &str = "-";

/// An integer with thousands separated: `21,556,562`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A time in its two largest units: `1 h 12 min`, `3 min 20 s`, `4.2 s`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// Three significant digits, with an exponent where zeros would hide them: `4.88`, `0.0125`, `1.5e-5`, `12,300`; `-`
/// for what is no number.
pub fn figure(x: f64) -> String {
    let magnitude = x.abs();
    match magnitude {
        0.0 => "0".to_owned(),
        _ if !x.is_finite() => NONE.to_owned(),
        _ if magnitude < 1e-3 => format!("{}e{}", trimmed(&format!("{:.2}", x / power(x))), exponent(x)),
        _ if magnitude >= 1000.0 => {
            let sign = if x < 0.0 { "-" } else { "" };
            format!("{sign}{}", grouped(magnitude.round() as u64))
        }
        _ => format!("{x:.*}", (2 - exponent(x)).max(0) as usize),
    }
}

/// A tick of an axis whose ticks are `step` apart, with no more digits than that takes.
pub fn tick(x: f64, step: f64) -> String {
    // Counted in steps, so that the sum of rounding errors near zero is zero.
    let x = (x / step).round() * step;
    match step {
        _ if x == 0.0 => "0".to_owned(),
        ..1e-3 => format!("{}e{}", trimmed(&format!("{:.2}", x / power(x))), exponent(x)),
        1e3.. if (x / 1e3).fract() == 0.0 => format!("{}k", x / 1e3),
        _ => format!("{x:.*}", (-exponent(step)).max(0) as usize),
    }
}

/// The exponent of ten of a number that is not zero; a hair below a power counts as the power.
fn exponent(x: f64) -> i32 {
    (x.abs().log10() + 1e-9).floor() as i32
}

fn power(x: f64) -> f64 {
    10f64.powi(exponent(x))
}

fn trimmed(decimal: &str) -> &str {
    decimal.trim_end_matches('0').trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_right() {
        assert_eq!([0, 999, 1000, 21_556_562].map(grouped), ["0", "999", "1,000", "21,556,562"]);
        assert_eq!([4.24, 200.0, 4320.0].map(duration), ["4.2 s", "3 min 20 s", "1 h 12 min"]);
        let figures = [0.0, 4.8812, 0.012_51, 1.5e-5, 12_345.6, -2500.0, 99.0].map(figure);
        assert_eq!(figures, ["0", "4.88", "0.0125", "1.5e-5", "12,346", "-2,500", "99.0"]);
        assert_eq!(percent(0.5123), "51.2 %");
        assert_eq!([percent(f64::NAN), figure(f64::INFINITY), points(f64::NAN)], ["-", "-", "-"]);
        assert_eq!([points(0.5123), fixed(0.5, 3), fixed(99.6, 0)], ["51.2", "0.500", "100"]);
        assert_eq!(range((0.1, 0.25), percent), "10.0 % to 25.0 %");
    }

    #[test]
    fn ticks_have_the_digits_of_their_step() {
        assert_eq!([0.0, 0.5, 1.0].map(|x| tick(x, 0.5)), ["0", "0.5", "1.0"]);
        assert_eq!([2e-5, 1e-4].map(|x| tick(x, 2e-5)), ["2e-5", "1e-4"]);
        assert_eq!([500.0, 20_000.0].map(|x| tick(x, 500.0)), ["500", "20000"]);
        assert_eq!([5000.0, 20_000.0].map(|x| tick(x, 5000.0)), ["5k", "20k"]);
        assert_eq!(tick(0.1 + 0.2 - 0.3, 0.1), "0");
    }
}
