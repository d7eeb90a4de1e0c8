//! Images on disk as named contexts: in the repository, and those that earlier steps made.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::{
    Becomes::{Fails, Got},
    Row, got, holds, put_on,
};
use crate::project::Project;
use crate::support::engine::{self, EngineKind};
use crate::support::git::{Change, file};
use crate::support::program::{Program, Ran};
use crate::support::{image, server, temporary};

/// The engines that read images in their own store and in registries only.
const CLASSIC: &[EngineKind] = &[EngineKind::Docker20, EngineKind::Docker28];

/// A layer with `/got/word`.
fn layer(word: &str) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    image::append(&mut archive, tar::EntryType::Regular, "got/word", 0o644, word.as_bytes());
    archive.into_inner().expect("memory can be written to")
}

/// The files of a directory, by their paths in it.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let found = server::run(Command::new("find").arg(directory).args(["-type", "f", "-printf", "%P\\n"]));
    let read = |path: &str| std::fs::read(directory.join(path)).expect("a file of the layout can be read");
    found.lines().map(|path| (path.to_owned(), read(path))).collect()
}

#[test]
fn a_layout_in_the_repository_is_a_base_and_counts() {
    let directory = temporary();
    image::layout(directory.path(), &[layer("of the layout\n")], json!({}));
    let files: Vec<(String, Vec<u8>)> =
        files(directory.path()).into_iter().map(|(path, bytes)| (format!("images/base/{path}"), bytes)).collect();
    let changes: Vec<Change<'_>> = files.iter().map(|(path, bytes)| Change::Write(path, bytes)).collect();
    holds(&[Row {
        name: "images-layout",
        dockerfile: "FROM base AS one\nFROM {base}\nCOPY --from=one /got/word /got/copied\nCOPY --from=base /got/word /got/word\n",
        files: &changes,
        build: json!({"contexts": {"base": "oci-layout://images/base"}}),
        becomes: Got(&[("copied", "of the layout"), ("word", "of the layout")]),
        except: CLASSIC,
    }]);
    holds(&[Row {
        name: "images-layout-classic",
        dockerfile: "FROM base\n",
        files: &changes,
        build: json!({"contexts": {"base": "oci-layout://images/base"}}),
        becomes: Fails("error: `contexts.base: an image on disk` is beyond Docker engine 2"),
        except: &[EngineKind::Docker28Containerd, EngineKind::BuildKit],
    }]);

    let mut project = Project::empty("images-layout-counts");
    project.source["build"] = json!({"contexts": {"base": "oci-layout://images/base"}});
    project.git.commit("master", &[&[file("Dockerfile", "FROM base\n"), file("app", "1\n")], &changes[..]].concat());
    let first = crate::project::only(&project.check(None));
    project.git.commit("master", &[file("app", "2\n")]);
    assert_eq!(crate::project::only(&project.check(None)), first);
    project.git.commit("master", &[file("images/base/index.json", "{}\n")]);
    assert_ne!(crate::project::only(&project.check(None)), first);
    let ran = put_on(EngineKind::Docker20, &project, &project.source, json!({}));
    assert!(
        ran.stderr.ends_with(
            "error: the image images/base is damaged: index.json names no image\n\
             hint: let the step that made it run again; it may have ended in the middle\n"
        ),
        "{}",
        ran.stderr
    );
}

/// Runs out on an engine with `built/…` as the image that the Dockerfile calls `base`.
#[track_caller]
fn put_with(kind: EngineKind, project: &Project, artifacts: &Path, image: &str) -> Ran {
    let mut source = project.source.clone();
    source["engine"] = json!({"host": engine::of(kind).host()});
    let params = json!({"source": "repo", "contexts": {"base": format!("built/{image}")}});
    Program::put(artifacts).run(&json!({"source": source, "params": params}))
}

#[test]
fn an_image_of_an_earlier_step_is_a_base_in_every_form() {
    for kind in EngineKind::ALL.into_iter().filter(|kind| !CLASSIC.contains(kind)) {
        let mut project = Project::empty(Box::leak(format!("images-step-{}", kind as u8).into_boxed_str()));
        project.source["only_built"] = json!(true);
        project.source["build"] = json!({});
        project.git.commit("master", &[file("Dockerfile", "FROM base\nCOPY app /got/app\n"), file("app", "1\n")]);
        let artifacts = project.checkout("master", Some(1));
        let built = artifacts.join("built");
        let make = |name: &str, word: &str| {
            image::layout(&built.join(name), &[layer("below\n"), layer(word)], json!({"Env": ["A=b"]}));
            built.join(name).display().to_string()
        };
        let copy = |from: String, to: String| {
            server::run(
                Command::new("skopeo").args(["--insecure-policy", "copy", "--quiet"]).args([format!("oci:{from}"), to]),
            );
        };
        make("layout", "layout\n");
        copy(make("1", "oci\n"), format!("oci-archive:{}", built.join("oci.tar").display()));
        copy(make("2", "docker\n"), format!("docker-archive:{}:acme/base:1", built.join("docker.tar").display()));
        let mut seen = Vec::new();
        for (image, word) in [("layout", "layout"), ("oci.tar", "oci"), ("docker.tar", "docker")] {
            let ran = put_with(kind, &project, &artifacts, image);
            let version = ran.succeeds()["version"].clone();
            assert!(ran.stderr.contains("context: base is the image sha256:"), "{}", ran.stderr);
            let found = got(&project, &version);
            assert_eq!((found["word"].as_str(), found["app"].as_str()), (word, "1"), "{}: {image}", kind.name());
            assert!(!seen.contains(&version), "another base is another version");
            assert_eq!(put_with(kind, &project, &artifacts, image).succeeds()["version"], version);
            seen.push(version);
        }
    }
}

#[test]
fn what_is_no_image_is_an_error_before_the_build() {
    let mut project = Project::empty("images-wrong");
    project.source["only_built"] = json!(true);
    project.git.commit("master", &[file("Dockerfile", "FROM base\n")]);
    let artifacts = project.checkout("master", Some(1));
    std::fs::create_dir(artifacts.join("built")).expect("a directory can be made");
    std::fs::write(artifacts.join("built/text"), "no archive").expect("a file can be written");
    for (image, said) in [
        (
            "none",
            "error: cannot read the image {artifacts}/built/none\ncause: No such file or directory (os error 2)\n\
             hint: give ARTIFACT/PATH of what an earlier step made: is its output named so?\n",
        ),
        ("text", "error: the image {artifacts}/built/text is damaged: failed to read entire block\n"),
        (
            "../../x",
            "error: `params.contexts.base` \"built/../../x\" leads outside of the artifacts of this step\n\
             hint: ",
        ),
    ] {
        let ran = put_with(EngineKind::BuildKit, &project, &artifacts, image);
        let said = said.replace("{artifacts}", &artifacts.display().to_string());
        assert!(ran.code == Some(1) && ran.stderr.contains(&said), "{image}: {}", ran.stderr);
        assert_eq!(project.tags(), [""; 0]);
    }
}
