//! The image that a Dockerfile builds on, for people: it decides nothing.

use std::collections::BTreeMap;

use parse_dockerfile::{Dockerfile, Instruction};

use super::variables::Scopes;

/// The image that the target stage, or the last one, is built on in the end, as the Dockerfile names it. Build args are
/// expanded. `None`: it builds on nothing (`scratch`), or what it builds on is not certain.
pub fn base(text: &[u8], args: &BTreeMap<String, String>, target: Option<&str>) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    let parsed = parse_dockerfile::parse(text).ok()?;
    let escape = parsed.parser_directives.escape.as_ref().map_or('\\', |directive| directive.value.value);
    // FROM sees the ARGs before the first one, and no others.
    let mut scopes = Scopes::new(args);
    let mut stages: Vec<(Option<String>, String)> = Vec::new();
    for instruction in &parsed.instructions {
        match instruction {
            Instruction::Arg(arg) if stages.is_empty() => scopes.arg(&arg.arguments.value, escape),
            Instruction::From(from) => {
                let image = scopes.expand(&from.image.value, escape).ok()?;
                // A stage of an earlier name stands for what that one is built on.
                let image = match stages.iter().rev().find(|(name, _)| is_named(name.as_deref(), &image)) {
                    Some((_, base)) => base.clone(),
                    None => image,
                };
                stages.push((from.as_.as_ref().map(|(_, name)| name.value.to_string()), image));
            }
            _ => {}
        }
    }
    let stage = match target {
        None => stages.last(),
        Some(target) => {
            let named = stages.iter().find(|(name, _)| is_named(name.as_deref(), target));
            named.or_else(|| stages.get(target.parse::<usize>().ok()?))
        }
    };
    stage.map(|(_, image)| image.clone()).filter(|image| image != "scratch")
}

/// Whether a named context of this name would be the image of the name, and nothing else: no stage is called so, and
/// the frontend is one that is known to have named contexts.
pub fn is_image_of_context(text: &[u8], args: &BTreeMap<String, String>, name: &str) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let Ok(parsed) = parse_dockerfile::parse(text) else { return false };
    let is_stage = |instruction: &Instruction<'_>| match instruction {
        Instruction::From(from) => is_named(from.as_.as_ref().map(|(_, name)| name.value.as_ref()), name),
        _ => false,
    };
    unknowing_frontend(&parsed, args).is_none() && !parsed.instructions.iter().any(is_stage)
}

/// The frontend of a Dockerfile when it is not known to have named contexts. The engine's own is not judged here.
pub(super) fn unknowing_frontend<'a>(
    parsed: &'a Dockerfile<'_>,
    args: &'a BTreeMap<String, String>,
) -> Option<&'a str> {
    let named = parsed.parser_directives.syntax.as_ref().map(|directive| directive.value.value);
    let frontend = args.get("BUILDKIT_SYNTAX").map(String::as_str).or(named)?;
    (!has_named_contexts(frontend)).then_some(frontend)
}

/// Fact: docker/dockerfile has named contexts since 1.4.
fn has_named_contexts(frontend: &str) -> bool {
    let name = frontend.strip_prefix("docker.io/").unwrap_or(frontend);
    let Some(rest) = name.strip_prefix("docker/dockerfile") else { return false };
    let release = match rest.strip_prefix(':') {
        None => return rest.is_empty(),
        Some(tag) => tag.strip_suffix("-labs").unwrap_or(tag),
    };
    let mut numbers = release.split('.');
    match (numbers.next(), numbers.next().map(str::parse::<u32>)) {
        (Some("latest" | "labs" | "1"), None) => true,
        (Some("1"), Some(Ok(minor))) => 4 <= minor,
        _ => false,
    }
}

fn is_named(name: Option<&str>, wanted: &str) -> bool {
    name.is_some_and(|name| name.eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_is_the_image_at_the_end_of_the_stages() {
        let args = BTreeMap::from([("TAG".to_owned(), "12".to_owned())]);
        for (text, target, expected) in [
            ("FROM debian:12\n", None, Some("debian:12")),
            ("ARG TAG\nFROM debian:$TAG\n", None, Some("debian:12")),
            ("ARG OTHER\nFROM debian:$OTHER\n", None, None),
            ("FROM golang AS build\nFROM scratch\nCOPY --from=build /x /\n", None, None),
            ("FROM golang AS build\nFROM scratch\nCOPY --from=build /x /\n", Some("Build"), Some("golang")),
            ("FROM debian AS base\nFROM base AS more\nFROM more\n", None, Some("debian")),
            ("FROM debian AS base\nFROM alpine\n", Some("0"), Some("debian")),
            ("FROM debian\n", Some("none"), None),
            ("no Dockerfile", None, None),
        ] {
            assert_eq!(base(text.as_bytes(), &args, target).as_deref(), expected, "{text:?} {target:?}");
        }
    }

    #[test]
    fn a_context_of_the_name_of_an_image_must_not_hide_a_stage() {
        let none = BTreeMap::new();
        let other = BTreeMap::from([("BUILDKIT_SYNTAX".to_owned(), "docker/dockerfile:1.2".to_owned())]);
        for (text, args, expected) in [
            ("FROM debian\n", &none, true),
            ("FROM debian AS one\nFROM one\n", &none, true),
            ("FROM debian AS Debian\nFROM debian\n", &none, false),
            ("# syntax=docker/dockerfile:1\nFROM debian\n", &none, true),
            ("# syntax=docker.io/docker/dockerfile:1\nFROM debian\n", &none, true),
            ("# syntax=docker/dockerfile:1.3\nFROM debian\n", &none, false),
            ("# syntax=docker/dockerfile:1.4\nFROM debian\n", &none, true),
            ("# syntax=docker/dockerfile:1.10.0-labs\nFROM debian\n", &none, true),
            ("# syntax=docker/dockerfile:1.2\nFROM debian\n", &none, false),
            ("# syntax=acme/frontend\nFROM debian\n", &none, false),
            ("FROM debian\n", &other, false),
            ("no Dockerfile", &none, false),
        ] {
            assert_eq!(is_image_of_context(text.as_bytes(), args, "debian"), expected, "{text:?} {args:?}");
        }
    }
}
