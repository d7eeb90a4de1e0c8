//! The real registry, as those see it who remove tags from it.
//!
//! The methods of [`Registry`] itself come before those of the trait that have the same names.

use bytes::Bytes;

use super::ReapError;
use super::outside::RegistrySide;
use crate::clients::registry::{
    At, Content, Deleted, Descriptor, ImageConfig, Manifest, Registry, RegistryError, Row, Way,
};
use crate::decide::reap::Labels;
use crate::decide::reap::artifact::Artifact;
use crate::decide::reap::pulls::Pulls;
use crate::names::{Digest, Tag};
use crate::request::Product;

impl RegistrySide for Registry {
    async fn tags(&self) -> Result<Vec<String>, ReapError> {
        Ok(self.tags().await?)
    }

    async fn describe(&self, tag: &Tag) -> Result<Option<Descriptor>, ReapError> {
        Ok(self.resolve(tag).await?)
    }

    async fn manifest(&self, digest: &Digest) -> Result<Option<Manifest>, ReapError> {
        Ok(self.manifest(At::Digest(digest)).await?)
    }

    async fn labels(&self, manifest: &Manifest) -> Result<Labels, String> {
        let config = match config(self, manifest).await {
            // A chart, a signature or a cache is nobody's image: it has no labels.
            Err(RegistryError::NotAnImage { .. }) => return Ok(Labels::default()),
            result => result.map_err(|error| error.to_string())?,
        };
        let mut labels = config.config.and_then(|config| config.labels).unwrap_or_default();
        // An empty one hides that of the base image.
        let mut label = |name| labels.remove(name).filter(|label| !label.is_empty());
        Ok(Labels {
            repository: label("git-image.repository"),
            commit: label("git-image.commit"),
            inputs: label("git-image.inputs"),
            bases: label("git-image.bases"),
        })
    }

    fn children(&self, manifest: &Manifest) -> Vec<Descriptor> {
        match self.content(manifest) {
            Ok(Content::Index { manifests }) => manifests,
            Ok(Content::Image { .. }) | Err(_) => Vec::new(),
        }
    }

    async fn blobs(&self, manifest: &Manifest) -> Result<Vec<(Digest, u64)>, ReapError> {
        let weigh = |content: Content| match content {
            Content::Image { config, layers } => {
                layers.into_iter().chain([config]).map(|blob| (blob.digest, blob.size)).collect()
            }
            Content::Index { .. } => Vec::new(),
        };
        match self.content(manifest) {
            Ok(Content::Index { manifests }) => {
                let mut blobs = Vec::new();
                for child in manifests {
                    if let Some(child) = self.manifest(At::Digest(&child.digest)).await? {
                        blobs.extend(self.content(&child).map(weigh).unwrap_or_default());
                    }
                }
                Ok(blobs)
            }
            Ok(image) => Ok(weigh(image)),
            // What is no image has no size that anybody asks for.
            Err(_) => Ok(Vec::new()),
        }
    }

    async fn note(&self, config: &Descriptor) -> Result<Bytes, ReapError> {
        Ok(self.blob(config).await?)
    }

    async fn push_note(&self, artifact: &Artifact) -> Result<(), ReapError> {
        self.push_blob(artifact.config_type, artifact.config.clone()).await?;
        Ok(())
    }

    async fn put_once(&self, tag: &Tag, manifest: &Manifest) -> Result<(), ReapError> {
        Ok(self.put_manifest_once(At::Tag(tag), manifest).await?)
    }

    async fn put(&self, tag: &Tag, manifest: &Manifest) -> Result<(), ReapError> {
        Ok(self.put_manifest(At::Tag(tag), manifest).await?)
    }

    async fn put_by_digest(&self, manifest: &Manifest) -> Result<(), ReapError> {
        Ok(self.put_manifest(At::Digest(&manifest.digest), manifest).await?)
    }

    async fn lists_referrers(&self) -> Result<bool, ReapError> {
        Ok(self.lists_referrers().await?)
    }

    async fn referrers(&self, digest: &Digest) -> Result<Vec<Descriptor>, ReapError> {
        Ok(self.referrers(digest).await?)
    }

    async fn delete(&self, digest: &Digest) -> Result<Deleted, ReapError> {
        Ok(self.delete(digest).await?)
    }

    async fn product(&self) -> Result<Option<Product>, ReapError> {
        let untags = |product: &Product| matches!(Row::of(*product).way, Way::Untag { .. });
        Ok(self.product().await?.filter(untags))
    }

    async fn pulls(&self) -> Result<Pulls, ReapError> {
        match self.pulled().await {
            Ok(Some(times)) => Ok(Pulls::Told(times)),
            Ok(None) => Ok(Pulls::NotTold),
            // What is refused now is refused the next time too; what may pass is an error.
            Err(error) if !error.is_passing() => Ok(Pulls::Refused { why: error.why() }),
            Err(error) => Err(error.into()),
        }
    }

    async fn untag(&self, tag: &Tag, digest: &Digest) -> Result<Deleted, ReapError> {
        Ok(self.untag(tag, digest).await?)
    }

    async fn delete_tag(&self, tag: &Tag) -> Result<Deleted, ReapError> {
        Ok(self.delete_tag(tag).await?)
    }
}

/// The config of an image, or of the first image of an index: those that we push have the same labels.
pub async fn config(registry: &Registry, manifest: &Manifest) -> Result<ImageConfig, RegistryError> {
    let children = match registry.content(manifest)? {
        Content::Image { config, .. } => return registry.config(&config).await,
        Content::Index { manifests } => manifests,
    };
    // An attestation is of no platform and has no labels.
    let is_image = |child: &&Descriptor| child.platform.as_ref().is_none_or(|it| it.os != "unknown");
    let Some(child) = children.iter().find(is_image) else { return Ok(ImageConfig::default()) };
    let what = || format!("{}@{}", registry.repository(), child.digest);
    let child = registry.manifest(At::Digest(&child.digest)).await?;
    let child = child.ok_or_else(|| RegistryError::Incomplete { what: what() })?;
    match registry.content(&child)? {
        Content::Image { config, .. } => registry.config(&config).await,
        Content::Index { .. } => Ok(ImageConfig::default()),
    }
}
