//! When nothing is removed, and what is said then.

use serde_json::{Value, json};

use super::{after_a_branch, apply, on, plan};
use crate::project::Project;
use crate::support::git::{GitServer, Options, file};
use crate::support::image;
use crate::support::program::{Program, Ran};
use crate::support::registry::{self, Deletion, Registry};
use crate::support::{servers, temporary};

/// What is said before git is asked.
fn reading(repository: &str, git: &str) -> String {
    format!("reading the tags of {repository}\nreading the branches and the history of {git}\n")
}

/// Runs plan and apply; both fail with this, and nothing of the registry is changed.
#[track_caller]
fn is_refused(project: &Project, source: &Value, message: &str) {
    let before = project.tags();
    let repository = servers().registry().repository(project.name);
    let git = format!("127.0.0.1/{}", project.name);
    for ran in [plan(source, &[]), apply(source)] {
        ran.fails_with(&format!("{}{message}\n", reading(&repository, &git)));
    }
    assert_eq!(project.tags(), before);
}

#[test]
fn a_repository_without_branches_is_refused() {
    let (project, _) = after_a_branch("reap-no-branches");
    project.git.delete("master");
    project.git.delete("plain");
    let repository = servers().registry().repository(project.name);
    is_refused(
        &project,
        &project.source,
        &format!(
            "error: refused to reap {repository}\n\
             cause: git repository 127.0.0.1/reap-no-branches has no branches, so every image would look dead\n\
             hint: see that `source.git.uri` names the right repository"
        ),
    );
}

#[test]
fn a_repository_without_its_default_branch_is_refused() {
    let (project, _) = after_a_branch("reap-no-default");
    project.git.delete("master");
    let repository = servers().registry().repository(project.name);
    is_refused(
        &project,
        &on(&project, "plain"),
        &format!(
            "error: refused to reap {repository}\n\
             cause: the default branch of git repository 127.0.0.1/reap-no-default is missing\n\
             hint: HEAD of the remote names no branch; set the default branch on the git server"
        ),
    );
}

#[test]
fn a_source_whose_branch_is_gone_is_refused() {
    let (project, _) = after_a_branch("reap-branch-gone");
    let repository = servers().registry().repository(project.name);
    is_refused(
        &project,
        &on(&project, "feat/foo"),
        &format!(
            "error: refused to reap {repository}\n\
             cause: git repository 127.0.0.1/reap-branch-gone has no branch feat/foo, which `source.git.branch` names\n\
             hint: reap judges every branch: leave `source.git.branch` out, or name one that lives"
        ),
    );
}

#[test]
fn a_server_with_half_of_the_history_is_refused() {
    let (project, _) = after_a_branch("reap-shallow");
    project.git.commit("master", &[file("app.sh", "echo app 2\n")]);
    let tip = project.git.id("master");
    std::fs::write(project.git.path().join("shallow"), format!("{tip}\n")).expect("the repository is writable");
    let repository = servers().registry().repository(project.name);
    is_refused(
        &project,
        &project.source,
        &format!(
            "error: refused to reap {repository}\n\
             cause: git repository 127.0.0.1/reap-shallow gave a shallow history, in which living commits look dead\n\
             hint: see that `source.git.uri` is not itself a shallow clone"
        ),
    );
}

#[test]
fn nothing_is_removed_when_git_does_not_answer() {
    let project = Project::new("reap-no-git");
    project.put(&project.source, "master").succeeds();
    let server = GitServer::start(Options::default());
    let uri = server.uri("away");
    server.stop();
    let ran = apply(&project.source_with(&[("/git/uri", json!(uri))]));
    assert_eq!(ran.code, Some(1));
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains("error: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: "), "{}", ran.stderr);
    assert_eq!(project.tags().len(), 3);
}

#[test]
fn more_than_max_delete_is_shown_and_refused() {
    let (project, dead) = after_a_branch("reap-max-delete");
    let before = project.tags();
    let ran = plan(&project.source, &["--max-delete", "4", "--apply"]);
    let repository = servers().registry().repository(project.name);
    assert_eq!(
        ran.stderr,
        format!(
            "{}error: refused to reap {repository}\n\
             cause: the plan removes 5 of 9 tags, more than the 4 of --max-delete\n\
             hint: read the plan; if it is right, allow it with --max-delete 5\n",
            reading(&repository, "127.0.0.1/reap-max-delete")
        )
    );
    assert!(
        ran.stdout.ends_with(
            "limits   exceeded, --apply would refuse: the plan removes 5 of 9 tags, more than the 4 of --max-delete\n"
        ),
        "{}",
        ran.stdout
    );
    assert_eq!(ran.code, Some(1));
    assert_eq!(project.tags(), before);
    let ran = plan(&project.source, &["--max-delete", "5", "--apply"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(project.tags().len(), before.len() - dead.len());
}

#[test]
fn a_registry_that_does_not_delete_is_left_as_it_is() {
    let registry = Registry::start(registry::Options { deletion: Deletion::Disabled, ..Default::default() });
    let project = Project::new("reap-deletes-disabled");
    let source = super::access::source(&project, &registry);
    super::access::push(&project, &source, &registry, None);
    let before = registry.tags("acme/app");
    let ran = apply(&source);
    let repository = registry.repository("acme/app");
    assert_eq!(
        ran.stderr,
        format!(
            "{}error: cannot remove tags from {repository}: the registry does not allow deletes\n\
             hint: allow them: in distribution's registry, `storage.delete.enabled: true`\n",
            reading(&repository, "127.0.0.1/reap-deletes-disabled")
        )
    );
    assert_eq!(ran.code, Some(1));
    assert_eq!(registry.tags("acme/app"), before);
    let requests = registry.requests_for("acme/app");
    assert!(!requests.iter().any(|request| request.contains("_reaper")), "no probe was made: {requests:#?}");
}

#[test]
fn a_dead_tag_is_in_grace_until_the_user_says_otherwise() {
    let (project, dead) = after_a_branch("reap-grace");
    let ran = Program::git_image(["reap", "--source", "-"]).run(&project.source);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(super::tags(&ran.stdout, "GRACE"), dead);
    assert!(ran.stdout.contains("grace    24h: the clock of every dead tag starts with the first --apply\n"));
}

#[test]
fn a_source_that_is_none_is_refused_and_the_message_says_where_it_came_from() {
    let directory = temporary();
    let missing = directory.path().join("source.json");
    let missing = missing.to_str().expect("the path is text");
    let run = |source: &str, text: &str| -> Ran { Program::git_image(["reap", "--source", source]).run_text(text) };
    run(missing, "").fails_with(&format!(
        "error: cannot read {missing}\n\
         cause: No such file or directory (os error 2)\n"
    ));
    let ran = run("-", "registry: {}");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
}

#[test]
fn a_file_is_read_like_stdin() {
    let project = Project::new("reap-file");
    project.put(&project.source, "master").succeeds();
    let directory = temporary();
    let file = directory.path().join("source.json");
    std::fs::write(&file, project.source.to_string()).expect("the directory is writable");
    let ran = Program::git_image(["reap", "--source", file.to_str().expect("the path is text")]).run_text("");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(ran.stdout, plan_without_grace(&project));
}

fn plan_without_grace(project: &Project) -> String {
    Program::git_image(["reap", "--source", "-"]).run(&project.source).stdout
}

#[test]
fn wrong_usage_ends_with_2() {
    for arguments in
        [&["reap"][..], &["reap", "--source", "-", "--grace", "1w"], &["reap", "--source", "-", "--max-delete", "x"]]
    {
        let ran = Program::git_image(arguments.iter().copied()).run_text("");
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{arguments:?}: {}", ran.stderr);
    }
}

#[test]
fn an_artifact_that_is_no_image_is_foreign_and_stops_nothing() {
    let (project, dead) = after_a_branch("reap-artifact");
    let registry = servers().registry();
    let chart = registry.put_blob(project.name, b"not JSON");
    let artifact = json!({
        "schemaVersion": 2, "mediaType": image::OCI_MANIFEST, "layers": [],
        "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": chart, "size": 8},
    });
    registry.put_manifest(project.name, "chart-latest", image::OCI_MANIFEST, artifact.to_string().as_bytes());
    let ran = apply(&project.source);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(super::lines(&ran.stdout, "FOREIGN"), [("chart-latest", "the image has no label git-image.repository")]);
    assert_eq!(super::tags(&ran.stdout, "REMOVE"), dead);
    assert!(project.tags().contains(&"chart-latest".to_owned()));
}
