//! A finished image, made by an earlier task, that put pushes in place of building one.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::project::{Project, check, get, only, put};
use crate::proxy::{Pace, Proxy};
use crate::support::program::{Program, Ran};
use crate::support::proxy::{self, Then};
use crate::support::registry::{self, Access, Account, Clients, Registry, Transport};
use crate::support::server::run;
use crate::support::{image, servers, temporary};

/// A project whose branch has nothing that could be built.
#[track_caller]
fn project(name: &'static str) -> Project {
    use crate::support::git::file;
    let mut project = Project::empty(name);
    project.git.commit("master", &[file("app.sh", "echo app 1\n"), file("ci/image.details", "maintainer=ada\n")]);
    project.source =
        project.source_with(&[("/only_built", json!(true)), ("/build/details", json!("ci/image.details"))]);
    project
}

/// A layer with one file.
fn layer(path: &str, content: &str) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    image::append(&mut archive, tar::EntryType::Regular, path, 0o644, content.as_bytes());
    archive.into_inner().expect("memory can be written to")
}

/// An OCI layout of two layers, as a directory.
#[track_caller]
fn layout(directory: &Path) -> PathBuf {
    let path = directory.join("layout");
    let layers = [layer("one", "1\n"), layer("two", "2\n")];
    image::layout(&path, &layers, json!({"Env": ["A=b"], "Labels": {"theirs": "1"}}));
    path
}

/// The same image in another form: `docker-archive:image.tar:name:1`.
#[track_caller]
fn copy(layout: &Path, to: &str) {
    run(Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet"])
        .arg(format!("oci:{}", layout.display()))
        .arg(to));
}

/// Runs out with the file or directory of this name.
#[track_caller]
fn push(source: &Value, artifacts: &Path, image: &str) -> Ran {
    put(source, artifacts, json!({"source": "repo", "image": image, "labels": {"by": "$BUILD_ID"}}))
}

#[test]
fn a_finished_image_of_any_form_is_pushed_labelled_and_fetched() {
    for (name, form) in [
        ("finished-layout", "layout"),
        ("finished-oci", "oci-archive:image.tar"),
        ("finished-docker", "docker-archive:image.tar:acme/app:1"),
    ] {
        let project = project(name);
        let artifacts = project.checkout("master", Some(1));
        let made = artifacts.join("made");
        std::fs::create_dir(&made).expect("the directory is ours");
        let oci = layout(&made);
        let image = match form.split_once(':') {
            None => "made/layout",
            Some((form, _)) => {
                copy(
                    &oci,
                    &format!(
                        "{form}:{}{}",
                        made.join("image.tar").display(),
                        if form == "oci-archive" { "" } else { ":acme/app:1" }
                    ),
                );
                "made/image.tar"
            }
        };
        let ran = push(&project.source, &artifacts, image);
        let version = ran.succeeds()["version"].clone();
        assert!(ran.stderr.contains("push: linux/amd64: 2 layers, "), "{name}: {}", ran.stderr);
        assert!(!ran.stderr.contains("engine: "), "{name}: {}", ran.stderr);
        assert_eq!(version["ref"], json!(project.git.id("master")), "{name}");
        assert_eq!(project.tags().len(), 3, "{name}: {:?}", project.tags());

        let config = servers().registry().image_config(name, "master-latest");
        let labels = &config["config"]["Labels"];
        assert_eq!(labels["git-image.inputs"], version["inputs"], "{name}");
        assert_eq!(
            (&labels["theirs"], &labels["maintainer"], &labels["by"]),
            (&json!("1"), &json!("ada"), &json!("42"))
        );
        assert_eq!(config["config"]["Env"], json!(["A=b"]), "{name}");
        let manifest = servers().registry().image_manifest(name, "master-latest");
        assert_eq!(manifest["mediaType"], json!(image::OCI_MANIFEST), "{name}");
        for layer in manifest["layers"].as_array().expect("it has layers") {
            assert_eq!(layer["mediaType"], json!("application/vnd.oci.image.layer.v1.tar+gzip"), "{name}");
        }

        let directory = temporary();
        let got = get(&project.source, &version, directory.path(), json!({}));
        assert_eq!(got.succeeds()["version"], version, "{name}");
        let read = |path: &str| std::fs::read_to_string(directory.path().join(path)).expect("get made the file");
        assert_eq!((read("rootfs/one"), read("rootfs/two")), ("1\n".to_owned(), "2\n".to_owned()), "{name}");

        // Again: nothing is sent.
        let ran = push(&project.source, &artifacts, image);
        assert_eq!(ran.succeeds()["version"], version, "{name}");
        assert!(ran.stderr.contains("nothing to build"), "{name}: {}", ran.stderr);
        // And check goes on from what put answered.
        assert_eq!(only(&check(&project.source, Some(&version))), version, "{name}");
    }
}

/// An index of two platforms with an attestation, as a layout.
#[track_caller]
fn multi(directory: &Path) -> PathBuf {
    let path = directory.join("multi");
    let mut entries = Vec::new();
    for (architecture, content) in [("amd64", "amd\n"), ("arm64", "arm\n")] {
        let one = directory.join(architecture);
        image::layout(&one, &[layer("shared", "shared\n"), layer("which", content)], json!({}));
        // The helper makes images of amd64.
        let index: Value = read_json(&one.join("index.json"));
        let digest = index["manifests"][0]["digest"].as_str().expect("a digest").to_owned();
        let mut manifest: Value = read_json(&blob(&one, &digest));
        let mut config: Value = read_json(&blob(&one, manifest["config"]["digest"].as_str().expect("a digest")));
        config["architecture"] = json!(architecture);
        manifest["config"] = descriptor(&one, &config, "application/vnd.oci.image.config.v1+json");
        let mut entry = descriptor(&one, &manifest, image::OCI_MANIFEST);
        entry["platform"] = json!({"os": "linux", "architecture": architecture, "variant": "v8"});
        run(Command::new("cp").arg("-r").arg(one.join("blobs")).arg(path_of(&path)));
        entries.push(entry);
    }
    let mut attestation = entries[0].clone();
    attestation["annotations"] = json!({"vnd.docker.reference.digest": entries[0]["digest"]});
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    entries.push(attestation);
    let index =
        json!({"schemaVersion": 2, "mediaType": image::OCI_INDEX, "manifests": entries, "annotations": {"a": "b"}});
    let top = json!({"schemaVersion": 2, "manifests": [descriptor(&path, &index, image::OCI_INDEX)]});
    std::fs::write(path.join("index.json"), top.to_string()).expect("it can be written");
    path
}

/// The directory, made when it is not there yet.
fn path_of(path: &Path) -> PathBuf {
    std::fs::create_dir_all(path).expect("the directory is ours");
    path.to_owned()
}

fn blob(layout: &Path, digest: &str) -> PathBuf {
    layout.join("blobs").join(digest.replacen(':', "/", 1))
}

#[track_caller]
fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("the file is there")).expect("it is JSON")
}

/// Writes a blob of a layout.
#[track_caller]
fn descriptor(layout: &Path, value: &Value, media_type: &str) -> Value {
    let bytes = value.to_string();
    let digest = image::digest(bytes.as_bytes());
    let path = blob(layout, &digest);
    std::fs::create_dir_all(path.parent().expect("it is in a directory")).expect("the directory is ours");
    std::fs::write(path, &bytes).expect("it can be written");
    json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

#[test]
fn a_finished_index_is_pushed_with_every_platform_labelled() {
    let project = project("finished-index");
    let artifacts = project.checkout("master", Some(1));
    multi(&artifacts);
    let ran = push(&project.source, &artifacts, "multi");
    let version = ran.succeeds()["version"].clone();
    assert!(ran.stderr.contains("push: linux/arm64: 2 layers, "), "{}", ran.stderr);
    assert!(ran.stderr.contains("push: an attestation of the index left"), "{}", ran.stderr);
    let registry = servers().registry();
    let index = registry.image_manifest(project.name, "master-latest");
    assert_eq!((&index["mediaType"], &index["annotations"]), (&json!(image::OCI_INDEX), &json!({"a": "b"})));
    let children = index["manifests"].as_array().expect("an index has manifests");
    assert_eq!(children.len(), 2, "{index}");
    for child in children {
        assert_eq!(child["platform"]["variant"], json!("v8"));
        let config = registry.image_config(project.name, child["digest"].as_str().expect("a digest"));
        assert_eq!(config["architecture"], child["platform"]["architecture"]);
        assert_eq!(config["config"]["Labels"]["git-image.inputs"], version["inputs"]);
    }
    let tags = project.tags();
    let digests: Vec<_> = tags.iter().map(|tag| project.digest(tag)).collect();
    assert!(digests.windows(2).all(|two| two[0] == two[1]), "every tag is the index: {tags:?} {digests:?}");

    let directory = temporary();
    let got = get(&project.source, &version, directory.path(), json!({}));
    got.succeeds();
    let read = |path: &str| std::fs::read_to_string(directory.path().join(path)).expect("get made the file");
    assert_eq!((read("rootfs/which"), read("rootfs/shared")), ("amd\n".to_owned(), "shared\n".to_owned()));
    assert_eq!(Some(read("digest")), digests[0]);

    // Another platform, by the params or by the source.
    let arm = json!({"architecture": "arm64"});
    let by_source = project.source_with(&[("/registry/platform", arm.clone())]);
    for (source, params) in [(&project.source, json!({"platform": arm})), (&by_source, json!({}))] {
        let directory = temporary();
        get(source, &version, directory.path(), params).succeeds();
        let which = std::fs::read_to_string(directory.path().join("rootfs/which")).expect("get made the file");
        assert_eq!(which, "arm\n");
    }
    let directory = temporary();
    let ran = get(&project.source, &version, directory.path(), json!({"platform": {"architecture": "s390x"}}));
    let digest = digests[0].as_deref().expect("the tag is there");
    let repository = registry.repository(project.name);
    assert!(
        ran.stderr.ends_with(&format!(
            "error: {repository}@{digest} has no image for linux/s390x; it has linux/amd64/v8, linux/arm64/v8\n\
             hint: build the image for linux/s390x, or say with `source.registry.platform` or `params.platform` of the get which one is wanted\n"
        )),
        "{}",
        ran.stderr
    );
    assert!(!directory.path().join("rootfs").exists());
}

#[test]
fn an_index_without_our_platform_is_put_and_found_again() {
    let project = project("finished-foreign");
    let artifacts = project.checkout("master", Some(1));
    let path = multi(&artifacts);
    let top = read_json(&path.join("index.json"));
    let mut index = read_json(&blob(&path, top["manifests"][0]["digest"].as_str().expect("a digest")));
    index["manifests"].as_array_mut().expect("an index has manifests").remove(0);
    let top = json!({"schemaVersion": 2, "manifests": [descriptor(&path, &index, image::OCI_INDEX)]});
    std::fs::write(path.join("index.json"), top.to_string()).expect("it can be written");
    let version = push(&project.source, &artifacts, "multi").succeeds()["version"].clone();
    let ran = push(&project.source, &artifacts, "multi");
    assert_eq!(ran.succeeds()["version"], version);
    assert!(ran.stderr.contains("nothing to build"), "{}", ran.stderr);
    let directory = temporary();
    get(&project.source, &version, directory.path(), json!({"skip_download": true})).succeeds();
    let ran = get(&project.source, &version, directory.path(), json!({}));
    assert!(ran.stderr.contains(" has no image for linux/amd64; it has linux/arm64/v8\n"), "{}", ran.stderr);
}

#[test]
fn what_is_no_whole_image_is_an_error_before_anything_is_tagged() {
    let project = project("finished-bad");
    let artifacts = project.checkout("master", Some(1));
    let oci = layout(&artifacts);
    let at = |name: &str| artifacts.join(name).display().to_string();
    copy(&oci, &format!("docker-archive:{}:acme/app:1", at("image.tar")));
    let whole = std::fs::read(artifacts.join("image.tar")).expect("it is there");
    let write = |name: &str, bytes: &[u8]| std::fs::write(artifacts.join(name), bytes).expect("it can be written");
    write("short.tar", &whole[..whole.len() / 2]);
    write("packed.tar.gz", &image::gzip(&whole));
    write("other.tar", &layer("a", "b"));
    write("empty.tar", b"");
    let damaged = "hint: let the step that made it run again; it may have ended in the middle\n";
    let forms = "hint: give what `docker save` writes, an OCI archive, or the directory of an OCI layout; not compressed as a whole\n";
    for (name, error, hint) in [
        (
            "none.tar",
            format!("error: cannot read the image {}\ncause: No such file or directory (os error 2)\n", at("none.tar")),
            "hint: give ARTIFACT/PATH of what an earlier step made: is its output named so?\n",
        ),
        ("packed.tar.gz", format!("error: {} is no image: it is compressed\n", at("packed.tar.gz")), forms),
        ("empty.tar", format!("error: {} is no image: it is empty\n", at("empty.tar")), forms),
        (
            "other.tar",
            format!(
                "error: {} is no image: it has neither an index.json, as OCI has it, nor a manifest.json, as `docker save` writes it\n",
                at("other.tar")
            ),
            forms,
        ),
        (
            "../x",
            "error: `params.image` \"../x\" leads outside of the artifacts of this step\n".to_owned(),
            "hint: write it as ARTIFACT or ARTIFACT/PATH\n",
        ),
    ] {
        push(&project.source, &artifacts, name).fails_with(&format!("{error}{hint}"));
    }
    let ran = push(&project.source, &artifacts, "short.tar");
    assert!(
        ran.stderr.starts_with(&format!("error: the image {} is damaged: it ends in the middle of ", at("short.tar"))),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.ends_with(damaged), "{}", ran.stderr);

    // A layer that is not what its name says: as large as it should be, with one byte changed.
    let changed = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    };
    let index = read_json(&oci.join("index.json"));
    let manifest = read_json(&blob(&oci, index["manifests"][0]["digest"].as_str().expect("a digest")));
    let digest = manifest["layers"][1]["digest"].as_str().expect("a digest").to_owned();
    let mut bytes = std::fs::read(blob(&oci, &digest)).expect("it is there");
    changed(&mut bytes);
    std::fs::write(blob(&oci, &digest), &bytes).expect("it can be written");
    let ran = push(&project.source, &artifacts, "layout");
    assert!(
        ran.stderr.ends_with(&format!(
            "error: cannot push blob {digest} to {}: it cannot be read\n\
         cause: blobs/{} has the digest {}, not {digest}\n\
         hint: what `params.image` names is damaged or was cut off: let the task that made it run again\n",
            servers().registry().repository(project.name),
            digest.replacen(':', "/", 1),
            image::digest(&bytes)
        )),
        "{}",
        ran.stderr
    );

    // The same in an archive whose layers are compressed on the way.
    let mut bytes = whole.clone();
    let at = bytes.windows(2).rposition(|two| two == b"2\n").expect("the layer has the file");
    bytes[at] = b'3';
    write("lying.tar", &bytes);
    let ran = push(&project.source, &artifacts, "lying.tar");
    assert!(ran.stderr.contains("error: cannot push a layer to "), "{}", ran.stderr);
    assert!(ran.stderr.contains(" has the digest sha256:"), "{}", ran.stderr);
    assert!(project.tags().is_empty(), "{:?}", project.tags());
}

#[test]
fn an_image_needs_a_checkout_and_only_built() {
    let project = project("finished-rules");
    let artifacts = temporary();
    put(&project.source, artifacts.path(), json!({"image": "made/image.tar"})).fails_with(
        "error: `params.image` is given without `params.source`\n\
         hint: name the artifact with the checkout, whose commit becomes the `ref` of the version\n",
    );
    let both = json!({"source": "repo", "image": "made/image.tar", "test": "check"});
    put(&project.source, artifacts.path(), both).fails_with(
        "error: `params.test` does not go with `params.image`, which builds nothing\n\
         hint: the task that makes the image builds and tests it\n",
    );
    let source = project.source_with(&[("/only_built", json!(false))]);
    put(&source, artifacts.path(), json!({"source": "repo", "image": "made/image.tar"})).fails_with(
        "error: `params.image` makes an image that git alone does not describe, whose version check cannot compute\n\
         hint: let check announce what was put: write the line `only_built: true` into the `source` of the resource\n",
    );
}

#[test]
fn an_image_goes_to_registries_with_tokens_and_with_certificates() {
    let account = Account { username: "ada", password: "correct-horse" };
    for (name, options) in [
        ("finished-tokens", registry::Options { access: Access::Token(account), ..Default::default() }),
        (
            "finished-certificates",
            registry::Options { transport: Transport::Tls, clients: Clients::Certified, ..Default::default() },
        ),
    ] {
        let registry = Registry::start(options);
        let project = project(name);
        let artifacts = project.checkout("master", Some(1));
        layout(&artifacts);
        let mut block = json!({"repository": registry.repository(name)});
        match registry.client_cert() {
            Some(certificate) => {
                block["ca_certs"] = json!([registry.ca_certs()]);
                block["client_certs"] = json!([certificate]);
            }
            None => {
                block["insecure"] = json!(true);
                block["username"] = json!(account.username);
                block["password"] = json!(account.password);
            }
        }
        let source = project.source_with(&[("/registry", block)]);
        let ran = push(&source, &artifacts, "layout");
        let version = ran.succeeds()["version"].clone();
        assert!(!ran.stderr.contains(account.password), "{}", ran.stderr);
        let directory = temporary();
        get(&source, &version, directory.path(), json!({})).succeeds();
        assert!(directory.path().join("rootfs/two").exists(), "{name}");
    }
}

#[test]
fn an_upload_whose_answer_is_lost_is_made_again() {
    let name = "finished-lost";
    let mut lost = std::collections::BTreeSet::new();
    let proxy = proxy::Proxy::start(&servers().registry().host(), move |request| {
        // The first of each kind.
        let kind = request.split(' ').next().unwrap_or_default().to_owned();
        let upload = request.contains("/blobs/uploads/");
        if upload && lost.insert(kind) { Then::LoseAnswer } else { Then::Pass }
    });
    let project = project(name);
    let artifacts = project.checkout("master", Some(1));
    layout(&artifacts);
    let block = json!({"repository": format!("{}/{name}", proxy.host()), "insecure": true});
    let source = project.source_with(&[("/registry", block)]);
    let ran = push(&source, &artifacts, "layout");
    ran.succeeds();
    assert!(ran.stderr.contains("trying again in"), "{}", ran.stderr);
    assert_eq!(project.tags().len(), 3);
}

#[test]
fn a_large_image_takes_little_memory() {
    let name = "finished-large";
    let project = project(name);
    let artifacts = project.checkout("master", Some(1));
    let mut archive = tar::Builder::new(Vec::new());
    image::append(&mut archive, tar::EntryType::Regular, "zeros", 0o644, &vec![0; 150 << 20]);
    let layer = archive.into_inner().expect("memory can be written to");
    let made = artifacts.join("made");
    image::layout(&made, &[layer], json!({}));
    copy(&made, &format!("docker-archive:{}:acme/app:1", artifacts.join("image.tar").display()));
    std::fs::remove_dir_all(&made).expect("the directory is ours");
    // The last answer is slow, so the program can be looked at when it has done everything.
    let proxy = Proxy::start(&servers().registry().host(), Pace::Full);
    let block = json!({"repository": format!("{}/{name}", proxy.host()), "insecure": true});
    let source = project.source_with(&[("/registry", block)]);
    let request = json!({"source": source, "params": {"source": "repo", "image": "image.tar"}});
    let mut running = Program::put(&artifacts).start(&request.to_string());
    running.wait_for("push: linux/amd64: 1 layer, ");
    proxy.set(Pace::Silent);
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.id())).expect("it still runs");
    proxy.set(Pace::Full);
    running.wait().succeeds();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells it");
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number of kB");
    assert!(peak < 60_000, "{peak} kB");
}
