//! `git-image prune`: what goes, what stays, and what is left when it is stopped.

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::reap::meets::{is_running, pid, writes};
use crate::support::image::{OCI_INDEX, OCI_MANIFEST};
use crate::support::program::{Program, Ran};
use crate::support::proxy::{Proxy, Then};
use crate::support::registry::{Access, Account, Deletion, Options, Registry, Transport};
use crate::support::servers;

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Prunes a registry that everybody may use.
#[track_caller]
fn prune(registry: &Registry, pattern: &str, arguments: &[&str]) -> Ran {
    let host = registry.host();
    let all = ["prune", "--insecure", "--host", &host, "--match", pattern];
    Program::git_image(all.iter().chain(arguments).copied()).run_text("")
}

/// Pushes an image that says when it was made, and gives its digest.
#[track_caller]
fn push(registry: &Registry, repository: &str, tag: &str, created: &str) -> String {
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": created,
        "config": {"Labels": {"is": format!("{repository}:{created}")}}, "rootfs": {"type": "layers", "diff_ids": []},
    });
    put(registry, repository, tag, CONFIG, config.to_string().as_bytes())
}

#[track_caller]
fn put(registry: &Registry, repository: &str, tag: &str, media_type: &str, config: &[u8]) -> String {
    let digest = registry.put_blob(repository, config);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [],
        "config": {"mediaType": media_type, "digest": digest, "size": config.len()},
    });
    registry.put_manifest(repository, tag, OCI_MANIFEST, manifest.to_string().as_bytes())
}

fn day(day: usize) -> String {
    format!("2026-01-{day:02}T00:00:00Z")
}

/// The lines of a plan with this verdict, without the word.
fn lines<'a>(ran: &'a Ran, verdict: &str) -> Vec<&'a str> {
    ran.stdout.lines().filter_map(|line| Some(line.strip_prefix(verdict)?.trim_start())).collect()
}

/// The tags among them.
fn tags<'a>(ran: &'a Ran, verdict: &str) -> Vec<&'a str> {
    lines(ran, verdict).into_iter().filter_map(|line| Some(line.split_once(' ')?.0)).collect()
}

#[test]
fn the_newest_of_each_matching_repository_stay_and_still_pull() {
    let registry = servers().registry();
    let names = ["prune-keep/app", "prune-keep/web", "prune-keep/app/base"];
    for name in names {
        for number in 1..=4 {
            push(registry, name, &format!("v{number}"), &day(number));
        }
        // Further tags on images: one of a version that goes, and one of each that stays.
        push(registry, name, "old", &day(1));
        push(registry, name, "latest", &day(2));
        push(registry, name, "newest", &day(4));
    }
    let all = ["latest", "newest", "old", "v1", "v2", "v3", "v4"];
    let kept = ["latest", "newest", "v2", "v3", "v4"];

    let plan = prune(registry, "prune-keep/*", &["--keep-last", "2"]);
    assert_eq!(plan.code, Some(0), "{}", plan.stderr);
    let goes = ["app:old", "app:v1", "web:old", "web:v1"].map(|tag| format!("prune-keep/{tag}"));
    assert_eq!(tags(&plan, "REMOVE"), goes);
    let digest = registry.digest(names[0], "v1").expect("it is there");
    let line = format!("prune-keep/app:v1 {} made 2026-01-01T00:00:00Z: older than the newest 2", &digest[..19]);
    assert!(lines(&plan, "REMOVE").contains(&line.as_str()), "{}", plan.stdout);
    assert!(
        plan.stdout.ends_with("summary  keep 10, unknown 0, restore 0, remove 4\nlimits   within 100 tags a run\n")
    );
    for name in names {
        assert_eq!(registry.tags(name), all, "a plan changes nothing");
    }

    let ran = prune(registry, "prune-keep/*", &["--keep-last", "2", "--apply"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(ran.stdout, plan.stdout, "what is shown is what is done");
    for name in &names[..2] {
        assert_eq!(registry.tags(name), kept);
        for tag in kept {
            assert!(registry.digest(name, tag).is_some(), "{name}:{tag} is there");
            registry.image_config(name, tag);
        }
    }
    assert_eq!(registry.tags(names[2]), all, "what does not match is not touched");

    let again = prune(registry, "prune-keep/*", &["--keep-last", "2", "--apply"]);
    assert_eq!((again.code, tags(&again, "REMOVE")), (Some(0), Vec::new()), "{}", again.stderr);
    assert_eq!(registry.tags(names[0]), kept);
}

#[test]
fn a_protected_tag_stays_and_the_plan_can_be_json() {
    let (registry, name) = (servers().registry(), "prune-protect");
    for number in 1..=3 {
        push(registry, name, &format!("{number}"), &day(number));
    }
    push(registry, name, "release", &day(1));
    let ran = prune(registry, name, &["--keep-last", "1", "--protect", "rel*", "--json", "--apply"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let plan: Value = serde_json::from_str(&ran.stdout).expect("it is JSON");
    assert_eq!(plan["summary"], json!({"keep": 3, "unknown": 0, "restore": 0, "remove": 1}));
    assert_eq!(plan["tags"][0]["reason"], "tag release stays on the same digest");
    assert_eq!(registry.tags(name), ["1", "3", "release"]);
}

#[test]
fn a_repository_without_an_order_stays_and_the_others_go_on() {
    let registry = servers().registry();
    push(registry, "prune-order/equal", "a", &day(1));
    put(registry, "prune-order/equal", "b", CONFIG, format!(r#"{{"created":"{}"}}"#, day(1)).as_bytes());
    push(registry, "prune-order/good", "a", &day(1));
    push(registry, "prune-order/good", "b", &day(2));
    push(registry, "prune-order/repeatable", "a", "1970-01-01T00:00:00Z");
    push(registry, "prune-order/repeatable", "b", &day(2));
    push(registry, "prune-order/silent", "a", &day(1));
    put(registry, "prune-order/silent", "b", CONFIG, b"{}");
    let ran = prune(registry, "prune-order/*", &["--keep-last", "1", "--apply"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let reasons = lines(&ran, "UNKNOWN").into_iter().filter_map(|line| line.split_once("no order: "));
    let mut reasons: Vec<&str> = reasons.map(|(_, reason)| reason).collect();
    reasons.dedup();
    let silent = "when b was made is not told, its config has no `created`";
    let repeatable = "a says that it was made 1970-01-01T00:00:00Z, before 2013 or in the future";
    assert_eq!(reasons, ["a and b were made at the same time", repeatable, silent]);
    assert_eq!(registry.tags("prune-order/good"), ["b"]);
    for name in ["equal", "repeatable", "silent"] {
        assert_eq!(registry.tags(&format!("prune-order/{name}")), ["a", "b"], "{name}");
    }
}

#[test]
fn a_plan_that_goes_too_far_is_refused() {
    let (registry, name) = (servers().registry(), "prune-brake");
    for number in 1..=3 {
        push(registry, name, &format!("{number}"), &day(number));
    }
    let ran = prune(registry, name, &["--keep-last", "1", "--max-delete", "1", "--apply"]);
    let (host, repository) = (registry.host(), registry.repository(name));
    assert_eq!(
        ran.stderr,
        format!(
            "reading the tags of {repository}\n\
             error: refused to prune {host}\n\
             cause: the plan removes 2 of 3 tags, more than the 1 of --max-delete\n\
             hint: read the plan; if it is right, allow it with --max-delete 2\n"
        )
    );
    assert_eq!((ran.code, registry.tags(name).len()), (Some(1), 3));
    prune(registry, "prune-brake-*", &["--keep-last", "1"]).fails_with(&format!(
        "error: no repository of {host} matches \"prune-brake-*\"\n\
         hint: * does not reach beyond a /; only what the registry shows to this account is looked at\n"
    ));
}

#[test]
fn what_a_stopped_run_left_is_undone_or_finished() {
    let (registry, name) = (servers().registry(), "prune-stopped");
    let digests: Vec<String> = (1..=3).map(|number| push(registry, name, &format!("{number}"), &day(number))).collect();
    // A run put its tombstone on the first tag, and on one that stays by now, and was killed.
    let note = json!({
        "repository": "git-image prune", "run": "0123456789abcdef", "number": 1,
        "tags": {"1": digests[0], "3": digests[2]},
    });
    for tag in ["1", "3"] {
        put(registry, name, tag, "application/vnd.git-image.tombstone.v1+json", note.to_string().as_bytes());
    }
    let ran = prune(registry, name, &["--keep-last", "2", "--apply"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!((tags(&ran, "REMOVE"), tags(&ran, "RESTORE")), (vec!["prune-stopped:1"], vec!["prune-stopped:3"]));
    assert_eq!(registry.tags(name), ["2", "3"]);
    assert_eq!(registry.digest(name, "3").as_ref(), Some(&digests[2]));
}

#[test]
fn a_run_that_is_killed_at_any_write_is_finished_by_the_next_one() {
    let (registry, name) = (servers().registry(), "prune-killed");
    let fill = || {
        let digests = [1, 2, 3, 4].map(|number| push(registry, name, &format!("v{number}"), &day(number)));
        push(registry, name, "also", &day(1));
        push(registry, name, "latest", &day(2));
        push(registry, name, "release", &day(2));
        for digest in [&digests[0], &digests[3]] {
            let signature = format!("{}.sig", digest.replace(':', "-"));
            put(registry, name, &signature, "application/vnd.oci.empty.v1+json", b"{}");
        }
        digests
    };
    let digests = fill();
    let signature = format!("{}.sig", digests[3].replace(':', "-"));
    let images = [("latest", 1), ("release", 1), ("v2", 1), ("v3", 2), ("v4", 3)];
    let kept: Vec<&str> = ["latest", "release", &signature, "v2", "v3", "v4"].into();
    let assert_kept = |when: &str| {
        for (tag, image) in images {
            assert_eq!(registry.digest(name, tag).as_ref(), Some(&digests[image]), "{tag} after {when}");
            registry.image_config(name, tag);
        }
        assert!(registry.digest(name, &signature).is_some(), "after {when}");
    };
    for write in 1.. {
        fill();
        let mut seen = 0;
        let proxy = Proxy::start(&registry.host(), move |request| {
            seen += usize::from(writes(request));
            if seen == write && writes(request) { Then::Hold } else { Then::Pass }
        });
        let host = proxy.host();
        let asked = ["--keep-last", "2", "--protect", "rel*", "--apply"];
        let running = ["prune", "--insecure", "--host", &host, "--match", name].into_iter().chain(asked);
        let running = Program::git_image(running).start("");
        let Some(request) = proxy.wait_until_held_or(|| !is_running(running.id())) else {
            assert_eq!(running.wait().code, Some(0));
            assert!(write > 20, "writes of all kinds were tried: {write}");
            break;
        };
        kill_process(pid(running.id()), Signal::KILL).expect("the program still runs");
        assert_eq!(running.wait().code, None);
        assert_kept(&request);
        let again = prune(registry, name, &asked);
        assert_eq!(again.code, Some(0), "after {request}:\n{}{}", again.stdout, again.stderr);
        assert_kept(&request);
        assert_eq!(registry.tags(name), kept, "after {request}");
    }
}

#[test]
fn a_registry_without_deletes_is_said_and_nothing_is_written() {
    let registry = Registry::start(Options { deletion: Deletion::Disabled, ..Options::default() });
    push(&registry, "app", "1", &day(1));
    push(&registry, "app", "2", &day(2));
    let ran = prune(&registry, "app", &["--keep-last", "1", "--apply"]);
    let repository = registry.repository("app");
    assert_eq!(
        ran.stderr,
        format!(
            "reading the tags of {repository}\n\
             error: cannot remove tags from {repository}: the registry does not allow deletes\n\
             hint: allow them: in distribution's registry, `storage.delete.enabled: true`\n"
        )
    );
    assert_eq!((ran.code, registry.tags("app")), (Some(1), vec!["1".to_owned(), "2".to_owned()]));
}

#[test]
fn a_registry_that_asks_who_we_are_is_pruned() {
    let account = Account { username: "ada", password: "secret" };
    for (access, transport) in [(Access::Basic(account), Transport::Tls), (Access::Token(account), Transport::Plain)] {
        let registry = Registry::start(Options { access, transport, ..Options::default() });
        crate::support::image::push_base(&registry, "app", "1", Some(account));
        let trust = match registry.ca_file() {
            Some(file) => format!("--ca-cert={}", file.display()),
            None => "--insecure".to_owned(),
        };
        let host = registry.host();
        let asked = ["--username", "ada", "--password-stdin", "--apply"];
        let all = ["prune", "--host", &host, &trust, "--match", "*", "--keep-last", "1"];
        let ran = Program::git_image(all.into_iter().chain(asked)).run_text("secret\n");
        assert_eq!((ran.code, tags(&ran, "KEEP")), (Some(0), vec!["app:1"]), "{}", ran.stderr);
    }
}

#[test]
fn signatures_go_and_stay_with_their_images() {
    let (registry, name) = (servers().registry(), "prune-signed");
    let digests = [1, 2].map(|number| push(registry, name, &format!("{number}"), &day(number)));
    let signatures = digests.each_ref().map(|digest| format!("{}.sig", digest.replace(':', "-")));
    for signature in &signatures {
        put(registry, name, signature, "application/vnd.oci.empty.v1+json", b"{}");
    }
    let ran = prune(registry, name, &["--keep-last", "1", "--apply"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(registry.tags(name), ["2", &signatures[1]]);
    assert!(registry.digest(name, &signatures[1]).is_some(), "it shares its digest with the one that went");
}

#[test]
fn the_images_of_an_index_stay_and_go_with_it() {
    let (registry, name) = (servers().registry(), "prune-index");
    let mut kept = Vec::new();
    for number in 1..=2 {
        // One of the platforms has a tag too; the index is as old as its first image.
        let image = push(registry, name, &format!("{number}-amd64"), &day(number));
        let other = push(registry, name, &format!("arm-{number}"), &format!("2026-01-{number:02}T00:00:01Z"));
        let child = |digest: &str, architecture: &str| {
            let size = registry.image_manifest(name, digest).to_string().len();
            json!({
                "mediaType": OCI_MANIFEST, "digest": digest, "size": size,
                "platform": {"os": "linux", "architecture": architecture},
            })
        };
        let index = json!({
            "schemaVersion": 2, "mediaType": OCI_INDEX,
            "manifests": [child(&image, "amd64"), child(&other, "arm64")],
        });
        registry.put_manifest(name, &number.to_string(), OCI_INDEX, index.to_string().as_bytes());
        kept = vec![image, other];
    }
    let ran = prune(registry, name, &["--keep-last", "1", "--apply"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(tags(&ran, "REMOVE"), ["1", "1-amd64", "arm-1"].map(|tag| format!("{name}:{tag}")), "{}", ran.stdout);
    assert_eq!(registry.tags(name), ["2", "2-amd64", "arm-2"]);
    for digest in kept {
        assert!(registry.digest(name, &digest).is_some(), "an image of the index that stayed is there");
    }
}
