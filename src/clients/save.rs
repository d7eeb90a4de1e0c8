//! Writes an image to disk as other tools read it: a docker-archive, or an OCI layout.
//!
//! The bytes of the registry are written as they arrive, and verified meanwhile: layers stay compressed as they are, and
//! memory does not grow with the image. What is written gets its name when it is whole; a part is never found under it.
//!
//! - `docker_archive`: one file, as `docker load` reads it;
//! - `layout`: a directory with everything that belongs to an image or an index;
//! - `fetch`: blobs on their way to files, several at once.

mod docker_archive;
mod fetch;
mod layout;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

pub use docker_archive::docker_archive;
pub use layout::layout;

use super::registry::{Descriptor, RegistryError};
use crate::names::Digest;

/// Why an image could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The registry did not give all of it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is something in the place of the image.
    #[error("cannot write the image to {}: it is there already", path.display())]
    Exists {
        /// The place.
        path: PathBuf,
    },
    /// A layer that the registry may not give.
    #[error(
        "cannot write the image {image}: its layer {layer} is foreign ({media_type}), and must be had from elsewhere"
    )]
    Foreign {
        /// The image's manifest.
        image: Digest,
        /// The layer.
        layer: Digest,
        /// The layer's media type.
        media_type: String,
    },
    /// The config tells of another number of layers than the manifest.
    #[error("cannot write the image {image}: its manifest has {layers} layers, its config {diff_ids}")]
    LayerCount {
        /// The image's manifest.
        image: Digest,
        /// In the manifest.
        layers: usize,
        /// In the config.
        diff_ids: usize,
    },
    /// Indexes lie in indexes without an end.
    #[error("cannot write the image {image}: it is an index in an index in an index")]
    TooDeep {
        /// The outermost one.
        image: Digest,
    },
}

impl SaveError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Registry(error) => return error.hint(),
            Self::File { source, .. }
                if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                "the worker's disk is full, or a quota is used up: make room, or make the image smaller".to_owned()
            }
            Self::File { .. } | Self::TooDeep { .. } => return None,
            Self::Exists { .. } => "give an empty directory".to_owned(),
            Self::Foreign { .. } => "make the image on a base whose layers are all in the registry".to_owned(),
            Self::LayerCount { .. } => {
                "the image was damaged when it was made or pushed: build and push it again".to_owned()
            }
        })
    }
}

/// An error of the file system, with what was tried.
fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SaveError {
    move |source| SaveError::File { action, path: path.to_owned(), source }
}

/// The place of what is not whole yet: beside the place that it will have.
fn beside(path: &Path) -> Result<&Path, SaveError> {
    if path.symlink_metadata().is_ok() {
        return Err(SaveError::Exists { path: path.to_owned() });
    }
    Ok(path.parent().unwrap_or(path))
}

fn refuse_foreign(image: Digest, layers: &[Descriptor]) -> Result<(), SaveError> {
    match layers.iter().find(|layer| layer.is_foreign()) {
        Some(layer) => Err(SaveError::Foreign { image, layer: layer.digest, media_type: layer.media_type.clone() }),
        None => Ok(()),
    }
}
