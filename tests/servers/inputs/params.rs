//! Images that git alone does not describe: contexts and args of the params.

use std::path::Path;

use serde_json::{Value, json};

use super::{error, got};
use crate::project::{Project, check, only, put};
use crate::support::git::file;
use crate::support::{servers, temporary};

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a file lies in a directory")).expect("a directory can be made");
    std::fs::write(path, text).expect("a file can be written");
}

/// A project whose image is made of `ci/Dockerfile` and of what tasks make.
fn project(name: &'static str) -> Project {
    let mut project = Project::empty(name);
    project.source["build"] = json!({"dockerfile": "ci/Dockerfile", "paths": ["ci"]});
    project.source["only_built"] = json!(true);
    let dockerfile = format!("FROM {}\nARG WHAT=none\nRUN echo $WHAT > /what\nCOPY . /got/\n", servers().base_image());
    project.git.commit("master", &[file("ci/Dockerfile", &dockerfile), file("app", "1")]);
    project
}

#[track_caller]
fn inputs(version: &Value) -> &str {
    version["inputs"].as_str().expect("a version has inputs")
}

#[test]
fn a_context_that_a_task_made_is_built_and_counts_by_its_content() {
    let project = project("params-context");
    let artifacts = project.checkout("master", Some(1));
    for (path, text) in [("bin/app", "one"), ("skip", "s"), (".dockerignore", "skip\n.dockerignore\n"), (".git/x", "")]
    {
        write(&artifacts.join("built/ctx").join(path), text);
    }
    let params = json!({"source": "repo", "context": "built/ctx"});
    let ran = put(&project.source, &artifacts, params.clone());
    let one = ran.succeeds()["version"].clone();
    assert_eq!(one["ref"], json!(project.git.id("master")), "HEAD of the checkout");
    let found = got(&project, &one);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [("bin/app".to_owned(), "one".to_owned())]);
    assert_eq!(project.digest("master-latest"), project.digest(&format!("inputs-{}", inputs(&one))));
    assert_eq!(only(&check(&project.source, Some(&one))), one, "check goes on from it");

    let again = put(&project.source, &artifacts, params.clone());
    assert_eq!(again.succeeds()["version"], one);
    assert!(again.stderr.contains("nothing to build"), "{}", again.stderr);
    write(&artifacts.join("built/ctx/skip"), "excluded");
    assert_eq!(put(&project.source, &artifacts, params.clone()).succeeds()["version"], one);
    write(&artifacts.join("built/ctx/bin/app"), "two");
    let two = put(&project.source, &artifacts, params).succeeds()["version"].clone();
    assert_ne!(two["inputs"], one["inputs"]);
    assert_eq!(got(&project, &two)["bin/app"], "two");
    assert_eq!(project.digest("master-latest"), project.digest(&format!("inputs-{}", inputs(&two))));
    let labels = servers().registry().image_config(project.name, "master-latest")["config"]["Labels"].clone();
    let revision = format!("{}-dirty", project.git.id("master"));
    assert_eq!(labels["org.opencontainers.image.revision"], json!(revision));
}

#[test]
fn a_context_may_bring_its_own_dockerfile() {
    let mut project = project("params-dockerfile");
    project.source["build"] = json!({});
    let artifacts = project.checkout("master", Some(1));
    write(&artifacts.join("built/Dockerfile"), "FROM scratch\nCOPY f /got/\n");
    write(&artifacts.join("built/f"), "f");
    let ran = put(&project.source, &artifacts, json!({"source": "repo", "context": "built"}));
    let version = ran.succeeds()["version"].clone();
    assert_eq!(got(&project, &version).into_iter().collect::<Vec<_>>(), [("f".to_owned(), "f".to_owned())]);
    let checked = check(&project.source, Some(&version));
    assert_eq!(only(&checked), version);
    assert!(
        checked.stderr.contains(
            "check: there is no Dockerfile at Dockerfile; the given version, which a put made, is still the newest"
        ),
        "{}",
        checked.stderr
    );
    std::fs::remove_file(artifacts.join("built/Dockerfile")).expect("it is there");
    assert_eq!(
        error(&put(&project.source, &artifacts, json!({"source": "repo", "context": "built"}))),
        "error: there is no Dockerfile at ../built/Dockerfile\n\
         hint: say where it is with `source.build.dockerfile`, or `source.build.context` for its directory; there is one at ci/Dockerfile"
    );
}

#[test]
fn a_context_that_is_not_there_or_leads_elsewhere_is_refused() {
    let project = project("params-nowhere");
    let artifacts = project.checkout("master", Some(1));
    write(&artifacts.join("built/file"), "f");
    std::os::unix::fs::symlink("/etc", artifacts.join("built/link")).expect("a link can be made");
    for (context, expected) in [
        (
            "none/x",
            "error: there is no artifact `none` in this step\n\
             hint: there is `built`, `repo`. Concourse brings the artifacts that `inputs` of the put names, or without it those whose \
             name begins a param; a get must have run before under the name `none`",
        ),
        (
            "built/none",
            "error: `params.context` \"built/none\" is no directory\n\
             hint: the task that makes it must have it in its `outputs`; write it as ARTIFACT/DIRECTORY",
        ),
        (
            "built/file",
            "error: `params.context` \"built/file\" is no directory\n\
             hint: the task that makes it must have it in its `outputs`; write it as ARTIFACT/DIRECTORY",
        ),
        (
            "built/link",
            "error: `params.context` \"built/link\" leads outside of the artifacts of this step\n\
             hint: write it as ARTIFACT or ARTIFACT/PATH",
        ),
        (
            "../etc",
            "error: `params.context` \"../etc\" leads outside of the artifacts of this step\n\
             hint: write it as ARTIFACT or ARTIFACT/PATH",
        ),
    ] {
        let ran = put(&project.source, &artifacts, json!({"source": "repo", "context": context}));
        assert_eq!(error(&ran), expected, "{context}");
    }
}

#[test]
fn args_of_the_params_are_part_of_the_image() {
    let mut project = project("params-args");
    project.source["build"] = json!({"dockerfile": "ci/Dockerfile"});
    let artifacts = project.checkout("master", Some(1));
    write(&artifacts.join("made/args.json"), r#"{"WHAT": "file", "MORE": "1"}"#);
    let plain = project.put(&project.source, "master").succeeds()["version"].clone();
    let mut seen = vec![inputs(&plain).to_owned()];
    for (params, what) in [
        (json!({"source": "repo", "args": {"WHAT": "param"}}), "param\n"),
        (json!({"source": "repo", "args_file": "made/args.json"}), "file\n"),
        (json!({"source": "repo", "args_file": "made/args.json", "args": {"WHAT": "file", "X": "1"}}), "file\n"),
    ] {
        let version = put(&project.source, &artifacts, params.clone()).succeeds()["version"].clone();
        assert!(!seen.contains(&inputs(&version).to_owned()), "{params}");
        seen.push(inputs(&version).to_owned());
        let directory = temporary();
        crate::project::get(&project.source, &version, directory.path(), json!({})).succeeds();
        let text = std::fs::read_to_string(directory.path().join("rootfs/what")).expect("RUN wrote it");
        assert_eq!(text, what, "{params}");
    }
    std::os::unix::fs::symlink("/etc/passwd", artifacts.join("made/link")).expect("a link can be made");
    assert_eq!(
        error(&put(&project.source, &artifacts, json!({"source": "repo", "args_file": "made/link"}))),
        "error: `params.args_file` \"made/link\" leads outside of the artifacts of this step\n\
         hint: write it as ARTIFACT or ARTIFACT/PATH"
    );
    let ran = put(
        &project.source,
        &artifacts,
        json!({"source": "repo", "args_file": "made/args.json", "args": {"WHAT": "param"}}),
    );
    assert_eq!(
        error(&ran),
        "error: WHAT of the build args has another value in line 1 of made/args.json than in `args`\n\
         hint: give it in one of the two"
    );
}
