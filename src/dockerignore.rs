//! A reader of .dockerignore, with the rules of the engine.
//!
//! The rules are those of moby's `dockerignore` and `patternmatcher` packages. Where a pattern means something there
//! that it does not say (a `+` is a regular expression's), it is read so that more files count, never fewer.

use crate::names::GitPath;

/// The rules of a .dockerignore file. The default excludes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    verdict: Verdict,
    matches: Matches,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Exclude,
    Keep,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Matches {
    Everything,
    Pattern(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Char(char),
    /// `?`: one character of a part.
    One,
    /// `*`: characters of one part.
    Part,
    /// `**` or `**/` before something: whole parts with their slashes, or nothing.
    Parts,
    /// `**` at the end: anything.
    Rest,
    /// `[…]`: a character of these ranges.
    Class(Vec<(char, char)>),
}

/// Why a line has no tokens.
enum Odd {
    /// The engine refuses the whole file.
    Refused,
    /// The engine reads it as a regular expression of a kind that is not followed here.
    Uncertain,
}

impl Ignore {
    /// Reads the rules.
    ///
    /// A file that the engine would refuse excludes nothing. A line that cannot be judged excludes nothing either,
    /// and with `!` keeps everything.
    pub fn parse(bytes: &[u8]) -> Self {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut rules = Vec::new();
        for line in bytes.split(|&b| b == b'\n') {
            // Before white space is trimmed, as the engine does: " #a" is a pattern.
            if line.starts_with(b"#") {
                continue;
            }
            let line = String::from_utf8_lossy(line);
            let line = line.trim();
            let (verdict, text) = match line.strip_prefix('!') {
                Some(rest) => (Verdict::Keep, rest.trim()),
                None => (Verdict::Exclude, line),
            };
            if text.is_empty() {
                match verdict {
                    Verdict::Exclude => continue,
                    Verdict::Keep => return Self::default(),
                }
            }
            let matches = match tokens(&clean(text)) {
                Ok(tokens) => Matches::Pattern(tokens),
                Err(Odd::Refused) => return Self::default(),
                Err(Odd::Uncertain) => match verdict {
                    Verdict::Exclude => continue,
                    Verdict::Keep => Matches::Everything,
                },
            };
            rules.push(Rule { verdict, matches });
        }
        Self { rules }
    }

    /// Whether a path, relative to the context, is excluded: the last rule that matches it, or a directory above it, decides.
    pub fn excludes(&self, path: &GitPath) -> bool {
        let text = String::from_utf8_lossy(path.as_bytes());
        let whole: Vec<char> = text.chars().collect();
        let mut ends: Vec<usize> = (0..whole.len()).filter(|&at| whole[at] == '/').collect();
        ends.push(whole.len());
        let matches = |rule: &Rule| match &rule.matches {
            Matches::Everything => true,
            Matches::Pattern(tokens) => ends.iter().any(|&end| matches_tokens(tokens, &whole[..end])),
        };
        self.rules.iter().rev().find(|rule| matches(rule)).is_some_and(|rule| rule.verdict == Verdict::Exclude)
    }
}

impl Ignore {
    /// Whether a rule may keep something below an excluded path: then that cannot be left out as a whole.
    pub fn may_keep_below(&self, path: &GitPath) -> bool {
        let below = format!("{}/", String::from_utf8_lossy(path.as_bytes()));
        self.rules.iter().filter(|rule| rule.verdict == Verdict::Keep).any(|rule| match &rule.matches {
            Matches::Everything => true,
            Matches::Pattern(tokens) => {
                let plain: String =
                    tokens.iter().map_while(|token| if let Token::Char(c) = token { Some(*c) } else { None }).collect();
                // A pattern without wildcards must lie below; one with them may.
                plain.starts_with(&below) || (plain.chars().count() < tokens.len() && below.starts_with(&plain))
            }
        })
    }
}

/// Go's `filepath.Clean`, and without the leading slash.
fn clean(text: &str) -> String {
    let rooted = text.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            _ => parts.push(part),
        }
    }
    match parts.join("/") {
        // What is left matches no path, as with the engine.
        empty if empty.is_empty() => ".".to_owned(),
        cleaned => cleaned,
    }
}

fn tokens(pattern: &str) -> Result<Vec<Token>, Odd> {
    let mut tokens = Vec::new();
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        let token = match c {
            '*' if rest.next_if_eq(&'*').is_some() => {
                let _ = rest.next_if_eq(&'/');
                if rest.peek().is_none() { Token::Rest } else { Token::Parts }
            }
            '*' => Token::Part,
            '?' => Token::One,
            '\\' => Token::Char(rest.next().ok_or(Odd::Refused)?),
            '[' => class(&mut rest)?,
            // Go's regular expressions, which the engine makes of a pattern, give these a meaning of their own.
            '+' | '(' | ')' | '{' | '}' | '|' | '^' | ']' | char::REPLACEMENT_CHARACTER => return Err(Odd::Uncertain),
            _ => Token::Char(c),
        };
        tokens.push(token);
    }
    Ok(tokens)
}

fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, Odd> {
    let mut ranges = Vec::new();
    let mut uncertain = false;
    loop {
        let mut one = |uncertain: &mut bool| match rest.next() {
            None => Err(Odd::Refused),
            Some('\\') => {
                // An escaped letter is a class of its own in a regular expression.
                *uncertain = true;
                rest.next().ok_or(Odd::Refused)
            }
            Some(c) => {
                *uncertain |= matches!(c, '^' | '[' | '/' | ':' | '&' | '~');
                Ok(c)
            }
        };
        let low = one(&mut uncertain)?;
        if low == ']' {
            break if ranges.is_empty() {
                Err(Odd::Refused)
            } else if uncertain {
                Err(Odd::Uncertain)
            } else {
                Ok(Token::Class(ranges))
            };
        }
        if low == '-' {
            return Err(Odd::Refused);
        }
        let high = if rest.next_if_eq(&'-').is_some() {
            match rest.next() {
                None | Some(']' | '-') => return Err(Odd::Refused),
                Some('\\') => {
                    uncertain = true;
                    rest.next().ok_or(Odd::Refused)?
                }
                Some(c) => c,
            }
        } else {
            low
        };
        if high < low || (low..=high).contains(&'/') {
            uncertain = true;
        }
        ranges.push((low, high));
    }
}

fn matches_tokens(tokens: &[Token], text: &[char]) -> bool {
    // The positions of the text that the tokens so far can have led to: linear in tokens × text, whatever the pattern.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for token in tokens {
        let mut next = vec![false; text.len() + 1];
        let mut step = |at: usize, fits: bool| {
            if fits {
                next[at + 1] = true;
            }
        };
        match token {
            Token::Char(c) => (0..text.len()).for_each(|at| step(at, reached[at] && text[at] == *c)),
            Token::One => (0..text.len()).for_each(|at| step(at, reached[at] && text[at] != '/')),
            Token::Class(ranges) => (0..text.len()).for_each(|at| {
                step(at, reached[at] && ranges.iter().any(|(low, high)| (*low..=*high).contains(&text[at])));
            }),
            Token::Part => {
                for at in 0..=text.len() {
                    next[at] = reached[at] || (at > 0 && next[at - 1] && text[at - 1] != '/');
                }
            }
            Token::Parts => {
                let mut begun = false;
                for at in 0..=text.len() {
                    next[at] = reached[at] || (begun && text[at - 1] == '/');
                    begun |= reached[at];
                }
            }
            Token::Rest => {
                let mut begun = false;
                for at in 0..=text.len() {
                    begun |= reached[at];
                    next[at] = begun;
                }
            }
        }
        reached = next;
    }
    reached[text.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_may_keep_what_lies_below_an_excluded_path() {
        for (rules, path, expected) in [
            ("*\n!vendor/lib/src", "vendor/lib", true),
            ("*\n!vendor/lib/src", "vendor", true),
            ("*\n!vendor/lib/src", "vendor/li", false),
            ("*\n!vendor/library", "vendor/lib", false),
            ("*\n!**/*.c", "vendor/lib", true),
            ("*\n!vendor/*/x", "vendor/lib", true),
            ("*\n!other/*", "vendor/lib", false),
            ("vendor", "vendor/lib", false),
        ] {
            assert_eq!(
                Ignore::parse(rules.as_bytes()).may_keep_below(&GitPath::new(path)),
                expected,
                "{rules:?} {path}"
            );
        }
    }

    #[test]
    fn patterns_exclude_what_the_engine_excludes() {
        // The file, the paths that it excludes, and those that it keeps.
        for (file, excluded, kept) in [
            ("", "", "a a/b"),
            ("# comment\n*/temp*", "x/temporary.txt x/temp x/temp/y", "temp.txt x/y/temp # comment"),
            ("*/*/temp*", "x/y/temporary.txt", "x/temp"),
            ("temp?", "tempa tempb/x", "temp tempab x/tempa temp/"),
            ("*.md\n!README.md", "CHANGES.md", "README.md docs/x.md"),
            ("*.md\n!README*.md\nREADME-secret.md", "a.md README-secret.md", "README.md README-a.md"),
            ("*.md\nREADME-secret.md\n!README*.md", "a.md", "README-secret.md"),
            ("**/*.go", "a.go x/a.go x/y/a.go", "a.god"),
            ("**", "a a/b", ""),
            ("*\n!src", "a b/c", "src src/x src/x/y"),
            ("*\n!src/*.rs", "a src src/x.c", "src/x.rs"),
            ("src\n!src/keep\nsrc/keep/not", "src/a src/keep/not src/keep/not/x", "src/keep src/keep/x"),
            ("/foo/bar/", "foo/bar foo/bar/x", "x/foo/bar foo"),
            ("a/**/z", "a/z a/b/z a/b/c/z a/b/z/x", "az a/zz"),
            ("a/**", "a/b a/b/c", "b"),
            ("**/target/**", "target/x a/target/b/c", "targets/x"),
            ("./a//b/../c ", "a/c", "a/b"),
            ("../a\n/../b", "b", "a"),
            (".", "", "a"),
            ("[a-c]x", "ax cx", "dx"),
            ("\\*a", "*a", "ba"),
            ("a.b", "a.b", "axb"),
            ("\u{feff}a\r\nb\r\n", "a b", "c"),
            (" #a\n  b  ", "#a b", "a"),
            ("! a\n*\n!  b", "a c", "b"),
            (".git", ".git .git/config", ".gitignore"),
        ] {
            let ignore = Ignore::parse(file.as_bytes());
            for path in excluded.split_whitespace() {
                assert!(ignore.excludes(&GitPath::new(path)), "{file:?} must exclude {path:?}");
            }
            for path in kept.split_whitespace() {
                assert!(!ignore.excludes(&GitPath::new(path)), "{file:?} must keep {path:?}");
            }
        }
    }

    #[test]
    fn what_the_engine_refuses_excludes_nothing() {
        for file in ["a\n!", "a\n[", "a\n[]", "a\n[a-]", "a\nb\\", "a\n[-b]"] {
            assert_eq!(Ignore::parse(file.as_bytes()), Ignore::default(), "{file:?}");
        }
    }

    #[test]
    fn what_cannot_be_judged_keeps() {
        for file in ["c++", "a|b", "[^a]", "(a)", "*\n!c++", "*\n![^b]x", "*\n!{a}"] {
            let ignore = Ignore::parse(file.as_bytes());
            for path in ["a", "b", "c++", "ab", "x/y"] {
                assert!(!ignore.excludes(&GitPath::new(path)), "{file:?} must keep {path:?}");
            }
        }
    }

    #[test]
    fn a_long_pattern_is_matched_in_time() {
        let ignore = Ignore::parse("*a".repeat(300).as_bytes());
        assert!(!ignore.excludes(&GitPath::new("a".repeat(299))));
    }
}
