//! Pushes an image that an earlier task has finished, in place of building one.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::clients::finished::{Document, Finished, FinishedImage};
use crate::clients::git::CommitFacts;
use crate::clients::registry::{At, Descriptor, Image, Manifest, Sent};
use crate::commands::put::Put;
use crate::commands::put::build::{Inherits, labels};
use crate::commands::{StepError, image};
use crate::error::Error;
use crate::names::Digest;
use crate::request::{PutParams, Rebuild};
use crate::say::size;

/// How many layers are sent at once.
const AT_ONCE: usize = 3;

/// Pushes to the content tag, unless somebody else was quicker: then theirs is the image.
pub async fn push(
    put: &Put<'_>,
    params: &PutParams,
    variables: &BTreeMap<String, String>,
    commit: &CommitFacts,
    finished: &Finished,
) -> Result<Image, Error> {
    let repository = put.registry.repository();
    let labels = labels(put, params, variables, commit, None, Inherits::Labels);
    let mut manifests = Vec::new();
    for one in &finished.images {
        manifests.push(push_image(put, one, &labels).await?);
    }
    let top = match &finished.index {
        Some(index) => {
            let children: Vec<(Digest, u64)> =
                manifests.iter().map(|manifest| (manifest.digest, manifest.bytes.len() as u64)).collect();
            if 0 < finished.attestations {
                put.say.line(format_args!(
                    "push: {} of the index left: they speak of manifests without this resource's labels",
                    if finished.attestations == 1 {
                        "an attestation".to_owned()
                    } else {
                        format!("{} attestations", finished.attestations)
                    }
                ));
            }
            put_manifest(put, index.document(&children)).await?
        }
        None => manifests.pop().expect("an image without an index has one manifest"),
    };
    if params.rebuild == Rebuild::No
        && let Some(image) = image::of_inputs(put.registry, &put.content, put.version.inputs, put.version.bases).await?
    {
        put.say.line(format_args!("push: {} came to exist meanwhile; that image is used", put.content));
        return Ok(image);
    }
    put.registry.put_manifest(At::Tag(&put.content), &top).await?;
    let image = image::of_inputs(put.registry, &put.content, put.version.inputs, put.version.bases)
        .await?
        .ok_or_else(|| StepError::TagMoved { repository: repository.clone(), tag: put.content.clone() })?;
    let digest = image.manifest.digest;
    put.say.line(format_args!(
        "push: {repository}:{} is {digest}; it has this resource's labels, so its digest is another than that of the file",
        put.content
    ));
    Ok(image)
}

/// Sends layers, config and manifest of one image.
async fn push_image(put: &Put<'_>, one: &FinishedImage, labels: &BTreeMap<String, String>) -> Result<Manifest, Error> {
    let sent: Vec<(Descriptor, Sent)> = stream::iter(&one.layers)
        .map(|layer| put.registry.upload(&layer.upload))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let (mut bytes, mut there) = (0, 0);
    for (descriptor, sent) in &sent {
        match sent {
            Sent::All => bytes += descriptor.size,
            Sent::WasThere => there += 1,
        }
    }
    put.say.line(format_args!(
        "push: {}: {} layer{}, {} sent; the registry had {there}",
        one.platform,
        sent.len(),
        if sent.len() == 1 { "" } else { "s" },
        size(bytes)
    ));
    let layers: Vec<Descriptor> = sent.into_iter().map(|(descriptor, _)| descriptor).collect();
    let Document { media_type, bytes } = one.config(labels);
    let config = put.registry.push_blob(&media_type, bytes).await?;
    put_manifest(put, one.manifest(&config, &layers)).await
}

/// Puts a manifest at its digest: no tag points to it yet.
async fn put_manifest(put: &Put<'_>, Document { media_type, bytes }: Document) -> Result<Manifest, Error> {
    let manifest = Manifest { digest: Digest::of(&bytes), media_type, bytes: Bytes::clone(&bytes) };
    put.registry.put_manifest(At::Digest(&manifest.digest), &manifest).await?;
    Ok(manifest)
}
