//! The build context: what a checkout has for the engine, and which of it is part of the inputs.

use std::path::PathBuf;

use crate::names::{GitPath, ObjectId};

/// Everything below the context directory of a checkout that is no directory, without `.git`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Context {
    entries: Vec<ContextEntry>,
}

/// One file or symbolic link of the context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextEntry {
    /// Where it is, relative to the context.
    pub path: GitPath,
    /// What it is.
    pub kind: ContextKind,
    /// git's id of its content: where its times come from.
    pub id: ObjectId,
    /// Whether it is part of the inputs. The engine never gets what is not.
    pub share: Share,
    /// Where a file's bytes are read.
    pub on_disk: PathBuf,
}

/// What an entry of the context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextKind {
    /// A file: 0755 when it is executable, else 0644.
    File {
        /// Whether git calls it executable.
        executable: bool,
        /// Its size, in bytes.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// What it says, in bytes as it is on disk.
        target: Vec<u8>,
    },
}

/// Whether an entry is part of what the image is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// It is part of the inputs.
    Counted,
    /// It is in the checkout, and the image must not depend on it.
    Beyond,
}

impl Context {
    /// A context of these entries. Their order does not matter; of two with one path the first stays; `.git` is left out.
    pub fn new(mut entries: Vec<ContextEntry>) -> Self {
        entries.retain(|entry| entry.path.parts().next().is_some_and(|first| first != b".git"));
        entries.sort_by(|a, b| a.path.parts().cmp(b.path.parts()));
        entries.dedup_by(|a, b| a.path == b.path);
        Self { entries }
    }

    /// The entries in the order that the engine wants: by the parts of their paths.
    pub fn entries(&self) -> &[ContextEntry] {
        &self.entries
    }
}
