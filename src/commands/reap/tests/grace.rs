//! The journal, and the grace that it measures.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::clients::registry::PullTimes;
use crate::decide::reap::artifact::JournalNote;
use crate::decide::reap::journal::{Dead, Journal, Untagged};
use crate::decide::reap::pulls::Noted;

/// What happens to a journal.
type Harm<'a> = Box<dyn Fn(&Model) + 'a>;

fn a_day() -> Rules {
    Rules { grace: "24h".parse().expect("a good duration"), ..rules() }
}

/// Applies by a grace of a day, so many hours after the first run.
#[track_caller]
fn apply_after(model: &Model, hours: i64) -> String {
    let result = run_by(model, Mode::Apply, &a_day(), after_hours(hours)).expect("nobody killed it");
    result.unwrap_or_else(|error| panic!("after {hours} hours: {error}"))
}

fn dead_tags() -> BTreeSet<String> {
    let model = Model::new(story(), Deletes::ByDigest, Trouble::None);
    let all = model.world.borrow().tags();
    run(&model, Mode::Apply).expect("nobody killed it").expect("no error");
    let left = model.world.borrow().tags();
    all.difference(&left).cloned().collect()
}

fn journalled(model: &Model) -> BTreeSet<String> {
    let note = model.world.borrow().journal();
    note.map(|note| note.journal.dead.into_keys().collect()).unwrap_or_default()
}

/// A registry whose dead tags were seen dead by a run at hour 0.
fn seen_dead(deletes: Deletes) -> Model {
    let model = Model::new(story(), deletes, Trouble::None);
    apply_after(&model, 0);
    after(model)
}

#[test]
fn what_was_seen_dead_goes_when_its_grace_is_over_and_not_before() {
    let model = Model::new(story(), Deletes::ByDigest, Trouble::None);
    let all = model.world.borrow().tags();
    let first = apply_after(&model, 0);
    assert!(first.contains("; its clock starts with --apply\n"), "{first}");
    assert!(first.contains("grace    24h: the clock of every dead tag starts with the first --apply\n"), "{first}");
    assert_eq!((model.world.borrow().tags(), journalled(&model)), (all.clone(), dead_tags()));

    let writes = model.world.borrow().writes;
    let second = apply_after(&model, 23);
    assert!(second.contains("; dead since 2027-01-15T08:00:00Z, goes after 2027-01-16T08:00:00Z\n"), "{second}");
    assert!(second.contains("grace    24h: the journal of 2027-01-15T08:00:00Z has 6 dead tags\n"), "{second}");
    assert_eq!(model.world.borrow().tags(), all);
    assert_eq!(model.world.borrow().writes, writes, "nothing was news");

    let third = apply_after(&model, 24);
    assert!(third.contains("; dead since 2027-01-15T08:00:00Z\n"), "{third}");
    assert_reaped(&model);
    assert_eq!(journalled(&model), BTreeSet::new());
}

#[test]
fn a_tag_that_was_alive_or_pushed_meanwhile_begins_anew() {
    let model = seen_dead(Deletes::ByDigest);
    model.world.borrow_mut().branches.insert(branch("gone"), commit(9));
    apply_after(&model, 10);
    assert!(!journalled(&model).contains(&latest("gone")));
    model.world.borrow_mut().branches.remove(&branch("gone"));
    // The other branch's tag is pushed again.
    model.world.borrow_mut().put(&latest("too"), &manifest(2));
    apply_after(&model, 20);
    let plan = apply_after(&model, 25);
    // The content tag was kept by that of the branch.
    for tag in [latest("gone"), latest("too"), content(3)] {
        assert!(plan.contains(&format!("GRACE    {tag} ")), "{plan}");
    }
    assert!(plan.contains("summary  keep 8, foreign 1, unknown 0, grace 3, restore 0, remove 3"), "{plan}");
    let plan = apply_after(&model, 44);
    assert!(plan.contains("remove 3"), "{plan}");
    assert_reaped(&model);
}

#[test]
fn a_journal_that_is_lost_broken_or_of_a_wrong_clock_makes_tags_stay_longer() {
    let tag = tags::journal_tag("", &git_repository());
    let broken = |model: &Model| {
        let world = &mut model.world.borrow_mut();
        for note in world.notes.values_mut() {
            let end = note.len() / 2;
            *note = note.slice(..end);
        }
    };
    let lost = |model: &Model| {
        model.world.borrow_mut().tags.remove(&tag);
    };
    let forged = |written: i64, since: i64| {
        let tag = tag.clone();
        move |model: &Model| {
            let mut journal = model.world.borrow().journal().expect("there is a journal").journal;
            journal.written = after_hours(written);
            for dead in journal.dead.values_mut() {
                dead.since = after_hours(since);
            }
            let artifact = artifact::journal(git_repository().as_str(), &RunId::new([1; 8]), 1, journal);
            model.world.borrow_mut().notes.insert(Digest::of(&artifact.config), artifact.config);
            model.world.borrow_mut().put(tag.as_str(), &artifact.manifest);
        }
    };
    let table: [(&str, Harm<'_>); 4] = [
        ("lost", Box::new(lost)),
        ("broken", Box::new(broken)),
        ("of a clock that was ahead", Box::new(forged(80_000, 80_000))),
        ("with times ahead", Box::new(forged(20, 80_000))),
    ];
    for (what, harm) in table {
        let model = seen_dead(Deletes::ByDigest);
        let all = model.world.borrow().tags();
        harm(&model);
        apply_after(&model, 30);
        assert_eq!(model.world.borrow().tags(), all, "{what}");
        assert_eq!(journalled(&model), dead_tags(), "{what}");
        apply_after(&model, 53);
        assert_eq!(model.world.borrow().tags(), all, "{what}");
        apply_after(&model, 54);
        assert_reaped(&model);
    }
}

#[test]
fn a_run_with_grace_that_is_killed_at_any_request_is_finished_by_the_next_one() {
    for (deletes, hours) in [(Deletes::ByDigest, 0), (Deletes::ByDigest, 24), (Deletes::ByTag, 24)] {
        for number in 1.. {
            let world = if hours == 0 { story() } else { seen_dead(deletes).world.into_inner() };
            let model = Model::new(world, deletes, Trouble::Kill(number));
            if run_by(&model, Mode::Apply, &a_day(), after_hours(hours)).is_some() {
                assert!(number > 20, "{deletes:?} {hours}: it was killed at some requests");
                break;
            }
            let again = after(model);
            apply_after(&again, hours);
            // A tombstone hides nothing but a tag whose time is over.
            assert_eq!(again.world.borrow().hidden(), BTreeSet::new(), "{deletes:?} {hours} {number}");
            apply_after(&again, hours + 24);
            let left: BTreeSet<String> = again.world.borrow().protected.keys().map(Tag::to_string).collect();
            let probes = |tag: &String| !tag.starts_with("_reaper-canary-");
            let tags: BTreeSet<String> = again.world.borrow().tags().into_iter().filter(probes).collect();
            assert_eq!(tags, left, "{deletes:?} {hours} {number}");
        }
    }
}

#[test]
fn a_run_that_is_killed_where_every_read_is_a_pull_is_finished_one_grace_period_later() {
    let seen_dead = || {
        let mut world = story();
        world.pulled = Some(PullTimes::default());
        let model = Model::new(world, Deletes::OwnApi, Trouble::None);
        apply_after(&model, 0);
        after(model).world.into_inner()
    };
    for deletes in [Deletes::OwnApi, Deletes::ByDigest] {
        for number in 1.. {
            let model = Model::new(seen_dead(), deletes, Trouble::Kill(number));
            if run_by(&model, Mode::Apply, &a_day(), after_hours(24)).is_some() {
                assert!(number > 20, "{deletes:?}: it was killed at some requests");
                break;
            }
            let again = after(model);
            // What lies below a tombstone must be read.
            apply_after(&again, 24);
            assert_eq!(again.world.borrow().hidden(), BTreeSet::new(), "{deletes:?} {number}");
            apply_after(&again, 48);
            let left: BTreeSet<String> = again.world.borrow().protected.keys().map(Tag::to_string).collect();
            let probes = |tag: &String| !tag.starts_with("_reaper-canary-");
            let tags: BTreeSet<String> = again.world.borrow().tags().into_iter().filter(probes).collect();
            assert_eq!(tags, left, "{deletes:?} {number}");
        }
    }
}

#[test]
fn a_page_of_the_plan_is_no_pull_of_what_is_dead() {
    let mut world = story();
    world.pulled = Some(PullTimes::default());
    let model = Model::new(world, Deletes::OwnApi, Trouble::None);
    apply_after(&model, 0);
    let pulled = |model: &Model| model.world.borrow().pulled.clone().expect("it tells").images[&manifest(3).digest];
    let before = pulled(&model);
    let plan = |html: Option<&Path>| {
        let (repository, rules, say) = (repository(), a_day(), Say::new(std::io::sink()));
        let (mode, format) = (Mode::Plan, Format::Text);
        let request = Request { repository: &repository, rules: &rules, mode, now: after_hours(1), format, html };
        let mut output = Vec::new();
        let mut future = Box::pin(plan_and_apply(&model, &request, &mut output, &say));
        let result = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(result, Poll::Ready(Ok(()))), "{result:?}");
    };
    let directory = tempfile::tempdir().expect("there is room");
    let file = directory.path().join("page.html");
    plan(Some(&file));
    let page = std::fs::read_to_string(&file).expect("the page is there");
    assert!(page.contains(&latest("gone")), "{page}");
    assert_eq!(pulled(&model), before);
}

#[test]
fn two_runs_at_once_do_no_harm() {
    for deletes in [Deletes::ByDigest, Deletes::ByTag] {
        for number in 1..=requests(deletes) + 10 {
            let model = seen_dead(deletes);
            let other: Event = Box::new(move |world| {
                let requests = world.requests;
                let inner = Model::new(std::mem::take(world), deletes, Trouble::None);
                let result = run_by(&inner, Mode::Apply, &a_day(), after_hours(24)).expect("nobody killed it");
                assert!(result.is_ok(), "the second one at {number}: {result:?}");
                *world = World { requests, ..inner.world.into_inner() };
            });
            model.event.replace(Some((number, other)));
            let result = run_by(&model, Mode::Apply, &a_day(), after_hours(24)).expect("nobody killed it");
            // A run that finds its own work done by the other one may say so; the next one has nothing left to do.
            if let Err(error) = &result {
                assert!(!error.contains("REPAIRED") && !error.contains("lost"), "{deletes:?} {number}: {error}");
            }
            let again = after(model);
            apply_after(&again, 24);
            assert_reaped(&again);
            assert_eq!(journalled(&again), BTreeSet::new(), "{deletes:?} {number}");
        }
    }
}

#[test]
fn two_first_runs_at_once_leave_a_journal_that_both_agree_on() {
    let journal = |since: i64, tags: &[&str]| {
        let dead = tags.iter().map(|tag| ((*tag).to_owned(), dead(after_hours(since))));
        Journal::new(after_hours(20), dead.collect(), BTreeMap::new())
    };
    let agreed = journal(3, &["a", "b"]).agreed(&journal(5, &["b", "c"]));
    let since: Vec<(&str, Timestamp)> = agreed.dead.iter().map(|(tag, dead)| (tag.as_str(), dead.since)).collect();
    assert_eq!(since, [("a", after_hours(20)), ("b", after_hours(5))]);
}

#[test]
fn a_journal_of_another_git_repository_under_the_same_prefix_is_refused() {
    let (url, _) = GitUrl::parse("https://git.example/acme/other.git").expect("a good address");
    let mut world = story();
    let journal = Journal::new(after_hours(0), BTreeMap::new(), BTreeMap::new());
    let artifact = artifact::journal(url.repository().as_str(), &RunId::new([1; 8]), 1, journal);
    world.notes.insert(Digest::of(&artifact.config), artifact.config);
    let tag = tags::journal_tag("", url.repository());
    world.put(tag.as_str(), &artifact.manifest);
    let model = Model::new(world, Deletes::ByDigest, Trouble::None);
    let writes = model.world.borrow().writes;
    let error =
        run_by(&model, Mode::Apply, &a_day(), after_hours(0)).expect("nobody killed it").expect_err("a refusal");
    assert_eq!(
        error,
        format!(
            "error: refused to reap registry.example/acme/app-ci\n\
             cause: the reaper of git.example/acme/other keeps its journal {tag} under the same tag prefix\n\
             hint: give each image of the repository its own `source.registry.tag_prefix`; if git.example/acme/other is gone or has another name now, remove the tag {tag}"
        )
    );
    assert_eq!(model.world.borrow().writes, writes);
    // Under another prefix it is nobody's business.
    let web = Rules { tag_prefix: "web-".to_owned(), ..a_day() };
    run_by(&model, Mode::Plan, &web, after_hours(0)).expect("nobody killed it").expect("no error");
}

#[test]
fn an_image_in_the_place_of_the_journal_is_refused() {
    let mut world = story();
    let tag = tags::journal_tag("", &git_repository());
    world.put(tag.as_str(), &manifest(1));
    let model = Model::new(world, Deletes::ByDigest, Trouble::None);
    let error =
        run_by(&model, Mode::Apply, &a_day(), after_hours(0)).expect("nobody killed it").expect_err("a refusal");
    assert_eq!(
        error,
        format!(
            "error: refused to reap registry.example/acme/app-ci\n\
             cause: {tag} is no journal of the reaper, and its place is needed for one\n\
             hint: see what it is, and remove the tag {tag} or give it another name"
        )
    );
}

#[test]
fn a_run_without_grace_writes_no_journal_and_keeps_one_that_is_there_true() {
    let model = Model::new(story(), Deletes::ByDigest, Trouble::None);
    run(&model, Mode::Apply).expect("nobody killed it").expect("no error");
    assert_eq!(model.world.borrow().journal(), None);
    let model = seen_dead(Deletes::ByDigest);
    run_by(&model, Mode::Apply, &rules(), after_hours(1)).expect("nobody killed it").expect("no error");
    assert_reaped(&model);
    assert_eq!(journalled(&model), BTreeSet::new());
}

#[test]
fn the_longest_journal_can_be_read_again() {
    let dead = |number: u64| {
        let since = after_hours(i64::try_from(number).expect("few"));
        let far = Timestamp::constant(1_800_000_000, 123_456_789);
        let image = Digest::of(&number.to_be_bytes());
        (format!("{number:0128}"), Dead { since, image, pulled: Some(far), first: Some(far) })
    };
    let untagged = |number: u64| {
        let since = after_hours(i64::try_from(number).expect("few"));
        let parts = (0..number % 7).map(|part| Digest::of(format!("{number} {part}").as_bytes())).collect();
        (Digest::of(number.to_string().as_bytes()), Untagged { since, commit: Some(commit(1)), parts })
    };
    let untagged: BTreeMap<Digest, Untagged> = (0..20_000).map(untagged).collect();
    let noted = json!({
        "commit": commit(1).to_string(), "content": InputsId::from_bytes([1; 32]).to_string(),
        "children": [manifest(1).digest.to_string(), manifest(2).digest.to_string()],
    });
    let noted: Noted = serde_json::from_value(noted).expect("it is what is noted");
    let known = (0..20_000).map(|number| (dead(number).1.image, noted.clone())).collect();
    let journal = Journal::new(after_hours(0), (0..20_000).map(dead).collect(), untagged).with_images(&known);
    assert_eq!(journal.dead.len(), Journal::CAPACITY);
    assert!(journal.untagged.len() > 2_000, "{}", journal.untagged.len());
    assert!(journal.untagged.contains_key(&Digest::of(b"0")) && !journal.untagged.contains_key(&Digest::of(b"19999")));
    assert!(journal.dead.contains_key(&dead(0).0) && !journal.dead.contains_key(&dead(19_999).0), "the oldest stay");
    let images: BTreeSet<Digest> = journal.dead.values().map(|dead| dead.image).collect();
    assert!(journal.images.len() > 5_000 && journal.images.keys().all(|image| images.contains(image)));
    let artifact = artifact::journal(git_repository().as_str(), &RunId::new([1; 8]), 1, journal.clone());
    assert!(matches!(artifact::kind(&artifact.manifest), artifact::Kind::Journal(_)));
    let note: JournalNote = serde_json::from_slice(&artifact.config).expect("a journal");
    assert_eq!(note.journal, journal);
}

/// A tag that is dead since then.
fn dead(since: Timestamp) -> Dead {
    Dead { since, image: Digest::of(b""), pulled: None, first: None }
}
