//! A docker-archive: a tar archive of the config, the layers, and a `manifest.json` that names them.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;

use bytes::Bytes;
use serde_json::json;

use super::fetch::{self, Part};
use super::{SaveError, beside, failed, refuse_foreign};
use crate::clients::registry::{Descriptor, Image, Registry};
use crate::say::Say;

/// What a tar archive is made of.
const BLOCK: u64 = 512;

/// Writes an image as a docker-archive, in which it is called `reference`. The layers stay as compressed as they are.
///
/// The same image and reference give the same bytes: entries have no times and no owners.
///
/// Fact: docs/facts.md, `load`.
///
/// # Errors
///
/// Anything but a whole and verified image. Then there is no file.
pub async fn docker_archive(
    registry: &Registry,
    image: &Image,
    reference: &str,
    path: &Path,
    say: &Say,
) -> Result<(), SaveError> {
    let digest = image.manifest.digest;
    refuse_foreign(digest, &image.layers)?;
    let (layers, diff_ids) = (image.layers.len(), image.config.rootfs.diff_ids.len());
    if layers != diff_ids {
        return Err(SaveError::LayerCount { image: digest, layers, diff_ids });
    }
    let config = registry.blob(&image.config_descriptor).await?;
    let directory = beside(path)?;
    let mut file = tempfile::Builder::new()
        .prefix(".image-")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(directory)
        .map_err(failed("make a file in", directory))?;
    let plan = plan(image, &config, reference);
    write(file.as_file_mut(), &plan).map_err(failed("write", path))?;
    let parts: Vec<Part> = plan
        .layers
        .into_iter()
        .map(|(descriptor, offset)| Part { descriptor, path: file.path().to_owned(), offset })
        .collect();
    fetch::all(registry, &parts, say).await?;
    // The mask of the process may have taken away what everybody needs to read it.
    file.as_file().set_permissions(Permissions::from_mode(0o644)).map_err(failed("write", path))?;
    file.persist_noclobber(path).map_err(|error| failed("make", path)(error.error))?;
    Ok(())
}

/// Where everything lies in an archive. All sizes are known before a layer is read, so layers can be written at once.
pub(super) struct Plan {
    /// Headers and small files, each with its offset.
    pub(super) small: Vec<(u64, Bytes)>,
    /// The layers, each once, with the offsets of their bytes.
    pub(super) layers: Vec<(Descriptor, u64)>,
    /// The size of the archive, in bytes.
    pub(super) size: u64,
}

/// Plans the archive of an image with this config.
pub(super) fn plan(image: &Image, config: &Bytes, reference: &str) -> Plan {
    let config_name = format!("{}.json", image.config_descriptor.digest.hex());
    let names: Vec<String> = image.layers.iter().map(layer_name).collect();
    let manifest = json!([{"Config": config_name, "RepoTags": [reference], "Layers": names}]);
    let mut plan = Plan { small: Vec::new(), layers: Vec::new(), size: 0 };
    // Before the layers: who reads the archive from front to back knows at once what it is.
    plan.add_small("manifest.json", manifest.to_string().into());
    plan.add_small(&config_name, config.clone());
    for (layer, name) in image.layers.iter().zip(&names) {
        // Two layers may be the same.
        if plan.layers.iter().all(|(other, _)| other.digest != layer.digest) {
            let offset = plan.begin(name, layer.size);
            plan.layers.push((layer.clone(), offset));
        }
    }
    // Two blocks of zeros end an archive.
    plan.size = plan.size.saturating_add(2 * BLOCK);
    plan
}

impl Plan {
    /// Adds the header of a file, and gives the offset of its content.
    fn begin(&mut self, name: &str, size: u64) -> u64 {
        let mut header = tar::Header::new_gnu();
        header.set_path(name).expect("a digest with an ending fits into a header");
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(size);
        header.set_cksum();
        let offset = self.size.saturating_add(BLOCK);
        self.small.push((self.size, Bytes::copy_from_slice(header.as_bytes())));
        // An absurd size ends as an error of the file system, which has no room for it.
        self.size = offset.saturating_add(size).checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX);
        offset
    }

    fn add_small(&mut self, name: &str, content: Bytes) {
        let offset = self.begin(name, content.len() as u64);
        self.small.push((offset, content));
    }
}

/// Writes all but the layers.
fn write(file: &mut File, plan: &Plan) -> io::Result<()> {
    // What is not written reads as zeros, as the padding of an archive must be.
    file.set_len(plan.size)?;
    plan.small.iter().try_for_each(|(offset, bytes)| file.write_all_at(bytes, *offset))?;
    file.flush()
}

/// The file of a layer. What it is called says how it is compressed, for people: programs look at its bytes.
fn layer_name(layer: &Descriptor) -> String {
    let ending = match layer.media_type.rsplit(['+', '.']).next() {
        Some("gzip") => ".tar.gz",
        Some("zstd") => ".tar.zst",
        _ => ".tar",
    };
    format!("{}{ending}", layer.digest.hex())
}
