//! The journal in a real registry: what is noted, what goes by it, and whose it is.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{after_a_branch, save, tags};
use crate::project::Project;
use crate::support::image::OCI_MANIFEST;
use crate::support::program::{Program, Ran};
use crate::support::servers;

/// Applies with the default grace of a day.
#[track_caller]
fn apply(source: &Value) -> Ran {
    let ran = Program::git_image(["reap", "--source", "-", "--apply"]).run(source);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    ran
}

fn journals(project: &Project) -> Vec<String> {
    project.tags().into_iter().filter(|tag| tag.starts_with("_reaper-journal-")).collect()
}

/// What the journal says.
#[track_caller]
fn read(project: &Project, tag: &str) -> Value {
    let manifest: Value = serde_json::from_slice(&save(project, tag).bytes).expect("a manifest is JSON");
    let digest = manifest["config"]["digest"].as_str().expect("it has a config");
    let url = servers().registry().url(&format!("{}/blobs/{digest}", project.name));
    serde_json::from_slice(&crate::support::http::send("GET", &url, |request| request).body).expect("a journal is JSON")
}

/// Puts a journal in the place of the one that is there, as a run of an earlier day would have written it.
#[track_caller]
fn write(project: &Project, tag: &str, note: &Value) {
    let registry = servers().registry();
    let text = note.to_string();
    let config = registry.put_blob(project.name, text.as_bytes());
    let kind = "application/vnd.git-image.journal.v1+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": kind, "layers": [],
        "config": {"mediaType": kind, "digest": config, "size": text.len()},
    });
    registry.put_manifest(project.name, tag, OCI_MANIFEST, manifest.to_string().as_bytes());
}

#[test]
fn a_day_after_it_was_noted_what_is_dead_goes() {
    let (project, dead) = after_a_branch("reap-journal");
    let before = project.tags();
    let first = apply(&project.source);
    assert_eq!(tags(&first.stdout, "GRACE"), dead);
    assert!(first.stderr.ends_with("nothing to remove\n"), "{}", first.stderr);
    let [journal] = &journals(&project)[..] else { panic!("one journal: {:?}", project.tags()) };
    assert_eq!(project.tags().len(), before.len() + 1);

    let requests = servers().registry().requests_for(project.name).len();
    let again = apply(&project.source);
    assert!(again.stdout.contains("; dead since "), "{}", again.stdout);
    let requests = servers().registry().requests_for(project.name).split_off(requests);
    assert!(requests.iter().all(|request| !request.starts_with("PUT ")), "nothing is news: {requests:#?}");

    let mut note = read(&project, journal);
    assert_eq!(note["repository"], "127.0.0.1/reap-journal");
    for entry in note["journal"]["dead"].as_object_mut().expect("it has tags").values_mut() {
        entry["since"] = json!("2026-01-02T03:04:05Z");
    }
    write(&project, journal, &note);
    let last = apply(&project.source);
    assert_eq!(tags(&last.stdout, "REMOVE"), dead);
    assert!(last.stdout.contains("; dead since 2026-01-02T03:04:05Z\n"), "{}", last.stdout);
    let left: BTreeSet<String> =
        before.into_iter().filter(|tag| !dead.contains(tag)).chain([journal.clone()]).collect();
    assert_eq!(project.tags().into_iter().collect::<BTreeSet<_>>(), left);
    assert_eq!(read(&project, journal)["journal"]["dead"], json!({}));
}

#[test]
fn two_prefixes_have_two_journals_and_another_git_repository_is_refused() {
    let (one, _) = after_a_branch("reap-journal-shared");
    let two = Project::new("reap-journal-other");
    let shared = |prefix: &str| {
        let mut source = two.source.clone();
        source["registry"]["repository"] = one.source["registry"]["repository"].clone();
        source["registry"]["tag_prefix"] = json!(prefix);
        source
    };
    apply(&one.source);
    let [journal] = &journals(&one)[..] else { panic!("one journal: {:?}", one.tags()) };
    let before = one.tags();
    let ran = Program::git_image(["reap", "--source", "-", "--apply"]).run(&shared(""));
    let repository = servers().registry().repository(one.name);
    let error = ran.stderr.split_once("error: ").map_or("", |(_, error)| error);
    assert_eq!(
        error,
        format!(
            "refused to reap {repository}\n\
             cause: the reaper of 127.0.0.1/reap-journal-shared keeps its journal {journal} under the same tag prefix\n\
             hint: give each image of the repository its own `source.registry.tag_prefix`; if 127.0.0.1/reap-journal-shared is gone or has another name now, remove the tag {journal}\n"
        )
    );
    assert_eq!(ran.code, Some(1));
    assert_eq!(one.tags(), before);
    apply(&shared("two-"));
    assert_eq!(one.tags(), before, "nothing of it is dead");
}
