//! Tags, names and versions that a put may not have.

use serde_json::json;

use super::{ends_with, put_tip};
use crate::project::{Project, check, only, put};
use crate::support::git::file;
use crate::support::{servers, temporary};

const KNOWN: &str = "known are {ref}, {commit}, {short}, {branch}, {version}, $BUILD_ID, $BUILD_JOB_ID, $BUILD_JOB_NAME, \
    $BUILD_NAME, $BUILD_PIPELINE_ID, $BUILD_PIPELINE_NAME, $BUILD_TEAM_ID, $BUILD_TEAM_NAME, $BUILD_URL, $BUILD_URL_SHORT";

#[test]
fn a_tag_of_the_user_that_cannot_be_made_is_refused_before_the_build() {
    let project = Project::new("errors-tags");
    for (tag, words) in [
        ("{brunch}", "the tag \"{brunch}\" has the unknown placeholder {brunch}\nhint: KNOWN"),
        ("$BUILD_NUMBER", "the tag \"$BUILD_NUMBER\" has the unknown placeholder $BUILD_NUMBER\nhint: KNOWN"),
        (
            "{version}",
            "the tag \"{version}\" needs a version, and there is none\nhint: give `params.version`, or VERSION in the file that `source.build.details` names",
        ),
        (
            "a{b",
            "the tag \"a{b\" has a brace without its other half\nhint: placeholders are written {branch} or ${BUILD_ID}; a tag itself has no braces",
        ),
        ("-x", "tag \"-x\" has '-' at position 0, which is not allowed there"),
        ("", "tag \"\" is empty"),
        (
            "v1-latest",
            "the tag v1-latest has a form that only this resource writes\nhint: give another name: `inputs-<64 hex>`, `<40 hex>`, `…-latest`, `cache-<8 hex>-…` and `_reaper…` are set by the resource itself",
        ),
    ] {
        let cause = words.replace("KNOWN", KNOWN);
        let words = format!("error: `params.tags[1]` gives no tag\ncause: {cause}\n");
        ends_with(&put(&project.source, temporary().path(), json!({"tags": ["ok", tag]})), &words);
    }
    assert_eq!(project.tags(), [""; 0]);
}

#[test]
fn a_version_that_is_taken_is_refused_before_the_build() {
    let project = Project::new("errors-taken");
    project.git.commit("master", &[file("ci/image/image.details", "VERSION=1.0\n")]);
    let source = project.source_with(&[("/build/details", json!("ci/image/image.details"))]);
    let first = put_tip(&source).succeeds();
    project.git.commit("master", &[file("ci/image/tool.sh", "echo 2\n")]);
    let ran = put_tip(&source);
    let ours = only(&check(&source, None));
    ends_with(
        &ran,
        &format!(
            "error: VERSION 1.0 is taken: {repository}:1.0 is an image of other inputs\n\
             hint: a version is never moved: change VERSION in `ci/image/image.details` (its inputs: {theirs}; yours: {ours})\n",
            repository = servers().registry().repository(project.name),
            theirs = first["version"]["inputs"].as_str().expect("a text"),
            ours = ours["inputs"].as_str().expect("a text"),
        ),
    );
    assert!(!ran.stderr.contains("engine:"), "nothing was built:\n{}", ran.stderr);
}

#[test]
fn a_name_that_disagrees_or_is_missing_is_refused() {
    let project = Project::new("errors-name");
    project.git.commit("master", &[file("ci/image/image.details", "NAME=other\n")]);
    let source = project.source_with(&[("/build/details", json!("ci/image/image.details"))]);
    ends_with(
        &put_tip(&source),
        &format!(
            "error: NAME in `ci/image/image.details` is other, but the repository is {}\n\
             hint: make them agree, or let `source.registry.repository` end in '/' so that NAME is its last part\n",
            servers().registry().repository(project.name)
        ),
    );
    let beginning = servers().registry().repository("errors-name/");
    ends_with(
        &put_tip(&project.source_with(&[("/registry/repository", json!(beginning))])),
        "error: `source.registry.repository` ends in '/', and no NAME completes it\n\
         hint: name a file with NAME=… in `source.build.details`, or give the whole repository\n",
    );
    let missing = project.source_with(&[("/build/details", json!("ci/image/details"))]);
    ends_with(
        &put_tip(&missing),
        "error: there is no file of details at ci/image/details\n\
         hint: commit the file, or take `source.build.details` out\n",
    );
    project.git.commit("master", &[file("ci/image/image.details", "NAME other\n")]);
    ends_with(
        &put_tip(&source),
        "error: cannot read the details in ci/image/image.details\n\
         cause: line 1 has no '=': \"NAME other\"\n\
         hint: it is made of KEY=value lines; NAME and VERSION are ours, every other key becomes a label\n",
    );
}

#[test]
fn a_tag_of_another_git_repository_is_not_moved_and_nothing_is_built_for_it() {
    let (project, other) = (Project::new("errors-foreign"), Project::new("errors-foreign-other"));
    put_tip(&project.source).succeeds();
    other.git.commit("master", &[file("ci/image/tool.sh", "echo other\n")]);
    let source = other.source_with(&[("/registry", project.source["registry"].clone())]);
    let before = project.digest("master-latest");
    let tags = project.tags();
    let ran = put_tip(&source);
    ends_with(
        &ran,
        &format!(
            "error: tag master-latest of {} belongs to another git repository, 127.0.0.1/errors-foreign\n\
             hint: this resource is 127.0.0.1/errors-foreign-other; give each of the two repositories its own `source.registry.tag_prefix`\n",
            servers().registry().repository(project.name)
        ),
    );
    assert!(!ran.stderr.contains("engine:"), "nothing was built:\n{}", ran.stderr);
    assert_eq!(project.tags(), tags);
    assert_eq!(project.digest("master-latest"), before);
}
