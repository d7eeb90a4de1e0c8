//! What gives another version, and what does not.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::project::{Project, check, only, put};
use crate::support::git::{Change, file};

const DOCKERFILE: &str =
    "FROM scratch AS base\nARG WHAT=x\nCOPY src /got/\nFROM base AS other\nLABEL other=1\nFROM base\n";

fn project(name: &'static str) -> Project {
    let mut project = Project::empty(name);
    project.source["build"] = json!({"details": "image.details", "dockerfile": "docker/Dockerfile"});
    project.git.commit(
        "master",
        &[
            file("docker/Dockerfile", DOCKERFILE),
            file(".dockerignore", "**/*.md\n"),
            file("image.details", "FOO=1\n"),
            file("src/a", "a"),
            file("src/doc.md", "doc"),
            Change::Symlink("src/link", "a"),
            file("app", "app"),
        ],
    );
    project
}

#[test]
fn a_change_that_the_image_is_not_made_of_gives_the_same_version_and_no_build() {
    let project = project("inputs-same");
    let version = project.put(&project.source, "master").succeeds()["version"].clone();
    for change in [
        file("app", "other"),
        Change::Executable("app", b"other"),
        file("src/doc.md", "other"),
        file("src/new.md/y", "new"),
        file("other/src/a", "new"),
        file("other/.gitattributes", "* text\n"),
        file("docker/README", "new"),
        Change::Remove("app"),
    ] {
        let changed = format!("{change:?}");
        project.git.commit("master", &[change]);
        assert_eq!(only(&check(&project.source, None)), version, "{changed}");
    }
    let artifacts = project.checkout("master", None);
    // No engine is there: it is never contacted.
    let source = project.source_with(&[("/engine/host", json!("unix:///nowhere/docker.sock"))]);
    let ran =
        crate::support::program::Program::put(&artifacts).run(&json!({"source": source, "params": {"source": "repo"}}));
    assert_eq!(ran.succeeds()["version"], version);
}

#[test]
fn a_change_of_anything_that_the_image_is_made_of_gives_another_version() {
    let project = project("inputs-other");
    let mut seen = BTreeSet::new();
    let mut built = |what: &str, source: &Value| {
        let version = only(&check(source, None));
        let ran = project.put(source, "master");
        assert_eq!(ran.succeeds()["version"], version, "{what}");
        assert!(ran.stderr.contains("exporting to image"), "{what} was not built:\n{}", ran.stderr);
        assert!(seen.insert(version["inputs"].to_string()), "{what} gives a version that was there before");
    };
    built("nothing", &project.source);
    for (what, change) in [
        ("content", file("src/a", "b")),
        ("mode", Change::Executable("src/a", b"b")),
        ("a new file", file("src/new", "")),
        ("its removal, with another change", Change::Remove("src/link")),
        ("a link", Change::Symlink("src/link", "new")),
        ("where it leads", Change::Symlink("src/link", "nowhere")),
        ("a file in place of it", file("src/link", "nowhere")),
        ("the Dockerfile", file("docker/Dockerfile", &format!("# \n{DOCKERFILE}"))),
        ("the ignore file", file(".dockerignore", "*.md\n#\n")),
        ("another ignore file", file("docker/Dockerfile.dockerignore", "*.md\n")),
        ("attributes", file("src/.gitattributes", "a text\n")),
        ("attributes above", file(".gitattributes", "b text\n")),
        ("details", file("image.details", "FOO=2\n")),
    ] {
        project.git.commit("master", &[change]);
        built(what, &project.source);
    }
    for (what, path, value) in [
        ("an arg", "/build/args", json!({"WHAT": "y"})),
        ("a label", "/build/labels", json!({"x": "y"})),
        ("the target", "/build/target", json!("other")),
        ("the epoch", "/build/epoch", json!("2026-11")),
        ("the prefix of tags", "/registry/tag_prefix", json!("x-")),
    ] {
        built(what, &project.source_with(&[(path, value)]));
    }
}

#[test]
fn a_revert_is_a_version_of_its_own_with_the_image_that_is_there() {
    let project = project("inputs-revert");
    let first = project.put(&project.source, "master").succeeds();
    project.git.commit("master", &[file("src/a", "b")]);
    project.git.revert("master");
    let artifacts = project.checkout("master", None);
    let ran = put(&project.source, &artifacts, json!({"source": "repo"}));
    let reverted = ran.succeeds();
    assert_eq!(reverted["version"]["inputs"], first["version"]["inputs"]);
    assert_ne!(reverted["version"]["ref"], first["version"]["ref"]);
    assert!(ran.stderr.contains("nothing to build"), "{}", ran.stderr);
}
