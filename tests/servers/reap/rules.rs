//! The user's own rules, with a real registry and a real history.

use serde_json::{Value, json};

use super::{after_a_branch, apply, lines, plan, tag, tags};
use crate::project::Project;
use crate::support::git::file;
use crate::support::temporary;

/// The source with rules for the reaper.
fn with(project: &Project, rules: Value) -> Value {
    project.source_with(&[("/reap", rules)])
}

#[test]
fn the_last_images_of_a_branch_stay_and_older_ones_go() {
    let project = Project::new("reap-keep-last");
    let mut versions = vec![project.put(&project.source, "master").succeeds()["version"].clone()];
    for tool in 2..=4 {
        project.git.commit("master", &[file("ci/image/tool.sh", &format!("echo tool {tool}\n"))]);
        versions.push(project.put(&project.source, "master").succeeds()["version"].clone());
    }
    let commit = |version: &Value| version["ref"].as_str().expect("a version has texts").to_owned();
    let content = |version: &Value| format!("inputs-{}", version["inputs"].as_str().expect("a version has texts"));
    project.git.git(&["update-ref", "refs/tags/v1", &commit(&versions[0])]);
    let ran = apply(&with(&project, json!({"keep_last": 2})));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let mut gone = vec![commit(&versions[1]), content(&versions[1])];
    gone.sort();
    assert_eq!(tags(&ran.stdout, "REMOVE"), gone);
    let reasons = lines(&ran.stdout, "KEEP");
    for (version, reason) in [
        (&versions[0], "the image of git tag v1"),
        (&versions[2], "one of the last 2 images of branch master"),
        (&versions[3], "the newest image of branch master"),
    ] {
        assert!(reasons.contains(&(commit(version).as_str(), reason)), "{}", ran.stdout);
        assert!(project.tags().contains(&content(version)), "{}", ran.stdout);
    }
    for version in [&versions[0], &versions[2], &versions[3]] {
        project.get(version, json!({})).1.succeeds();
    }
}

#[test]
fn protected_tags_stay_and_users_tags_go_with_their_branch() {
    let (project, dead) = after_a_branch("reap-users-tags");
    tag(&project, "feat-foo-d8e70cfd-latest", "feat-foo-d8e70cfd-debug");
    tag(&project, "feat-foo-d8e70cfd-latest", "feat-bar-debug");
    tag(&project, "master-latest", "master-debug");
    let ran = apply(&with(&project, json!({"protected": ["feat-bar*"], "branch_tags": ["{branch}-debug"]})));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(lines(&ran.stdout, "KEEP").contains(&("master-debug", "branch master is there")), "{}", ran.stdout);
    assert!(lines(&ran.stdout, "KEEP").contains(&("feat-bar-debug", "protected by \"feat-bar*\"")), "{}", ran.stdout);
    let removed = tags(&ran.stdout, "REMOVE");
    assert!(removed.contains(&"feat-foo-d8e70cfd-debug"), "{}", ran.stdout);
    // The content tag of what is protected stays.
    assert_eq!(removed.len(), dead.len(), "{}", ran.stdout);
    assert!(project.digest("feat-bar-debug").is_some());
}

#[test]
fn the_plan_is_written_as_json_and_as_a_page_with_sizes() {
    let (project, dead) = after_a_branch("reap-page");
    let directory = temporary();
    let file = directory.path().join("plan.html");
    let ran = plan(&project.source, &["--json", "--html", file.to_str().expect("the path is text")]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let json: Value = serde_json::from_str(&ran.stdout).expect("stdout is one JSON object");
    let removed = json["tags"].as_array().expect("it has tags").iter().filter(|row| row["verdict"] == "remove");
    assert_eq!(removed.map(|row| row["tag"].as_str().expect("a text")).collect::<Vec<_>>(), dead);
    let page = std::fs::read_to_string(&file).expect("the page was written");
    let master = page.split_once("<bdi>master</bdi>").and_then(|(_, rest)| rest.split_once("</p>"));
    let (master, _) = master.expect("master has a row");
    // The layers of the base image.
    assert!(master.contains(" others need too"), "{page}");
    assert!(page.contains("<bdi>feat-foo-d8e70cfd (gone)</bdi>"), "{page}");
    assert!(
        page.contains(&format!(
            "<strong>{} of {} tags go</strong>, up to ",
            dead.len(),
            json["tags"].as_array().map_or(0, Vec::len)
        )),
        "{page}"
    );

    let nowhere = directory.path().join("no/plan.html");
    let nowhere = nowhere.to_str().expect("the path is text");
    let ran = plan(&project.source, &["--html", nowhere]);
    let error = ran.stderr.split_once("error: ").map_or("", |(_, error)| error);
    assert_eq!(error, format!("cannot write the page to {nowhere}\ncause: No such file or directory (os error 2)\n"));
    assert_eq!(ran.code, Some(1));
}
