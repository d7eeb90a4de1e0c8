//! A finished image as an engine reads it: blobs by digest, and one of them to begin with.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use oci_distribution::manifest::{IMAGE_CONFIG_MEDIA_TYPE, IMAGE_LAYER_MEDIA_TYPE};
use serde_json::{Map, json};
use sha2::{Digest as _, Sha256};

use super::store::{Store, packed};
use super::{FinishedError, INDEX, OCI_IMAGE_MEDIA_TYPE, Reading, Saved, blob_name, document};
use crate::names::Digest;

/// How much of a layer is hashed at once, in bytes.
const PIECE: usize = 256 << 10;

/// The blobs of a finished image. They are not verified here: who reads them has their digests.
pub struct Blobs {
    root: Digest,
    store: Arc<Store>,
    /// Those that are in no file that is named by its digest.
    others: BTreeMap<Digest, Blob>,
}

enum Blob {
    Bytes(Bytes),
    File(String),
}

impl fmt::Debug for Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blobs").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Blobs {
    /// Opens an archive or a directory, as [`super::Finished::open`] does.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn open(path: &Path) -> Result<Self, FinishedError> {
        Self::of(Store::open(path)?, path)
    }

    /// Opens files that lie anywhere, by their names in the directory of a layout; `path` is what that is called.
    ///
    /// # Errors
    ///
    /// As for [`super::Finished::open`].
    pub fn of_files(files: BTreeMap<String, PathBuf>, path: &Path) -> Result<Self, FinishedError> {
        Self::of(Store::Files(files), path)
    }

    fn of(store: Store, path: &Path) -> Result<Self, FinishedError> {
        let reading = Reading { store: Arc::new(store), path };
        let (root, others) = match reading.form()? {
            super::Form::Layout => reading.blobs_of_layout()?,
            super::Form::Docker => reading.blobs_of_docker()?,
        };
        Ok(Self { root, store: reading.store, others })
    }

    /// The digest of its manifest or index.
    pub fn root(&self) -> Digest {
        self.root
    }

    /// The size of a blob in bytes; `None`: it is not there.
    pub fn size(&self, digest: &Digest) -> io::Result<Option<u64>> {
        let name = match self.others.get(digest) {
            Some(Blob::Bytes(bytes)) => return Ok(Some(bytes.len() as u64)),
            Some(Blob::File(name)) => name.clone(),
            None => blob_name(digest),
        };
        match self.store.file(&name) {
            Ok((_, size)) => Ok(Some(size)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The bytes of a blob from `offset` on.
    ///
    /// # Errors
    ///
    /// It is not there, or cannot be read.
    pub fn read(&self, digest: &Digest, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        match self.others.get(digest) {
            Some(Blob::Bytes(bytes)) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Ok(Box::new(Cursor::new(bytes.slice(from..))))
            }
            Some(Blob::File(name)) => Ok(self.store.file_from(name, offset)?.0),
            None => Ok(self.store.file_from(&blob_name(digest), offset)?.0),
        }
    }
}

type Found = (Digest, BTreeMap<Digest, Blob>);

impl Reading<'_> {
    fn blobs_of_layout(&self) -> Result<Found, FinishedError> {
        let root = self.layout()?.digest;
        // Some tools write the index of the platforms into the place of the one that names it.
        let is_top = !self.store.has(&blob_name(&root));
        Ok((root, is_top.then(|| (root, Blob::File(INDEX.to_owned()))).into_iter().collect()))
    }

    /// An archive of `docker save` has no manifest of OCI: it is made here, of layers as they lie.
    fn blobs_of_docker(&self) -> Result<Found, FinishedError> {
        let Saved { config: config_name, layers } = self.saved()?;
        let bytes = self.small(&config_name)?;
        let diff_ids = self.config(&config_name, &bytes, layers.len())?.diff_ids;
        let config = json!({
            "mediaType": IMAGE_CONFIG_MEDIA_TYPE,
            "digest": Digest::of(&bytes),
            "size": bytes.len(),
        });
        let mut others = BTreeMap::from([(Digest::of(&bytes), Blob::File(config_name))]);
        let mut descriptors = Vec::new();
        for (name, diff_id) in layers.into_iter().zip(diff_ids) {
            let (media_type, digest, size) = self.docker_layer(&name, diff_id)?;
            descriptors.push(json!({"mediaType": media_type, "digest": digest, "size": size}));
            others.insert(digest, Blob::File(name));
        }
        let body = Map::from_iter([
            ("schemaVersion".to_owned(), json!(2)),
            ("mediaType".to_owned(), json!(OCI_IMAGE_MEDIA_TYPE)),
            ("config".to_owned(), config),
            ("layers".to_owned(), descriptors.into()),
        ]);
        let manifest = document(OCI_IMAGE_MEDIA_TYPE, &body).bytes;
        let root = Digest::of(&manifest);
        others.insert(root, Blob::Bytes(manifest));
        Ok((root, others))
    }

    /// What a layer is, its digest and its size. Only one that is compressed has to be read for it.
    fn docker_layer(&self, name: &str, diff_id: Digest) -> Result<(&'static str, Digest, u64), FinishedError> {
        let failed = |error: io::Error| self.layer_failed(name, error);
        let (mut file, size) = self.store.file(name).map_err(failed)?;
        let mut piece = vec![0; PIECE];
        let mut count = file.read(&mut piece).map_err(failed)?;
        let Some(media_type) = packed(&piece[..count]) else {
            return Ok((IMAGE_LAYER_MEDIA_TYPE, diff_id, size));
        };
        let mut hasher = Sha256::new();
        while count != 0 {
            hasher.update(&piece[..count]);
            count = file.read(&mut piece).map_err(failed)?;
        }
        Ok((media_type, Digest::from_bytes(hasher.finalize().into()), size))
    }
}
