//! The words of a build that are hashed only when they are given.

use std::collections::BTreeMap;

use crate::names::{CommitId, Digest, GitPath};

/// What a build may read under a name, besides its context: in `FROM` and in `--from` of `COPY` and `RUN --mount`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// An image, as it was written: which digest its tag has does not count.
    Image(String),
    /// A commit of another repository.
    Git {
        /// The address, without user info.
        url: String,
        /// The commit.
        commit: CommitId,
    },
    /// A directory of this repository. All that lies in it counts, and is hashed with the other files.
    Directory(GitPath),
    /// An image in a directory of this repository, as an OCI layout. All that lies in it counts, as for a directory.
    Layout(GitPath),
    /// An image that another step made: the digest of its manifest or index.
    Finished(Digest),
}

impl NamedContext {
    /// What is hashed of it, besides files.
    pub(super) fn hashed(&self) -> Vec<u8> {
        match self {
            Self::Image(reference) => format!("image:{reference}").into_bytes(),
            Self::Git { url, commit } => format!("git:{url}#{commit}").into_bytes(),
            Self::Directory(directory) => [b"directory:", directory.as_bytes()].concat(),
            Self::Layout(directory) => [b"layout:", directory.as_bytes()].concat(),
            Self::Finished(digest) => format!("finished:{digest}").into_bytes(),
        }
    }
}

/// Words by the key that the user wrote, each with its values in their order.
///
/// A word that is not given is not hashed at all, so an image whose recipe lacks it keeps the digest that it had before
/// there was such a word. What changes neither the files of an image nor what a `RUN` sees has no place here: where
/// builds are cached, how layers are compressed, and what the build is merely allowed to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Words(BTreeMap<&'static str, Vec<String>>);

impl Words {
    /// These words, and one more. Without values it is not given.
    #[must_use]
    pub fn with(mut self, key: &'static str, values: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let values: Vec<String> = values.into_iter().map(Into::into).collect();
        if !values.is_empty() {
            self.0.insert(key, values);
        }
        self
    }

    /// These words, and one more when it is set.
    #[must_use]
    pub fn with_flag(self, key: &'static str, is_set: bool) -> Self {
        self.with(key, is_set.then_some("true"))
    }

    /// The words in the order of their keys.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &[String])> {
        self.0.iter().map(|(key, values)| (*key, values.as_slice()))
    }
}
