//! A plan as JSON: the same as its text, for programs.

use serde::Serialize;

use super::{Fate, MaxDelete, Plan, Verdict};

#[derive(Serialize)]
struct Document<'a> {
    registry: &'a str,
    git: &'a str,
    tag_prefix: &'a str,
    default_branch: Option<&'a str>,
    branches: usize,
    grace: String,
    now: String,
    tags: Vec<Row<'a>>,
    /// The images without a tag; absent when these are left alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    untagged: Option<Vec<UntaggedRow>>,
    summary: Summary,
    limits: Limits,
}

#[derive(Serialize)]
struct Row<'a> {
    tag: &'a str,
    verdict: &'static str,
    reason: String,
    /// What the tag resolves to.
    digest: Option<String>,
    /// The image that it stands for.
    image: Option<String>,
    dead_since: Option<String>,
    goes_after: Option<String>,
    /// When it was pulled last, where the registry tells that of a dead tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pulled: Option<String>,
    /// When it was first seen dead, if its clock began anew because of a pull.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_dead: Option<String>,
    /// The other tags on the same image that stay.
    siblings: &'a [String],
}

#[derive(Serialize)]
struct UntaggedRow {
    digest: String,
    verdict: &'static str,
    reason: String,
    untagged_since: String,
    goes_after: Option<String>,
    /// The manifests that belong to it.
    parts: Vec<String>,
}

#[derive(Serialize)]
struct Summary {
    keep: usize,
    foreign: usize,
    unknown: usize,
    grace: usize,
    restore: usize,
    remove: usize,
}

/// What one run may remove, in a plan as JSON.
#[derive(Serialize)]
pub(in crate::decide) struct Limits {
    max_delete: usize,
    /// Why --apply would refuse.
    exceeded: Option<String>,
}

impl Limits {
    pub(in crate::decide) fn new<E: ToString>(max_delete: MaxDelete, within: Result<(), E>) -> Self {
        Self { max_delete: max_delete.limit(), exceeded: within.err().map(|refusal| refusal.to_string()) }
    }
}

impl Plan {
    /// The plan as one JSON object, on one line.
    pub fn json(&self) -> String {
        let Self { registry, repository, tag_prefix, git, grace, now, max_delete, judgements, .. } = self;
        let rows = judgements.iter().map(|judgement| Row {
            tag: &judgement.tag,
            verdict: judgement.verdict.word(),
            reason: judgement.reason.to_string(),
            digest: judgement.digest.map(|digest| digest.to_string()),
            image: judgement.image.map(|digest| digest.to_string()),
            dead_since: judgement.clock.since.map(|since| since.to_string()),
            goes_after: judgement
                .clock
                .since
                .filter(|_| judgement.verdict == Verdict::Grace && !judgement.clock.stands)
                .and_then(|since| Some(grace.end(since)?.to_string())),
            pulled: judgement.clock.pulled.map(|pulled| pulled.to_string()),
            first_dead: judgement.clock.first.map(|first| first.to_string()),
            siblings: &judgement.siblings,
        });
        let untagged = self.untagged.iter().map(|leftover| UntaggedRow {
            digest: leftover.digest.to_string(),
            verdict: leftover.fate.word(),
            reason: leftover.fate.to_string(),
            untagged_since: leftover.noted.since.to_string(),
            goes_after: (leftover.fate == Fate::Grace)
                .then(|| grace.end(leftover.noted.since))
                .flatten()
                .map(|end| end.to_string()),
            parts: leftover.noted.parts.iter().map(ToString::to_string).collect(),
        });
        let document = Document {
            registry,
            git: repository.as_str(),
            tag_prefix,
            default_branch: git.default_branch.as_ref().map(|branch| branch.as_str()),
            branches: git.branches.len() + git.others.len(),
            grace: grace.to_string(),
            now: now.to_string(),
            tags: rows.collect(),
            untagged: self.delete_untagged.then(|| untagged.collect()),
            summary: Summary {
                keep: self.count(Verdict::Keep),
                foreign: self.count(Verdict::Foreign),
                unknown: self.count(Verdict::Unknown),
                grace: self.count(Verdict::Grace),
                restore: self.count(Verdict::Restore),
                remove: self.count(Verdict::Remove),
            },
            limits: Limits::new(*max_delete, self.within_limits()),
        };
        serde_json::to_string(&document).expect("a plan has only text keys, so it is always JSON")
    }
}
