//! check, against a real git server.

use serde_json::{Value, json};

use crate::project::{Project, check, only};
use crate::support::git::{Change, file};
use crate::support::program::Program;
use crate::support::servers;

fn refs(answer: &Value) -> Vec<&str> {
    answer
        .as_array()
        .expect("check answers a list")
        .iter()
        .map(|version| version["ref"].as_str().expect("a ref is a text"))
        .collect()
}

#[test]
fn the_first_check_answers_the_commit_that_brought_the_inputs() {
    let project = Project::new("check-first");
    let brought = project.git.id("master");
    project.git.commit("master", &[file("app.sh", "echo app 2\n")]);
    project.git.commit("master", &[file("README", "words\n")]);
    let version = only(&project.check(None));
    assert_eq!(version["ref"], json!(brought));
    assert_eq!(version["inputs"].as_str().map(str::len), Some(64));
}

#[test]
fn a_commit_that_touches_only_the_application_is_no_new_version() {
    let project = Project::new("check-application");
    let version = only(&project.check(None));
    project.git.commit("master", &[file("app.sh", "echo app 2\n")]);
    assert_eq!(only(&project.check(Some(&version))), version);
}

#[test]
fn every_version_after_the_given_one_is_answered_oldest_first_and_the_given_one_before_them() {
    let project = Project::new("check-several");
    let given = only(&project.check(None));
    let second = project.git.commit("master", &[file("ci/image/tool.sh", "echo tool 2\n")]);
    project.git.commit("master", &[file("app.sh", "echo app 2\n")]);
    let third = project.git.commit("master", &[file("ci/image/tool.sh", "echo tool 3\n")]);
    let answer = project.check(Some(&given)).succeeds();
    assert_eq!(refs(&answer), [given["ref"].as_str().expect("a text"), &second, &third]);
}

#[test]
fn a_revert_is_a_new_version_with_the_old_inputs() {
    let project = Project::new("check-revert");
    let first = only(&project.check(None));
    project.git.commit("master", &[file("ci/image/tool.sh", "echo tool 2\n")]);
    let reverted = project.git.revert("master");
    let answer = project.check(Some(&first)).succeeds();
    let newest = answer.as_array().and_then(|versions| versions.last()).expect("there is a version");
    assert_eq!((&newest["ref"], &newest["inputs"]), (&json!(reverted), &first["inputs"]));
}

#[test]
fn a_given_version_that_a_force_push_removed_is_answered_by_the_newest_alone() {
    let project = Project::new("check-force");
    let begin = project.git.id("master");
    project.git.commit("master", &[file("ci/image/tool.sh", "echo tool 2\n")]);
    let lost = only(&project.check(None));
    project.git.set("master", &begin);
    let other = project.git.commit("master", &[file("ci/image/tool.sh", "echo tool 3\n")]);
    let ran = project.check(Some(&lost));
    assert_eq!(refs(&ran.succeeds()), [other.as_str()]);
    assert!(ran.stderr.contains("force push"), "the log says so:\n{}", ran.stderr);
}

#[test]
fn a_check_with_nothing_new_is_one_request() {
    let project = Project::new("check-quiet");
    let version = only(&project.check(None));
    let before = servers().git().requests_for("check-quiet").len();
    assert_eq!(only(&project.check(Some(&version))), version);
    let requests = servers().git().requests_for("check-quiet").split_off(before);
    assert_eq!(requests, ["POST /check-quiet.git/git-upload-pack HTTP/1.1 200"]);
}

#[test]
fn a_cache_that_is_damaged_half_written_or_gone_is_made_anew() {
    let project = Project::new("check-cache");
    // A temporary directory of its own: the caches of other tests are theirs.
    let temporary = crate::support::temporary();
    let check = |version: Option<&Value>| {
        let request = json!({"source": project.source, "version": version});
        only(&Program::check().environment("TMPDIR", temporary.path()).run(&request))
    };
    let version = check(None);
    let caches = || {
        let entries = std::fs::read_dir(temporary.path()).expect("the temporary directory is there").flatten();
        let caches: Vec<_> =
            entries.map(|entry| entry.path()).filter(|path| path.join("repository").exists()).collect();
        assert_eq!(caches.len(), 1, "check keeps one cache");
        caches
    };
    for damage in ["objects", "HEAD", "config", "../seen.json", "shallow"] {
        for cache in caches() {
            let path = cache.join("repository").join(damage);
            if path.is_dir() {
                std::fs::remove_dir_all(path).expect("the cache is ours");
            } else {
                std::fs::write(path, "rubbish").expect("the cache is ours");
            }
        }
        project.git.commit("master", &[file("app.sh", damage)]);
        assert_eq!(check(Some(&version)), version, "after damage of {damage}");
    }
}

#[test]
fn a_branch_that_is_not_there_is_an_error_and_no_empty_answer() {
    let project = Project::new("check-branch");
    check(&project.source_with(&[("/git/branch", json!("feat/none"))]), None).fails_with(
        "error: no branch `feat/none` in 127.0.0.1/check-branch\n\
         hint: check `source.git.branch`; was the branch pushed, or deleted? Upper and lower case differ\n",
    );
}

#[test]
fn ci_skip_hides_the_end_of_the_branch_unless_it_is_disabled() {
    let project = Project::new("check-ci-skip");
    let first = project.git.id("master");
    let skipped =
        project.git.commit_with_message("master", "try this [ci skip]", &[file("ci/image/tool.sh", "echo 2\n")]);
    assert_eq!(only(&project.check(None))["ref"], json!(first));
    let all = project.source_with(&[("/git/disable_ci_skip", json!(true))]);
    assert_eq!(only(&check(&all, None))["ref"], json!(skipped));
}

#[test]
fn version_depth_is_how_many_versions_the_first_check_answers() {
    let project = Project::new("check-depth");
    let ids: Vec<String> = (2..6)
        .map(|number| project.git.commit("master", &[file("ci/image/tool.sh", &format!("echo {number}\n"))]))
        .collect();
    let source = project.source_with(&[("/git/version_depth", json!(3))]);
    assert_eq!(refs(&check(&source, None).succeeds()), ids[1..]);
}

#[test]
fn the_default_branch_is_followed_when_none_is_named() {
    let project = Project::new("check-default");
    let source = project.source_with(&[("/git", json!({"uri": project.git.uri()}))]);
    assert_eq!(only(&check(&source, None))["ref"], json!(project.git.id("master")));
}

#[test]
fn a_server_that_refuses_partial_clones_is_no_obstacle() {
    use crate::support::git::{Filters, GitServer, Options};
    let server = GitServer::start(Options { filters: Filters::Refused, ..Options::default() });
    let git = server.repository("plain");
    let id = git.commit(
        "master",
        &[
            file("ci/image/Dockerfile", "FROM scratch\nCOPY tool.sh /\n"),
            file("ci/image/tool.sh", "x\n"),
            Change::Write("large", &[7; 1000]),
        ],
    );
    let source = json!({
        "git": {"uri": git.uri(), "branch": "master"},
        "registry": {"repository": "127.0.0.1:1/none"},
        "build": {"context": "ci/image"},
    });
    assert_eq!(only(&check(&source, None))["ref"], json!(id));
}

#[test]
fn only_built_announces_no_version_whose_image_is_not_in_the_registry() {
    let project = Project::new("check-only-built");
    let source = project.source_with(&[("/only_built", json!(true))]);
    assert_eq!(check(&source, None).succeeds(), json!([]));
}
