//! `git-image doctor`: what can be reached, and what a real registry allows.

use serde_json::{Value, json};

use crate::project::{Project, with_engine};
use crate::support::program::{Program, Ran};
use crate::support::registry::{Deletion, Options, Registry};
use crate::support::servers;

fn doctor(source: &Value, arguments: &[&str]) -> Ran {
    Program::git_image(["doctor", "--source", "-"].iter().chain(arguments).copied()).run(source)
}

#[test]
fn all_that_can_be_reached_is_said_and_nothing_is_changed() {
    let project = Project::new("doctor");
    project.put(&project.source, "master").succeeds();
    let source = with_engine(&project.source);
    let before = project.tags();
    let ran = doctor(&source, &[]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{}", ran.stdout);
    let repository = servers().registry().repository("doctor");
    let expected = format!(
        "ok    git                      127.0.0.1/doctor: master is at {}\n\
         ok    registry                 {repository}: 3 tags\n\
         ok    delete by digest         yes\n\
         no    delete by tag            no: reap removes a tag by way of a manifest of its own\n\
         no    referrers                no: signatures are found by their tags alone\n\
         ok    mount and push           yes\n\
         ok    engine                   ",
        &project.git.id("master")[..7]
    );
    assert!(ran.stdout.starts_with(&expected), "{}", ran.stdout);
    assert_eq!(ran.stdout.lines().count(), 7, "{}", ran.stdout);
    assert_eq!(project.tags(), before);
    assert!(project.check(None).succeeds().is_array(), "the image is still there");
}

#[test]
fn what_a_registry_does_not_allow_is_no_failure_and_what_cannot_be_reached_is() {
    let project = Project::new("doctor-refused");
    let registry = Registry::start(Options { deletion: Deletion::Disabled, ..Options::default() });
    let source = project.source_with(&[
        ("/registry/repository", json!(registry.repository("app"))),
        ("/engine", json!({"host": "tcp://127.0.0.1:9"})),
        ("/build", json!({"args": {"API_TOKEN": "x"}})),
    ]);
    let verdicts = |ran: &Ran| {
        let findings: Value = serde_json::from_str(&ran.stdout).expect("it is JSON");
        let findings = findings.as_array().expect("it is a list").clone();
        findings.iter().map(|one| format!("{} {}", one["verdict"], one["what"]).replace('"', "")).collect::<Vec<_>>()
    };
    let ran = doctor(&source, &["--json"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(
        ran.stderr
            .ends_with("error: 1 of the things looked at would fail\nhint: what to do about each stands with it\n")
    );
    let known =
        ["ok git", "ok registry", "no delete by digest", "no delete by tag", "no referrers", "no mount and push"];
    let odd = ["odd source.engine.host", "odd source.build.context", "odd source.build.args.API_TOKEN"];
    assert_eq!(verdicts(&ran), [known.as_slice(), &["fail engine"], &odd].concat());

    let ran = doctor(&source, &["--json", "--without-engine"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(verdicts(&ran), [known.as_slice(), &odd].concat());

    // Who names no engine leaves it to the workers, of which this machine is none.
    let ran = doctor(&project.source, &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    let said = "no    engine                   none on this machine, and the source names none: put then uses a socket of its \
                worker, or the engine inside, which needs `privileged: true` on the resource type\n";
    assert!(ran.stdout.ends_with(said), "{}", ran.stdout);

    let unreachable =
        project.source_with(&[("/git/branch", json!("none")), ("/registry/repository", json!("127.0.0.1:9/app"))]);
    let ran = doctor(&unreachable, &["--without-engine"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("\nFAIL  registry                 error: cannot list the tags of 127.0.0.1:9/app\n"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.starts_with("FAIL  git                      error: "), "{}", ran.stdout);
    assert!(
        ran.stderr
            .ends_with("error: 2 of the things looked at would fail\nhint: what to do about each stands with it\n")
    );
}
