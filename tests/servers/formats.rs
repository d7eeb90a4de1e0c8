//! in with `format: oci` and `oci-layout`: what it writes is what engines and tools read.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tar::EntryType;

use crate::project::{Project, get, only, put};
use crate::proxy::{Pace, Proxy};
use crate::support::engine::{self, EngineKind};
use crate::support::program::Ran;
use crate::support::registry::Registry;
use crate::support::server::run;
use crate::support::{http, image, servers, temporary};

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// An image that lies in the registry of the tests.
struct Published {
    project: Project,
    version: Value,
    repository: String,
    tag: String,
    /// Of what the content tag points to.
    digest: String,
}

impl Published {
    /// Of a project that has no image yet: what `publish` makes of its repository's name and of the labels that the
    /// image must have. It gives a manifest with its media type.
    #[track_caller]
    fn new(name: &'static str, publish: impl FnOnce(&Registry, &Value) -> (Value, &'static str)) -> Self {
        let project = Project::new(name);
        let version = only(&project.check(None));
        let registry = servers().registry();
        let labels = json!({"git-image.inputs": version["inputs"], "of": "user"});
        let (manifest, kind) = publish(registry, &labels);
        let tag = format!("inputs-{}", version["inputs"].as_str().expect("it is a text"));
        let digest = registry.put_manifest(name, &tag, kind, manifest.to_string().as_bytes());
        Self { repository: registry.repository(name), project, version, tag, digest }
    }

    /// Runs in with these params into a new directory.
    #[track_caller]
    fn get(&self, params: Value) -> (PathBuf, Ran) {
        self.project.get(&self.version, params)
    }

    fn reference(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }
}

/// A layer with one file.
fn layer(path: &str, content: &str) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    image::append(&mut archive, EntryType::Regular, path, 0o644, content.as_bytes());
    archive.into_inner().expect("memory can be written to")
}

/// Puts blobs and returns the manifest of an image of them.
#[track_caller]
fn manifest(
    registry: &Registry,
    repository: &str,
    architecture: &str,
    layers: &[(&str, &[u8])],
    labels: &Value,
) -> Value {
    let descriptor = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": registry.put_blob(repository, bytes), "size": bytes.len()});
    let packed = |kind: &str, bytes: &[u8]| match kind {
        GZIP => image::gzip(bytes),
        ZSTD => zstd::encode_all(bytes, 3).expect("memory can be written to"),
        _ => bytes.to_vec(),
    };
    let config = json!({
        "architecture": architecture, "os": "linux", "config": {"Labels": labels, "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|(_, layer)| image::digest(layer)).collect::<Vec<_>>()},
    });
    json!({
        "schemaVersion": 2, "mediaType": image::OCI_MANIFEST,
        "config": descriptor(CONFIG, config.to_string().as_bytes()),
        "layers": layers.iter().map(|(kind, layer)| descriptor(kind, &packed(kind, layer))).collect::<Vec<_>>(),
    })
}

#[track_caller]
fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("the file is there")).expect("it is JSON")
}

#[track_caller]
fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("it can be read");
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// How a step ended: with 1, with nothing on stdout, and with this at the end of stderr.
#[track_caller]
fn fails(ran: &Ran, last: &str) {
    assert!(ran.stderr.ends_with(last), "{}", ran.stderr);
    assert_eq!((ran.stdout.as_str(), ran.code), ("", Some(1)));
}

/// What an engine says of an image after it has loaded an archive.
#[track_caller]
fn loaded(kind: EngineKind, archive: &Path, reference: &str) -> Value {
    let engine = engine::of(kind);
    let bytes = std::fs::read(archive).expect("get wrote it");
    let answer = http::send("POST", &engine.url("/images/load?quiet=1"), |request| {
        request.header("content-type", "application/x-tar").body(bytes)
    });
    assert_eq!(answer.status, 200, "{}: {}", kind.name(), answer.text());
    assert!(!answer.text().contains("error"), "{}: {}", kind.name(), answer.text());
    let said = answer.text();
    let found = engine.get(&format!("/images/{reference}/json"));
    assert_eq!(found.status, 200, "{}: {said} {}", kind.name(), found.text());
    found.json()
}

const DOCKERS: [EngineKind; 3] = [EngineKind::Docker20, EngineKind::Docker28, EngineKind::Docker28Containerd];

#[test]
fn image_tar_is_loaded_by_every_engine_under_its_name() {
    let (first, second) = (layer("one", "1\n"), layer("two", "2\n"));
    for (name, kinds) in [
        ("formats-load-gzip", [GZIP, GZIP, GZIP]),
        ("formats-load-plain", [PLAIN, PLAIN, PLAIN]),
        ("formats-load-zstd", [ZSTD, ZSTD, ZSTD]),
        ("formats-load-mixed", [GZIP, PLAIN, ZSTD]),
    ] {
        // A layer that is there twice is written once.
        let layers = [(kinds[0], first.as_slice()), (kinds[1], second.as_slice()), (kinds[2], first.as_slice())];
        let published = Published::new(name, |registry, labels| {
            (manifest(registry, name, "amd64", &layers, labels), image::OCI_MANIFEST)
        });
        let (directory, ran) = published.get(json!({"format": "oci"}));
        ran.succeeds();
        for kind in DOCKERS {
            let found = loaded(kind, &directory.join("image.tar"), &published.reference());
            assert_eq!(found["Config"]["Labels"]["of"], "user", "{name} {}", kind.name());
            let expected: Vec<String> = layers.iter().map(|(_, layer)| image::digest(layer)).collect();
            assert_eq!(found["RootFS"]["Layers"], json!(expected), "{name} {}", kind.name());
        }
    }
}

/// An image of two small layers, in a registry.
#[track_caller]
fn two_layers(name: &'static str) -> Published {
    two_layers_with(name, "2\n")
}

/// The same with something else in the second one.
#[track_caller]
fn two_layers_with(name: &'static str, second: &str) -> Published {
    let layers = [layer("one", "1\n"), layer("two", second)];
    let layers = [(GZIP, layers[0].as_slice()), (ZSTD, layers[1].as_slice())];
    Published::new(name, |registry, labels| (manifest(registry, name, "amd64", &layers, labels), image::OCI_MANIFEST))
}

#[test]
fn image_tar_has_the_bytes_of_the_registry_and_is_the_same_every_time() {
    let published = two_layers("formats-bytes");
    let (directory, ran) = published.get(json!({"format": "oci"}));
    let answer = ran.succeeds();
    let shown = answer["metadata"].as_array().expect("it is a list").last();
    assert_eq!(shown, Some(&json!({"name": "format", "value": "oci"})));
    let files = ["branch", "digest", "image.tar", "inputs", "labels.json", "ref", "repository", "tag"];
    assert_eq!(names(&directory), files);
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).expect("get wrote it");
    assert_eq!(
        (read("repository"), read("tag"), read("digest")),
        (published.repository.clone(), published.tag.clone(), published.digest.clone())
    );
    assert_eq!(read_json(&directory.join("labels.json"))["of"], "user");

    let manifest = servers().registry().image_manifest(published.project.name, &published.tag);
    let hex = |value: &Value| value["digest"].as_str().expect("it is a text").trim_start_matches("sha256:").to_owned();
    let config = format!("{}.json", hex(&manifest["config"]));
    let layers =
        [format!("{}.tar.gz", hex(&manifest["layers"][0])), format!("{}.tar.zst", hex(&manifest["layers"][1]))];
    let bytes = std::fs::read(directory.join("image.tar")).expect("get wrote it");
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut found = Vec::new();
    for entry in archive.entries().expect("it is an archive") {
        let mut entry = entry.expect("it is an archive");
        let name = entry.path().expect("it has a name").display().to_string();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).expect("it is an archive");
        let header = entry.header();
        assert_eq!((header.mode().ok(), header.mtime().ok(), header.uid().ok()), (Some(0o644), Some(0), Some(0)));
        match name.as_str() {
            "manifest.json" => {
                let expected = json!([{"Config": config, "RepoTags": [published.reference()], "Layers": layers}]);
                assert_eq!(serde_json::from_slice::<Value>(&content).ok(), Some(expected));
            }
            blob => assert!(blob.starts_with(image::digest(&content).trim_start_matches("sha256:")), "{blob}"),
        }
        found.push(name);
    }
    let [first, second] = layers;
    assert_eq!(found, ["manifest.json".to_owned(), config, first, second]);
    let (again, ran) = published.get(json!({"format": "oci"}));
    ran.succeeds();
    assert_eq!(std::fs::read(again.join("image.tar")).expect("get wrote it"), bytes);

    // Lines for eyes: one for each blob.
    let lines: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("blob ")).collect();
    assert_eq!(lines.len(), 2, "{}", ran.stderr);
    assert!(lines.iter().all(|line| line.contains(" of 2: sha256:") && line.contains(" bytes in 0.")), "{lines:?}");
    assert!(ran.stderr.contains("\nblobs: all 2, "), "{}", ran.stderr);
}

/// Copies with skopeo to a tag of this registry; the digest that is there then.
#[track_caller]
fn copied(from: &str, repository: &str) -> String {
    let to = format!("docker://{}:copied", servers().registry().repository(repository));
    run(Command::new("skopeo").args([
        "--insecure-policy",
        "copy",
        "--quiet",
        "--all",
        "--dest-tls-verify=false",
        from,
        &to,
    ]));
    servers().registry().digest(repository, "copied").expect("it was copied")
}

/// Whether an index has an index in it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Flat,
    Nested,
}

/// An index of two platforms with an attestation; nested, one of the platforms is in an index of its own.
#[track_caller]
fn index(name: &'static str, depth: Depth) -> Published {
    Published::new(name, |registry, labels| {
        let child = |architecture: &str| {
            let (shared, own) = (layer("shared", "shared\n"), layer("which", architecture));
            let layers = [(GZIP, shared.as_slice()), (GZIP, own.as_slice())];
            let platform = json!({"os": "linux", "architecture": architecture});
            put_child(
                registry,
                name,
                &manifest(registry, name, architecture, &layers, labels),
                image::OCI_MANIFEST,
                Some(platform),
            )
        };
        let amd64 = child("amd64");
        let mut arm64 = child("arm64");
        if depth == Depth::Nested {
            let nested = json!({"schemaVersion": 2, "mediaType": image::OCI_INDEX, "manifests": [arm64]});
            arm64 = put_child(registry, name, &nested, image::OCI_INDEX, None);
        }
        let statement = registry.put_blob(name, b"{}");
        let config = registry.put_blob(name, b"{\"rootfs\": {}}");
        let attestation = json!({
            "schemaVersion": 2, "mediaType": image::OCI_MANIFEST,
            "config": {"mediaType": CONFIG, "digest": config, "size": 14},
            "layers": [{"mediaType": "application/vnd.in-toto+json", "digest": statement, "size": 2}],
        });
        let unknown = json!({"os": "unknown", "architecture": "unknown"});
        let mut attestation = put_child(registry, name, &attestation, image::OCI_MANIFEST, Some(unknown));
        attestation["annotations"] = json!({"vnd.docker.reference.digest": amd64["digest"], "vnd.docker.reference.type": "attestation-manifest"});
        let index = json!({
            "schemaVersion": 2, "mediaType": image::OCI_INDEX, "manifests": [attestation, arm64, amd64],
        });
        (index, image::OCI_INDEX)
    })
}

/// Puts a manifest by its digest, and gives its descriptor.
#[track_caller]
fn put_child(registry: &Registry, repository: &str, manifest: &Value, kind: &str, platform: Option<Value>) -> Value {
    let bytes = manifest.to_string();
    let digest = registry.put_manifest(repository, &image::digest(bytes.as_bytes()), kind, bytes.as_bytes());
    let mut descriptor = json!({"mediaType": kind, "digest": digest, "size": bytes.len()});
    if let Some(platform) = platform {
        descriptor["platform"] = platform;
    }
    descriptor
}

#[test]
fn oci_is_a_layout_of_the_whole_index_that_tools_push_with_the_same_digest() {
    let published = index("formats-index", Depth::Flat);
    let (directory, ran) = published.get(json!({"format": "oci-layout"}));
    assert_eq!(
        ran.succeeds()["metadata"].as_array().and_then(|all| all.last().cloned()),
        Some(json!({"name": "format", "value": "oci-layout"}))
    );
    assert_eq!(names(&directory.join("oci")), ["blobs", "index.json", "oci-layout"]);
    assert_eq!(read_json(&directory.join("oci/oci-layout")), json!({"imageLayoutVersion": "1.0.0"}));
    // Three manifests and their index; of the images two configs, one shared layer and two others; two of the attestation.
    let blobs = names(&directory.join("oci/blobs/sha256"));
    assert_eq!(blobs.len(), 4 + 5 + 2);
    for blob in &blobs {
        let bytes = std::fs::read(directory.join("oci/blobs/sha256").join(blob)).expect("get wrote it");
        assert_eq!(image::digest(&bytes), format!("sha256:{blob}"));
    }
    let top = read_json(&directory.join("oci/index.json"));
    assert_eq!(top["manifests"][0]["digest"], json!(published.digest));
    assert_eq!(top["manifests"].as_array().map(Vec::len), Some(1));
    let oci = directory.join("oci");
    assert_eq!(copied(&format!("oci:{}", oci.display()), "formats-index-copied"), published.digest);

    // One platform of it, by the params or by the source.
    let arm = json!({"architecture": "arm64"});
    let by_source = published.project.source_with(&[("/registry/platform", arm.clone())]);
    let source = &published.project.source;
    for (source, params) in
        [(source, json!({"format": "oci-layout", "platform": arm})), (&by_source, json!({"format": "oci-layout"}))]
    {
        let directory = temporary();
        get(source, &published.version, directory.path(), params).succeeds();
        let oci = directory.path().join("oci");
        assert_eq!(names(&oci), ["blobs", "index.json", "oci-layout", "single-image-digest"]);
        assert_eq!(names(&oci.join("blobs/sha256")).len(), 4);
        let digest = std::fs::read_to_string(oci.join("single-image-digest")).expect("get wrote it");
        assert_eq!(read_json(&oci.join("index.json"))["manifests"][0]["digest"], json!(digest));
        assert_eq!(copied(&format!("oci:{}", oci.display()), "formats-index-copied"), digest);
        let config = servers().registry().image_config("formats-index-copied", "copied");
        assert_eq!(config["architecture"], "arm64");
        // What the tag points to is told as it is.
        let told = std::fs::read_to_string(directory.path().join("digest")).expect("get wrote it");
        assert_eq!(told, published.digest);
    }

    // The other formats are of one platform.
    let (directory, ran) = published.get(json!({"format": "oci"}));
    ran.succeeds();
    run(Command::new("tar").arg("-xf").arg(directory.join("image.tar")).arg("-C").arg(&directory));
    let config = read_json(&directory.join("manifest.json"))[0]["Config"].as_str().map(|name| directory.join(name));
    assert_eq!(read_json(&config.expect("it is a text"))["architecture"], "amd64");
    for format in ["rootfs", "oci", "oci-layout"] {
        let (directory, ran) = published.get(json!({"format": format, "platform": {"architecture": "s390x"}}));
        fails(
            &ran,
            &format!(
                "error: {}@{} has no image for linux/s390x; it has linux/arm64, linux/amd64\n\
             hint: build the image for linux/s390x, or say with `source.registry.platform` or `params.platform` of the get which one is wanted\n",
                published.repository, published.digest
            ),
        );
        assert_eq!(names(&directory), [""; 0], "{format}");
    }
}

#[test]
fn an_index_in_an_index_is_written_whole_and_looked_into() {
    // Other tools do not copy it: only what is written is looked at.
    let published = index("formats-nested", Depth::Nested);
    let (directory, ran) = published.get(json!({"format": "oci-layout"}));
    ran.succeeds();
    assert_eq!(names(&directory.join("oci/blobs/sha256")).len(), 5 + 5 + 2);
    assert_eq!(read_json(&directory.join("oci/index.json"))["manifests"][0]["digest"], json!(published.digest));
    let (directory, ran) = published.get(json!({"platform": {"architecture": "arm64"}}));
    ran.succeeds();
    assert_eq!(std::fs::read_to_string(directory.join("rootfs/which")).ok().as_deref(), Some("arm64"));
}

#[test]
fn what_get_writes_is_what_put_pushes() {
    let published = two_layers("formats-put");
    let project = Project::empty("formats-put-again");
    project.git.commit("master", &[crate::support::git::file("app.sh", "echo app 1\n")]);
    let source = project.source_with(&[("/only_built", json!(true))]);
    for (format, image) in [("oci", "image.tar"), ("oci-layout", "oci")] {
        let artifacts = project.checkout("master", Some(1));
        let got = artifacts.join("got");
        std::fs::create_dir(&got).expect("the directory is ours");
        get(&published.project.source, &published.version, &got, json!({"format": format})).succeeds();
        let params = json!({"source": "repo", "image": format!("got/{image}")});
        let version = put(&source, &artifacts, params).succeeds()["version"].clone();
        // The get after it, with get_params.
        let directory = temporary();
        get(&source, &version, directory.path(), json!({"format": format})).succeeds();
        assert!(directory.path().join(image).exists(), "{format}");
        let directory = temporary();
        get(&source, &version, directory.path(), json!({})).succeeds();
        let read =
            |name: &str| std::fs::read_to_string(directory.path().join("rootfs").join(name)).expect("get wrote it");
        assert_eq!((read("one"), read("two")), ("1\n".to_owned(), "2\n".to_owned()), "{format}");
    }
}

#[test]
fn what_get_writes_is_a_base_for_the_builds_of_others() {
    use crate::support::git::file;
    let published = two_layers("formats-base");
    for (format, image, kind) in [
        ("oci", "image.tar", EngineKind::BuildKit),
        ("oci-layout", "oci", EngineKind::BuildKit),
        ("oci-layout", "oci", EngineKind::Docker28Containerd),
    ] {
        let name = format!("formats-base-{format}-{}", kind as u8);
        let mut project = Project::empty(Box::leak(name.into_boxed_str()));
        project.source["only_built"] = json!(true);
        project.source["build"] = json!({});
        project.source["engine"] = json!({"host": engine::of(kind).host()});
        project.git.commit("master", &[file("Dockerfile", "FROM base\nCOPY app /app\n"), file("app", "1\n")]);
        let artifacts = project.checkout("master", Some(1));
        let got = artifacts.join("got");
        std::fs::create_dir(&got).expect("the directory is ours");
        get(&published.project.source, &published.version, &got, json!({"format": format})).succeeds();
        let params = json!({"source": "repo", "contexts": {"base": format!("got/{image}")}});
        let ran =
            crate::support::program::Program::put(&artifacts).run(&json!({"source": project.source, "params": params}));
        let version = ran.succeeds()["version"].clone();
        let directory = temporary();
        get(&project.source, &version, directory.path(), json!({})).succeeds();
        assert_eq!(names(&directory.path().join("rootfs")), ["app", "one", "two"], "{format} {}", kind.name());
    }
}

#[test]
fn tools_read_image_tar_and_a_packed_layout() {
    let published = two_layers("formats-tools");
    let (directory, ran) = published.get(json!({"format": "oci"}));
    ran.succeeds();
    copied(&format!("docker-archive:{}", directory.join("image.tar").display()), "formats-tools-copied");
    let config = servers().registry().image_config("formats-tools-copied", "copied");
    assert_eq!(config["config"]["Labels"]["of"], "user");

    let (directory, ran) = published.get(json!({"format": "oci-layout"}));
    ran.succeeds();
    let archive = directory.join("packed.tar");
    run(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(directory.join("oci")).arg("."));
    // containerd's store takes a layout under its name, and keeps the digest.
    let found = loaded(EngineKind::Docker28Containerd, &archive, &published.reference());
    assert_eq!(found["Id"], json!(published.digest));
}

#[test]
fn skip_download_writes_only_the_small_files_of_every_format() {
    let published = two_layers("formats-skip");
    for format in ["rootfs", "oci", "oci-layout"] {
        let (directory, ran) = published.get(json!({"format": format, "skip_download": true}));
        let answer = ran.succeeds();
        assert!(!answer["metadata"].to_string().contains("\"format\""), "{answer}");
        assert_eq!(names(&directory), ["branch", "digest", "inputs", "labels.json", "ref", "repository", "tag"]);
    }
}

#[test]
fn an_image_that_cannot_be_had_whole_leaves_nothing() {
    // A layer that the registry has lost, one that is damaged there, and one that it may not give.
    let lost = two_layers_with("formats-lost", "damaged and lost\n");
    let damaged = two_layers_with("formats-damaged", "damaged and lost\n");
    let path = |published: &Published| {
        let manifest = servers().registry().image_manifest(published.project.name, &published.tag);
        let digest = manifest["layers"][1]["digest"].as_str().expect("it is a text").to_owned();
        let hex = digest.trim_start_matches("sha256:");
        let data = servers().registry().data().join("blobs/sha256").join(&hex[..2]).join(hex).join("data");
        (digest, data)
    };
    // Both images have the same layers, which the registry keeps once.
    let (digest, data) = path(&lost);
    let bytes = std::fs::read(&data).expect("the registry keeps it there");
    let mut other = bytes.clone();
    let last = other.len() - 1;
    other[last] ^= 1;
    for format in ["oci", "oci-layout"] {
        std::fs::write(&data, &other).expect("it can be written");
        let (directory, ran) = damaged.get(json!({"format": format}));
        fails(
            &ran,
            &format!(
                "error: cannot read blob {digest} of {}: its bytes have the digest {}, not {digest}\n\
             hint: the image is damaged in the registry or on the way: run the step again, and if it stays, the registry's storage must be repaired\n",
                damaged.repository,
                image::digest(&other)
            ),
        );
        assert_eq!(names(&directory), [""; 0], "{format}");
        std::fs::remove_file(&data).expect("it can be removed");
        let (directory, ran) = lost.get(json!({"format": format}));
        // This registry remembers the size of a blob, and has nothing to send.
        let error = format!("error: cannot read blob {digest} of {}\n", lost.repository);
        assert!(ran.stderr.contains(&error), "{}", ran.stderr);
        assert_eq!((ran.code, names(&directory)), (Some(1), vec![]), "{format}");
    }
    std::fs::write(&data, &bytes).expect("it can be written");

    let foreign = Published::new("formats-foreign", |registry, labels| {
        let here = layer("here", "1\n");
        let mut manifest = manifest(registry, "formats-foreign", "amd64", &[(GZIP, &here)], labels);
        manifest["layers"].as_array_mut().expect("it is a list").push(json!({
            "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "digest": image::digest(b"elsewhere"), "size": 9, "urls": ["https://elsewhere.example/layer"],
        }));
        (manifest, image::OCI_MANIFEST)
    });
    for format in ["oci", "oci-layout"] {
        let (directory, ran) = foreign.get(json!({"format": format}));
        fails(
            &ran,
            &format!(
                "error: cannot write the image {}: its layer {} is foreign (application/vnd.docker.image.rootfs.foreign.diff.tar.gzip), and must be had from elsewhere\n\
             hint: make the image on a base whose layers are all in the registry\n",
                foreign.digest,
                image::digest(b"elsewhere")
            ),
        );
        assert_eq!(names(&directory), [""; 0], "{format}");
    }
}

#[test]
fn nothing_that_is_there_is_written_over() {
    let published = two_layers("formats-there");
    for (format, file) in [("oci", "image.tar"), ("oci-layout", "oci")] {
        let directory = temporary();
        let there = directory.path().join(file);
        std::fs::write(&there, "mine").expect("it can be written");
        let ran = get(&published.project.source, &published.version, directory.path(), json!({"format": format}));
        fails(
            &ran,
            &format!(
                "error: cannot write the image to {}: it is there already\nhint: give an empty directory\n",
                there.display()
            ),
        );
        assert_eq!(
            (names(directory.path()), std::fs::read_to_string(&there).ok()),
            (vec![file.to_owned()], Some("mine".to_owned()))
        );
    }
}

/// The source of a project with its registry behind a proxy.
fn behind(project: &Project, proxy: &Proxy) -> Value {
    project.source_with(&[("/registry/repository", json!(format!("{}/{}", proxy.host(), project.name)))])
}

#[test]
fn an_image_arrives_over_a_line_that_breaks_again_and_again() {
    let project = Project::new("formats-breaks");
    let version = project.put(&project.source, "master").succeeds()["version"].clone();
    let proxy = Proxy::start(&servers().registry().host(), Pace::Breaking);
    let source = behind(&project, &proxy);
    for format in ["rootfs", "oci", "oci-layout"] {
        let directory = temporary();
        let ran = get(&source, &version, directory.path(), json!({"format": format}));
        ran.succeeds();
        assert!(ran.stderr.contains(" kB in 0.5 s (2 of 4)\n"), "{format}: {}", ran.stderr);
        assert!(!ran.stderr.contains("trying again"), "{format}: {}", ran.stderr);
        if format == "oci" {
            let reference =
                format!("{}/{}:inputs-{}", proxy.host(), project.name, version["inputs"].as_str().expect("a text"));
            loaded(EngineKind::Docker20, &directory.path().join("image.tar"), &reference);
        }
    }
    let rests = servers().registry().requests_for(project.name);
    let rests = rests.iter().filter(|line| line.contains("/blobs/") && line.ends_with(" 206")).count();
    assert!(6 <= rests, "{rests}");
}

#[test]
fn an_image_that_arrives_too_slowly_is_an_error_and_leaves_nothing() {
    let project = Project::new("formats-slow");
    let version = project.put(&project.source, "master").succeeds()["version"].clone();
    let proxy = Proxy::start(&servers().registry().host(), Pace::Slow);
    let mut source = behind(&project, &proxy);
    source["registry"]["download_timeout"] = json!("1s");
    for format in ["rootfs", "oci", "oci-layout"] {
        let directory = temporary();
        let ran = get(&source, &version, directory.path(), json!({"format": format}));
        assert!(ran.stderr.contains(": the image has not arrived after 1s\n"), "{format}: {}", ran.stderr);
        fails(
            &ran,
            "hint: if the registry is only slow, allow more in `source.registry.download_timeout`; the log says what broke off\n",
        );
        assert_eq!(names(directory.path()), [""; 0], "{format}");
    }
}
