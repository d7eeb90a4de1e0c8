//! A reader of Dockerfiles: which files of its context a build may ask for.
//!
//! Whatever cannot be known for certain gives the whole context, never less. Every stage counts, not only those that
//! the target needs. The parser is a library's; where it is more lenient than the engine, the text is looked at first,
//! because an instruction that only one of the two sees would be a missing input.
//!
//! One thing is taken as known that is not: that the base image has no `ENV` of the same name as an `ARG` of the
//! Dockerfile, which would win. The engine would then ask for a file that does not count, which ends the put.

mod base;
mod foreign;
mod images;
mod place;
mod variables;

use std::collections::BTreeMap;

use parse_dockerfile::{AddInstruction, Command, CopyInstruction, Flag, Instruction};

use crate::names::GitPath;

pub use base::{base, is_image_of_context};
pub use foreign::runs_programs;
pub use images::{Taken, Unclear, images};
pub use place::excerpt;
use variables::Scopes;

/// Which files of its context a build may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sources {
    /// All of them.
    Whole(Whole),
    /// Those that match one of these, in the order of the Dockerfile.
    Patterns(Vec<Source>),
}

/// Why all files of the context count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// The line of the Dockerfile, counted from 1; `None` when no single line is the reason.
    pub line: Option<usize>,
    /// Why, as a part of a sentence.
    pub why: String,
}

/// A source of `COPY`, `ADD` or `RUN --mount`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The files that it means, as paths relative to the context.
    pub pattern: Pattern,
    /// The line of the instruction in the Dockerfile, counted from 1.
    pub line: usize,
}

/// A path, perhaps with wildcards, as Go's `filepath.Match` reads them: `*` and `?` stop at a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Vec<Piece>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Byte(u8),
    /// `?`: one character.
    One,
    /// `*`: any characters.
    Any,
}

/// Where a path lies, as seen from a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// It stands where the pattern needs a directory.
    Above,
    /// It is what the pattern means.
    At,
    /// It lies below what the pattern means.
    Below,
    /// Neither.
    Apart,
}

/// The files that a build with this Dockerfile and these build args may ask for.
pub fn sources(text: &[u8], args: &BTreeMap<String, String>) -> Sources {
    match read(text, args) {
        Ok(sources) => Sources::Patterns(sources),
        Err(whole) => Sources::Whole(whole),
    }
}

impl Pattern {
    /// Reads a source as the engine does: relative to the context's root, which `..` does not leave.
    /// `None`: it is the whole context, or has a wildcard that is not followed here.
    fn read(text: &str) -> Option<Self> {
        let mut parts: Vec<&str> = Vec::new();
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop();
                }
                _ => parts.push(part),
            }
        }
        // A class may match a slash (`[^a]`), and a backslash has been read as an escape before: not certain.
        if parts.is_empty() || parts.iter().any(|part| part.contains(['[', '\\'])) {
            return None;
        }
        let piece = |byte| match byte {
            b'*' => Piece::Any,
            b'?' => Piece::One,
            _ => Piece::Byte(byte),
        };
        Some(Self { parts: parts.iter().map(|part| part.bytes().map(piece).collect()).collect() })
    }

    /// Where a path, relative to the context, lies.
    pub fn position(&self, path: &GitPath) -> Position {
        let path: Vec<&[u8]> = path.parts().collect();
        if !self.parts.iter().zip(&path).all(|(pattern, part)| part_matches(pattern, part)) {
            return Position::Apart;
        }
        match path.len().cmp(&self.parts.len()) {
            std::cmp::Ordering::Less => Position::Above,
            std::cmp::Ordering::Equal => Position::At,
            std::cmp::Ordering::Greater => Position::Below,
        }
    }
}

fn part_matches(pattern: &[Piece], text: &[u8]) -> bool {
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for piece in pattern {
        let mut next = vec![false; text.len() + 1];
        for at in 0..=text.len() {
            match piece {
                Piece::Any => next[at] = reached[at] || (at > 0 && next[at - 1]),
                Piece::Byte(byte) if reached[at] && text.get(at) == Some(byte) => next[at + 1] = true,
                // A character has up to four bytes. Where it ends is not asked: wider.
                Piece::One if reached[at] => next[at..].iter_mut().skip(1).take(4).for_each(|end| *end = true),
                Piece::Byte(_) | Piece::One => {}
            }
        }
        reached = next;
    }
    reached[text.len()]
}

fn whole<T>(line: usize, why: impl Into<String>) -> Result<T, Whole> {
    Err(Whole { line: Some(line), why: why.into() })
}

fn read(text: &[u8], args: &BTreeMap<String, String>) -> Result<Vec<Source>, Whole> {
    let Parsed { text, escape, dockerfile } = parse(text, args)?;
    let mut reader = Reader { text, escape, scopes: Scopes::new(args), sources: Vec::new() };
    for instruction in &dockerfile.instructions {
        reader.instruction(instruction)?;
    }
    Ok(reader.sources)
}

/// A Dockerfile whose instructions are those that the engine sees.
struct Parsed<'a> {
    text: &'a str,
    escape: char,
    dockerfile: parse_dockerfile::Dockerfile<'a>,
}

fn parse<'a>(text: &'a [u8], args: &BTreeMap<String, String>) -> Result<Parsed<'a>, Whole> {
    let Ok(text) = std::str::from_utf8(text) else {
        return Err(Whole { line: None, why: "the Dockerfile is not UTF-8".to_owned() });
    };
    // The parser leaves it out too, and its positions count from there.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let escape = directives(text, args)?;
    same_lines_for_all(text, escape)?;
    let parsed = parse_dockerfile::parse(text)
        .map_err(|error| Whole { line: Some(error.line()), why: format!("it is not understood: {error}") })?;
    if parsed.parser_directives.escape.as_ref().map_or('\\', |directive| directive.value.value) != escape {
        return Err(Whole { line: None, why: "its `escape` directive is not certain".to_owned() });
    }
    Ok(Parsed { text, escape, dockerfile: parsed })
}

/// Reads the directives at the top, and returns the escape character.
///
/// Frontends differ in which comments still belong to the top, so every one before the first instruction counts.
fn directives(text: &str, args: &BTreeMap<String, String>) -> Result<char, Whole> {
    if let Some(frontend) = args.get("BUILDKIT_SYNTAX").filter(|frontend| !is_known_frontend(frontend)) {
        return Err(Whole { line: None, why: format!("the frontend {frontend:?} is not known") });
    }
    let mut escape = '\\';
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let Some(comment) = line.strip_prefix('#') else {
            if line.is_empty() {
                continue;
            }
            break;
        };
        if comment.starts_with('!') {
            return whole(index + 1, "it begins as a script");
        }
        let Some((name, value)) = comment.split_once('=') else { continue };
        match (name.trim().to_ascii_lowercase().as_str(), value.trim()) {
            ("syntax", frontend) if !is_known_frontend(frontend) => {
                return whole(index + 1, format!("the frontend {frontend:?} is not known"));
            }
            ("escape", "`") => escape = '`',
            _ => {}
        }
    }
    Ok(escape)
}

/// Whether a frontend is Docker's own, in any of its releases.
fn is_known_frontend(reference: &str) -> bool {
    let name = reference.strip_prefix("docker.io/").unwrap_or(reference);
    ["docker/dockerfile", "docker/dockerfile-upstream"].iter().any(|known| {
        name.strip_prefix(known).is_some_and(|rest| {
            (rest.is_empty() || rest.starts_with([':', '@'])) && !rest.contains(char::is_whitespace)
        })
    })
}

/// Refuses texts that the parser may divide into other lines than the engine does.
fn same_lines_for_all(text: &str, escape: char) -> Result<(), Whole> {
    for (index, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        // To both, a comment ends with its line.
        if line.trim_start_matches([' ', '\t']).starts_with('#') {
            continue;
        }
        if line.chars().any(|c| (c.is_whitespace() || c.is_control()) && c != ' ' && c != '\t') {
            return whole(index + 1, "it has white space or a control character that not all frontends read alike");
        }
        let twice = |line: &str| line.strip_suffix(escape).is_some_and(|line| line.ends_with(escape));
        if twice(line.trim_end()) {
            return whole(index + 1, "whether a doubled escape continues the line is not certain");
        }
    }
    Ok(())
}

/// The line of a position, counted from 1.
fn line_at(text: &str, position: usize) -> usize {
    text.as_bytes()[..position].iter().filter(|&&b| b == b'\n').count() + 1
}

struct Reader<'a> {
    text: &'a str,
    escape: char,
    scopes: Scopes<'a>,
    sources: Vec<Source>,
}

impl Reader<'_> {
    fn line(&self, position: usize) -> usize {
        line_at(self.text, position)
    }

    fn instruction(&mut self, instruction: &Instruction<'_>) -> Result<(), Whole> {
        match instruction {
            Instruction::From(from) => {
                let name = from.as_.as_ref().map(|(_, name)| name.value.as_ref());
                self.scopes.begin_stage(&from.image.value, name, self.escape);
                Ok(())
            }
            Instruction::Arg(arg) => {
                self.scopes.arg(&arg.arguments.value, self.escape);
                Ok(())
            }
            Instruction::Env(env) => {
                self.scopes.env(&env.arguments.value, self.escape);
                Ok(())
            }
            Instruction::Copy(copy) => {
                let line = self.line(copy.copy.span.start);
                self.copy(line, "COPY", &copy.options, &copy.src)
            }
            Instruction::Add(add) => {
                let line = self.line(add.add.span.start);
                self.copy(line, "ADD", &add.options, &add.src)
            }
            Instruction::Run(run) => {
                let line = self.line(run.run.span.start);
                for option in &run.options {
                    self.run_option(line, option)?;
                }
                match &run.arguments {
                    Command::Exec(_) => Ok(()),
                    Command::Shell(command) => here_doc_is_certain(line, command.value),
                    _ => whole(line, "`RUN` has a form that is not known"),
                }
            }
            Instruction::Onbuild(onbuild) => self.onbuild(self.line(onbuild.onbuild.span.start), &onbuild.instruction),
            Instruction::Cmd(_)
            | Instruction::Entrypoint(_)
            | Instruction::Expose(_)
            | Instruction::Healthcheck(_)
            | Instruction::Label(_)
            | Instruction::Maintainer(_)
            | Instruction::Shell(_)
            | Instruction::Stopsignal(_)
            | Instruction::User(_)
            | Instruction::Volume(_)
            | Instruction::Workdir(_) => Ok(()),
            // The library's enum may grow.
            _ => Err(Whole { line: None, why: "it has an instruction that is not known".to_owned() }),
        }
    }

    /// It runs in the builds, or in the stages of this one, that are based on this stage. Counted here: wider.
    fn onbuild(&mut self, line: usize, instruction: &Instruction<'_>) -> Result<(), Whole> {
        let has_variable = |source: &parse_dockerfile::Source<'_>| match source {
            parse_dockerfile::Source::Path(path) => path.value.contains('$'),
            _ => false,
        };
        match instruction {
            Instruction::Arg(_) | Instruction::Env(_) => {
                self.scopes.lose();
                Ok(())
            }
            Instruction::Copy(CopyInstruction { src, .. }) | Instruction::Add(AddInstruction { src, .. })
                if src.iter().any(has_variable) =>
            {
                whole(line, "an ONBUILD has a variable, whose value is that of another stage")
            }
            _ => self.instruction(instruction),
        }
    }

    fn copy(
        &mut self,
        line: usize,
        keyword: &str,
        options: &[Flag<'_>],
        sources: &[parse_dockerfile::Source<'_>],
    ) -> Result<(), Whole> {
        for option in options {
            let (name, value) = self.flag(line, option)?;
            match (keyword, name, value) {
                // A stage, an image or another context: nothing of this one.
                ("COPY", "from", Some("")) => {}
                ("COPY", "from", Some(from)) if !from.contains('$') => return Ok(()),
                (_, "chown" | "chmod" | "checksum" | "exclude", Some(_)) => {}
                (_, "link" | "keep-git-dir" | "unpack", _) => {}
                _ => return whole(line, format!("`{keyword} --{name}` is not followed")),
            }
        }
        for source in sources {
            match source {
                parse_dockerfile::Source::HereDoc(_) => {}
                parse_dockerfile::Source::Path(path) => self.source(line, keyword, &path.value)?,
                _ => return whole(line, format!("`{keyword}` has a source that is not known")),
            }
        }
        Ok(())
    }

    fn source(&mut self, line: usize, keyword: &str, text: &str) -> Result<(), Whole> {
        if keyword == "ADD" && (text.starts_with("http://") || text.starts_with("https://")) {
            return Ok(());
        }
        if text.contains("<<") {
            return whole(line, format!("whether {text:?} is a here-document is not certain"));
        }
        let expanded = self
            .scopes
            .expand(text, self.escape)
            .or_else(|why| whole(line, format!("`{keyword} {text}` is not certain: {why}")))?;
        if keyword == "ADD" && (expanded.starts_with("http://") || expanded.starts_with("https://")) {
            return Ok(());
        }
        match Pattern::read(&expanded) {
            Some(pattern) => self.sources.push(Source { pattern, line }),
            None => {
                return whole(
                    line,
                    format!("`{keyword} {text}` takes all of it, or has a wildcard that is not followed"),
                );
            }
        }
        Ok(())
    }

    fn run_option(&mut self, line: usize, option: &Flag<'_>) -> Result<(), Whole> {
        match self.flag(line, option)? {
            ("mount", Some(mount)) => self.mount(line, mount),
            ("network" | "security" | "device", _) => Ok(()),
            (name, _) => whole(line, format!("`RUN --{name}` is not followed")),
        }
    }

    /// A mount of the default type, `bind`, shows files of the context.
    fn mount(&mut self, line: usize, mount: &str) -> Result<(), Whole> {
        let unsure = |why: &str| whole(line, format!("`RUN --mount={mount}` {why}"));
        let (mut kind, mut from, mut source) = ("bind", "", "");
        for field in mount.split(',') {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            match key.to_ascii_lowercase().as_str() {
                "type" => kind = value,
                "from" => from = value,
                "source" | "src" => source = value,
                _ => {}
            }
        }
        match kind {
            "cache" | "secret" | "ssh" => return Ok(()),
            // It shows nothing of the context, but Docker's frontend asks for all of it.
            "tmpfs" if from.is_empty() => {
                return unsure("makes the engine ask for all of it");
            }
            "tmpfs" => return Ok(()),
            "bind" => {}
            _ => return unsure("has a type that is not known"),
        }
        if mount.contains('$') {
            return unsure("has a variable, which not all frontends expand");
        }
        if !from.is_empty() {
            return Ok(());
        }
        match Pattern::read(source) {
            Some(pattern) if !source.contains(['*', '?']) => self.sources.push(Source { pattern, line }),
            _ => return unsure("shows all of it, or has a wildcard"),
        }
        Ok(())
    }

    /// A flag whose text means what it says.
    fn flag<'b>(&self, line: usize, flag: &'b Flag<'_>) -> Result<(&'b str, Option<&'b str>), Whole> {
        read_flag(flag, self.escape).or_else(|why| whole(line, why))
    }
}

/// Name and value of a flag, or why they are not certain.
fn read_flag<'a>(flag: &'a Flag<'_>, escape: char) -> Result<(&'a str, Option<&'a str>), String> {
    let (name, value) = (flag.name.value.as_ref(), flag.value.as_ref().map(|value| value.value.as_ref()));
    let odd = |text: &str| text.contains(['"', '\'', '\\', escape]);
    if name.is_empty() || odd(name) || value.is_some_and(odd) {
        return Err(format!("where the flag `--{name}` ends is not certain"));
    }
    Ok((name, value))
}

/// The parser knows a here-document only as the first word of `RUN`: of any other it takes the lines for instructions.
fn here_doc_is_certain(line: usize, command: &str) -> Result<(), Whole> {
    let begins_one = |word: &&str| {
        let word = word.trim_start_matches(['"', '\'']).trim_start_matches(|c: char| c.is_ascii_digit());
        word.strip_prefix("<<").is_some_and(|name| !name.starts_with('<'))
    };
    match command.split_whitespace().find(begins_one) {
        Some(word) => whole(line, format!("where the here-document {word:?} ends is not certain")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
