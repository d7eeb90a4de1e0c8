//! What a registry holds: manifests, indexes, configs, and how their JSON is read.

use std::collections::BTreeMap;

use bytes::Bytes;
use oci_distribution::manifest::{
    IMAGE_CONFIG_MEDIA_TYPE, IMAGE_DOCKER_CONFIG_MEDIA_TYPE, IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE,
    OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE,
};
use serde::{Deserialize, Deserializer, Serialize};

use crate::names::{Digest, ImagePlatform, Tag};

/// A manifest in a repository: by the name of a tag, or by its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At<'a> {
    /// By tag.
    Tag(&'a Tag),
    /// By digest.
    Digest(&'a Digest),
}

impl std::fmt::Display for At<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
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
    #[serde(default, deserialize_with = "null_is_none", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// Whether it is an index.
    pub(super) fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), OCI_IMAGE_INDEX_MEDIA_TYPE | IMAGE_MANIFEST_LIST_MEDIA_TYPE)
    }

    /// Whether it is a layer that must be had from elsewhere: image-spec 1.1, "Non-Distributable Layers", and Docker's
    /// word for them.
    pub fn is_foreign(&self) -> bool {
        self.media_type.starts_with("application/vnd.oci.image.layer.nondistributable.")
            || self.media_type.starts_with("application/vnd.docker.image.rootfs.foreign.")
    }
}

/// The platform of a manifest in an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// Such as `amd64`.
    pub architecture: String,
    /// Such as `linux`.
    pub os: String,
    /// Such as `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Whether an image for this platform is one for the wanted one.
    pub(super) fn is(&self, wanted: &ImagePlatform) -> bool {
        let ImagePlatform { os, architecture, variant } = wanted;
        self.os == *os && self.architecture == *architecture && (variant.is_none() || self.variant == *variant)
    }

    /// Attestations have a platform that is none.
    pub(super) fn is_unknown(&self) -> bool {
        self.os == "unknown" || self.architecture == "unknown"
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { os, architecture, variant } = self;
        ImagePlatform { os: os.clone(), architecture: architecture.clone(), variant: variant.clone() }.fmt(f)
    }
}

/// Which image of an index is taken.
#[derive(Debug, Clone, Copy)]
pub enum Choice<'a> {
    /// The one of this platform; without it there is none.
    Only(&'a ImagePlatform),
    /// The one of this platform, else the first: for what all have, as the labels that a put sets.
    Rather(&'a ImagePlatform),
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
    /// The architecture's variant.
    #[serde(default)]
    pub variant: Option<String>,
    /// How a container of it is run.
    #[serde(default)]
    pub config: Option<RunConfig>,
    /// The digests of the unpacked layers.
    #[serde(default, deserialize_with = "null_is_none")]
    pub rootfs: RootfsDigests,
}

/// The digests of the unpacked layers, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct RootfsDigests {
    /// One for each layer.
    #[serde(default, deserialize_with = "null_is_none")]
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

/// An image: its manifest and its config, those of our platform when there are several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// What tags of the image point to: its manifest, or the index that it was chosen from.
    pub manifest: Manifest,
    /// The config's descriptor.
    pub config_descriptor: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// The config.
    pub config: ImageConfig,
}

impl Image {
    /// A label of the image. An empty one is none: so one is hidden that the base image has.
    pub fn label(&self, name: &str) -> Option<&str> {
        let label = self.config.config.as_ref()?.labels.as_ref()?.get(name)?;
        Some(label.as_str()).filter(|label| !label.is_empty())
    }

    /// What it runs on.
    pub fn platform(&self) -> Platform {
        let ImageConfig { architecture, os, variant, .. } = &self.config;
        let variant = variant.clone().filter(|variant| !variant.is_empty());
        Platform { architecture: architecture.clone(), os: os.clone(), variant }
    }

    /// Whether it runs on a platform.
    pub fn is_for(&self, wanted: &ImagePlatform) -> bool {
        self.platform().is(wanted)
    }

    /// The compressed size of config and layers, in bytes.
    pub fn size(&self) -> u64 {
        self.layers.iter().fold(self.config_descriptor.size, |sum, layer| sum.saturating_add(layer.size))
    }
}

/// The four media types that a manifest may have. All are sent with every request: a registry that is not told of one
/// answers 404, or converts what it has, and then the digest is another one.
///
/// Fact: docs/facts.md, `accept`.
pub(super) const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";

/// Why a manifest or config is nothing that we can use.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// It is something else: its media type.
    Other(String),
    /// It is not the JSON that its media type promises.
    Json(serde_json::Error),
}

/// The part of a manifest or index that is used here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

/// The media type of a manifest: as the registry named it, or, when that is only a word for any JSON, as the manifest
/// names itself.
pub(super) fn media_type(named: Option<&str>, bytes: &[u8]) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Itself {
        media_type: Option<String>,
    }
    let named = named.and_then(|value| value.split(';').next()).map(str::trim).unwrap_or_default();
    match named {
        "" | "application/json" | "application/octet-stream" | "text/plain" => {
            serde_json::from_slice::<Itself>(bytes).ok().and_then(|body| body.media_type)
        }
        _ => None,
    }
    .unwrap_or_else(|| named.to_owned())
}

/// What these bytes are, by their media type.
pub(super) fn content(media_type: &str, bytes: &[u8]) -> Result<Content, Unreadable> {
    let other = || Unreadable::Other(media_type.to_owned());
    match media_type {
        OCI_IMAGE_MEDIA_TYPE | IMAGE_MANIFEST_MEDIA_TYPE => {
            let body: Body = serde_json::from_slice(bytes).map_err(Unreadable::Json)?;
            refuse_disguise(&body, media_type)?;
            let config = body.config.ok_or_else(other)?;
            Ok(Content::Image { config, layers: body.layers.unwrap_or_default() })
        }
        OCI_IMAGE_INDEX_MEDIA_TYPE | IMAGE_MANIFEST_LIST_MEDIA_TYPE => {
            let body: Body = serde_json::from_slice(bytes).map_err(Unreadable::Json)?;
            refuse_disguise(&body, media_type)?;
            Ok(Content::Index { manifests: body.manifests.unwrap_or_default() })
        }
        _ => Err(other()),
    }
}

/// A manifest that names itself otherwise than the registry does could be read as an image by one client and as an
/// index by another.
///
/// Fact: image-spec 1.1, manifest.md, `mediaType`; CVE-2021-41190.
fn refuse_disguise(body: &Body, media_type: &str) -> Result<(), Unreadable> {
    match &body.media_type {
        Some(itself) if itself != media_type => Err(Unreadable::Other(format!("{media_type} and {itself} at once"))),
        Some(_) | None => Ok(()),
    }
}

/// The image's config, or what else the blob is.
pub(super) fn config(media_type: &str, bytes: &[u8]) -> Result<ImageConfig, Unreadable> {
    match media_type {
        IMAGE_CONFIG_MEDIA_TYPE | IMAGE_DOCKER_CONFIG_MEDIA_TYPE => {
            serde_json::from_slice(bytes).map_err(Unreadable::Json)
        }
        _ => Err(Unreadable::Other(media_type.to_owned())),
    }
}

/// Programs in Go write `null` where they mean an empty list or map.
fn null_is_none<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_is_the_registrys_word_or_else_the_manifests_own() {
        let body = br#"{"mediaType":"application/vnd.oci.image.index.v1+json"}"#;
        let rows: [(Option<&str>, &[u8], &str); 5] = [
            (Some(OCI_IMAGE_MEDIA_TYPE), body, OCI_IMAGE_MEDIA_TYPE),
            (Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"), b"{}", OCI_IMAGE_MEDIA_TYPE),
            (Some("application/json"), body, OCI_IMAGE_INDEX_MEDIA_TYPE),
            (None, body, OCI_IMAGE_INDEX_MEDIA_TYPE),
            (Some("text/plain"), b"no JSON", "text/plain"),
        ];
        for (named, bytes, expected) in rows {
            assert_eq!(media_type(named, bytes), expected, "{named:?}");
        }
    }

    #[test]
    fn a_manifest_that_is_two_things_at_once_is_neither() {
        let body = br#"{"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        assert!(matches!(content(OCI_IMAGE_INDEX_MEDIA_TYPE, body), Ok(Content::Index { .. })));
        assert!(matches!(content(OCI_IMAGE_MEDIA_TYPE, body), Err(Unreadable::Other(_))));
        assert!(matches!(content(OCI_IMAGE_MEDIA_TYPE, b"{}"), Err(Unreadable::Other(_))));
        assert!(matches!(content(OCI_IMAGE_MEDIA_TYPE, b"["), Err(Unreadable::Json(_))));
        assert!(matches!(
            content("application/vnd.docker.distribution.manifest.v1+json", body),
            Err(Unreadable::Other(_))
        ));
    }

    #[test]
    fn the_size_of_a_hostile_image_does_not_overflow() {
        let huge = Descriptor {
            media_type: String::new(),
            digest: Digest::of(b""),
            size: u64::MAX,
            platform: None,
            annotations: BTreeMap::new(),
        };
        let manifest = Manifest { digest: huge.digest, media_type: String::new(), bytes: Bytes::new() };
        let layers = vec![huge.clone(), huge.clone()];
        let image = Image { manifest, config_descriptor: huge, layers, config: ImageConfig::default() };
        assert_eq!(image.size(), u64::MAX);
    }
}
