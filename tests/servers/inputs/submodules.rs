//! Submodules: counted by their commit, taken from the checkout or fetched.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{error, got, put_repo};
use crate::project::{Project, only, put};
use crate::support::git::{Change, GitRepository, GitServer, Options, Passphrase, SshServer, file};
use crate::support::registry::Account;
use crate::support::{server, servers, temporary};

/// A project with a submodule `vendor/lib` by a relative address, which has `deep` as a submodule of its own.
struct Nested {
    project: Project,
    lib: GitRepository,
    lib_name: String,
}

fn modules(path: &str, url: &str) -> String {
    format!("[submodule \"the.{path}\"]\n\tpath = {path}\n\turl = {url}\n")
}

fn nested(name: &'static str) -> Nested {
    let (deep_name, lib_name) = (format!("{name}-deep"), format!("{name}-lib"));
    let deep = servers().git().repository(&deep_name);
    let deep_commit = deep.commit("master", &[file("d", "deep"), file("unused", "u")]);
    let lib = servers().git().repository(&lib_name);
    let commit = lib.commit(
        "master",
        &[
            file(".gitmodules", &modules("deep", &servers().git().uri(&deep_name))),
            Change::Submodule("deep", &deep_commit),
            file(".gitattributes", "*.txt text eol=crlf\n"),
            file("src/a.txt", "a\n"),
            Change::Executable("src/run", b"run"),
            Change::Symlink("src/link", "run"),
            file("doc", "doc"),
        ],
    );
    let mut project = Project::empty(name);
    project.source["build"] = json!({});
    project.git.commit(
        "master",
        &[
            file("Dockerfile", "FROM scratch\nCOPY vendor /got/\n"),
            file(".dockerignore", "vendor/lib/doc\nvendor/lib/deep/unused\n**/.git*\n"),
            file(".gitmodules", &modules("vendor/lib", &format!("../{lib_name}.git"))),
            Change::Submodule("vendor/lib", &commit),
        ],
    );
    Nested { project, lib, lib_name }
}

const GOT: [(&str, &str); 4] =
    [("lib/deep/d", "deep"), ("lib/src/a.txt", "a\r\n"), ("lib/src/link", "-> run"), ("lib/src/run", "run")];

#[track_caller]
fn holds(project: &Project, version: &Value) {
    let expected = GOT.map(|(path, content)| (path.to_owned(), content.to_owned()));
    assert_eq!(got(project, version).into_iter().collect::<Vec<_>>(), expected);
}

/// Brings the submodules, as the git resource does by default.
#[track_caller]
fn bring(artifacts: &Path) {
    let repo = artifacts.join("repo");
    server::run(Command::new("git").arg("-C").arg(&repo).args([
        "submodule",
        "update",
        "--quiet",
        "--init",
        "--recursive",
    ]));
}

#[test]
fn a_put_without_a_checkout_fetches_submodules_and_theirs() {
    let Nested { project, lib, lib_name } = nested("submodules-fetched");
    let version = only(&project.check(None));
    assert_eq!(servers().git().requests_for(&lib_name), Vec::<String>::new(), "check needs no submodule");
    let ran = put(&project.source, temporary().path(), json!({}));
    assert_eq!(ran.succeeds()["version"], version);
    holds(&project, &version);
    let again = put(&project.source, temporary().path(), json!({}));
    assert_eq!(again.succeeds()["version"], version);
    assert!(!again.stderr.contains("fetching the submodule"), "nothing to build:\n{}", again.stderr);

    let next = lib.commit("master", &[file("src/a.txt", "b\n")]);
    assert_eq!(only(&project.check(None)), version);
    let commit = project.git.commit("master", &[Change::Submodule("vendor/lib", &next)]);
    let moved = only(&project.check(None));
    assert_eq!(moved["ref"], json!(commit));
    assert_ne!(moved["inputs"], version["inputs"]);
}

#[test]
fn a_checkout_with_its_submodules_is_built_as_it_lies() {
    let Nested { project, .. } = nested("submodules-lie");
    let version = only(&project.check(None));
    let artifacts = project.checkout("master", Some(1));
    bring(&artifacts);
    let ran = put_repo(&project, &artifacts);
    assert_eq!(ran.succeeds()["version"], version);
    assert!(!ran.stderr.contains("fetching the submodule"), "{}", ran.stderr);
    holds(&project, &version);
}

#[test]
fn what_a_checkout_lacks_of_its_submodules_is_fetched() {
    let Nested { project, .. } = nested("submodules-lacking");
    let version = only(&project.check(None));
    let artifacts = project.checkout("master", Some(1));
    let ran = put_repo(&project, &artifacts);
    assert_eq!(ran.succeeds()["version"], version);
    assert!(ran.stderr.contains("git: fetching the submodule vendor/lib, "), "{}", ran.stderr);
    holds(&project, &version);

    // Not recursive: only the inner one is lacking.
    let artifacts = project.checkout("master", Some(1));
    server::run(Command::new("git").arg("-C").arg(artifacts.join("repo")).args([
        "submodule",
        "update",
        "--quiet",
        "--init",
    ]));
    let ran = put(&project.source, &artifacts, json!({"source": "repo", "rebuild": true}));
    assert_eq!(ran.succeeds()["version"], version);
    let fetched: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("fetching the submodule")).collect();
    assert!(matches!(fetched.as_slice(), [one] if one.contains("vendor/lib/deep")), "{fetched:?}");
    holds(&project, &version);
}

#[test]
fn a_file_of_a_submodule_that_differs_from_its_commit_is_named_or_counts_by_its_content() {
    let Nested { mut project, lib, .. } = nested("submodules-dirty");
    let artifacts = project.checkout("master", Some(1));
    bring(&artifacts);
    let inside = artifacts.join("repo/vendor/lib");
    std::fs::write(inside.join("src/a.txt"), "changed").expect("a file can be written");
    std::fs::write(inside.join("src/new.o"), "made").expect("a file can be written");
    std::fs::write(inside.join("doc"), "not counted").expect("a file can be written");
    std::fs::remove_file(inside.join("deep/d")).expect("it is there");
    let head = project.git.id("master");
    let expected = format!(
        "error: the checkout `repo` is not what git has at {head}: changed: vendor/lib/src/a.txt; missing: vendor/lib/deep/d; not in git: vendor/lib/src/new.o\n\
         hint: commit the change, or set `source.only_built: true`: then the content of the files as they lie is what the version stands for"
    );
    assert_eq!(error(&put_repo(&project, &artifacts)), expected);
    project.source["only_built"] = json!(true);
    let version = put_repo(&project, &artifacts).succeeds()["version"].clone();
    let found = got(&project, &version);
    assert_eq!((found["lib/src/a.txt"].as_str(), found["lib/src/new.o"].as_str()), ("changed", "made"));
    assert!(!found.contains_key("lib/deep/d") && !found.contains_key("lib/doc"), "{found:?}");

    project.source["only_built"] = json!(false);
    lib.commit("master", &[file("src/a.txt", "b\n")]);
    let artifacts = project.checkout("master", Some(1));
    bring(&artifacts);
    let inside = artifacts.join("repo/vendor/lib");
    server::run(Command::new("git").arg("-C").arg(&inside).args(["fetch", "--quiet", "origin", "master"]));
    server::run(Command::new("git").arg("-C").arg(&inside).args(["checkout", "--quiet", "FETCH_HEAD"]));
    let expected = format!("error: the checkout `repo` is not what git has at {head}: changed: vendor/lib\n");
    let found = error(&put_repo(&project, &artifacts));
    assert!(found.starts_with(&expected), "{found}");
}

#[test]
fn a_checkout_that_counts_as_it_lies_and_lacks_a_submodule_is_refused() {
    let Nested { mut project, .. } = nested("submodules-none");
    project.source["only_built"] = json!(true);
    let artifacts = project.checkout("master", Some(1));
    std::fs::write(artifacts.join("repo/vendor/made"), "made").expect("a file can be written");
    assert_eq!(
        error(&put_repo(&project, &artifacts)),
        "error: the build would read from a submodule that the checkout lacks: vendor/lib\n\
         hint: get the repository with its submodules, or exclude them in .dockerignore"
    );
}

#[test]
fn a_part_of_a_submodule_counts_through_its_commit() {
    let Nested { project, lib, .. } = nested("submodules-part");
    let part = |version: &Value| {
        let found = got(&project, version);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["a.txt", "link", "run"]);
    };
    project.git.commit(
        "master",
        &[
            file("Dockerfile", "FROM scratch\nCOPY vendor/lib/src /got/\n"),
            file(".dockerignore", "*\n!vendor/lib/src\n"),
        ],
    );
    let first = only(&project.check(None));
    let ran = put(&project.source, temporary().path(), json!({}));
    assert_eq!(ran.succeeds()["version"], first);
    assert!(!ran.stderr.contains("vendor/lib/deep"), "the inner one is not needed:\n{}", ran.stderr);
    part(&first);
    let next = lib.commit("master", &[file("doc", "other")]);
    project.git.commit("master", &[Change::Submodule("vendor/lib", &next)]);
    let second = only(&project.check(None));
    assert_ne!(second["inputs"], first["inputs"], "the commit is what counts");

    let source = project.source_with(&[("/build/paths", json!(["vendor/lib/src"]))]);
    let artifacts = project.checkout("master", Some(1));
    let version = only(&crate::project::check(&source, None));
    assert_eq!(put(&source, &artifacts, json!({"source": "repo"})).succeeds()["version"], version);
    part(&version);
}

#[test]
fn submodules_of_another_server_are_fetched_with_their_own_credentials() {
    let account = Account { username: "bob", password: "a submodule's password" };
    let other = GitServer::start(Options { account: Some(account), ..Options::default() });
    let commit = other.repository("private").commit("master", &[file("f", "private")]);
    let mut project = Project::empty("submodules-private");
    project.source["build"] = json!({});
    project.git.commit(
        "master",
        &[
            file("Dockerfile", "FROM scratch\nCOPY lib/f /got/\n"),
            file(".gitmodules", &modules("lib", &other.uri("private"))),
            Change::Submodule("lib", &commit),
        ],
    );
    let refused = error(&put(&project.source, temporary().path(), json!({})));
    assert!(
        refused.starts_with("error: cannot get the submodule lib\ncause: the git server refused access to ")
            && refused.ends_with(
                "hint: say who asks in `source.git.submodule_credentials` (host, username and password; or url and private_key), \
                 or exclude it in .dockerignore"
            ),
        "{refused}"
    );
    let given = json!([{"host": "127.0.0.1", "username": account.username, "password": account.password}]);
    let source = project.source_with(&[("/git/submodule_credentials", given)]);
    let ran = put(&source, temporary().path(), json!({}));
    let version = ran.succeeds()["version"].clone();
    assert_eq!(got(&project, &version)["f"], "private");
    assert!(!ran.stderr.contains(account.password));
}

#[test]
fn a_submodule_over_ssh_has_a_key_of_its_own() {
    let ssh = SshServer::start(servers().git(), Passphrase::None);
    let commit = servers().git().repository("submodules-ssh-lib").commit("master", &[file("f", "by ssh")]);
    let mut project = Project::empty("submodules-ssh");
    project.source["build"] = json!({});
    let url = ssh.uri("submodules-ssh-lib");
    project.git.commit(
        "master",
        &[
            file("Dockerfile", "FROM scratch\nCOPY lib /got/\n"),
            file(".gitmodules", &modules("lib", &url)),
            Change::Submodule("lib", &commit),
        ],
    );
    let given = json!([{"url": url, "private_key": ssh.private_key()}]);
    let source = project.source_with(&[("/git/submodule_credentials", given)]);
    let version = put(&source, temporary().path(), json!({})).succeeds()["version"].clone();
    assert_eq!(got(&project, &version)["f"], "by ssh");
}

#[test]
fn a_submodule_whose_address_git_may_not_use_runs_nothing() {
    let artifacts = temporary();
    let canary = artifacts.path().join("canary");
    let commit = "0123456789012345678901234567890123456789";
    for (name, text, cause) in [
        (
            "submodules-hostile",
            modules("lib", &format!("ext::sh -c touch% {}", canary.display())),
            "\ncause: git address \"ext::sh -c touch% {canary}\" has a space or a control character",
        ),
        (
            "submodules-file",
            format!("{}\tupdate = !touch {}\n", modules("lib", "file:///etc"), canary.display()),
            "\ncause: git address \"file:///etc\" has a scheme other than https, http and ssh",
        ),
        ("submodules-unnamed", String::new(), ""),
    ] {
        let mut project = Project::empty(name);
        project.source["build"] = json!({});
        let dockerfile = file("Dockerfile", "FROM scratch\nCOPY lib /got/\n");
        project.git.commit("master", &[dockerfile, file(".gitmodules", &text), Change::Submodule("lib", commit)]);
        let expected = format!(
            "error: the submodule lib has no usable address in .gitmodules{}\n\
             hint: commit an http(s) or ssh address for it, or get the repository with its submodules and name that artifact in `params.source`",
            cause.replace("{canary}", &canary.display().to_string())
        );
        assert_eq!(error(&put(&project.source, temporary().path(), json!({}))), expected, "{name}");
        assert!(!canary.exists(), "{name}");
    }
}
