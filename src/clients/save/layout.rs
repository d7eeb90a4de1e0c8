//! An OCI layout: image-spec 1.1, "OCI Image Layout Specification".

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::json;

use super::fetch::{self, Part};
use super::{SaveError, beside, failed, refuse_foreign};
use crate::clients::registry::{Content, Descriptor, Manifest, Registry};
use crate::names::{Digest, Repository, Tag};
use crate::say::Say;

/// How deep indexes may lie in indexes.
const DEPTH: usize = 4;

/// Writes an image, or an index with all that is in it, as an OCI layout. Everything has the digest that it has in the
/// registry; attestations are kept too.
///
/// A layout of a single image has the file `single-image-digest`, by which the registry-image resource pushes just that.
///
/// # Errors
///
/// Anything but a whole and verified image. Then there is no directory.
pub async fn layout(
    registry: &Registry,
    manifest: &Manifest,
    tag: &Tag,
    path: &Path,
    say: &Say,
) -> Result<(), SaveError> {
    let directory = beside(path)?;
    let made = tempfile::Builder::new()
        .prefix(".oci-")
        .tempdir_in(directory)
        .map_err(failed("make a directory in", directory))?;
    let blobs = made.path().join("blobs").join("sha256");
    std::fs::create_dir_all(&blobs).map_err(failed("make", &blobs))?;

    let held = Held::read(registry, manifest).await?;
    for manifest in held.manifests.values() {
        write(&blobs.join(manifest.digest.hex()), &manifest.bytes)?;
    }
    let parts: Vec<Part> = held
        .blobs
        .into_values()
        .map(|descriptor| Part { path: blobs.join(descriptor.digest.hex()), descriptor, offset: 0 })
        .collect();
    fetch::all(registry, &parts, say).await?;

    write(&made.path().join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string().as_bytes())?;
    write(&made.path().join("index.json"), index(registry.repository(), tag, manifest).to_string().as_bytes())?;
    if held.is_single {
        write(&made.path().join("single-image-digest"), manifest.digest.to_string().as_bytes())?;
    }
    for readable in [blobs.as_path(), &made.path().join("blobs"), made.path()] {
        std::fs::set_permissions(readable, Permissions::from_mode(0o755)).map_err(failed("make", readable))?;
    }
    std::fs::rename(made.path(), path).map_err(failed("make", path))?;
    // It is not there any more under that name.
    let _ = made.keep();
    Ok(())
}

/// What belongs to an image or an index.
struct Held {
    /// By digest: images may share what they are made of.
    manifests: BTreeMap<Digest, Manifest>,
    blobs: BTreeMap<Digest, Descriptor>,
    /// Whether it is one image, not an index.
    is_single: bool,
}

impl Held {
    async fn read(registry: &Registry, top: &Manifest) -> Result<Self, SaveError> {
        let mut held = Self { manifests: BTreeMap::new(), blobs: BTreeMap::new(), is_single: true };
        let mut waiting = vec![(top.clone(), 0)];
        while let Some((manifest, depth)) = waiting.pop() {
            if depth == DEPTH {
                return Err(SaveError::TooDeep { image: top.digest });
            }
            match registry.content(&manifest)? {
                Content::Image { config, layers } => {
                    refuse_foreign(manifest.digest, &layers)?;
                    held.blobs.extend(layers.into_iter().chain([config]).map(|blob| (blob.digest, blob)));
                }
                Content::Index { manifests } => {
                    held.is_single = false;
                    let children: BTreeSet<Digest> = manifests.iter().map(|child| child.digest).collect();
                    for digest in children.iter().filter(|digest| !held.manifests.contains_key(digest)) {
                        waiting.push((registry.child(digest).await?, depth + 1));
                    }
                }
            }
            held.manifests.insert(manifest.digest, manifest);
        }
        Ok(held)
    }
}

/// `index.json`, with the names by which tools know the image.
fn index(repository: &Repository, tag: &Tag, manifest: &Manifest) -> serde_json::Value {
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": manifest.media_type,
            "digest": manifest.digest,
            "size": manifest.bytes.len(),
            "annotations": {
                "io.containerd.image.name": format!("{repository}:{tag}"),
                "org.opencontainers.image.ref.name": tag.as_str(),
            },
        }],
    })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), SaveError> {
    std::fs::write(path, bytes).map_err(failed("write", path))
}
