//! Files of Git LFS: fetched where only pointers lie, and verified.

use serde_json::{Value, json};

use super::{error, got, put_repo};
use crate::project::{Project, only, put};
use crate::support::git::{Change, GitServer, Options, Passphrase, SshServer, file};
use crate::support::lfs::LfsServer;
use crate::support::registry::Account;
use crate::support::{servers, temporary};

const ATTRIBUTES: &str = "*.bin filter=lfs diff=lfs merge=lfs -text\n";

/// A project whose image has `a.bin` of LFS, and one that nobody copies.
fn project(name: &'static str, lfs: &LfsServer, content: &[u8]) -> Project {
    let mut project = Project::empty(name);
    project.source["git"]["uri"] = json!(lfs.uri(name));
    project.source["build"] = json!({});
    let unused = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 3\n", "cd".repeat(32));
    project.git.commit(
        "master",
        &[
            file("Dockerfile", "FROM scratch\nCOPY src /got/\n"),
            file(".gitattributes", ATTRIBUTES),
            file("src/a.bin", &lfs.keep(content)),
            file("src/same.bin", &lfs.keep(content)),
            file("src/text", "plain"),
            file("other.bin", &unused),
        ],
    );
    project
}

fn lfs() -> LfsServer {
    LfsServer::start(&servers().git().host(), None)
}

fn large() -> Vec<u8> {
    (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect()
}

#[track_caller]
fn holds(project: &Project, version: &Value, content: &[u8]) {
    let found = got(project, version);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["a.bin", "same.bin", "text"]);
    assert_eq!(found["a.bin"], String::from_utf8_lossy(content));
}

#[test]
fn a_put_without_a_checkout_fetches_the_files_that_count_and_no_others() {
    let lfs = lfs();
    let content = large();
    let project = project("lfs-fetched", &lfs, &content);
    let version = only(&project.check(None));
    let ran = put(&project.source, temporary().path(), json!({}));
    assert_eq!(ran.succeeds()["version"], version);
    assert!(ran.stderr.contains("git: fetching 1 file of git-lfs, 12.0 MB, from "), "{}", ran.stderr);
    assert_eq!(lfs.requests().len(), 2, "{:?}", lfs.requests());
    holds(&project, &version, &content);
}

#[test]
fn a_checkout_with_pointers_gives_the_image_of_one_with_the_files() {
    let lfs = lfs();
    let project = project("lfs-checkout", &lfs, b"content");
    let artifacts = project.checkout("master", Some(1));
    let ran = put_repo(&project, &artifacts);
    let version = ran.succeeds()["version"].clone();
    holds(&project, &version, b"content");
    let layers = |project: &Project| {
        let tag = format!("inputs-{}", version["inputs"].as_str().expect("a version has inputs"));
        servers().registry().image_config(project.name, &tag)["rootfs"].clone()
    };
    let fetched = layers(&project);
    let before = lfs.requests().len();
    for name in ["a.bin", "same.bin"] {
        std::fs::write(artifacts.join("repo/src").join(name), "content").expect("a file can be written");
    }
    let ran = put(&project.source, &artifacts, json!({"source": "repo", "rebuild": true}));
    assert_eq!(ran.succeeds()["version"], version);
    assert_eq!(layers(&project), fetched);
    assert_eq!(lfs.requests().len(), before, "nothing is fetched");
}

#[test]
fn the_account_of_the_repository_is_shown_to_its_lfs_server() {
    let account = Account { username: "ada", password: "an LFS password" };
    let git = GitServer::start(Options { account: Some(account), ..Options::default() });
    let lfs = LfsServer::start(&git.host(), Some(account));
    let repository = git.repository("private");
    repository.commit(
        "master",
        &[
            file("Dockerfile", "FROM scratch\nCOPY a.bin /got/\n"),
            file(".gitattributes", ATTRIBUTES),
            file("a.bin", &lfs.keep(b"private")),
        ],
    );
    let mut project = Project::empty("lfs-private");
    project.source["build"] = json!({});
    project.source["git"] =
        json!({"uri": lfs.uri("private"), "branch": "master", "username": "ada", "password": account.password});
    let ran = put(&project.source, temporary().path(), json!({}));
    let version = ran.succeeds()["version"].clone();
    assert_eq!(got(&project, &version)["a.bin"], "private");
    assert!(!ran.stderr.contains(account.password), "{}", ran.stderr);
}

#[test]
fn the_lfs_server_of_a_repository_over_ssh_is_told_by_the_ssh_server() {
    let account = Account { username: "by", password: "ssh" };
    let lfs = LfsServer::start(&servers().git().host(), Some(account));
    let mut project = project("lfs-ssh", &lfs, b"content");
    let ssh = SshServer::start(servers().git(), Passphrase::None);
    ssh.program(
        "git-lfs-authenticate",
        &format!(
            "#!/bin/sh\ntest \"$1 $2\" = '{}/lfs-ssh.git download' || exit 3\n\
             printf '{{\"href\": \"{}/info/lfs\", \"header\": {{\"Authorization\": \"Basic Ynk6c3No\"}}}}'\n",
            servers().git().repositories().display(),
            lfs.uri("lfs-ssh")
        ),
    );
    project.source["git"] = json!({"uri": ssh.uri("lfs-ssh"), "branch": "master", "private_key": ssh.private_key()});
    let version = put(&project.source, temporary().path(), json!({})).succeeds()["version"].clone();
    holds(&project, &version, b"content");
}

#[test]
fn files_of_a_submodule_are_fetched_from_its_own_server() {
    let lfs = lfs();
    let lib = servers().git().repository("lfs-submodule-lib");
    let commit =
        lib.commit("master", &[file(".gitattributes", ATTRIBUTES), file("deep/b.bin", &lfs.keep(b"of the submodule"))]);
    let mut project = Project::empty("lfs-submodule");
    project.source["build"] = json!({});
    let modules = format!("[submodule \"x\"]\n\tpath = lib\n\turl = {}\n", lfs.uri("lfs-submodule-lib"));
    project.git.commit(
        "master",
        &[
            file("Dockerfile", "FROM scratch\nCOPY lib/deep /got/\n"),
            file(".gitmodules", &modules),
            Change::Submodule("lib", &commit),
        ],
    );
    let version = put(&project.source, temporary().path(), json!({})).succeeds()["version"].clone();
    assert_eq!(got(&project, &version)["b.bin"], "of the submodule");
}

#[test]
fn a_file_that_cannot_be_had_or_is_another_one_is_named() {
    let lfs = lfs();
    let project = project("lfs-errors", &lfs, b"content");
    let name = project.source["git"]["uri"].as_str().and_then(|uri| uri.strip_prefix("http://")).expect("it is http");
    let (host, _) = name.split_once(':').expect("it has a port");
    let sha256 = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73";
    lfs.spoil(b"content", b"CONTENT");
    let found = error(&put(&project.source, temporary().path(), json!({})));
    let start = format!(
        "error: the build reads files of git-lfs that cannot be had: src/a.bin, src/same.bin\n\
         cause: the LFS server of {host}/lfs-errors sent something else for sha256:{sha256}: its content is sha256:"
    );
    assert!(found.starts_with(&start), "{found}");
    lfs.spoil(b"content", b"short");
    let found = error(&put(&project.source, temporary().path(), json!({})));
    assert!(found.contains("it has 5 bytes instead of 7\nhint: try again; if it stays, "), "{found}");
    let absent = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 3\n", "ab".repeat(32));
    project.git.commit("master", &[file("src/a.bin", &absent)]);
    assert_eq!(
        error(&put(&project.source, temporary().path(), json!({}))),
        format!(
            "error: the build reads files of git-lfs that cannot be had: src/a.bin, src/same.bin\n\
             cause: the LFS server of {host}/lfs-errors does not give sha256:{}: 404: no such object\n\
             hint: push the file with `git lfs push --all`, or commit it anew",
            "ab".repeat(32)
        )
    );
}
