//! How a plan is shown: one line for each tag, sorted, so that two plans can be compared by `diff`; or as JSON.

use std::fmt;

use serde::Serialize;

use super::{Disorder, Judgement, MaxDelete, Plan, Reason, Verdict};
use crate::decide::reap::json::Limits;
use crate::decide::reap::text::{one_line, short};

impl Verdict {
    const ALL: [Self; 4] = [Self::Keep, Self::Unknown, Self::Restore, Self::Remove];

    fn word(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Unknown => "unknown",
            Self::Restore => "restore",
            Self::Remove => "remove",
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, repositories, max_delete } = self;
        let tags: usize = repositories.values().map(Vec::len).sum();
        writeln!(f, "registry {host}: matching repositories {}, tags {tags}", repositories.len())?;
        for (name, judgement) in repositories.iter().flat_map(|(name, all)| all.iter().map(move |one| (name, one))) {
            let Judgement { tag, digest, image, created, pushed, verdict, reason, order: _ } = judgement;
            let digest = digest.as_ref().map_or("-".to_owned(), short);
            write!(f, "{:<8} {}:{} {digest} ", verdict.word().to_uppercase(), one_line(name), one_line(tag))?;
            match (pushed, created) {
                (Some(pushed), _) => write!(f, "pushed {pushed}: ")?,
                (None, Some(created)) => write!(f, "made {created}: ")?,
                (None, None) => {}
            }
            write!(f, "{reason}")?;
            if let (Verdict::Restore, Some(image)) = (verdict, image) {
                write!(f, "; a tombstone lies on it, its image is {}", short(image))?;
            }
            writeln!(f)?;
        }
        let counts = Verdict::ALL.map(|verdict| format!("{} {}", verdict.word(), self.count(verdict)));
        writeln!(f, "summary  {}", counts.join(", "))?;
        match (self.within_limits(), max_delete) {
            (Ok(()), MaxDelete::Count(limit)) => write!(f, "limits   within --max-delete {limit}"),
            (Ok(()), MaxDelete::Default) => write!(f, "limits   within {} tags a run", MaxDelete::COUNT),
            (Err(refusal), _) => write!(f, "limits   exceeded, --apply would refuse: {refusal}"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest(last) => write!(f, "one of the newest {last}"),
            Self::Latest => f.write_str("the name of what is newest"),
            Self::Protected(pattern) => write!(f, "protected by {pattern:?}"),
            Self::SameDigest(tag) => write!(f, "tag {} stays on the same digest", one_line(tag)),
            Self::Part(tag) => write!(f, "part of the index of tag {}, which stays", one_line(tag)),
            Self::Attached(tag) => write!(f, "belongs to the image of tag {}, which stays", one_line(tag)),
            Self::Reaper => f.write_str("the reaper's own"),
            Self::Missing => f.write_str("listed, but there is no manifest"),
            Self::Disorder(disorder) => write!(f, "the versions have no order: {disorder}"),
            Self::SubjectUntagged => f.write_str("belongs to an image that no tag points to"),
            Self::Older(last) => write!(f, "older than the newest {last}"),
            Self::PartOfOlder(tag) => write!(f, "part of the index of tag {}", one_line(tag)),
            Self::AttachedToOlder(tag) => write!(f, "belongs to the image of tag {} alone", one_line(tag)),
            Self::AttachedToRemoved => f.write_str("belongs to an image that an earlier prune removed"),
            Self::LeftOver => f.write_str("left by an earlier prune"),
        }
    }
}

impl fmt::Display for Disorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { tag, why } => write!(f, "when {} was made is not told, {}", one_line(tag), one_line(why)),
            Self::Absurd { tag, created } => {
                write!(f, "{} says that it was made {created}, before 2013 or in the future", one_line(tag))
            }
            Self::Equal { tag, other } => {
                write!(f, "{} and {} were made at the same time", one_line(tag), one_line(other))
            }
        }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    registry: &'a str,
    tags: Vec<Row<'a>>,
    summary: serde_json::Map<String, serde_json::Value>,
    limits: Limits,
}

#[derive(Serialize)]
struct Row<'a> {
    repository: &'a str,
    tag: &'a str,
    verdict: &'static str,
    reason: String,
    /// What the tag resolves to.
    digest: Option<String>,
    /// The image that it stands for.
    image: Option<String>,
    created: Option<String>,
    /// When the registry got it, where it tells that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pushed: Option<String>,
}

impl<'a> Row<'a> {
    fn new(repository: &'a str, judgement: &'a Judgement) -> Self {
        let Judgement { tag, digest, image, created, pushed, verdict, reason, order: _ } = judgement;
        Self {
            repository,
            tag,
            verdict: verdict.word(),
            reason: reason.to_string(),
            digest: digest.map(|digest| digest.to_string()),
            image: image.map(|digest| digest.to_string()),
            created: created.map(|created| created.to_string()),
            pushed: pushed.map(|pushed| pushed.to_string()),
        }
    }
}

impl Plan {
    /// The plan as one JSON object, on one line.
    pub fn json(&self) -> String {
        let count = |verdict: Verdict| (verdict.word().to_owned(), self.count(verdict).into());
        let document = Document {
            registry: &self.host,
            tags: self
                .repositories
                .iter()
                .flat_map(|(name, all)| all.iter().map(move |one| Row::new(name, one)))
                .collect(),
            summary: Verdict::ALL.map(count).into_iter().collect(),
            limits: Limits::new(self.max_delete, self.within_limits()),
        };
        serde_json::to_string(&document).expect("a plan has only text keys, so it is always JSON")
    }
}
