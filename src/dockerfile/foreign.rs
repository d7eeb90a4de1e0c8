//! Whether a build runs programs of the platform that it is for, so that an engine of another platform cannot do it.

use parse_dockerfile::{Flag, Instruction};

/// One stage, as far as it matters here.
#[derive(Default)]
struct Stage {
    name: Option<String>,
    /// What FROM names.
    from: String,
    /// What the `--from` of its COPYs name.
    copied: Vec<String>,
    /// Whether FROM says a platform of its own, such as `$BUILDPLATFORM`.
    is_pinned: bool,
    runs: bool,
}

/// Whether a RUN of the target, or of a stage that it needs, is for the target's platform. Not certain is no: the engine
/// is then asked.
pub fn runs_programs(text: &[u8], target: Option<&str>) -> bool {
    let Some(stages) = stages(text) else { return false };
    let named = |name: &str, before: usize| {
        let by_name = stages[..before].iter().rposition(|stage| is_named(stage, name));
        by_name.or_else(|| name.parse::<usize>().ok().filter(|number| *number < before))
    };
    let first = match target {
        Some(target) => named(target, stages.len()),
        None => stages.len().checked_sub(1),
    };
    let mut open: Vec<usize> = first.into_iter().collect();
    let mut seen = vec![false; stages.len()];
    while let Some(at) = open.pop() {
        if std::mem::replace(&mut seen[at], true) {
            continue;
        }
        let stage = &stages[at];
        // The platform of a stage that goes on from another is that of the first.
        let mut root = at;
        while let Some(below) = named(&stages[root].from, root) {
            root = below;
        }
        if stage.runs && !stages[root].is_pinned && !stage.is_pinned {
            return true;
        }
        open.extend(std::iter::once(&stage.from).chain(&stage.copied).filter_map(|name| named(name, at)));
    }
    false
}

fn is_named(stage: &Stage, wanted: &str) -> bool {
    stage.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(wanted))
}

fn stages(text: &[u8]) -> Option<Vec<Stage>> {
    let text = std::str::from_utf8(text).ok()?;
    let parsed = parse_dockerfile::parse(text).ok()?;
    let mut stages: Vec<Stage> = Vec::new();
    for instruction in &parsed.instructions {
        match instruction {
            Instruction::From(from) => stages.push(Stage {
                name: from.as_.as_ref().map(|(_, name)| name.value.to_string()),
                from: from.image.value.to_string(),
                is_pinned: flag(&from.options, "platform").is_some(),
                ..Stage::default()
            }),
            Instruction::Copy(copy) => stages.last_mut()?.copied.extend(flag(&copy.options, "from")),
            Instruction::Run(_) => stages.last_mut()?.runs = true,
            _ => {}
        }
    }
    Some(stages)
}

fn flag(flags: &[Flag<'_>], name: &str) -> Option<String> {
    let flag = flags.iter().find(|flag| flag.name.value == name)?;
    Some(flag.value.as_ref()?.value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_counts_when_its_stage_is_for_the_target_and_needed() {
        for (text, target, expected) in [
            ("FROM a\nCOPY x /\n", None, false),
            ("FROM a\nRUN x\n", None, true),
            ("FROM --platform=$BUILDPLATFORM a AS b\nRUN x\nFROM scratch\nCOPY --from=b /x /\n", None, false),
            (
                "FROM --platform=$BUILDPLATFORM a AS b\nFROM b AS c\nRUN x\nFROM scratch\nCOPY --from=c /x /\n",
                None,
                false,
            ),
            ("FROM a AS b\nRUN x\nFROM scratch\nCOPY --from=B /x /\n", None, true),
            ("FROM a AS b\nRUN x\nFROM scratch\nCOPY --from=0 /x /\n", None, true),
            ("FROM a AS b\nRUN x\nFROM scratch\nCOPY x /\n", None, false),
            ("FROM a AS b\nRUN x\nFROM scratch\nCOPY x /\n", Some("b"), true),
            ("FROM a AS b\nRUN x\nFROM b\n", None, true),
            ("no Dockerfile", None, false),
        ] {
            assert_eq!(runs_programs(text.as_bytes(), target), expected, "{text:?} {target:?}");
        }
    }
}
