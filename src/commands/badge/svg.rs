//! The badge as SVG.

use std::borrow::Cow;
use std::fmt::Write as _;

/// How a build ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum State {
    /// The image is built, and what uses it passed
    Passing,
    /// A step failed
    Failing,
    /// A step could not be run
    Errored,
    /// Somebody stopped it
    Aborted,
    /// It has not ended
    Pending,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Failing => "failing",
            Self::Errored => "errored",
            Self::Aborted => "aborted",
            Self::Pending => "pending",
        }
    }

    /// White text on each is read easily (a contrast of at least 4.5), and each stands out from white and from black.
    fn colour(self) -> &'static str {
        match self {
            Self::Passing => "#1a7f37",
            Self::Failing => "#cf222e",
            Self::Errored => "#9a6700",
            Self::Aborted => "#8a4b2d",
            Self::Pending => "#57606a",
        }
    }
}

const LABEL: &str = "build";
const LABEL_COLOUR: &str = "#444c56";
const VERSION_COLOUR: &str = "#0550ae";

const HEIGHT: usize = 20;
/// What is left free beside each text.
const MARGIN: usize = 6;
const FONT_SIZE: usize = 11;
/// A version may have 128 characters; with so many a badge still stands beside others.
const LONGEST: usize = 32;

/// Draws the badge.
///
/// Each text says how long it is (`textLength`), so that it fills its field whatever font a reader has. What is too long
/// ends in an ellipsis, and is whole in the title.
pub fn draw(state: State, version: Option<&str>) -> String {
    let fields =
        [Some((LABEL, LABEL_COLOUR)), Some((state.word(), state.colour())), version.map(|it| (it, VERSION_COLOUR))];
    let (mut boxes, mut texts, mut at) = (String::new(), String::new(), 0);
    for (text, colour) in fields.into_iter().flatten() {
        let text = shortened(text);
        let length = width(&text);
        let (field, start) = (length + 2 * MARGIN, at + MARGIN);
        let text = escaped(&text);
        // Writing to a text cannot fail.
        let _ = writeln!(boxes, r#"    <rect x="{at}" width="{field}" height="{HEIGHT}" fill="{colour}"/>"#);
        let _ = writeln!(
            texts,
            r#"    <text x="{start}" y="14" textLength="{length}" lengthAdjust="spacingAndGlyphs">{text}</text>"#
        );
        at += field;
    }
    let said = escaped(&std::iter::once(state.word()).chain(version).collect::<Vec<_>>().join(" "));
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{at}" height="{HEIGHT}" role="img" aria-label="{LABEL}: {said}">
  <title>{LABEL}: {said}</title>
  <clipPath id="round"><rect width="{at}" height="{HEIGHT}" rx="3"/></clipPath>
  <g clip-path="url(#round)">
{boxes}  </g>
  <g fill="#ffffff" font-family="'DejaVu Sans', Verdana, Geneva, sans-serif" font-size="{FONT_SIZE}">
{texts}  </g>
</svg>
"##
    )
}

fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(LONGEST) {
        None => text.into(),
        Some(_) => text.chars().take(LONGEST - 1).chain(['…']).collect(),
    }
}

/// The advance widths of the glyphs of DejaVu Sans, from space to tilde, in units of which 2048 are the size of the font.
///
/// Fact: table `hmtx` of DejaVuSans.ttf 2.37. Verdana, of which it is a relative, differs by less than a twentieth.
const WIDTHS: [usize; 95] = [
    651, 821, 942, 1716, 1303, 1946, 1597, 563, 799, 799, 1024, 1716, 651, 739, 651, 690, // space to /
    1303, 1303, 1303, 1303, 1303, 1303, 1303, 1303, 1303, 1303, 690, 690, 1716, 1716, 1716, 1087, // 0 to ?
    2048, 1401, 1405, 1430, 1577, 1294, 1178, 1587, 1540, 604, 604, 1343, 1141, 1767, 1532, 1612, // @ to O
    1235, 1612, 1423, 1300, 1251, 1499, 1401, 2025, 1403, 1251, 1403, 799, 690, 799, 1716, 1024, // P to _
    1024, 1255, 1300, 1126, 1300, 1260, 721, 1300, 1298, 569, 569, 1186, 569, 1995, 1298, 1253, // ` to o
    1300, 1300, 842, 1067, 803, 1298, 1212, 1675, 1212, 1212, 1075, 1303, 690, 1303, 1716, // p to ~
];

/// How wide a text is in that font, in whole pixels, rounded up. A character that is not ASCII counts as a wide one.
fn width(text: &str) -> usize {
    let glyph = |c: char| {
        let at = usize::try_from(u32::from(c)).ok().and_then(|code| code.checked_sub(32));
        at.and_then(|at| WIDTHS.get(at)).copied().unwrap_or(2048)
    };
    (text.chars().map(glyph).sum::<usize>() * FONT_SIZE).div_ceil(2048)
}

/// A text as XML has it. What XML cannot have at all is left out.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars().filter(|c| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}')) {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_badges_of_the_documentation_are_ours() {
        assert_eq!(draw(State::Passing, Some("1.4.2")), include_str!("../../../docs/badge-passing.svg"));
        assert_eq!(draw(State::Failing, Some("9f3c2e1")), include_str!("../../../docs/badge-failing.svg"));
    }

    #[test]
    fn text_from_outside_cannot_become_a_part_of_the_picture() {
        let svg = draw(State::Passing, Some("<script>\"&'\u{1b}\0\u{ffff}"));
        assert!(svg.contains(">&lt;script&gt;&quot;&amp;'</text>"), "{svg}");
        assert!(!svg.contains("<script>") && !svg.contains(['\u{1b}', '\u{ffff}']));
    }

    #[test]
    fn a_badge_without_a_version_has_two_fields() {
        let svg = draw(State::Pending, None);
        assert_eq!(svg.matches("<text").count(), 2);
        assert!(svg.contains("aria-label=\"build: pending\""));
    }

    #[test]
    fn a_long_version_is_cut_in_the_picture_and_whole_in_the_title() {
        let longest = "1.2.3-abcdefghijklmnopqrstuvwxyz";
        assert!(draw(State::Passing, Some(longest)).contains(">1.2.3-abcdefghijklmnopqrstuvwxyz</text>"));
        let svg = draw(State::Passing, Some(&format!("{longest}0")));
        assert!(svg.contains(">1.2.3-abcdefghijklmnopqrstuvwxy…</text>"), "{svg}");
        assert!(svg.contains("<title>build: passing 1.2.3-abcdefghijklmnopqrstuvwxyz0</title>"), "{svg}");
    }

    #[test]
    fn widths_are_those_of_the_font() {
        for (text, pixels) in
            [("build", 28), ("passing", 43), ("failing", 34), ("1.4.2", 28), ("", 0), ("~", 10), ("é", 11)]
        {
            assert_eq!(width(text), pixels, "{text}");
        }
    }

    /// WCAG's relative luminance of a colour such as `#1a7f37`.
    fn luminance(colour: &str) -> f64 {
        let part = |at: usize| {
            let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).expect("it is a colour")) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
    }

    #[test]
    fn white_text_is_read_easily_on_every_colour() {
        use clap::ValueEnum as _;

        let states = State::value_variants().iter().map(|state| state.colour());
        for colour in states.chain([LABEL_COLOUR, VERSION_COLOUR]) {
            let contrast = 1.05 / (luminance(colour) + 0.05);
            assert!(4.5 < contrast && contrast < 10.0, "{colour}: {contrast}");
        }
    }
}
