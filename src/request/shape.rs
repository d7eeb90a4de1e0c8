//! Which keys there are, and of which type.

/// Stub.
#[derive(Debug, thiserror::Error)]
pub enum ShapeError {}

impl ShapeError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match *self {}
    }
}
