//! Where things lie in an archive, and what is said when an image cannot be written. That tools read what is written is
//! shown by `tests/servers/formats.rs`.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;

use super::*;
use crate::clients::registry::{Image, ImageConfig, Manifest};
use crate::error::{Error, Report};

fn descriptor(media_type: &str, bytes: &[u8], size: u64) -> Descriptor {
    let media_type = media_type.to_owned();
    Descriptor { media_type, digest: Digest::of(bytes), size, platform: None, annotations: BTreeMap::new() }
}

fn image(layers: Vec<Descriptor>) -> Image {
    let manifest = Manifest { digest: Digest::of(b"manifest"), media_type: String::new(), bytes: Bytes::new() };
    let config_descriptor = descriptor("", b"config", 6);
    Image { manifest, config_descriptor, layers, config: ImageConfig::default() }
}

#[test]
fn an_archive_has_a_place_for_every_layer_of_any_size_before_one_is_read() {
    const LARGE: u64 = (9 << 30) + 1;
    let layers = vec![
        descriptor("application/vnd.oci.image.layer.v1.tar+gzip", b"one", 1),
        descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", b"large", LARGE),
        descriptor("application/vnd.oci.image.layer.v1.tar+gzip", b"one", 1),
        descriptor("application/vnd.oci.image.layer.v1.tar+zstd", b"none", 0),
        descriptor("application/vnd.oci.image.layer.v1.tar", b"last", 512),
    ];
    let plan = docker_archive::plan(&image(layers), &Bytes::from_static(b"config"), "r.example/a:1");
    let names: Vec<String> = plan
        .small
        .iter()
        .filter(|(_, bytes)| bytes.len() == 512)
        .map(|(_, bytes)| String::from_utf8_lossy(&bytes[..100]).trim_end_matches('\0').to_owned())
        .collect();
    let hex = |bytes: &[u8]| Digest::of(bytes).hex();
    let expected = [
        "manifest.json".to_owned(),
        format!("{}.json", hex(b"config")),
        format!("{}.tar.gz", hex(b"one")),
        format!("{}.tar.gz", hex(b"large")),
        format!("{}.tar.zst", hex(b"none")),
        format!("{}.tar", hex(b"last")),
    ];
    assert_eq!(names, expected);
    let manifest = &plan.small[1];
    let after_small = (manifest.0 + manifest.1.len() as u64).next_multiple_of(512) + 2 * 512;
    let one = after_small + 512;
    let large = one + 512 + 512;
    let none = large + LARGE.next_multiple_of(512) + 512;
    let last = none + 512;
    let offsets: Vec<u64> = plan.layers.iter().map(|(_, offset)| *offset).collect();
    assert_eq!(offsets, [one, large, none, last]);
    assert_eq!(plan.size, last + 512 + 1024);

    // No disk is so large, and that is for the file system to say.
    let absurd = vec![descriptor("", b"one", u64::MAX), descriptor("", b"two", u64::MAX)];
    assert_eq!(docker_archive::plan(&image(absurd), &Bytes::new(), "r.example/a:1").size, u64::MAX);
}

#[test]
fn every_error_says_what_to_do() {
    let image = Digest::of(b"image");
    let path = PathBuf::from("/got/image.tar");
    let file = |kind: io::ErrorKind| SaveError::File { action: "write", path: path.clone(), source: kind.into() };
    let full = "error: cannot write /got/image.tar\ncause: no storage space\n\
                hint: the worker's disk is full, or a quota is used up: make room, or make the image smaller";
    for (error, expected) in [
        (file(io::ErrorKind::StorageFull), full.to_owned()),
        (file(io::ErrorKind::QuotaExceeded), full.replace("no storage space", "quota exceeded")),
        (
            file(io::ErrorKind::PermissionDenied),
            "error: cannot write /got/image.tar\ncause: permission denied".to_owned(),
        ),
        (
            SaveError::LayerCount { image, layers: 2, diff_ids: 1 },
            format!(
                "error: cannot write the image {image}: its manifest has 2 layers, its config 1\n\
                 hint: the image was damaged when it was made or pushed: build and push it again"
            ),
        ),
        (
            SaveError::TooDeep { image },
            format!("error: cannot write the image {image}: it is an index in an index in an index"),
        ),
    ] {
        assert_eq!(Report(&Error::from(error)).to_string(), expected);
    }
}
