//! What an image is made of, and the digest of it: the `inputs` of a version.

use std::collections::BTreeMap;

use crate::names::{GitPath, ObjectId};

/// What git says of a path besides its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// 100644.
    File,
    /// 100755.
    Executable,
    /// 120000.
    Symlink,
    /// 160000: a commit of another repository.
    Submodule,
}

/// One path of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its mode.
    pub mode: Mode,
    /// Its blob, or the commit of a submodule.
    pub id: ObjectId,
}

/// Every path of a commit that is no directory.
pub type Tree = BTreeMap<GitPath, Entry>;

/// Stub.
#[derive(Debug, thiserror::Error)]
pub enum InputsError {}

impl InputsError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match *self {}
    }
}
