//! What the reaper and prune ask of the outside: one method for each request.

use std::cell::Cell;
use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};

use super::ReapError;
use crate::clients::registry::{Deleted, Descriptor, Manifest};
use crate::decide::reap::artifact::Artifact;
use crate::decide::reap::pulls::Pulls;
use crate::decide::reap::{GitFacts, Labels, Question};
use crate::names::{Digest, Tag};
use crate::request::Product;

/// How many requests that only read are under way at once.
pub const READS: usize = 32;

/// How many requests that move or remove tags are under way at once.
pub const WRITES: usize = 8;

/// Registry and git, as the reaper sees them.
///
/// It is a trait so that a test can be a registry that is stopped at every request, or in which somebody else pushes
/// between any two requests. The real one is [`super::servers::Servers`].
pub trait Outside {
    /// The registry's side.
    type Registry: RegistrySide;

    /// The registry.
    fn registry(&self) -> &Self::Registry;

    /// Reads git anew: its refs, and which commits they reach. When the refs are those of `known`, that is the answer.
    async fn git(&self, question: &Question, known: Option<&GitFacts>) -> Result<GitFacts, ReapError>;
}

/// A repository of a registry, as those see it who remove tags from it.
pub trait RegistrySide {
    /// Every tag that the registry lists.
    async fn tags(&self) -> Result<Vec<String>, ReapError>;

    /// What a tag points to, with its size; `None` for 404.
    async fn describe(&self, tag: &Tag) -> Result<Option<Descriptor>, ReapError>;

    /// The digest that a tag points to; `None` for 404.
    async fn resolve(&self, tag: &Tag) -> Result<Option<Digest>, ReapError> {
        Ok(self.describe(tag).await?.map(|descriptor| descriptor.digest))
    }

    /// A manifest; `None` for 404.
    async fn manifest(&self, digest: &Digest) -> Result<Option<Manifest>, ReapError>;

    /// The labels of the image that a manifest describes; or why they cannot be read.
    async fn labels(&self, manifest: &Manifest) -> Result<Labels, String>;

    /// The manifests that an index has; none of anything else.
    fn children(&self, manifest: &Manifest) -> Vec<Descriptor>;

    /// The blobs of the image that a manifest describes, with their sizes; those of all its platforms.
    async fn blobs(&self, manifest: &Manifest) -> Result<Vec<(Digest, u64)>, ReapError>;

    /// The config of an artifact of the reaper.
    async fn note(&self, config: &Descriptor) -> Result<Bytes, ReapError>;

    /// Pushes the config of an artifact, so that its manifest can be put.
    async fn push_note(&self, artifact: &Artifact) -> Result<(), ReapError>;

    /// Puts a manifest at a tag, and sends no second request whatever happens to the first.
    async fn put_once(&self, tag: &Tag, manifest: &Manifest) -> Result<(), ReapError>;

    /// Puts a manifest at a tag.
    async fn put(&self, tag: &Tag, manifest: &Manifest) -> Result<(), ReapError>;

    /// Puts a manifest without a tag.
    async fn put_by_digest(&self, manifest: &Manifest) -> Result<(), ReapError>;

    /// Whether the registry tells what refers to a manifest.
    async fn lists_referrers(&self) -> Result<bool, ReapError>;

    /// What refers to a manifest: signatures, attestations, bills of materials.
    async fn referrers(&self, digest: &Digest) -> Result<Vec<Descriptor>, ReapError>;

    /// Deletes a manifest with all its tags. Called with the digest of an image only where it has none: see `untagged`.
    async fn delete(&self, digest: &Digest) -> Result<Deleted, ReapError>;

    /// The product, when it has an API of its own that removes single tags.
    async fn product(&self) -> Result<Option<Product>, ReapError>;

    /// When tags and images were pulled, as the API of the product tells.
    async fn pulls(&self) -> Result<Pulls, ReapError>;

    /// Removes a tag, which points to this digest, by the API of the product.
    async fn untag(&self, tag: &Tag, digest: &Digest) -> Result<Deleted, ReapError>;

    /// Deletes by tag.
    async fn delete_tag(&self, tag: &Tag) -> Result<Deleted, ReapError>;
}

/// Resolves many tags at once.
pub async fn resolve<R: RegistrySide>(
    registry: &R,
    tags: impl IntoIterator<Item = Tag>,
) -> Result<BTreeMap<Tag, Option<Digest>>, ReapError> {
    at_once(READS, tags, async |tag| Ok((tag.clone(), registry.resolve(&tag).await?))).await
}

/// Does one thing for each item, `limit` of them at once. After an error nothing more is begun, and what is under way is
/// waited for: a request that was given up could still have its effect after we have looked.
pub async fn at_once<T, R, C, F>(limit: usize, items: impl IntoIterator<Item = T>, each: F) -> Result<C, ReapError>
where
    C: FromIterator<R>,
    F: AsyncFn(T) -> Result<R, ReapError>,
{
    let (failed, each) = (Cell::new(false), &each);
    let one = async |item| {
        if failed.get() {
            return None;
        }
        let result = each(item).await;
        failed.set(failed.get() || result.is_err());
        Some(result)
    };
    let results: Vec<Option<Result<R, ReapError>>> =
        stream::iter(items).map(one).buffer_unordered(limit).collect().await;
    results.into_iter().flatten().collect()
}
