//! A finished image on disk, as tasks make them: a docker-archive, an OCI archive, or an OCI layout, also of an index.
//!
//! Only the small files are read when it is opened. Layers are read when they are sent, and verified then: those of
//! a digest against that, uncompressed ones also against the config. Uncompressed layers are compressed on the way.
//!
//! `store` has the files, in a directory or in an archive; `blobs` shows them to an engine.

mod blobs;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use oci_distribution::manifest::{
    IMAGE_CONFIG_MEDIA_TYPE, IMAGE_DOCKER_LAYER_GZIP_MEDIA_TYPE, IMAGE_DOCKER_LAYER_TAR_MEDIA_TYPE,
    IMAGE_LAYER_GZIP_MEDIA_TYPE, IMAGE_LAYER_MEDIA_TYPE, IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE,
    OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::registry::{Descriptor, Upload};
use crate::names::Digest;
pub use blobs::Blobs;
use store::{Pack, Store, normal, packed};

/// The most bytes of a manifest, an index or a config.
const JSON_LIMIT: u64 = 4 << 20;

const INDEX: &str = "index.json";
const DOCKER_MANIFEST: &str = "manifest.json";

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum FinishedError {
    /// It cannot be read.
    #[error("cannot read the image {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is no image: {why}", path.display())]
    NotAnImage {
        /// Which file or directory.
        path: PathBuf,
        /// What it lacks.
        why: &'static str,
    },
    /// It holds several images.
    #[error("{} holds {count} images, and one is pushed", path.display())]
    Several {
        /// Which file or directory.
        path: PathBuf,
        /// How many.
        count: usize,
    },
    /// It is not what it says.
    #[error("the image {} is damaged: {why}", path.display())]
    Damaged {
        /// Which file or directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl FinishedError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "give ARTIFACT/PATH of what an earlier step made: is its output named so?".to_owned()
            }
            Self::Io { .. } => return None,
            Self::NotAnImage { .. } => {
                "give what `docker save` writes, an OCI archive, or the directory of an OCI layout; not compressed as a whole"
                    .to_owned()
            }
            Self::Several { .. } => "save one image alone, or an index of all platforms".to_owned(),
            Self::Damaged { .. } => "let the step that made it run again; it may have ended in the middle".to_owned(),
        })
    }
}

/// A finished image, whose layers are not read yet.
pub struct Finished {
    /// What it is known by: the digest of its manifest or index; of its config, when it is a docker-archive.
    pub digest: Digest,
    /// The index, when it has one: each manifest in it, in the order of `images`.
    pub index: Option<FinishedIndex>,
    /// The images; one, when there is no index.
    pub images: Vec<FinishedImage>,
    /// How many attestations are left behind: they are about manifests that are rewritten.
    pub attestations: usize,
}

/// An index.
pub struct FinishedIndex {
    media_type: String,
    body: Map<String, Value>,
    entries: Vec<Map<String, Value>>,
}

/// One image.
pub struct FinishedImage {
    /// Such as `linux/arm64`.
    pub platform: String,
    config: Map<String, Value>,
    config_media_type: String,
    media_type: String,
    body: Map<String, Value>,
    /// The layers, lowest first.
    pub layers: Vec<FinishedLayer>,
}

/// One layer.
pub struct FinishedLayer {
    /// How it is sent.
    pub upload: Upload,
    annotations: Option<Value>,
}

/// JSON for the registry.
pub struct Document {
    /// Its media type.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Bytes,
}

impl FinishedImage {
    /// The config with further labels.
    pub fn config(&self, labels: &BTreeMap<String, String>) -> Document {
        let mut config = self.config.clone();
        let run = config.entry("config").or_insert(Value::Null);
        if !run.is_object() {
            *run = json!({});
        }
        let mut all = match run.get_mut("Labels").map(Value::take) {
            Some(Value::Object(all)) => all,
            _ => Map::new(),
        };
        all.extend(labels.iter().map(|(name, value)| (name.clone(), json!(value))));
        run["Labels"] = Value::Object(all);
        document(&self.config_media_type, &config)
    }

    /// The manifest of this config and these layers.
    pub fn manifest(&self, config: &Descriptor, layers: &[Descriptor]) -> Document {
        let mut body = self.body.clone();
        let layers = layers.iter().zip(&self.layers).map(|(descriptor, layer)| {
            let mut entry = json!(descriptor);
            if let Some(annotations) = &layer.annotations {
                entry["annotations"] = annotations.clone();
            }
            entry
        });
        body.insert("schemaVersion".to_owned(), json!(2));
        body.insert("mediaType".to_owned(), json!(self.media_type));
        body.insert("layers".to_owned(), layers.collect());
        body.insert("config".to_owned(), json!(config));
        document(&self.media_type, &body)
    }
}

impl FinishedIndex {
    /// The index of these manifests, which take the places of its own.
    pub fn document(&self, manifests: &[(Digest, u64)]) -> Document {
        let mut body = self.body.clone();
        let entries = self.entries.iter().zip(manifests).map(|(entry, (digest, size))| {
            let mut entry = entry.clone();
            entry.insert("digest".to_owned(), json!(digest));
            entry.insert("size".to_owned(), json!(size));
            Value::Object(entry)
        });
        body.insert("manifests".to_owned(), entries.collect());
        body.insert("mediaType".to_owned(), json!(self.media_type));
        document(&self.media_type, &body)
    }
}

fn document(media_type: &str, body: &Map<String, Value>) -> Document {
    let bytes = serde_json::to_vec(body).expect("a value of JSON can be written as JSON");
    Document { media_type: media_type.to_owned(), bytes: bytes.into() }
}

impl Finished {
    /// Opens an archive or a directory.
    ///
    /// # Errors
    ///
    /// It is none of the three forms, holds several images, or its small files do not fit together.
    pub fn open(path: &Path) -> Result<Self, FinishedError> {
        let read = Reading { store: Arc::new(Store::open(path)?), path };
        match read.form()? {
            Form::Layout => read.layout(),
            Form::Docker => read.docker(),
        }
    }
}

/// How its files are named.
enum Form {
    /// As OCI has it: a layout, or an archive of one.
    Layout,
    /// As `docker save` writes it.
    Docker,
}

/// What `docker save` says of an image: the names of its files.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    layers: Vec<String>,
}

/// What is used of a manifest or index.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Value>>,
    manifests: Option<Vec<Map<String, Value>>>,
}

/// A config, and what it says of its image.
struct Config {
    body: Map<String, Value>,
    platform: String,
    /// The digests of the unpacked layers.
    diff_ids: Vec<Digest>,
}

struct Reading<'a> {
    store: Arc<Store>,
    path: &'a Path,
}

impl Reading<'_> {
    fn form(&self) -> Result<Form, FinishedError> {
        if self.store.has(INDEX) {
            return Ok(Form::Layout);
        }
        if self.store.has(DOCKER_MANIFEST) {
            return Ok(Form::Docker);
        }
        Err(FinishedError::NotAnImage {
            path: self.path.to_owned(),
            why: "it has neither an index.json, as OCI has it, nor a manifest.json, as `docker save` writes it",
        })
    }

    fn damaged(&self, why: impl Into<String>) -> FinishedError {
        FinishedError::Damaged { path: self.path.to_owned(), why: why.into() }
    }

    /// A small file.
    fn small(&self, name: &str) -> Result<Vec<u8>, FinishedError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => self.damaged(format!("it has no {name}")),
            _ => FinishedError::Io { path: self.path.join(name), source: error },
        };
        let (file, size) = self.store.file(name).map_err(failed)?;
        if JSON_LIMIT < size {
            return Err(self.damaged(format!("{name} has {size} bytes, more than {JSON_LIMIT}")));
        }
        let mut bytes = Vec::new();
        file.take(JSON_LIMIT).read_to_end(&mut bytes).map_err(failed)?;
        if (bytes.len() as u64) < size {
            return Err(self.damaged(format!("it ends in the middle of {name}")));
        }
        Ok(bytes)
    }

    fn json<T: for<'de> Deserialize<'de>>(&self, name: &str, bytes: &[u8]) -> Result<T, FinishedError> {
        serde_json::from_slice(bytes).map_err(|error| self.damaged(format!("{name} cannot be understood: {error}")))
    }

    /// A small blob, verified.
    fn blob(&self, digest: &Digest) -> Result<(String, Vec<u8>), FinishedError> {
        let name = blob_name(digest);
        let bytes = self.small(&name)?;
        let actual = Digest::of(&bytes);
        if actual == *digest { Ok((name, bytes)) } else { Err(self.damaged(format!("{name} has the digest {actual}"))) }
    }

    fn layout(&self) -> Result<Finished, FinishedError> {
        let bytes = self.small(INDEX)?;
        let top: Body = self.json(INDEX, &bytes)?;
        let entries = top.manifests.unwrap_or_default();
        match entries.as_slice() {
            [] => Err(self.damaged("index.json names no image")),
            [entry] => {
                let descriptor = self.descriptor(INDEX, &Value::Object(entry.clone()))?;
                let (name, bytes) = self.blob(&descriptor.digest)?;
                let body: Body = self.json(&name, &bytes)?;
                if body.manifests.is_some() {
                    return self.index(descriptor.digest, &name, &bytes);
                }
                let images = vec![self.image(&name, &bytes, &descriptor.media_type)?];
                Ok(Finished { digest: descriptor.digest, index: None, images, attestations: 0 })
            }
            // Tools write an index of platforms into the place of the one that names it.
            several if several.iter().all(|entry| entry.contains_key("platform")) => {
                self.index(Digest::of(&bytes), INDEX, &bytes)
            }
            several => Err(FinishedError::Several { path: self.path.to_owned(), count: several.len() }),
        }
    }

    fn index(&self, digest: Digest, name: &str, bytes: &[u8]) -> Result<Finished, FinishedError> {
        let mut body: Map<String, Value> = self.json(name, bytes)?;
        let Body { media_type, manifests, .. } = self.json(name, bytes)?;
        let media_type = match media_type.as_deref() {
            Some(IMAGE_MANIFEST_LIST_MEDIA_TYPE) => IMAGE_MANIFEST_LIST_MEDIA_TYPE,
            _ => OCI_IMAGE_INDEX_MEDIA_TYPE,
        };
        body.remove("manifests");
        let (mut entries, mut images, mut attestations) = (Vec::new(), Vec::new(), 0);
        for entry in manifests.unwrap_or_default() {
            let descriptor = self.descriptor(name, &Value::Object(entry.clone()))?;
            if descriptor.annotations.contains_key("vnd.docker.reference.digest") {
                attestations += 1;
                continue;
            }
            let (name, bytes) = self.blob(&descriptor.digest)?;
            images.push(self.image(&name, &bytes, &descriptor.media_type)?);
            entries.push(entry);
        }
        if images.is_empty() {
            return Err(self.damaged(format!("{name} names no image")));
        }
        let index = Some(FinishedIndex { media_type: media_type.to_owned(), body, entries });
        Ok(Finished { digest, index, images, attestations })
    }

    fn descriptor(&self, name: &str, value: &Value) -> Result<Descriptor, FinishedError> {
        let descriptor = serde_json::from_value(value.clone());
        descriptor.map_err(|error| self.damaged(format!("{name} cannot be understood: {error}")))
    }

    /// An image of a layout.
    fn image(&self, name: &str, bytes: &[u8], named: &str) -> Result<FinishedImage, FinishedError> {
        let mut body: Map<String, Value> = self.json(name, bytes)?;
        let Body { media_type, config, layers, .. } = self.json(name, bytes)?;
        let media_type = media_type.unwrap_or_else(|| named.to_owned());
        if !matches!(media_type.as_str(), OCI_IMAGE_MEDIA_TYPE | IMAGE_MANIFEST_MEDIA_TYPE) {
            return Err(self.damaged(format!("{name} is {media_type}, not the manifest of an image")));
        }
        let (Some(config_descriptor), Some(layers)) = (config, layers) else {
            return Err(self.damaged(format!("{name} lacks a config or layers")));
        };
        let (config_name, config) = self.blob(&config_descriptor.digest)?;
        let Config { body: config, platform, diff_ids } = self.config(&config_name, &config, layers.len())?;
        let layers = layers.iter().zip(diff_ids).map(|(layer, diff_id)| {
            let descriptor = self.descriptor(name, layer)?;
            Ok(FinishedLayer {
                upload: self.blob_layer(descriptor, diff_id)?,
                annotations: layer.get("annotations").cloned(),
            })
        });
        let layers = layers.collect::<Result<_, FinishedError>>()?;
        body.remove("layers");
        body.remove("config");
        let config_media_type = config_descriptor.media_type;
        Ok(FinishedImage { platform, config, config_media_type, media_type, body, layers })
    }

    /// A config that knows as many layers as the image has.
    fn config(&self, name: &str, bytes: &[u8], layers: usize) -> Result<Config, FinishedError> {
        let config: Map<String, Value> = self.json(name, bytes)?;
        let diff_ids = config.get("rootfs").and_then(|rootfs| rootfs.get("diff_ids")).cloned();
        let diff_ids: Option<Vec<Digest>> = diff_ids.and_then(|ids| serde_json::from_value(ids).ok());
        let diff_ids = diff_ids.unwrap_or_default();
        if diff_ids.len() != layers {
            let count = diff_ids.len();
            return Err(self.damaged(format!("{name} knows {count} layers, and the image has {layers}")));
        }
        let text = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default();
        let parts = [text("os"), text("architecture"), text("variant")];
        let platform = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
        Ok(Config { body: config, platform, diff_ids })
    }

    fn blob_layer(&self, descriptor: Descriptor, diff_id: Digest) -> Result<Upload, FinishedError> {
        let name = blob_name(&descriptor.digest);
        let (_, size) = self.store.file(&name).map_err(|error| self.layer_failed(&name, error))?;
        if size != descriptor.size {
            return Err(self.damaged(format!("{name} has {size} bytes, not {}", descriptor.size)));
        }
        let compressed = match descriptor.media_type.as_str() {
            IMAGE_LAYER_MEDIA_TYPE => Some(IMAGE_LAYER_GZIP_MEDIA_TYPE),
            IMAGE_DOCKER_LAYER_TAR_MEDIA_TYPE => Some(IMAGE_DOCKER_LAYER_GZIP_MEDIA_TYPE),
            _ => None,
        };
        Ok(match compressed {
            Some(media_type) => self.compressed(name, media_type, diff_id),
            None => {
                let expected = descriptor.digest;
                let open = self.store.opener(name, Some(expected), Pack::AsIs);
                Upload { media_type: descriptor.media_type, known: Some((expected, size)), open }
            }
        })
    }

    /// The names of the one image in an archive of `docker save`.
    fn saved(&self) -> Result<Saved, FinishedError> {
        let bytes = self.small(DOCKER_MANIFEST)?;
        let mut saved: Vec<Saved> = self.json(DOCKER_MANIFEST, &bytes)?;
        // One image that has several names is one entry; but not every tool does it so.
        let distinct: BTreeSet<&str> = saved.iter().map(|one| one.config.as_str()).collect();
        if 1 < distinct.len() {
            return Err(FinishedError::Several { path: self.path.to_owned(), count: distinct.len() });
        }
        let Some(Saved { config, layers }) = saved.pop() else {
            return Err(self.damaged("manifest.json names no image"));
        };
        let layers = layers.iter().map(|name| normal(name.as_bytes())).collect();
        Ok(Saved { config: normal(config.as_bytes()), layers })
    }

    fn layer_failed(&self, name: &str, error: io::Error) -> FinishedError {
        match error.kind() {
            io::ErrorKind::NotFound => self.damaged(format!("it has no {name}, which is a layer")),
            _ => FinishedError::Io { path: self.path.join(name), source: error },
        }
    }

    fn docker(&self) -> Result<Finished, FinishedError> {
        let Saved { config: config_name, layers } = self.saved()?;
        let bytes = self.small(&config_name)?;
        let digest = Digest::of(&bytes);
        // The name is the digest: `<hex>.json`, or `blobs/sha256/<hex>`.
        let file = config_name.rsplit('/').next().unwrap_or_default();
        let named = file.strip_suffix(".json").unwrap_or(file).trim_start_matches("sha256:");
        if named.len() == 64 && format!("sha256:{named}") != digest.to_string() {
            return Err(self.damaged(format!("{config_name} has the digest {digest}")));
        }
        let Config { body: config, platform, diff_ids } = self.config(&config_name, &bytes, layers.len())?;
        let layers = layers.into_iter().zip(diff_ids).map(|(name, diff_id)| {
            let mut start = Vec::new();
            let read = self.store.file(&name).and_then(|(file, _)| file.take(4).read_to_end(&mut start));
            read.map_err(|error| self.layer_failed(&name, error))?;
            let upload = match packed(&start) {
                Some(media_type) => {
                    // Its own digest is nowhere; what is in it, the config says.
                    let open = self.store.opener(name, None, Pack::AsIs);
                    Upload { media_type: media_type.to_owned(), known: None, open }
                }
                None => self.compressed(name, IMAGE_LAYER_GZIP_MEDIA_TYPE, diff_id),
            };
            Ok(FinishedLayer { upload, annotations: None })
        });
        let image = FinishedImage {
            platform,
            config,
            config_media_type: IMAGE_CONFIG_MEDIA_TYPE.to_owned(),
            media_type: OCI_IMAGE_MEDIA_TYPE.to_owned(),
            body: Map::new(),
            layers: layers.collect::<Result<_, FinishedError>>()?,
        };
        Ok(Finished { digest, index: None, images: vec![image], attestations: 0 })
    }

    fn compressed(&self, name: String, media_type: &str, diff_id: Digest) -> Upload {
        let open = self.store.opener(name, Some(diff_id), Pack::Gzip);
        Upload { media_type: media_type.to_owned(), known: None, open }
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}", digest.to_string().replacen(':', "/", 1))
}
