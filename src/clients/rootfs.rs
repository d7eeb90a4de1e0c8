//! Unpacks an image's layers to a directory, and never writes outside of it.

/// Stub.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {}

impl RootfsError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match *self {}
    }
}
