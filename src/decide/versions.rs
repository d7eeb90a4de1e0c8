//! Which versions a branch has, and which of them check answers.

use crate::names::{CommitId, GitPath};

/// The first parent of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// This commit.
    Commit(CommitId),
    /// It has none: the first commit of a history.
    Root,
    /// Not known: the commit lies at the boundary of what was fetched.
    Unknown,
}

/// A commit of the first-parent line of a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineCommit {
    /// The commit.
    pub id: CommitId,
    /// Its first parent.
    pub parent: Parent,
    /// The paths that differ from the first parent; every path for a root; empty when the parent is unknown.
    pub changed: Vec<GitPath>,
    /// Whether its message has `[ci skip]` or `[skip ci]`.
    pub ci_skip: bool,
}
