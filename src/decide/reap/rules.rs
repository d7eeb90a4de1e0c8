//! Whose tags are judged and how carefully, and when nothing is.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use super::Keep;
use crate::names::{BadName, Branch, GitRepository, Span};

/// Whose tags are judged, and how carefully.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The git repository of the source.
    pub repository: GitRepository,
    /// `source.git.branch`: it must be one of the branches.
    pub branch: Option<Branch>,
    /// `source.registry.tag_prefix`; empty for none.
    pub tag_prefix: String,
    /// The user's own rules.
    pub keep: Keep,
    /// How long a tag stays after it was first seen dead.
    pub grace: Grace,
    /// How many tags one run may remove, and how many images it deletes.
    pub max_delete: MaxDelete,
    /// Whether the images that earlier runs left without a tag are deleted.
    pub delete_untagged: bool,
}

impl Rules {
    /// Whether a tag has the form of a user's tag that goes with its branch.
    pub fn is_of_a_branch(&self, tag: &str) -> bool {
        self.keep.branch_tags.iter().any(|pattern| pattern.matches(&self.tag_prefix, tag))
    }
}

/// How long a dead tag stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grace(Span);

impl Grace {
    /// Whether a dead tag goes at once.
    pub fn is_none(self) -> bool {
        self.0.duration().is_zero()
    }

    /// Whether what is dead since then has been so for long enough; `None`: it was not seen dead before.
    pub(super) fn is_over(self, since: Option<Timestamp>, now: Timestamp) -> bool {
        self.is_none() || since.and_then(|since| self.end(since)).is_some_and(|end| end <= now)
    }

    /// When the grace of what is dead since then ends; `None` when that is beyond every calendar.
    pub(super) fn end(self, since: Timestamp) -> Option<Timestamp> {
        since.checked_add(self.0.duration()).ok()
    }
}

impl Default for Grace {
    /// A day: longer than the longest build.
    fn default() -> Self {
        Self(Span::hours(24))
    }
}

impl FromStr for Grace {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Grace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many tags one run may remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxDelete {
    /// The user said nothing: [`MaxDelete::COUNT`] tags, and at most half of ours when there are
    /// [`MaxDelete::SHARE_FROM`] or more.
    Default,
    /// The user's own number. He has seen the plan, so the share is not looked at.
    Count(usize),
}

impl MaxDelete {
    /// How many tags a run removes unless the user says more: as many as one chunk has.
    pub const COUNT: usize = 100;
    /// The number: of tags that one run removes, and of images without a tag that it deletes.
    pub(super) fn limit(self) -> usize {
        match self {
            Self::Default => Self::COUNT,
            Self::Count(limit) => limit,
        }
    }

    /// From how many tags of ours on the share counts. Below, half of them are soon dead for good reasons.
    pub const SHARE_FROM: usize = 20;
}

/// Why nothing can be decided, or why what was decided may not be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// git answered, and has no branch.
    #[error("git repository {repository} has no branches, so every image would look dead")]
    NoBranches {
        /// The git repository.
        repository: GitRepository,
    },
    /// HEAD of the remote names no branch, or one that is not there.
    #[error("the default branch of git repository {repository} is missing")]
    DefaultBranchMissing {
        /// The git repository.
        repository: GitRepository,
        /// The branch that HEAD names.
        head: Option<Branch>,
    },
    /// `source.git.branch` is not there.
    #[error("git repository {repository} has no branch {branch}, which `source.git.branch` names")]
    BranchMissing {
        /// The git repository.
        repository: GitRepository,
        /// The branch.
        branch: Branch,
    },
    /// git gave only a part of the history.
    #[error("git repository {repository} gave a shallow history, in which living commits look dead")]
    Shallow {
        /// The git repository.
        repository: GitRepository,
    },
    /// Another reaper is at work under the same prefix.
    #[error("the reaper of {} keeps its journal {tag} under the same tag prefix", other_reaper(repository.as_deref()))]
    OtherJournal {
        /// The tag of the journal.
        tag: String,
        /// The git repository of the other one; `None` when its journal cannot be read.
        repository: Option<String>,
        /// `source.registry.tag_prefix`.
        tag_prefix: String,
    },
    /// Something else is in the place of the journal.
    #[error("{tag} is no journal of the reaper, and its place is needed for one")]
    NotAJournal {
        /// The tag.
        tag: String,
    },
    /// The plan removes more than it may.
    #[error("the plan removes {removals} of {owned} tags, more than {limit}")]
    TooMany {
        /// How many tags it would remove.
        removals: usize,
        /// How many tags are ours.
        owned: usize,
        /// The limit, as text.
        limit: String,
    },
}

impl Refusal {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoBranches { .. } => "see that `source.git.uri` names the right repository".to_owned(),
            Self::DefaultBranchMissing { head: Some(head), .. } => {
                format!(
                    "HEAD of the remote names {head}, which does not exist; set the default branch on the git server"
                )
            }
            Self::DefaultBranchMissing { head: None, .. } => {
                "HEAD of the remote names no branch; set the default branch on the git server".to_owned()
            }
            Self::BranchMissing { .. } => {
                "reap judges every branch: leave `source.git.branch` out, or name one that lives".to_owned()
            }
            Self::Shallow { .. } => "see that `source.git.uri` is not itself a shallow clone".to_owned(),
            Self::OtherJournal { tag, repository, tag_prefix } => format!(
                "give each image of the repository its own `source.registry.tag_prefix`{}; if {} is gone or has another name now, remove the tag {tag}",
                if tag_prefix.is_empty() { String::new() } else { format!(", not both {tag_prefix:?}") },
                other_reaper(repository.as_deref()),
            ),
            Self::NotAJournal { tag } => format!("see what it is, and remove the tag {tag} or give it another name"),
            Self::TooMany { removals, .. } => {
                format!("read the plan; if it is right, allow it with --max-delete {removals}")
            }
        })
    }
}

fn other_reaper(repository: Option<&str>) -> &str {
    repository.unwrap_or("an unknown git repository")
}
