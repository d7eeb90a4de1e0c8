//! An artifact with a checkout: data, whose git configuration is never used.

/// Stub.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {}

impl CheckoutError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match *self {}
    }
}
