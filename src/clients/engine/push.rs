//! How an image leaves a Docker engine with its classic store: the engine pushes it, and forgets its name.

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::query_parameters::{PushImageOptions, RemoveImageOptions};
use futures_util::StreamExt as _;

use super::EngineError;
use super::words::{innermost, pushed_digest, refusal};
use crate::names::Digest;
use crate::request::Credentials;
use crate::say::Say;

/// An image that an engine keeps under a name.
#[derive(Debug, Clone)]
pub struct InEngine {
    pub(super) docker: Docker,
    /// Where the engine is.
    pub(super) address: String,
    /// The name.
    pub(super) reference: oci_distribution::Reference,
    /// For the registry of the name.
    pub(super) credentials: Option<Credentials>,
}

impl InEngine {
    /// Pushes the image by its name, and then removes the name from the engine, also when the push failed.
    /// The engine's build cache stays. Answers the digest of the manifest.
    ///
    /// # Errors
    ///
    /// The registry refused, the engine cannot reach it, or the engine was lost. A name that stays is said, no error.
    pub async fn push(&self, say: &Say) -> Result<Digest, EngineError> {
        let pushed = self.push_only().await;
        if let Err(error) = self.discard().await {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            say.line(format_args!("warning: {error}{cause}; the push does not depend on it"));
        }
        pushed
    }

    /// Removes the image's name from the engine without a push.
    ///
    /// # Errors
    ///
    /// The engine refused or was lost. A name that is gone already is no error.
    pub async fn discard(&self) -> Result<(), EngineError> {
        let reference = self.reference.whole();
        // What was below it stays: other builds may go on from there.
        let options = RemoveImageOptions { noprune: true, ..RemoveImageOptions::default() };
        match self.docker.remove_image(&reference, Some(options), None).await {
            Ok(_) => Ok(()),
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            Err(source) => {
                let address = self.address.clone();
                Err(EngineError::Remove { address, reference, source: innermost(&source) })
            }
        }
    }

    async fn push_only(&self) -> Result<Digest, EngineError> {
        let reference = &self.reference;
        let name = format!("{}/{}", reference.registry(), reference.repository());
        let tag = reference.tag().map(str::to_owned);
        let credentials = self.credentials.as_ref().map(|credentials| DockerCredentials {
            username: Some(credentials.username.clone()),
            password: Some(credentials.password.open().to_owned()),
            serveraddress: Some(reference.registry().to_owned()),
            ..DockerCredentials::default()
        });
        let options = PushImageOptions { tag, platform: None };
        let mut news = std::pin::pin!(self.docker.push_image(&name, Some(options), credentials));
        let mut digest = None;
        while let Some(next) = news.next().await {
            let info = next.map_err(|error| self.push_error(error))?;
            if let Some(detail) = info.error_detail {
                return Err(self.refused(detail.message.unwrap_or_default()));
            }
            digest = info.status.as_deref().and_then(pushed_digest).or(digest);
        }
        digest.ok_or_else(|| EngineError::NoDigest { reference: reference.whole() })
    }

    fn push_error(&self, error: bollard::errors::Error) -> EngineError {
        use bollard::errors::Error;
        match error {
            Error::DockerResponseServerError { message, .. } | Error::DockerStreamError { error: message } => {
                self.refused(message)
            }
            other => EngineError::Lost {
                address: self.address.clone(),
                reference: self.reference.whole(),
                source: innermost(&other),
            },
        }
    }

    fn refused(&self, message: String) -> EngineError {
        let why = refusal(&message);
        EngineError::Push { reference: self.reference.whole(), why, source: message.into() }
    }
}
