//! The engine: one client of the BuildKit API.

/// Stub.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {}

impl EngineError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match *self {}
    }
}
