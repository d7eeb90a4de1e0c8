//! What holds at every request, whoever else is at work.

mod grace;
pub mod model;
mod products;
mod untagged;

use std::collections::BTreeSet;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use self::model::{Deletes, Event, Model, Trouble, World};
use super::*;
use crate::clients::registry::Manifest;
use crate::decide::reap::artifact;
use crate::decide::reap::{Keep, Labels, MaxDelete};
use crate::names::{Branch, CommitId, GitRepository, GitUrl, InputsId};

fn git_repository() -> GitRepository {
    let (url, _) = GitUrl::parse("https://git.example/acme/app.git").expect("a good address");
    url.repository().clone()
}

fn repository() -> Repository {
    "registry.example/acme/app-ci".parse().expect("a good repository")
}

fn rules() -> Rules {
    Rules {
        repository: git_repository(),
        branch: None,
        tag_prefix: String::new(),
        keep: Keep::default(),
        grace: "0s".parse().expect("a good duration"),
        max_delete: MaxDelete::Count(1000),
        delete_untagged: false,
    }
}

fn branch(name: &str) -> Branch {
    name.parse().expect("a good branch")
}

fn commit(number: u8) -> CommitId {
    CommitId::from_bytes([number; 20])
}

fn content(number: u8) -> String {
    format!("inputs-{}", InputsId::from_bytes([number; 32]))
}

fn manifest(number: u8) -> Manifest {
    let bytes = Bytes::from(format!("{{\"image\":{number}}}"));
    let media_type = "application/vnd.oci.image.manifest.v1+json".to_owned();
    Manifest { digest: Digest::of(&bytes), media_type, bytes }
}

fn latest(name: &str) -> String {
    tags::latest_tag("", &branch(name)).to_string()
}

/// Image 1 is master's; image 2 was built on a dead branch and is released; image 3 is of dead branches only; image 4
/// was built on a dead branch, and the living branch `feature` uses it.
fn story() -> World {
    let mut world = World::default();
    world.branches.insert(branch("master"), commit(1));
    world.branches.insert(branch("feature"), commit(6));
    let dead = [commit(2), commit(3), commit(4)].map(|commit| commit.to_string());
    let dead = [(dead[0].as_str(), 2), (&dead[1], 3), (&dead[2], 4), (&latest("gone"), 3), (&latest("too"), 3)];
    let alive = [
        (latest("master"), 1),
        (commit(1).to_string(), 1),
        (content(1), 1),
        (content(2), 2),
        ("v1.2.0".to_owned(), 2),
        (latest("feature"), 4),
        (commit(6).to_string(), 4),
        (content(4), 4),
    ];
    for number in 1..=4 {
        let labels = Labels {
            repository: Some(git_repository().to_string()),
            commit: Some(commit(number).to_string()),
            inputs: Some(InputsId::from_bytes([number; 32]).to_string()),
            bases: None,
        };
        world.labels.insert(manifest(number).digest, labels);
    }
    for (tag, number) in dead {
        world.put(tag, &manifest(number));
    }
    world.put(&content(3), &manifest(3));
    for (tag, number) in alive {
        world.put(&tag, &manifest(number));
        world.protected.insert(tag.parse().expect("a tag"), manifest(number).digest);
    }
    world
}

/// So many hours after the first run of a story.
fn after_hours(hours: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + hours * 3600).expect("a time of this century")
}

/// Runs the reaper; `None` when it was killed.
fn run(model: &Model, mode: Mode) -> Option<Result<String, String>> {
    run_by(model, mode, &rules(), after_hours(0))
}

/// The same by other rules, at a time.
fn run_by(model: &Model, mode: Mode, rules: &Rules, now: Timestamp) -> Option<Result<String, String>> {
    let (repository, say) = (repository(), Say::new(std::io::sink()));
    let mut output = Vec::new();
    let request = Request { repository: &repository, rules, mode, now, format: Format::Text, html: None };
    let result = {
        let mut future = pin!(plan_and_apply(model, &request, &mut output, &say));
        let mut context = Context::from_waker(Waker::noop());
        loop {
            match future.as_mut().poll(&mut context) {
                Poll::Ready(result) => break result,
                Poll::Pending if model.world.borrow().killed => return None,
                Poll::Pending => {}
            }
        }
    };
    let output = String::from_utf8(output).expect("a plan is text");
    Some(result.map(|()| output).map_err(|error| crate::error::Report(&error.into()).to_string()))
}

/// The same registry for the next run.
fn after(model: Model) -> Model {
    let world = World { killed: false, requests: 0, ..model.world.into_inner() };
    Model::new(world, model.deletes, Trouble::None)
}

#[track_caller]
fn assert_reaped(model: &Model) {
    let world = model.world.borrow();
    let left: BTreeSet<String> = world.protected.keys().map(Tag::to_string).collect();
    assert_eq!(world.tags(), left);
}

/// How many requests a whole run makes.
fn requests(deletes: Deletes) -> usize {
    let model = Model::new(story(), deletes, Trouble::None);
    run(&model, Mode::Apply).expect("nobody killed it").expect("no error");
    assert_reaped(&model);
    model.world.into_inner().requests
}

/// The request that begins to verify: it lists the tags, just after the last look at git.
fn verifying(deletes: Deletes) -> usize {
    let model = Model::new(story(), deletes, Trouble::None);
    run(&model, Mode::Apply).expect("nobody killed it").expect("no error");
    model.world.into_inner().lists.last().copied().expect("the tags are listed")
}

#[test]
fn dead_tags_go_and_their_siblings_stay_on_registries_of_every_kind() {
    for deletes in [
        Deletes::ByDigest,
        Deletes::ByTag,
        Deletes::TagMeansManifest,
        Deletes::TagIsNotFound,
        Deletes::TagIsIgnored,
        Deletes::OwnApi,
    ] {
        assert!(requests(deletes) > 0, "{deletes:?}");
    }
}

#[test]
fn a_registry_that_cannot_remove_a_single_tag_is_left_as_it_was() {
    let table = [
        (
            Deletes::Disabled,
            1,
            "error: cannot remove tags from registry.example/acme/app-ci: the registry does not allow deletes\n\
             hint: allow them: in distribution's registry, `storage.delete.enabled: true`",
        ),
        (
            Deletes::TagsStay,
            15,
            "error: cannot remove single tags from registry.example/acme/app-ci: tried on a probe, the tag was still there afterwards\n\
             hint: its own API may be needed: say what it is in `source.registry.api.product`; no tag was touched",
        ),
    ];
    for (deletes, writes, message) in table {
        let before = story();
        let tags = before.tags.clone();
        let model = Model::new(before, deletes, Trouble::None);
        assert_eq!(run(&model, Mode::Apply), Some(Err(message.to_owned())));
        let world = model.world.borrow();
        assert_eq!(world.writes, writes, "{deletes:?}");
        for (tag, digest) in &tags {
            assert_eq!(world.resolve(tag.as_str()), Some(*digest), "{deletes:?} {tag}");
        }
    }
}

#[test]
fn without_apply_only_reads_are_sent() {
    let model = Model::new(story(), Deletes::ByDigest, Trouble::None);
    let plan = run(&model, Mode::Plan).expect("nobody killed it").expect("no error");
    assert!(plan.contains("summary  keep 7, foreign 1, unknown 0, grace 0, restore 0, remove 6"), "{plan}");
    assert_eq!(model.world.borrow().writes, 0);
}

#[test]
fn a_plan_costs_a_request_for_each_tag_and_two_for_each_image_of_which_a_tag_may_go() {
    let model = Model::new(story(), Deletes::ByDigest, Trouble::None);
    run(&model, Mode::Plan).expect("nobody killed it").expect("no error");
    let tags = model.world.borrow().tags.len();
    // Images 2, 3 and 4 have a dead tag. The list, and git.
    assert_eq!(model.world.borrow().requests, tags + 2 * 3 + 2);
}

#[test]
fn a_second_run_removes_nothing() {
    let model = Model::new(story(), Deletes::ByDigest, Trouble::None);
    run(&model, Mode::Apply).expect("nobody killed it").expect("no error");
    let again = after(model);
    let writes = again.world.borrow().writes;
    run(&again, Mode::Apply).expect("nobody killed it").expect("no error");
    assert_eq!(again.world.borrow().writes, writes);
}

#[test]
fn a_run_that_is_killed_at_any_request_is_finished_by_the_next_one() {
    for deletes in [Deletes::ByDigest, Deletes::ByTag, Deletes::TagMeansManifest, Deletes::OwnApi] {
        for number in 1..=requests(deletes) {
            let model = Model::new(story(), deletes, Trouble::Kill(number));
            assert_eq!(run(&model, Mode::Apply), None, "{deletes:?} {number}");
            let again = after(model);
            let result = run(&again, Mode::Apply).expect("nobody killed it");
            assert!(result.is_ok(), "{deletes:?} {number}: {result:?}");
            assert_reaped(&again);
        }
    }
}

#[test]
fn a_run_in_which_any_request_fails_loses_nothing_and_is_finished_by_the_next_one() {
    for deletes in [Deletes::ByDigest, Deletes::ByTag, Deletes::OwnApi] {
        for number in 1..=requests(deletes) {
            for trouble in [Trouble::FailBefore(number), Trouble::FailAfter(number)] {
                let model = Model::new(story(), deletes, trouble);
                let _ = run(&model, Mode::Apply).expect("nobody killed it");
                assert_eq!(model.world.borrow().hidden(), BTreeSet::new(), "{deletes:?} {trouble:?}");
                let again = after(model);
                let result = run(&again, Mode::Apply).expect("nobody killed it");
                assert!(result.is_ok(), "{deletes:?} {trouble:?}: {result:?}");
                assert_reaped(&again);
            }
        }
    }
}

#[test]
fn a_branch_that_is_killed_half_way_and_comes_back_gets_its_tag_back() {
    for number in 1..=requests(Deletes::ByDigest) {
        let model = Model::new(story(), Deletes::ByDigest, Trouble::Kill(number));
        assert_eq!(run(&model, Mode::Apply), None);
        let hidden = model.world.borrow().tags.contains_key(&latest("gone").parse::<Tag>().expect("a tag"));
        let again = after(model);
        again.world.borrow_mut().branches.insert(branch("gone"), commit(9));
        let result = run(&again, Mode::Apply).expect("nobody killed it");
        assert!(result.is_ok(), "{number}: {result:?}");
        let expected = hidden.then_some(manifest(3).digest);
        assert_eq!(again.world.borrow().resolve(&latest("gone")), expected, "{number}");
    }
}

#[test]
fn a_signature_goes_after_its_image_and_comes_back_with_it() {
    let signature = |number: u8| format!("sha256-{}.sig", manifest(number).digest.hex());
    let signed = || {
        let mut world = story();
        for number in [1, 3] {
            world.put(&signature(number), &manifest(100 + number));
        }
        world.protected.insert(signature(1).parse().expect("a tag"), manifest(101).digest);
        world
    };
    for number in 1.. {
        let model = Model::new(signed(), Deletes::ByDigest, Trouble::Kill(number));
        if run(&model, Mode::Apply).is_some() {
            assert!(number > 40, "it was killed at some requests");
            assert_reaped(&model);
            break;
        }
        let revived = Model::new(model.world.take(), Deletes::ByDigest, Trouble::None);
        let was_there = revived.world.borrow().tags.contains_key(&signature(3).parse::<Tag>().expect("a tag"));
        let has_image = revived.world.borrow().tags.contains_key(&latest("gone").parse::<Tag>().expect("a tag"));
        revived.world.borrow_mut().killed = false;
        if has_image {
            revived.world.borrow_mut().branches.insert(branch("gone"), commit(9));
        }
        run(&revived, Mode::Apply).expect("nobody killed it").expect("no error");
        let expected = (was_there && has_image).then_some(manifest(103).digest);
        assert_eq!(revived.world.borrow().resolve(&signature(3)), expected, "{number}");
    }
}

#[test]
fn a_tombstone_whose_image_is_gone_does_not_stay_in_the_place_of_an_image() {
    let mut world = story();
    let before = [(content(8), manifest(8).digest)].into();
    let tombstone = artifact::tombstone(git_repository().as_str(), &RunId::new([1; 8]), 1, before);
    world.notes.insert(Digest::of(&tombstone.config), tombstone.config);
    world.put(&content(8), &tombstone.manifest);
    world.put(&latest("master"), &tombstone.manifest);
    world.protected.remove(&latest("master").parse::<Tag>().expect("a tag"));
    let model = Model::new(world, Deletes::ByDigest, Trouble::None);
    run(&model, Mode::Apply).expect("nobody killed it").expect("no error");
    assert_reaped(&model);
}

/// Runs a whole reap with an event just before each of its requests.
fn with_event_at_every_request(deletes: Deletes, event: impl Fn() -> Event, check: impl Fn(usize, &World)) {
    for number in 1..=requests(deletes) {
        let model = Model::new(story(), deletes, Trouble::None);
        model.event.replace(Some((number, event())));
        let result = run(&model, Mode::Apply).expect("nobody killed it");
        assert!(result.is_ok(), "{number}: {result:?}");
        check(number, &model.world.borrow());
    }
}

#[test]
fn a_put_that_reuses_a_dying_image_at_any_moment_keeps_its_tag() {
    for deletes in [Deletes::ByDigest, Deletes::ByTag, Deletes::OwnApi] {
        let put = || -> Event {
            Box::new(|world| {
                world.branches.insert(branch("new"), commit(9));
                world.put(&latest("new"), &manifest(3));
                world.protected.insert(latest("new").parse().expect("a tag"), manifest(3).digest);
            })
        };
        with_event_at_every_request(deletes, put, |number, world| {
            assert_eq!(world.resolve(&latest("new")), Some(manifest(3).digest), "{number}");
            // Later, the put itself sets its content tag again. A reaper that did not list again would take it always.
            let [.., listed_again, _] = world.lists[..] else { panic!("the tags are listed more than once") };
            assert!(number > listed_again || world.resolve(&content(3)).is_some(), "{number} of {:?}", world.lists);
        });
    }
}

#[test]
fn a_dead_branch_that_is_pushed_again_at_any_moment_has_a_tag_in_the_end() {
    for deletes in [Deletes::ByDigest, Deletes::ByTag, Deletes::OwnApi] {
        let push = || -> Event {
            Box::new(|world| {
                world.branches.insert(branch("gone"), commit(9));
                world.labels.insert(manifest(9).digest, world.labels[&manifest(3).digest].clone());
                world.put(&latest("gone"), &manifest(9));
            })
        };
        with_event_at_every_request(deletes, push, |number, world| {
            assert!(world.resolve(&latest("gone")).is_some(), "{number}");
        });
    }
}

#[test]
fn a_branch_that_comes_back_without_a_push_gets_back_what_was_removed() {
    // What is pushed to git after the last look at it is a new branch to the registry.
    let revive = || -> Event { Box::new(|world| world.branches.extend([(branch("gone"), commit(9))])) };
    let verify = verifying(Deletes::ByDigest);
    with_event_at_every_request(Deletes::ByDigest, revive, |number, world| {
        if number < verify {
            assert_eq!(world.resolve(&latest("gone")), Some(manifest(3).digest), "{number} of {verify}");
        }
    });
}

#[test]
fn a_kept_tag_that_somebody_else_removes_is_put_back_and_named() {
    let model = Model::new(story(), Deletes::ByDigest, Trouble::None);
    let tag: Tag = latest("feature").parse().expect("a tag");
    let lose: Event = Box::new({
        let tag = tag.clone();
        move |world| {
            world.protected.remove(&tag);
            world.tags.remove(&tag);
        }
    });
    model.event.replace(Some((requests(Deletes::ByDigest) / 2, lose)));
    let error = run(&model, Mode::Apply).expect("nobody killed it").expect_err("repaired");
    assert_eq!(
        error,
        "error: REPAIRED: kept tags of registry.example/acme/app-ci were lost meanwhile and are put back: feature-latest\n\
         hint: somebody else removed them or pushed at the same time; see that they pull, and use a grace period"
    );
    assert_eq!(model.world.borrow().resolve(tag.as_str()), Some(manifest(4).digest));
}

#[test]
fn a_probe_that_another_command_takes_away_meanwhile_is_not_missed() {
    let probe = artifact::canary("git-image prune", &RunId::new([7; 8]), 1);
    let tag: Tag = "_reaper-canary-0707070707070707-a".parse().expect("a tag");
    for number in 1..=requests(Deletes::ByDigest) {
        let mut world = story();
        world.notes.insert(Digest::of(&probe.config), probe.config.clone());
        world.put(tag.as_str(), &probe.manifest);
        let model = Model::new(world, Deletes::ByDigest, Trouble::None);
        let (tag, digest) = (tag.clone(), probe.manifest.digest);
        let clean: Event = Box::new(move |world| {
            world.tags.remove(&tag);
            world.manifests.remove(&digest);
        });
        model.event.replace(Some((number, clean)));
        let result = run(&model, Mode::Apply).expect("nobody killed it");
        assert!(result.is_ok(), "{number}: {result:?}");
        assert_reaped(&model);
    }
}

#[test]
fn a_tag_that_goes_with_its_branch_meanwhile_is_not_put_back() {
    let tags = [latest("feature"), commit(6).to_string(), content(4)].map(|tag| tag.parse::<Tag>().expect("a tag"));
    for number in 1..verifying(Deletes::ByDigest) {
        let model = Model::new(story(), Deletes::ByDigest, Trouble::None);
        let tags = tags.clone();
        let go: Event = Box::new(move |world| {
            world.branches.remove(&branch("feature"));
            world.protected.retain(|tag, _| !tags.contains(tag));
            world.tags.remove(&tags[0]);
        });
        model.event.replace(Some((number, go)));
        let result = run(&model, Mode::Apply).expect("nobody killed it");
        assert!(result.is_ok(), "{number}: {result:?}");
        assert_eq!(model.world.borrow().resolve(&latest("feature")), None, "{number}");
    }
}

#[test]
fn many_tags_go_in_chunks_and_git_is_looked_at_before_each() {
    for deletes in [Deletes::ByDigest, Deletes::ByTag, Deletes::OwnApi] {
        let mut world = story();
        for number in 0..250 {
            world.put(&latest(&format!("gone{number}")), &manifest(3));
        }
        let model = Model::new(world, deletes, Trouble::None);
        // The branch comes back while the first chunk goes; its tag is in a later one.
        let revive: Event = Box::new(|world| {
            world.branches.insert(branch("gone99"), commit(9));
            world.protected.insert(latest("gone99").parse().expect("a tag"), manifest(3).digest);
        });
        model.event.replace(Some((400, revive)));
        run(&model, Mode::Apply).expect("nobody killed it").expect("no error");
        let world = model.world.borrow();
        assert_eq!(world.tags().len(), world.protected.len() + 1, "the content tag of its image stays too");
    }
}

#[test]
fn a_plan_that_goes_too_far_is_shown_and_refused_before_a_tag_is_touched() {
    let model = Model::new(story(), Deletes::ByDigest, Trouble::None);
    let (repository, say) = (repository(), Say::new(std::io::sink()));
    let rules = Rules { max_delete: MaxDelete::Count(5), ..rules() };
    let request = Request {
        repository: &repository,
        rules: &rules,
        mode: Mode::Apply,
        now: after_hours(0),
        format: Format::Text,
        html: None,
    };
    let mut output = Vec::new();
    let mut future = Box::pin(plan_and_apply(&model, &request, &mut output, &say));
    let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("the model never waits")
    };
    drop(future);
    let error = result.expect_err("a refusal");
    assert_eq!(
        crate::error::Report(&error.into()).to_string(),
        "error: refused to reap registry.example/acme/app-ci\n\
         cause: the plan removes 6 of 13 tags, more than the 5 of --max-delete\n\
         hint: read the plan; if it is right, allow it with --max-delete 6"
    );
    assert!(String::from_utf8_lossy(&output).contains("limits   exceeded"));
    assert_eq!(model.world.borrow().writes, 0);
}

#[test]
fn what_a_run_sees_dead_is_noted_also_when_its_plan_goes_too_far() {
    let rules = |limit| Rules {
        grace: "24h".parse().expect("a good duration"),
        max_delete: MaxDelete::Count(limit),
        ..rules()
    };
    let model = Model::new(story(), Deletes::ByDigest, Trouble::None);
    run_by(&model, Mode::Apply, &rules(5), after_hours(0)).expect("nobody killed it").expect("no error");
    // Meanwhile another branch goes.
    model.world.borrow_mut().branches.remove(&branch("feature"));
    model.world.borrow_mut().protected.clear();
    let before = model.world.borrow().tags();
    let refused = run_by(&model, Mode::Apply, &rules(5), after_hours(25)).expect("nobody killed it");
    assert!(refused.expect_err("a refusal").starts_with("error: refused to reap "));
    assert_eq!(model.world.borrow().tags(), before);
    let noted = model.world.borrow().journal().expect("there is one").journal.dead;
    assert_eq!(noted[&latest("feature")].since, after_hours(25));
    // So its day has begun.
    let plan = run_by(&model, Mode::Apply, &rules(100), after_hours(50)).expect("nobody killed it").expect("no error");
    assert!(plan.contains(&format!("REMOVE   {} ", latest("feature"))), "{plan}");
    assert_eq!(model.world.borrow().resolve(&latest("feature")), None);
}
