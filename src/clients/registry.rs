//! A repository of an OCI registry.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::Stream;
use serde::{Deserialize, Serialize};

use crate::names::{Digest, Repository, Tag};
use crate::request::RegistrySource;
use crate::say::Say;

/// Stub.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {}

impl RegistryError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match *self {}
    }
}

/// One repository of a registry, and the credentials for it.
pub struct Registry {
    repository: Repository,
}

/// A manifest in a repository: by the name of a tag, or by its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At<'a> {
    /// By tag.
    Tag(&'a Tag),
    /// By digest.
    Digest(&'a Digest),
}

/// What a manifest says of a blob or of another manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type.
    pub media_type: String,
    /// The digest.
    pub digest: Digest,
    /// The size in bytes.
    pub size: u64,
    /// In an index: the platform of the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Annotations; attestations are told by them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// The platform of a manifest in an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// Such as `amd64`.
    pub architecture: String,
    /// Such as `linux`.
    pub os: String,
}

/// A manifest as the registry gave it, verified against its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The digest of `bytes`.
    pub digest: Digest,
    /// The media type, as the registry named it.
    pub media_type: String,
    /// The very bytes.
    pub bytes: Bytes,
}

/// What a manifest is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// One image: an OCI image manifest or a Docker schema 2 manifest.
    Image {
        /// The config.
        config: Descriptor,
        /// The layers, lowest first.
        layers: Vec<Descriptor>,
    },
    /// Several: an OCI index or a Docker manifest list.
    Index {
        /// The manifests.
        manifests: Vec<Descriptor>,
    },
}

/// The part of an image's config that is used here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct ImageConfig {
    /// When it was made, RFC 3339.
    #[serde(default)]
    pub created: Option<String>,
    /// The platform's architecture.
    #[serde(default)]
    pub architecture: String,
    /// The platform's system.
    #[serde(default)]
    pub os: String,
    /// How a container of it is run.
    #[serde(default)]
    pub config: Option<RunConfig>,
    /// The digests of the unpacked layers.
    #[serde(default)]
    pub rootfs: RootfsDigests,
}

/// The digests of the unpacked layers, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct RootfsDigests {
    /// One for each layer.
    #[serde(default)]
    pub diff_ids: Vec<Digest>,
}

/// How a container of an image is run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    /// `NAME=value` lines.
    #[serde(default)]
    pub env: Option<Vec<String>>,
    /// The user; empty is root.
    #[serde(default)]
    pub user: Option<String>,
    /// The default arguments.
    #[serde(default)]
    pub cmd: Option<Vec<String>>,
    /// The program.
    #[serde(default)]
    pub entrypoint: Option<Vec<String>>,
    /// The labels.
    #[serde(default)]
    pub labels: Option<BTreeMap<String, String>>,
}

/// An image: its manifest and its config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The manifest.
    pub manifest: Manifest,
    /// The config's descriptor.
    pub config_descriptor: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// The config.
    pub config: ImageConfig,
}

impl Image {
    /// A label of the image.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.config.config.as_ref()?.labels.as_ref()?.get(name).map(String::as_str)
    }

    /// The compressed size of config and layers, in bytes.
    pub fn size(&self) -> u64 {
        self.config_descriptor.size + self.layers.iter().map(|layer| layer.size).sum::<u64>()
    }
}

/// How a delete ended that was no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// 202: it is gone.
    Gone,
    /// 404 MANIFEST_UNKNOWN: it was not there.
    WasNotThere,
    /// 405, or 400 UNSUPPORTED: the registry does not delete this way.
    NotAllowed,
}

impl Registry {
    /// A client for one repository. Nothing is asked yet.
    pub fn new(repository: &Repository, source: &RegistrySource, say: &Say) -> Result<Self, RegistryError> {
        let _ = (source, say);
        Ok(Self { repository: repository.clone() })
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// What a tag points to: one HEAD. `None`: 404 MANIFEST_UNKNOWN or NAME_UNKNOWN; anything else that is no 200 is an error.
    pub async fn resolve(&self, _tag: &Tag) -> Result<Option<Descriptor>, RegistryError> {
        unimplemented!()
    }

    /// A manifest or index: one GET, verified.
    pub async fn manifest(&self, _at: At<'_>) -> Result<Option<Manifest>, RegistryError> {
        unimplemented!()
    }

    /// What a manifest is.
    pub fn content(&self, _manifest: &Manifest) -> Result<Content, RegistryError> {
        unimplemented!()
    }

    /// An image with its config: two GETs. An index is resolved to the image of `linux/amd64` by further GETs; `manifest` is then the image's, not the index's.
    pub async fn image(&self, _at: At<'_>) -> Result<Option<Image>, RegistryError> {
        unimplemented!()
    }

    /// A small blob (at most 4 MiB), verified.
    pub async fn blob(&self, _descriptor: &Descriptor) -> Result<Bytes, RegistryError> {
        unimplemented!()
    }

    /// A blob as it arrives. The stream ends with an error when size or digest are not those of the descriptor.
    pub async fn stream_blob(
        &self,
        _descriptor: &Descriptor,
    ) -> Result<impl Stream<Item = Result<Bytes, RegistryError>> + Send + Unpin + 'static, RegistryError> {
        Ok(futures_util::stream::empty())
    }

    /// Uploads a small blob, unless it is there.
    pub async fn push_blob(&self, _media_type: &str, _bytes: Bytes) -> Result<Descriptor, RegistryError> {
        unimplemented!()
    }

    /// Puts a manifest at a tag or at its digest.
    pub async fn put_manifest(&self, _at: At<'_>, _manifest: &Manifest) -> Result<(), RegistryError> {
        unimplemented!()
    }

    /// Every tag of the repository, all pages. A repository that is unknown has none. Sorted, no duplicates.
    pub async fn tags(&self) -> Result<Vec<String>, RegistryError> {
        unimplemented!()
    }

    /// Deletes a manifest by its digest, and with it every tag that points to it. Never repeated blindly.
    pub async fn delete(&self, _digest: &Digest) -> Result<Deleted, RegistryError> {
        unimplemented!()
    }

    /// Deletes by tag. What that does differs between registries: prove it on tags that nobody needs.
    pub async fn delete_tag(&self, _tag: &Tag) -> Result<Deleted, RegistryError> {
        unimplemented!()
    }
}
