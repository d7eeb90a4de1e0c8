//! Which images a build takes from registries. A missing one would be a base that nobody follows, so what is not
//! certain is an error.

use std::collections::{BTreeMap, BTreeSet};

use parse_dockerfile::{AddInstruction, Command, CopyInstruction, Flag, Instruction, RunInstruction};

use super::base::unknowing_frontend;
use super::variables::Scopes;
use super::{Parsed, Whole, here_doc_is_certain, line_at, parse, read_flag};

/// What a stage is built on or copies from, and is no stage itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// As the Dockerfile names it, with its variables replaced; or the stage that a named context stands for.
    pub name: String,
    /// The line of the instruction, counted from 1.
    pub line: usize,
}

/// Why it is not certain which images a build takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unclear {
    /// The line of the Dockerfile, counted from 1; `None` when no single line is the reason.
    pub line: Option<usize>,
    /// Why, as a part of a sentence.
    pub why: String,
}

impl From<Whole> for Unclear {
    fn from(Whole { line, why }: Whole) -> Self {
        Self { line, why }
    }
}

/// What the target, or the last stage, and the stages that it needs take from elsewhere on any of the platforms, in the
/// order of the lines: `FROM`, and `--from` of `COPY` and `RUN --mount`. A stage that `is_context` says to be a named context is one of
/// them, and nothing of its own counts. `scratch` is none.
///
/// Images that an ONBUILD of a base takes are not seen, and the frontend's own image is none of them.
///
/// # Errors
///
/// It is not certain, or the frontend is not known to take a named context in the place of an image.
pub fn images(
    text: &[u8],
    args: &BTreeMap<String, String>,
    target: Option<&str>,
    platforms: &BTreeSet<String>,
    is_context: impl Fn(&str) -> bool,
) -> Result<Vec<Taken>, Unclear> {
    let Parsed { text, escape, dockerfile } = parse(text, args)?;
    if let Some(frontend) = unknowing_frontend(&dockerfile, args) {
        return unclear(None, format!("the frontend {frontend:?} is not known to take a base image by its digest"));
    }
    let mut all: Vec<Taken> = Vec::new();
    for platform in platforms {
        let scopes = Scopes::for_platform(args, platform);
        let mut reader = Reader { text, escape, scopes, stages: Vec::new() };
        for instruction in &dockerfile.instructions {
            reader.instruction(instruction)?;
        }
        let taken = needed(&reader.stages, target, &is_context)?;
        all.extend(taken.into_iter().filter(|one| !all.contains(one)).collect::<Vec<_>>());
    }
    all.sort_by_key(|taken| taken.line);
    Ok(all)
}

fn unclear<T>(line: Option<usize>, why: impl Into<String>) -> Result<T, Unclear> {
    Err(Unclear { line, why: why.into() })
}

/// A name in the Dockerfile; it matters only when its stage is needed.
type Name = Result<Taken, Unclear>;

struct Stage {
    name: Option<String>,
    from: Name,
    /// What `--from` names.
    others: Vec<Name>,
    line: usize,
}

struct Reader<'a> {
    text: &'a str,
    escape: char,
    /// FROM sees the ARGs before the first one, and no others.
    scopes: Scopes<'a>,
    stages: Vec<Stage>,
}

impl Reader<'_> {
    fn instruction(&mut self, instruction: &Instruction<'_>) -> Result<(), Unclear> {
        match instruction {
            Instruction::Arg(arg) if self.stages.is_empty() => {
                self.scopes.arg(&arg.arguments.value, self.escape);
                Ok(())
            }
            Instruction::From(from) => {
                let line = line_at(self.text, from.from.span.start);
                let written = &from.image.value;
                let name = self.scopes.expand(written, self.escape);
                let from_name = match name {
                    Ok(name) => Ok(Taken { name, line }),
                    Err(why) => unclear(Some(line), format!("`FROM {written}`: {why}")),
                };
                let name = from.as_.as_ref().map(|(_, name)| name.value.to_lowercase());
                self.stages.push(Stage { name, from: from_name, others: Vec::new(), line });
                Ok(())
            }
            Instruction::Copy(CopyInstruction { copy, options, src, .. }) => {
                let line = line_at(self.text, copy.span.start);
                sources_are_certain(line, src)?;
                self.flags(line, options, |name, value| (name == "from").then_some(value))
            }
            Instruction::Add(AddInstruction { add, src, .. }) => {
                sources_are_certain(line_at(self.text, add.span.start), src)
            }
            Instruction::Run(RunInstruction { run, options, arguments, .. }) => {
                let line = line_at(self.text, run.span.start);
                if let Command::Shell(command) = arguments {
                    here_doc_is_certain(line, command.value)?;
                }
                let from = |field: &str| {
                    let (key, value) = field.split_once('=')?;
                    key.eq_ignore_ascii_case("from").then(|| value.to_owned())
                };
                for option in options {
                    let mounted = option.value.as_ref().map(|value| value.value.to_string()).unwrap_or_default();
                    // Of a field that is there twice the last one counts.
                    let from = mounted.split(',').filter_map(from).next_back();
                    self.flags(line, std::slice::from_ref(option), |name, _| {
                        (name == "mount").then_some(from.as_deref()).flatten()
                    })?;
                }
                Ok(())
            }
            // It runs in builds that are based on this stage, and in those stages of this one: counted here, wider.
            Instruction::Onbuild(onbuild) => self.instruction(&onbuild.instruction),
            Instruction::Arg(_)
            | Instruction::Cmd(_)
            | Instruction::Entrypoint(_)
            | Instruction::Env(_)
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
            _ => unclear(None, "it has an instruction that is not known"),
        }
    }

    /// Notes what flags name that `pick` finds.
    fn flags<'b>(
        &mut self,
        line: usize,
        flags: &'b [Flag<'_>],
        pick: impl Fn(&'b str, &'b str) -> Option<&'b str>,
    ) -> Result<(), Unclear> {
        for flag in flags {
            let found = match read_flag(flag, self.escape) {
                Ok((name, value)) => match pick(name, value.unwrap_or_default()) {
                    None | Some("") => continue,
                    Some(name) if name.contains('$') => {
                        unclear(Some(line), format!("`from={name}` has a variable, which not all frontends expand"))
                    }
                    Some(name) => Ok(Taken { name: name.to_owned(), line }),
                },
                Err(why) => unclear(Some(line), why),
            };
            // What stands before the first FROM is refused by the engine.
            if let Some(stage) = self.stages.last_mut() {
                stage.others.push(found);
            }
        }
        Ok(())
    }
}

/// The parser takes the lines of a here-document that it does not know for instructions.
fn sources_are_certain(line: usize, sources: &[parse_dockerfile::Source<'_>]) -> Result<(), Unclear> {
    let is_unsure = |source: &parse_dockerfile::Source<'_>| match source {
        parse_dockerfile::Source::Path(path) => path.value.contains("<<"),
        parse_dockerfile::Source::HereDoc(_) => false,
        _ => true,
    };
    if sources.iter().any(is_unsure) {
        return unclear(Some(line), "where a here-document ends is not certain");
    }
    Ok(())
}

fn needed(stages: &[Stage], target: Option<&str>, is_context: impl Fn(&str) -> bool) -> Result<Vec<Taken>, Unclear> {
    // FROM and targets mean the last stage of a name, FROM only those before it.
    let named = |name: &str, before: usize| {
        let name = name.to_lowercase();
        stages[..before].iter().rposition(|stage| stage.name.as_ref() == Some(&name))
    };
    let numbered = |name: &str, before: usize| name.parse::<usize>().ok().filter(|number| *number < before);
    let first = match target {
        None => stages.len().checked_sub(1),
        Some(target) => named(target, stages.len()).or_else(|| numbered(target, stages.len())),
    };
    // The engine says what is wrong with a target or Dockerfile that has no stage.
    let mut open: Vec<usize> = first.into_iter().collect();
    let mut seen = vec![false; stages.len()];
    let mut taken = Vec::new();
    while let Some(at) = open.pop() {
        if std::mem::replace(&mut seen[at], true) {
            continue;
        }
        let Stage { name, from, others, line } = &stages[at];
        if let Some(name) = name.as_ref().filter(|name| is_context(name)) {
            taken.push(Taken { name: name.clone(), line: *line });
            continue;
        }
        let from = from.clone()?;
        match named(&from.name, at) {
            Some(stage) => open.push(stage),
            None if from.name == "scratch" => {}
            None => taken.push(from),
        }
        for other in others {
            let other = other.clone()?;
            match named(&other.name, stages.len()).or_else(|| numbered(&other.name, at)) {
                Some(stage) => open.push(stage),
                None if other.name == "scratch" => {}
                None => taken.push(other),
            }
        }
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, target: Option<&str>) -> Result<Vec<(String, usize)>, Unclear> {
        let args = BTreeMap::from([("TAG".to_owned(), "12".to_owned())]);
        let platforms = BTreeSet::from(["linux/amd64".to_owned(), "linux/arm64".to_owned()]);
        let taken = images(text.as_bytes(), &args, target, &platforms, |name| name == "replaced")?;
        Ok(taken.into_iter().map(|Taken { name, line }| (name, line)).collect())
    }

    #[test]
    fn what_the_target_and_its_stages_take_counts() {
        const STAGES: &str =
            "FROM golang AS build\nFROM node AS Web\nFROM debian\nCOPY --from=web /x /\nFROM scratch AS last\n";
        for (text, target, expected) in [
            ("FROM debian:12\n", None, &[("debian:12", 1)][..]),
            ("ARG TAG\nFROM debian:$TAG\n", None, &[("debian:12", 2)]),
            ("ARG NAME=debian:11\nFROM ${NAME}\n", None, &[("debian:11", 2)]),
            ("FROM scratch\nCOPY x /\n", None, &[]),
            (STAGES, None, &[]),
            (STAGES, Some("2"), &[("node", 2), ("debian", 3)]),
            (STAGES, Some("BUILD"), &[("golang", 1)]),
            ("FROM a AS one\nFROM one AS two\nFROM two\nCOPY --from=0 /x /\n", None, &[("a", 1)]),
            ("FROM a\nCOPY --chown=1 --from=b:1 /x /\n", None, &[("a", 1), ("b:1", 2)]),
            (
                "FROM a\nRUN --mount=from=b,target=/b --mount=type=cache,target=/c,from=c x\n",
                None,
                &[("a", 1), ("b", 2), ("c", 2)],
            ),
            ("FROM a\nONBUILD COPY --from=b /x /\n", None, &[("a", 1), ("b", 2)]),
            // A stage of the name of its own image, and one that comes later.
            ("FROM a AS a\nFROM a\n", None, &[("a", 1)]),
            ("FROM late\nCOPY --from=late /x /\nFROM b AS late\n", Some("0"), &[("late", 1), ("b", 3)]),
            ("FROM a AS replaced\nCOPY --from=b /x /\nFROM replaced\n", None, &[("replaced", 1)]),
            // What the engine sets for the platform.
            ("FROM a AS for-amd64\nFROM b AS for-arm64\nFROM for-$TARGETARCH\n", None, &[("a", 1), ("b", 2)]),
            ("ARG TARGETARCH\nFROM a-${TARGETARCH}\n", None, &[("a-amd64", 2), ("a-arm64", 2)]),
            // What is not needed need not be certain.
            ("FROM $NONE AS one\nFROM b\n", None, &[("b", 2)]),
            ("FROM a\nRUN <<END\nFROM b\nEND\n", None, &[("a", 1)]),
        ] {
            let expected = expected.iter().map(|(name, line)| ((*name).to_owned(), *line)).collect();
            assert_eq!(read(text, target), Ok(expected), "{text:?} {target:?}");
        }
    }

    #[test]
    fn what_is_not_certain_is_refused_by_its_line() {
        for (text, line, why) in [
            ("FROM debian:$TAG\n", Some(1), "`FROM debian:$TAG`: there is no `ARG TAG` before the first FROM"),
            (
                "FROM a-$TARGETVARIANT\n",
                Some(1),
                "`FROM a-$TARGETVARIANT`: the value of $TARGETVARIANT is the engine's to say",
            ),
            ("ARG OTHER\nFROM a:$OTHER\n", Some(2), "`FROM a:$OTHER`: the value of $OTHER is not known"),
            ("FROM a\nCOPY --from=$TAG /x /\n", Some(2), "`from=$TAG` has a variable, which not all frontends expand"),
            (
                "FROM a\nRUN --mount=from=b-$TAG,target=/b x\n",
                Some(2),
                "`from=b-$TAG` has a variable, which not all frontends expand",
            ),
            (
                "FROM a\nRUN cat <<END >/x\nARG x\nEND\n",
                Some(4),
                "it is not understood: unknown instruction 'END' at line 4 column 1",
            ),
            ("# syntax=acme/frontend\nFROM a\n", Some(1), "the frontend \"acme/frontend\" is not known"),
            (
                "# syntax=docker/dockerfile:1.2\nFROM a\n",
                None,
                "the frontend \"docker/dockerfile:1.2\" is not known to take a base image by its digest",
            ),
        ] {
            assert_eq!(read(text, None), Err(Unclear { line, why: why.to_owned() }), "{text:?}");
        }
    }
}
