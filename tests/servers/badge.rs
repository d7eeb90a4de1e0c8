//! `git-image badge`: the version comes from the image that the branch's tag points to.

use serde_json::{Value, json};

use crate::project::{Project, dockerfile};
use crate::support::git::file;
use crate::support::program::{Program, Ran};
use crate::support::temporary;

fn badge(source: &Value, arguments: &[&str]) -> Ran {
    let all = ["badge", "--source", "-"].iter().chain(arguments).copied();
    Program::git_image(all).run(source)
}

/// What the badge says of itself.
#[track_caller]
fn said(svg: &str) -> &str {
    let (_, rest) = svg.split_once("<title>").expect("a badge has a title");
    rest.split_once("</title>").expect("the title ends").0
}

#[test]
fn the_badge_shows_state_and_version_of_the_branch() {
    let project = Project::new("badge");
    let source = project.source_with(&[("/build/details", json!("ci/image/image.details"))]);
    // Nothing is built yet.
    let ran = badge(&source, &["--state", "failing"]);
    assert_eq!((ran.code, said(&ran.stdout), ran.stderr.as_str()), (Some(0), "build: failing", ""));

    project.git.commit("master", &[file("ci/image/image.details", "VERSION=1.4.2\n")]);
    project.put(&source, "master").succeeds();
    assert_eq!(said(&badge(&source, &["--state", "passing"]).stdout), "build: passing 1.4.2");

    // A branch without a version: the commit that brought the image.
    project.git.set("feat/foo", "master");
    // What is no tag was not written by put.
    let labelled = dockerfile() + "LABEL org.opencontainers.image.version='<of the base image>'\n";
    let change = [file("ci/image/image.details", ""), file("ci/image/Dockerfile", &labelled)];
    let commit = project.git.commit("feat/foo", &change);
    project.put(&project.source_with(&[("/git/branch", json!("feat/foo"))]), "feat/foo").succeeds();
    let directory = temporary();
    let file = directory.path().join("badge.svg");
    let path = file.to_str().expect("the path is text");
    let ran = badge(&source, &["--state", "errored", "--branch", "feat/foo", "--output", path]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "", ""));
    let svg = std::fs::read_to_string(&file).expect("the badge is written");
    assert_eq!(said(&svg), format!("build: errored {}", &commit[..7]));

    // Without a branch in the source it is the default branch, which git tells.
    let source = project.source_with(&[("/git", json!({"uri": project.git.uri()}))]);
    assert_eq!(said(&badge(&source, &["--state", "passing"]).stdout), "build: passing 1.4.2");
}

#[test]
fn without_a_registry_the_state_is_shown_all_the_same() {
    let project = Project::new("badge-no-registry");
    let source = project.source_with(&[("/registry/repository", json!("127.0.0.1:9/nothing"))]);
    let ran = badge(&source, &["--state", "failing"]);
    assert_eq!((ran.code, said(&ran.stdout)), (Some(0), "build: failing"));
    assert!(ran.stderr.contains("error: cannot read 127.0.0.1:9/nothing:master-latest\ncause: "), "{}", ran.stderr);
    let end = "badge: drawn without a version, so that it shows the state all the same\n";
    assert!(ran.stderr.ends_with(end), "{}", ran.stderr);
}

#[test]
fn an_image_of_another_git_repository_gives_no_version() {
    let [theirs, ours] = ["badge-theirs", "badge-ours"].map(Project::new);
    theirs.put(&theirs.source, "master").succeeds();
    let mut source = theirs.source.clone();
    source["git"]["uri"] = json!(ours.git.uri());
    assert_eq!(said(&badge(&source, &["--state", "passing"]).stdout), "build: passing");
}
