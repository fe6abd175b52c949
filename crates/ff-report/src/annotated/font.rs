//! Letters for pictures: the X Window System's "8x13B" of its misc-fixed fonts, which are in the public domain.
//!
//! `font_8x13_bold.raw` is it as embedded-graphics 0.8.2 (MIT or Apache-2.0) has it: 16 letters a row, 12 rows, a bit a
//! pixel, ASCII from the space on and then Latin-1 from U+00A0 on.

/// Pixels of a letter.
pub const WIDTH: usize = 8;
/// Pixels of a letter.
pub const HEIGHT: usize = 13;

const LETTERS: &[u8; 2496] = include_bytes!("font_8x13_bold.raw");
/// Letters side by side in the picture, which is as many bytes wide.
const A_ROW: usize = 16;

/// The rows of a letter, the left pixel in the highest bit; a question mark's where there is none.
pub fn rows(letter: char) -> [u8; HEIGHT] {
    let place = match letter {
        ' '..='~' => letter as usize - ' ' as usize,
        '\u{a0}'..='\u{ff}' => letter as usize - 0xa0 + 96,
        _ => '?' as usize - ' ' as usize,
    };
    let (row, column) = (place / A_ROW, place % A_ROW);
    std::array::from_fn(|y| LETTERS[(row * HEIGHT + y) * A_ROW + column])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_where_they_should_be() {
        let drawn = |letter| rows(letter).map(|row| format!("{row:08b}").replace('0', ".").replace('1', "#"));
        assert_eq!(
            drawn('F').join("\n"),
            "........\n#######.\n##......\n##......\n##......\n#####...\n##......\n##......\n##......\n##......\n##......\n\
             ........\n........"
        );
        assert_eq!(drawn(' '), [0; HEIGHT].map(|_| "........".to_owned()));
        assert_eq!(rows('\u{4e2d}'), rows('?'));
        assert_ne!(rows('ä'), rows('a'), "Latin-1 has letters of its own");
        assert_eq!(rows('ä')[5..], rows('a')[5..], "an a below its dots");
    }
}
