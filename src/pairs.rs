//! A reader of files with names and values: `args_file` and `labels_file`.
//!
//! A file is read as the oci-build task and the docker-image resource read theirs: `NAME=value` lines; YAML, when its
//! name ends in `.yml` or `.yaml`; JSON, when it ends in `.json` or begins with `{`. In lines, a value is everything after
//! the first `=`, quotes and white space included; blank lines and lines that begin with `#` say nothing. In YAML, a
//! value is the text as it stands: `1.10` and `yes` stay what they are.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle};

use crate::names::GitPath;

/// A value, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// The value.
    pub text: String,
    /// Its line, counted from 1.
    pub line: usize,
}

/// Why a text has no names and values. Lines are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PairsError {
    /// The bytes are no UTF-8.
    #[error("line {line} is not UTF-8")]
    NotText {
        /// The first line that is not.
        line: usize,
    },
    /// A line has no `=`.
    #[error("line {line} has no '=': {text:?}")]
    NoValue {
        /// The line.
        line: usize,
        /// What it has.
        text: String,
    },
    /// A name is empty, or has a character that no name has.
    #[error("line {line}: the name {name:?} is empty, or has white space or '='")]
    Name {
        /// The line.
        line: usize,
        /// The name.
        name: String,
    },
    /// A name is given twice.
    #[error("line {line}: {name:?} was given before, in line {first}")]
    Twice {
        /// The line.
        line: usize,
        /// The name.
        name: String,
        /// Where it was given first.
        first: usize,
    },
    /// It is no YAML.
    #[error("line {line}: {why}")]
    NotYaml {
        /// The line.
        line: usize,
        /// What the parser says.
        why: String,
    },
    /// The YAML is not a block of names with one text each.
    #[error("line {line}: {what} stands where {wanted} must be")]
    Shape {
        /// The line.
        line: usize,
        /// What stands there.
        what: &'static str,
        /// What must stand there.
        wanted: &'static str,
    },
}

/// Reads a file of this name.
///
/// # Errors
///
/// The first line that cannot be read, or gives a name again.
pub fn parse(path: &GitPath, bytes: &[u8]) -> Result<BTreeMap<String, Value>, PairsError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = &bytes[..error.valid_up_to()];
        PairsError::NotText { line: good.iter().filter(|&&b| b == b'\n').count() + 1 }
    })?;
    let name = path.as_bytes().to_ascii_lowercase();
    let is_yaml = [b".yml".as_slice(), b".yaml", b".json"].iter().any(|end| name.ends_with(end));
    if is_yaml || text.trim_start().starts_with('{') { yaml(text) } else { lines(text) }
}

fn lines(text: &str) -> Result<BTreeMap<String, Value>, PairsError> {
    let mut pairs = Pairs::default();
    for (index, text) in text.split('\n').enumerate() {
        let (line, text) = (index + 1, text.strip_suffix('\r').unwrap_or(text));
        if text.trim().is_empty() || text.starts_with('#') {
            continue;
        }
        let Some((name, value)) = text.split_once('=') else {
            return Err(PairsError::NoValue { line, text: text.to_owned() });
        };
        pairs.add(name, value, line)?;
    }
    Ok(pairs.0)
}

fn yaml(text: &str) -> Result<BTreeMap<String, Value>, PairsError> {
    const BLOCK: &str = "a block of names with texts";
    let mut pairs = Pairs::default();
    let mut name: Option<(String, usize)> = None;
    let mut depth = 0_usize;
    let mut documents = 0_usize;
    for next in Parser::new_from_str(text) {
        let (event, span) =
            next.map_err(|error| PairsError::NotYaml { line: error.marker().line(), why: error.info().to_owned() })?;
        let line = span.start.line();
        let wanted = match (depth, &name) {
            (0, _) => BLOCK,
            (_, None) => "a name",
            (_, Some(_)) => "a text",
        };
        let odd = |what| Err(PairsError::Shape { line, what, wanted });
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return odd("a second document");
                }
            }
            Event::MappingStart(..) if depth == 0 => depth = 1,
            Event::MappingEnd => depth = 0,
            Event::MappingStart(..) => return odd("a block"),
            Event::SequenceStart(..) | Event::SequenceEnd => return odd("a list"),
            Event::Alias(_) => return odd("an alias"),
            // An empty file says nothing.
            Event::Scalar(text, ScalarStyle::Plain, ..) if depth == 0 && matches!(text.as_ref(), "" | "~" | "null") => {
            }
            Event::Scalar(..) if depth == 0 => return odd("a text"),
            Event::Scalar(text, style, ..) => match name.take() {
                None => name = Some((text.into_owned(), line)),
                Some(_) if style == ScalarStyle::Plain && matches!(text.as_ref(), "" | "~" | "null") => {
                    return Err(PairsError::Shape { line, what: "nothing", wanted: "a text" });
                }
                Some((name, line)) => pairs.add(&name, &text, line)?,
            },
        }
    }
    Ok(pairs.0)
}

#[derive(Default)]
struct Pairs(BTreeMap<String, Value>);

impl Pairs {
    fn add(&mut self, name: &str, value: &str, line: usize) -> Result<(), PairsError> {
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '=') {
            return Err(PairsError::Name { line, name: name.to_owned() });
        }
        let value = Value { text: value.to_owned(), line };
        match self.0.insert(name.to_owned(), value) {
            None => Ok(()),
            Some(before) => Err(PairsError::Twice { line, name: name.to_owned(), first: before.line }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<String, String> {
        let pairs = parse(&GitPath::new(name), text.as_bytes()).map_err(|error| error.to_string())?;
        Ok(pairs.iter().map(|(name, Value { text, line })| format!("{line} {name}={text};")).collect())
    }

    #[test]
    fn lines_yaml_and_json_give_the_same_pairs() {
        for (name, text, expected) in [
            ("args", "A=1\n\n# no\nB= x=\"y\" \r\nC=", "1 A=1;4 B= x=\"y\" ;5 C=;"),
            ("args", "\u{feff}A=1", "1 A=1;"),
            ("args", "", ""),
            ("args.txt", "a.b/c-d=#1", "1 a.b/c-d=#1;"),
            (
                "args.yml",
                "A: 1\nB: yes\n# no\nC: \"x y\"\nD: |\n  one\n  two\n",
                "1 A=1;2 B=yes;4 C=x y;5 D=one\ntwo\n;",
            ),
            ("ARGS.YAML", "---\nV: 1.10\nE: \"\"\n", "3 E=;2 V=1.10;"),
            ("args.yaml", "", ""),
            ("args.yaml", "# nothing\n", ""),
            ("args.json", "{\"A\": \"1\",\n \"B\": 2}", "1 A=1;2 B=2;"),
            ("args", "\n {\"A\": true}", "2 A=true;"),
        ] {
            assert_eq!(read(name, text).as_deref(), Ok(expected), "{name} {text:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (name, text, message) in [
            ("args", "A=1\nB", "line 2 has no '=': \"B\""),
            ("args", "=1", "line 1: the name \"\" is empty, or has white space or '='"),
            ("args", "export A=1", "line 1: the name \"export A\" is empty, or has white space or '='"),
            ("args", "A=1\n\nA=2", "line 3: \"A\" was given before, in line 1"),
            ("args.yml", "A: 1\nA: 2", "line 2: \"A\" was given before, in line 1"),
            ("args.yml", "A: [1]", "line 1: a list stands where a text must be"),
            ("args.yml", "B: 1\nA:\n  C: 1", "line 3: a block stands where a text must be"),
            ("args.yml", "A:\n", "line 1: nothing stands where a text must be"),
            ("args.yml", "- A", "line 1: a list stands where a block of names with texts must be"),
            ("args.yml", "A=1", "line 1: a text stands where a block of names with texts must be"),
            ("args.yml", "A: &a 1\nB: *a", "line 2: an alias stands where a text must be"),
            (
                "args.yml",
                "A: 1\n---\nB: 1",
                "line 2: a second document stands where a block of names with texts must be",
            ),
            ("args.yml", "[a]: 1", "line 1: a list stands where a name must be"),
        ] {
            assert_eq!(read(name, text), Err(message.to_owned()), "{name} {text:?}");
        }
        let error = read("args.yml", "A: 1\nB: \"x").expect_err("a quote is open");
        assert!(error.starts_with("line "), "{error}");
        assert_eq!(parse(&GitPath::new("args"), b"A=1\n\xff"), Err(PairsError::NotText { line: 2 }));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[ab:\\-\\[\\]{},\"'|>&*#!%@? \n\t=~\u{e9}]{0,60}") {
            let _ = parse(&GitPath::new("a.yml"), text.as_bytes());
            let _ = parse(&GitPath::new("a"), text.as_bytes());
        }
    }
}
