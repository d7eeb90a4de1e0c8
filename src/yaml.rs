//! A reader of YAML: the values that Concourse makes of a pipeline, with anchors, aliases and merge keys.
//!
//! A plain scalar is null, a boolean, a number or a text as in Concourse, which reads YAML 1.1: `y`, `on` and `off` are
//! booleans, `0755` is 493. Fact: measured with Concourse 8.2; go-yaml v2, `resolve.go`.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};

/// Why a text is no YAML that we read. Lines are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// It is no YAML.
    #[error("line {line}: {why}")]
    NotYaml {
        /// The line.
        line: usize,
        /// What the parser says.
        why: String,
    },
    /// A key is a block or a list.
    #[error("line {line}: a key is a block or a list")]
    Key {
        /// The line.
        line: usize,
    },
    /// A key is given twice in one block.
    #[error("line {line}: {key:?} is given a second time")]
    Twice {
        /// The line.
        line: usize,
        /// The key.
        key: String,
    },
    /// What `<<` takes in is no block.
    #[error("line {line}: `<<` takes in something that is no block")]
    Merge {
        /// The line.
        line: usize,
    },
    /// There is more than one document.
    #[error("line {line}: a second document")]
    Documents {
        /// The line.
        line: usize,
    },
    /// Aliases of aliases make more of it than any pipeline has.
    #[error("line {line}: its aliases stand for more than {MOST} values")]
    TooMuch {
        /// The line.
        line: usize,
    },
}

/// How many values a text may have, those of aliases counted each time.
const MOST: usize = 1_000_000;

/// A block or list that is not complete yet.
struct Open {
    anchor: usize,
    kind: Kind,
}

enum Kind {
    List(Vec<Value>),
    Block { map: Map<String, Value>, key: Option<String>, merged: Vec<Map<String, Value>> },
}

/// Reads one document. An empty one is null.
///
/// # Errors
///
/// The first line that cannot be read.
pub fn parse(text: &str) -> Result<Value, YamlError> {
    let mut open: Vec<Open> = Vec::new();
    let mut anchors: BTreeMap<usize, (Value, usize)> = BTreeMap::new();
    let (mut document, mut documents, mut values) = (Value::Null, 0_usize, 0_usize);
    for next in Parser::new_from_str(text) {
        let (event, span) =
            next.map_err(|error| YamlError::NotYaml { line: error.marker().line(), why: error.info().to_owned() })?;
        let line = span.start.line();
        let (value, anchor) = match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => continue,
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return Err(YamlError::Documents { line });
                }
                continue;
            }
            Event::MappingStart(anchor, _) => {
                no_key_stands_open(&open, line)?;
                let kind = Kind::Block { map: Map::new(), key: None, merged: Vec::new() };
                open.push(Open { anchor, kind });
                continue;
            }
            Event::SequenceStart(anchor, _) => {
                no_key_stands_open(&open, line)?;
                open.push(Open { anchor, kind: Kind::List(Vec::new()) });
                continue;
            }
            Event::MappingEnd | Event::SequenceEnd => match open.pop() {
                Some(Open { anchor, kind }) => (kind.into_value(), anchor),
                None => continue,
            },
            Event::Scalar(text, style, anchor, tag) => {
                if let Some(Open { kind: Kind::Block { key: key @ None, .. }, .. }) = open.last_mut() {
                    *key = Some(text.into_owned());
                    continue;
                }
                let plain = style == ScalarStyle::Plain && tag.is_none();
                (if plain { scalar(&text) } else { Value::String(text.into_owned()) }, anchor)
            }
            Event::Alias(anchor) => {
                no_key_stands_open(&open, line)?;
                let (value, size) = anchors.get(&anchor).cloned().unwrap_or_default();
                values += size;
                (value, 0)
            }
        };
        values += 1;
        if MOST < values {
            return Err(YamlError::TooMuch { line });
        }
        if anchor != 0 {
            anchors.insert(anchor, (value.clone(), count(&value)));
        }
        match open.last_mut() {
            None => document = value,
            Some(open) => open.kind.add(value, line)?,
        }
    }
    Ok(document)
}

/// Where a key is awaited, neither a block nor an alias may stand.
fn no_key_stands_open(open: &[Open], line: usize) -> Result<(), YamlError> {
    match open.last() {
        Some(Open { kind: Kind::Block { key: None, .. }, .. }) => Err(YamlError::Key { line }),
        Some(_) | None => Ok(()),
    }
}

impl Kind {
    fn add(&mut self, value: Value, line: usize) -> Result<(), YamlError> {
        match self {
            Self::List(items) => items.push(value),
            Self::Block { map, key, merged } => {
                let key = key.take().ok_or(YamlError::Key { line })?;
                if key == "<<" {
                    let blocks = match value {
                        Value::Array(blocks) => blocks,
                        block => vec![block],
                    };
                    for block in blocks {
                        let Value::Object(block) = block else { return Err(YamlError::Merge { line }) };
                        merged.push(block);
                    }
                } else if map.contains_key(&key) {
                    return Err(YamlError::Twice { line, key });
                } else {
                    map.insert(key, value);
                }
            }
        }
        Ok(())
    }

    fn into_value(self) -> Value {
        match self {
            Self::List(items) => Value::Array(items),
            Self::Block { mut map, key: _, merged } => {
                // What stands in the block itself wins, and of merged blocks the first.
                for (key, value) in merged.into_iter().flatten() {
                    map.entry(key).or_insert(value);
                }
                Value::Object(map)
            }
        }
    }
}

fn count(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(count).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
    }
}

/// What a scalar without quotes is.
fn scalar(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => return Value::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    let number = text.replace('_', "");
    let digits = number.trim_start_matches(['+', '-']);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Value::String(text.to_owned());
    }
    let prefixed = [("0x", 16), ("0o", 8), ("0b", 2), ("0", 8)].into_iter().find_map(|(prefix, radix)| {
        let magnitude =
            i64::from_str_radix(digits.strip_prefix(prefix).filter(|rest| !rest.is_empty())?, radix).ok()?;
        Some(if number.starts_with('-') { -magnitude } else { magnitude })
    });
    let integer = prefixed.or_else(|| number.parse().ok()).map(Number::from);
    let float = || number.parse().ok().and_then(Number::from_f64);
    integer.or_else(float).map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_are_what_concourse_makes_of_them() {
        for (text, value) in [
            ("y", json!(true)),
            ("off", json!(false)),
            ("1.10", json!(1.1)),
            ("0755", json!(493)),
            ("-0x10", json!(-16)),
            ("12345678901234567890", json!(12_345_678_901_234_567_000_u64 as f64)),
            ("2024-01-02", json!("2024-01-02")),
            ("", json!(null)),
            ("~", json!(null)),
            ("1.2.3", json!("1.2.3")),
            ("feature/1", json!("feature/1")),
            ("\"1.0\"", json!("1.0")),
            ("'yes'", json!("yes")),
            ("((name))", json!("((name))")),
            ("!!str 1", json!("1")),
            (".", json!(".")),
            ("-", json!([null])),
        ] {
            assert_eq!(parse(text), Ok(value), "{text:?}");
        }
    }

    #[test]
    fn anchors_aliases_and_merges_are_filled_in() {
        let text =
            "a: &a {x: 1, y: 2}\nb: *a\nc:\n  <<: *a\n  y: 3\nd: [*a, &t text, *t]\ne: {<<: [{z: 1}, {z: 2, w: 3}]}\n";
        assert_eq!(
            parse(text),
            Ok(json!({
                "a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 2}, "c": {"x": 1, "y": 3},
                "d": [{"x": 1, "y": 2}, "text", "text"], "e": {"z": 1, "w": 3},
            }))
        );
    }

    #[test]
    fn json_is_yaml() {
        let text = r#"{"git": {"uri": "https://h/a.git", "branch": null}, "list": [1, "2", true]}"#;
        assert_eq!(parse(text), Ok(json!({"git": {"uri": "https://h/a.git", "branch": null}, "list": [1, "2", true]})));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, message) in [
            ("a: 1\nb: 2\na: 3", "line 3: \"a\" is given a second time"),
            ("a: 1\n---\nb: 2", "line 2: a second document"),
            ("a: 1\n? [b]\n: 2", "line 2: a key is a block or a list"),
            ("a:\n  <<: text", "line 2: `<<` takes in something that is no block"),
        ] {
            assert_eq!(parse(text).map_err(|error| error.to_string()), Err(message.to_owned()), "{text:?}");
        }
        for text in ["a: [1", "a: *b", "a: \"x"] {
            assert!(matches!(parse(text), Err(YamlError::NotYaml { .. })), "{text:?}: {:?}", parse(text));
        }
        let bomb: String =
            (1..30).fold("a0: &a0 [x, x]\n".to_owned(), |text, n| format!("{text}a{n}: &a{n} [*a{0}, *a{0}]\n", n - 1));
        assert!(matches!(parse(&bomb), Err(YamlError::TooMuch { .. })));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[ab<:\\-\\[\\]{},\"'|>&*#!%@? \n\t=~0x1.]{0,60}") {
            let _ = parse(&text);
        }
    }
}
