//! Images without a tag, and the later run that deletes them.

use super::*;
use crate::clients::registry::{Deleted, Descriptor};
use crate::decide::reap::artifact::JournalNote;

/// What a part of an index is in [`with_indexes`].
const CHILD: u8 = 30;

fn deleting() -> Rules {
    Rules { delete_untagged: true, ..rules() }
}

fn deletable() -> World {
    World { may_delete_images: true, ..story() }
}

#[track_caller]
fn reap_at(model: &Model, hours: i64, rules: &Rules) -> String {
    let result = run_by(model, Mode::Apply, rules, after_hours(hours)).expect("nobody killed it");
    result.unwrap_or_else(|error| panic!("after {hours} hours: {error}"))
}

/// A registry from which a run took the tags of image 3, and noted that.
fn untagged(world: World, deletes: Deletes) -> Model {
    let model = Model::new(world, deletes, Trouble::None);
    reap_at(&model, 0, &deleting());
    assert_eq!(noted(&model), [manifest(3).digest].into());
    assert!(has(&model, 3), "not by the run that takes the last tag");
    after(model)
}

fn noted(model: &Model) -> BTreeSet<Digest> {
    let note: Option<JournalNote> = model.world.borrow().journal();
    note.map(|note| note.journal.untagged.into_keys().collect()).unwrap_or_default()
}

fn has(model: &Model, number: u8) -> bool {
    model.world.borrow().manifests.contains_key(&manifest(number).digest)
}

/// Which images the registry has.
fn images(model: &Model) -> BTreeSet<u8> {
    (0..=255).filter(|number| has(model, *number)).collect()
}

fn descriptor(number: u8) -> Descriptor {
    let Manifest { digest, media_type, bytes } = manifest(number);
    Descriptor { media_type, digest, size: bytes.len() as u64, platform: None, annotations: BTreeMap::new() }
}

fn index(number: u8) -> Manifest {
    let bytes = Bytes::from(format!("{{\"index\":{number}}}"));
    let media_type = "application/vnd.oci.image.index.v1+json".to_owned();
    Manifest { digest: Digest::of(&bytes), media_type, bytes }
}

#[test]
fn an_image_goes_in_the_run_after_the_one_that_took_its_last_tag() {
    for deletes in [Deletes::ByDigest, Deletes::ByTag, Deletes::TagMeansManifest, Deletes::OwnApi] {
        let model = untagged(deletable(), deletes);
        let plan = reap_at(&model, 1, &deleting());
        assert!(plan.contains("\nDELETE   - sha256:"), "{plan}");
        assert!(plan.contains(" no tag is left since 2027-01-15T08:00:00Z\n"), "{plan}");
        assert!(plan.contains("\nuntagged keep 0, grace 0, delete 1\n"), "{plan}");
        // Image 2 is released, and image 4 is that of a living branch.
        assert_eq!((images(&model), noted(&model)), ([1, 2, 4].into(), BTreeSet::new()), "{deletes:?}");
        assert_reaped(&model);
        let writes = model.world.borrow().writes;
        reap_at(&model, 2, &deleting());
        assert_eq!(model.world.borrow().writes, writes, "nothing is left to do");
    }
}

#[test]
fn an_image_costs_two_requests_more() {
    let requests = |model: &Model| {
        let before = model.world.borrow().requests;
        reap_at(model, 1, &deleting());
        model.world.borrow().requests - before
    };
    let many = |count: u8| {
        let mut world = deletable();
        for number in 100..100 + count {
            let mut labels = world.labels[&manifest(3).digest].clone();
            labels.commit = Some(commit(number).to_string());
            world.labels.insert(manifest(number).digest, labels);
            world.put(&commit(number).to_string(), &manifest(number));
        }
        let model = Model::new(world, Deletes::ByDigest, Trouble::None);
        reap_at(&model, 0, &deleting());
        after(model)
    };
    assert_eq!(requests(&many(50)) - requests(&many(0)), 2 * 50);
}

#[test]
fn an_image_is_without_a_tag_for_the_grace_period_before_it_goes() {
    let rules = Rules { grace: "24h".parse().expect("a good duration"), ..deleting() };
    let model = Model::new(deletable(), Deletes::ByDigest, Trouble::None);
    reap_at(&model, 0, &rules);
    reap_at(&model, 24, &rules);
    assert_reaped(&model);
    let plan = reap_at(&model, 47, &rules);
    let line = " no tag is left since 2027-01-16T08:00:00Z, goes after 2027-01-17T08:00:00Z\n";
    assert!(plan.contains(line) && has(&model, 3), "{plan}");
    reap_at(&model, 48, &rules);
    assert!(!has(&model, 3));
}

#[test]
fn a_run_that_does_not_delete_forgets_nothing() {
    let model = untagged(deletable(), Deletes::ByDigest);
    model.world.borrow_mut().put(&latest("gone"), &manifest(1));
    reap_at(&model, 1, &rules());
    assert_eq!((noted(&model), has(&model, 3)), ([manifest(3).digest].into(), true));
    reap_at(&model, 2, &deleting());
    assert!(!has(&model, 3));
}

#[test]
fn an_image_that_is_needed_again_stays() {
    type Change = fn(&mut World);
    let table: [(Change, &str, bool); 4] = [
        (|world| world.put("mine", &manifest(3)), "tag mine points to it again", false),
        (
            |world| {
                world.children.insert(index(7).digest, vec![descriptor(3)]);
                world.put("several", &index(7));
            },
            "the index of tag several has it",
            false,
        ),
        (
            |world| world.put(&format!("sha256-{}", manifest(3).digest.hex()), &manifest(8)),
            "no tag is left, but sha256-",
            true,
        ),
        (
            |world| world.branches.extend([(branch("back"), commit(3))]),
            "no tag is left, but commit 0303030 is alive again",
            true,
        ),
    ];
    for (change, why, is_noted) in table {
        let model = untagged(deletable(), Deletes::ByDigest);
        change(&mut model.world.borrow_mut());
        let rules = deleting();
        let plan = run_by(&model, Mode::Plan, &rules, after_hours(1)).expect("nobody killed it").expect("no error");
        assert!(plan.contains(&format!("KEEP     - sha256:{} {why}", &manifest(3).digest.hex()[..12])), "{plan}");
        reap_at(&model, 1, &rules);
        assert_eq!((has(&model, 3), noted(&model).contains(&manifest(3).digest)), (true, is_noted), "{why}");
    }
}

/// Image 3 is an index now: it has a part that a foreign index has too, one of its own, and something refers to it.
fn with_indexes() -> World {
    let mut world = deletable();
    for number in CHILD..CHILD + 3 {
        world.manifests.insert(manifest(number).digest, manifest(number));
    }
    world.children.insert(manifest(3).digest, vec![descriptor(CHILD), descriptor(CHILD + 1)]);
    world.referrers = Some([(manifest(CHILD + 1).digest, vec![descriptor(CHILD + 2)])].into());
    world.children.insert(index(7).digest, vec![descriptor(CHILD)]);
    world.put("several", &index(7));
    world.protected.insert("several".parse().expect("a tag"), index(7).digest);
    world
}

#[test]
fn an_index_takes_with_it_what_belongs_to_nothing_else() {
    let model = untagged(with_indexes(), Deletes::ByDigest);
    let plan = reap_at(&model, 1, &deleting());
    assert!(plan.contains("; with 3 manifests more\n"), "{plan}");
    assert_eq!(images(&model), [1, 2, 4, CHILD].into());
    let deleted: Vec<Digest> = model.world.borrow().deleted.iter().map(|(_, digest)| *digest).collect();
    assert_eq!(deleted[0], manifest(3).digest, "an index goes before what it has");
}

#[test]
fn what_is_killed_at_any_request_is_finished_later_and_leaves_no_image() {
    for deletes in [Deletes::ByDigest, Deletes::ByTag, Deletes::OwnApi] {
        for runs_before in [0, 1] {
            for number in 1.. {
                let first = if runs_before == 0 {
                    Model::new(with_indexes(), deletes, Trouble::None)
                } else {
                    untagged(with_indexes(), deletes)
                };
                let killed = Model::new(first.world.into_inner(), deletes, Trouble::Kill(number));
                if run_by(&killed, Mode::Apply, &deleting(), after_hours(1)).is_some() {
                    assert!(number > 20, "it was killed at some requests");
                    break;
                }
                let mut model = killed;
                for hours in 2..5 {
                    model = after(model);
                    reap_at(&model, hours, &deleting());
                }
                assert_eq!(images(&model), [1, 2, 4, CHILD].into(), "{deletes:?} {runs_before} {number}");
                assert_eq!(noted(&model), BTreeSet::new());
                assert_reaped(&model);
            }
        }
    }
}

#[test]
fn what_fails_at_any_request_is_finished_later_and_loses_nothing() {
    for trouble in [Trouble::FailBefore, Trouble::FailAfter] {
        for number in 1.. {
            let first = untagged(with_indexes(), Deletes::ByDigest);
            let failed = Model::new(first.world.into_inner(), Deletes::ByDigest, trouble(number));
            let _ = run_by(&failed, Mode::Apply, &deleting(), after_hours(1)).expect("nobody killed it");
            if failed.world.borrow().requests < number {
                assert!(number > 20, "some requests failed");
                break;
            }
            let mut model = failed;
            for hours in 2..4 {
                model = after(model);
                reap_at(&model, hours, &deleting());
            }
            assert_eq!(images(&model), [1, 2, 4, CHILD].into(), "{number}");
        }
    }
}

/// Runs the second reap with an event just before each of its requests.
fn with_event_at_every_request(event: impl Fn() -> Event, check: impl Fn(usize, &Model, Result<String, String>)) {
    let last = {
        let model = untagged(deletable(), Deletes::ByDigest);
        reap_at(&model, 1, &deleting());
        model.world.into_inner().requests
    };
    for number in 1..=last {
        let model = untagged(deletable(), Deletes::ByDigest);
        model.event.replace(Some((number, event())));
        let result = run_by(&model, Mode::Apply, &deleting(), after_hours(1)).expect("nobody killed it");
        check(number, &model, result);
    }
}

#[test]
fn a_tag_that_is_set_again_at_any_moment_but_one_stays() {
    let tag = || -> Event { Box::new(|world| world.put("mine", &manifest(3))) };
    let lost = std::cell::Cell::new(0);
    with_event_at_every_request(tag, |number, model, result| {
        let world = model.world.borrow();
        if world.resolve("mine") == Some(manifest(3).digest) {
            // A tag that was seen to be lost is there again, and is named.
            return;
        }
        lost.set(lost.get() + 1);
        // No registry deletes a manifest only while it has no tag: what is set after the last look goes with it.
        let (deleted, _) = world.deleted[0];
        let looked = world.lists.iter().rfind(|list| **list < deleted).expect("the tags are listed before");
        assert!(*looked < number && number <= deleted, "{number}: {looked} to {deleted}; {result:?}");
    });
    assert!(lost.get() <= 3, "{} requests lie between the look and the delete", lost.get());
}

#[test]
fn an_index_that_is_pushed_meanwhile_gets_back_what_it_lacks() {
    let push = || -> Event {
        Box::new(|world| {
            world.children.insert(index(7).digest, vec![descriptor(3)]);
            world.put("several", &index(7));
        })
    };
    with_event_at_every_request(push, |number, model, result| {
        let deleted = model.world.borrow().deleted.first().copied();
        // Pushed when all was verified, it lacks a part that the registry would have refused it for.
        let last_list = model.world.borrow().lists.last().copied().expect("the tags are listed");
        assert!(has(model, 3) || number > last_list, "{number}: {result:?}");
        if deleted.is_some_and(|(at, _)| at >= number) {
            let error = result.expect_err("it was repaired");
            assert!(error.starts_with("error: REPAIRED: kept tags of "), "{error}");
        }
    });
}

#[test]
fn a_branch_that_comes_back_keeps_its_image_and_another_one_does_not() {
    let other = || -> Event { Box::new(|world| world.branches.extend([(branch("other"), commit(77))])) };
    with_event_at_every_request(other, |number, model, result| {
        assert!(result.is_ok() && !has(model, 3), "{number}: {result:?}");
    });

    let push = || -> Event { Box::new(|world| world.branches.extend([(branch("back"), commit(3))])) };
    with_event_at_every_request(push, |number, model, _| {
        let deleted = model.world.borrow().deleted.first().copied();
        // The look at git comes before that at the tags, and one GET and the DELETE after it.
        assert!(deleted.is_none_or(|(at, _)| number + 3 >= at), "{number}: {deleted:?}");
    });
}

#[test]
fn two_runs_at_once_do_no_harm() {
    let other = || -> Event {
        Box::new(|world| {
            let taken = World { requests: 0, lists: Vec::new(), ..std::mem::take(world) };
            let model = Model::new(taken, Deletes::ByDigest, Trouble::None);
            reap_at(&model, 1, &deleting());
            *world = model.world.into_inner();
        })
    };
    with_event_at_every_request(other, |number, model, result| {
        assert!(result.is_ok(), "{number}: {result:?}");
        assert_eq!(images(model), [1, 2, 4].into(), "{number}");
        assert_reaped(model);
    });
}

#[test]
fn what_the_registry_does_not_delete_is_named_and_tried_again() {
    let table = [
        (
            Deleted::NotAllowed,
            format!(
                "error: cannot delete {} from registry.example/acme/app-ci by its digest\n\
                 hint: no tag was touched; leave `reap.delete_untagged` out where the registry frees space by itself",
                manifest(3).digest
            ),
        ),
        (
            Deleted::Gone,
            format!(
                "error: stopped half way in registry.example/acme/app-ci; images deleted so far: 0\n\
                 cause: cannot delete {} from registry.example/acme/app-ci by its digest\n\
                 hint: no tag was touched; leave `reap.delete_untagged` out where the registry frees space by itself",
                manifest(3).digest
            ),
        ),
    ];
    for (answer, message) in table {
        let model = untagged(deletable(), Deletes::ByDigest);
        model.world.borrow_mut().spared.insert(manifest(3).digest, answer);
        let result = run_by(&model, Mode::Apply, &deleting(), after_hours(1)).expect("nobody killed it");
        assert_eq!(result, Err(message));
        assert_eq!(noted(&model), [manifest(3).digest].into());
        model.world.borrow_mut().spared.clear();
        reap_at(&model, 2, &deleting());
        assert!(!has(&model, 3));
    }
}

#[test]
fn no_more_images_go_in_one_run_than_tags_may() {
    let mut world = deletable();
    for number in 100..110 {
        let mut labels = world.labels[&manifest(3).digest].clone();
        labels.commit = Some(commit(number).to_string());
        world.labels.insert(manifest(number).digest, labels);
        world.put(&commit(number).to_string(), &manifest(number));
    }
    let model = Model::new(world, Deletes::ByDigest, Trouble::None);
    reap_at(&model, 0, &deleting());
    let few = Rules { max_delete: MaxDelete::Count(4), ..deleting() };
    let plan = reap_at(&model, 1, &few);
    assert!(plan.contains("\nuntagged keep 0, grace 7, delete 4\n"), "{plan}");
    assert!(plan.contains(" too many for one run; no tag is left since 2027-01-15T08:00:00Z\n"), "{plan}");
    for left in [7, 3, 0, 0] {
        assert_eq!(noted(&model).len(), left);
        reap_at(&model, 2, &few);
    }
    assert_eq!(images(&model), [1, 2, 4].into());
}

#[test]
fn what_an_image_needs_that_comes_back_stays_with_it() {
    // Image 5 is an index too, and shares a part with image 3.
    let world = || {
        let mut world = with_indexes();
        let labels = Labels { commit: Some(commit(5).to_string()), ..world.labels[&manifest(3).digest].clone() };
        world.labels.insert(manifest(5).digest, labels);
        world.children.insert(manifest(5).digest, vec![descriptor(CHILD + 1)]);
        world.put(&commit(5).to_string(), &manifest(5));
        let model = Model::new(world, Deletes::ByDigest, Trouble::None);
        reap_at(&model, 0, &deleting());
        after(model)
    };
    let model = world();
    reap_at(&model, 1, &deleting());
    assert_eq!(images(&model), [1, 2, 4, CHILD].into());
    let last = model.world.into_inner().requests;
    for number in 1..=last {
        let model = world();
        let back: Event = Box::new(|world| world.branches.extend([(branch("back"), commit(3))]));
        model.event.replace(Some((number, back)));
        reap_at(&model, 1, &deleting());
        assert_eq!(has(&model, 3), has(&model, CHILD + 1), "{number}: image 3 and its part");
        assert!(!has(&model, 5), "{number}");
    }
}
