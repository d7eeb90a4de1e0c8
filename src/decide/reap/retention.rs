//! What stays although nobody asks git for it, and what goes although git has it: the user's own rules.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use super::plan::{Gone, Reason};
use super::{GitFacts, Lines};
use crate::decide::tags::{self, OurTag};
use crate::names::{BadName, Branch, CommitId, Tag};

/// The user's own rules: `source.reap`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keep {
    /// How many images stay of those that git reaches; `None`: all of them.
    pub last: Option<KeepLast>,
    /// Tags that stay whatever happens; `*` stands for any characters.
    pub protected: Vec<String>,
    /// Users' tags that go with their branch.
    pub branch_tags: Vec<BranchTag>,
}

/// How many images stay of those that git reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepLast {
    /// How many, the newest first. The newest of each branch and of each git tag stays whatever it is.
    pub count: NonZeroUsize,
    /// Of what.
    pub per: Per,
}

/// Of what the last images are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Per {
    /// Of each branch, along its first-parent line.
    Branch,
    /// Of all branches together, by the time of their commits.
    Image,
}

impl fmt::Display for KeepLast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.per {
            Per::Branch => write!(f, "last {} of a branch", self.count),
            Per::Image => write!(f, "last {} of all branches", self.count),
        }
    }
}

/// A users' tag with the branch in it: `{branch}` with text before or behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchTag {
    before: String,
    behind: String,
}

impl BranchTag {
    /// The tag of a branch.
    pub(super) fn of(&self, prefix: &str, branch: &Branch) -> String {
        format!("{prefix}{}{}{}", self.before, tags::slug(branch), self.behind)
    }

    /// Whether it is the tag of some branch, alive or not.
    pub(super) fn matches(&self, prefix: &str, tag: &str) -> bool {
        let rest = tag.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(self.before.as_str()));
        rest.and_then(|rest| rest.strip_suffix(self.behind.as_str())).is_some_and(|slug| !slug.is_empty())
    }
}

impl FromStr for BranchTag {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let bad = |why: &str| BadName { what: "pattern", text: text.to_owned(), why: why.to_owned() };
        let (before, behind) = text.split_once("{branch}").ok_or_else(|| bad("has no {branch}"))?;
        if before.is_empty() && behind.is_empty() {
            return Err(bad("is every tag; write something before or behind {branch}"));
        }
        let example =
            format!("{before}b{behind}").parse::<Tag>().map_err(|error| bad(&format!("is no tag: {error}")))?;
        if tags::classify("", &example) != OurTag::Foreign {
            return Err(bad("has a form that only this resource writes"));
        }
        Ok(Self { before: before.to_owned(), behind: behind.to_owned() })
    }
}

/// The commits whose images stay when only the last do, and why.
pub(super) fn kept(last: KeepLast, git: &GitFacts) -> BTreeMap<CommitId, Reason> {
    let Lines { branches, tags, others } = &git.lines;
    let mut kept = BTreeMap::new();
    let mut keep = |commit: CommitId, reason: Reason| {
        kept.entry(commit).or_insert(reason);
    };
    for (branch, line) in branches {
        if let Some(newest) = line.first() {
            keep(newest.commit, Reason::NewestOf(branch.clone()));
        }
    }
    for (tag, commit) in tags {
        keep(*commit, Reason::GitTag(tag.clone()));
    }
    for commit in others {
        keep(*commit, Reason::Reachable(*commit));
    }
    match last.per {
        Per::Branch => {
            for (branch, line) in branches {
                for placed in line.iter().take(last.count.get()) {
                    keep(placed.commit, Reason::LastOf(branch.clone(), last));
                }
            }
        }
        Per::Image => {
            let placed = branches.values().flatten().map(|placed| (placed.commit, placed.time));
            let times: BTreeMap<CommitId, i64> = placed.collect();
            let mut newest: Vec<(i64, CommitId)> = times.into_iter().map(|(commit, time)| (time, commit)).collect();
            newest.sort_by(|one, other| other.cmp(one));
            for (_, commit) in newest.into_iter().take(last.count.get()) {
                keep(commit, Reason::LastOfAll(last));
            }
        }
    }
    kept
}

/// Why the image of a commit stays or goes.
pub(super) fn of_commit(
    commit: CommitId,
    git: &GitFacts,
    last: Option<KeepLast>,
    kept: &BTreeMap<CommitId, Reason>,
) -> Result<Reason, Gone> {
    match last {
        _ if !git.reachable.contains(&commit) => Err(Gone::Unreachable),
        None => Ok(Reason::Reachable(commit)),
        Some(last) => kept.get(&commit).cloned().ok_or(Gone::BeyondLast(last)),
    }
}
