//! What an image is built on: a tag is looked up once, and the engine is held to what was found.

use serde_json::{Value, json};

use crate::engines::put_on;
use crate::project::Project;
use crate::put::{base, relay};
use crate::support::engine::EngineKind;
use crate::support::git::file;
use crate::support::program::Program;
use crate::support::registry::{self, Access, Account, Registry};
use crate::support::{image, servers};

/// The labels of the base: its name and its digest.
#[track_caller]
fn labels(project: &Project) -> (Value, Value) {
    let config = servers().registry().image_config(project.name, "master-latest");
    let label = |name: &str| config["config"]["Labels"][format!("org.opencontainers.image.base.{name}")].clone();
    (label("name"), label("digest"))
}

/// What the base of the image left in it.
#[track_caller]
fn built_on(project: &Project, version: &Value) -> String {
    let (directory, ran) = project.get(version, json!({}));
    ran.succeeds();
    std::fs::read_to_string(directory.join("rootfs/base")).expect("the base has this file")
}

#[track_caller]
fn commit(project: &Project, dockerfile: &str) {
    project.git.commit("master", &[file("ci/image/Dockerfile", dockerfile), file("ci/image/word", "word\n")]);
}

#[test]
fn an_image_is_built_on_the_digest_of_its_label_though_the_tag_moves() {
    for kind in EngineKind::ALL {
        let name: &str = Box::leak(format!("bases-moves-{}", kind as u8).into_boxed_str());
        let (project, base_name): (_, &'static str) = (Project::empty(name), Box::leak(format!("{name}-base").into()));
        base(base_name, "one");
        let registry = servers().registry();
        let one = registry.digest(base_name, "1").expect("it was pushed");
        // What a library of Go asks first is a request of the engine: ours came before.
        let host = relay(&registry.host(), "User-Agent: ", move || drop(base(base_name, "two")));
        let reference = format!("{host}/{base_name}:1");
        commit(&project, &format!("FROM {reference} AS first\nFROM first\nCOPY word /\n"));
        let source = project.source_with(&[("/registries", json!([{"host": host, "insecure": true}]))]);
        let ran = put_on(kind, &project, &source, json!({}));
        let answer = ran.succeeds();
        let moved = registry.digest(base_name, "1").expect("it was pushed");
        assert_ne!(moved, one, "{}", kind.name());
        let shown =
            answer["metadata"].as_array().and_then(|lines| lines.iter().find(|line| line["name"] == "base image"));
        let shown = shown.expect("it is shown")["value"].clone();
        match kind {
            // It follows the tag, so which digest it had is not ours to say.
            EngineKind::Docker20 => {
                assert_eq!(labels(&project), (json!(reference), Value::Null));
                assert_eq!(shown, json!(reference));
                assert_eq!(built_on(&project, &answer["version"]), "two");
            }
            EngineKind::Docker28 | EngineKind::Docker28Containerd | EngineKind::BuildKit => {
                assert_eq!(built_on(&project, &answer["version"]), "one", "{}:\n{}", kind.name(), ran.stderr);
                assert_eq!(labels(&project), (json!(reference), json!(one)));
                assert_eq!(shown, json!(format!("{reference}@{one}")));
                assert!(ran.stderr.contains(&format!("\nbase: {reference} is {one}\n")), "{}", ran.stderr);
            }
        }
    }
}

#[test]
fn a_digest_in_the_dockerfile_is_the_label_on_every_engine() {
    base("bases-digest-base", "one");
    let one = servers().registry().digest("bases-digest-base", "1").expect("it was pushed");
    for kind in EngineKind::ALL {
        let project = Project::empty(Box::leak(format!("bases-digest-{}", kind as u8).into_boxed_str()));
        let reference = format!("{}@{one}", servers().registry().repository("bases-digest-base"));
        commit(&project, &format!("FROM {reference}\nCOPY word /\n"));
        put_on(kind, &project, &project.source, json!({})).succeeds();
        assert_eq!(labels(&project), (json!(reference), json!(one)), "{}", kind.name());
    }
}

#[test]
fn a_base_that_only_the_engine_can_ask_for_is_labelled_by_its_name() {
    let project = Project::empty("bases-unreachable");
    base("bases-unreachable-base", "one");
    // A registry of which the source does not say that it has no TLS.
    let host = relay(&servers().registry().host(), "nothing has this", || ());
    let reference = format!("{host}/bases-unreachable-base:1");
    commit(&project, &format!("FROM {reference}\nCOPY word /\n"));
    let ran = put_on(EngineKind::BuildKit, &project, &project.source, json!({}));
    let version = ran.succeeds()["version"].clone();
    let said = format!("\nbase: which digest {reference} has is left to the engine: cannot ");
    assert!(ran.stderr.contains(&said), "{}", ran.stderr);
    assert_eq!(labels(&project), (json!(reference), Value::Null));
    assert_eq!(built_on(&project, &version), "one");
}

#[test]
fn a_base_that_is_gone_is_for_the_engine_to_say() {
    let project = Project::empty("bases-gone");
    let reference = format!("{}:1", servers().registry().repository("bases-gone-base"));
    commit(&project, &format!("FROM {reference}\nCOPY word /\n"));
    let ran = put_on(EngineKind::BuildKit, &project, &project.source, json!({}));
    assert_eq!(ran.code, Some(1));
    let said = format!("\nbase: which digest {reference} has is left to the engine: its registry does not have it\n");
    assert!(ran.stderr.contains(&said), "{}", ran.stderr);
    let error = ran.stderr.split_once("error: ").map_or("", |(_, error)| error);
    assert!(error.contains(&reference), "{}", ran.stderr);
}

#[test]
fn a_base_behind_an_account_is_looked_up_with_it() {
    let account = Account { username: "base", password: "base-password" };
    for (number, access) in [Access::Basic(account), Access::Token(account)].into_iter().enumerate() {
        let registry = Registry::start(registry::Options { access, ..Default::default() });
        let reference = image::push_base(&registry, "private/base", "1", Some(account));
        let project = Project::empty(Box::leak(format!("bases-private-{number}").into_boxed_str()));
        commit(&project, &format!("FROM {reference}\nCOPY word /\n"));
        let login = json!({"host": registry.host(), "username": "base", "password": "base-password", "insecure": true});
        let source = project.source_with(&[("/registries", json!([login]))]);
        let ran = put_on(EngineKind::BuildKit, &project, &source, json!({}));
        ran.succeeds();
        let (name, digest) = labels(&project);
        assert_eq!(name, json!(reference));
        assert!(digest.as_str().is_some_and(|digest| digest.starts_with("sha256:")), "{digest}\n{}", ran.stderr);
        assert!(!ran.stdout.contains("base-password") && !ran.stderr.contains("base-password"), "{}", ran.stderr);
    }
}

#[test]
fn a_named_context_in_the_place_of_a_base_has_no_digest() {
    let project = Project::empty("bases-context");
    let named = base("bases-context-base", "one");
    commit(&project, "FROM other\nCOPY word /\n");
    let source = project.source_with(&[("/build/contexts", json!({"other": format!("docker-image://{named}")}))]);
    let ran = put_on(EngineKind::BuildKit, &project, &source, json!({}));
    ran.succeeds();
    assert_eq!(labels(&project), (json!("other"), Value::Null));
    assert!(!ran.stderr.contains("\nbase: "), "{}", ran.stderr);
}

#[test]
fn what_a_base_of_ours_says_of_itself_is_not_said_of_the_image() {
    let below = Project::new("bases-ours-below");
    let source = below.source_with(&[
        ("/build/follow_bases", json!(true)),
        ("/build/epoch", json!("2026-47")),
        ("/build/details", json!("ci/image/image.details")),
    ]);
    below.git.commit("master", &[file("ci/image/image.details", "VERSION=24.04\n")]);
    put_on(EngineKind::BuildKit, &below, &source, json!({})).succeeds();
    let labels = |project: &Project| {
        let config = servers().registry().image_config(project.name, "master-latest");
        config["config"]["Labels"].clone()
    };
    for name in ["version", "bases", "base-images", "inputs-but-epoch"] {
        let label = labels(&below)[format!("git-image.{name}")].clone();
        assert!(label.as_str().is_some_and(|label| !label.is_empty()), "{name}: {label}");
    }

    let project = Project::empty("bases-ours");
    let base = format!("{}:master-latest", servers().registry().repository(below.name));
    commit(&project, &format!("FROM {base}\nCOPY word /\n"));
    let source = project.source_with(&[("/only_built", json!(true))]);
    let version = project.put(&source, "master").succeeds()["version"].clone();
    for name in ["version", "bases", "base-images", "inputs-but-epoch"] {
        assert_eq!(labels(&project)[format!("git-image.{name}")], "", "{name}");
    }
    // The version that check announces has no bases, and the badge has no version.
    let checked = Program::check().run(&json!({"source": source})).succeeds();
    assert_eq!(checked, json!([version]));
    let commit = project.git.id("master");
    let badge = Program::git_image(["badge", "--source", "-", "--state", "passing"]).run(&source);
    assert!(badge.stdout.contains(&format!("build: passing {}", &commit[..7])), "{}{}", badge.stdout, badge.stderr);
}
