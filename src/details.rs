//! A reader of `image.details`: `KEY=value` lines.
//!
//! Blank lines and lines that begin with `#` say nothing. A key has letters, digits, `_`, `.`, `-` and `/`; its
//! value is everything after the first `=`, without white space at both ends. Quotes are part of the value, as in
//! Docker's `--env-file`: nothing here runs through a shell, so nothing needs quoting.

use std::collections::BTreeMap;

use crate::names::{BadName, Tag};

/// What `image.details` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Details {
    /// `NAME`: the last part of the image's repository.
    pub name: Option<String>,
    /// `VERSION`: a tag that is never moved.
    pub version: Option<Tag>,
    /// Every other key: a label of the image.
    pub labels: BTreeMap<String, String>,
}

/// Why a text is no `image.details`. Lines are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DetailsError {
    /// The bytes of a line are no UTF-8.
    #[error("line {line} is not UTF-8")]
    NotText {
        /// The line.
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
    /// A key is empty or has a character that a key may not have.
    #[error("line {line}: the key {key:?} is not made of letters, digits, '_', '.', '-' and '/'")]
    Key {
        /// The line.
        line: usize,
        /// The key.
        key: String,
    },
    /// A key is given twice.
    #[error("line {line}: the key {key:?} was given before, in line {first}")]
    Twice {
        /// The line.
        line: usize,
        /// The key.
        key: String,
        /// Where it was given first.
        first: usize,
    },
    /// `NAME` is empty, or is no part of a repository's name.
    #[error(
        "line {line}: NAME {name:?} is not one part of a repository's name: lower-case letters and digits, divided by '.', '_' or '-'"
    )]
    Name {
        /// The line.
        line: usize,
        /// The name.
        name: String,
    },
    /// `VERSION` is no tag.
    #[error("line {line}: VERSION cannot be a tag")]
    Version {
        /// The line.
        line: usize,
        /// Why not.
        #[source]
        source: BadName,
    },
}

/// Reads `image.details`.
///
/// # Errors
///
/// The first line that cannot be read, or gives a key again.
pub fn parse(bytes: &[u8]) -> Result<Details, DetailsError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut details = Details::default();
    let mut lines = BTreeMap::new();
    for (index, text) in bytes.split(|&b| b == b'\n').enumerate() {
        let line = index + 1;
        let text = std::str::from_utf8(text).map_err(|_| DetailsError::NotText { line })?.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let Some((key, value)) = text.split_once('=') else {
            return Err(DetailsError::NoValue { line, text: text.to_owned() });
        };
        let (key, value) = (key.trim_end(), value.trim_start());
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-/".contains(&b)) {
            return Err(DetailsError::Key { line, key: key.to_owned() });
        }
        if let Some(first) = lines.insert(key.to_owned(), line) {
            return Err(DetailsError::Twice { line, key: key.to_owned(), first });
        }
        match key {
            "NAME" => details.name = Some(name(line, value)?),
            "VERSION" => {
                details.version = Some(value.parse().map_err(|source| DetailsError::Version { line, source })?);
            }
            _ => {
                details.labels.insert(key.to_owned(), value.to_owned());
            }
        }
    }
    Ok(details)
}

fn name(line: usize, text: &str) -> Result<String, DetailsError> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = text.bytes().next().is_some_and(inner) && text.bytes().next_back().is_some_and(inner);
    if ends && text.bytes().all(|b| inner(b) || b"._-".contains(&b)) {
        Ok(text.to_owned())
    } else {
        Err(DetailsError::Name { line, name: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_read_as_they_stand() {
        let text = b"\xef\xbb\xbf# the image\r\nNAME=app-ci\r\n\r\nVERSION = 1.2.3\nmaintainer=\"A = B\" \nempty=\na.b/c-d_e=x#y";
        let details = parse(text).expect("a good text");
        assert_eq!(details.name.as_deref(), Some("app-ci"));
        assert_eq!(details.version.expect("it is given").as_str(), "1.2.3");
        let labels: Vec<_> = details.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(labels, [("a.b/c-d_e", "x#y"), ("empty", ""), ("maintainer", "\"A = B\"")]);
    }

    #[test]
    fn a_bad_line_is_refused_and_the_message_says_which() {
        for (text, message) in [
            ("A=1\nB", "line 2 has no '=': \"B\""),
            ("=1", "line 1: the key \"\" is not made of letters, digits, '_', '.', '-' and '/'"),
            ("a b=1", "line 1: the key \"a b\" is not made of letters, digits, '_', '.', '-' and '/'"),
            ("A=1\n\nA=2", "line 3: the key \"A\" was given before, in line 1"),
            (
                "NAME=a/b",
                "line 1: NAME \"a/b\" is not one part of a repository's name: lower-case letters and digits, divided by '.', '_' or '-'",
            ),
            ("VERSION=", "line 1: VERSION cannot be a tag"),
            ("VERSION=-x", "line 1: VERSION cannot be a tag"),
        ] {
            assert_eq!(parse(text.as_bytes()).expect_err("it is bad").to_string(), message, "{text:?}");
        }
        assert_eq!(parse(b"A=\xff").expect_err("it is bad").to_string(), "line 1 is not UTF-8");
    }
}
