//! One file per verb: read, decide, say, act.

/// Stub.
#[derive(Debug, thiserror::Error)]
pub enum StepError {}

impl StepError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match *self {}
    }
}
