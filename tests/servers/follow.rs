//! `follow_bases`: a base that moved is a new version, and what check saw is what is built on.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::get::remove_tag;
use crate::project::{Project, check, get, only};
use crate::put::{base, relay};
use crate::support::engine::{self, EngineKind};
use crate::support::git::file;
use crate::support::program::{Program, Ran};
use crate::support::registry::{self, Access, Account, Registry};
use crate::support::{image, servers};

/// The engines that can be held to a digest.
const HELD: [EngineKind; 3] = [EngineKind::Docker28, EngineKind::Docker28Containerd, EngineKind::BuildKit];

/// A project that follows the bases of this Dockerfile.
#[track_caller]
fn following(name: &'static str, dockerfile: &str) -> Project {
    let mut project = Project::empty(name);
    project.source["build"]["follow_bases"] = json!(true);
    project.source["engine"] = json!({"host": engine::of(EngineKind::BuildKit).host()});
    commit(&project, dockerfile, "1\n");
    project
}

/// A project on one base, which says "one"; the repository of the base.
#[track_caller]
fn on_a_base(name: &'static str) -> (Project, &'static str) {
    let base_name: &'static str = Box::leak(format!("{name}-base").into_boxed_str());
    let reference = base(base_name, "one");
    (following(name, &format!("FROM {reference}\nCOPY word /\n")), base_name)
}

#[track_caller]
fn commit(project: &Project, dockerfile: &str, word: &str) -> String {
    project.git.commit("master", &[file("ci/image/Dockerfile", dockerfile), file("ci/image/word", word)])
}

/// Puts the checkout of a git resource.
#[track_caller]
fn put(project: &Project, what: &str) -> Ran {
    put_from(project, &project.checkout(what, Some(1)), "repo")
}

#[track_caller]
fn put_from(project: &Project, artifacts: &Path, source: &str) -> Ran {
    Program::put(artifacts).run(&json!({"source": project.source, "params": {"source": source}}))
}

/// Gets a version as the artifact `image`, with a checkout and without the image; the directory of the artifacts.
#[track_caller]
fn get_checkout(project: &Project, version: &Value) -> (PathBuf, Ran) {
    let artifacts = project.directory();
    std::fs::create_dir(artifacts.join("image")).expect("a directory can be made");
    let params = json!({"skip_download": true, "source": true});
    let ran = get(&project.source, version, &artifacts.join("image"), params);
    (artifacts, ran)
}

/// What the bases left in the image of a version.
#[track_caller]
fn built_on(project: &Project, version: &Value) -> String {
    let (directory, ran) = project.get(version, json!({}));
    ran.succeeds();
    std::fs::read_to_string(directory.join("rootfs/base")).expect("the base has this file")
}

/// The two versions of a check's answer: the given one, and one with the same commit and inputs and other bases.
#[track_caller]
fn moved(ran: &Ran, given: &Value) -> Value {
    let answer = ran.succeeds();
    assert_eq!((answer.as_array().map(Vec::len), &answer[0]), (Some(2), given), "{answer}");
    let newer = answer[1].clone();
    assert_eq!((&newer["ref"], &newer["inputs"]), (&given["ref"], &given["inputs"]));
    assert_ne!(newer["bases"], given["bases"]);
    assert!(ran.stderr.ends_with(" there is a version with other base images\n"), "{}", ran.stderr);
    newer
}

/// The digests of the tags of commit and branch.
fn pointed(project: &Project) -> [Option<String>; 2] {
    [project.digest(&project.git.id("master")), project.digest("master-latest")]
}

/// The one tag of the content that is not among these.
#[track_caller]
fn content_besides(project: &Project, known: &[String]) -> String {
    let mut new: Vec<String> =
        project.tags().into_iter().filter(|tag| tag.starts_with("inputs-") && !known.contains(tag)).collect();
    assert_eq!(new.len(), 1, "{new:?}");
    new.remove(0)
}

#[test]
fn a_base_that_moved_is_a_new_version_which_is_built_and_fetched() {
    for kind in HELD {
        let (mut project, base_name) = on_a_base(Box::leak(format!("follow-{}", kind as u8).into_boxed_str()));
        project.source["engine"] = json!({"host": engine::of(kind).host()});
        let first = only(&project.check(None));
        assert_eq!(first["bases"].as_str().map(str::len), Some(64), "{first}");
        assert_eq!(put(&project, "master").succeeds()["version"], first, "{}", kind.name());
        let first_content = content_besides(&project, &[]);
        assert_ne!(json!(first_content), json!(format!("inputs-{}", first["inputs"].as_str().expect("a text"))));

        assert_eq!(only(&project.check(Some(&first))), first, "nothing moved");
        let ran = put(&project, "master");
        assert_eq!(ran.succeeds()["version"], first);
        assert!(ran.stderr.contains("nothing to build"), "{}", ran.stderr);

        base(base_name, "two");
        let second = moved(&project.check(Some(&first)), &first);
        let ran = put(&project, "master");
        assert_eq!(ran.succeeds()["version"], second);
        let content = content_besides(&project, std::slice::from_ref(&first_content));
        let digest = project.digest(&content);
        assert_ne!(digest, project.digest(&first_content), "the first stays as it was");
        assert_eq!(pointed(&project), [digest.clone(), digest], "{}", ran.stderr);
        assert_eq!(built_on(&project, &second), "two");
        assert_eq!(built_on(&project, &first), "one");
        assert_eq!(only(&project.check(Some(&second))), second);

        let (directory, ran) = project.get(&second, json!({"skip_download": true}));
        ran.succeeds();
        let read = |name: &str| std::fs::read_to_string(directory.join(name)).expect("get writes it");
        assert_eq!(json!(read("bases")), second["bases"]);
        let host = servers().registry().host();
        let base_digest = servers().registry().digest(base_name, "1").expect("it is there");
        let bases: Value = serde_json::from_str(&read("bases.json")).expect("it is JSON");
        assert_eq!(bases, json!([{"name": format!("{host}/{base_name}:1"), "digest": base_digest}]));
        let labels: Value = serde_json::from_str(&read("labels.json")).expect("it is JSON");
        assert_eq!(labels["git-image.bases"], second["bases"]);
        assert_eq!(labels["git-image.base-images"], json!(format!("{host}/{base_name}:1@{base_digest}")));
        assert_eq!(labels["org.opencontainers.image.base.digest"], json!(base_digest));
        // The tag of the commit serves when the content tag is gone, for the version of its bases alone.
        remove_tag(project.name, &content);
        remove_tag(project.name, &first_content);
        assert_eq!(built_on(&project, &second), "two");
        assert_eq!(project.get(&first, json!({})).1.code, Some(1));
    }
}

#[test]
fn a_pipeline_without_a_git_resource_builds_on_what_check_saw() {
    for kind in HELD {
        let name: &'static str = Box::leak(format!("follow-pipeline-{}", kind as u8).into_boxed_str());
        let (mut project, base_name) = on_a_base(name);
        project.source["engine"] = json!({"host": engine::of(kind).host()});
        // A second one that is only copied from.
        let copied_name: &'static str = Box::leak(format!("{name}-copied").into_boxed_str());
        let (reference, copied) =
            (format!("{}:1", servers().registry().repository(base_name)), base(copied_name, "copied one"));
        commit(
            &project,
            &format!("FROM {reference} AS first\nCOPY word /\nFROM first\nCOPY --from={copied} /base /copied\n"),
            "2\n",
        );
        let first = only(&project.check(None));
        let (artifacts, ran) = get_checkout(&project, &first);
        ran.succeeds();
        assert!(ran.stderr.contains("which `skip_download` allows"), "{}", ran.stderr);
        base(base_name, "two");
        base(copied_name, "copied two");
        let ran = put_from(&project, &artifacts, "image/source");
        assert_eq!(ran.succeeds()["version"], first, "{}", ran.stderr);
        assert!(ran.stderr.contains("\nbase: moved since the get; what the get saw is built on"), "{}", ran.stderr);
        let (directory, ran) = project.get(&first, json!({}));
        ran.succeeds();
        let read = |directory: &Path, file: &str| std::fs::read_to_string(directory.join("rootfs").join(file));
        assert_eq!(read(&directory, "base").expect("it is there"), "one", "{}", kind.name());
        assert_eq!(read(&directory, "copied").expect("it is there"), "copied one", "{}", kind.name());

        let second = moved(&project.check(Some(&first)), &first);
        let (newer, ran) = get_checkout(&project, &second);
        ran.succeeds();
        assert_eq!(put_from(&project, &newer, "image/source").succeeds()["version"], second);
        let newest = pointed(&project);
        let (directory, ran) = project.get(&second, json!({}));
        ran.succeeds();
        assert_eq!(read(&directory, "copied").expect("it is there"), "copied two");

        // A job of the first version is run again: of an image that is there, the labels tell the bases.
        let (again, ran) = get_checkout(&project, &first);
        ran.succeeds();
        let ran = put_from(&project, &again, "image/source");
        assert_eq!(ran.succeeds()["version"], first);
        assert!(ran.stderr.contains("nothing to build"), "{}", ran.stderr);
        assert!(ran.stderr.contains("tag: master-latest left: it has a build on newer base images"), "{}", ran.stderr);
        assert_eq!(pointed(&project), newest);
    }
}

#[test]
fn a_base_that_moves_before_the_get_is_built_as_the_put_finds_it() {
    let (project, base_name) = on_a_base("follow-before-get");
    let first = only(&project.check(None));
    base(base_name, "two");
    let (artifacts, ran) = get_checkout(&project, &first);
    assert_eq!(ran.succeeds()["version"], first);
    assert!(ran.stderr.contains("\nbase: one has moved since check saw this version"), "{}", ran.stderr);
    assert!(!artifacts.join("image/bases.json").exists());
    let second = put_from(&project, &artifacts, "image/source").succeeds()["version"].clone();
    assert_eq!(moved(&project.check(Some(&first)), &first), second);
    assert_eq!(built_on(&project, &second), "two");
}

#[test]
fn an_old_put_that_ends_late_moves_no_tag_back() {
    let (project, base_name) = on_a_base("follow-late");
    let first = only(&project.check(None));
    let (old, ran) = get_checkout(&project, &first);
    ran.succeeds();
    put_from(&project, &old, "image/source").succeeds();
    let first_content = content_besides(&project, &[]);
    base(base_name, "two");
    put(&project, "master").succeeds();
    let newest = pointed(&project);
    // It builds although there is a newer one.
    remove_tag(project.name, &first_content);
    let ran = put_from(&project, &old, "image/source");
    assert_eq!(ran.succeeds()["version"], first);
    assert_eq!(pointed(&project), newest, "{}", ran.stderr);
    let commit = project.git.id("master");
    assert!(
        ran.stderr.contains(&format!("\ntag: {commit} left: it has a build on newer base images\n")),
        "{}",
        ran.stderr
    );
    assert!(!ran.succeeds()["metadata"].to_string().contains("master-latest"), "{}", ran.stdout);
}

#[test]
fn two_puts_at_once_leave_the_tags_with_the_newer_bases() {
    let (project, base_name) = on_a_base("follow-two");
    let first = only(&project.check(None));
    let (old, ran) = get_checkout(&project, &first);
    ran.succeeds();
    base(base_name, "two");
    let new = project.checkout("master", Some(1));
    let start = |artifacts: &Path, source: &str| {
        let request = json!({"source": project.source, "params": {"source": source}});
        Program::put(artifacts).start(&request.to_string())
    };
    let (old, new) = (start(&old, "image/source"), start(&new, "repo"));
    let (old, new) = (old.wait(), new.wait());
    assert_eq!(old.succeeds()["version"], first);
    let second = new.succeeds()["version"].clone();
    assert_eq!(moved(&project.check(Some(&first)), &first), second);
    let newest = new.succeeds()["metadata"].as_array().and_then(|lines| {
        lines.iter().find(|line| line["name"] == "digest").and_then(|line| line["value"].as_str().map(str::to_owned))
    });
    assert_eq!(pointed(&project), [newest.clone(), newest], "{}\n{}", old.stderr, new.stderr);
}

#[test]
fn a_commit_is_newer_than_any_base() {
    let (project, base_name) = on_a_base("follow-commit");
    put(&project, "master").succeeds();
    let (older, reference) = (project.git.id("master"), format!("{}:1", servers().registry().repository(base_name)));
    commit(&project, &format!("FROM {reference}\nCOPY word /\n"), "2\n");
    let newer = put(&project, "master").succeeds()["version"].clone();
    let latest = project.digest("master-latest");
    base(base_name, "two");
    // The older commit on the newer base.
    project.git.set("old", &older);
    let ran = put(&project, "old");
    assert_eq!(ran.succeeds()["version"]["ref"], json!(older));
    assert_eq!(project.digest("master-latest"), latest, "{}", ran.stderr);
    assert!(ran.stderr.contains("tag: master-latest left: the branch has a newer image"), "{}", ran.stderr);
    let second = moved(&project.check(Some(&newer)), &newer);
    assert_eq!(put(&project, "master").succeeds()["version"], second);
    assert_ne!(project.digest("master-latest"), latest);
}

#[test]
fn only_built_announces_the_bases_that_were_built_on() {
    let (project, base_name) = on_a_base("follow-only-built");
    let built = project.source_with(&[("/only_built", json!(true)), ("/engine", Value::Null)]);
    assert_eq!(check(&built, None).succeeds(), json!([]));
    let first = put(&project, "master").succeeds()["version"].clone();
    assert_eq!(only(&check(&built, None)), first);
    base(base_name, "two");
    assert_eq!(only(&check(&built, Some(&first))), first, "it is not built");
    let second = put(&project, "master").succeeds()["version"].clone();
    assert_eq!(moved(&check(&built, Some(&first)), &first), second);
    let reference = format!("{}:1", servers().registry().repository(base_name));
    commit(&project, &format!("FROM {reference}\nCOPY word /\n"), "2\n");
    assert_eq!(only(&check(&built, Some(&second))), second);
    assert_eq!(only(&check(&built, None)), second);
    let third = put(&project, "master").succeeds()["version"].clone();
    assert_eq!(check(&built, Some(&second)).succeeds(), json!([second, third]));
}

#[test]
fn what_the_target_does_not_need_is_not_followed() {
    let reference = |name: &str| base(name, "one");
    let dockerfile = format!(
        "FROM {} AS unused\nFROM {} AS wanted\nCOPY word /\nFROM {}\n",
        reference("follow-unused"),
        reference("follow-wanted"),
        reference("follow-last")
    );
    let mut project = following("follow-target", &dockerfile);
    project.source["build"]["target"] = json!("wanted");
    let first = only(&project.check(None));
    base("follow-unused", "two");
    base("follow-last", "two");
    assert_eq!(only(&project.check(Some(&first))), first);
    base("follow-wanted", "two");
    moved(&project.check(Some(&first)), &first);
}

#[test]
fn a_check_of_a_tip_that_stands_asks_git_for_its_refs_and_each_base_once() {
    let registry = Registry::start(registry::Options::default());
    let reference = image::push_base(&registry, "team/base", "1", None);
    let mut project =
        following("follow-quiet", &format!("FROM {reference} AS a\nFROM {reference}\nCOPY --from=a /bin /b\n"));
    project.source["registries"] = json!([{"host": registry.host(), "insecure": true}]);
    let version = only(&project.check(None));
    let (git, asked) = (servers().git().requests_for("follow-quiet").len(), registry.requests().len());
    assert_eq!(only(&project.check(Some(&version))), version);
    assert_eq!(servers().git().requests_for("follow-quiet").len() - git, 1, "its refs");
    assert_eq!(registry.requests().split_off(asked), ["HEAD /v2/team/base/manifests/1 200"]);
}

#[test]
fn a_base_in_the_place_of_another_is_followed_as_the_context_says() {
    let (named, unused) = (base("follow-context", "one"), base("follow-replaced", "one"));
    let mut project = following("follow-contexts", &format!("FROM {unused}\nCOPY word /\n"));
    project.source["build"]["contexts"] = json!({unused.clone(): format!("docker-image://{named}")});
    let first = only(&project.check(None));
    base("follow-replaced", "two");
    assert_eq!(only(&project.check(Some(&first))), first);
    let (artifacts, ran) = get_checkout(&project, &first);
    ran.succeeds();
    base("follow-context", "two");
    moved(&project.check(Some(&first)), &first);
    assert_eq!(put_from(&project, &artifacts, "image/source").succeeds()["version"], first);
    assert_eq!(built_on(&project, &first), "one");
}

#[test]
fn an_index_is_followed_as_a_whole_and_the_platform_of_the_build_is_known() {
    let registry = servers().registry();
    let (project, base_name) = on_a_base("follow-index");
    // The image for amd64 stays, whatever else the index has.
    let image = registry.image_manifest(base_name, "1").to_string();
    let index = |more: &str| {
        let entry = |architecture: &str| {
            json!({
                "mediaType": image::OCI_MANIFEST, "digest": registry.digest(base_name, "1"), "size": image.len(),
                "platform": {"os": "linux", "architecture": architecture},
            })
        };
        let index =
            json!({"schemaVersion": 2, "mediaType": image::OCI_INDEX, "manifests": [entry("amd64"), entry(more)]});
        registry.put_manifest(base_name, "2", image::OCI_INDEX, index.to_string().as_bytes())
    };
    let one = index("arm64");
    commit(
        &project,
        &format!("FROM {}:2 AS on-amd64\nCOPY word /\nFROM on-$TARGETARCH\n", registry.repository(base_name)),
        "1\n",
    );
    let first = only(&project.check(None));
    // Without an artifact, as a put with `inputs: []`.
    let ran = Program::put(&project.directory()).run(&json!({"source": project.source}));
    assert_eq!(ran.succeeds()["version"], first);
    assert!(ran.stderr.contains(&format!("\nbase: {}:2@{one}\n", registry.repository(base_name))), "{}", ran.stderr);
    index("s390x");
    moved(&project.check(Some(&first)), &first);
}

#[test]
fn a_base_behind_an_account_is_followed_with_it() {
    let account = Account { username: "base", password: "base-password" };
    let registry = Registry::start(registry::Options { access: Access::Token(account), ..Default::default() });
    let reference = image::push_base(&registry, "private/base", "1", Some(account));
    let mut project = following("follow-private", &format!("FROM {reference}\nCOPY word /\n"));
    let login =
        |password: &str| json!([{"host": registry.host(), "username": "base", "password": password, "insecure": true}]);
    project.source["registries"] = login("base-password");
    let version = only(&project.check(None));
    let ran = put(&project, "master");
    assert_eq!(ran.succeeds()["version"], version);
    assert!(!ran.stdout.contains("base-password") && !ran.stderr.contains("base-password"), "{}", ran.stderr);
    project.source["registries"] = login("wrong");
    let ran = project.check(Some(&version));
    let said = format!("error: cannot tell which digest the base image {reference} has\ncause: ");
    assert!(ran.code == Some(1) && ran.stdout.is_empty() && ran.stderr.contains(&said), "{}", ran.stderr);
}

#[test]
fn a_base_that_cannot_be_read_is_an_error_and_no_empty_answer() {
    let (project, base_name) = on_a_base("follow-gone");
    let version = only(&project.check(None));
    remove_tag(base_name, "1");
    let reference = format!("{}:1", servers().registry().repository(base_name));
    let gone = format!(
        "error: the base image {reference} is not in its registry\nhint: see that the Dockerfile names an image that exists; for a registry that shows images only to whom it knows, give `source.registries`\n"
    );
    for ran in [project.check(Some(&version)), project.check(None), put(&project, "master")] {
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{}", ran.stderr);
        assert!(ran.stderr.ends_with(&gone), "{}", ran.stderr);
    }
    let registry = Registry::start(registry::Options::default());
    let reference = format!("{}/a/base:1", registry.host());
    let mut project = following("follow-down", &format!("FROM {reference}\n"));
    project.source["registries"] = json!([{"host": registry.host(), "insecure": true}]);
    registry.stop();
    let ran = project.check(None);
    let said = format!("error: cannot tell which digest the base image {reference} has\ncause: ");
    assert!(ran.code == Some(1) && ran.stdout.is_empty() && ran.stderr.contains(&said), "{}", ran.stderr);
}

#[test]
fn bases_that_are_not_certain_are_an_error_that_names_the_line() {
    let project = following("follow-unsure", "ARG BASE\nFROM $BASE\nCOPY word /\n");
    for ran in [project.check(None), put(&project, "master")] {
        ran.fails_with(
            "error: which images ci/image/Dockerfile builds on is not certain, line 2: `FROM $BASE`: the value of $BASE is not known\n\
             hint: `source.build.follow_bases` needs to know them all: write the image out, give its variable in `source.build.args`, or leave `follow_bases` out\n",
        );
    }
    let given = project.source_with(&[("/build/args", json!({"BASE": servers().base_image()}))]);
    only(&check(&given, None));
}

#[test]
fn an_engine_that_cannot_be_held_to_a_digest_is_refused() {
    let (mut project, base_name) = on_a_base("follow-docker20");
    project.source["engine"] = json!({"host": engine::of(EngineKind::Docker20).host()});
    let ran = put(&project, "master");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{}", ran.stderr);
    assert!(
        ran.stderr.ends_with(
            "error: the engine cannot be held to the digests of base images, which `source.build.follow_bases` needs\n\
             hint: take BuildKit 0.11 or later, or Docker 23 or later, or write the digests into the Dockerfile, or leave `follow_bases` out\n"
        ),
        "{}",
        ran.stderr
    );
    // A digest in the Dockerfile needs nobody to hold to it.
    let digest = servers().registry().digest(base_name, "1").expect("it is there");
    let repository = servers().registry().repository(base_name);
    commit(&project, &format!("FROM {repository}@{digest}\nCOPY word /\n"), "1\n");
    let version = only(&project.check(None));
    assert_eq!(put(&project, "master").succeeds()["version"], version);
}

#[test]
fn what_the_engine_asks_for_while_the_base_moves_is_what_was_looked_up() {
    let base_name = "follow-race-base";
    base(base_name, "one");
    let registry = servers().registry();
    // What a library of Go asks first is a request of the engine: ours came before.
    let host = relay(&registry.host(), "User-Agent: ", move || drop(base(base_name, "two")));
    let mut project = following("follow-race", &format!("FROM {host}/{base_name}:1\nCOPY word /\n"));
    project.source["registries"] = json!([{"host": host, "insecure": true}]);
    let first = only(&project.check(None));
    assert_eq!(put(&project, "master").succeeds()["version"], first);
    assert_eq!(built_on(&project, &first), "one");
    moved(&project.check(Some(&first)), &first);
}

#[test]
fn a_release_stays_on_the_bases_that_it_was_released_on() {
    let (mut project, base_name) = on_a_base("follow-release");
    project.git.commit("master", &[file("ci/image/image.details", "VERSION=1.0.0\n")]);
    project.source["build"]["details"] = json!("ci/image/image.details");
    put(&project, "master").succeeds();
    let released = project.digest("1.0.0");
    base(base_name, "two");
    let ran = put(&project, "master");
    ran.succeeds();
    assert!(
        ran.stderr.contains("\ntag: 1.0.0 left: it was released on other base images, and is never moved\n"),
        "{}",
        ran.stderr
    );
    assert_eq!(project.digest("1.0.0"), released);
    assert_ne!(project.digest("master-latest"), released);
}

#[test]
fn the_reaper_keeps_the_builds_of_living_commits_and_removes_those_of_dead_ones() {
    let (project, base_name) = on_a_base("follow-reap");
    let feature = project.source_with(&[("/git/branch", json!("feature"))]);
    project.git.set("feature", "master");
    project.git.commit("feature", &[file("ci/image/word", "feature\n")]);
    let put_all = || {
        put(&project, "master").succeeds();
        let artifacts = project.checkout("feature", Some(1));
        Program::put(&artifacts).run(&json!({"source": feature, "params": {"source": "repo"}})).succeeds();
    };
    put_all();
    base(base_name, "two");
    put_all();
    let feature_commit = project.git.id("feature");
    project.git.delete("feature");
    let plan = Program::git_image(["reap", "--source", "-", "--grace", "0s", "--apply"]).run(&project.source);
    assert_eq!(plan.code, Some(0), "{}\n{}", plan.stdout, plan.stderr);
    let left = project.tags();
    assert_eq!(left.iter().filter(|tag| tag.starts_with("inputs-")).count(), 2, "{left:?}\n{}", plan.stdout);
    assert!(!left.contains(&feature_commit) && !left.contains(&"feature-latest".to_owned()), "{left:?}");
    assert!(left.contains(&"master-latest".to_owned()) && left.contains(&project.git.id("master")), "{left:?}");
    let ran = put(&project, "master");
    ran.succeeds();
    assert!(ran.stderr.contains("nothing to build"), "{}", ran.stderr);
}

#[test]
fn another_branch_uses_what_is_built_on_the_same_bases() {
    let (project, _) = on_a_base("follow-branches");
    let version = put(&project, "master").succeeds()["version"].clone();
    project.git.set("feat", "master");
    let source = project.source_with(&[("/git/branch", json!("feat"))]);
    let artifacts = project.checkout("feat", Some(1));
    let ran = Program::put(&artifacts).run(&json!({"source": source, "params": {"source": "repo"}}));
    assert_eq!(ran.succeeds()["version"], version);
    assert!(ran.stderr.contains("nothing to build"), "{}", ran.stderr);
    assert_eq!(project.digest("feat-latest"), project.digest("master-latest"));
}

#[test]
fn rebuild_moves_the_tags_to_the_new_build_on_the_same_bases() {
    let (project, _) = on_a_base("follow-rebuild");
    let version = put(&project, "master").succeeds()["version"].clone();
    let (content, before) = (content_besides(&project, &[]), pointed(&project));
    let params = json!({"source": "repo", "rebuild": true, "labels": {"by": "repair"}});
    let artifacts = project.checkout("master", Some(1));
    let ran = Program::put(&artifacts).run(&json!({"source": project.source, "params": params}));
    assert_eq!(ran.succeeds()["version"], version);
    let after = project.digest(&content);
    assert_eq!(pointed(&project), [after.clone(), after]);
    assert_ne!(pointed(&project), before);
}

#[test]
fn an_image_that_git_does_not_describe_has_bases_when_it_is_built() {
    let (mut project, base_name) = on_a_base("follow-beyond");
    project.source["only_built"] = json!(true);
    put(&project, "master").succeeds();
    let older = project.git.id("master");
    project.git.commit("master", &[file("ci/image/word", "2\n")]);
    let newer = put(&project, "master").succeeds()["version"].clone();
    let latest = project.digest("master-latest");

    // A context of a task is built on what its own Dockerfile names.
    let artifacts = project.checkout("master", Some(1));
    std::fs::create_dir(artifacts.join("made")).expect("the directory is ours");
    let dockerfile = format!("FROM {}:1\n", servers().registry().repository(base_name));
    std::fs::write(artifacts.join("made/Dockerfile"), dockerfile).expect("the directory is ours");
    let request = |params: Value| json!({"source": project.source, "params": params});
    let ran = Program::put(&artifacts).run(&request(json!({"source": "repo", "context": "made"})));
    let made = ran.succeeds()["version"].clone();
    assert_eq!((&made["ref"], &made["bases"]), (&newer["ref"], &newer["bases"]));
    assert_eq!(only(&project.check(Some(&made))), made);
    assert_eq!(built_on(&project, &made), "one");

    // A finished image is built on nothing; that of an older commit does not take the branch's tag.
    put(&project, "master").succeeds();
    assert_eq!(project.digest("master-latest"), latest);
    project.git.set("old", &older);
    let artifacts = project.checkout("old", Some(1));
    image::layout(&artifacts.join("made"), &[], json!({}));
    let ran = Program::put(&artifacts).run(&request(json!({"source": "repo", "image": "made"})));
    let finished = ran.succeeds()["version"].clone();
    assert_eq!((&finished["ref"], &finished["bases"]), (&json!(older), &Value::Null));
    assert_eq!(project.digest("master-latest"), latest, "{}", ran.stderr);
}
