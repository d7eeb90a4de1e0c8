//! git, through the git program.

/// Stub.
#[derive(Debug, thiserror::Error)]
pub enum GitError {}

impl GitError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match *self {}
    }
}
