//! What else may happen while the reaper runs: it is killed, somebody pushes, somebody removes.

use std::process::Command;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{Saved, after_a_branch, apply, lines, save, tags};
use crate::project::Project;
use crate::support::git::file;
use crate::support::program::Program;
use crate::support::proxy::{Proxy, Then};
use crate::support::server::run;
use crate::support::servers;

/// Whether a request may change something.
pub fn writes(request: &str) -> bool {
    !request.starts_with("GET ") && !request.starts_with("HEAD ")
}

/// The source with the registry behind a proxy.
pub fn behind(project: &Project, proxy: &Proxy) -> Value {
    project.source_with(&[("/registry/repository", json!(format!("{}/{}", proxy.host(), project.name)))])
}

#[test]
fn a_run_that_is_killed_at_a_write_is_finished_by_the_next_one() {
    let (project, dead) = after_a_branch("reap-killed");
    let saved: Vec<Saved> = dead.iter().map(|tag| save(&project, tag)).collect();
    let kept: Vec<(String, Option<String>)> = project
        .tags()
        .into_iter()
        .filter(|tag| !dead.contains(tag))
        .map(|tag| (project.digest(&tag), tag))
        .map(|(digest, tag)| (tag, digest))
        .collect();
    // Some of them: the unit tests kill it at every one.
    for write in (1..).step_by(4) {
        for image in &saved {
            image.put(project.name, &image.tag);
        }
        let mut seen = 0;
        let proxy = Proxy::start(&servers().registry().host(), move |request| {
            seen += usize::from(writes(request));
            if seen == write && writes(request) { Then::Hold } else { Then::Pass }
        });
        let running = Program::git_image(["reap", "--source", "-", "--grace", "0s", "--apply"])
            .start(&behind(&project, &proxy).to_string());
        let held = proxy.wait_until_held_or(|| !is_running(running.id()));
        let Some(request) = held else {
            assert_eq!(running.wait().code, Some(0));
            assert!(write > 20, "writes of all kinds were tried: {write}");
            break;
        };
        kill_process(pid(running.id()), Signal::KILL).expect("the program still runs");
        assert_eq!(running.wait().code, None);
        for (tag, digest) in &kept {
            assert_eq!(project.digest(tag), *digest, "{tag} after {request}");
        }
        let again = apply(&project.source);
        assert_eq!(again.code, Some(0), "after {request}:\n{}{}", again.stdout, again.stderr);
        assert_eq!(project.tags(), kept.iter().map(|(tag, _)| tag.clone()).collect::<Vec<_>>(), "after {request}");
    }
}

pub fn pid(id: u32) -> Pid {
    Pid::from_raw(id.try_into().expect("a process id is small")).expect("a process id is not 0")
}

/// Whether a child of ours still runs: it has an open memory map until it ends.
pub fn is_running(id: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_tombstone_of_a_killed_run_is_lifted_when_its_branch_is_there_again() {
    let (project, dead) = after_a_branch("reap-tombstone");
    let saved: Vec<Saved> = dead.iter().map(|tag| save(&project, tag)).collect();
    // Killed where the first tombstone of real tags is to be deleted: it lies on all of them that go first.
    let mut deletes = 0;
    let proxy = Proxy::start(&servers().registry().host(), move |request| {
        // The zeros, the probe by tag, the probe's tombstone, what is cleaned up of the probes; then the tombstone.
        deletes += usize::from(request.starts_with("PUT ") && request.contains("-latest"));
        if deletes > 0 && request.starts_with("DELETE ") { Then::Hold } else { Then::Pass }
    });
    let running = Program::git_image(["reap", "--source", "-", "--grace", "0s", "--apply"])
        .start(&behind(&project, &proxy).to_string());
    proxy.wait_until_held();
    kill_process(pid(running.id()), Signal::KILL).expect("the program still runs");
    running.wait();
    let is_hidden = |image: &&Saved| project.digest(&image.tag).as_ref() != Some(&image.digest);
    let hidden: Vec<&str> = saved.iter().filter(is_hidden).map(|image| image.tag.as_str()).collect();
    assert_eq!(hidden.len(), 3, "two commits and the branch: {hidden:?}");

    // The branch is there again, on another commit; a git tag names one of its old ones.
    project.git.commit("feat/foo", &[file("unrelated", "content\n")]);
    let old = saved.iter().find(|image| image.tag.len() == 40).expect("a commit has a tag");
    project.git.git(&["update-ref", "refs/tags/back", &old.tag]);
    let ran = apply(&project.source);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let restored = tags(&ran.stdout, "RESTORE");
    assert!(restored.contains(&"feat-foo-d8e70cfd-latest") && restored.len() >= 2, "{}", ran.stdout);
    for Saved { tag, digest, .. } in saved.iter().filter(|image| restored.contains(&image.tag.as_str())) {
        assert_eq!(project.digest(tag).as_ref(), Some(digest), "{tag}");
        assert!(ran.stderr.contains(&format!("restored {tag} to {digest}: ")), "{}", ran.stderr);
    }
}

#[test]
fn a_branch_that_is_pushed_between_plan_and_removal_keeps_its_tags() {
    let (project, dead) = after_a_branch("reap-pushed");
    let tip = dead.iter().find(|tag| tag.len() == 40).expect("a tag of a commit").clone();
    let path = project.git.path().to_owned();
    let mut done = false;
    let proxy = Proxy::start(&servers().registry().host(), move |request| {
        // The first probe comes after the plan.
        if !done && writes(request) {
            done = true;
            std::fs::write(path.join("refs/heads/back"), format!("{tip}\n")).expect("the repository is writable");
        }
        Then::Pass
    });
    let ran = apply(&behind(&project, &proxy));
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(tags(&ran.stdout, "REMOVE"), dead, "the plan was made before");
    assert!(ran.stderr.contains("git has moved meanwhile; deciding again\n"), "{}", ran.stderr);
    let left = project.tags();
    let kept = ran.stderr.lines().filter_map(|line| line.strip_prefix("kept ")?.split_once(':')).map(|(tag, _)| tag);
    for tag in kept {
        assert!(left.contains(&tag.to_owned()), "{tag}");
    }
    let alive: Vec<&String> = dead.iter().filter(|tag| left.contains(tag)).collect();
    assert!(alive.len() >= 2, "the commit and its content: {alive:?}\n{}", ran.stderr);
}

#[test]
fn a_tag_that_moves_between_plan_and_removal_is_left() {
    let (project, dead) = after_a_branch("reap-moves");
    let master = save(&project, "master-latest");
    let name = project.name;
    let mut done = false;
    let proxy = Proxy::start(&servers().registry().host(), move |request| {
        if !done && writes(request) {
            done = true;
            master.put(name, "feat-foo-d8e70cfd-latest");
        }
        Then::Pass
    });
    let ran = apply(&behind(&project, &proxy));
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains("skipped feat-foo-d8e70cfd-latest: it moved since it was read\n"), "{}", ran.stderr);
    assert_eq!(project.digest("feat-foo-d8e70cfd-latest"), project.digest("master-latest"));
    assert_eq!(dead.iter().filter(|tag| project.tags().contains(tag)).count(), 1);
}

#[test]
fn a_put_that_reuses_a_dying_image_keeps_its_content_tag() {
    let (project, dead) = after_a_branch("reap-reused");
    let latest = save(&project, "feat-foo-d8e70cfd-latest");
    let (name, path) = (project.name, project.git.path().to_owned());
    let tip = project.git.id("master");
    let mut done = false;
    let proxy = Proxy::start(&servers().registry().host(), move |request| {
        if !done && writes(request) {
            done = true;
            std::fs::write(path.join("refs/heads/new"), format!("{tip}\n")).expect("the repository is writable");
            latest.put(name, "new-latest");
        }
        Then::Pass
    });
    let ran = apply(&behind(&project, &proxy));
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let image = project.digest("new-latest");
    let kept: Vec<&String> = dead.iter().filter(|tag| project.tags().contains(tag)).collect();
    assert_eq!(kept.len(), 1, "{kept:?}\n{}", ran.stderr);
    assert!(kept[0].starts_with("inputs-") && project.digest(kept[0]) == image, "{kept:?}");
}

#[test]
fn kept_tags_that_somebody_removes_meanwhile_are_put_back_and_named() {
    let (project, _) = after_a_branch("reap-repaired");
    let master = project.digest("master-latest").expect("master has an image");
    let before = project.tags();
    let same = before.iter().filter(|tag| project.digest(tag).as_ref() == Some(&master)).cloned();
    let same: Vec<String> = same.collect();
    let name = project.name;
    let mut done = false;
    let proxy = Proxy::start(&servers().registry().host(), move |request| {
        if !done && request.starts_with("PUT ") && request.contains("-latest") {
            done = true;
            assert_eq!(servers().registry().delete(name, &master), 202);
        }
        Then::Pass
    });
    let source = behind(&project, &proxy);
    let ran = apply(&source);
    let repository = source["registry"]["repository"].as_str().expect("it is a text");
    let error = ran.stderr.split_once("error: ").map_or("", |(_, error)| error);
    assert_eq!(
        error,
        format!(
            "REPAIRED: kept tags of {repository} were lost meanwhile and are put back: {}\n\
             hint: somebody else removed them or pushed at the same time; see that they pull, and use a grace period\n",
            same.join(", ")
        )
    );
    assert_eq!(ran.code, Some(1));
    let left = project.tags();
    assert!(same.iter().all(|tag| left.contains(tag)), "{left:?}");
    assert_eq!(left.len(), before.len() - lines(&ran.stdout, "REMOVE").len());
}

#[test]
fn a_tombstone_whose_answer_is_lost_is_never_put_twice() {
    let (project, dead) = after_a_branch("reap-lost-answer");
    let puts = Arc::new(Mutex::new(Vec::new()));
    let (sender, lost) = channel();
    let seen = Arc::clone(&puts);
    let proxy = Proxy::start(&servers().registry().host(), move |request| {
        if request.starts_with("PUT ") && request.ends_with("/feat-foo-d8e70cfd-latest") {
            let mut seen = seen.lock().expect("no thread panics with it");
            seen.push(request.to_owned());
            if seen.len() == 1 {
                sender.send(()).expect("the test still runs");
                return Then::LoseAnswer;
            }
        }
        Then::Pass
    });
    let ran = apply(&behind(&project, &proxy));
    lost.recv().expect("an answer was lost");
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("error: stopped half way in "), "{}", ran.stderr);
    assert!(!ran.stderr.contains("trying again"), "{}", ran.stderr);
    // The second one puts the image back that the first one hides.
    assert_eq!(puts.lock().expect("no thread panics with it").len(), 2);
    assert!(dead.iter().all(|tag| project.tags().contains(tag)), "nothing went");
    let again = apply(&project.source);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert_eq!(tags(&again.stdout, "REMOVE"), dead);
}

#[test]
fn a_push_at_every_question_to_git_stops_no_run() {
    let (project, dead) = after_a_branch("reap-pushes");
    let kept: Vec<String> = project.tags().into_iter().filter(|tag| !dead.contains(tag)).collect();
    let path = project.git.path().display().to_string();
    let pushes = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&pushes);
    let proxy = Proxy::start(&servers().git().host(), move |request| {
        if request.starts_with("POST ") {
            let git = |arguments: &[&str]| run(Command::new("git").args(["-C", &path]).args(arguments));
            let identity = ["-c", "user.name=Ada", "-c", "user.email=ada@acme.example"];
            let commit = git(&[&identity[..], &["commit-tree", "plain^{tree}", "-p", "plain", "-m", "more"]].concat());
            git(&["update-ref", "refs/heads/plain", &commit]);
            *counted.lock().expect("nobody panicked") += 1;
        }
        Then::Pass
    });
    let ran = apply(&project.source_with(&[("/git/uri", json!(format!("http://{}/reap-pushes.git", proxy.host())))]));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(project.tags(), kept);
    let pushes = *pushes.lock().expect("nobody panicked");
    assert!(5 < pushes && ran.stderr.contains("git has moved meanwhile; deciding again"), "{pushes}: {}", ran.stderr);
}
