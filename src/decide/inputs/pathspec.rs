//! The patterns of `paths` and `ignore_paths`, as the git resource hands them to git.

use crate::names::GitPath;

/// One pattern: a path with everything below it, or a pattern whose `*` and `?` match slashes too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pathspec {
    text: Vec<u8>,
    /// A slash at the end: only what lies below, not a file of that name.
    below_only: bool,
    /// `None`: no wildcard in it.
    pieces: Option<Vec<Piece>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Byte(u8),
    One,
    Any,
    /// For every byte, whether it fits.
    Class(Vec<bool>),
    /// An open class: git matches nothing with it.
    Never,
}

impl Pathspec {
    /// Reads a pattern; what is wrong with it, as the end of a sentence.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("is empty; \".\" is the whole repository");
        }
        if text.starts_with(':') {
            return Err("begins with ':', which is git's sign for magic; exclude with `source.build.ignore_paths`");
        }
        if text.starts_with('/') {
            return Err("begins with '/'; paths are relative to the root of the repository");
        }
        if text.split('/').any(|part| part == "..") {
            return Err("has '..'; paths stay inside the repository");
        }
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        let mut text_ = parts.join("/").into_bytes();
        let below_only = text.ends_with('/') && !text_.is_empty();
        let wild = text_.iter().any(|b| b"*?[\\".contains(b));
        if below_only && wild {
            text_.push(b'/');
        }
        let pieces = wild.then(|| pieces(&text_));
        Ok(Self { text: text_, below_only: below_only && !wild, pieces })
    }

    /// Whether it names this path.
    pub(super) fn matches(&self, path: &GitPath) -> bool {
        let as_it_stands = path.is_within(&GitPath::new(self.text.clone()))
            && !(self.below_only && path.as_bytes() == self.text.as_slice());
        as_it_stands || self.pieces.as_ref().is_some_and(|pieces| matches_pieces(pieces, path.as_bytes()))
    }
}

impl Pathspec {
    /// Whether what it names lies below this path, which then must be a directory or a submodule.
    pub(super) fn lies_below(&self, path: &GitPath) -> bool {
        self.pieces.is_none()
            && self.text.len() > path.as_bytes().len()
            && GitPath::new(self.text.clone()).is_within(path)
    }
}

fn pieces(text: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let (piece, length) = match text[at] {
            b'*' => (Piece::Any, 1),
            b'?' => (Piece::One, 1),
            b'\\' => text.get(at + 1).map_or((Piece::Never, 1), |byte| (Piece::Byte(*byte), 2)),
            b'[' => class(&text[at..]).unwrap_or((Piece::Never, text.len() - at)),
            byte => (Piece::Byte(byte), 1),
        };
        pieces.push(piece);
        at += length;
    }
    pieces
}

/// Reads a class at the start of the text: the piece, and its length.
fn class(text: &[u8]) -> Option<(Piece, usize)> {
    let negated = matches!(text.get(1), Some(b'!' | b'^'));
    let first = if negated { 2 } else { 1 };
    let mut at = first;
    let mut fits = vec![false; 256];
    loop {
        let byte = *text.get(at)?;
        if byte == b']' && at > first {
            return Some((Piece::Class(fits.iter().map(|fits| *fits != negated).collect()), at + 1));
        }
        if byte == b'[' && text.get(at + 1) == Some(&b':') {
            let rest = &text[at + 2..];
            let end = rest.windows(2).position(|two| two == b":]")?;
            let is_named = named_class(&rest[..end])?;
            (0..=u8::MAX).filter(is_named).for_each(|byte| fits[usize::from(byte)] = true);
            at += end + 4;
            continue;
        }
        let (low, after) = literal(text, at)?;
        let is_range = text.get(after) == Some(&b'-') && text.get(after + 1).is_some_and(|&b| b != b']');
        let (high, after) = if is_range { literal(text, after + 1)? } else { (low, after) };
        (low..=high).for_each(|byte| fits[usize::from(byte)] = true);
        at = after;
    }
}

fn literal(text: &[u8], at: usize) -> Option<(u8, usize)> {
    match text.get(at)? {
        b'\\' => Some((*text.get(at + 1)?, at + 2)),
        byte => Some((*byte, at + 1)),
    }
}

fn named_class(name: &[u8]) -> Option<fn(&u8) -> bool> {
    Some(match name {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |b| matches!(b, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |b| matches!(b, b' '..=b'~'),
        b"punct" => u8::is_ascii_punctuation,
        b"space" => |b| b.is_ascii_whitespace() || *b == 0x0b,
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    })
}

fn matches_pieces(pieces: &[Piece], text: &[u8]) -> bool {
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for piece in pieces {
        let mut next = vec![false; text.len() + 1];
        for at in 0..=text.len() {
            if *piece == Piece::Any {
                next[at] = reached[at] || (at > 0 && next[at - 1]);
            } else if reached[at] && text.get(at).is_some_and(|byte| fits(piece, *byte)) {
                next[at + 1] = true;
            }
        }
        reached = next;
    }
    reached[text.len()]
}

fn fits(piece: &Piece, byte: u8) -> bool {
    match piece {
        Piece::Byte(wanted) => *wanted == byte,
        Piece::One | Piece::Any => true,
        Piece::Class(fits) => fits[usize::from(byte)],
        Piece::Never => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_what_git_names() {
        for (pattern, named, others) in [
            (".", "a a/b", ""),
            ("a", "a a/b a/b/c", "ab b/a"),
            ("./a/", "a/b", "a ab"),
            ("a/b", "a/b a/b/c", "a a/bc"),
            ("*.md", "x.md a/b/x.md", "x.mdx"),
            ("a/*.md", "a/x.md a/b/x.md", "x.md"),
            ("a/**/x", "a/b/x a/b/c/x", "a/x"),
            ("a?", "ab", "a abc ab/c"),
            ("a?b", "a/b axb", "ab"),
            ("d*/", "", "d dir d/x dir/x"),
            ("[a-c]*", "a b/c", "d"),
            ("[!a]x", "bx", "ax"),
            ("[^a]x", "bx", "ax"),
            ("[]]x", "]x", "x"),
            ("[[:digit:]-]x", "1x -x", "ax"),
            ("\\*a", "*a", "ba"),
            ("[a", "[a [a/b", "a"),
        ] {
            let pathspec = Pathspec::parse(pattern).expect("a good pattern");
            for path in named.split_whitespace() {
                assert!(pathspec.matches(&GitPath::new(path)), "{pattern:?} names {path:?}");
            }
            for path in others.split_whitespace() {
                assert!(!pathspec.matches(&GitPath::new(path)), "{pattern:?} does not name {path:?}");
            }
        }
    }

    #[test]
    fn what_stands_where_a_directory_is_named_is_above_it() {
        let below = |pattern: &str, path: &str| {
            Pathspec::parse(pattern).expect("a good pattern").lies_below(&GitPath::new(path))
        };
        assert!(below("vendor/lib/src", "vendor/lib") && below("vendor/lib/", "vendor"));
        assert!(!below("vendor/lib", "vendor/lib") && !below("vendor/lib", "vendor/li") && !below(".", "vendor"));
        assert!(!below("vendor/*", "vendor"), "a wildcard is not followed");
    }

    #[test]
    fn what_is_no_plain_path_is_refused() {
        for pattern in ["", ":!a", ":(glob)a", "/a", "../a", "a/../b"] {
            assert!(Pathspec::parse(pattern).is_err(), "{pattern:?}");
        }
    }
}
