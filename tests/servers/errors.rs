//! Errors of check, in and out with real servers: the whole of what a user reads.

mod disk;
mod engine;
mod git;
mod registry;
mod tags;

use std::path::Path;

use serde_json::{Value, json};

use crate::project::{Project, only, put};
use crate::support::git::{Change, file};
use crate::support::program::Ran;
use crate::support::{servers, temporary};

/// Fails the test unless the program ended with 1, printed nothing on stdout, and its last words are these.
#[track_caller]
pub fn ends_with(ran: &Ran, words: &str) {
    let begin = if ran.stderr.starts_with("error: ") { Some(0) } else { ran.stderr.find("\nerror: ").map(|at| at + 1) };
    let begin = begin.unwrap_or_else(|| panic!("there is no error:\n{}", ran.stderr));
    assert_eq!(&ran.stderr[begin..], words, "the whole log:\n{}", ran.stderr);
    assert_eq!((ran.stdout.as_str(), ran.code), ("", Some(1)));
}

/// Puts the branch's tip, without an artifact.
#[track_caller]
fn put_tip(source: &Value) -> Ran {
    put(source, temporary().path(), json!({}))
}

/// The reference in an error, from its repository on: its digest is another one in every run, as ports are.
#[track_caller]
pub fn reference(ran: &Ran, repository: &str) -> String {
    let beginning = format!("{repository}:inputs-");
    let at = ran.stderr.find(&beginning).unwrap_or_else(|| panic!("no {beginning}:\n{}", ran.stderr));
    ran.stderr[at..at + beginning.len() + 64].to_owned()
}

/// The names of what is in a directory, sorted.
fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("the directory is there");
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn an_image_that_nobody_has_built_is_an_error_that_says_who_makes_it() {
    let project = Project::new("errors-not-built");
    let version = only(&project.check(None));
    let (directory, ran) = project.get(&version, json!({}));
    let inputs = version["inputs"].as_str().expect("a text");
    ran.fails_with(&format!(
        "error: there is no image of this version yet: {} has no tag inputs-{inputs}\n\
         hint: the put of this resource makes it. A job that does not build it needs `passed` on this get, naming the \
         job that does, or `source.only_built: true` on a resource that only uses the image\n",
        servers().registry().repository(project.name)
    ));
    assert_eq!(names(&directory), [""; 0]);
    let (directory, ran) = project.get(&version, json!({"skip_download": true}));
    assert_eq!(ran.succeeds()["version"], version);
    assert_eq!(names(&directory), ["branch", "inputs", "labels.json", "ref", "repository", "tag"]);
}

#[test]
fn a_version_of_another_repository_is_an_error_that_names_the_commit() {
    let (project, other) = (Project::new("errors-version"), Project::empty("errors-version-other"));
    other.git.commit("master", &[file("ci/image/Dockerfile", "FROM scratch\nLABEL a=b\n")]);
    let version = only(&other.check(None));
    let (directory, ran) = project.get(&version, json!({"skip_download": true, "source": true}));
    ends_with(
        &ran,
        &format!(
            "error: the git server of 127.0.0.1/errors-version does not have what was asked for\n\
             cause: fatal: remote error: upload-pack: not our ref {}\n\
             hint: a force push may have removed it, or it is of another repository than `source.git.uri`; use a newer version, or a new checkout\n",
            version["ref"].as_str().expect("a text")
        ),
    );
    assert_eq!(names(&directory), [""; 0]);
}

#[test]
fn an_artifact_that_is_not_there_is_named_with_those_that_are() {
    let project = Project::new("errors-artifact");
    let artifacts = project.checkout("master", Some(1));
    put(&project.source, &artifacts, json!({"source": "rpeo"})).fails_with(
        "error: there is no artifact `rpeo` in this step\n\
         hint: there is `repo`. Concourse brings the artifacts that `inputs` of the put names, or without it those whose name begins a param; a get must have run before under the name `rpeo`\n",
    );
    put(&project.source, temporary().path(), json!({"source": "repo"})).fails_with(
        "error: there is no artifact `repo` in this step\n\
         hint: there is nothing. Concourse brings the artifacts that `inputs` of the put names, or without it those whose name begins a param; a get must have run before under the name `repo`\n",
    );
}

#[test]
fn an_artifact_that_is_no_checkout_is_refused() {
    let project = Project::new("errors-no-checkout");
    let artifacts = temporary();
    std::fs::create_dir(artifacts.path().join("repo")).expect("a directory can be made");
    put(&project.source, artifacts.path(), json!({"source": "repo"})).fails_with(&format!(
        "error: {}/repo is no git checkout: it has no .git\n\
         hint: `params.source` must name the artifact of a git resource, or a task's output that is a whole checkout with its .git\n",
        artifacts.path().display()
    ));
}

#[test]
fn a_path_that_leaves_the_artifacts_is_refused() {
    let project = Project::new("errors-outside");
    let artifacts = project.checkout("master", Some(1));
    put(&project.source, &artifacts, json!({"source": "../repo"})).fails_with(
        "error: `params.source` \"../repo\" leads outside of the artifacts of this step\n\
         hint: write it as ARTIFACT or ARTIFACT/PATH\n",
    );
    let ran = put(&project.source, &artifacts, json!({"source": "repo", "additional_tags": "/etc/passwd"}));
    ends_with(
        &ran,
        "error: `params.additional_tags` \"/etc/passwd\" leads outside of the artifacts of this step\n\
         hint: write it as ARTIFACT or ARTIFACT/PATH\n",
    );
    let ran = put(&project.source, &artifacts, json!({"source": "repo", "additional_tags": "repo/tags"}));
    ends_with(
        &ran,
        &format!(
            "error: cannot read `params.additional_tags` from {}/repo/tags\n\
             cause: No such file or directory (os error 2)\n",
            artifacts.display()
        ),
    );
}

#[test]
fn a_checkout_that_differs_from_its_commit_is_refused_and_the_files_are_named() {
    let project = Project::new("errors-differs");
    let artifacts = project.checkout("master", Some(1));
    std::fs::write(artifacts.join("repo/ci/image/tool.sh"), "echo changed\n").expect("the checkout can be written");
    let ran = put(&project.source, &artifacts, json!({"source": "repo"}));
    ends_with(
        &ran,
        &format!(
            "error: the checkout `repo` is not what git has at {}: changed: ci/image/tool.sh\n\
             hint: commit the change, or set `source.only_built: true`: then the content of the files as they lie is what the version stands for\n",
            project.git.id("master")
        ),
    );
    assert_eq!(project.tags(), [""; 0]);
}

#[test]
fn a_missing_dockerfile_is_named_by_check_and_by_out() {
    let project = Project::empty("errors-no-dockerfile");
    project.git.commit("master", &[file("app.sh", "x\n"), Change::Write("docker/Dockerfile", b"FROM scratch\n")]);
    let words = |path: &str| {
        format!(
            "error: there is no Dockerfile at {path}\n\
             hint: say where it is with `source.build.dockerfile`, or `source.build.context` for its directory; there is one at docker/Dockerfile\n"
        )
    };
    ends_with(&project.check(None), &words("ci/image/Dockerfile"));
    ends_with(&put_tip(&project.source), &words("ci/image/Dockerfile"));
    let named = project.source_with(&[("/build", json!({"dockerfile": "docker/Dockerfil"}))]);
    ends_with(&crate::project::check(&named, None), &words("docker/Dockerfil"));
    ends_with(&put_tip(&named), &words("docker/Dockerfil"));
}
