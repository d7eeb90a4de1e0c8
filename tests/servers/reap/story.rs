//! A long story on a real registry: branches come, are pushed to and go, and a reaper is killed at any request.
//!
//! After each event every `<branch>-latest` and every `<ref>` of what was pushed to a living branch pulls completely.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use super::apply;
use super::meets::{behind, is_running, pid};
use crate::project::Project;
use crate::support::chance::Chance;
use crate::support::git::file;
use crate::support::image::{MANIFEST_TYPES, OCI_MANIFEST};
use crate::support::program::Program;
use crate::support::proxy::{Proxy, Then};
use crate::support::{http, servers};

/// How many events a story has.
const EVENTS: u64 = 40;

struct Story {
    project: Project,
    chance: Chance,
    /// Of each living branch, the tags that were pushed for it and what they must point to.
    living: BTreeMap<String, BTreeMap<String, String>>,
    commits: u64,
}

impl Story {
    fn new(seed: u64) -> Self {
        let project = Project::new("reap-story");
        let mut story = Self { project, chance: Chance(seed), living: BTreeMap::new(), commits: 0 };
        story.push("master");
        story
    }

    /// A commit on a branch, and what its put writes. The image is one of five, so images are shared and come back.
    fn push(&mut self, branch: &str) {
        let Self { project, chance, living, commits } = self;
        if branch != "master" && !living.contains_key(branch) {
            project.git.set(branch, "master");
        }
        *commits += 1;
        let commit = project.git.commit(branch, &[file("app.sh", &format!("echo {commits}\n"))]);
        let content = format!("inputs-{}", format!("{:02x}", chance.below(5)).repeat(32));
        let (registry, name) = (servers().registry(), project.name);
        let url = registry.url(&format!("{name}/manifests/{content}"));
        let there = http::send("GET", &url, |request| request.header("accept", MANIFEST_TYPES.join(", ")));
        // A tombstone is no image of these inputs.
        let is_image = there.status == 200 && !there.text().contains("git-image.tombstone");
        let manifest = if is_image { there.body } else { image(project, &commit, &content) };
        let latest = format!("{branch}-latest");
        for tag in [&content, &commit, &latest, &content] {
            registry.put_manifest(name, tag, OCI_MANIFEST, &manifest);
        }
        let digest = crate::support::image::digest(&manifest);
        let tags = living.entry(branch.to_owned()).or_default();
        tags.extend([(commit, digest.clone()), (latest, digest)]);
    }

    fn delete(&mut self) {
        let branches: Vec<String> = self.living.keys().filter(|branch| *branch != "master").cloned().collect();
        if branches.is_empty() {
            return;
        }
        let at = usize::try_from(self.chance.below(branches.len() as u64)).expect("there are few");
        self.project.git.delete(&branches[at]);
        self.living.remove(&branches[at]);
    }

    fn any_branch(&mut self) -> String {
        match self.chance.below(5) {
            0 => "master".to_owned(),
            number => format!("branch-{number}"),
        }
    }

    /// Everything that must be there is there, with its config.
    #[track_caller]
    fn check(&self, after: &str) {
        for (tag, digest) in self.living.values().flatten() {
            assert_eq!(self.project.digest(tag).as_ref(), Some(digest), "{tag} after {after}");
            let config = servers().registry().image_config(self.project.name, tag);
            assert!(config["config"]["Labels"]["git-image.commit"].is_string(), "{tag} after {after}: {config}");
        }
    }
}

/// The labels of an image that is built at a commit.
pub fn labels(project: &Project, commit: &str, content: &str) -> Value {
    json!({
        "git-image.repository": format!("127.0.0.1/{}", project.name), "git-image.commit": commit,
        "git-image.inputs": content.trim_start_matches("inputs-"),
    })
}

/// Pushes the config of an image that is built at a commit; its manifest.
fn image(project: &Project, commit: &str, content: &str) -> Vec<u8> {
    let labels = labels(project, commit, content);
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Labels": labels}}).to_string();
    let digest = servers().registry().put_blob(project.name, config.as_bytes());
    let config = json!({
        "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": config.len(),
    });
    json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": []}).to_string().into_bytes()
}

/// Runs the reaper, with a push at one of its requests, and kills it at another one.
fn reap_and_kill(story: &Arc<Mutex<Story>>) -> String {
    let (push_at, kill_at, branch) = {
        let mut story = story.lock().unwrap_or_else(PoisonError::into_inner);
        let (push_at, kill_at) = (story.chance.below(90), story.chance.below(120));
        // A branch that never was: what is pushed again while its tags go is the business of its put.
        let branch = format!("during-{}", story.commits);
        (push_at, kill_at, branch)
    };
    let mut seen = 0;
    let pushes = Arc::clone(story);
    let proxy = Proxy::start(&servers().registry().host(), move |_| {
        seen += 1;
        if seen == push_at {
            pushes.lock().unwrap_or_else(PoisonError::into_inner).push(&branch);
        }
        if seen == kill_at { Then::Hold } else { Then::Pass }
    });
    let source = behind(&story.lock().unwrap_or_else(PoisonError::into_inner).project, &proxy);
    let arguments = ["reap", "--source", "-", "--grace", "0s", "--max-delete", "1000", "--apply", "--delete-untagged"];
    let running = Program::git_image(arguments).start(&source.to_string());
    let held = proxy.wait_until_held_or(|| !is_running(running.id()));
    if held.is_some() {
        kill_process(pid(running.id()), Signal::KILL).expect("the program still runs");
    }
    let ran = running.wait();
    format!("a push at request {push_at}, killed at {held:?}:\n{}", ran.stderr)
}

#[test]
fn whatever_happens_what_lives_pulls() {
    let story = Arc::new(Mutex::new(Story::new(20_261_121)));
    let lock = || story.lock().unwrap_or_else(PoisonError::into_inner);
    for number in 0..EVENTS {
        let event = lock().chance.below(10);
        let told = match event {
            0..=4 => {
                let branch = lock().any_branch();
                lock().push(&branch);
                format!("a push to {branch}")
            }
            5 | 6 => {
                lock().delete();
                "a branch went".to_owned()
            }
            _ => reap_and_kill(&story),
        };
        lock().check(&format!("event {number}: {told}"));
    }
    let mut source = lock().project.source.clone();
    source["reap"] = json!({"max_delete": 1000, "delete_untagged": true});
    for number in 1..=3 {
        let ran = apply(&source);
        assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
        lock().check(&format!("run {number} of the last"));
    }
    let again = apply(&source);
    assert_eq!(super::tags(&again.stdout, "REMOVE"), Vec::<&str>::new(), "{}", again.stdout);
    // Whoever was killed whenever: no image is left without a tag.
    let project = &lock().project;
    let left: Vec<String> = images_without_a_tag(project.name);
    assert_eq!(left, Vec::<String>::new(), "{}", again.stdout);
}

/// The images that the registry has and no tag points to, those of the reaper left out.
fn images_without_a_tag(name: &str) -> Vec<String> {
    let registry = servers().registry();
    let tagged: BTreeSet<Option<String>> = registry.tags(name).iter().map(|tag| registry.digest(name, tag)).collect();
    let revisions = registry.data().join(format!("repositories/{name}/_manifests/revisions/sha256"));
    let revisions = std::fs::read_dir(revisions).expect("the repository has manifests");
    let digests = revisions.map(|entry| {
        let name = entry.expect("a directory can be read").file_name();
        format!("sha256:{}", name.to_string_lossy())
    });
    let is_left = |digest: &String| {
        // A manifest that was deleted leaves an empty directory.
        let is_there = registry.digest(name, digest).is_some();
        is_there
            && !tagged.contains(&Some(digest.clone()))
            && !registry.image_manifest(name, digest)["config"]["mediaType"].to_string().contains("git-image")
    };
    digests.filter(is_left).collect()
}
