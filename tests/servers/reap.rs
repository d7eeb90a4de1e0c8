//! `git-image reap`: what goes, what stays, and what is left when it is stopped.
//!
//! `out` makes the images, except for servers that ask who we are: there they are pushed as they would be.

mod access;
mod attached;
mod broken_git;
mod grace;
pub mod meets;
mod refusals;
mod rules;
mod story;
mod untagged;

use serde_json::{Value, json};

use crate::project::{Project, put};
use crate::support::git::file;
use crate::support::image::{MANIFEST_TYPES, OCI_MANIFEST};
use crate::support::program::{Program, Ran};
use crate::support::{http, servers};

/// Shows the plan.
#[track_caller]
fn plan(source: &Value, arguments: &[&str]) -> Ran {
    Program::git_image(["reap", "--source", "-", "--grace", "0s"].iter().chain(arguments).copied()).run(source)
}

/// Shows the plan and does it.
#[track_caller]
fn apply(source: &Value) -> Ran {
    plan(source, &["--apply"])
}

/// The lines of a plan with this verdict, as `tag` and reason.
fn lines<'a>(plan: &'a str, verdict: &str) -> Vec<(&'a str, &'a str)> {
    let lines = plan.lines().filter_map(|line| line.strip_prefix(verdict)?.trim_start().split_once(' '));
    lines.map(|(tag, rest)| (tag, rest.split_once(' ').map_or("", |(_, reason)| reason))).collect()
}

fn tags<'a>(plan: &'a str, verdict: &str) -> Vec<&'a str> {
    lines(plan, verdict).into_iter().map(|(tag, _)| tag).collect()
}

/// A project whose master has an image, and whose branch `feat/foo` had two of its own and is gone; branch `plain`
/// never touched the image. Returns the tags that were only the gone branch's.
fn after_a_branch(name: &'static str) -> (Project, Vec<String>) {
    let project = Project::new(name);
    let mut dead = Vec::new();
    project.put(&project.source, "master").succeeds();
    project.git.set("plain", "master");
    project.put(&on(&project, "plain"), "plain").succeeds();
    project.git.set("feat/foo", "master");
    for tool in ["echo tool 2\n", "echo tool 3\n"] {
        project.git.commit("feat/foo", &[file("ci/image/tool.sh", tool)]);
        let version = &project.put(&on(&project, "feat/foo"), "feat/foo").succeeds()["version"];
        for (key, form) in [("ref", ""), ("inputs", "inputs-")] {
            dead.push(format!("{form}{}", version[key].as_str().expect("a version has texts")));
        }
    }
    dead.push("feat-foo-d8e70cfd-latest".to_owned());
    dead.sort();
    project.git.delete("feat/foo");
    (project, dead)
}

/// The source for another branch.
fn on(project: &Project, branch: &str) -> Value {
    project.source_with(&[("/git/branch", json!(branch))])
}

/// A manifest as the registry has it.
struct Saved {
    tag: String,
    digest: String,
    media_type: String,
    bytes: Vec<u8>,
}

/// Reads what a tag points to.
#[track_caller]
fn save(project: &Project, tag: &str) -> Saved {
    let url = servers().registry().url(&format!("{}/manifests/{tag}", project.name));
    let answer = http::send("GET", &url, |request| request.header("accept", MANIFEST_TYPES.join(", ")));
    assert_eq!(answer.status, 200, "{tag}: {}", answer.text());
    Saved {
        tag: tag.to_owned(),
        digest: answer.header("docker-content-digest").to_owned(),
        media_type: answer.header("content-type").to_owned(),
        bytes: answer.body,
    }
}

impl Saved {
    /// Puts it at a tag of a repository of the shared registry.
    #[track_caller]
    fn put(&self, name: &str, tag: &str) {
        let digest = servers().registry().put_manifest(name, tag, &self.media_type, &self.bytes);
        assert_eq!(digest, self.digest, "the same bytes come back");
    }
}

/// Puts another tag on the image of a tag, as a person would.
#[track_caller]
fn tag(project: &Project, from: &str, to: &str) {
    save(project, from).put(project.name, to);
}

#[test]
fn a_plan_only_reads() {
    let (project, dead) = after_a_branch("reap-plan");
    let before = (project.tags(), servers().registry().requests_for(project.name).len());
    let ran = plan(&project.source, &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(tags(&ran.stdout, "REMOVE"), dead);
    let requests = servers().registry().requests_for(project.name).split_off(before.1);
    assert!(
        requests.iter().all(|request| request.starts_with("GET ") || request.starts_with("HEAD ")),
        "{requests:#?}"
    );
    assert_eq!(project.tags(), before.0);
}

#[test]
fn what_was_only_the_gone_branchs_goes_and_the_rest_still_pulls() {
    let (project, dead) = after_a_branch("reap-apply");
    // A release of the gone branch, a copy of it, and names that are nearly ours.
    tag(&project, &dead[0], "v1.2.0");
    tag(&project, "master-latest", "stable");
    tag(&project, &dead[0], "buildcache");
    let foreign = servers().registry();
    let config = foreign.put_blob(project.name, br#"{"config":{}}"#);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [],
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 13},
    });
    foreign.put_manifest(project.name, "theirs-latest", OCI_MANIFEST, manifest.to_string().as_bytes());
    let version = project.check(None).succeeds()[0].clone();
    let before = project.tags();

    let ran = apply(&project.source);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    // The image of v1.2.0 keeps its content tag: whoever builds the same again finds it.
    let image = project.digest("v1.2.0");
    let (stays, goes): (Vec<String>, Vec<String>) = dead
        .into_iter()
        .partition(|tag| tag.starts_with("inputs-") && lines(&ran.stdout, "KEEP").iter().any(|(kept, _)| kept == tag));
    assert_eq!(stays.iter().map(|tag| project.digest(tag)).collect::<Vec<_>>(), [image]);
    assert_eq!(tags(&ran.stdout, "REMOVE"), goes);
    let left: Vec<String> = before.into_iter().filter(|tag| !goes.contains(tag)).collect();
    assert_eq!(project.tags(), left);
    assert_eq!(
        lines(&ran.stdout, "FOREIGN"),
        [
            ("buildcache", "not a tag that git-image writes here"),
            ("stable", "not a tag that git-image writes here"),
            ("theirs-latest", "the image has no label git-image.repository"),
            ("v1.2.0", "a release or an alias of one"),
        ]
    );
    assert!(ran.stderr.contains("tags are removed by tombstones"), "{}", ran.stderr);

    let (directory, fetched) = project.get(&version, json!({}));
    fetched.succeeds();
    assert!(directory.join("rootfs/usr/local/bin/tool").exists());

    let writes = servers().registry().requests_for(project.name).len();
    let again = apply(&project.source);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert_eq!(tags(&again.stdout, "REMOVE"), Vec::<&str>::new());
    assert!(again.stderr.ends_with("nothing to remove\n"), "{}", again.stderr);
    let requests = servers().registry().requests_for(project.name).split_off(writes);
    assert!(
        requests.iter().all(|request| request.starts_with("GET ") || request.starts_with("HEAD ")),
        "{requests:#?}"
    );
}

#[test]
fn a_whole_plan_of_real_servers_reads_like_this() {
    let project = Project::empty("reap-golden");
    // Nothing of the image depends on the address of a registry, so its inputs are always the same.
    project.git.commit(
        "master",
        &[file("ci/image/Dockerfile", "FROM scratch\nCOPY tool.sh /tool.sh\n"), file("ci/image/tool.sh", "echo 1\n")],
    );
    project.put(&project.source, "master").succeeds();
    project.git.set("feat/foo", "master");
    project.git.commit("feat/foo", &[file("ci/image/tool.sh", "echo 2\n")]);
    project.put(&on(&project, "feat/foo"), "feat/foo").succeeds();
    project.git.delete("feat/foo");
    tag(&project, "master-latest", "stable");
    let ran = plan(&project.source, &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(without_chance(&ran.stdout, &project), include_str!("../golden/reap-plan-of-servers.txt"));
    let repository = servers().registry().repository(project.name);
    assert_eq!(
        ran.stderr,
        format!("reading the tags of {repository}\nreading the branches and the history of 127.0.0.1/reap-golden\n")
    );
}

/// An image has the time of its build in it, and a server has any free port.
fn without_chance(text: &str, project: &Project) -> String {
    let mut text = text.replace(&servers().registry().host(), "REGISTRY");
    for (tag, name) in [("master-latest", "MASTER"), ("feat-foo-d8e70cfd-latest", "FEAT-FOO")] {
        let digest = project.digest(tag).expect("the tag is there");
        text = text.replace(&digest[..19], name);
    }
    text
}

#[test]
fn two_git_repositories_share_a_repository_of_the_registry_and_never_touch_each_others_tags() {
    let (one, _) = after_a_branch("reap-shared");
    let two = Project::new("reap-sharing");
    let shared = |project: &Project, branch: &str| {
        let mut source = on(project, branch);
        source["registry"]["repository"] = one.source["registry"]["repository"].clone();
        source
    };
    two.git.set("gone", "master");
    two.git.commit("gone", &[file("ci/image/tool.sh", "echo tool 9\n")]);
    put(&shared(&two, "gone"), &two.checkout("gone", None), json!({"source": "repo"})).succeeds();
    two.git.delete("gone");

    let before = one.tags();
    let first = apply(&shared(&one, "master"));
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    let theirs = ("gone-latest", "of another git repository: 127.0.0.1/reap-sharing");
    assert!(lines(&first.stdout, "FOREIGN").contains(&theirs), "{}", first.stdout);
    assert_eq!(one.tags().len(), before.len() - 5);
    assert_eq!(tags(&first.stdout, "FOREIGN").len(), 3, "{}", first.stdout);

    let second = apply(&shared(&two, "master"));
    assert_eq!(second.code, Some(0), "{}", second.stderr);
    assert_eq!(tags(&second.stdout, "REMOVE").len(), 3, "{}", second.stdout);
    assert_eq!(tags(&second.stdout, "KEEP"), Vec::<&str>::new());
    assert_eq!(one.tags().len(), before.len() - 8);
}

#[test]
fn two_images_of_one_git_repository_with_two_prefixes_never_touch_each_others_tags() {
    let project = Project::new("reap-prefixes");
    let with = |prefix: &str, branch: &str| {
        project.source_with(&[("/git/branch", json!(branch)), ("/registry/tag_prefix", json!(prefix))])
    };
    // Branch `x-app` of no prefix has the tag of branch `app` of the prefix `x-`, and the other way round.
    for branch in ["app", "x-app"] {
        project.git.set(branch, "master");
        project.git.commit(branch, &[file("ci/image/tool.sh", &format!("echo tool of {branch}\n"))]);
    }
    for (prefix, branch) in [("", "master"), ("x-", "master"), ("", "x-app"), ("x-", "app")] {
        if (prefix, branch) == ("x-", "app") {
            continue;
        }
        project.put(&with(prefix, branch), branch).succeeds();
    }
    project.git.delete("app");
    let before = project.tags();
    let ran = apply(&with("x-", "master"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(tags(&ran.stdout, "REMOVE"), Vec::<&str>::new(), "{}", ran.stdout);
    assert_eq!(project.tags(), before);

    project.git.delete("x-app");
    let ran = apply(&with("x-", "master"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(tags(&ran.stdout, "REMOVE"), Vec::<&str>::new(), "{}", ran.stdout);
    let ran = apply(&with("", "master"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(tags(&ran.stdout, "REMOVE").len(), 3, "{}", ran.stdout);
    assert!(tags(&ran.stdout, "REMOVE").contains(&"x-app-latest"), "{}", ran.stdout);
    assert!(project.tags().contains(&"x-master-latest".to_owned()));
}

#[test]
fn the_name_of_the_image_completes_the_repository() {
    let project = Project::new("reap/named");
    let details = file("ci/image/image.details", "NAME=named\n");
    project.git.commit("master", &[details]);
    let beginning = servers().registry().repository("reap/");
    let source = project.source_with(&[
        ("/registry/repository", json!(beginning)),
        ("/build/details", json!("ci/image/image.details")),
    ]);
    project.put(&source, "master").succeeds();
    let mut other = source.clone();
    other["git"]["branch"] = json!("gone");
    project.git.set("gone", "master");
    project.git.commit("gone", &[file("ci/image/tool.sh", "echo tool 2\n")]);
    project.put(&other, "gone").succeeds();
    project.git.delete("gone");
    let ran = apply(&source);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(tags(&ran.stdout, "REMOVE").len(), 3, "{}", ran.stdout);
    assert_eq!(project.tags().len(), 3);
}
