//! Checkouts as Concourse and tasks leave them: older, newer, dirty, of another owner, hostile.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{content_reference, error, got, put_repo};
use crate::project::{Project, only, put};
use crate::support::git::{Change, file, give_to};
use crate::support::{server, servers, temporary};

const ALL: &str = "FROM scratch\nCOPY src /got/\n";

fn project(name: &'static str, files: &[Change<'_>]) -> Project {
    let mut project = Project::empty(name);
    project.source["build"] = json!({});
    project.git.commit("master", &[&[file("Dockerfile", ALL)], files].concat());
    project
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a file lies in a directory")).expect("a directory can be made");
    std::fs::write(path, text).expect("a file can be written");
}

#[track_caller]
fn config(project: &Project, version: &Value) -> Value {
    let tag = format!("inputs-{}", version["inputs"].as_str().expect("a version has inputs"));
    servers().registry().image_config(project.name, &tag)
}

#[test]
fn a_fresh_checkout_of_another_owner_and_umask_is_no_change_for_the_engine() {
    let project = project(
        "inputs-fresh",
        &[file("src/a", "a"), Change::Executable("src/b", b"b"), Change::Symlink("src/l", "a")],
    );
    let first = project.put(&project.source, "master");
    let version = first.succeeds()["version"].clone();
    assert!(first.stderr.contains("; 2 bytes of the context sent\n"), "{}", first.stderr);
    let before = config(&project, &version);
    let digest = first.succeeds()["metadata"].as_array().and_then(|all| {
        let digest = all.iter().find(|fact| fact["name"] == "digest")?;
        digest["value"].as_str().map(str::to_owned)
    });
    servers().registry().delete(project.name, &digest.expect("put tells the digest"));
    assert_eq!(project.tags(), Vec::<String>::new());

    let artifacts = project.checkout("master", None);
    let repo = artifacts.join("repo");
    server::run(Command::new("chmod").arg("-R").arg("go-rwx").arg(&repo));
    server::run(Command::new("touch").args(["-h", "-d", "2001-02-03"]).arg(repo.join("src/a")).arg(repo.join("src/l")));
    give_to(&artifacts, 1234, 1234);
    let again = put_repo(&project, &artifacts);
    assert_eq!(again.succeeds()["version"], version);
    assert!(again.stderr.contains("; 0 bytes of the context sent\n"), "{}", again.stderr);
    assert_eq!(config(&project, &version), before, "the same image");
}

#[test]
fn build_output_that_git_ignores_is_named_or_counts_by_its_content() {
    let mut project = project("inputs-output", &[file("src/a", "a"), file(".gitignore", "*.o\n")]);
    let artifacts = project.checkout("master", Some(1));
    write(&artifacts.join("repo/src/out/app.o"), "1");
    let head = project.git.id("master");
    let expected = format!(
        "error: the checkout `repo` is not what git has at {head}: not in git: src/out/app.o\n\
         hint: they were made by an earlier task, or git ignores them: commit them, exclude them in .dockerignore, or set `source.only_built: true` so that their content counts\n"
    );
    put_repo(&project, &artifacts).fails_with(&expected);
    project.source["only_built"] = json!(true);
    let clean = project.put(&project.source, "master").succeeds()["version"].clone();
    let ran = put_repo(&project, &artifacts);
    let one = ran.succeeds()["version"].clone();
    assert_eq!(one["ref"], json!(head));
    assert_ne!(one["inputs"], clean["inputs"]);
    assert_eq!(got(&project, &one).get("out/app.o").map(String::as_str), Some("1"));
    assert_eq!(put_repo(&project, &artifacts).succeeds()["version"], one, "the same content is the same image");
    write(&artifacts.join("repo/src/out/app.o"), "2");
    let two = put_repo(&project, &artifacts).succeeds()["version"].clone();
    assert_ne!(two["inputs"], one["inputs"]);
    assert_eq!(got(&project, &two).get("out/app.o").map(String::as_str), Some("2"));
}

#[test]
fn files_that_differ_from_their_commit_are_named() {
    let project =
        project("inputs-dirty", &[file("src/a", "a"), file("src/b", "b"), file("src/c", "c"), file("app", "1")]);
    let artifacts = project.checkout("master", Some(1));
    let repo = artifacts.join("repo");
    write(&repo.join("app"), "not counted");
    write(&repo.join("src/a"), "changed");
    std::fs::remove_file(repo.join("src/b")).expect("it is there");
    std::fs::set_permissions(repo.join("src/c"), std::fs::Permissions::from_mode(0o755)).expect("its mode can change");
    let expected = format!(
        "error: the checkout `repo` is not what git has at {}: changed: src/a, src/c; missing: src/b\n\
         hint: commit the change, or set `source.only_built: true`: then the content of the files as they lie is what the version stands for\n",
        project.git.id("master")
    );
    put_repo(&project, &artifacts).fails_with(&expected);
}

#[test]
fn a_source_that_only_a_task_could_have_made_is_named() {
    let project = project("inputs-made", &[file("srcs/a", "a")]);
    let version = only(&project.check(None));
    let ran = project.put(&project.source, "master");
    let expected = format!(
        "error: cannot build {}: [1/1] COPY src /got/ needs \"src\", which is not in the build context\n\
         hint: check the path and the ignore file; a file that an earlier task made is not in git, so add it to the repository or make it in the Dockerfile",
        content_reference(&project, &version)
    );
    assert_eq!(error(&ran), expected);
}

#[test]
fn line_ends_are_those_of_the_attributes_whoever_lays_the_files_out() {
    let project = project(
        "inputs-crlf",
        &[
            file(".gitattributes", "*.txt text eol=crlf\n*.id ident\n"),
            file("src/a.txt", "one\ntwo\n"),
            file("src/b.id", "$Id$\n"),
            file("src/c", "one\ntwo\n"),
        ],
    );
    let ran = project.put(&project.source, "master");
    let version = ran.succeeds()["version"].clone();
    let found = got(&project, &version);
    assert_eq!(found["a.txt"], "one\r\ntwo\r\n");
    assert_eq!(found["c"], "one\ntwo\n");
    let by_checkout = config(&project, &version);
    let ran = put(&project.source, temporary().path(), json!({"rebuild": true}));
    assert_eq!(ran.succeeds()["version"], version);
    assert_eq!(got(&project, &version), found);
    assert_eq!(config(&project, &version)["rootfs"], by_checkout["rootfs"]);
}

#[test]
fn pointers_of_git_lfs_whose_server_has_none_are_named() {
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 3\n", "ab".repeat(32));
    let project = project(
        "inputs-lfs",
        &[
            file(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n"),
            file("src/a.bin", &pointer),
            file("src/b", "b"),
        ],
    );
    let uri = project.git.uri();
    let expected = format!(
        "error: the build reads files of git-lfs that cannot be had: src/a.bin\n\
         cause: the LFS server of 127.0.0.1/inputs-lfs answered POST {uri}/info/lfs/objects/batch with 404\n\
         hint: the server has no LFS at this place: get the repository with git-lfs and name that artifact in `params.source`"
    );
    assert_eq!(error(&project.put(&project.source, "master")), expected);
    assert_eq!(error(&put(&project.source, temporary().path(), json!({}))), expected);
}

#[test]
fn a_hostile_checkout_runs_nothing() {
    let project =
        project("inputs-hostile", &[file("src/a", "a"), file(".gitattributes", "* filter=evil diff=evil text\n")]);
    let artifacts = project.checkout("master", Some(1));
    let git = artifacts.join("repo/.git");
    let canary = artifacts.join("canary");
    let script = artifacts.join("evil");
    write(&script, &format!("#!/bin/sh\necho \"$0 $*\" >> {}\n", canary.display()));
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("its mode can change");
    let evil = script.display();
    let config = format!(
        "[core]\n\trepositoryformatversion = 0\n\tfsmonitor = {evil}\n\tsshCommand = {evil}\n\tgitProxy = {evil}\n\tpager = {evil}\n\
         \teditor = {evil}\n\taskPass = {evil}\n\thooksPath = {hooks}\n\talternateRefsCommand = {evil}\n\
         [filter \"evil\"]\n\tclean = {evil}\n\tsmudge = {evil}\n\tprocess = {evil}\n\trequired\n\
         [diff \"evil\"]\n\ttextconv = {evil}\n\tcommand = {evil}\n[diff]\n\texternal = {evil}\n[credential]\n\thelper = {evil}\n\
         [uploadpack]\n\tpackObjectsHook = {evil}\n[remote \"origin\"]\n\turl = ext::{evil}\n\tuploadpack = {evil}\n\tpromisor = true\n\
         [extensions]\n\tpartialClone = origin\n[protocol \"ext\"]\n\tallow = always\n[gpg]\n\tprogram = {evil}\n",
        hooks = git.join("hooks").display()
    );
    write(&git.join("config"), &config);
    write(&git.join("info/attributes"), "* filter=evil diff=evil\n");
    for hook in ["post-checkout", "post-index-change", "reference-transaction", "pre-auto-gc", "fsmonitor-watchman"] {
        let path = git.join("hooks").join(hook);
        let _ = std::fs::remove_file(&path);
        std::os::unix::fs::symlink(&script, path).expect("a link can be made");
    }
    give_to(&artifacts, 1234, 1234);
    let ran = put_repo(&project, &artifacts);
    let version = ran.succeeds()["version"].clone();
    assert_eq!(version, only(&project.check(None)));
    let ran_by = std::fs::read_to_string(&canary).unwrap_or_default();
    assert_eq!(ran_by, "", "{}", ran.stderr);

    write(&git.join("objects/info/alternates"), "/etc\n");
    let expected = format!(
        "error: the checkout {} keeps its objects elsewhere (objects/info/alternates)\n\
         hint: clone without --shared and --reference, or with --dissociate",
        artifacts.join("repo").display()
    );
    assert_eq!(error(&put_repo(&project, &artifacts)), expected);
    assert!(!canary.exists());
}

#[test]
fn an_ignore_file_that_is_a_link_is_refused() {
    let project = project(
        "inputs-ignore-link",
        &[file("src/a", "a"), file("rules", "src/b\n"), Change::Symlink(".dockerignore", "rules")],
    );
    let expected = "error: the ignore file .dockerignore is a symlink\n\
                    hint: make it a regular file; a Dockerfile can have rules of its own in <Dockerfile>.dockerignore";
    assert_eq!(error(&project.put(&project.source, "master")), expected);
    assert_eq!(error(&project.check(None)), expected);
}

#[test]
fn a_repository_that_a_task_cloned_into_the_checkout_is_named_or_counts_by_its_files() {
    let mut project = project("inputs-nested", &[file("src/a", "a")]);
    let artifacts = project.checkout("master", Some(1));
    project.git.checkout(&artifacts.join("repo/src/nested"), "master", None);
    let expected = format!(
        "error: the checkout `repo` is not what git has at {}: not in git: src/nested\n\
         hint: they were made by an earlier task, or git ignores them: commit them, exclude them in .dockerignore, or set `source.only_built: true` so that their content counts",
        project.git.id("master")
    );
    assert_eq!(error(&put_repo(&project, &artifacts)), expected);
    project.source["only_built"] = json!(true);
    let version = put_repo(&project, &artifacts).succeeds()["version"].clone();
    let found: Vec<String> = got(&project, &version).into_keys().collect();
    assert_eq!(found, ["a", "nested/Dockerfile", "nested/src/a"]);
}
