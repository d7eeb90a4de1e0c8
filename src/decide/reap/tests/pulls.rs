//! Runs one after another, between which somebody pulls.

use jiff::SignedDuration;

use super::*;
use crate::clients::registry::PullTimes;
use crate::decide::reap::journal::{Dead, Journal};
use crate::decide::reap::pulls::Clock;

/// So many hours after the first run.
fn after(hours: i64) -> Timestamp {
    now().checked_add(SignedDuration::from_hours(hours)).expect("a time of this century")
}

fn a_day() -> Rules {
    Rules { grace: grace("24h"), ..rules() }
}

/// A time of the registry's clock, which nobody compares with another clock.
fn time(number: i64) -> Timestamp {
    Timestamp::from_second(number).expect("a small number")
}

/// What a registry tells of image 2, or of tags of it.
fn told(image_2: Option<i64>, tags: &[(&str, i64)]) -> Pulls {
    Pulls::Told(PullTimes {
        tags: tags.iter().map(|(tag, at)| ((*tag).to_owned(), time(*at))).collect(),
        images: image_2.map(|at| (digest(2), time(at))).into_iter().collect(),
    })
}

/// What is told to a run so many hours after the first one.
type Told = (i64, Pulls);

fn refused() -> Pulls {
    Pulls::Refused { why: "no".to_owned() }
}

/// What a run plans that finds this journal, and the journal that it writes.
fn run(tags: &[(String, TagState)], journal: &mut Option<Journal>, pulls: &Pulls, hours: i64) -> Plan {
    let noted = journal.clone().map(|journal| {
        let repository = Some(super::repository().to_string());
        let state = TagState::Journal { digest: digest(99), repository, journal: Ok(journal) };
        (tags::journal_tag("", &super::repository()).to_string(), state)
    });
    let mut found = found(tags.iter().cloned().chain(noted), git(&[("master", 1)], &[1]));
    found.registry.pulls = pulls.clone();
    let plan = reap(&found, &a_day(), after(hours)).expect("no refusal");
    if let Some(written) = plan.journal(&Done::default()) {
        *journal = Some(written);
    }
    plan
}

fn clock(plan: &Plan, tag: &str) -> (Verdict, Clock) {
    let judgement = plan.judgements().iter().find(|judgement| judgement.tag == tag).expect("every tag is judged");
    (judgement.verdict, judgement.clock)
}

#[test]
fn a_clock_begins_anew_when_another_time_is_told() {
    use Pulls::{NotAsked, NotTold};
    use Verdict::{Grace, Remove};
    // The hours after which runs see these pulls of image 2, and what the last one does with its tag.
    let table: &[(&str, &[Told], Verdict)] = &[
        ("nobody tells", &[(0, NotTold), (24, NotTold)], Remove),
        ("never pulled", &[(0, told(None, &[])), (24, told(None, &[]))], Remove),
        ("not pulled since", &[(0, told(Some(5), &[])), (24, told(Some(5), &[]))], Remove),
        ("pulled", &[(0, told(Some(5), &[])), (24, told(Some(6), &[]))], Grace),
        ("by a clock that went back", &[(0, told(Some(5), &[])), (24, told(Some(4), &[]))], Grace),
        ("pulled once", &[(0, told(Some(5), &[])), (9, told(Some(6), &[])), (33, told(Some(6), &[]))], Remove),
        ("not long ago", &[(0, told(Some(5), &[])), (9, told(Some(6), &[])), (32, told(Some(6), &[]))], Grace),
        ("for the first time", &[(0, told(None, &[])), (24, told(Some(5), &[]))], Grace),
        ("not known before", &[(0, NotTold), (24, told(Some(5), &[]))], Grace),
        ("by its tag", &[(0, told(Some(5), &[])), (24, told(Some(5), &[("gone-latest", 6)]))], Grace),
        ("by another tag", &[(0, told(Some(5), &[])), (24, told(Some(5), &[("other", 6)]))], Remove),
        ("forgotten", &[(0, told(Some(5), &[])), (24, told(None, &[]))], Remove),
        ("refused after it was told", &[(0, told(Some(5), &[])), (24, refused()), (99, refused())], Grace),
        ("told again", &[(0, told(Some(5), &[])), (24, refused()), (25, told(Some(5), &[]))], Remove),
        ("told again, another", &[(0, told(Some(5), &[])), (24, refused()), (25, told(Some(6), &[]))], Grace),
        ("refused always", &[(0, refused()), (24, refused())], Remove),
        ("refused, and never pulled", &[(0, told(None, &[])), (24, refused())], Remove),
        ("told no more", &[(0, told(Some(5), &[])), (24, NotTold)], Grace),
        ("told no more for long", &[(0, told(Some(5), &[])), (9, NotTold), (33, NotTold)], Remove),
        ("not asked", &[(0, told(Some(5), &[])), (24, NotAsked)], Remove),
    ];
    for (what, runs, expected) in table {
        let (tags, mut journal) = ([("gone-latest".to_owned(), image(2))], None);
        let plans = runs.iter().map(|(hours, pulls)| run(&tags, &mut journal, pulls, *hours));
        let last = plans.last().expect("there are runs");
        assert_eq!(clock(&last, "gone-latest").0, *expected, "{what}: {last}");
    }
}

#[test]
fn pulls_are_asked_for_when_a_clock_runs() {
    let dead = [("gone-latest".to_owned(), image(2))];
    let plan = |tags: &[(String, TagState)]| run(tags, &mut None, &Pulls::NotAsked, 0);
    assert!(plan(&dead).asks_for_pulls());
    assert!(!plan(&[("master-latest".to_owned(), image(1))]).asks_for_pulls(), "nothing is dead");
    let probe = TagState::Canary { digest: digest(9), repository: repository().to_string() };
    assert!(!plan(&[("_reaper-canary-0-a".to_owned(), probe)]).asks_for_pulls(), "nobody pulls a probe");
    assert!(!run(&dead, &mut None, &Pulls::NotTold, 0).asks_for_pulls(), "it was asked");
    let found = found(dead, git(&[("master", 1)], &[1]));
    assert!(!reap(&found, &rules(), now()).expect("no refusal").asks_for_pulls(), "there is no grace period");
}

#[test]
fn where_the_image_stays_only_pulls_by_the_tag_itself_count() {
    let tags = [("gone-latest".to_owned(), image(2)), ("v1.0.0".to_owned(), image(2))];
    for (pulled, expected) in
        [(told(Some(6), &[]), Verdict::Remove), (told(None, &[("gone-latest", 6)]), Verdict::Grace)]
    {
        let mut journal = None;
        run(&tags, &mut journal, &told(Some(5), &[]), 0);
        assert_eq!(clock(&run(&tags, &mut journal, &pulled, 24), "gone-latest").0, expected);
    }
}

#[test]
fn a_signature_stays_as_long_as_its_image_is_pulled() {
    let signature = format!("sha256-{}.sig", digest(2).hex());
    let tags = [("gone-latest".to_owned(), image(2)), (signature.clone(), foreign(102))];
    let mut journal = None;
    run(&tags, &mut journal, &told(Some(5), &[]), 0);
    let plan = run(&tags, &mut journal, &told(Some(6), &[]), 23);
    assert_eq!(clock(&plan, &signature), (Verdict::Grace, Clock { since: Some(after(23)), ..Clock::default() }));
    assert_eq!(removed(&run(&tags, &mut journal, &told(Some(6), &[]), 46)), BTreeSet::new());
    let both = BTreeSet::from([signature, "gone-latest".to_owned()]);
    assert_eq!(removed(&run(&tags, &mut journal, &told(Some(6), &[]), 47)), both);
}

#[test]
fn the_plan_names_the_pull_in_each_run_until_the_tag_goes() {
    let (tags, mut journal) = ([("gone-latest".to_owned(), image(2))], None);
    run(&tags, &mut journal, &told(Some(5), &[]), 0);
    for hours in [9, 10] {
        let plan = run(&tags, &mut journal, &told(Some(6), &[]), hours);
        let pulled = "its branch is gone; a pull of 1970-01-01T00:00:06Z was told after it was first seen dead on 2027-01-15T08:00:00Z: its clock began anew on 2027-01-15T17:00:00Z, goes after 2027-01-16T17:00:00Z";
        let text = plan.to_string();
        assert!(text.contains(&format!("GRACE    gone-latest sha256:020202020202 {pulled}\n")), "{text}");
        assert!(plan.page(&Blobs::new()).contains(&format!("<td>{pulled}</td>")));
        let json: serde_json::Value = serde_json::from_str(&plan.json()).expect("it is JSON");
        let row = json["tags"].as_array().and_then(|rows| rows.iter().find(|row| row["tag"] == "gone-latest"));
        let expected = serde_json::json!({
            "tag": "gone-latest", "verdict": "grace", "reason": "its branch is gone", "siblings": [],
            "digest": digest(2).to_string(), "image": digest(2).to_string(),
            "dead_since": "2027-01-15T17:00:00Z", "goes_after": "2027-01-16T17:00:00Z",
            "pulled": "1970-01-01T00:00:06Z", "first_dead": "2027-01-15T08:00:00Z",
        });
        assert_eq!(row, Some(&expected));
    }
    let text = run(&tags, &mut journal.clone(), &refused(), 11).to_string();
    assert!(
        text.contains("; dead since 2027-01-15T17:00:00Z, stays until the registry tells again when it was pulled\n"),
        "{text}"
    );
    let text = run(&tags, &mut journal, &Pulls::NotTold, 11).to_string();
    assert!(
        text.contains("; pulls are told no more since it was first seen dead on 2027-01-15T08:00:00Z: its clock began anew on 2027-01-15T19:00:00Z, goes after 2027-01-16T19:00:00Z\n"),
        "{text}"
    );
}

#[test]
fn a_journal_of_a_registry_that_tells_no_pulls_is_what_it_always_was() {
    let image = digest(2);
    let written = format!(
        r#"{{"written":"2027-01-15T08:00:00Z","dead":{{"gone-latest":{{"since":"2027-01-15T08:00:00Z","image":"{image}"}}}}}}"#
    );
    let dead = Dead { since: now(), image, pulled: None, first: None };
    let journal = Journal::new(now(), [("gone-latest".to_owned(), dead)].into(), BTreeMap::new());
    assert_eq!(serde_json::from_str::<Journal>(&written).expect("a journal"), journal);
    let mut first = None;
    run(&[("gone-latest".to_owned(), super::image(2))], &mut first, &Pulls::NotTold, 0);
    assert_eq!(serde_json::to_string(&first).expect("it is JSON"), written);
}

#[test]
fn a_journal_of_one_that_tells_them_has_the_times_and_the_labels() {
    let mut journal = None;
    run(&[("gone-latest".to_owned(), image(2))], &mut journal, &told(Some(5), &[]), 0);
    let (image, commit, content) = (digest(2), commit(2), inputs(2));
    let written = format!(
        r#"{{"written":"2027-01-15T08:00:00Z","dead":{{"gone-latest":{{"since":"2027-01-15T08:00:00Z","image":"{image}","pulled":"1970-01-01T00:00:05Z"}}}},"images":{{"{image}":{{"commit":"{commit}","content":"{content}"}}}}}}"#
    );
    assert_eq!(serde_json::to_string(&journal).expect("it is JSON"), written);
    assert_eq!(serde_json::from_str::<Option<Journal>>(&written).expect("a journal"), journal);
    let noted = &journal.expect("it was written").images[&image];
    assert_eq!(noted.labels(&repository()), labels(2));
    let bases = Labels { bases: Some("07".repeat(32)), ..labels(3) };
    let tags = [("gone-latest".to_owned(), TagState::Image { digest: image, origin: Origin::Labels(bases.clone()) })];
    let mut journal = None;
    run(&tags, &mut journal, &told(None, &[]), 0);
    let noted = journal.expect("it was written").images[&image].labels(&repository());
    assert_eq!(noted.content(), bases.content());
}

proptest! {
    #[test]
    fn labels_from_the_journal_change_no_verdict(
        found in any_found(),
        origins in vec(any_origin(), 6),
        rules in any_rules(),
    ) {
        let mut found = found;
        let set = |found: &mut Found, origin_of: &dyn Fn(Digest) -> Option<Origin>| {
            for state in found.registry.tags.values_mut() {
                if let TagState::Image { digest, origin }
                | TagState::Tombstone { before: Some(Before::Image { digest, origin }), .. } = state
                    && let Some(of_digest) = origin_of(*digest)
                {
                    *origin = of_digest;
                }
            }
        };
        // One digest says one thing.
        set(&mut found, &|of| (0..6u8).find(|number| digest(*number) == of).map(|number| origins[usize::from(number)].clone()));
        found.registry.pulls = told(Some(5), &[]);
        let rules = Rules { grace: grace("24h"), ..rules };
        let plan = reap(&found, &rules, now()).expect("no refusal");
        set(&mut found, &|of| Some(Origin::Labels(plan.noted.get(&of)?.labels(&rules.repository))));
        let again = reap(&found, &rules, now()).expect("no refusal");
        prop_assert_eq!(&plan.judgements, &again.judgements);
        prop_assert_eq!(&plan.noted, &again.noted);
    }
}
