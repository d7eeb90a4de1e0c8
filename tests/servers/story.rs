//! The main job: check, put, get, and what happens on another branch and to a late build.

use std::process::Command;

use serde_json::{Value, json};

use crate::project::{Project, check, dockerfile, only, put, with_engine};
use crate::support::git::file;
use crate::support::program::Program;
use crate::support::server;

fn text(value: &Value) -> &str {
    value.as_str().expect("it is a text")
}

#[test]
fn a_new_image_is_built_tagged_and_fetched() {
    let project = Project::new("story-new");
    let version = only(&project.check(None));
    let ran = project.put(&project.source, "master");
    let answer = ran.succeeds();
    assert_eq!(answer["version"], version, "put answers what check announced:\n{}", ran.stderr);
    let content = format!("inputs-{}", text(&version["inputs"]));
    let mut tags = vec![content.clone(), text(&version["ref"]).to_owned(), "master-latest".to_owned()];
    tags.sort();
    assert_eq!(project.tags(), tags);
    assert!(tags.iter().all(|tag| project.digest(tag) == project.digest(&content)), "one image has all of them");

    let (directory, ran) = project.get(&version, json!({}));
    assert_eq!(ran.succeeds()["version"], version);
    let tool = directory.join("rootfs/usr/local/bin/tool");
    assert_eq!(std::fs::read_to_string(tool).expect("the image has the tool"), "echo tool 1\n");
    let mut run = Command::new("chroot");
    run.arg(directory.join("rootfs")).args(["/bin/sh", "/usr/local/bin/tool"]);
    assert_eq!(server::run(&mut run), "tool 1");
    assert!(directory.join("metadata.json").exists());
}

#[test]
fn a_put_without_a_change_of_the_image_builds_nothing_and_asks_the_registry_four_times() {
    let project = Project::new("story-unchanged");
    let first = project.put(&project.source, "master").succeeds();
    project.git.commit("master", &[file("app.sh", "echo app 2\n")]);
    let artifacts = project.checkout("master", Some(1));
    let before = crate::support::servers().registry().requests_for(project.name).len();
    // No engine is there: it is never contacted.
    let source = project.source_with(&[("/engine", json!({"host": "unix:///nowhere/docker.sock"}))]);
    let ran =
        crate::support::program::Program::put(&artifacts).run(&json!({"source": source, "params": {"source": "repo"}}));
    assert_eq!(ran.succeeds()["version"], first["version"]);
    let requests = crate::support::servers().registry().requests_for(project.name).split_off(before);
    assert_eq!(requests.len(), 4, "{requests:#?}");
}

#[test]
fn a_branch_that_did_not_touch_the_image_gets_the_image_of_the_default_branch_at_once() {
    let project = Project::new("story-branch");
    let master = project.put(&project.source, "master").succeeds();
    project.git.set("feat/foo", "master");
    let source = project.source_with(&[("/git/branch", json!("feat/foo"))]);
    let ran = project.put(&source, "feat/foo");
    assert_eq!(ran.succeeds()["version"], master["version"]);
    assert!(ran.stderr.contains("nothing to build"), "{}", ran.stderr);
    assert_eq!(project.digest("feat-foo-d8e70cfd-latest"), project.digest("master-latest"));

    project.git.commit("feat/foo", &[file("ci/image/tool.sh", "echo tool 2\n")]);
    let changed = project.put(&source, "feat/foo").succeeds();
    assert_ne!(changed["version"]["inputs"], master["version"]["inputs"]);
    assert_ne!(project.digest("feat-foo-d8e70cfd-latest"), project.digest("master-latest"));
    assert_eq!(only(&check(&source, None)), changed["version"]);
}

#[test]
fn an_older_build_that_finishes_late_leaves_the_tag_of_the_branch() {
    let project = Project::new("story-late");
    let old = project.checkout("master", Some(1));
    project.git.commit("master", &[file("ci/image/tool.sh", "echo tool 2\n")]);
    let newer = project.put(&project.source, "master").succeeds();
    let ran = put(&project.source, &old, json!({"source": "repo"}));
    let late = ran.succeeds();
    assert!(ran.stderr.contains("tag: master-latest left: the branch has a newer image"), "{}", ran.stderr);
    let latest = project.digest("master-latest");
    assert_eq!(latest, project.digest(text(&newer["version"]["ref"])));
    assert_ne!(latest, project.digest(text(&late["version"]["ref"])));
}

#[test]
fn a_build_that_is_overtaken_never_sets_the_tag_of_the_branch() {
    let project = Project::new("story-overtaken");
    let slow = format!("{}RUN sleep 4\n", dockerfile());
    project.git.commit("master", &[file("ci/image/Dockerfile", &slow)]);
    let old = project.checkout("master", Some(1));
    let request = json!({"source": with_engine(&project.source), "params": {"source": "repo"}});
    let mut overtaken = Program::put(&old).start(&request.to_string());
    overtaken.wait_for("RUN sleep 4");
    project.git.commit("master", &[file("ci/image/Dockerfile", &dockerfile()), file("ci/image/tool.sh", "echo 2\n")]);
    let newer = project.put(&project.source, "master").succeeds();
    let ran = overtaken.wait();
    ran.succeeds();
    assert!(ran.stderr.contains("tag: master-latest left: the branch has a newer image"), "{}", ran.stderr);
    assert!(
        !ran.stderr.contains("tag: master-latest moved"),
        "it must not go back, not even for a moment:\n{}",
        ran.stderr
    );
    assert_eq!(project.digest("master-latest"), project.digest(text(&newer["version"]["ref"])));
}

#[test]
fn without_an_artifact_the_tip_of_the_branch_is_put() {
    let project = Project::new("story-tip");
    let version = only(&project.check(None));
    let artifacts = crate::support::temporary();
    let ran = put(&project.source, artifacts.path(), json!({}));
    assert_eq!(ran.succeeds()["version"], version);
    assert!(ran.stderr.contains("no `params.source`"), "{}", ran.stderr);
}

#[test]
fn an_image_that_nobody_built_is_built_from_the_source_that_get_checked_out() {
    let project = Project::new("story-self");
    let version = only(&project.check(None));
    let (directory, ran) = project.get(&version, json!({"skip_download": true, "source": true}));
    assert_eq!(ran.succeeds()["version"], version);
    assert!(!directory.join("rootfs").exists());
    // The directory of a get is the artifact of the put after it.
    let artifacts = crate::support::temporary();
    std::os::unix::fs::symlink(&directory, artifacts.path().join("image")).expect("the directory is writable");
    let ran = put(&project.source, artifacts.path(), json!({"source": "image/source"}));
    assert_eq!(ran.succeeds()["version"], version);
    assert!(project.digest(text(&version["ref"])).is_some());
}
