//! Which entries of the context the engine asks for: its patterns, with the meaning that its file sync gives them.
//!
//! Three lists come with a request. `followpaths` are the sources of COPY and ADD, followed through symbolic links;
//! with `include-patterns` they say what is sent (both empty: everything). `exclude-patterns` are the lines of the
//! ignore file. Fact: tonistiigi/fsutil `FollowLinks` and `Walk`, as of BuildKit 0.8.

use std::collections::{BTreeMap, BTreeSet};

use crate::clients::context::{Context, ContextEntry, ContextKind};
use crate::dockerignore::Ignore;
use crate::names::GitPath;

/// What the engine asks of one directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Wanted {
    /// Paths that are wanted, and whatever their symbolic links lead to.
    pub followed: Vec<Vec<u8>>,
    /// Paths that are wanted as they are.
    pub included: Vec<Vec<u8>>,
    /// Lines of an ignore file.
    pub excluded: Vec<Vec<u8>>,
}

impl Wanted {
    /// The entries that are asked for, counted or not, in the order of the context.
    pub(super) fn of<'a>(&self, context: &'a Context) -> Vec<&'a ContextEntry> {
        let ignore = Ignore::parse(&self.excluded.join(&b'\n'));
        let patterns = self.patterns(context);
        let wanted = |entry: &&ContextEntry| {
            patterns.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| covers(pattern, &entry.path)))
                && !ignore.excludes(&entry.path)
        };
        context.entries().iter().filter(wanted).collect()
    }

    /// The patterns of which one must cover an entry; `None` when everything is asked for.
    fn patterns(&self, context: &Context) -> Option<BTreeSet<GitPath>> {
        if self.followed.is_empty() && self.included.is_empty() {
            return None;
        }
        let mut links = Links { tree: Tree::new(context), resolved: BTreeSet::new() };
        for path in &self.followed {
            links.follow(clean(path));
        }
        links.resolved.extend(self.included.iter().map(|path| clean(path)));
        // A path that leads to the root itself asks for everything.
        (!links.resolved.contains(&GitPath::new(""))).then_some(links.resolved)
    }
}

/// The links and the names in each directory of a context.
struct Tree<'a> {
    links: BTreeMap<&'a GitPath, &'a [u8]>,
    names: BTreeMap<GitPath, BTreeSet<&'a [u8]>>,
}

impl<'a> Tree<'a> {
    fn new(context: &'a Context) -> Self {
        let mut tree = Self { links: BTreeMap::new(), names: BTreeMap::new() };
        for entry in context.entries() {
            if let ContextKind::Symlink { target } = &entry.kind {
                tree.links.insert(&entry.path, target);
            }
            let mut directory = GitPath::new("");
            for part in entry.path.parts() {
                let below = directory.join(part);
                tree.names.entry(directory).or_default().insert(part);
                directory = below;
            }
        }
        tree
    }
}

struct Links<'a> {
    tree: Tree<'a>,
    resolved: BTreeSet<GitPath>,
}

/// How many links may lead to each other, as for the system itself: more is a circle.
const MOST_LINKS: usize = 40;

impl Links<'_> {
    /// Adds a path to what is wanted: up to its first symbolic link, and then what that leads to.
    fn follow(&mut self, path: GitPath) {
        let mut seen = BTreeSet::from([path.clone()]);
        let mut ahead = vec![(path, 0)];
        while let Some((path, links)) = ahead.pop() {
            for target in self.step(&path) {
                if links < MOST_LINKS && seen.insert(target.clone()) {
                    ahead.push((target, links + 1));
                }
            }
        }
    }

    /// Adds a path up to its first link, and answers where that leads, with the rest of the path below it.
    fn step(&mut self, path: &GitPath) -> Vec<GitPath> {
        let parts: Vec<&[u8]> = path.parts().collect();
        let mut current = GitPath::new("");
        for (at, part) in parts.iter().enumerate() {
            let targets = self.targets(&current, part);
            current = current.join(part);
            if !targets.is_empty() {
                let rest = parts[at + 1..].join(&b'/');
                self.resolved.insert(current);
                return targets.iter().map(|target| clean(target.join(&rest).as_bytes())).collect();
            }
        }
        self.resolved.insert(current);
        Vec::new()
    }

    /// Where the links lead that this part of a path names; a part with wildcards may name several.
    fn targets(&self, directory: &GitPath, part: &[u8]) -> Vec<GitPath> {
        let target = |name: &[u8]| {
            let link = self.tree.links.get(&directory.join(name))?;
            Some(if link.starts_with(b"/") { clean(link) } else { clean(directory.join(link).as_bytes()) })
        };
        if !part.iter().any(|b| b"*?[\\".contains(b)) {
            return target(part).into_iter().collect();
        }
        let names = self.tree.names.get(directory).into_iter().flatten();
        names.filter(|name| matches_part(part, name)).filter_map(|name| target(name)).collect()
    }
}

/// Whether a pattern covers a path: it matches the path, or a directory above it.
fn covers(pattern: &GitPath, path: &GitPath) -> bool {
    let mut parts = path.parts();
    pattern.parts().all(|pattern| parts.next().is_some_and(|part| matches_part(pattern, part)))
}

/// A path without `.`, `..` and empty parts; nothing leads above the root.
fn clean(path: &[u8]) -> GitPath {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    GitPath::new(parts.join(&b'/'))
}

/// Go's `filepath.Match` for one part of a path. A pattern that is malformed matches nothing, as with the engine.
fn matches_part(pattern: &[u8], name: &[u8]) -> bool {
    // Where to go on when a later byte does not fit: after the last `*`, one byte further.
    let (mut p, mut n) = (0, 0);
    let mut again: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            again = Some((p + 1, n + 1));
            p += 1;
            continue;
        }
        if p == pattern.len() && n == name.len() {
            return true;
        }
        let fits = (p < pattern.len() && n < name.len()).then(|| one(&pattern[p..], &name[n..])).flatten();
        match (fits, again) {
            (Some((pattern_bytes, name_bytes)), _) => {
                p += pattern_bytes;
                n += name_bytes;
            }
            (None, Some((star, next))) if next <= name.len() => {
                again = Some((star, next + 1));
                (p, n) = (star, next);
            }
            (None, _) => return false,
        }
    }
}

/// Matches one character, `?` or class; how many bytes of the pattern and of the name that took.
fn one(pattern: &[u8], name: &[u8]) -> Option<(usize, usize)> {
    match pattern[0] {
        b'?' => Some((1, character(name).1)),
        b'\\' => (pattern.get(1)? == &name[0]).then_some((2, 1)),
        b'[' => {
            let (c, name_bytes) = character(name);
            let (holds, pattern_bytes) = class(pattern, c)?;
            holds.then_some((pattern_bytes, name_bytes))
        }
        byte => (byte == name[0]).then_some((1, 1)),
    }
}

/// Whether the class `[…]` at the beginning of the pattern holds a character, and how long it is.
fn class(pattern: &[u8], c: u32) -> Option<(bool, usize)> {
    let mut at = 1;
    let negated = pattern.get(at) == Some(&b'^');
    at += usize::from(negated);
    let (mut holds, begin) = (false, at);
    while pattern.get(at)? != &b']' || at == begin {
        let low = class_character(pattern, &mut at)?;
        let high = if pattern.get(at) == Some(&b'-') {
            at += 1;
            class_character(pattern, &mut at)?
        } else {
            low
        };
        holds |= (low..=high).contains(&c);
    }
    Some((holds != negated, at + 1))
}

fn class_character(pattern: &[u8], at: &mut usize) -> Option<u32> {
    match pattern.get(*at)? {
        b'-' | b']' => return None,
        b'\\' => *at += 1,
        _ => {}
    }
    let rest = pattern.get(*at..).filter(|rest| !rest.is_empty())?;
    let (c, bytes) = character(rest);
    *at += bytes;
    Some(c)
}

/// The first character of a text that is not empty, and its length; a byte that is no UTF-8 stands for itself.
fn character(text: &[u8]) -> (u32, usize) {
    let first = text.utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next());
    first.map_or((u32::from(char::REPLACEMENT_CHARACTER), 1), |c| (u32::from(c), c.len_utf8()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::context::Share;
    use crate::names::ObjectId;

    /// A context of paths; `a->b` is a link.
    fn context(paths: &str) -> Context {
        let entry = |text: &str| {
            let (path, kind) = match text.split_once("->") {
                Some((path, target)) => (path, ContextKind::Symlink { target: target.into() }),
                None => (text, ContextKind::File { executable: false, size: 0 }),
            };
            let id = ObjectId::from_bytes([0; 20]);
            ContextEntry { path: GitPath::new(path), kind, id, share: Share::Counted, on_disk: path.into() }
        };
        Context::new(paths.split_whitespace().map(entry).collect())
    }

    fn list(text: &str) -> Vec<Vec<u8>> {
        text.split_whitespace().map(|part| part.as_bytes().to_vec()).collect()
    }

    #[test]
    fn what_is_asked_for_is_what_the_engine_means() {
        for (paths, followed, excluded, wanted) in [
            ("a b/c .git/config", "", "", "a b/c"),
            ("a b/c", "b", "", "b/c"),
            ("a b/c b.txt", "b", "", "b/c"),
            ("a b/c", "nosuch", "", ""),
            ("a.txt b.txt c.md d/e.txt", "*.txt", "", "a.txt b.txt"),
            ("x/a.c y/a.c y/b.h", "*/a.c", "", "x/a.c y/a.c"),
            ("x/a.c y/a.c z", "[xz]*", "", "x/a.c z"),
            ("l->d/f d/f d/g", "l", "", "d/f l"),
            ("l->d d/f d/g e", "l/f", "", "d/f l"),
            ("l->/d d/f e", "l/f", "", "d/f l"),
            ("l->../../d d/f e", "l", "", "d/f l"),
            ("l->m m->l e", "l", "", "l m"),
            ("l1->a l2->b a b c", "l*", "", "a b l1 l2"),
            ("l->. a", "l", "", "a l"),
            ("l->d/. d/l2->../e e/f g", "l/l2", "", "d/l2 e/f l"),
            ("l->l/x a", "l", "", "l"),
            ("src/a src/b doc/c", "src", "src/b", "src/a"),
            ("src/a src/b doc/c", "", "* !src/a", "src/a"),
            ("a.o b.c d/e.o", "", "**/*.o", "b.c"),
            ("a/b/c a/b/d", "a", "a/b !a/b/d", "a/b/d"),
        ] {
            let context = context(paths);
            let asked = Wanted { followed: list(followed), included: Vec::new(), excluded: list(excluded) };
            let found: Vec<_> = asked.of(&context).iter().map(|entry| entry.path.to_string()).collect();
            assert_eq!(found.join(" "), wanted, "{followed:?} without {excluded:?} of {paths:?}");
        }
    }

    #[test]
    fn one_part_of_a_path_is_matched_as_go_matches_it() {
        for (pattern, matching, other) in [
            ("*", "a ab", ""),
            ("a*b*c", "abc aXbXc abbcc", "ab acb"),
            ("?", "a é", "ab"),
            ("[a-c]x", "ax cx", "dx x"),
            ("[^a]", "b", "a"),
            ("\\*", "*", "a"),
            ("[", "", "["),
            ("[]a]", "", "] a"),
            ("a[", "", "a a["),
        ] {
            for name in matching.split_whitespace() {
                assert!(matches_part(pattern.as_bytes(), name.as_bytes()), "{pattern} must match {name}");
            }
            for name in other.split_whitespace() {
                assert!(!matches_part(pattern.as_bytes(), name.as_bytes()), "{pattern} must not match {name}");
            }
        }
    }
}
