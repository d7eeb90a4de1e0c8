//! Where an instruction stands in a Dockerfile, for people: it decides nothing.

use std::ops::RangeInclusive;

/// How many lines before and after an instruction are shown.
const AROUND: usize = 2;

/// The most lines that are shown of an instruction itself.
const SHOWN: usize = 20;

/// The lines of an instruction with those around it, numbered, its own marked. `instruction` is written as the engine
/// names a step: on one line. Empty when it is not certain which one is meant.
pub fn excerpt(dockerfile: &[u8], instruction: &str) -> Vec<String> {
    let text = String::from_utf8_lossy(dockerfile);
    let lines: Vec<&str> = text.lines().collect();
    let Some(place) = place(&lines, instruction) else { return Vec::new() };
    let last = (*place.end()).min(place.start() + SHOWN - 1);
    let from = place.start().saturating_sub(AROUND).max(1);
    let to = (last + AROUND).min(lines.len());
    let width = to.to_string().len();
    let shown = |number: usize| {
        let mark = if (*place.start()..=last).contains(&number) { '>' } else { ' ' };
        format!("{mark} {number:width$} | {}", lines[number - 1]).trim_end().to_owned()
    };
    (from..=to).map(shown).collect()
}

/// The numbers of the first and the last line, counted from 1, of the only instruction that is written like this.
fn place(lines: &[&str], instruction: &str) -> Option<RangeInclusive<usize>> {
    let wanted = words(instruction);
    let mut found = None;
    let mut start = 0;
    while start < lines.len() {
        let mut whole = String::new();
        let mut end = start;
        for (number, line) in lines.iter().enumerate().skip(start) {
            end = number;
            let line = line.trim_end();
            // Comments and empty lines within an instruction are no part of it.
            if line.trim_start().starts_with('#') || (line.is_empty() && !whole.is_empty()) {
                if whole.is_empty() {
                    break;
                }
                continue;
            }
            let continued = line.strip_suffix(['\\', '`']);
            whole.push_str(continued.unwrap_or(line));
            whole.push(' ');
            if continued.is_none() {
                break;
            }
        }
        if !wanted.is_empty() && words(&whole) == wanted && found.replace(start + 1..=end + 1).is_some() {
            return None;
        }
        start = end + 1;
    }
    found
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKERFILE: &str = "\
FROM base
# why
RUN one \\
    # a comment
    && two
COPY a /
COPY b /
COPY b /
";

    #[test]
    fn an_instruction_is_shown_with_the_lines_around_it() {
        assert_eq!(
            excerpt(DOCKERFILE.as_bytes(), "RUN one     && two"),
            [
                "  1 | FROM base",
                "  2 | # why",
                "> 3 | RUN one \\",
                "> 4 |     # a comment",
                "> 5 |     && two",
                "  6 | COPY a /",
                "  7 | COPY b /"
            ]
        );
        assert_eq!(excerpt(DOCKERFILE.as_bytes(), "FROM base"), ["> 1 | FROM base", "  2 | # why", "  3 | RUN one \\"]);
    }

    #[test]
    fn nothing_is_shown_when_it_is_not_certain_which_one_is_meant() {
        for instruction in ["COPY b /", "COPY c /", "", "# why"] {
            assert_eq!(excerpt(DOCKERFILE.as_bytes(), instruction), [""; 0], "{instruction}");
        }
    }

    #[test]
    fn a_long_instruction_is_cut() {
        let text = format!("RUN {}x\n", "a \\\n".repeat(50));
        let instruction = format!("RUN {}x", "a ".repeat(50));
        assert_eq!(excerpt(text.as_bytes(), &instruction).len(), SHOWN + AROUND);
    }
}
