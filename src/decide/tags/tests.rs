use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::concourse::Version;
use crate::decide::versions::Since;
use crate::names::Digest;

fn branch(name: &str) -> Branch {
    name.parse().expect("a branch")
}

fn commit(number: u8) -> CommitId {
    CommitId::from_bytes([number; 20])
}

fn inputs(number: u8) -> InputsId {
    InputsId::from_bytes([number; 32])
}

#[test]
fn a_content_tag_stands_for_inputs_and_for_the_bases_that_are_followed() {
    let tag = |bases| content_tag("p-", inputs(1), bases).to_string();
    assert_eq!(tag(None), format!("p-inputs-{}", "01".repeat(32)));
    assert_eq!(
        tag(Some(BasesId::from_bytes([2; 32]))),
        "p-inputs-dd595796ef29a228ee35ce8eecc6ceb8d14f69aa24e2f156234090dbedcb4a9c"
    );
}

#[test]
fn a_slug_is_the_name_unless_that_loses_something() {
    for (name, expected) in [
        ("master", "master"),
        ("release-1.2_x", "release-1.2_x"),
        ("feat/foo", "feat-foo-"),
        ("feat-foo", "feat-foo"),
        ("x-deadbeef", "x-deadbeef-"),
        ("_reaper", "b-_reaper-"),
        ("é", "b---"),
        ("cache-deadbeef", "b-cache-deadbeef-"),
        ("cache/deadbeef/x", "b-cache-deadbeef-x-"),
    ] {
        let slug = slug(&branch(name));
        assert!(slug == expected || slug.strip_prefix(expected).is_some_and(is_short_hash), "{name}: {slug}");
    }
    assert_eq!(slug(&branch(&"a".repeat(200))).len(), SLUG_LENGTH);
}

fn branch_name() -> impl Strategy<Value = Branch> {
    prop_oneof![
        "[a-c/._-]{1,6}(-[0-9a-f]{8})?",
        "(cache-[0-9a-f]{8}|_reaper|inputs-[0-9a-f]{64}|[0-9a-f]{40})[-/a]{0,2}",
        "[ab/]{60,120}",
        "\\PC{1,5}",
    ]
    .prop_filter_map("git does not allow it", |name| name.parse().ok())
}

proptest! {
    #[test]
    fn slugs_of_different_branches_never_meet(one in branch_name(), other in branch_name()) {
        prop_assert_eq!(slug(&one) == slug(&other), one == other);
        // The hash of the one, written as the name of another.
        if let Ok(copy) = slug(&one).parse::<Branch>() {
            prop_assert_eq!(slug(&copy) == slug(&one), copy == one);
        }
    }

    #[test]
    fn our_tags_are_tags_and_are_known_again(name in branch_name(), prefix in "([a-z][a-z-]{0,56})?", number in any::<u8>()) {
        check_prefix(&prefix).expect("a good prefix");
        let repository = crate::names::GitUrl::parse("https://h/p.git").expect("an address").0.repository().clone();
        let slug = slug(&name);
        for (tag, ours) in [
            (content_tag(&prefix, inputs(number), None), OurTag::Content(inputs(number))),
            (commit_tag(&prefix, commit(number)), OurTag::Commit(commit(number))),
            (latest_tag(&prefix, &name), OurTag::Latest { slug: slug.clone() }),
            (
                cache_tag(&prefix, &repository, &name),
                OurTag::Cache { repository: repository_mark(&repository), slug },
            ),
        ] {
            prop_assert_eq!(classify(&prefix, &tag), ours, "{}", tag);
        }
    }
}

#[test]
fn a_prefix_is_the_beginning_of_a_tag() {
    for (prefix, message) in [
        ("", None),
        ("app-", None),
        ("-a", Some("tag prefix \"-a\" has '-' at position 0, which is not allowed there")),
        ("a/b", Some("tag prefix \"a/b\" has '/' at position 1, which is not allowed there")),
    ] {
        assert_eq!(check_prefix(prefix).err().map(|error| error.to_string()).as_deref(), message, "{prefix:?}");
    }
    assert!(check_prefix(&"a".repeat(57)).is_ok());
    assert!(check_prefix(&"a".repeat(58)).is_err());
}

#[test]
fn tags_of_others_are_foreign() {
    for (prefix, tag) in [
        ("", "latest"),
        ("", "1.2.3"),
        ("", "inputs-00"),
        ("", "cache-x-master"),
        ("", "cache-0123456-master"),
        ("app-", "master-latest"),
        ("app-", "app-latest"),
        ("", "0123"),
    ] {
        assert_eq!(classify(prefix, &tag.parse().expect("a tag")), OurTag::Foreign, "{tag}");
    }
    assert_eq!(classify("", &"_reaper-x".parse().expect("a tag")), OurTag::Reaper);
}

#[test]
fn users_tags_are_filled_in_or_refused_with_what_is_known() {
    let version = Version::of_git(commit(0xab), inputs(1));
    let build =
        BTreeMap::from([("BUILD_ID".to_owned(), "42".to_owned()), ("ATC_EXTERNAL_URL".to_owned(), "u".to_owned())]);
    let name = branch("feat/x");
    let values =
        TagValues { version: &version, commit: commit(0xcd), branch: &name, given_version: Some("1.2"), build: &build };
    let fill = |template: &str| match user_tag("p-", template, &values) {
        Ok(tag) => tag.to_string(),
        Err(error) => format!("{error}; {}", error.hint().unwrap_or_default()),
    };
    assert_eq!(fill("{version}-{short}-$BUILD_ID-${BUILD_ID}x"), "p-1.2-cdcdcdc-42-42x");
    assert_eq!(fill("v{ref}"), format!("p-v{}", commit(0xab)));
    assert_eq!(fill("latest"), "p-latest");
    assert_eq!(fill("x{branch}"), format!("p-x{}", slug(&name)));
    let known = "known are {ref}, {commit}, {short}, {branch}, {version}, $BUILD_ID";
    for (template, expected) in [
        ("{sha}", format!("the tag \"{{sha}}\" has the unknown placeholder {{sha}}; {known}")),
        ("a$HOME", format!("the tag \"a$HOME\" has the unknown placeholder $HOME; {known}")),
        ("$ATC_EXTERNAL_URL", format!("the tag \"$ATC_EXTERNAL_URL\" has the unknown placeholder $ATC_EXTERNAL_URL; {known}")),
        ("a}", "the tag \"a}\" has a brace without its other half; placeholders are written {branch} or ${BUILD_ID}; a tag itself has no braces".to_owned()),
        ("{ref", "the tag \"{ref\" has a brace without its other half; placeholders are written {branch} or ${BUILD_ID}; a tag itself has no braces".to_owned()),
        ("a b", "tag \"a b\" has ' ' at position 1, which is not allowed there; ".to_owned()),
        ("", "tag \"\" is empty; ".to_owned()),
        ("$BUILD_ID b", "the tag \"$BUILD_ID b\" becomes tag \"42 b\" has ' ' at position 2, which is not allowed there; ".to_owned()),
    ] {
        assert_eq!(fill(template), expected, "{template}");
    }
    for template in ["{commit}", "x-latest", "{branch}-latest", "_reaper", "cache-01234567-x"] {
        assert!(fill(template).contains("has a form that only this resource writes"), "{template}");
    }
    let none = TagValues { given_version: None, ..values };
    let error = user_tag("", "{version}", &none).expect_err("there is none");
    assert_eq!(error.to_string(), "the tag \"{version}\" needs a version, and there is none");
}

fn version(number: u8) -> Version {
    Version::of_git(commit(number), inputs(number))
}

fn digest(number: u8) -> Digest {
    Digest::from_bytes([number; 32])
}

/// Git and a registry, as far as they matter here. The numbers of versions rise along the branch.
#[derive(Debug, Clone, Default)]
struct Simulated {
    /// Oldest first; `None`: the branch is gone. A number may come back: a revert brings its inputs again.
    line: Option<Vec<Version>>,
    content: BTreeSet<InputsId>,
    latest: Option<Digest>,
    writes: Vec<Digest>,
}

impl Simulated {
    fn new(line: &[u8], content: &[u8], latest: Option<u8>) -> Self {
        Self {
            line: Some(line.iter().map(|number| version(*number)).collect()),
            content: content.iter().map(|number| inputs(*number)).collect(),
            latest: latest.map(digest),
            writes: Vec::new(),
        }
    }

    fn do_it(&mut self, ours: &Version, ask: &Ask) -> Told {
        match ask {
            Ask::ReadLine => Told::Line(match &self.line {
                None => LineReading::BranchGone,
                Some(line) => LineReading::Since(match line.iter().position(|one| one.commit == ours.commit) {
                    None => Since::NotOnLine,
                    Some(at) => {
                        Since::Versions { newer: line[at + 1..].iter().rev().copied().collect(), own: Some(line[at]) }
                    }
                }),
            }),
            Ask::ReadTags(wanted) => Told::Tags {
                built: wanted
                    .iter()
                    .filter(|version| self.content.contains(&version.inputs))
                    .map(|version| (*version, digest(version.inputs.as_bytes()[0])))
                    .collect(),
                latest: self.latest,
            },
            Ask::Write { digest, .. } => {
                self.latest = Some(*digest);
                self.writes.push(*digest);
                Told::Written
            }
            Ask::Done(_) => unreachable!("nothing is to be done"),
        }
    }

    fn run(&mut self, ours: Version) -> Outcome {
        let mut latest = Latest::new(ours);
        let mut told = None;
        loop {
            match latest.next(told.take()) {
                Ask::Done(outcome) => return outcome,
                ask => told = Some(self.do_it(&ours, &ask)),
            }
        }
    }
}

#[test]
fn the_tag_of_the_branch_points_to_its_newest_built_version() {
    let kept = |number| Outcome::Kept { newer: version(number) };
    let not = |why| Outcome::NotOnBranch { why };
    // The line, the content tags, where it points, ours; how it ends, where it points then, how many writes.
    for (name, line, content, latest, ours, outcome, then, writes) in [
        ("first", vec![1], vec![1], None, 1, Outcome::Set, Some(1), 1),
        ("again", vec![1], vec![1], Some(1), 1, Outcome::Unchanged, Some(1), 0),
        ("next", vec![1, 2], vec![1, 2], Some(1), 2, Outcome::Set, Some(2), 1),
        ("an old build that ends late", vec![1, 2], vec![1, 2], Some(2), 1, kept(2), Some(2), 0),
        ("the newer one is not built", vec![1, 2], vec![1], None, 1, Outcome::Set, Some(1), 1),
        ("the newer one's put died before its tag", vec![1, 2], vec![1, 2], Some(1), 1, kept(2), Some(2), 1),
        ("the newest is not built, one between is", vec![1, 2, 3], vec![1, 2], Some(1), 1, kept(2), Some(2), 1),
        (
            "a force push, or a checkout of another branch",
            vec![1, 2],
            vec![1, 2, 5],
            Some(2),
            5,
            not(NotOnBranch::NotOnLine),
            Some(2),
            0,
        ),
        ("the content tag is gone", vec![1], vec![], Some(1), 1, Outcome::ContentGone, Some(1), 0),
    ] {
        let mut simulated = Simulated::new(&line, &content, latest);
        assert_eq!(simulated.run(version(ours)), outcome, "{name}");
        assert_eq!((simulated.latest, simulated.writes.len()), (then.map(digest), writes), "{name}");
    }
    let mut deleted = Simulated { line: None, ..Simulated::new(&[], &[1], None) };
    assert_eq!(deleted.run(version(1)), not(NotOnBranch::BranchGone));
    assert_eq!(deleted.latest, None);
}

#[test]
fn a_revert_is_newer_than_what_it_reverts() {
    let reverted = Version::of_git(commit(3), inputs(1));
    let mut simulated = Simulated::new(&[1, 2], &[1, 2], Some(2));
    simulated.line.as_mut().expect("there is one").push(reverted);
    assert_eq!(simulated.clone().run(reverted), Outcome::Set);
    // The put of what was reverted ends late: the reverting version's image is built, being that of the first.
    assert_eq!(simulated.run(version(2)), Outcome::Kept { newer: reverted });
    assert_eq!(simulated.latest, Some(digest(1)));
}

#[test]
fn files_that_differ_from_their_commit_stand_for_it() {
    let dirty = Version::of_git(commit(1), inputs(7));
    assert_eq!(Simulated::new(&[1], &[1, 7], Some(1)).run(dirty), Outcome::Set);
    assert_eq!(Simulated::new(&[1, 2], &[1, 2, 7], Some(2)).run(dirty), Outcome::Kept { newer: version(2) });
}

#[test]
fn a_branch_that_never_rests_is_given_up() {
    let mut latest = Latest::new(version(1));
    let mut told = None;
    let mut flip = 0;
    let outcome = loop {
        match latest.next(told.take()) {
            Ask::Done(outcome) => break outcome,
            Ask::ReadLine => {
                told = Some(Told::Line(LineReading::Since(Since::Versions { newer: vec![], own: Some(version(1)) })));
            }
            Ask::ReadTags(_) => {
                flip += 1;
                let built = BTreeMap::from([(version(1), digest(flip))]);
                told = Some(Told::Tags { built, latest: None });
            }
            Ask::Write { .. } => told = Some(Told::Written),
        }
    };
    assert_eq!(outcome, Outcome::Unsettled { rounds: ROUNDS });
}

/// A put, between two of its steps.
#[derive(Debug, Clone)]
struct Put {
    ours: Version,
    latest: Latest,
    /// What is done next; `None` before the content tag is written.
    ask: Option<Ask>,
}

impl Put {
    fn new(number: u8) -> Self {
        Self { ours: version(number), latest: Latest::new(version(number)), ask: None }
    }

    fn is_done(&self) -> bool {
        matches!(self.ask, Some(Ask::Done(_)))
    }

    fn step(&mut self, simulated: &mut Simulated) {
        let told = match &self.ask {
            None => {
                simulated.content.insert(self.ours.inputs);
                None
            }
            Some(Ask::Done(_)) => return,
            Some(ask) => Some(simulated.do_it(&self.ours, ask)),
        };
        self.ask = Some(self.latest.next(told));
    }
}

/// Every order in which the steps of the puts can come.
fn every_order(simulated: &Simulated, puts: &[Put; 2], check: &mut dyn FnMut(&Simulated)) {
    if puts.iter().all(Put::is_done) {
        check(simulated);
    }
    for next in 0..puts.len() {
        if !puts[next].is_done() {
            let (mut simulated, mut puts) = (simulated.clone(), puts.clone());
            puts[next].step(&mut simulated);
            every_order(&simulated, &puts, check);
        }
    }
}

#[test]
fn two_puts_that_overlap_in_any_order_leave_the_newest_built_version() {
    for (one, other) in [(1, 2), (2, 3), (1, 1)] {
        let mut orders = 0;
        let simulated = Simulated::new(&[1, 2, 3], &[1], Some(1));
        every_order(&simulated, &[Put::new(one), Put::new(other)], &mut |simulated| {
            orders += 1;
            assert_eq!(simulated.latest, Some(digest(one.max(other))));
        });
        assert!(orders > 1, "puts of {one} and {other} overlap in {orders} orders");
    }
}

/// Every order, and one of the puts stops at every step; the other goes on, and the one that died is run again.
#[test]
fn a_put_that_dies_and_is_run_again_leaves_the_newest_built_version() {
    fn walk(simulated: &Simulated, puts: &[Put; 2], seen: &mut usize) {
        for dies in 0..2 {
            for again in [1, 2] {
                let mut simulated = simulated.clone();
                let mut survivor = puts[1 - dies].clone();
                while !survivor.is_done() {
                    survivor.step(&mut simulated);
                }
                let mut repeated = Put::new(again);
                while !repeated.is_done() {
                    repeated.step(&mut simulated);
                }
                let newest = simulated.content.iter().next_back().expect("one is built").as_bytes()[0];
                assert_eq!(simulated.latest, Some(digest(newest)), "put {again} was run again");
                *seen += 1;
            }
        }
        for next in 0..2 {
            if !puts[next].is_done() {
                let (mut simulated, mut puts) = (simulated.clone(), puts.clone());
                puts[next].step(&mut simulated);
                walk(&simulated, &puts, seen);
            }
        }
    }
    let mut seen = 0;
    walk(&Simulated::new(&[1, 2], &[], None), &[Put::new(1), Put::new(2)], &mut seen);
    assert!(seen > 100);
}
