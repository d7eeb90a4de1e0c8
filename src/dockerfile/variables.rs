//! The variables of a Dockerfile, as far as they are certain.

use std::collections::BTreeMap;

/// What a variable has: `None` is a value that is not known.
type Value = Option<String>;

/// Set by the engine in every Dockerfile; which value it has there is not ours to say.
const PREDEFINED: [&str; 9] = [
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETARCH",
    "TARGETVARIANT",
    "TARGETSTAGE",
];

/// The variables of one stage.
///
/// Fact: of an ENV and an ARG of one name Docker's documentation lets the ENV win, its 20.10 whichever comes last.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    env: BTreeMap<String, Value>,
    args: BTreeMap<String, Value>,
    /// An ARG or ENV could not be read, so nothing is certain after it.
    lost: bool,
}

/// The variables before the first stage, of the stage that is read, and of the named stages before it.
pub(super) struct Scopes<'a> {
    build_args: &'a BTreeMap<String, String>,
    /// What the engine sets for the platform that is built for, where it is known. Only FROM sees it here.
    platform: BTreeMap<&'static str, String>,
    global: Scope,
    stages: BTreeMap<String, Scope>,
    current: Option<(Option<String>, Scope)>,
}

impl<'a> Scopes<'a> {
    pub(super) fn new(build_args: &'a BTreeMap<String, String>) -> Self {
        let platform = BTreeMap::new();
        Self { build_args, platform, global: Scope::default(), stages: BTreeMap::new(), current: None }
    }

    /// The same for one platform, such as `linux/arm64`. The engine may complete or shorten its variant.
    pub(super) fn for_platform(build_args: &'a BTreeMap<String, String>, platform: &str) -> Self {
        let values = ["TARGETOS", "TARGETARCH"].into_iter().zip(platform.split('/').map(str::to_owned));
        let platform = values.filter(|(name, _)| !build_args.contains_key(*name)).collect();
        Self { platform, ..Self::new(build_args) }
    }

    /// A stage begins. It has the ENVs of the stage that it is based on; an ARG before the first FROM must be declared
    /// again, and whether one of the base is seen depends on the frontend's release, so it is not known.
    pub(super) fn begin_stage(&mut self, base: &str, name: Option<&str>, escape: char) {
        self.end_stage();
        let base = match self.expand(base, escape) {
            Ok(base) => self.stages.get(&base.to_lowercase()).cloned().unwrap_or_default(),
            // It may be any of the stages, with ENVs that win over the ARGs of this one.
            Err(_) => Scope { lost: !self.stages.is_empty(), ..Scope::default() },
        };
        let scope = Scope { args: BTreeMap::new(), ..base };
        self.current = Some((name.map(str::to_lowercase), scope));
    }

    /// Nothing is certain any more in this stage, and in those that are based on it.
    pub(super) fn lose(&mut self) {
        self.scope().lost = true;
    }

    fn end_stage(&mut self) {
        if let Some((Some(name), scope)) = self.current.take() {
            self.stages.insert(name, scope);
        }
    }

    fn scope(&mut self) -> &mut Scope {
        match &mut self.current {
            Some((_, scope)) => scope,
            None => &mut self.global,
        }
    }

    /// `ARG NAME[=default] …`
    pub(super) fn arg(&mut self, text: &str, escape: char) {
        let Some(words) = words(text, escape) else {
            self.scope().lost = true;
            return;
        };
        for word in &words {
            let (name, default) = match word.split_once('=') {
                Some((name, default)) => (name, Some(default)),
                None => (word.as_str(), None),
            };
            let value = match default {
                None if self.current.is_none() && self.platform.contains_key(name) => self.platform.get(name).cloned(),
                _ if PREDEFINED.contains(&name) => None,
                _ if self.build_args.contains_key(name) => self.build_args.get(name).cloned(),
                // Whether it sees the names before it in its own instruction is not certain.
                Some(default) if words.len() > 1 && default.contains('$') => None,
                Some(default) => self.expand(default, escape).ok(),
                None if self.current.is_some() && !self.global.lost => self.global.args.get(name).cloned().flatten(),
                None => None,
            };
            self.scope().args.insert(name.to_owned(), value);
        }
    }

    /// `ENV NAME=value …`, or in the old form `ENV NAME value`.
    pub(super) fn env(&mut self, text: &str, escape: char) {
        let first = text.split([' ', '\t']).next().unwrap_or(text);
        let pairs = if first.contains('=') {
            words(text, escape).and_then(|words| {
                let pair = |word: &String| {
                    let (name, value) = word.split_once('=')?;
                    Some((name.to_owned(), self.expand(value, escape).ok()))
                };
                words.iter().map(pair).collect::<Option<Vec<(String, Value)>>>()
            })
        } else {
            Some(vec![(first.to_owned(), self.expand(text[first.len()..].trim(), escape).ok())])
        };
        // Only now: a value does not see the names of its own instruction.
        match pairs {
            Some(pairs) if pairs.iter().all(|(name, _)| is_plain_name(name)) => self.scope().env.extend(pairs),
            _ => self.scope().lost = true,
        }
    }

    fn get(&self, name: &str) -> Result<&str, String> {
        let scope = match &self.current {
            Some((_, scope)) => scope,
            None => &self.global,
        };
        if scope.lost {
            return Err("an ARG or ENV before it is not understood".to_owned());
        }
        let (env, arg) = (scope.env.get(name), scope.args.get(name));
        if env.is_some() && arg.is_some() && env != arg {
            return Err(format!("${name} is an ENV and an ARG, and frontends differ in which of them wins"));
        }
        match env.or(arg) {
            Some(Some(value)) => Ok(value),
            Some(None) => Err(format!("the value of ${name} is not known")),
            None if self.current.is_none() && self.platform.contains_key(name) => Ok(&self.platform[name]),
            None if self.current.is_none() && PREDEFINED.contains(&name) => {
                Err(format!("the value of ${name} is the engine's to say"))
            }
            None if self.current.is_none() => Err(format!("there is no `ARG {name}` before the first FROM")),
            None => Err(format!("${name} is not declared here, so it would come from the base image")),
        }
    }

    /// A word with its variables replaced and its quotes taken off, or why that is not certain.
    pub(super) fn expand(&self, text: &str, escape: char) -> Result<String, String> {
        let mut value = String::new();
        let mut rest = text;
        let mut in_double = false;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '"' => in_double = !in_double,
                '\'' if !in_double => {
                    let (quoted, after) = rest.split_once('\'').ok_or("a quote is not closed")?;
                    value.push_str(quoted);
                    rest = after;
                }
                '$' => rest = self.variable(rest, &mut value)?,
                _ if c == escape || c == '\\' => return Err("it has an escape".to_owned()),
                _ => value.push(c),
            }
        }
        if in_double {
            return Err("a quote is not closed".to_owned());
        }
        Ok(value)
    }

    /// Reads a variable after its `$`, adds its value, and returns what follows.
    fn variable<'b>(&self, text: &'b str, value: &mut String) -> Result<&'b str, String> {
        let Some(braced) = text.strip_prefix('{') else {
            let (name, rest) = split_name(text)?;
            value.push_str(self.get(name)?);
            return Ok(rest);
        };
        let (name, rest) = split_name(braced)?;
        let (form, rest) = rest.split_once('}').ok_or("a variable's brace is not closed")?;
        let plain = !form.contains(['$', '{', '"', '\'', '\\', '`']);
        let set = self.get(name)?;
        match (form.get(..2), form.get(2..)) {
            (None, _) if form.is_empty() => value.push_str(set),
            (Some(":-"), Some(word)) if plain => value.push_str(if set.is_empty() { word } else { set }),
            (Some(":+"), Some(word)) if plain => value.push_str(if set.is_empty() { "" } else { word }),
            _ => return Err(format!("the form ${{{name}{form}}} is not followed")),
        }
        Ok(rest)
    }
}

fn split_name(text: &str) -> Result<(&str, &str), String> {
    let end = text.bytes().position(|b| !(b.is_ascii_alphanumeric() || b == b'_')).unwrap_or(text.len());
    match text.bytes().next() {
        Some(first) if end > 0 && !first.is_ascii_digit() => Ok(text.split_at(end)),
        _ => Err("a '$' is not followed by a name".to_owned()),
    }
}

fn is_plain_name(text: &str) -> bool {
    matches!(split_name(text), Ok((_, "")))
}

/// The words of a line: divided by white space that is not quoted. The quotes stay.
/// `None`: an escape or an open quote, so where words end is not certain.
fn words(text: &str, escape: char) -> Option<Vec<String>> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in text.chars() {
        match (c, quote) {
            (' ' | '\t', None) => {
                words.push(String::new());
                continue;
            }
            _ if c == escape => return None,
            ('"' | '\'', None) => quote = Some(c),
            (_, Some(open)) if c == open => quote = None,
            _ => {}
        }
        words.last_mut()?.push(c);
    }
    words.retain(|word| !word.is_empty());
    quote.is_none().then_some(words)
}
