//! A blob on its way, verified while it arrives.

use bytes::Bytes;
use reqwest::Response;
use sha2::{Digest as _, Sha256};

use crate::names::Digest;

use super::error::RegistryError;
use super::http::{self, Ask};
use super::model::Descriptor;

/// A blob on its way: what it takes to verify it, and to go on where it broke off.
pub(super) struct Download {
    ask: Ask,
    response: Response,
    expected: Digest,
    /// In bytes.
    size: u64,
    /// In bytes.
    arrived: u64,
    hasher: Sha256,
}

impl Download {
    pub(super) fn new(ask: Ask, response: Response, descriptor: &Descriptor) -> Self {
        let (expected, size) = (descriptor.digest, descriptor.size);
        Self { ask, response, expected, size, arrived: 0, hasher: Sha256::new() }
    }

    /// The next bytes; `None` at the end.
    ///
    /// The last bytes are verified before they are given: who reads no further than the end of what is packed in the
    /// blob would not meet an error that comes after them.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let Some(bytes) = http::chunk(&self.ask, &mut self.response).await? else {
            if self.arrived != self.size {
                return Err(self.wrong_size());
            }
            if self.size == 0 {
                self.verify()?;
            }
            return Ok(None);
        };
        self.arrived += bytes.len() as u64;
        if self.arrived > self.size {
            return Err(self.wrong_size());
        }
        self.hasher.update(&bytes);
        if self.arrived == self.size {
            self.verify()?;
        }
        Ok(Some(bytes))
    }

    fn verify(&self) -> Result<(), RegistryError> {
        let actual = Digest::from_bytes(self.hasher.clone().finalize().into());
        verify(self.ask.what.clone(), self.expected, actual)
    }

    fn wrong_size(&self) -> RegistryError {
        RegistryError::SizeMismatch { what: self.ask.what.clone(), expected: self.size, actual: self.arrived }
    }
}

/// Refuses bytes with another digest.
pub(super) fn verify(what: String, expected: Digest, actual: Digest) -> Result<(), RegistryError> {
    if expected == actual { Ok(()) } else { Err(RegistryError::DigestMismatch { what, expected, actual }) }
}
