//! Images without a tag.

use super::*;
use crate::decide::reap::journal::{Journal, Untagged};

fn hours_ago(hours: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 - hours * 3600).expect("a time of this century")
}

/// What a journal of an hour ago says is without a tag.
fn with_journal(mut found: Found, untagged: BTreeMap<Digest, Untagged>) -> Found {
    let tag = tags::journal_tag("", &repository()).to_string();
    let journal = Journal::new(hours_ago(1), BTreeMap::new(), untagged);
    let state =
        TagState::Journal { digest: digest(200), repository: Some(repository().to_string()), journal: Ok(journal) };
    found.registry.tags.insert(tag, state);
    found
}

fn rules() -> Rules {
    Rules { delete_untagged: true, grace: grace("24h"), ..super::rules() }
}

fn any_untagged() -> impl Strategy<Value = BTreeMap<Digest, Untagged>> {
    let image = (0..48i64, proptest::option::of(0..6u8), btree_set(0..12u8, 0..4)).prop_map(|(hours, named, parts)| {
        let parts = parts.into_iter().map(digest).collect();
        Untagged { since: hours_ago(hours), commit: named.map(commit), parts }
    });
    btree_map((0..9u8).prop_map(digest), image, 0..9)
}

/// Tags, what their indexes have, and what a journal says.
fn any_noted() -> impl Strategy<Value = (Found, BTreeMap<Digest, Untagged>)> {
    let children = btree_map((0..6u8).prop_map(digest), btree_set((0..12u8).prop_map(digest), 0..3), 0..3);
    let attached = proptest::option::of(0..9u8);
    (any_found(), children, attached, any_untagged()).prop_map(|(mut found, children, attached, untagged)| {
        found.registry.children = children;
        if let Some(number) = attached {
            found.registry.tags.insert(format!("sha256-{}", digest(number).hex()), foreign(100));
        }
        (with_journal(found, untagged.clone()), untagged)
    })
}

fn deleted(plan: &Plan) -> BTreeSet<Digest> {
    plan.deletions().iter().flat_map(|deletion| deletion.manifests.clone()).collect()
}

proptest! {
    #[test]
    fn what_anything_needs_is_never_deleted((found, untagged) in any_noted()) {
        let plan = reap(&found, &rules(), now()).expect("no refusal");
        let deleted = deleted(&plan);
        for (tag, state) in &found.registry.tags {
            for digest in [state.digest(), state.image_digest()].into_iter().flatten() {
                prop_assert!(!deleted.contains(&digest), "{} points to {:?}", tag, digest);
                let parts = found.registry.children.get(&digest).into_iter().flatten();
                prop_assert!(parts.clone().all(|part| !deleted.contains(part)), "the index of {} has one", tag);
            }
            prop_assert!(attached::subject(tag).is_none_or(|subject| !deleted.contains(&subject)));
        }
        let goes: BTreeSet<Digest> = plan.deletions().iter().map(|deletion| deletion.image).collect();
        for (image, noted) in &untagged {
            if goes.contains(image) {
                prop_assert!(noted.since <= hours_ago(24));
                prop_assert!(noted.commit.is_none_or(|commit| !found.git.reachable.contains(&commit)));
            } else {
                prop_assert!(!deleted.contains(image) && noted.parts.is_disjoint(&deleted), "{:?} stays", image);
            }
        }
    }

    #[test]
    fn a_new_tag_never_makes_more_images_go((found, _) in any_noted(), tag in any_tag(), state in any_state()) {
        let before = deleted(&reap(&found, &rules(), now()).expect("no refusal"));
        let mut more = found;
        more.registry.tags.entry(tag).or_insert(state);
        let after = deleted(&reap(&more, &rules(), now()).expect("no refusal"));
        prop_assert!(after.is_subset(&before), "{:?} is not within {:?}", after, before);
    }

    #[test]
    fn nothing_without_a_tag_is_forgotten_before_it_is_gone((found, untagged) in any_noted()) {
        let plan = reap(&found, &rules(), now()).expect("no refusal");
        let noted = |done: &Done| plan.journal(done).map_or_else(|| untagged.clone(), |journal| journal.untagged);
        let tagged: BTreeSet<Digest> =
            found.registry.tags.values().flat_map(|state| [state.digest(), state.image_digest()]).flatten().collect();
        let parts: BTreeSet<Digest> = tagged.iter().filter_map(|digest| found.registry.children.get(digest)).flatten().copied().collect();
        let expected: BTreeSet<Digest> =
            untagged.keys().filter(|image| !tagged.contains(image) && !parts.contains(image)).copied().collect();
        prop_assert_eq!(noted(&Done::default()).into_keys().collect::<BTreeSet<_>>(), expected.clone());
        let deleted: BTreeSet<Digest> = plan.deletions().iter().map(|deletion| deletion.image).collect();
        let left = noted(&Done { deleted: deleted.clone(), ..Done::default() }).into_keys().collect::<BTreeSet<_>>();
        prop_assert_eq!(left, expected.difference(&deleted).copied().collect::<BTreeSet<_>>());
    }

    #[test]
    fn without_the_flag_nothing_is_deleted_and_nothing_forgotten((found, untagged) in any_noted()) {
        let plan = reap(&found, &super::rules(), now()).expect("no refusal");
        prop_assert_eq!(plan.deletions(), &[]);
        let journal = plan.journal(&Done::default());
        prop_assert!(journal.is_none_or(|journal| journal.untagged == untagged));
    }
}

#[test]
fn a_plan_says_what_happens_to_images_without_a_tag() {
    let noted = |hours: i64, parts: &[u8]| Untagged {
        since: hours_ago(hours),
        commit: None,
        parts: parts.iter().copied().map(digest).collect(),
    };
    let found = found([("master-latest".to_owned(), image(1))], git(&[("master", 1)], &[1]));
    let untagged = [(digest(2), noted(30, &[])), (digest(3), noted(3, &[4, 5])), (digest(1), noted(30, &[]))].into();
    let plan = reap(&with_journal(found, untagged), &rules(), now()).expect("no refusal");
    let text = plan.to_string();
    let lines: Vec<&str> =
        text.lines().filter(|line| line.contains(" - sha256:") || line.contains("untagged")).collect();
    assert_eq!(
        lines,
        [
            "KEEP     - sha256:010101010101 tag master-latest points to it again",
            "DELETE   - sha256:020202020202 no tag is left since 2027-01-14T02:00:00Z",
            "GRACE    - sha256:030303030303 no tag is left since 2027-01-15T05:00:00Z, goes after 2027-01-16T05:00:00Z; with 2 manifests more",
            "untagged keep 1, grace 1, delete 1",
        ],
        "{text}"
    );
    let page = plan.page(&Blobs::new());
    assert!(page.contains("<p class=\"quiet\">keep 1, grace 1, delete 1; not weighed.</p>"), "{page}");
    let row = "class=\"delete\">delete</th><td class=\"digest\"><code>sha256:020202020202</code></td><td>no tag is left since ";
    assert!(page.contains(row), "{page}");
    let json: serde_json::Value = serde_json::from_str(&plan.json()).expect("it is JSON");
    assert_eq!(
        json["untagged"][2],
        serde_json::json!({
            "digest": digest(3).to_string(), "verdict": "grace", "reason": "no tag is left",
            "untagged_since": "2027-01-15T05:00:00Z", "goes_after": "2027-01-16T05:00:00Z",
            "parts": [digest(4).to_string(), digest(5).to_string()],
        })
    );
}
