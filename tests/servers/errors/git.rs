//! Errors of the git server.

use serde_json::json;

use super::{ends_with, put_tip};
use crate::project::{Project, check};
use crate::support::git::{GitServer, Options, file};
use crate::support::registry::{Account, Transport};
use crate::support::servers;

const ACCOUNT: Account<'_> = Account { username: "ada", password: "right-password" };

#[test]
fn a_server_that_cannot_be_reached_is_named_and_so_is_why() {
    let project = Project::empty("errors-git-unreachable");
    // git says how long it took.
    let stderr = |uri: &str| {
        let ran = check(&project.source_with(&[("/git/uri", json!(uri))]), None);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
        without_milliseconds(&ran.stderr)
    };
    assert_eq!(
        stderr("http://127.0.0.1:1/acme/app.git"),
        "error: cannot reach the git server of 127.0.0.1/acme/app\n\
         cause: fatal: unable to access 'http://127.0.0.1:1/acme/app.git/': Failed to connect to 127.0.0.1 port 1 after N ms: Couldn't connect to server\n\
         hint: check the host in `source.git.uri`, and that workers reach it (proxies are read from http_proxy, https_proxy and no_proxy)\n"
    );
    assert_eq!(
        stderr("http://nowhere.invalid/acme/app.git"),
        "error: cannot reach the git server of nowhere.invalid/acme/app\n\
         cause: fatal: unable to access 'http://nowhere.invalid/acme/app.git/': Could not resolve host: nowhere.invalid\n\
         hint: check the host in `source.git.uri`, and that workers reach it (proxies are read from http_proxy, https_proxy and no_proxy)\n"
    );
    assert_eq!(
        stderr("ssh://git@127.0.0.1:1/acme/app.git"),
        "error: cannot reach the git server of 127.0.0.1/acme/app\n\
         cause: ssh: connect to host 127.0.0.1 port 1: Connection refused\n\
         hint: check the host in `source.git.uri`, and that workers reach it (proxies are read from http_proxy, https_proxy and no_proxy)\n"
    );
}

fn without_milliseconds(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let is_time = |at: usize| words.get(at + 1) == Some(&"ms:");
    let words: Vec<&str> = words.iter().enumerate().map(|(at, word)| if is_time(at) { "N" } else { word }).collect();
    words.join(" ")
}

#[test]
fn a_password_that_is_wrong_or_missing_is_said_by_its_key() {
    let server = GitServer::start(Options { account: Some(ACCOUNT), ..Options::default() });
    let git = server.repository("acme");
    git.commit("master", &[file("ci/image/Dockerfile", "FROM scratch\nLABEL a=b\n")]);
    let project = Project::empty("errors-git-password");
    let source = |more: serde_json::Value| {
        let mut source = project.source_with(&[("/git/uri", json!(git.uri()))]);
        source["git"].as_object_mut().expect("a block").extend(more.as_object().expect("a block").clone());
        source
    };
    check(&source(json!({"username": "ada", "password": "wrong-password"})), None).fails_with(&format!(
        "error: the git server refused access to 127.0.0.1/acme\n\
         cause: fatal: Authentication failed for '{}/'\n\
         hint: check `source.git.uri`, and that `source.git.username` and `source.git.password` may read it\n",
        git.uri()
    ));
    check(&source(json!({})), None).fails_with(&format!(
        "error: the git server refused access to 127.0.0.1/acme\n\
         cause: fatal: could not read Username for '{}': terminal prompts disabled\n\
         hint: check `source.git.uri`; a private repository needs `source.git.username` and `source.git.password`, or `source.git.private_key`\n",
        git.uri().trim_end_matches("/acme.git")
    ));
    check(&source(json!({"username": "ada", "password": "right-password"})), None).succeeds();
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_an_error() {
    let server = GitServer::start(Options { transport: Transport::Tls, ..Options::default() });
    let project = Project::empty("errors-git-tls");
    check(&project.source_with(&[("/git/uri", json!(server.uri("acme")))]), None).fails_with(&format!(
        "error: cannot trust the certificate of the git server of 127.0.0.1/acme\n\
         cause: fatal: unable to access '{}/': server certificate verification failed. CAfile: none CRLfile: none\n\
         hint: give the certificate of the authority that signed it in `source.git.ca_certs`\n",
        server.uri("acme")
    ));
}

#[test]
fn a_repository_or_branch_that_is_not_there_is_named() {
    let project = Project::empty("errors-git-missing");
    let missing = project.source_with(&[("/git/uri", json!(servers().git().uri("errors-git-none")))]);
    check(&missing, None).fails_with(&format!(
        "error: the git server has no repository 127.0.0.1/errors-git-none\n\
         cause: fatal: repository '{}/' not found\n\
         hint: check `source.git.uri`; a private repository needs `source.git.username` and `source.git.password`, or `source.git.private_key`\n",
        servers().git().uri("errors-git-none")
    ));
    let no_branch = "error: no branch `master` in 127.0.0.1/errors-git-missing\n\
                     hint: check `source.git.branch`; was the branch pushed, or deleted? Upper and lower case differ\n";
    // An empty repository has no branch at all.
    project.check(None).fails_with(no_branch);
    check(&project.source_with(&[("/git", json!({"uri": project.git.uri()}))]), None).fails_with(
        "error: 127.0.0.1/errors-git-missing has no default branch\n\
         hint: set `source.git.branch`\n",
    );
    ends_with(&put_tip(&project.source), no_branch);
}
