//! What changed between what two commits' images are made of.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::{Selection, Tree};
use crate::names::GitPath;

/// What happened to a file that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It counts now, and did not before: it is new, or the Dockerfile reads it now.
    Added,
    /// Its content or its mode is another.
    Changed,
    /// It counted before, and does not now.
    Removed,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        })
    }
}

/// Each counted file that is not the same, with the reason why it counts, or counted.
pub fn changes(before: (&Selection, &Tree), after: (&Selection, &Tree)) -> Vec<(GitPath, Change, super::Why)> {
    let paths: BTreeSet<&GitPath> = before.0.files.keys().chain(after.0.files.keys()).collect();
    let change = |path: &GitPath| match (before.0.files.get(path), after.0.files.get(path)) {
        (None, Some(why)) => Some((Change::Added, *why)),
        (Some(why), None) => Some((Change::Removed, *why)),
        (Some(_), Some(why)) if before.1.get(path) != after.1.get(path) => Some((Change::Changed, *why)),
        (Some(_), Some(_)) | (None, None) => None,
    };
    paths.into_iter().filter_map(|path| change(path).map(|(change, why)| (path.clone(), change, why))).collect()
}
