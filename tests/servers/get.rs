//! in: which files it writes, and what it does without a registry or git.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tar::EntryType;

use crate::project::{Project, check, get, only, put};
use crate::rootfs::on_disk;
use crate::support::git::{FIRST_COMMIT, GitServer, Options, file};
use crate::support::registry::Registry;
use crate::support::{http, image, server, servers, temporary};

fn text(value: &Value) -> &str {
    value.as_str().expect("it is a text")
}

fn content_tag(version: &Value) -> String {
    format!("inputs-{}", text(&version["inputs"]))
}

#[track_caller]
fn read(directory: &Path, name: &str) -> String {
    std::fs::read_to_string(directory.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("get filled the directory");
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

const SMALL_FILES: [&str; 7] = ["branch", "digest", "inputs", "labels.json", "ref", "repository", "tag"];

#[test]
fn get_writes_what_the_version_is_and_shows_it() {
    let project = Project::empty("get-files");
    let dockerfile = format!(
        "FROM {}\nENV A=1 B=\"two words\"\nUSER 1000:1000\nENTRYPOINT [\"/bin/sh\", \"-c\"]\nCMD [\"id\"]\nLABEL of=user\n",
        servers().base_image()
    );
    let commit = project.git.commit_with_message(
        "master",
        "the subject\n\nthe body",
        &[file("ci/image/Dockerfile", &dockerfile)],
    );
    let put = project.put(&project.source, "master").succeeds();
    let version = put["version"].clone();
    let (directory, ran) = project.get(&version, json!({}));
    let answer = ran.succeeds();
    assert_eq!(answer["version"], version);

    let mut expected: Vec<&str> = SMALL_FILES.to_vec();
    expected.extend(["metadata.json", "rootfs"]);
    expected.sort_unstable();
    assert_eq!(names(&directory), expected);
    let digest = project.digest(&content_tag(&version)).expect("the image is there");
    let repository = servers().registry().repository("get-files");
    for (name, value) in [
        ("repository", repository.as_str()),
        ("tag", &content_tag(&version)),
        ("digest", &digest),
        ("ref", &commit),
        ("inputs", text(&version["inputs"])),
        ("branch", "master"),
    ] {
        assert_eq!(read(&directory, name), value, "{name}");
    }
    let labels: Value = serde_json::from_str(&read(&directory, "labels.json")).expect("it is JSON");
    let config = servers().registry().image_config("get-files", "master-latest");
    assert_eq!(labels, config["config"]["Labels"]);
    assert_eq!(labels["of"], json!("user"));
    let metadata: Value = serde_json::from_str(&read(&directory, "metadata.json")).expect("it is JSON");
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(
        metadata,
        json!({"env": [path, "A=1", "B=two words"], "user": "1000:1000", "cmd": ["id"], "entrypoint": ["/bin/sh", "-c"]})
    );

    let shown = answer["metadata"].as_array().expect("metadata is a list");
    let shown: Vec<(&str, &str)> = shown.iter().map(|line| (text(&line["name"]), text(&line["value"]))).collect();
    let names: Vec<&str> = shown.iter().map(|&(name, _)| name).collect();
    let order = [
        "commit",
        "author",
        "date",
        "message",
        "branch",
        "image",
        "digest",
        "size",
        "base image",
        "tags",
        "built",
        "format",
    ];
    assert_eq!(names, order);
    assert_eq!(shown.last(), Some(&("format", "rootfs")));
    let of = |name: &str| shown.iter().find(|line| line.0 == name).expect("it is shown").1;
    assert_eq!(of("commit"), commit);
    assert_eq!(of("author"), "Ada <ada@acme.example>");
    assert_eq!(of("date"), "2026-01-01T00:00:00Z");
    assert_eq!(FIRST_COMMIT, 1_767_225_600, "which is that date");
    assert!(of("message").starts_with("the subject"), "{}", of("message"));
    assert_eq!(of("branch"), "master");
    assert_eq!(of("image"), format!("{repository}:{}", content_tag(&version)));
    assert_eq!(of("digest"), digest);
    assert_eq!(of("tags"), format!("{}, {commit}, master-latest", content_tag(&version)));
    assert!(of("built").starts_with(&format!("from {} of branch master at ", &commit[..7])), "{}", of("built"));
    let put_names: Vec<&str> =
        put["metadata"].as_array().expect("metadata is a list").iter().map(|line| text(&line["name"])).collect();
    assert_eq!(put_names, order[..11], "put shows the same");
}

#[test]
fn a_source_is_a_clean_clone_at_the_commit_and_holds_no_password() {
    use crate::support::registry::Account;
    let account = Account { username: "ada", password: "correct-horse-battery" };
    let server = GitServer::start(Options { account: Some(account), ..Options::default() });
    let git = server.repository("get-source");
    let id = git.commit(
        "feat/x",
        &[file("Dockerfile", "FROM scratch\n"), crate::support::git::Change::Executable("run", b"#!/bin/sh\n")],
    );
    git.commit("feat/x", &[file("later", "x\n")]);
    let uri = git.uri().replace("://", "://ada:correct-horse-battery@");
    let source = json!({
        "git": {"uri": uri, "branch": "feat/x"},
        "registry": {"repository": servers().registry().repository("get-source"), "insecure": true},
        "build": {"paths": ["run"]},
    });
    let version = only(&check(&source, None));
    assert_eq!(version["ref"], json!(id));
    let directory = temporary();
    // A second run into the same directory is what a retried step is.
    for _ in 0..2 {
        let ran = get(&source, &version, directory.path(), json!({"skip_download": true, "source": true}));
        assert_eq!(ran.succeeds()["version"], version);
        let clone = directory.path().join("source");
        let git = |arguments: &[&str]| server::run(Command::new("git").arg("-C").arg(&clone).args(arguments));
        assert_eq!(git(&["status", "--porcelain"]), "");
        assert_eq!(git(&["rev-parse", "HEAD"]), id);
        assert_eq!(git(&["symbolic-ref", "--short", "HEAD"]), "feat/x");
        assert_eq!(git(&["remote", "get-url", "origin"]), server.uri("get-source"));
        assert_eq!(git(&["fsck"]), "");
        assert!(clone.join("run").metadata().expect("it is checked out").permissions().mode() & 0o100 != 0);
        let mut expected = SMALL_FILES.to_vec();
        expected.retain(|name| *name != "digest");
        expected.push("source");
        expected.sort_unstable();
        assert_eq!(names(directory.path()), expected);
    }
    let search = Command::new("grep").args(["-rq", account.password]).arg(directory.path()).status();
    assert_eq!(search.expect("grep runs").code(), Some(1), "the password is nowhere");
}

#[test]
fn image_and_source_come_together_and_a_second_run_into_the_same_directory_is_refused() {
    let project = Project::new("get-both");
    let version = project.put(&project.source, "master").succeeds()["version"].clone();
    let (directory, ran) = project.get(&version, json!({"source": true}));
    ran.succeeds();
    assert!(directory.join("source/app.sh").exists());
    let before = (names(&directory), on_disk(&directory.join("rootfs")));
    // Concourse gives every get an empty directory. Unpacking over something else could give a mixture.
    let ran = get(&project.source, &version, &directory, json!({"source": true}));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{}", ran.stderr);
    assert!(ran.stderr.ends_with("rootfs\": it is not empty\nhint: give an empty directory\n"), "{}", ran.stderr);
    assert_eq!((names(&directory), on_disk(&directory.join("rootfs"))), before);
}

#[test]
fn skip_download_writes_the_small_files_and_needs_no_image() {
    let project = Project::new("get-skip");
    let version = only(&project.check(None));
    let (directory, ran) = project.get(&version, json!({"skip_download": true}));
    assert_eq!(ran.succeeds()["version"], version);
    assert!(ran.stderr.contains("which `skip_download` allows"), "{}", ran.stderr);
    assert_eq!(names(&directory), ["branch", "inputs", "labels.json", "ref", "repository", "tag"]);
    assert_eq!(read(&directory, "labels.json"), "{}");
    project.put(&project.source, "master").succeeds();
    let (directory, ran) = project.get(&version, json!({"skip_download": true}));
    ran.succeeds();
    assert_eq!(names(&directory), SMALL_FILES);
}

#[test]
fn an_image_that_is_not_built_is_an_error_that_says_who_builds_it() {
    let project = Project::new("get-missing");
    let version = only(&project.check(None));
    let (directory, ran) = project.get(&version, json!({}));
    ran.fails_with(&format!(
        "error: there is no image of this version yet: {} has no tag {}\n\
         hint: the put of this resource makes it. A job that does not build it needs `passed` on this get, naming the job that does, \
         or `source.only_built: true` on a resource that only uses the image\n",
        servers().registry().repository(project.name),
        content_tag(&version)
    ));
    assert_eq!(names(&directory), Vec::<String>::new());
}

#[test]
fn the_tag_of_the_commit_serves_when_the_content_tag_is_gone() {
    let project = Project::new("get-commit-tag");
    let version = project.put(&project.source, "master").succeeds()["version"].clone();
    remove_tag(project.name, &content_tag(&version));
    let (directory, ran) = project.get(&version, json!({}));
    ran.succeeds();
    assert!(directory.join("rootfs/usr/local/bin/tool").exists());
    // An image of other inputs under the commit's tag is another image.
    let mut other = version.clone();
    other["inputs"] = json!("0".repeat(64));
    let (_, ran) = project.get(&other, json!({}));
    assert!(ran.stderr.starts_with("error: there is no image of this version yet"), "{}", ran.stderr);
}

/// Takes one tag away and leaves its siblings, which this registry's API cannot do.
pub fn remove_tag(repository: &str, tag: &str) {
    let path = servers().registry().data().join("repositories").join(repository).join("_manifests/tags").join(tag);
    std::fs::remove_dir_all(path).expect("the tag is there");
}

#[test]
fn a_registry_that_is_down_is_an_error_even_without_a_download() {
    let registry = Registry::start(Default::default());
    let project = Project::new("get-no-registry");
    let source = project.source_with(&[("/registry/repository", json!(registry.repository("get-no-registry")))]);
    let version = only(&check(&source, None));
    registry.stop();
    for params in [json!({}), json!({"skip_download": true})] {
        let directory = temporary();
        let ran = get(&source, &version, directory.path(), params);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{}", ran.stderr);
        assert!(ran.stderr.contains("error: cannot "), "{}", ran.stderr);
        assert_eq!(names(directory.path()), Vec::<String>::new());
    }
}

#[test]
fn a_git_server_that_is_down_fails_only_the_source() {
    let server = GitServer::start(Options::default());
    let git = server.repository("get-no-git");
    git.commit("master", &[file("ci/image/Dockerfile", &format!("FROM {}\n", servers().base_image()))]);
    let source = |branch: Option<&str>| {
        let mut source = json!({
            "git": {"uri": git.uri()},
            "registry": {"repository": servers().registry().repository("get-no-git"), "insecure": true},
            "build": {"context": "ci/image"},
        });
        if let Some(branch) = branch {
            source["git"]["branch"] = json!(branch);
        }
        source
    };
    let artifacts = temporary();
    let version = put(&source(Some("master")), artifacts.path(), json!({})).succeeds()["version"].clone();
    server.stop();
    for branch in [Some("master"), None] {
        let directory = temporary();
        let ran = get(&source(branch), &version, directory.path(), json!({}));
        assert_eq!(ran.succeeds()["version"], version);
        assert!(
            ran.stderr.contains("git: author and message are left out, the image does not need them: "),
            "{}",
            ran.stderr
        );
        assert!(directory.path().join("rootfs/bin/busybox").exists());
        assert_eq!(directory.path().join("branch").exists(), branch.is_some());
        let directory = temporary();
        let ran = get(&source(branch), &version, directory.path(), json!({"source": true}));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{}", ran.stderr);
        assert!(ran.stderr.contains("error: cannot "), "{}", ran.stderr);
    }
}

/// A version of a project without an image, whose image a test makes itself.
#[track_caller]
fn unbuilt(name: &'static str) -> (Project, Value) {
    let project = Project::new(name);
    let version = only(&project.check(None));
    (project, version)
}

#[test]
fn an_index_at_the_content_tag_gives_the_image_of_its_platform() {
    let (project, version) = unbuilt("get-index");
    let registry = servers().registry();
    let labels = json!({"Labels": {"git-image.inputs": version["inputs"]}});
    let (directory, mut manifests) = (temporary(), Vec::new());
    for architecture in ["arm64", "amd64"] {
        let mut layer = tar::Builder::new(Vec::new());
        image::append(&mut layer, EntryType::Regular, "architecture", 0o644, architecture.as_bytes());
        let path = directory.path().join(architecture);
        image::layout(&path, &[layer.into_inner().expect("memory can be written to")], labels.clone());
        image::push(&path, registry, project.name, architecture, None);
        let digest = registry.digest(project.name, architecture).expect("it was pushed");
        let size = http::send("HEAD", &registry.url(&format!("{}/manifests/{digest}", project.name)), |request| {
            request.header("accept", image::OCI_MANIFEST)
        });
        let size: u64 = size.header("content-length").parse().expect("a length is a number");
        manifests.push(json!({
            "mediaType": image::OCI_MANIFEST, "digest": digest, "size": size,
            "platform": {"os": "linux", "architecture": architecture},
        }));
    }
    let index = |manifests: &[Value]| {
        json!({"schemaVersion": 2, "mediaType": image::OCI_INDEX, "manifests": manifests}).to_string()
    };
    let tag = content_tag(&version);
    registry.put_manifest(project.name, &tag, image::OCI_INDEX, index(&manifests).as_bytes());
    let (directory, ran) = project.get(&version, json!({}));
    ran.succeeds();
    assert_eq!(read(&directory, "rootfs/architecture"), "amd64");

    registry.put_manifest(project.name, &tag, image::OCI_INDEX, index(&manifests[..1]).as_bytes());
    let (_, ran) = project.get(&version, json!({}));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{}", ran.stderr);
    assert!(ran.stderr.contains("linux/amd64"), "{}", ran.stderr);
}
