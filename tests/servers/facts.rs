//! What we believe about `docker-registry` 2.8.2, engines and git servers: when one changes, a test tells us.
//!
//! `docs/facts.md` names these tests.

#![expect(clippy::disallowed_methods, reason = "git is called as a user calls it")]

mod engines;

use std::process::Command;

use serde_json::json;

use crate::support::git::{self, GitServer, Passphrase, SshServer, file};
use crate::support::image::{OCI_INDEX, OCI_MANIFEST};
use crate::support::registry::{Access, Account, Deletion, Options, Registry, Transport};
use crate::support::server::run;
use crate::support::{http, image, servers, temporary};

/// A digest that no content has.
const NO_DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

const ADA: Account<'_> = Account { username: "ada", password: "secret:with/signs" };

/// Puts a small manifest under each of these tags and returns its digest; `name` makes it differ from others.
#[track_caller]
fn put_manifest(repository: &str, name: &str, tags: &[&str]) -> String {
    let registry = servers().registry();
    let config = format!("{{\"name\":\"{name}\"}}");
    let digest = registry.put_blob(repository, config.as_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": config.len()},
        "layers": [],
    });
    let manifest = manifest.to_string();
    tags.iter().for_each(|tag| {
        registry.put_manifest(repository, tag, OCI_MANIFEST, manifest.as_bytes());
    });
    image::digest(manifest.as_bytes())
}

#[test]
fn deleting_a_digest_removes_every_tag_on_it() {
    let registry = servers().registry();
    let digest = put_manifest("facts/digest", "a", &["one", "two"]);
    put_manifest("facts/digest", "b", &["other"]);
    assert_eq!(registry.delete("facts/digest", &digest), 202);
    assert_eq!(registry.tags("facts/digest"), ["other"]);
    assert_eq!(registry.delete("facts/digest", &digest), 404);
}

#[test]
fn deleting_by_tag_is_refused_with_400() {
    let registry = servers().registry();
    put_manifest("facts/by-tag", "a", &["one"]);
    assert_eq!(registry.delete("facts/by-tag", "one"), 400);
    assert_eq!(registry.tags("facts/by-tag"), ["one"]);
}

#[test]
fn deleting_a_digest_that_is_not_there_answers_404_where_deletion_is_enabled_and_405_where_not() {
    assert_eq!(servers().registry().delete("facts/probe", NO_DIGEST), 404);
    let registry = Registry::start(Options { deletion: Deletion::Disabled, ..Options::default() });
    assert_eq!(registry.delete("facts/probe", NO_DIGEST), 405);
}

#[test]
fn a_tombstone_takes_one_tag_and_leaves_its_siblings() {
    let registry = servers().registry();
    let digest = put_manifest("facts/tombstone", "a", &["keep", "remove"]);
    let tombstone = put_manifest("facts/tombstone", "tombstone", &["remove"]);
    assert_eq!(registry.delete("facts/tombstone", &tombstone), 202);
    assert_eq!(registry.tags("facts/tombstone"), ["keep"]);
    assert_eq!(registry.digest("facts/tombstone", &digest), Some(digest));
}

#[test]
fn a_repository_without_tags_lists_null() {
    let registry = servers().registry();
    let digest = put_manifest("facts/empty", "a", &["one"]);
    registry.delete("facts/empty", &digest);
    let answer = http::get(&registry.url("facts/empty/tags/list"));
    assert_eq!((answer.status, answer.json()), (200, json!({"name": "facts/empty", "tags": null})));
}

#[test]
fn a_repository_that_never_was_lists_404_name_unknown() {
    let answer = http::get(&servers().registry().url("facts/never/tags/list"));
    assert_eq!((answer.status, &answer.json()["errors"][0]["code"]), (404, &json!("NAME_UNKNOWN")));
}

#[test]
fn the_list_of_tags_is_whole_whatever_page_is_asked_for() {
    let registry = servers().registry();
    put_manifest("facts/pages", "a", &["one", "two", "three"]);
    let answer = http::get(&registry.url("facts/pages/tags/list?n=1"));
    assert_eq!((answer.json()["tags"].as_array().map(Vec::len), answer.header("link")), (Some(3), ""));
}

#[test]
fn a_child_of_an_index_is_not_protected() {
    let registry = servers().registry();
    let child = put_manifest("facts/index", "a", &["child"]);
    let size = registry.image_manifest("facts/index", "child").to_string().len();
    let index = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [{"mediaType": OCI_MANIFEST, "digest": child, "size": size,
            "platform": {"os": "linux", "architecture": "amd64"}}],
    });
    registry.put_manifest("facts/index", "index", OCI_INDEX, index.to_string().as_bytes());
    assert_eq!(registry.delete("facts/index", &child), 202);
    assert_eq!(registry.tags("facts/index"), ["index"]);
    assert_eq!(registry.digest("facts/index", &child), None);
}

#[test]
fn an_oci_manifest_is_there_only_for_who_accepts_it() {
    let registry = servers().registry();
    put_manifest("facts/accept", "a", &["one"]);
    let url = registry.url("facts/accept/manifests/one");
    let status = |accept: &str| http::send("GET", &url, |request| request.header("accept", accept)).status;
    assert_eq!((status(OCI_MANIFEST), status(image::DOCKER_MANIFEST)), (200, 404));
}

#[test]
fn head_of_a_manifest_answers_its_digest_type_and_size() {
    let registry = servers().registry();
    let digest = put_manifest("facts/head", "a", &["one"]);
    let answer =
        http::send("HEAD", &registry.url("facts/head/manifests/one"), |request| request.header("accept", OCI_MANIFEST));
    assert_eq!(answer.header("docker-content-digest"), digest);
    assert_eq!(answer.header("content-type"), OCI_MANIFEST);
    assert_ne!(answer.header("content-length"), "0");
}

#[test]
fn a_tag_of_129_characters_is_refused() {
    let registry = servers().registry();
    put_manifest("facts/length", "a", &["t".repeat(128).as_str()]);
    let manifest = registry.image_manifest("facts/length", &"t".repeat(128)).to_string();
    let answer = http::send("PUT", &registry.url(&format!("facts/length/manifests/{}", "t".repeat(129))), |request| {
        request.header("content-type", OCI_MANIFEST).body(manifest)
    });
    // Not a manifest's address at all, and therefore no error of the registry's API.
    assert_eq!((answer.status, answer.text().as_str()), (404, "404 page not found\n"));
}

#[test]
fn requests_are_listed_with_their_status() {
    let registry = servers().registry();
    registry.digest("facts/requests", "none");
    assert_eq!(registry.requests_for("facts/requests"), ["HEAD /v2/facts/requests/manifests/none 404"]);
}

#[test]
fn a_registry_with_passwords_and_tls_takes_a_push_only_with_the_password() {
    let registry =
        Registry::start(Options { access: Access::Basic(ADA), transport: Transport::Tls, ..Options::default() });
    image::push_base(&registry, "base", "1", Some(ADA));
    let answer = http::get(&registry.url("base/tags/list"));
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Basic realm=\"test\""));
}

#[test]
fn a_registry_with_tokens_takes_a_push_with_the_tokens_of_its_server() {
    let registry = Registry::start(Options { access: Access::Token(ADA), ..Options::default() });
    image::push_base(&registry, "base", "1", Some(ADA));
    let tokens = registry.tokens().expect("it has a token server");
    assert_eq!(tokens.requests(), ["repository:base:pull,push"]);
    assert_eq!(http::get(&registry.url("base/tags/list")).status, 401);
}

#[test]
fn git_is_served_over_http_without_blobs_when_asked_so() {
    let repository = servers().git().repository("facts-filter");
    repository.commit("master", &[file("a", "1"), file("b", "2")]);
    let directory = temporary();
    let path = directory.path().join("clone");
    run(Command::new("git").args(["clone", "--quiet", "--bare", "--filter=blob:none", repository.uri()]).arg(&path));
    let missing =
        run(Command::new("git").arg("-C").arg(&path).args(["rev-list", "--objects", "--all", "--missing=print"]));
    assert_eq!(missing.lines().filter(|line| line.starts_with('?')).count(), 2);
    let requests = servers().git().requests_for("facts-filter");
    assert_eq!(
        requests,
        [
            "GET /facts-filter.git/info/refs?service=git-upload-pack HTTP/1.1 200",
            "POST /facts-filter.git/git-upload-pack HTTP/1.1 200",
            "POST /facts-filter.git/git-upload-pack HTTP/1.1 200",
        ]
    );
}

#[test]
fn git_over_http_with_a_password_answers_401_without_it() {
    let server =
        GitServer::start(git::Options { account: Some(ADA), transport: Transport::Tls, ..git::Options::default() });
    let repository = server.repository("acme");
    repository.commit("master", &[file("a", "1")]);
    let url = format!("{}/info/refs?service=git-upload-pack", repository.uri());
    assert_eq!(http::get(&url).status, 401);
    let answer = http::send("GET", &url, |request| request.basic_auth(ADA.username, Some(ADA.password)));
    assert_eq!(answer.status, 200);
}

#[test]
fn git_is_served_over_ssh_to_the_holder_of_the_key() {
    let ssh = SshServer::start(servers().git(), Passphrase::None);
    let repository = servers().git().repository("facts-ssh");
    let commit = repository.commit("master", &[file("a", "1")]);
    let hosts = temporary();
    let known_hosts = hosts.path().join("known_hosts");
    std::fs::write(&known_hosts, ssh.known_hosts()).expect("a file can be written");
    let command =
        format!("ssh -F none -i {} -o UserKnownHostsFile={}", ssh.private_key_file().display(), known_hosts.display());
    let listed =
        run(Command::new("git").args(["ls-remote", &ssh.uri("facts-ssh"), "master"]).env("GIT_SSH_COMMAND", command));
    assert_eq!(listed, format!("{commit}\trefs/heads/master"));
}

#[test]
fn a_history_of_a_test_repeats_its_ids_and_can_be_checked_out_at_depth_1() {
    let repository = servers().git().repository("facts-history");
    let first = repository.commit("master", &[file("a", "1")]);
    assert_eq!(first, "d1a99923ec197e73aa1521ea95da627452b04cd4");
    repository.set("feat/foo", "master");
    repository.commit("feat/foo", &[file("b", "1")]);
    repository.commit("master", &[file("c", "1")]);
    let merged = repository.merge("feat/foo", "master");
    assert_eq!(repository.git(&["ls-tree", "--name-only", "master"]), "a\nb\nc");
    repository.revert("master");
    assert_eq!(repository.git(&["ls-tree", "--name-only", "master"]), "a\nc");
    assert_eq!(repository.id("master^"), merged);
    let directory = temporary();
    let path = directory.path().join("checkout");
    repository.checkout(&path, "master", Some(1));
    git::give_to(&path, 1000, 1000);
    let read = |name: &str| std::fs::read_to_string(path.join(name)).expect("the file is there");
    assert_eq!(read(".git/ref").trim(), repository.id("master"));
    assert_eq!(read(".git/HEAD").trim(), repository.id("master"));
    assert_eq!(read(".git/shallow").lines().count(), 1);
}
