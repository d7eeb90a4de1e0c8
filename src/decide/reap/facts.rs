//! What was read of registry and git.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use super::attached::Subject;
use super::journal::Journal;
use super::pulls::Pulls;
use super::{Rules, form};
use crate::decide::tags::{OurTag, content_id};
use crate::names::{Branch, CommitId, Digest, InputsId};

/// What was read: first the registry, then git.
///
/// The order matters. A tag that was listed belongs to a commit that git had before; if that commit is alive, git
/// still shows it afterwards. Read the other way round, an image that is pushed between the two reads looks dead.
#[derive(Debug, Clone)]
pub struct Found {
    /// The registry's part.
    pub registry: RegistryFacts,
    /// git's part.
    pub git: GitFacts,
}

/// What the registry has.
#[derive(Debug, Clone)]
pub struct RegistryFacts {
    /// The repository of the registry, for people.
    pub repository: String,
    /// Every tag that the registry lists, and what it points to.
    pub tags: BTreeMap<String, TagState>,
    /// What the indexes have that tags point to, also what lies deeper. Read only when a tag belongs to an image,
    /// or when images without a tag are to be deleted.
    pub children: BTreeMap<Digest, BTreeSet<Digest>>,
    /// Images that no tag points to, and to which tags belong.
    pub subjects: BTreeMap<Digest, Subject>,
    /// When tags and images were pulled. Asked only for when a tag is dead and there is a grace period.
    pub pulls: Pulls,
}

/// What a tag that is listed points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagState {
    /// The registry lists it and answers 404 for it.
    Missing,
    /// A manifest that the reaper did not write.
    Image {
        /// The digest that the tag resolves to.
        digest: Digest,
        /// What the image says of itself.
        origin: Origin,
    },
    /// A tombstone that a run of the reaper left when it was stopped.
    Tombstone {
        /// The digest of the tombstone.
        digest: Digest,
        /// The git repository whose reaper wrote it, by its canonical name.
        repository: String,
        /// Where the tag pointed to before; `None` when the tombstone does not name this tag.
        before: Option<Before>,
    },
    /// A probe that a run of the reaper left when it was stopped.
    Canary {
        /// The digest of the probe.
        digest: Digest,
        /// The git repository whose reaper wrote it, by its canonical name.
        repository: String,
    },
    /// A journal of the reaper.
    Journal {
        /// The digest of the journal.
        digest: Digest,
        /// The git repository whose reaper wrote it, by its canonical name; `None` when it cannot be read.
        repository: Option<String>,
        /// What it says; or why it cannot be read, in one line.
        journal: Result<Journal, String>,
    },
}

/// Where a tag pointed to before a tombstone was put on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Before {
    /// The manifest is still there.
    Image {
        /// Its digest.
        digest: Digest,
        /// What the image says of itself.
        origin: Origin,
    },
    /// The registry has no such manifest any more.
    Gone,
}

/// What an image says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Its labels were not read: no tag that depends on them points to it.
    NotRead,
    /// Its labels cannot be read.
    Unreadable {
        /// Why, in one line.
        why: String,
    },
    /// Its labels.
    Labels(Labels),
}

/// The labels that tell whose an image is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels {
    /// `git-image.repository`: the canonical name of the git repository.
    pub repository: Option<String>,
    /// `git-image.commit`: the commit that the image was first built from.
    pub commit: Option<String>,
    /// `git-image.inputs`: the inputs that it was built from.
    pub inputs: Option<String>,
    /// `git-image.bases`: the bases that it was built on, when they were followed.
    pub bases: Option<String>,
}

impl Labels {
    /// What its content tag ends in; `None`: the labels do not say.
    pub(super) fn content(&self) -> Option<InputsId> {
        let inputs = self.inputs.as_deref()?.parse().ok()?;
        let bases = match self.bases.as_deref() {
            Some(bases) => Some(bases.parse().ok()?),
            None => None,
        };
        Some(content_id(inputs, bases))
    }
}

/// What git has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitFacts {
    /// The branch that the remote's HEAD names; `None` when it names none.
    pub default_branch: Option<Branch>,
    /// Every branch and its tip.
    pub branches: BTreeMap<Branch, CommitId>,
    /// Tips of further branches, which have names that no tag of ours can come from.
    pub others: BTreeSet<CommitId>,
    /// Every git tag and the commit that it leads to.
    pub tags: BTreeMap<String, CommitId>,
    /// Whether the whole history was read.
    pub history: History,
    /// Of [`Question::commits`], those that a branch or git tag reaches.
    pub reachable: BTreeSet<CommitId>,
    /// Where they lie, when only the last are kept.
    pub lines: Lines,
    /// What was asked.
    pub asked: Question,
}

/// What git is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Question {
    /// The commits that tags and labels name.
    pub commits: BTreeSet<CommitId>,
    /// How many of them are wanted of each branch's line; `None` when nothing depends on it.
    pub last: Option<NonZeroUsize>,
}

/// The newest of the commits in question, on the first-parent lines of branches and git tags.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lines {
    /// Of each branch, newest first, as many as were asked for.
    pub branches: BTreeMap<Branch, Vec<Placed>>,
    /// Of each git tag, the newest.
    pub tags: BTreeMap<String, CommitId>,
    /// Of each branch that no tag of ours can come from, all that were asked for.
    pub others: BTreeSet<CommitId>,
}

/// A commit on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// The commit.
    pub commit: CommitId,
    /// When it was committed, in seconds of Unix.
    pub time: i64,
}

/// How much of the history git gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// All of it.
    Complete,
    /// A shallow clone: what lies beyond its boundary would look unreachable.
    Shallow,
}

impl GitFacts {
    /// Whether this says all that is asked for.
    pub fn answers(&self, question: &Question) -> bool {
        self.asked.last == question.last && question.commits.is_subset(&self.asked.commits)
    }

    /// Whether branches, git tags and the default branch are the same, so that nothing has to be decided anew.
    pub fn same_refs(&self, other: &GitFacts) -> bool {
        let Self { default_branch, branches, others, tags, history: _, reachable: _, lines: _, asked: _ } = self;
        (default_branch, branches, others, tags) == (&other.default_branch, &other.branches, &other.others, &other.tags)
    }
}

impl RegistryFacts {
    /// What git has to be asked to judge these tags.
    pub fn question(&self, rules: &Rules) -> Question {
        let named = self.tags.iter().filter_map(|(tag, state)| match form(rules, tag) {
            OurTag::Commit(commit) => Some(commit),
            OurTag::Content(_) => state.labels()?.commit.as_deref()?.parse().ok(),
            OurTag::Latest { .. } | OurTag::Cache { .. } | OurTag::Reaper | OurTag::Foreign => None,
        });
        let journals = self.tags.values().filter(|_| rules.delete_untagged).filter_map(|state| match state {
            TagState::Journal { journal: Ok(journal), .. } => Some(journal),
            TagState::Journal { journal: Err(_), .. }
            | TagState::Missing
            | TagState::Image { .. }
            | TagState::Tombstone { .. }
            | TagState::Canary { .. } => None,
        });
        let untagged = journals.flat_map(|journal| journal.untagged.values()).filter_map(|image| image.commit);
        Question { commits: named.chain(untagged).collect(), last: rules.keep.last.map(|last| last.count) }
    }
}

impl TagState {
    pub(super) fn digest(&self) -> Option<Digest> {
        match self {
            Self::Missing => None,
            Self::Image { digest, .. }
            | Self::Tombstone { digest, .. }
            | Self::Canary { digest, .. }
            | Self::Journal { digest, .. } => Some(*digest),
        }
    }

    /// The digest of the image that the tag stands for.
    pub fn image_digest(&self) -> Option<Digest> {
        self.image().map(|(digest, _)| digest)
    }

    /// The image that the tag stands for: below a tombstone, the one from before.
    pub(super) fn image(&self) -> Option<(Digest, &Origin)> {
        match self {
            Self::Image { digest, origin } => Some((*digest, origin)),
            Self::Tombstone { before: Some(Before::Image { digest, origin }), .. } => Some((*digest, origin)),
            Self::Missing | Self::Tombstone { .. } | Self::Canary { .. } | Self::Journal { .. } => None,
        }
    }

    pub(super) fn labels(&self) -> Option<&Labels> {
        match self.image() {
            Some((_, Origin::Labels(labels))) => Some(labels),
            Some((_, Origin::NotRead | Origin::Unreadable { .. })) | None => None,
        }
    }
}
