//! The unpacking thread: what it takes, what it says, and that it leaves nothing half-made.

use std::collections::BTreeMap;

use super::super::*;
use super::{Item, Tar, gzip, item, list};

fn descriptor(layer: &[u8]) -> Descriptor {
    Descriptor {
        media_type: "application/vnd.oci.image.layer.v1.tar".to_owned(),
        digest: Digest::of(layer),
        size: layer.len() as u64,
        platform: None,
        annotations: BTreeMap::new(),
    }
}

/// Sends whole layers in small pieces, as a network does, and what the thread answers.
fn unpack_layers(root: &Path, layers: &[Vec<u8>], say: &Say) -> Result<Unpacked, RootfsError> {
    unpack_limited(root, layers, None, say)
}

fn unpack_limited(
    root: &Path,
    layers: &[Vec<u8>],
    max_bytes: Option<NonZeroU64>,
    say: &Say,
) -> Result<Unpacked, RootfsError> {
    let (senders, arriving): (Vec<_>, Vec<_>) = layers
        .iter()
        .map(|layer| {
            let (pieces, arriving) = mpsc::channel(4);
            (pieces, (descriptor(layer), arriving))
        })
        .unzip();
    std::thread::scope(|scope| {
        for (layer, pieces) in layers.iter().zip(senders) {
            scope.spawn(move || {
                let whole = layer.chunks(100).map(|bytes| Piece::Bytes(Bytes::copy_from_slice(bytes)));
                for piece in whole.chain([Piece::End]) {
                    if pieces.blocking_send(piece).is_err() {
                        return;
                    }
                }
            });
        }
        unpack_arriving(root, arriving, max_bytes, &Arc::default(), say)
    })
}

#[test]
fn every_layer_is_unpacked_in_order_and_said() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = directory.path().join("rootfs");
    let first = Tar::default().file("a", "1").file("b", "1").end();
    let second = Tar::default().file("a", "2").file(".wh.b", "").end();
    let layers = [gzip(&first), second.clone()];
    let page = tempfile::NamedTempFile::new().expect("a temporary file");
    let say = Say::new(page.reopen().expect("it is there"));
    let unpacked = unpack_layers(&root, &layers, &say).expect("the layers are whole");
    assert_eq!(unpacked.files, 4);
    assert_eq!(unpacked.bytes, (first.len() + second.len()) as u64);
    assert_eq!(list(&root), ["a=2"]);
    let said = std::fs::read_to_string(page.path()).expect("it is there");
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    let bytes = size(second.len() as u64);
    assert!(
        lines[1].starts_with(&format!("layer 2 of 2: {}, {bytes}, unpacked {bytes} in ", Digest::of(&second))),
        "{said}"
    );
}

#[test]
fn a_layer_that_cannot_be_applied_leaves_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = directory.path().join("rootfs");
    let mut layer = Tar::default().file("a", "1").directory("d").file("d/x", "1").end();
    layer.truncate(3 * 512 + 100);
    let say = Say::new(std::io::sink());
    unpack_layers(&root, std::slice::from_ref(&layer), &say).expect_err("it is cut off");
    assert!(!root.exists());

    std::fs::create_dir(&root).expect("make the root");
    unpack_layers(&root, &[layer], &say).expect_err("it is cut off");
    assert!(list(directory.path()) == ["rootfs/"]);
}

#[test]
fn a_layer_that_inflates_to_more_than_is_allowed_leaves_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = directory.path().join("rootfs");
    let say = Say::new(std::io::sink());
    let small = Tar::default().file("a", "1").end();
    let bomb = gzip(&Tar::default().file("zeros", &"\0".repeat(64 << 20)).end());
    assert!(bomb.len() < 1 << 20, "it is small");
    let digest = Digest::of(&bomb);
    let layers = [gzip(&small), bomb];
    let error = unpack_limited(&root, &layers, NonZeroU64::new(8 << 20), &say).expect_err("it is too large");
    let report = crate::error::Report(&crate::error::Error::Rootfs(error)).to_string();
    assert_eq!(
        report,
        format!(
            "error: cannot unpack layer {digest}: with it the image has more than 8388608 bytes\n\
             hint: an image that inflates to so much may be meant to fill the worker's disk; if it is yours, raise \
             `source.registry.max_unpacked_size`, or set it to 0 for no limit"
        )
    );
    assert_eq!(list(directory.path()), Vec::<String>::new());
    // Exactly as much as is allowed is not too much, and the layers count together.
    let twice = [small.clone(), small.clone()];
    let limit = |bytes: usize| NonZeroU64::new(bytes as u64);
    unpack_limited(&root, &twice, limit(2 * small.len() - 1), &say).expect_err("a byte too much");
    unpack_limited(&root, &twice, limit(2 * small.len()), &say).expect("it is allowed");
}

#[test]
fn the_line_between_layers_tells_how_far_all_are() {
    let progress = Progress::new(&[descriptor(&[0; 3000]), descriptor(&[0; 2000])]);
    progress.downloaded.store(4000, Ordering::Relaxed);
    progress.unpacked.store(9000, Ordering::Relaxed);
    let line = progress.line("so far");
    assert!(line.starts_with("layers: so far 4.0 kB of 5.0 kB downloaded, unpacked 9.0 kB in 0."), "{line}");
}

#[test]
fn an_error_tells_the_layer_the_entry_and_the_cause() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let say = Say::new(std::io::sink());
    let layer = |item: &Item<'_>| Tar::default().item(item).end();
    let cases = [
        (
            layer(&Item { target: b"gone", ..item(b'1', b"usr/new\xff") }),
            "cause: cannot create hard link \"usr/new\\xFF\" to \"gone\"\ncause: No such file or directory (os error 2)",
        ),
        (
            layer(&Item { owner: (1 << 40, 0), ..item(b'0', b"a") }),
            "cause: cannot give \"a\" to user 1099511627776 and group 0\ncause: Invalid argument (os error 22)\n\
             hint: this container maps only some user and group numbers, and these are not among them: make the image \
             with lower numbers, or run the resource type with `privileged: true`",
        ),
        (
            vec![b'x'; 512],
            "cause: cannot read its archive\n\
             cause: a header's checksum is wrong: this is no tar archive, or it is damaged",
        ),
    ];
    for (bytes, expected) in cases {
        let digest = Digest::of(&bytes);
        let error = unpack_layers(&directory.path().join("rootfs"), &[bytes], &say).expect_err("it is damaged");
        let report = crate::error::Report(&crate::error::Error::Rootfs(error)).to_string();
        assert_eq!(report, format!("error: cannot unpack layer {digest}\n{expected}"));
    }
}

#[test]
fn a_root_with_something_in_it_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("mine"), "1").expect("make a file");
    let say = Say::new(std::io::sink());
    let error = unpack_layers(directory.path(), &[], &say).expect_err("it is not empty");
    assert!(matches!(error, RootfsError::NotEmpty { .. }), "{error:?}");
    assert_eq!(list(directory.path()), ["mine=1"]);
}

#[test]
fn a_dropped_download_ends_the_thread_and_leaves_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = directory.path().join("rootfs");
    let layer = Tar::default().file("a", "1").end();
    let planned = descriptor(&layer);
    let (pieces, arriving) = mpsc::channel(4);
    pieces.try_send(Piece::Bytes(Bytes::from(layer))).expect("there is room");
    drop(pieces);
    let say = Say::new(std::io::sink());
    let error = unpack_arriving(&root, vec![(planned, arriving)], None, &Arc::default(), &say)
        .expect_err("the layer did not end");
    assert!(matches!(error, RootfsError::Layer { source: LayerError::Read { .. }, .. }), "{error:?}");
    assert!(!root.exists());
}

#[test]
fn foreign_layers_and_a_wrong_number_of_diff_ids_are_refused_before_anything_is_downloaded() {
    let mut layer = descriptor(b"");
    let manifest = crate::clients::registry::Manifest {
        digest: Digest::of(b"manifest"),
        media_type: String::new(),
        bytes: Bytes::new(),
    };
    let config_descriptor = layer.clone();
    let image = |layer: &Descriptor, diff_ids| Image {
        manifest: manifest.clone(),
        config_descriptor: config_descriptor.clone(),
        layers: vec![layer.clone()],
        config: ImageConfig { rootfs: crate::clients::registry::RootfsDigests { diff_ids }, ..ImageConfig::default() },
    };
    assert!(planned(&image(&layer, vec![])).is_ok());
    let error = planned(&image(&layer, vec![Digest::of(b""); 2])).expect_err("two are not one");
    let expected = format!("cannot unpack {}: its manifest has 1 layers, its config 2", manifest.digest);
    assert_eq!(error.to_string(), expected);
    for media_type in [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    ] {
        layer.media_type = media_type.to_owned();
        let error = planned(&image(&layer, vec![])).expect_err("it is foreign");
        assert!(matches!(error, RootfsError::Foreign { .. }), "{error:?}");
    }
}

#[test]
fn metadata_json_has_the_four_keys_that_concourse_reads() {
    let config =
        serde_json::json!({"config": {"Env": ["A=b"], "User": "1000:1000", "Cmd": ["sh"], "WorkingDir": "/x"}});
    let config: ImageConfig = serde_json::from_value(config).expect("it is a config");
    let expected = serde_json::json!({"env": ["A=b"], "user": "1000:1000", "cmd": ["sh"], "entrypoint": []});
    assert_eq!(metadata_json(&config), expected);
    let nothing = serde_json::json!({"env": [], "user": "", "cmd": [], "entrypoint": []});
    assert_eq!(metadata_json(&ImageConfig::default()), nothing);
}
