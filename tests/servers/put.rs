//! out in depth: tags, labels, details, and what it does when others were there before or are there at the same time.

use std::io::Write as _;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;

use serde_json::{Value, json};

use crate::get::remove_tag;
use crate::project::{Project, check, dockerfile, only, put, with_engine};
use crate::support::git::file;
use crate::support::program::{Program, Ran};
use crate::support::{image, server, servers, temporary};

fn text(value: &Value) -> &str {
    value.as_str().expect("it is a text")
}

fn content_tag(version: &Value) -> String {
    format!("inputs-{}", text(&version["inputs"]))
}

/// The labels of the image that a tag of the project points to.
#[track_caller]
fn labels(project: &Project, tag: &str) -> Value {
    servers().registry().image_config(project.name, tag)["config"]["Labels"].clone()
}

#[test]
fn tags_of_the_params_are_filled_in_and_set() {
    let project = Project::new("put-tags");
    let first = project.git.id("master");
    project.git.commit("master", &[file("app.sh", "echo app 2\n")]);
    let commit = project.git.id("master");
    let artifacts = project.checkout("master", Some(1));
    std::fs::write(artifacts.join("tags"), "from-file\n  v{short}\tbuild-${BUILD_NAME} \n").expect("it is ours");
    let params = json!({
        "source": "repo",
        "tags": ["at-{ref}", "of-{commit}", "{branch}-$BUILD_ID", "stable"],
        "additional_tags": "tags",
    });
    let ran = put(&project.source, &artifacts, params);
    let answer = ran.succeeds();
    let mut expected = vec![
        content_tag(&answer["version"]),
        first.clone(),
        "master-latest".to_owned(),
        format!("at-{first}"),
        format!("of-{commit}"),
        "master-42".to_owned(),
        "stable".to_owned(),
        "from-file".to_owned(),
        format!("v{}", &commit[..7]),
        "build-7".to_owned(),
    ];
    expected.sort();
    assert_eq!(project.tags(), expected);
    let digest = project.digest("stable");
    assert!(expected.iter().all(|tag| project.digest(tag) == digest));
    let lines: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("tag: ")).collect();
    assert_eq!(lines.last(), Some(&"tag: master-latest set"), "the tag of the branch is the last");
}

#[test]
fn a_tag_of_the_form_of_ours_is_refused_before_anything_is_built() {
    let project = Project::new("put-own-tags");
    let artifacts = project.checkout("master", Some(1));
    for tag in ["{branch}-latest", "{ref}", "_reaper-x", "{none}", "{version}"] {
        let ran = put(&project.source, &artifacts, json!({"source": "repo", "tags": [tag]}));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{}", ran.stderr);
        assert!(ran.stderr.contains("error: `params.tags[0]` gives no tag\ncause: "), "{}", ran.stderr);
    }
    assert_eq!(project.tags(), Vec::<String>::new());
}

#[test]
fn the_image_is_labelled_with_where_it_comes_from() {
    let project = Project::new("put-labels");
    let source = project.source_with(&[("/build/labels", json!({"team": "web", "who": "source"}))]);
    let artifacts = project.checkout("master", Some(1));
    let params = json!({"source": "repo", "labels": {"who": "params", "by": "$BUILD_PIPELINE_NAME/${BUILD_JOB_NAME} #$BUILD_NAME $OTHER"}});
    let version = put(&source, &artifacts, params).succeeds()["version"].clone();
    let commit = project.git.id("master");
    let page = project.git.uri().trim_end_matches(".git");
    assert_eq!(
        labels(&project, "master-latest"),
        json!({
            "team": "web",
            "who": "params",
            "by": "acme/image #7 $OTHER",
            "git-image.inputs": version["inputs"],
            "git-image.commit": commit,
            "git-image.repository": "127.0.0.1/put-labels",
            // The base image's, if it has any.
            "git-image.inputs-but-epoch": "", "git-image.bases": "", "git-image.base-images": "", "git-image.version": "",
            "org.opencontainers.image.base.name": servers().base_image(),
            "org.opencontainers.image.created": "2026-01-01T00:00:00Z",
            "org.opencontainers.image.revision": commit,
            "org.opencontainers.image.source": page,
            "org.opencontainers.image.url": page,
            "org.opencontainers.image.title": "put-labels",
            "org.opencontainers.image.ref.name": "master",
        })
    );
    // Labels of the params are no inputs.
    let ran = put(&source, &artifacts, json!({"source": "repo", "labels": {"who": "else"}}));
    assert_eq!(ran.succeeds()["version"], version);
    assert!(ran.stderr.contains("nothing to build"), "{}", ran.stderr);
}

/// Puts an image with one file under a reference, for FROM.
#[track_caller]
pub fn base(name: &str, content: &str) -> String {
    let mut layer = tar::Builder::new(Vec::new());
    image::append(&mut layer, tar::EntryType::Regular, "base", 0o644, content.as_bytes());
    let directory = temporary();
    image::layout(directory.path(), &[layer.into_inner().expect("memory can be written to")], json!({}));
    image::push(directory.path(), servers().registry(), name, "1", None)
}

#[test]
fn rebuild_builds_again_and_all_tags_follow() {
    let project = Project::empty("put-rebuild");
    let base_image = base("put-rebuild-base", "one");
    project.git.commit("master", &[file("ci/image/Dockerfile", &format!("FROM {base_image}\n"))]);
    let version = project.put(&project.source, "master").succeeds()["version"].clone();
    let (tags, before) = (project.tags(), project.digest("master-latest"));
    base("put-rebuild-base", "two");
    let artifacts = project.checkout("master", Some(1));
    let ran = put(&project.source, &artifacts, json!({"source": "repo", "rebuild": true}));
    assert_eq!(ran.succeeds()["version"], version);
    assert!(ran.stderr.contains("workers that have fetched this version keep the old bytes"), "{}", ran.stderr);
    let after = project.digest(&content_tag(&version));
    assert_ne!(after, before);
    assert_eq!(project.tags(), tags);
    assert!(tags.iter().all(|tag| project.digest(tag) == after));
}

#[test]
fn two_images_of_one_repository_have_two_prefixes_and_do_not_meet() {
    let project = Project::new("put-prefix");
    project.git.commit("master", &[file("web/Dockerfile", &dockerfile()), file("web/tool.sh", "echo web\n")]);
    let sources = ["ci-", "web-"].map(|prefix| {
        let context = if prefix == "web-" { "web" } else { "ci/image" };
        project.source_with(&[("/registry/tag_prefix", json!(prefix)), ("/build/context", json!(context))])
    });
    let mut expected = Vec::new();
    for (source, prefix) in sources.iter().zip(["ci-", "web-"]) {
        let artifacts = project.checkout("master", Some(1));
        let version =
            put(source, &artifacts, json!({"source": "repo", "tags": ["stable"]})).succeeds()["version"].clone();
        assert_eq!(only(&check(source, None)), version);
        let names = [content_tag(&version), text(&version["ref"]).to_owned(), "master-latest".into(), "stable".into()];
        expected.extend(names.map(|name| format!("{prefix}{name}")));
    }
    expected.sort();
    assert_eq!(project.tags(), expected);
    assert_ne!(project.digest("ci-master-latest"), project.digest("web-master-latest"));
}

#[test]
fn another_git_repository_in_the_same_place_is_refused() {
    let (ours, theirs) = (Project::new("put-foreign"), Project::new("put-foreign-other"));
    ours.put(&ours.source, "master").succeeds();
    let before = ours.digest("master-latest");
    let there = ours.source["registry"]["repository"].clone();
    let ran = theirs.put(&theirs.source_with(&[("/registry/repository", there)]), "master");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{}", ran.stderr);
    assert!(ran.stderr.contains("belongs to another git repository, 127.0.0.1/put-foreign\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("`source.registry.tag_prefix`"), "{}", ran.stderr);
    assert_eq!(ours.digest("master-latest"), before);
}

#[test]
fn details_give_the_name_the_version_and_labels() {
    let project = Project::new("put-details/app");
    let details = |version: &str| format!("# what it is\nNAME=app\nVERSION={version}\nmaintainer=ada\n");
    project.git.commit("master", &[file("ci/image.details", &details("1.2.0"))]);
    let beginning = servers().registry().repository("put-details/");
    let source = project
        .source_with(&[("/registry/repository", json!(beginning)), ("/build/details", json!("ci/image.details"))]);
    let version = project.put(&source, "master").succeeds()["version"].clone();
    assert!(project.tags().contains(&"1.2.0".to_owned()), "{:?}", project.tags());
    let labels = labels(&project, "1.2.0");
    assert_eq!(labels["maintainer"], json!("ada"));
    assert_eq!(labels["org.opencontainers.image.version"], json!("1.2.0"));
    assert_eq!(labels["org.opencontainers.image.title"], json!("app"));
    let directory = temporary();
    let got = crate::project::get(&source, &version, directory.path(), json!({}));
    assert_eq!(got.succeeds()["version"], version);
    assert!(directory.path().join("rootfs/usr/local/bin/tool").exists());

    // On another branch it is not set.
    project.git.set("feature", "master");
    project.git.commit("feature", &[file("ci/image.details", &details("2.0.0"))]);
    let mut feature = source.clone();
    feature["git"]["branch"] = json!("feature");
    let ran = project.put(&feature, "feature");
    ran.succeeds();
    assert!(
        ran.stderr
            .contains("tag: VERSION 2.0.0 is set on the default branch and on `source.release_branches` only; left"),
        "{}",
        ran.stderr
    );
    assert_eq!(project.digest("2.0.0"), None);

    // And never moved: found before the build.
    let before = project.digest("1.2.0");
    project.git.commit("master", &[file("ci/image/tool.sh", "echo tool 2\n")]);
    let ran = project.put(&source, "master");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{}", ran.stderr);
    assert!(ran.stderr.contains("error: VERSION 1.2.0 is taken: "), "{}", ran.stderr);
    assert!(!ran.stderr.contains("engine: "), "nothing was built:\n{}", ran.stderr);
    assert_eq!(project.digest("1.2.0"), before);
    project.git.commit("master", &[file("ci/image.details", &details("1.2.1"))]);
    project.put(&source, "master").succeeds();
    assert_eq!(project.digest("1.2.1"), project.digest("master-latest"));
}

#[test]
fn a_rebuild_in_another_epoch_leaves_the_version_where_it_is() {
    let project = Project::new("put-epoch");
    project.git.commit("master", &[file("ci/image.details", "VERSION=1.2.0\n")]);
    let mut source = project.source_with(&[("/build/details", json!("ci/image.details"))]);
    let without = project.put(&source, "master").succeeds()["version"].clone();
    let released = project.digest("1.2.0");
    assert_eq!(released, project.digest("master-latest"));

    // Another epoch, the same one again, a further one, and none again: each is another image of one release.
    for (epoch, moves) in [(json!("1"), true), (json!("1"), false), (json!("2"), true), (json!(null), true)] {
        let before = project.digest("master-latest");
        source["build"]["epoch"] = epoch.clone();
        let ran = put(&source, &project.checkout("master", Some(1)), json!({"source": "repo", "bump_aliases": true}));
        let version = ran.succeeds()["version"].clone();
        assert_eq!(version == without, epoch.is_null(), "{}", ran.stderr);
        assert_eq!(project.digest("master-latest") != before, moves, "{epoch}: {}", ran.stderr);
        let left = "tag: 1.2.0 left: it was released in another epoch, and is never moved\n";
        assert_eq!(ran.stderr.contains(left), !epoch.is_null(), "{}", ran.stderr);
        assert_eq!(project.digest("1.2.0"), released);
    }
    assert_eq!(project.digest("latest"), released, "the aliases stay with their version");

    // Files that changed need another version, in every epoch.
    source["build"]["epoch"] = json!("3");
    project.git.commit("master", &[file("ci/image/tool.sh", "echo tool 2\n")]);
    let ran = project.put(&source, "master");
    assert!(ran.stderr.contains("error: VERSION 1.2.0 is taken: "), "{}", ran.stderr);
    project.git.commit("master", &[file("ci/image.details", "VERSION=1.3.0\n")]);
    project.put(&source, "master").succeeds();
    assert_eq!(project.digest("1.3.0"), project.digest("master-latest"));
}

#[test]
fn a_revert_reuses_the_image_and_takes_the_tag_of_the_branch_back() {
    let project = Project::new("put-revert");
    let first = project.put(&project.source, "master").succeeds()["version"].clone();
    let digest = project.digest("master-latest");
    project.git.commit("master", &[file("ci/image/tool.sh", "echo tool 2\n")]);
    project.put(&project.source, "master").succeeds();
    assert_ne!(project.digest("master-latest"), digest);
    let reverted = project.git.revert("master");
    let ran = project.put(&project.source, "master");
    let version = ran.succeeds()["version"].clone();
    assert_eq!((&version["ref"], &version["inputs"]), (&json!(reverted), &first["inputs"]));
    assert!(ran.stderr.contains("nothing to build"), "{}", ran.stderr);
    assert_eq!(project.digest("master-latest"), digest);
    assert_eq!(project.digest(&reverted), digest);
}

#[test]
fn a_tombstone_or_foreign_image_at_the_content_tag_is_no_image_of_ours() {
    let project = Project::new("put-tombstone");
    let version = only(&project.check(None));
    let tag = content_tag(&version);
    let registry = servers().registry();
    let foreign = image::push_base(registry, project.name, &tag, None);
    assert!(foreign.ends_with(&tag));
    let ran = project.put(&project.source, "master");
    assert_eq!(ran.succeeds()["version"], version);
    assert!(ran.stderr.contains("engine: "), "it is built:\n{}", ran.stderr);
    assert_eq!(labels(&project, &tag)["git-image.inputs"], version["inputs"]);

    for tag in project.tags() {
        tombstone(&project, &tag);
    }
    let (_, ran) = project.get(&version, json!({}));
    assert!(ran.stderr.starts_with("error: there is no image of this version yet"), "{}", ran.stderr);
    let ran = project.put(&project.source, "master");
    ran.succeeds();
    assert!(ran.stderr.contains("engine: "), "it is built:\n{}", ran.stderr);
    assert_eq!(project.tags().len(), 3);
    assert!(project.tags().iter().all(|each| project.digest(each) == project.digest(&tag)));
    assert_eq!(labels(&project, &tag)["git-image.inputs"], version["inputs"]);

    // The tag of the commit still has the image.
    tombstone(&project, &tag);
    let (directory, ran) = project.get(&version, json!({}));
    ran.succeeds();
    assert!(directory.join("rootfs/usr/local/bin/tool").exists());
}

/// Puts what a stopped reaper leaves: a manifest that is no image.
#[track_caller]
fn tombstone(project: &Project, tag: &str) {
    let registry = servers().registry();
    let config = registry.put_blob(project.name, b"{}");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": image::OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.git-image.tombstone.v1+json", "digest": config, "size": 2},
        "layers": [],
    });
    registry.put_manifest(project.name, tag, image::OCI_MANIFEST, manifest.to_string().as_bytes());
}

#[test]
fn a_newer_version_with_a_tombstone_at_its_content_tag_is_not_built() {
    let project = Project::new("put-newer-tombstone");
    let old = project.checkout("master", Some(1));
    project.git.commit("master", &[file("ci/image/tool.sh", "echo tool 2\n")]);
    let newer = only(&project.check(None));
    tombstone(&project, &content_tag(&newer));
    let ran = put(&project.source, &old, json!({"source": "repo"}));
    let version = ran.succeeds()["version"].clone();
    assert_eq!(project.digest("master-latest"), project.digest(&content_tag(&version)));
}

#[test]
fn a_put_again_restores_a_content_tag_that_was_deleted() {
    let project = Project::new("put-restore");
    let version = project.put(&project.source, "master").succeeds()["version"].clone();
    let tags = project.tags();
    remove_tag(project.name, &content_tag(&version));
    assert_eq!(project.put(&project.source, "master").succeeds()["version"], version);
    assert_eq!(project.tags(), tags);
    let digest = project.digest("master-latest");
    assert!(tags.iter().all(|tag| project.digest(tag) == digest));
}

#[test]
fn a_content_tag_that_goes_while_it_is_put_is_set_again() {
    let project = Project::new("put-vanish");
    let tag = content_tag(&only(&project.check(None)));
    let host = relay(&servers().registry().host(), "PUT /v2/put-vanish/manifests/master-latest ", {
        let tag = tag.clone();
        move || remove_tag("put-vanish", &tag)
    });
    let source = project.source_with(&[("/registry/repository", json!(format!("{host}/put-vanish")))]);
    let ran = project.put(&source, "master");
    ran.succeeds();
    assert!(ran.stderr.contains(&format!("tag: {tag} was removed meanwhile; set again")), "{}", ran.stderr);
    assert!(project.digest(&tag).is_some());
    assert_eq!(project.digest(&tag), project.digest("master-latest"));
}

/// Passes connections on to a registry, and does something once, just before it passes on a request that begins so.
pub fn relay(target: &str, request: &'static str, event: impl FnOnce() + Send + 'static) -> String {
    let port = server::free_port();
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    let target = target.to_owned();
    let event = std::sync::Arc::new(std::sync::Mutex::new(Some(event)));
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(&target) else { continue };
            let event = event.clone();
            pass(&client, &server, move |bytes| {
                if bytes.windows(request.len()).any(|window| window == request.as_bytes())
                    && let Some(event) = event.lock().expect("no thread panics with it").take()
                {
                    event();
                }
            });
            pass(&server, &client, |_| {});
        }
    });
    format!("127.0.0.1:{port}")
}

fn pass(from: &TcpStream, to: &TcpStream, look: impl Fn(&[u8]) + Send + 'static) {
    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
    std::thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        // A connection that breaks is seen by both ends.
        while let Ok(count @ 1..) = std::io::Read::read(&mut from, &mut buffer) {
            look(&buffer[..count]);
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}

#[test]
fn after_a_force_push_or_the_end_of_the_branch_its_tag_is_left_and_the_log_says_why() {
    let project = Project::new("put-gone");
    let begin = project.git.id("master");
    project.git.set("feature", "master");
    project.git.commit("feature", &[file("ci/image/tool.sh", "echo lost\n")]);
    let lost = project.checkout("feature", Some(1));
    project.git.set("feature", &begin);
    project.git.commit("feature", &[file("ci/image/tool.sh", "echo pushed\n")]);
    let source = project.source_with(&[("/git/branch", json!("feature"))]);
    project.put(&source, "feature").succeeds();
    let latest = project.digest("feature-latest");
    let ran = put(&source, &lost, json!({"source": "repo"}));
    let version = ran.succeeds()["version"].clone();
    assert!(ran.stderr.contains("tag: feature-latest left: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("a force push, or the checkout of another branch"), "{}", ran.stderr);
    assert_eq!(project.digest("feature-latest"), latest);
    assert!(project.digest(text(&version["ref"])).is_some());

    let late = project.checkout("feature", Some(1));
    project.git.delete("feature");
    let ran = put(&source, &late, json!({"source": "repo"}));
    ran.succeeds();
    assert!(ran.stderr.contains("tag: feature-latest left: branch feature is gone from the remote"), "{}", ran.stderr);
}

#[track_caller]
fn start(project: &Project, artifacts: &Path) -> crate::support::program::Running {
    let request = json!({"source": with_engine(&project.source), "params": {"source": "repo"}});
    Program::put(artifacts).start(&request.to_string())
}

#[test]
fn two_puts_of_the_same_inputs_at_once_agree_on_one_image() {
    let project = Project::new("put-same");
    let artifacts = [project.checkout("master", Some(1)), project.checkout("master", Some(1))];
    let running = artifacts.each_ref().map(|artifacts| start(&project, artifacts));
    let ran = running.map(crate::support::program::Running::wait);
    assert_eq!(ran[0].succeeds()["version"], ran[1].succeeds()["version"]);
    let tags = project.tags();
    assert_eq!(tags.len(), 3);
    let digest = project.digest("master-latest");
    assert!(tags.iter().all(|tag| project.digest(tag) == digest), "{}\n{}", ran[0].stderr, ran[1].stderr);
}

#[test]
fn two_puts_of_different_commits_at_once_leave_the_newest_image_to_the_branch() {
    let project = Project::new("put-interleaved");
    let old = project.checkout("master", Some(1));
    let newest = project.git.commit("master", &[file("ci/image/tool.sh", "echo tool 2\n")]);
    let new = project.checkout("master", Some(1));
    let running = [start(&project, &new), start(&project, &old)];
    let ran = running.map(crate::support::program::Running::wait);
    for ran in &ran {
        ran.succeeds();
    }
    assert_eq!(project.digest("master-latest"), project.digest(&newest), "{}\n{}", ran[0].stderr, ran[1].stderr);
    assert_eq!(project.tags().len(), 5);
}

#[test]
fn only_built_announces_a_version_after_its_put() {
    let project = Project::new("put-only-built");
    let source = project.source_with(&[("/only_built", json!(true))]);
    assert_eq!(check(&source, None).succeeds(), json!([]));
    let version = project.put(&project.source, "master").succeeds()["version"].clone();
    assert_eq!(only(&check(&source, None)), version);
    // The newest version that is built, while a newer one is not.
    project.git.commit("master", &[file("ci/image/tool.sh", "echo tool 2\n")]);
    assert_eq!(only(&check(&source, Some(&version))), version);
    let newer = project.put(&project.source, "master").succeeds()["version"].clone();
    assert_eq!(check(&source, Some(&version)).succeeds(), json!([version, newer]));
}

#[test]
fn a_branch_that_reuses_only_its_own_images_builds_what_another_has_built() {
    let project = Project::new("put-reuse");
    let own = json!("branch");
    let master = project.source_with(&[("/build/reuse", own.clone())]);
    let branch = project.source_with(&[("/build/reuse", own), ("/git/branch", json!("feature"))]);
    let first = project.put(&master, "master").succeeds()["version"].clone();
    project.git.set("feature", "master");
    let ran = project.put(&branch, "feature");
    let second = ran.succeeds()["version"].clone();
    assert!(ran.stderr.contains("exporting to image"), "it was not built:\n{}", ran.stderr);
    assert_eq!(second["ref"], first["ref"]);
    assert_ne!(second["inputs"], first["inputs"]);
    assert_eq!(only(&check(&branch, None)), second);
    let again = project.put(&branch, "feature");
    assert_eq!(again.succeeds()["version"], second);
    assert!(again.stderr.contains("nothing to build"), "{}", again.stderr);
}

#[test]
fn a_version_is_released_with_its_aliases_and_no_alias_goes_back() {
    let project = Project::new("put-aliases");
    let release = |source: &Value, what: &str, params: Value| {
        let mut all = json!({"source": "repo"});
        for (key, value) in params.as_object().expect("a block") {
            all[key] = value.clone();
        }
        put(source, &project.checkout(what, Some(1)), all)
    };
    let bumped = |version: &str| json!({"version": version, "bump_aliases": true});
    let ran = release(&project.source, "master", bumped("v1.2.3"));
    let first = ran.succeeds();
    let (aliases, digest) = (["1.2.3", "1.2", "1", "latest"], project.digest("1.2.3"));
    assert!(digest.is_some());
    assert!(aliases.iter().all(|tag| project.digest(tag) == digest), "{:?}", project.tags());
    let tags = first["metadata"].as_array().and_then(|all| all.iter().find(|one| one["name"] == "tags"));
    let tags = tags.expect("the metadata has the tags")["value"].as_str().expect("a text").to_owned();
    assert!(tags.contains("1.2.3, 1, 1.2, latest, master-latest"), "{tags}");
    let labels = servers().registry().image_config(project.name, "1.2.3")["config"]["Labels"].clone();
    assert_eq!(labels["org.opencontainers.image.version"], json!("1.2.3"));

    // Again: nothing to do.
    let ran = release(&project.source, "master", bumped("1.2.3"));
    ran.succeeds();
    assert!(ran.stderr.contains("tag: 1.2 is there already"), "{}", ran.stderr);

    project.git.commit("master", &[file("ci/image/tool.sh", "echo tool 2\n")]);
    release(&project.source, "master", bumped("1.3.0")).succeeds();
    let second = project.digest("1.3.0");
    assert_eq!(
        (project.digest("1.3"), project.digest("1"), project.digest("latest")),
        (second.clone(), second.clone(), second.clone())
    );
    assert_eq!(project.digest("1.2"), digest);

    // A fix of the older line moves that line alone.
    project.git.set("release/1.2", "master");
    project.git.commit("release/1.2", &[file("ci/image/tool.sh", "echo tool 1.2.4\n")]);
    let mut older = project.source.clone();
    older["git"]["branch"] = json!("release/1.2");
    let ran = release(&older, "release/1.2", bumped("1.2.4"));
    ran.fails_with(&format!(
        "{}error: `params.version` releases 1.2.4, and branch release/1.2 is neither the default branch nor a release branch\n\
         hint: leave `version` out for this branch, or name the branch in `source.release_branches`\n",
        until_error(&ran)
    ));
    older["release_branches"] = json!(["release/*"]);
    let ran = release(&older, "release/1.2", bumped("1.2.4"));
    ran.succeeds();
    assert!(ran.stderr.contains("tag: 1 left: there is 1.3.0\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("tag: latest left: there is 1.3.0\n"), "{}", ran.stderr);
    assert_eq!(project.digest("1.2"), project.digest("1.2.4"));
    assert_eq!((project.digest("1"), project.digest("latest")), (second.clone(), second.clone()));

    // A pre-release moves nothing, and a variant is a line of its own.
    let ran = release(&older, "release/1.2", bumped("2.0.0-rc.1"));
    ran.succeeds();
    assert!(ran.stderr.contains("tag: aliases left: 2.0.0-rc.1 is a pre-release"), "{}", ran.stderr);
    older["registry"]["variant"] = json!("alpine");
    release(&older, "release/1.2", bumped("1.2.4")).succeeds();
    let fix = project.digest("1.2.4");
    for tag in ["1.2.4-alpine", "1.2-alpine", "1-alpine", "alpine", "2.0.0-rc.1"] {
        assert_eq!(project.digest(tag), fix, "{tag}");
    }
    assert_eq!(project.digest("latest"), second);

    // A version is never moved.
    let ran = release(&project.source, "master", bumped("1.2.4"));
    assert!(ran.stderr.contains("error: `params.version` 1.2.4 is taken: "), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("hint: a version is never moved: give another `params.version` (its inputs: "),
        "{}",
        ran.stderr
    );
    let ran = release(&project.source, "master", json!({"bump_aliases": true}));
    assert!(
        ran.stderr.ends_with(
            "error: `params.bump_aliases` is set, and there is no version\n\
         hint: give `params.version`, or VERSION in the file that `source.build.details` names\n"
        ),
        "{}",
        ran.stderr
    );
}

#[test]
fn version_of_the_details_has_aliases_and_no_other_version_beside_it() {
    let project = Project::new("put-details-aliases");
    let source = project.source_with(&[("/build/details", json!("ci/image.details"))]);
    project.git.commit("master", &[file("ci/image.details", "VERSION=1.0.0\n")]);
    let run = |params: Value| put(&source, &project.checkout("master", Some(1)), params);
    run(json!({"source": "repo", "bump_aliases": true})).succeeds();
    assert_eq!(project.digest("latest"), project.digest("1.0.0"));
    run(json!({"source": "repo", "version": "1.0.0"})).succeeds();
    let ran = run(json!({"source": "repo", "version": "1.0.1"}));
    assert!(
        ran.stderr.ends_with(
            "error: `params.version` is 1.0.1, and VERSION in `ci/image.details` is 1.0.0\n\
         hint: give one of the two\n"
        ),
        "{}",
        ran.stderr
    );
    project.git.commit("master", &[file("ci/image.details", "VERSION=2026.11\n")]);
    let ran = run(json!({"source": "repo", "bump_aliases": true}));
    assert!(ran.stderr.ends_with(
        "error: `params.bump_aliases` is set, and VERSION has no aliases\n\
         cause: version \"2026.11\" is not X.Y.Z, as semantic versions are: unexpected end of input while parsing minor version number\n\
         hint: aliases are X.Y, X and latest of a version X.Y.Z\n"
    ), "{}", ran.stderr);
}

/// What was said before the error.
fn until_error(ran: &Ran) -> &str {
    ran.stderr.split_once("error: ").map_or(ran.stderr.as_str(), |(before, _)| before)
}
