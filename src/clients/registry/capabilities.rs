//! What a registry can do, asked by requests that change nothing.

use reqwest::header::{CONTENT_LENGTH, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::http::{Access, Ask};
use super::upload::next;
use super::{ANSWER_LIMIT, Deleted, Descriptor, MANIFEST_LIMIT, Registry, RegistryError, answer};
use crate::names::{Digest, Tag};

/// The digest that no content has.
const NO_CONTENT: Digest = Digest::from_bytes([0; 32]);

/// The answer to "Listing Referrers".
#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

impl Registry {
    /// Whether manifests can be deleted by digest: the digest that no content has is.
    ///
    /// Fact: distribution 2.8 answers 404 where deletes are allowed, and 405 where they are not; what it says to OPTIONS is
    /// the same for both.
    ///
    /// # Errors
    ///
    /// The account may not delete, or the registry cannot be asked.
    pub async fn deletes_digests(&self) -> Result<bool, RegistryError> {
        Ok(self.delete(&NO_CONTENT).await? != Deleted::NotAllowed)
    }

    /// Whether tags can be deleted; `unused` is one that nobody has.
    ///
    /// # Errors
    ///
    /// As [`Self::deletes_digests`].
    pub async fn deletes_tags(&self, unused: &Tag) -> Result<bool, RegistryError> {
        Ok(self.delete_tag(unused).await? != Deleted::NotAllowed)
    }

    /// Whether it lists what refers to a manifest. Fact: distribution-spec 1.1, "Listing Referrers": 404 means that it
    /// does not know the question.
    ///
    /// # Errors
    ///
    /// It cannot be asked.
    pub async fn lists_referrers(&self) -> Result<bool, RegistryError> {
        let url = self.http.url(&["referrers", &NO_CONTENT.to_string()]);
        let ask = Ask::new(format!("list referrers in {}", self.repository), Method::GET, url, Access::Read);
        let answer = self.http.ask(&ask, ANSWER_LIMIT).await?;
        match answer.status {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::BAD_REQUEST => Ok(false),
            _ => Err(self.http.refused(&ask, &answer)),
        }
    }

    /// What refers to a manifest, by the first page of the list; empty where the registry does not know the question.
    ///
    /// # Errors
    ///
    /// It cannot be asked, or the answer is no index.
    pub async fn referrers(&self, digest: &Digest) -> Result<Vec<Descriptor>, RegistryError> {
        let url = self.http.url(&["referrers", &digest.to_string()]);
        let ask =
            Ask::new(format!("list what refers to {digest} in {}", self.repository), Method::GET, url, Access::Read);
        let answer = self.http.ask(&ask, MANIFEST_LIMIT).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(Vec::new()),
            _ => return Err(self.http.refused(&ask, &answer)),
        }
        let index: Index = serde_json::from_slice(&answer.bytes).map_err(|error| RegistryError::BadAnswer {
            what: ask.what.clone(),
            url: answer::shown(&ask.url),
            why: format!("is not an index: {error}"),
        })?;
        Ok(index.manifests)
    }

    /// Whether a blob can be mounted in place of being uploaded: one that the repository has is mounted into it again.
    /// A registry that cannot begins an upload, which is ended at once.
    ///
    /// # Errors
    ///
    /// The account may not push, or the registry cannot be asked.
    pub async fn mounts(&self, blob: &Digest) -> Result<bool, RegistryError> {
        let what = format!("mount a blob in {}", self.repository);
        let mut url = self.http.url(&["blobs", "uploads", ""]);
        url.query_pairs_mut().append_pair("mount", &blob.to_string()).append_pair("from", self.repository.name());
        let ask = Ask::new(what.clone(), Method::POST, url, Access::Write)
            .with_header(CONTENT_LENGTH, HeaderValue::from_static("0"));
        let answer = self.http.ask_once(&ask, ANSWER_LIMIT).await?;
        match answer.status {
            StatusCode::CREATED => Ok(true),
            StatusCode::ACCEPTED => {
                if let Ok(Some(upload)) = next(&ask.url, &answer) {
                    // One that stays goes with the registry's own clean-up.
                    let _ =
                        self.http.ask_once(&Ask::new(what, Method::DELETE, upload, Access::Write), ANSWER_LIMIT).await;
                }
                Ok(false)
            }
            _ => Err(self.http.refused(&ask, &answer)),
        }
    }
}
