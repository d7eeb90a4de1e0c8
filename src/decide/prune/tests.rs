//! What is kept stays, whatever there is.

use proptest::prelude::*;

use super::*;

fn image(number: u8) -> Digest {
    Digest::from_bytes([number; 32])
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time of this century")
}

fn now() -> Timestamp {
    at(1_800_000_000)
}

fn rules(keep_last: usize) -> Rules {
    let keep_last = NonZeroUsize::new(keep_last).expect("not 0");
    Rules { keep_last, protected: vec!["v*".to_owned()], max_delete: MaxDelete::Default }
}

/// Tags with their images; image 1 was made one second after image 0.
fn found(tags: &[(&str, u8)]) -> Found {
    let states = tags.iter().map(|(tag, number)| ((*tag).to_owned(), State::Image(image(*number))));
    let created = tags.iter().map(|(_, number)| (image(*number), Ok(at(1_700_000_000 + i64::from(*number)))));
    Found { tags: states.collect(), created: created.collect(), ..Found::default() }
}

/// `TAG VERDICT: reason` of each.
fn judged(found: &Found, rules: &Rules) -> Vec<String> {
    let line = |one: Judgement| format!("{} {:?}: {}", one.tag, one.verdict, one.reason);
    judge(found, rules, now()).into_iter().map(line).collect()
}

#[test]
fn the_star_stays_within_one_part_of_a_name() {
    for (pattern, repository, is_match) in [
        ("team/*", "team/app", true),
        ("team/*", "team/app/base", false),
        ("team/*", "teams/app", false),
        ("*", "app", true),
        ("*", "team/app", false),
        ("*/app-*", "team/app-ci", true),
        ("team/app", "team/app", true),
        ("team/app", "team/app2", false),
    ] {
        assert_eq!(is_meant(pattern, repository), is_match, "{pattern} {repository}");
    }
}

#[test]
fn what_was_pushed_last_is_newest_where_the_registry_tells_that_of_all() {
    let mut found = found(&[("a", 1), ("b", 2), ("c", 3)]);
    // Made in one order, and pushed in the other.
    found.pushed = [(image(1), at(1_750_000_003)), (image(2), at(1_750_000_002)), (image(3), at(1_750_000_001))].into();
    let by_push =
        ["a Keep: one of the newest 1", "b Remove: older than the newest 1", "c Remove: older than the newest 1"];
    assert_eq!(judged(&found, &rules(1)), by_push);
    // The configs are not needed then, and may be as absurd as they like.
    found.created.clear();
    assert_eq!(judged(&found, &rules(1)), by_push);

    let by_config =
        ["a Remove: older than the newest 1", "b Remove: older than the newest 1", "c Keep: one of the newest 1"];
    found.created = super::tests::found(&[("a", 1), ("b", 2), ("c", 3)]).created;
    let pushed = std::mem::take(&mut found.pushed);
    found.pushed.extend(pushed.iter().filter(|(digest, _)| **digest != image(1)));
    assert_eq!(judged(&found, &rules(1)), by_config, "one is not told");
    found.pushed = pushed.keys().map(|digest| (*digest, at(1_750_000_000))).collect();
    assert_eq!(judged(&found, &rules(1)), by_config, "all at once");
}

#[test]
fn what_a_stopped_run_had_begun_to_remove_with_its_image_goes_after_it() {
    let [first, second] = [1, 2].map(|number| format!("sha256-{}.sig", image(number).hex()));
    let mut found = found(&[("b", 2), (&first, 11), (&second, 12)]);
    found.begun = [(first.clone(), image(11)), (second.clone(), image(12))].into();
    let expected = [
        "b Keep: one of the newest 1".to_owned(),
        format!("{first} Remove: belongs to an image that an earlier prune removed"),
        format!("{second} Keep: belongs to the image of tag b, which stays"),
    ];
    assert_eq!(judged(&found, &rules(1)), expected);
    // Somebody signed it again since.
    found.begun.insert(first.clone(), image(99));
    let stays = format!("{first} Unknown: belongs to an image that no tag points to");
    assert_eq!(judged(&found, &rules(1))[1], stays);
}

#[test]
fn the_newest_stay_with_every_tag_and_an_image_counts_once() {
    let found = found(&[
        ("1.0", 1),
        ("1.1", 2),
        ("again", 3),
        ("also", 0),
        ("latest", 1),
        ("newest", 3),
        ("old", 0),
        ("v9", 0),
        ("x-latest", 5),
    ]);
    assert_eq!(
        judged(&found, &rules(2)),
        [
            "1.0 Keep: tag latest stays on the same digest",
            "1.1 Keep: one of the newest 2",
            "again Keep: one of the newest 2",
            "also Keep: tag v9 stays on the same digest",
            "latest Keep: the name of what is newest",
            "newest Keep: one of the newest 2",
            "old Keep: tag v9 stays on the same digest",
            "v9 Keep: protected by \"v*\"",
            "x-latest Keep: the name of what is newest",
        ]
    );
    assert_eq!(
        judged(&super::tests::found(&[("a", 1), ("b", 2), ("c", 2), ("latest", 2)]), &rules(1)),
        [
            "a Remove: older than the newest 1",
            "b Keep: one of the newest 1",
            "c Keep: one of the newest 1",
            "latest Keep: the name of what is newest",
        ]
    );
}

#[test]
fn without_an_order_nothing_goes() {
    let unordered = |created: Result<Timestamp, String>| {
        let mut found = found(&[("a", 1), ("b", 2), ("latest", 3)]);
        found.created.insert(image(1), created);
        judged(&found, &rules(1))
    };
    for (created, why) in [
        (Ok(at(1_700_000_002)), "a and b were made at the same time"),
        (Ok(at(0)), "a says that it was made 1970-01-01T00:00:00Z, before 2013 or in the future"),
        (Ok(at(1_800_000_001)), "a says that it was made 2027-01-15T08:00:01Z, before 2013 or in the future"),
        (Err("it is no image".to_owned()), "when a was made is not told, it is no image"),
    ] {
        let expected = ["a", "b"].map(|tag| format!("{tag} Unknown: the versions have no order: {why}"));
        assert_eq!(unordered(created)[..2], expected);
    }
    let mut few = found(&[("a", 1), ("b", 2)]);
    few.created.clear();
    assert!(judged(&few, &rules(2)).iter().all(|line| line.contains("Keep")), "nobody asks for an order");
}

#[test]
fn what_belongs_to_an_image_stays_and_goes_with_it() {
    let attached = |number| format!("sha256-{}.sig", image(number).hex());
    let tags = [1, 2, 7, 8].map(attached);
    let mut found =
        found(&[("a", 1), ("b", 2), (&tags[0], 10), (&tags[1], 11), (&tags[2], 12), (&tags[3], 13), ("x-latest", 6)]);
    found.children.insert(image(2), BTreeSet::from([image(7)]));
    let lines = judged(&found, &rules(1));
    assert_eq!(
        &lines[2..6],
        [
            format!("{} Remove: belongs to the image of tag a alone", tags[0]),
            format!("{} Keep: belongs to the image of tag b, which stays", tags[1]),
            format!("{} Keep: belongs to the image of tag b, which stays", tags[2]),
            format!("{} Unknown: belongs to an image that no tag points to", tags[3]),
        ]
    );
}

#[test]
fn what_a_stopped_run_left_is_undone_or_finished() {
    let mut found = found(&[("a", 1), ("b", 2), ("c", 3)]);
    let hidden = |image| State::Tombstone { digest: super::tests::image(99), image };
    found.tags.insert("a".to_owned(), hidden(Some(image(1))));
    found.tags.insert("c".to_owned(), hidden(Some(image(3))));
    found.tags.insert("d".to_owned(), hidden(None));
    found.tags.insert("_reaper-canary-x-a".to_owned(), State::Canary(image(98)));
    found.tags.insert("_reaper-journal-x".to_owned(), State::Reaper(image(97)));
    found.tags.insert("e".to_owned(), State::Missing);
    assert_eq!(
        judged(&found, &rules(1)),
        [
            "_reaper-canary-x-a Remove: left by an earlier prune",
            "_reaper-journal-x Keep: the reaper's own",
            "a Remove: older than the newest 1",
            "b Remove: older than the newest 1",
            "c Restore: one of the newest 1",
            "d Remove: left by an earlier prune",
            "e Unknown: listed, but there is no manifest",
        ]
    );
}

#[test]
fn the_brake_counts_all_repositories_and_looks_at_the_share_of_each() {
    let of = |tags: u8| {
        let names: Vec<String> = (0..tags).map(|number| format!("t{number:03}")).collect();
        let pairs: Vec<(&str, u8)> = names.iter().map(String::as_str).zip(0..).collect();
        found(&pairs)
    };
    let limits = |tags: &[u8], keep_last, max_delete| {
        let found = tags.iter().enumerate().map(|(at, tags)| (format!("r{at}"), of(*tags))).collect();
        let plan = prune("registry.example", &found, &Rules { max_delete, ..rules(keep_last) }, now());
        plan.within_limits().map_err(|refusal| refusal.to_string())
    };
    let refused = |text: &str| Err(text.to_owned());
    assert_eq!(limits(&[100, 110], 55, MaxDelete::Default), Ok(()));
    assert_eq!(
        limits(&[110, 111], 55, MaxDelete::Default),
        refused("the plan removes 111 of 221 tags, more than the 100 of a run")
    );
    assert_eq!(
        limits(&[4, 20], 9, MaxDelete::Default),
        refused("the plan removes 11 of 20 tags of r1, more than half of them")
    );
    assert_eq!(limits(&[19], 1, MaxDelete::Default), Ok(()));
    assert_eq!(limits(&[20], 1, MaxDelete::Count(19)), Ok(()));
    assert_eq!(
        limits(&[12, 12], 2, MaxDelete::Count(19)),
        refused("the plan removes 20 of 24 tags, more than the 19 of --max-delete")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn nothing_kept_is_removed_and_a_second_run_removes_nothing(
        tags in prop::collection::btree_map("(v|x|latest|a-latest|[a-f]{1,2})", 0_u8..8, 0..12),
        signed in prop::collection::btree_set(0_u8..10, 0..4),
        times in prop::collection::vec(prop_oneof![9 => (0_i64..30).prop_map(Some), 1 => Just(None)], 8),
        keep_last in 1_usize..5,
    ) {
        let names: Vec<(String, u8)> = tags.into_iter()
            .chain(signed.iter().map(|number| (format!("sha256-{}.sig", image(*number).hex()), 100 + number)))
            .collect();
        let mut first = found(&names.iter().map(|(tag, number)| (tag.as_str(), *number)).collect::<Vec<_>>());
        for (number, time) in (0..).zip(times) {
            let time = time.map(|time| at(1_700_000_000 + time)).ok_or_else(|| "no".to_owned());
            first.created.insert(image(number), time);
        }
        let rules = rules(keep_last);
        let plan = judge(&first, &rules, now());
        prop_assert!(plan.iter().map(|one| &one.tag).eq(first.tags.keys()), "every tag has a verdict");

        let goes = |one: &&Judgement| one.verdict == Verdict::Remove;
        let stays: BTreeSet<Digest> = plan.iter().filter(|one| !goes(one)).filter_map(|one| one.image).collect();
        prop_assert!(plan.iter().filter(goes).all(|one| !stays.contains(&one.image.expect("an image"))));
        let versions: BTreeSet<Digest> = plan.iter()
            .filter(|one| attached::subject(&one.tag).is_none()).filter_map(|one| one.image).collect();
        let left = versions.intersection(&stays).count();
        prop_assert!(left >= keep_last.min(versions.len()), "the newest stay");

        let mut second = first.clone();
        for one in plan.iter().filter(goes) {
            second.tags.remove(&one.tag);
        }
        prop_assert_eq!(judge(&second, &rules, now()).iter().filter(goes).count(), 0);

        // What comes first has the digests in another order.
        let turned = |digest: &Digest| {
            let text = digest.hex();
            let number = u8::from_str_radix(&text[..2], 16).expect("hexadecimal");
            Digest::from_bytes([255 - number; 32])
        };
        let unsigned = |found: &Found| found.tags.keys().all(|tag| attached::subject(tag).is_none());
        if unsigned(&first) {
            let mut other = Found::default();
            for (tag, state) in &first.tags {
                other.tags.insert(tag.clone(), State::Image(turned(&state.image().expect("an image"))));
            }
            other.created = first.created.iter().map(|(digest, time)| (turned(digest), time.clone())).collect();
            let verdicts = |plan: Vec<Judgement>| plan.into_iter().map(|one| one.verdict).collect::<Vec<_>>();
            prop_assert_eq!(verdicts(judge(&other, &rules, now())), verdicts(plan));
        }
    }
}

#[test]
fn an_image_of_an_index_counts_with_it() {
    // Each index has two images, of which some have a tag: one of the same time, as tools make them.
    let mut found = found(&[
        ("1.0", 1),
        ("1.0-amd64", 11),
        ("1.1", 2),
        ("1.1-amd64", 12),
        ("latest", 3),
        ("v1-arm64", 21),
        ("alone", 4),
    ]);
    for (index, image_of_it) in [(1, 11), (2, 12), (1, 21)] {
        found.created.insert(image(image_of_it), found.created[&image(index)].clone());
        found.children.entry(image(index)).or_default().insert(image(image_of_it));
    }
    assert_eq!(
        judged(&found, &rules(2)),
        [
            "1.0 Remove: older than the newest 2",
            "1.0-amd64 Remove: part of the index of tag 1.0",
            "1.1 Keep: one of the newest 2",
            "1.1-amd64 Keep: part of the index of tag 1.1, which stays",
            "alone Keep: one of the newest 2",
            "latest Keep: the name of what is newest",
            "v1-arm64 Keep: protected by \"v*\"",
        ]
    );
    // What another index that stays has too, stays.
    found.children.entry(image(2)).or_default().insert(image(11));
    assert_eq!(judged(&found, &rules(2))[1], "1.0-amd64 Keep: part of the index of tag 1.1, which stays");
}
