//! rootfs/ is what an engine makes of the same image, entry by entry.
//!
//! A table of images is unpacked by in, and exported by engines (`docker export`). An export tells seconds, and of
//! attributes only capabilities; what else there is to compare, and what engines cannot take or do otherwise, is held
//! against an expectation that is written by hand.

mod found;
mod layer;

use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tar::EntryType;

use crate::project::{Project, only};
use crate::support::engine::EngineKind;
use crate::support::server::run;
use crate::support::{image, servers, temporary};

pub use found::on_disk;
use found::{Found, in_engine};
use layer::{Item, directory, layer, link, regular};

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// Those that are asked what an image is. What they do otherwise than each other, they do by their stores: Docker's own
/// makes each layer for itself, containerd's puts one on top of the other.
const BOTH: &[EngineKind] = &[EngineKind::Docker20, EngineKind::Docker28Containerd];

/// A layer as it lies in a registry.
struct Packed {
    media_type: &'static str,
    bytes: Vec<u8>,
    /// The digest of what is packed in it.
    diff_id: String,
}

fn packed(media_type: &'static str, layer: &[u8], bytes: Vec<u8>) -> Packed {
    Packed { media_type, bytes, diff_id: image::digest(layer) }
}

fn gzipped(layer: &[u8]) -> Packed {
    packed(GZIP, layer, image::gzip(layer))
}

/// An image in the registry, at the content tag of a project of its own.
struct Published {
    project: Project,
    version: Value,
    reference: String,
}

#[track_caller]
fn publish(name: &'static str, kinds: (&'static str, &'static str), layers: &[Packed]) -> Published {
    let project = Project::new(name);
    let version = only(&project.check(None));
    let registry = servers().registry();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Labels": {"git-image.inputs": version["inputs"]}},
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|layer| &layer.diff_id).collect::<Vec<_>>()},
    });
    let descriptor = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": registry.put_blob(name, bytes), "size": bytes.len()});
    let (manifest_kind, config_kind) = kinds;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": manifest_kind,
        "config": descriptor(config_kind, config.to_string().as_bytes()),
        "layers": layers.iter().map(|layer| descriptor(layer.media_type, &layer.bytes)).collect::<Vec<_>>(),
    });
    let tag = format!("inputs-{}", version["inputs"].as_str().expect("it is a text"));
    registry.put_manifest(name, &tag, manifest_kind, manifest.to_string().as_bytes());
    Published { reference: format!("{}:{tag}", registry.repository(name)), project, version }
}

impl Published {
    /// Unpacks it.
    #[track_caller]
    fn rootfs(&self) -> PathBuf {
        let (directory, ran) = self.project.get(&self.version, json!({}));
        ran.succeeds();
        directory.join("rootfs")
    }

    /// Unpacks it, and compares that with what these engines make of it.
    #[track_caller]
    fn is_as_in(&self, engines: &[EngineKind]) -> found::Tree {
        let ours = on_disk(&self.rootfs());
        for &kind in engines {
            let theirs = in_engine(kind, &self.reference);
            let (name, kind) = (self.project.name, kind.name());
            let paths = |found: &found::Tree| found.keys().cloned().collect::<Vec<_>>();
            assert_eq!(paths(&ours), paths(&theirs), "{name}: {kind}");
            for (path, expected) in &theirs {
                let found = Found { attributes: ours[path].capability(), ..ours[path].clone() };
                assert_eq!(&found, expected, "{name}: {kind}: {}", path.display());
            }
        }
        ours
    }
}

const OCI: (&str, &str) = (image::OCI_MANIFEST, OCI_CONFIG);
const DOCKER: (&str, &str) = (image::DOCKER_MANIFEST, DOCKER_CONFIG);

/// What most images have: programs, links, owners.
fn common() -> Vec<u8> {
    layer(&[
        directory("bin", 0o755, (0, 0)),
        regular("bin/setuid", 0o4755, (0, 0), "setuid"),
        regular("bin/setgid", 0o2755, (0, 42), "setgid"),
        Item { capable: true, ..regular("bin/capable", 0o755, (0, 0), "capable") },
        link(EntryType::Symlink, "bin/sh", "setuid"),
        link(EntryType::Symlink, "bin/nowhere", "/not/there"),
        directory("tmp", 0o1777, (0, 0)),
        directory("home", 0o755, (0, 0)),
        directory("home/ada", 0o2750, (1000, 1001)),
        regular("home/ada/one", 0o640, (1000, 1001), "one"),
        Item { mode: 0o640, owner: (1000, 1001), ..link(EntryType::Link, "home/ada/two", "home/ada/one") },
        regular("kept", 0o600, (65534, 65534), "kept"),
        regular("empty", 0o444, (0, 0), ""),
    ])
}

#[test]
fn layers_are_applied_as_the_engine_applies_them() {
    let root = (0, 0);
    let first = layer(&[
        directory("bin", 0o755, root),
        Item { capable: true, ..regular("bin/capable", 0o755, root, "capable") },
        directory("home", 0o755, root),
        directory("home/ada", 0o2750, (1000, 1001)),
        regular("home/ada/one", 0o640, (1000, 1001), "one"),
        Item { mode: 0o640, owner: (1000, 1001), ..link(EntryType::Link, "home/ada/two", "home/ada/one") },
        Item { mode: 0o640, owner: (1000, 1001), ..link(EntryType::Link, "home/three", "home/ada/one") },
        directory("gone", 0o755, root),
        regular("gone/file", 0o644, root, "gone"),
        directory("opaque", 0o755, root),
        regular("opaque/old", 0o644, root, "old"),
        directory("opaque/below", 0o755, root),
        directory("opaque-after", 0o755, root),
        regular("opaque-after/old", 0o644, root, "old"),
        regular("was-file", 0o644, root, "file"),
        directory("was-directory", 0o755, root),
        regular("was-directory/inner", 0o644, root, "inner"),
        link(EntryType::Symlink, "was-link", "home"),
        directory("becomes-link", 0o755, root),
        regular("becomes-link/inner", 0o644, root, "inner"),
        directory("opt", 0o755, root),
        link(EntryType::Symlink, "alias", "opt"),
        // Through a link of the same layer.
        regular("alias/through", 0o644, root, "through"),
        regular("both", 0o644, root, "hidden and brought again"),
    ]);
    let second = layer(&[
        regular(".wh.gone", 0o644, root, ""),
        directory("opaque", 0o711, (5, 6)),
        regular("opaque/.wh..wh..opq", 0o644, root, ""),
        regular("opaque/new", 0o644, root, "new"),
        // The mark comes after what it must not hide.
        directory("opaque-after", 0o755, root),
        regular("opaque-after/new", 0o644, root, "new"),
        regular("opaque-after/.wh..wh..opq", 0o644, root, ""),
        directory("was-file", 0o700, root),
        regular("was-file/below", 0o644, root, "below"),
        regular("was-directory", 0o644, root, "a file now"),
        directory("was-link", 0o755, root),
        regular("was-link/own", 0o644, root, "own"),
        link(EntryType::Symlink, "becomes-link", "home"),
        // Builders list the directory of every change. Without it an engine would make it anew, ours would keep it.
        directory("home", 0o755, root),
        directory("home/ada", 0o2750, (1000, 1001)),
        // What other names link to.
        regular("home/ada/.wh.one", 0o644, root, ""),
        directory("bin", 0o755, root),
        regular("bin/capable", 0o711, (1, 1), "capable again"),
        regular(".wh.both", 0o644, root, ""),
        regular(".wh.never-was", 0o644, root, ""),
    ]);
    let third = layer(&[
        directory("gone", 0o750, (7, 7)),
        regular("gone/again", 0o644, root, "again"),
        regular("both", 0o600, root, "again"),
    ]);
    let layers = [gzipped(&common()), gzipped(&first), gzipped(&second), gzipped(&third)];
    let published = publish("rootfs-layers", OCI, &layers);
    let ours = published.is_as_in(BOTH);
    assert!(!ours[Path::new("bin/setuid")].capability().contains_key("security.capability"));
    assert!(ours[Path::new("bin/capable")].attributes.is_empty(), "the file that replaces it has none");
}

#[test]
fn every_kind_of_entry_is_as_the_engine_makes_it() {
    let root = (0, 0);
    let long = "a-long-name-".repeat(15);
    let deep = format!("deep/{}", vec!["directory"; 30].join("/"));
    let target = "../".repeat(60) + "nowhere";
    let mut items = vec![
        Item { kind: EntryType::Fifo, ..regular("fifo", 0o622, (1, 2), "") },
        Item { kind: EntryType::Char, device: (1, 3), ..regular("null", 0o666, root, "") },
        Item { kind: EntryType::Block, device: (7, 300), ..regular("loop", 0o660, (0, 6), "") },
        regular("large-owner", 0o644, (70_000, 4_000_000_000), "owner"),
        Item { mtime: Some(1), ..regular("old", 0o644, root, "old") },
        Item { mtime: Some(4_102_444_800), ..regular("of-2100", 0o644, root, "new") },
        Item { mtime: Some(1_234_567_890), ..link(EntryType::Symlink, "dated-link", "old") },
        Item { owner: (1000, 1001), ..link(EntryType::Symlink, "owned-link", "old") },
        Item { mtime: Some(86_400), ..directory("dated", 0o500, root) },
        regular("dated/file", 0o644, root, "does not change the time of its directory"),
        link(EntryType::Symlink, "long-link", &target),
        regular("unicode-ä b", 0o444, root, "ä"),
        regular("with\nline\tand \"quotes\"", 0o444, root, ""),
        regular(&format!("{}/file", &long), 0o644, root, "long"),
        regular(&"x".repeat(255), 0o644, root, "as long as a name can be"),
    ];
    items.insert(13, directory(&long, 0o755, root));
    let parts: Vec<String> = deep.match_indices('/').map(|(at, _)| deep[..at].to_owned()).collect();
    items.extend(parts.iter().map(|part| directory(part, 0o755, root)));
    items.push(directory(&deep, 0o755, root));
    let file = format!("{deep}/file");
    items.push(regular(&file, 0o600, root, "deep"));
    let long_link = format!("{deep}/{long}");
    items.push(Item { mode: 0o600, ..link(EntryType::Link, &long_link, &file) });
    // A hard link to a symlink is that symlink, with the same time.
    let mtime = Some(1_000_000_010);
    items.push(Item { mode: 0o777, mtime, ..link(EntryType::Link, "same-link", "long-link") });
    let layers = [gzipped(&layer(&items))];
    publish("rootfs-kinds", OCI, &layers).is_as_in(BOTH);
}

#[test]
fn names_are_bytes_and_every_attribute_is_set() {
    // docker export makes text of names, and leaves out every attribute but a capability.
    let attributes: &[(&str, &[u8])] = &[("user.plain", b"value"), ("user.bytes", b"\0\xff\n"), ("trusted.x", b"t")];
    let mut odd = regular("odd", 0o644, (0, 0), "odd");
    odd.name = b"odd-\xff\xfe-name".to_vec();
    let items = [
        Item { attributes, ..regular("file", 0o644, (0, 0), "file") },
        Item { attributes: &attributes[..1], ..directory("directory", 0o755, (0, 0)) },
        odd,
    ];
    let published = publish("rootfs-bytes", OCI, &[gzipped(&layer(&items))]);
    let ours = on_disk(&published.rootfs());
    let set = |path: &str| -> Vec<(String, Vec<u8>)> { ours[Path::new(path)].attributes.clone().into_iter().collect() };
    let expected = |count: usize| {
        let mut all: Vec<_> =
            attributes[..count].iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
        all.sort();
        all
    };
    assert_eq!((set("file"), set("directory")), (expected(3), expected(1)));
    use std::os::unix::ffi::OsStrExt as _;
    let name = Path::new(std::ffi::OsStr::from_bytes(b"odd-\xff\xfe-name"));
    assert_eq!(ours[name].content, Some(image::digest(b"odd")));
}

#[test]
fn layers_are_read_whatever_they_are_packed_with_and_called() {
    let (first, second) = (common(), layer(&[regular("second", 0o644, (0, 0), &"second ".repeat(5000))]));
    let members = |layer: &[u8]| [image::gzip(&layer[..1000]), image::gzip(b""), image::gzip(&layer[1000..])].concat();
    let zstd = |layer: &[u8]| zstd::encode_all(layer, 3).expect("memory can be written to");
    let frames = |layer: &[u8]| [zstd(&layer[..1000]), zstd(&layer[1000..])].concat();
    let empty = layer(&[]);
    // Docker 20.10 pulls no zstd.
    let newer = &BOTH[1..];
    let of_docker = |layer: &[u8]| packed(DOCKER_GZIP, layer, image::gzip(layer));
    for (name, engines, kinds, layers) in [
        (
            "rootfs-members",
            BOTH,
            OCI,
            vec![packed(GZIP, &first, members(&first)), packed(GZIP, &second, members(&second))],
        ),
        ("rootfs-plain", BOTH, OCI, vec![packed(PLAIN, &first, first.clone()), packed(PLAIN, &second, second.clone())]),
        ("rootfs-zstd", newer, OCI, vec![packed(ZSTD, &first, zstd(&first)), packed(ZSTD, &second, zstd(&second))]),
        ("rootfs-frames", newer, OCI, vec![packed(ZSTD, &first, frames(&first)), gzipped(&second)]),
        ("rootfs-schema-2", BOTH, DOCKER, vec![of_docker(&first), of_docker(&second)]),
        ("rootfs-empty", BOTH, OCI, vec![gzipped(&empty), gzipped(&first), packed(PLAIN, &empty, empty.clone())]),
        (
            "rootfs-wrong-type",
            BOTH,
            OCI,
            vec![packed(ZSTD, &first, image::gzip(&first)), packed(GZIP, &second, second.clone())],
        ),
        // containerd does not look at what is said not to be compressed.
        ("rootfs-no-type", &BOTH[..1], OCI, vec![gzipped(&first), packed(PLAIN, &second, image::gzip(&second))]),
        ("rootfs-twice", BOTH, OCI, vec![gzipped(&first), gzipped(&second), gzipped(&first)]),
    ] {
        publish(name, kinds, &layers).is_as_in(engines);
    }
}

/// An archive that GNU tar makes of files in a directory.
#[track_caller]
fn by_gnu_tar(options: &[&str], make: impl FnOnce(&Path)) -> Vec<u8> {
    let (files, made) = (temporary(), temporary());
    make(files.path());
    let archive = made.path().join("layer.tar");
    let names = std::fs::read_dir(files.path()).expect("it was just made").flatten().map(|entry| entry.file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    run(Command::new("tar")
        .args(["--sparse", "--numeric-owner", "--mtime=@1000000000"])
        .args(options)
        .arg("-C")
        .arg(files.path())
        .arg("-cf")
        .arg(&archive)
        .args(names));
    std::fs::read(&archive).expect("tar wrote it")
}

/// A file with some bytes between holes.
#[track_caller]
fn sparse(path: &Path, size: u64, pieces: &[u64]) {
    let file = std::fs::File::create(path).expect("it can be made");
    file.set_len(size).expect("it can be as large");
    for &offset in pieces {
        file.write_all_at(b"piece", offset).expect("it can be written");
    }
}

#[test]
fn sparse_files_have_the_content_that_the_engine_sees() {
    let mut seen: Option<found::Tree> = None;
    for (name, engines, options) in [
        // No engine takes entries of GNU's own type for sparse files: these are held against the others.
        ("rootfs-sparse-gnu", &BOTH[..0], vec!["--format=gnu"]),
        ("rootfs-sparse-0-0", BOTH, vec!["--format=pax", "--sparse-version=0.0"]),
        ("rootfs-sparse-0-1", BOTH, vec!["--format=pax", "--sparse-version=0.1"]),
        ("rootfs-sparse-1-0", BOTH, vec!["--format=pax", "--sparse-version=1.0"]),
    ] {
        let layer = by_gnu_tar(&options, |files| {
            let many: Vec<u64> = (0..30).map(|number| number * 131_072).collect();
            sparse(&files.join("many"), 4 << 20, &many);
            sparse(&files.join("hole-at-the-end"), 1 << 20, &[0]);
            sparse(&files.join("hole-at-the-beginning"), (1 << 20) + 5, &[1 << 20]);
            sparse(&files.join("only-a-hole"), 1 << 20, &[]);
            std::fs::write(files.join("none"), "no hole").expect("it can be written");
        });
        assert!(layer.len() < 3 << 20, "{name}: tar found the holes");
        let ours = publish(name, OCI, &[gzipped(&layer)]).is_as_in(engines);
        assert_eq!(*seen.get_or_insert_with(|| ours.clone()), ours, "{name}");
    }
}

#[test]
fn a_file_of_more_than_8_gib_is_as_large_and_takes_no_more_room_than_it_must() {
    // An engine writes the holes out. This is the size from which on a header has no room for it.
    const SIZE: u64 = (9 << 30) + 3;
    for (name, options) in [("rootfs-large-gnu", ["--format=gnu"]), ("rootfs-large-pax", ["--format=pax"])] {
        let layer = by_gnu_tar(&options, |files| sparse(&files.join("large"), SIZE, &[0, 8 << 30, SIZE - 5]));
        let published = publish(name, OCI, &[gzipped(&layer)]);
        let file = std::fs::File::open(published.rootfs().join("large")).expect("it was unpacked");
        let metadata = file.metadata().expect("it was unpacked");
        assert_eq!((metadata.len(), metadata.mtime()), (SIZE, 1_000_000_000), "{name}");
        assert!(metadata.blocks() * 512 < 1 << 20, "{name}: {} blocks", metadata.blocks());
        for offset in [0, 8 << 30, SIZE - 5] {
            let mut piece = [0; 5];
            file.read_exact_at(&mut piece, offset).expect("it is as large");
            assert_eq!(&piece, b"piece", "{name}: {offset}");
        }
    }
}

#[test]
fn what_stores_do_otherwise_than_each_other_is_done_as_the_specification_has_it() {
    // Docker's own store makes each layer for itself: it cannot link to a file of a lower layer, a directory that is not
    // listed is made anew, and what lies behind a link of a lower layer becomes a directory in the place of the link.
    let root = (0, 0);
    let first = layer(&[
        directory("kept", 0o750, (3, 4)),
        regular("kept/one", 0o640, (1, 2), "one"),
        directory("real", 0o700, root),
        link(EntryType::Symlink, "alias", "real"),
    ]);
    let second = layer(&[
        Item { mode: 0o640, owner: (1, 2), mtime: Some(1_000_000_001), ..link(EntryType::Link, "linked", "kept/one") },
        regular("kept/two", 0o600, root, "two"),
        regular("alias/through", 0o644, root, "through"),
    ]);
    let published = publish("rootfs-otherwise", OCI, &[gzipped(&first), gzipped(&second)]);
    let ours = on_disk(&published.rootfs());
    let paths: Vec<String> = ours.keys().map(|path| path.display().to_string()).collect();
    assert_eq!(paths, ["alias", "kept", "kept/one", "kept/two", "linked", "real", "real/through"]);
    let of = |path: &str| &ours[Path::new(path)];
    assert_eq!(of("alias").target.as_deref(), Some(Path::new("real")));
    assert_eq!((of("kept").mode, of("kept").owner, of("kept").seconds), (0o750, (3, 4), 1_000_000_000));
    assert_eq!(of("kept/one").links, of("linked").links);
    assert!(of("linked").links.is_some());
}

#[test]
fn a_layer_that_the_registry_may_not_give_is_an_error_that_names_it() {
    let here = common();
    let foreign = Packed {
        media_type: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        ..packed(GZIP, b"elsewhere", b"elsewhere".to_vec())
    };
    let published = publish("rootfs-foreign", OCI, &[gzipped(&here), foreign]);
    let (directory, ran) = published.project.get(&published.version, json!({}));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{}", ran.stderr);
    let error = format!("layer {}", image::digest(b"elsewhere"));
    assert!(ran.stderr.contains(&error) && ran.stderr.contains(" is a foreign layer"), "{}", ran.stderr);
    assert!(!directory.join("rootfs").exists());
}
