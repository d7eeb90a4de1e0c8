//! in: which files it writes, what is in rootfs/, and what it does without a registry or git.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tar::EntryType;

use crate::project::{Project, check, get, only, put};
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

/// What is at one path.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    kind: &'static str,
    mode: u32,
    owner: (u64, u64),
    content: Option<String>,
    target: Option<PathBuf>,
    seconds: Option<u64>,
    attributes: BTreeMap<String, Vec<u8>>,
}

/// Everything below a directory.
fn on_disk(root: &Path) -> BTreeMap<PathBuf, Found> {
    let (mut found, mut waiting) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(&directory).expect("rootfs can be read").flatten() {
            let path = entry.path();
            let metadata = path.symlink_metadata().expect("it was just listed");
            let kind = metadata.file_type();
            let (kind, is_file) = match (kind.is_dir(), kind.is_symlink(), kind.is_file()) {
                (true, _, _) => ("directory", false),
                (_, true, _) => ("link", false),
                (_, _, true) => ("file", true),
                _ => ("other", false),
            };
            if kind == "directory" {
                waiting.push(path.clone());
            }
            let mut value = [0; 256];
            let capability = rustix::fs::lgetxattr(&path, "security.capability", &mut value).ok();
            let relative = path.strip_prefix(root).expect("it is below").to_owned();
            found.insert(
                relative,
                Found {
                    kind,
                    mode: metadata.mode() & 0o7777,
                    owner: (metadata.uid().into(), metadata.gid().into()),
                    content: is_file.then(|| image::digest(&std::fs::read(&path).expect("a file can be read"))),
                    target: path.read_link().ok(),
                    seconds: is_file.then(|| metadata.mtime().try_into().expect("it is after 1970")),
                    attributes: capability
                        .map(|length| ("security.capability".to_owned(), value[..length].to_vec()))
                        .into_iter()
                        .collect(),
                },
            );
        }
    }
    found
}

/// What the engine says is in a container of this image.
#[track_caller]
fn in_engine(reference: &str) -> BTreeMap<PathBuf, Found> {
    let engine = servers().engine();
    let send = |method: &str, path: &str, body: Value| {
        let answer = http::send(method, &engine.url(path), |request| request.json(&body));
        assert!(answer.status < 300, "{method} {path}: {}", answer.text());
        answer
    };
    let (name, tag) = reference.rsplit_once(':').expect("it has a tag");
    send("POST", &format!("/images/create?fromImage={name}&tag={tag}"), json!({}));
    let created = send("POST", "/containers/create", json!({"Image": reference, "Cmd": ["none"]})).json();
    let id = text(&created["Id"]);
    let exported = send("GET", &format!("/containers/{id}/export"), json!({})).body;
    send("DELETE", &format!("/containers/{id}"), json!({}));
    send("DELETE", &format!("/images/{reference}"), json!({}));

    let mut archive = tar::Archive::new(exported.as_slice());
    let mut found: BTreeMap<PathBuf, Found> = BTreeMap::new();
    let mut hard_links = Vec::new();
    for entry in archive.entries().expect("an export is an archive") {
        let mut entry = entry.expect("an export is an archive");
        let path: PathBuf = entry.path().expect("it has a path").components().collect();
        let mut attributes = BTreeMap::new();
        for record in entry.pax_extensions().expect("records can be read").into_iter().flatten().flatten() {
            if let Some(name) = record.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr.")) {
                attributes.insert(name.to_owned(), record.value_bytes().to_vec());
            }
        }
        let target = entry.link_name().expect("it has a target").map(|target| target.into_owned());
        let header = entry.header().clone();
        let kind = match header.entry_type() {
            EntryType::Directory => "directory",
            EntryType::Symlink => "link",
            EntryType::Regular => "file",
            EntryType::Link => {
                hard_links.push((path, target.expect("it has a target")));
                continue;
            }
            _ => "other",
        };
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).expect("an export is an archive");
        let is_file = kind == "file";
        found.insert(
            path,
            Found {
                kind,
                mode: header.mode().expect("a number") & 0o7777,
                owner: (header.uid().expect("a number"), header.gid().expect("a number")),
                content: is_file.then(|| image::digest(&content)),
                target,
                seconds: is_file.then(|| header.mtime().expect("a number")),
                attributes,
            },
        );
    }
    for (path, target) in hard_links {
        let Found { kind, mode, owner, content, seconds, attributes, target: _ } = &found[&target];
        let copy = Found {
            kind,
            mode: *mode,
            owner: *owner,
            content: content.clone(),
            target: None,
            seconds: *seconds,
            attributes: attributes.clone(),
        };
        found.insert(path, copy);
    }
    found
}

/// An entry of a layer with everything that an entry can have.
struct Item<'a> {
    kind: EntryType,
    path: &'a str,
    mode: u32,
    owner: (u64, u64),
    content: &'a [u8],
    target: Option<&'a str>,
}

fn layer(items: &[Item<'_>]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (number, item) in items.iter().enumerate() {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(item.kind);
        header.set_mode(item.mode);
        header.set_uid(item.owner.0);
        header.set_gid(item.owner.1);
        // A hard link repeats what its file has, which is the entry before it.
        header.set_mtime(1_000_000_000 + number as u64 - u64::from(item.kind == EntryType::Link));
        header.set_size(item.content.len() as u64);
        // cap_net_bind_service, effective and permitted. Fact: linux/capability.h, struct vfs_cap_data of revision 2.
        let mut capability = [0; 20];
        capability[..4].copy_from_slice(&0x0200_0001_u32.to_le_bytes());
        capability[4..8].copy_from_slice(&(1_u32 << 10).to_le_bytes());
        if item.path.ends_with("capable") {
            let records = [("SCHILY.xattr.security.capability", capability.as_slice())];
            archive.append_pax_extensions(records).expect("memory can be written to");
        }
        match item.target {
            Some(target) => archive.append_link(&mut header, item.path, target),
            None => archive.append_data(&mut header, item.path, item.content),
        }
        .expect("memory can be written to");
    }
    archive.into_inner().expect("memory can be written to")
}

#[test]
fn rootfs_is_entry_by_entry_what_the_engine_makes_of_the_image() {
    let (project, version) = unbuilt("get-rootfs");
    let item = |kind, path, mode, owner, content: &'static str| Item {
        kind,
        path,
        mode,
        owner,
        content: content.as_bytes(),
        target: None,
    };
    let directory = |path, mode, owner| item(EntryType::Directory, path, mode, owner, "");
    let regular = |path, mode, owner, content| item(EntryType::Regular, path, mode, owner, content);
    let link = |kind, path, target| Item { kind, path, mode: 0o777, owner: (0, 0), content: b"", target: Some(target) };
    let root = (0, 0);
    let layers = [
        layer(&[
            directory("bin", 0o755, root),
            regular("bin/setuid", 0o4755, root, "setuid"),
            regular("bin/capable", 0o755, root, "capable"),
            link(EntryType::Symlink, "bin/sh", "setuid"),
            link(EntryType::Symlink, "bin/nowhere", "/not/there"),
            directory("tmp", 0o1777, root),
            directory("home", 0o755, root),
            directory("home/ada", 0o2750, (1000, 1001)),
            regular("home/ada/one", 0o640, (1000, 1001), "one"),
            Item { mode: 0o640, owner: (1000, 1001), ..link(EntryType::Link, "home/ada/two", "home/ada/one") },
            directory("gone", 0o755, root),
            regular("gone/file", 0o644, root, "gone"),
            directory("opaque", 0o755, root),
            regular("opaque/old", 0o644, root, "old"),
            directory("opaque/below", 0o755, root),
            regular("was-file", 0o644, root, "file"),
            directory("was-directory", 0o755, root),
            regular("was-directory/inner", 0o644, root, "inner"),
            regular("kept", 0o600, (65534, 65534), "kept"),
            directory("opt", 0o755, root),
            link(EntryType::Symlink, "alias", "opt"),
        ]),
        layer(&[
            regular(".wh.gone", 0o644, root, ""),
            directory("opaque", 0o711, (5, 6)),
            regular("opaque/.wh..wh..opq", 0o644, root, ""),
            regular("opaque/new", 0o644, root, "new"),
            directory("was-file", 0o700, root),
            regular("was-file/below", 0o644, root, "below"),
            regular("was-directory", 0o644, root, "a file now"),
            // Builders list the directory of every change. Without it the engine would make it anew, ours would keep it.
            directory("home", 0o755, root),
            directory("home/ada", 0o2750, (1000, 1001)),
            regular("home/ada/.wh.one", 0o644, root, ""),
            regular("bin/capable", 0o711, (1, 1), "capable again"),
            directory("unicode-ä b", 0o755, root),
            regular("unicode-ä b/file", 0o444, root, ""),
        ]),
        layer(&[directory("gone", 0o750, (7, 7)), regular("gone/again", 0o644, root, "again")]),
    ];
    let directory = temporary();
    image::layout(directory.path(), &layers, json!({"Labels": {"git-image.inputs": version["inputs"]}}));
    let reference = image::push(directory.path(), servers().registry(), project.name, &content_tag(&version), None);
    let (got, ran) = project.get(&version, json!({}));
    ran.succeeds();
    let ours = on_disk(&got.join("rootfs"));
    let mut theirs = in_engine(&reference);
    // What the engine adds to every container.
    let added = ["dev", "proc", "sys", "etc", ".dockerenv"];
    theirs.retain(|path, _| !added.iter().any(|name| path.starts_with(name)) && path.as_os_str().as_bytes() != b"");
    let paths = |found: &BTreeMap<PathBuf, Found>| found.keys().cloned().collect::<Vec<_>>();
    assert_eq!(paths(&ours), paths(&theirs));
    for (path, expected) in &theirs {
        assert_eq!(&ours[path], expected, "{}", path.display());
    }
    assert!(!ours[Path::new("bin/capable")].attributes.is_empty(), "the capability is there");
}
