//! How a plan is shown: one line for each tag, sorted by tag, so that two plans can be compared by `diff`.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::journal::{Before, Journal};
use super::pulls::Clock;
use super::{Fate, GitFacts, Gone, Judgement, Leftover, MaxDelete, Plan, Reason, Verdict};
use crate::names::Digest;

/// A base image may have hundreds of tags; a few of them say enough.
const SIBLINGS_SHOWN: usize = 3;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { registry, repository, tag_prefix, git, grace, before, max_delete, judgements, .. } = self;
        let prefix = if tag_prefix.is_empty() { String::new() } else { format!(", tag_prefix {tag_prefix:?}") };
        writeln!(f, "registry {registry}: {}{prefix}", count(judgements.len(), "tag", "tags"))?;
        writeln!(f, "git      {repository}: {}", GitLine(git))?;
        for judgement in judgements {
            write!(f, "{judgement}")?;
            self.clock(judgement, f)?;
            writeln!(f)?;
        }
        for leftover in &self.untagged {
            write!(f, "{:<8} - {} ", leftover.fate.word().to_uppercase(), short(&leftover.digest))?;
            self.untagged_reason(leftover, f)?;
            writeln!(f)?;
        }
        let counts = Verdict::ALL.map(|verdict| format!("{} {}", verdict.word(), self.count(verdict)));
        writeln!(f, "summary  {}", counts.join(", "))?;
        if self.delete_untagged {
            writeln!(f, "untagged {}", self.untagged_counts())?;
        }
        if !grace.is_none() {
            write!(f, "grace    {grace}: ")?;
            match before {
                Before::None => writeln!(f, "the clock of every dead tag starts with the first --apply")?,
                Before::Unreadable { why } => {
                    let why = one_line(why);
                    writeln!(f, "the journal cannot be read, so every clock starts anew with --apply: {why}")?;
                }
                Before::Read(Journal { written, dead, .. }) => {
                    writeln!(f, "the journal of {written} has {}", count(dead.len(), "dead tag", "dead tags"))?;
                }
            }
        }
        match (self.within_limits(), max_delete) {
            (Ok(()), MaxDelete::Count(limit)) => write!(f, "limits   within --max-delete {limit}"),
            (Ok(()), MaxDelete::Default) => write!(f, "limits   within {} tags a run", MaxDelete::COUNT),
            (Err(refusal), _) => write!(f, "limits   exceeded, --apply would refuse: {refusal}"),
        }
    }
}

impl Plan {
    /// Since when a tag is dead, and until when it stays. Without a grace period nobody asks.
    pub(super) fn clock(&self, judgement: &Judgement, f: &mut impl fmt::Write) -> fmt::Result {
        if self.grace.is_none() {
            return Ok(());
        }
        let Clock { since, pulled, first, stands } = judgement.clock;
        match (judgement.verdict, since) {
            (Verdict::Grace, None) => write!(f, "; its clock starts with --apply"),
            (Verdict::Grace, Some(since)) if stands => {
                write!(f, "; dead since {since}, stays until the registry tells again when it was pulled")
            }
            (Verdict::Grace, Some(since)) => {
                match (first, pulled) {
                    (None, _) => write!(f, "; dead since {since}")?,
                    (Some(first), Some(pulled)) => write!(
                        f,
                        "; a pull of {pulled} was told after it was first seen dead on {first}: its clock began anew on {since}"
                    )?,
                    (Some(first), None) => write!(
                        f,
                        "; pulls are told no more since it was first seen dead on {first}: its clock began anew on {since}"
                    )?,
                }
                self.grace.end(since).map_or(Ok(()), |end| write!(f, ", goes after {end}"))
            }
            (Verdict::Remove, Some(since)) => write!(f, "; dead since {since}"),
            (Verdict::Remove | Verdict::Keep | Verdict::Foreign | Verdict::Unknown | Verdict::Restore, _) => Ok(()),
        }
    }

    /// Why an image without a tag goes or stays, since when it has none, and what goes with it.
    pub(super) fn untagged_reason(&self, leftover: &Leftover, f: &mut impl fmt::Write) -> fmt::Result {
        let Leftover { digest: _, noted, fate } = leftover;
        let since = noted.since;
        write!(f, "{fate}")?;
        match (fate, self.grace.end(since)) {
            (Fate::Grace, Some(end)) => write!(f, " since {since}, goes after {end}")?,
            (Fate::Grace | Fate::Delete | Fate::NextRun, _) => write!(f, " since {since}")?,
            (Fate::CommitLives(_) | Fate::HasAttached(_) | Fate::Tagged(_) | Fate::PartOf(_), _) => {}
        }
        match noted.parts.len() {
            0 => Ok(()),
            parts => write!(f, "; with {}", count(parts, "manifest more", "manifests more")),
        }
    }

    /// How many images without a tag have which fate.
    pub(super) fn untagged_counts(&self) -> String {
        let counts = Fate::WORDS.map(|word| {
            let count = self.untagged.iter().filter(|leftover| leftover.fate.word() == word).count();
            format!("{word} {count}")
        });
        counts.join(", ")
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delete | Self::Grace => f.write_str("no tag is left"),
            Self::NextRun => f.write_str("too many for one run; no tag is left"),
            Self::CommitLives(commit) => write!(f, "no tag is left, but commit {} is alive again", commit.short()),
            Self::HasAttached(tag) => write!(f, "no tag is left, but {} belongs to it", one_line(tag)),
            Self::Tagged(tag) => write!(f, "tag {} points to it again", one_line(tag)),
            Self::PartOf(tag) => write!(f, "the index of tag {} has it", one_line(tag)),
        }
    }
}

impl Fate {
    const WORDS: [&str; 3] = ["keep", "grace", "delete"];

    /// The word for it.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Grace | Self::NextRun => "grace",
            Self::CommitLives(_) | Self::HasAttached(_) | Self::Tagged(_) | Self::PartOf(_) => "keep",
        }
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tag, digest, image, verdict, reason, clock: _, order: _, siblings } = self;
        let digest = digest.as_ref().map_or("-".to_owned(), short);
        write!(f, "{:<8} {} {digest} {reason}", verdict.word().to_uppercase(), one_line(tag))?;
        match verdict {
            Verdict::Restore => match image {
                Some(image) => write!(f, "; a tombstone lies on it, its image is {}", short(image)),
                None => Ok(()),
            },
            Verdict::Remove | Verdict::Grace if !siblings.is_empty() => {
                let shown = &siblings[..siblings.len().min(SIBLINGS_SHOWN)];
                write!(f, "; the image stays as {}", one_line(&shown.join(", ")))?;
                match siblings.len() - shown.len() {
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
            Verdict::Remove | Verdict::Grace | Verdict::Keep | Verdict::Foreign | Verdict::Unknown => Ok(()),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reachable(commit) => write!(f, "commit {} is reachable", commit.short()),
            Self::BranchLives(branch) => write!(f, "branch {branch} is there"),
            Self::NewestOf(branch) => write!(f, "the newest image of branch {branch}"),
            Self::LastOf(branch, last) => write!(f, "one of the last {} images of branch {branch}", last.count),
            Self::LastOfAll(last) => write!(f, "one of the last {} images of all branches", last.count),
            Self::GitTag(tag) => write!(f, "the image of git tag {}", one_line(tag)),
            Self::Protected(pattern) => write!(f, "protected by {pattern:?}"),
            Self::Release => f.write_str("a release or an alias of one"),
            Self::SameDigest(tag) => write!(f, "tag {tag} stays on the same digest"),
            Self::Attached(tag) => write!(f, "belongs to the image of tag {}, which stays", one_line(tag)),
            Self::AttachedToDead(tag) => write!(f, "belongs to the image of tag {} alone", one_line(tag)),
            Self::SubjectUntagged => f.write_str("belongs to an image that no tag points to any more"),
            Self::SubjectGone => f.write_str("belongs to an image that is not there"),
            Self::Journal => f.write_str("the reaper's journal"),
            Self::Reserved => f.write_str("reserved for the reaper"),
            Self::NotOurForm => f.write_str("not a tag that git-image writes here"),
            Self::NotLabelled => f.write_str("the image has no label git-image.repository"),
            Self::OtherRepository(name) => write!(f, "of another git repository: {}", one_line(name)),
            Self::OtherPrefix(prefix) => write!(f, "its inputs are tagged with another tag_prefix: {prefix:?}"),
            Self::Dangling => f.write_str("listed, but the registry has no manifest for it"),
            Self::Unreadable(why) => write!(f, "the image's labels cannot be read: {}", one_line(why)),
            Self::Unread => f.write_str("its labels were not read"),
            Self::NoCommit => f.write_str("the image has no commit in its label git-image.commit"),
            Self::PrefixUnclear(prefix) => write!(f, "may belong to the image with tag_prefix {prefix:?}"),
            Self::CommitGone(commit, gone) => write!(f, "commit {} {gone}", commit.short()),
            Self::NoBranch => f.write_str("its branch is gone"),
            Self::Unused(commit, gone) => {
                write!(f, "commit {} {gone}, and no tag that stays needs it", commit.short())
            }
            Self::LeftOverCanary => f.write_str("a probe of an earlier run"),
            Self::TombstoneWithoutImage => f.write_str("a tombstone of an earlier run, with no image to put back"),
        }
    }
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => f.write_str("is unreachable"),
            Self::BeyondLast(last) => write!(f, "is not among the {last}"),
        }
    }
}

impl Verdict {
    pub(super) const ALL: [Self; 6] =
        [Self::Keep, Self::Foreign, Self::Unknown, Self::Grace, Self::Restore, Self::Remove];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Foreign => "foreign",
            Self::Unknown => "unknown",
            Self::Grace => "grace",
            Self::Restore => "restore",
            Self::Remove => "remove",
        }
    }
}

/// What of git was looked at: enough to see in two logs whether git moved between them.
struct GitLine<'a>(&'a GitFacts);

impl fmt::Display for GitLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GitFacts { default_branch, branches, others, tags, history: _, reachable: _, lines: _, asked: _ } = self.0;
        let mut hash = Sha256::new();
        for (name, commit) in branches.iter().map(|(branch, commit)| (branch.full_ref(), commit)) {
            hash.update(format!("{commit} {name}\n"));
        }
        for (name, commit) in tags {
            hash.update(format!("{commit} refs/tags/{name}\n"));
        }
        for commit in others {
            hash.update(format!("{commit}\n"));
        }
        let tips = &hex::encode(hash.finalize())[..12];
        write!(f, "{}, ", count(branches.len() + others.len(), "branch", "branches"))?;
        if let Some(branch) = default_branch {
            write!(f, "default {branch}, ")?;
        }
        write!(f, "{}, tips {tips}", count(tags.len(), "git tag", "git tags"))
    }
}

pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// The first twelve digits: enough to find it, short enough for a line.
pub fn short(digest: &Digest) -> String {
    format!("sha256:{}", &digest.hex()[..12])
}

/// Text from a registry cannot begin a line of its own, or colour the terminal.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}
