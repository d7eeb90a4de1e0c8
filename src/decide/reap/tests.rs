//! Tables, a whole plan, and properties.

mod pulls;
mod untagged;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::decide::reap::pulls::Pulls;
use crate::names::{GitRepository, GitUrl};

fn repository() -> GitRepository {
    let (url, _) = GitUrl::parse("https://git.example/acme/app.git").expect("a good address");
    url.repository().clone()
}

fn rules() -> Rules {
    Rules {
        repository: repository(),
        branch: None,
        tag_prefix: String::new(),
        keep: Keep::default(),
        grace: grace("0s"),
        max_delete: MaxDelete::Default,
        delete_untagged: false,
    }
}

fn grace(text: &str) -> Grace {
    text.parse().expect("a good duration")
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a time of this century")
}

fn branch(name: &str) -> Branch {
    name.parse().expect("a good branch")
}

fn commit(number: u8) -> CommitId {
    CommitId::from_bytes([number; 20])
}

fn inputs(number: u8) -> InputsId {
    InputsId::from_bytes([number; 32])
}

fn digest(number: u8) -> Digest {
    Digest::from_bytes([number; 32])
}

fn labels(number: u8) -> Labels {
    Labels {
        repository: Some(repository().to_string()),
        commit: Some(commit(number).to_string()),
        inputs: Some(inputs(number).to_string()),
        bases: None,
    }
}

/// The image that commit `number` brought.
fn image(number: u8) -> TagState {
    TagState::Image { digest: digest(number), origin: Origin::Labels(labels(number)) }
}

fn foreign(number: u8) -> TagState {
    TagState::Image { digest: digest(number), origin: Origin::NotRead }
}

fn git(branches: &[(&str, u8)], reachable: &[u8]) -> GitFacts {
    GitFacts {
        default_branch: Some(branch("master")),
        branches: branches.iter().map(|&(name, tip)| (branch(name), commit(tip))).collect(),
        others: BTreeSet::new(),
        tags: BTreeMap::new(),
        history: History::Complete,
        lines: Lines::default(),
        asked: Question::default(),
        reachable: reachable.iter().map(|&number| commit(number)).collect(),
    }
}

fn found(tags: impl IntoIterator<Item = (String, TagState)>, git: GitFacts) -> Found {
    let repository = "registry.example/acme/app-ci".to_owned();
    let (tags, children, subjects, pulls) =
        (tags.into_iter().collect(), BTreeMap::new(), BTreeMap::new(), Pulls::NotAsked);
    Found { registry: RegistryFacts { repository, tags, children, subjects, pulls }, git }
}

fn content(number: u8) -> String {
    format!("inputs-{}", inputs(number))
}

/// The reason for one tag in a registry that has others, where master lives and reaches commit 1.
#[track_caller]
fn judged(tag: &str, others: &[(String, TagState)], state: TagState, rules: &Rules) -> (Verdict, String) {
    let tags = others.iter().cloned().chain([(tag.to_owned(), state)]);
    let plan = reap(&found(tags, git(&[("master", 1), ("feat/foo", 1)], &[1])), rules, now()).expect("no refusal");
    let judgement = plan.judgements().iter().find(|judgement| judgement.tag == tag).expect("every tag is judged");
    (judgement.verdict, judgement.reason.to_string())
}

#[test]
fn every_form_of_tag_has_its_verdict_and_reason() {
    let other = || TagState::Image {
        digest: digest(1),
        origin: Origin::Labels(Labels { repository: Some("git.example/other".to_owned()), ..labels(1) }),
    };
    let unlabelled = || TagState::Image { digest: digest(1), origin: Origin::Labels(Labels::default()) };
    let unreadable = || TagState::Image { digest: digest(1), origin: Origin::Unreadable { why: "a\nb".to_owned() } };
    let no_commit = || TagState::Image {
        digest: digest(2),
        origin: Origin::Labels(Labels { commit: Some("HEAD".to_owned()), ..labels(2) }),
    };
    let [c1, c2] = [commit(1).to_string(), commit(2).to_string()];
    let feature = tags::latest_tag("", &branch("feat/foo")).to_string();
    let cache = tags::cache_tag("", &repository(), &branch("master")).to_string();
    let dead_cache = tags::cache_tag("", &repository(), &branch("gone")).to_string();
    let table: Vec<(&str, TagState, Verdict, &str)> = vec![
        (&c1, image(1), Verdict::Keep, "commit 0101010 is reachable"),
        (&c2, image(2), Verdict::Remove, "commit 0202020 is unreachable"),
        // The name counts, not the label: the image was first built by another commit.
        (&c1, image(2), Verdict::Keep, "commit 0101010 is reachable"),
        (&c2, image(1), Verdict::Remove, "commit 0202020 is unreachable"),
        (&c2, other(), Verdict::Foreign, "of another git repository: git.example/other"),
        (&c2, unlabelled(), Verdict::Foreign, "the image has no label git-image.repository"),
        (&c2, unreadable(), Verdict::Unknown, "the image's labels cannot be read: a\\nb"),
        (&c2, TagState::Missing, Verdict::Unknown, "listed, but the registry has no manifest for it"),
        ("master-latest", image(2), Verdict::Keep, "branch master is there"),
        (&feature, image(2), Verdict::Keep, "branch feat/foo is there"),
        ("gone-latest", image(1), Verdict::Remove, "its branch is gone"),
        ("gone-latest", unlabelled(), Verdict::Foreign, "the image has no label git-image.repository"),
        (&cache, foreign(9), Verdict::Keep, "branch master is there"),
        (&dead_cache, foreign(9), Verdict::Remove, "its branch is gone"),
        ("cache-00000000-gone", foreign(9), Verdict::Foreign, "of another git repository: 00000000"),
        ("v1.2.0", foreign(2), Verdict::Foreign, "a release or an alias of one"),
        ("1.2", foreign(2), Verdict::Foreign, "a release or an alias of one"),
        ("latest", foreign(2), Verdict::Foreign, "a release or an alias of one"),
        ("stable", foreign(2), Verdict::Foreign, "not a tag that git-image writes here"),
        ("-odd", foreign(2), Verdict::Foreign, "not a tag that git-image writes here"),
        ("_reaper", foreign(2), Verdict::Keep, "reserved for the reaper"),
        (&c2[..39], image(2), Verdict::Foreign, "not a tag that git-image writes here"),
    ];
    for (tag, state, verdict, reason) in table {
        assert_eq!(judged(tag, &[], state.clone(), &rules()), (verdict, reason.to_owned()), "{tag} {state:?}");
    }
    let (c1, c2) = (content(1), content(2));
    assert_eq!(judged(&c1, &[], image(1), &rules()), (Verdict::Keep, "commit 0101010 is reachable".to_owned()));
    let unused = "commit 0202020 is unreachable, and no tag that stays needs it".to_owned();
    assert_eq!(judged(&c2, &[], image(2), &rules()), (Verdict::Remove, unused));
    let no_label = "the image has no commit in its label git-image.commit".to_owned();
    assert_eq!(judged(&c2, &[], no_commit(), &rules()), (Verdict::Unknown, no_label));
}

/// Rules with patterns of the user.
fn patterns(protected: &[&str], branch_tags: &[&str]) -> Rules {
    let protected = protected.iter().map(|&text| text.to_owned()).collect();
    let branch_tags = branch_tags.iter().map(|text| text.parse().expect("a good pattern")).collect();
    Rules { keep: Keep { last: None, protected, branch_tags }, ..rules() }
}

#[test]
fn a_protected_tag_stays_and_says_by_which_pattern() {
    let c2 = commit(2).to_string();
    for (patterns_, tag, state, expected) in [
        (&["prod*"][..], "prod-eu", foreign(2), (Verdict::Keep, "protected by \"prod*\"")),
        (&["gone-*"], "gone-latest", image(2), (Verdict::Keep, "protected by \"gone-*\"")),
        (&["a", "0202*"], &c2, image(2), (Verdict::Keep, "protected by \"0202*\"")),
        (&["*"], "gone", TagState::Missing, (Verdict::Foreign, "not a tag that git-image writes here")),
        (&["*"], "_reaper-x", foreign(2), (Verdict::Keep, "reserved for the reaper")),
        (&["prod"], "prod-eu", foreign(2), (Verdict::Foreign, "not a tag that git-image writes here")),
    ] {
        let (verdict, reason) = judged(tag, &[], state, &patterns(patterns_, &[]));
        assert_eq!((verdict, reason.as_str()), expected, "{tag} by {patterns_:?}");
    }
    // What is protected keeps the content tag of its image.
    let prod = ("prod".to_owned(), foreign(2));
    let (verdict, reason) = judged(&content(2), &[prod], image(2), &patterns(&["prod"], &[]));
    assert_eq!((verdict, reason.as_str()), (Verdict::Keep, "tag prod stays on the same digest"));
}

#[test]
fn a_users_tag_with_the_branch_in_it_goes_with_the_branch() {
    let rules = patterns(&[], &["{branch}-debug", "pr.{branch}"]);
    let feature = format!("{}-debug", tags::slug(&branch("feat/foo")));
    let theirs = || TagState::Image { digest: digest(2), origin: Origin::Labels(Labels::default()) };
    for (tag, state, expected) in [
        ("master-debug", image(2), (Verdict::Keep, "branch master is there")),
        ("pr.master", image(2), (Verdict::Keep, "branch master is there")),
        (&feature, image(2), (Verdict::Keep, "branch feat/foo is there")),
        ("gone-debug", image(1), (Verdict::Remove, "its branch is gone")),
        ("pr.gone", image(1), (Verdict::Remove, "its branch is gone")),
        ("gone-debug", theirs(), (Verdict::Foreign, "the image has no label git-image.repository")),
        ("-debug", foreign(2), (Verdict::Foreign, "not a tag that git-image writes here")),
        ("debug", foreign(2), (Verdict::Foreign, "not a tag that git-image writes here")),
        ("pr.", foreign(2), (Verdict::Foreign, "not a tag that git-image writes here")),
    ] {
        let (verdict, reason) = judged(tag, &[], state, &rules);
        assert_eq!((verdict, reason.as_str()), expected, "{tag}");
    }
    // A release never goes, whatever a pattern says.
    let (verdict, _) = judged("1.2.0-debug", &[], image(2), &rules);
    assert_eq!(verdict, Verdict::Foreign);
    // Which image's it is, the content tag on its digest tells, whatever that is made of.
    let web = ("web-".to_owned() + &content(7), image(3));
    let (verdict, reason) = judged("web-gone-debug", &[web], image(3), &rules);
    assert_eq!(
        (verdict, reason.as_str()),
        (Verdict::Foreign, "its inputs are tagged with another tag_prefix: \"web-\"")
    );
}

#[test]
fn a_pattern_of_a_branchs_tag_must_have_more_than_the_branch() {
    for (text, why) in [
        ("", "has no {branch}"),
        ("debug", "has no {branch}"),
        ("{branch}", "is every tag; write something before or behind {branch}"),
        ("{branch}-latest", "has a form that only this resource writes"),
        ("{branch}/x", "is no tag: tag \"b/x\" has '/' at position 1, which is not allowed there"),
    ] {
        let error = text.parse::<BranchTag>().expect_err("it is refused");
        assert_eq!(error.to_string(), format!("pattern {text:?} {why}"));
    }
}

/// git with lines: each branch and its commits, newest first. The higher a commit's number, the later it was made.
fn git_with_lines(lines: &[(&str, &[u8])], tags: &[(&str, u8)]) -> GitFacts {
    let branches: Vec<(&str, u8)> = lines.iter().map(|&(name, line)| (name, line[0])).collect();
    let placed = |&number: &u8| Placed { commit: commit(number), time: number.into() };
    let mut git = git(&branches, &(1..=9).collect::<Vec<_>>());
    git.lines = Lines {
        branches: lines.iter().map(|&(name, line)| (branch(name), line.iter().map(placed).collect())).collect(),
        tags: tags.iter().map(|&(name, number)| (name.to_owned(), commit(number))).collect(),
        others: BTreeSet::new(),
    };
    git
}

#[test]
fn only_the_last_images_stay_when_that_is_wanted() {
    let git = git_with_lines(&[("master", &[9, 7, 5, 3]), ("old", &[4, 2, 1])], &[("v1", 2)]);
    let with = |count: usize, per: Per| {
        let last = KeepLast { count: count.try_into().expect("not zero"), per };
        Rules { keep: Keep { last: Some(last), ..Keep::default() }, ..rules() }
    };
    let reasons = |rules: &Rules| -> Vec<String> {
        let tags = (1..=9).map(|number| (commit(number).to_string(), image(number)));
        let plan = reap(&found(tags, git.clone()), rules, now()).expect("no refusal");
        plan.judgements().iter().map(|judgement| judgement.reason.to_string()).collect()
    };
    let gone = |number: u8, what: &str| format!("commit {} is not among the {what}", commit(number).short());
    let last = |number: u8| gone(number, "last 2 of a branch");
    assert_eq!(
        reasons(&with(2, Per::Branch)),
        [
            last(1),
            "the image of git tag v1".to_owned(),
            last(3),
            "the newest image of branch old".to_owned(),
            last(5),
            last(6),
            "one of the last 2 images of branch master".to_owned(),
            last(8),
            "the newest image of branch master".to_owned(),
        ]
    );
    let last = |number: u8| gone(number, "last 3 of all branches");
    assert_eq!(
        reasons(&with(3, Per::Image)),
        [
            last(1),
            "the image of git tag v1".to_owned(),
            last(3),
            "the newest image of branch old".to_owned(),
            "one of the last 3 images of all branches".to_owned(),
            last(6),
            "one of the last 3 images of all branches".to_owned(),
            last(8),
            "the newest image of branch master".to_owned(),
        ]
    );
    // A content tag goes with the last tag that needs it.
    let rules = with(1, Per::Branch);
    let tags = [(content(5), image(5)), (content(7), image(7)), ("master-latest".to_owned(), image(7))];
    let plan = reap(&found(tags, git.clone()), &rules, now()).expect("no refusal");
    let removed: Vec<&str> = plan.removals().map(|judgement| judgement.tag.as_str()).collect();
    assert_eq!(removed, [content(5)]);
}

#[test]
fn a_content_tag_stays_while_a_tag_that_stays_points_to_its_digest() {
    for keeper in [("v1.2.0".to_owned(), foreign(2)), (tags::latest_tag("", &branch("feat/foo")).to_string(), image(2))]
    {
        let (verdict, reason) = judged(&content(2), std::slice::from_ref(&keeper), image(2), &rules());
        assert_eq!((verdict, reason), (Verdict::Keep, format!("tag {} stays on the same digest", keeper.0)));
    }
    let dead = ("gone-latest".to_owned(), image(2));
    assert_eq!(judged(&content(2), &[dead], image(2), &rules()).0, Verdict::Remove);
    // Two dead content tags do not keep each other.
    let twin = (content(3), image(2));
    assert_eq!(judged(&content(2), &[twin], image(2), &rules()).0, Verdict::Remove);
}

#[test]
fn a_latest_tag_of_another_prefix_is_not_ours() {
    let web = Rules { tag_prefix: "web-".to_owned(), ..rules() };
    let web_content = (format!("web-{}", content(3)), image(3));
    let plain_content = (content(4), image(4));
    // `web-gone-latest` is branch `gone` with prefix `web-`, or branch `web-gone` without prefix.
    let table = [
        (rules(), vec![web_content.clone()], 3, Verdict::Foreign),
        (web.clone(), vec![web_content.clone()], 3, Verdict::Remove),
        (rules(), vec![plain_content.clone(), web_content.clone()], 4, Verdict::Remove),
        (web.clone(), vec![plain_content.clone(), web_content.clone()], 4, Verdict::Foreign),
        // Its content tag is gone: the prefix is unclear as long as the other prefix is in use.
        (rules(), vec![web_content], 5, Verdict::Unknown),
        (web.clone(), vec![plain_content], 5, Verdict::Unknown),
        (rules(), vec![], 5, Verdict::Remove),
        (web, vec![], 5, Verdict::Remove),
    ];
    for (rules, others, number, verdict) in table {
        let judged = judged("web-gone-latest", &others, image(number), &rules);
        assert_eq!(judged.0, verdict, "{:?} {others:?} {number}: {}", rules.tag_prefix, judged.1);
    }
}

#[test]
fn a_tombstone_is_put_back_or_finished() {
    let tombstone = |repository: &str, before| TagState::Tombstone {
        digest: digest(99),
        repository: repository.to_owned(),
        before,
    };
    let before = |number| Some(Before::Image { digest: digest(number), origin: Origin::Labels(labels(number)) });
    let ours = repository().to_string();
    let table = [
        ("master-latest", tombstone(&ours, before(1)), Verdict::Restore),
        ("gone-latest", tombstone(&ours, before(1)), Verdict::Remove),
        ("gone-latest", tombstone("git.example/other", before(1)), Verdict::Foreign),
        // An empty artifact in the place of an image serves nobody, also where the branch lives.
        ("master-latest", tombstone(&ours, Some(Before::Gone)), Verdict::Remove),
        ("master-latest", tombstone(&ours, None), Verdict::Remove),
    ];
    for (tag, state, verdict) in table {
        let judged = judged(tag, &[], state.clone(), &rules());
        assert_eq!(judged.0, verdict, "{tag} {state:?}: {}", judged.1);
    }
}

#[test]
fn a_grace_period_is_a_whole_number_and_a_unit() {
    for (text, shown) in [("0s", "0s"), ("0d", "0s"), ("90m", "90m"), ("24h", "24h"), ("7d", "168h"), ("61s", "61s")] {
        assert_eq!(grace(text).to_string(), shown, "{text}");
    }
    for text in ["", "0", "s", "-1s", "+1s", "1.5h", "1 h", "1w", "99999999999999999999d", "9999999999999999999d"] {
        let error = text.parse::<Grace>().expect_err("it is none");
        assert_eq!(error.to_string(), format!("duration {text:?} is not a whole number and s, m, h or d, such as 24h"));
    }
}

#[test]
fn a_probe_goes_only_when_it_is_ours_and_in_its_place() {
    let canary = |repository: &str| TagState::Canary { digest: digest(98), repository: repository.to_owned() };
    let ours = repository().to_string();
    assert_eq!(judged("_reaper-canary-1-a", &[], canary(&ours), &rules()).0, Verdict::Remove);
    assert_eq!(judged("_reaper-canary-1-a", &[], canary("git.example/other"), &rules()).0, Verdict::Foreign);
    assert_eq!(judged("gone-latest", &[], canary(&ours), &rules()).0, Verdict::Foreign);
}

#[test]
fn an_answer_of_git_in_which_too_much_looks_dead_is_refused() {
    let tags = || [("gone-latest".to_owned(), image(1))];
    let refusal = |git: GitFacts, rules: &Rules| {
        let refusal = reap(&found(tags(), git), rules, now()).expect_err("a refusal");
        format!("{refusal}; {}", refusal.hint().unwrap_or_default())
    };
    let good = git(&[("master", 1)], &[1]);
    assert_eq!(
        refusal(git(&[], &[1]), &rules()),
        "git repository git.example/acme/app has no branches, so every image would look dead; see that `source.git.uri` names the right repository"
    );
    assert_eq!(
        refusal(git(&[("main", 1)], &[1]), &rules()),
        "the default branch of git repository git.example/acme/app is missing; HEAD of the remote names master, which does not exist; set the default branch on the git server"
    );
    assert_eq!(
        refusal(GitFacts { default_branch: None, ..good.clone() }, &rules()),
        "the default branch of git repository git.example/acme/app is missing; HEAD of the remote names no branch; set the default branch on the git server"
    );
    assert_eq!(
        refusal(GitFacts { history: History::Shallow, ..good.clone() }, &rules()),
        "git repository git.example/acme/app gave a shallow history, in which living commits look dead; see that `source.git.uri` is not itself a shallow clone"
    );
    assert_eq!(
        refusal(good, &Rules { branch: Some(branch("gone")), ..rules() }),
        "git repository git.example/acme/app has no branch gone, which `source.git.branch` names; reap judges every branch: leave `source.git.branch` out, or name one that lives"
    );
}

#[test]
fn a_run_removes_no_more_than_it_may() {
    let registry = |dead: usize, alive: usize| {
        let dead = (0..dead).map(|n| (format!("gone{n}-latest"), image(2)));
        let alive = (0..alive).map(|n| (format!("{n:040x}"), image(1)));
        let mut git = git(&[("master", 1)], &[]);
        git.reachable = (0..alive.len()).map(|n| format!("{n:040x}").parse().expect("a commit")).collect();
        found(dead.chain(alive), git)
    };
    let table = [
        (10, 9, MaxDelete::Default, Ok(())),
        (10, 10, MaxDelete::Default, Ok(())),
        (11, 9, MaxDelete::Default, Err("the plan removes 11 of 20 tags, more than half of them")),
        (100, 200, MaxDelete::Default, Ok(())),
        (101, 200, MaxDelete::Default, Err("the plan removes 101 of 301 tags, more than the 100 of a run")),
        (101, 0, MaxDelete::Count(101), Ok(())),
        (3, 9, MaxDelete::Count(2), Err("the plan removes 3 of 12 tags, more than the 2 of --max-delete")),
        (0, 9, MaxDelete::Count(0), Ok(())),
    ];
    for (dead, alive, max_delete, expected) in table {
        let plan = reap(&registry(dead, alive), &Rules { max_delete, ..rules() }, now()).expect("no refusal");
        let within = plan.within_limits().map_err(|refusal| refusal.to_string());
        assert_eq!(within, expected.map_err(str::to_owned), "{dead} {alive} {max_delete:?}");
    }
}

/// A registry that has something of everything.
fn story() -> Found {
    let tombstone = |number| TagState::Tombstone {
        digest: digest(0xee),
        repository: repository().to_string(),
        before: Some(Before::Image { digest: digest(number), origin: Origin::Labels(labels(number)) }),
    };
    let tags = [
        ("latest".to_owned(), foreign(1)),
        ("v1.2.0".to_owned(), foreign(2)),
        ("master-latest".to_owned(), image(1)),
        ("feat-old-latest".to_owned(), image(3)),
        (commit(1).to_string(), image(1)),
        (commit(2).to_string(), image(2)),
        (commit(3).to_string(), image(3)),
        (commit(4).to_string(), tombstone(4)),
        (commit(5).to_string(), tombstone(1)),
        (commit(6).to_string(), TagState::Missing),
        (content(1), image(1)),
        (content(2), image(2)),
        (content(3), image(3)),
        (
            "other-latest".to_owned(),
            TagState::Image {
                digest: digest(7),
                origin: Origin::Labels(Labels { repository: Some("git.example/acme/other".to_owned()), ..labels(7) }),
            },
        ),
        (tags::cache_tag("", &repository(), &branch("master")).to_string(), foreign(8)),
        (
            "_reaper-canary-00-a".to_owned(),
            TagState::Canary { digest: digest(9), repository: repository().to_string() },
        ),
    ];
    let mut git = git(&[("master", 1), ("feat/foo", 1)], &[1, 4]);
    git.tags.insert("v1.0.0".to_owned(), commit(1));
    found(tags, git)
}

#[test]
fn a_plan_is_shown_as_one_line_for_each_tag() {
    let plan = reap(&story(), &rules(), now()).expect("no refusal");
    assert_eq!(format!("{plan}\n"), include_str!("../../../tests/golden/reap-plan.txt"));
}

#[test]
fn a_plan_with_a_grace_period_removes_nothing_yet_and_says_when_the_clock_starts() {
    let rules = Rules { grace: grace("24h"), ..rules() };
    let plan = reap(&story(), &rules, now()).expect("no refusal");
    assert_eq!(format!("{plan}\n"), include_str!("../../../tests/golden/reap-plan-grace.txt"));
}

#[test]
fn a_plan_is_shown_as_json_with_the_same_words() {
    let plan = reap(&story(), &Rules { grace: grace("24h"), ..rules() }, now()).expect("no refusal");
    let json: serde_json::Value = serde_json::from_str(&plan.json()).expect("it is JSON");
    assert_eq!(json["summary"]["grace"], 5);
    assert_eq!(json["limits"], serde_json::json!({"max_delete": 100, "exceeded": null}));
    assert_eq!(json["tags"].as_array().map(Vec::len), Some(plan.judgements().len()));
    assert_eq!(
        json["tags"][1],
        serde_json::json!({
            "tag": commit(2).to_string(), "verdict": "grace", "reason": "commit 0202020 is unreachable",
            "digest": digest(2).to_string(), "image": digest(2).to_string(), "dead_since": null, "goes_after": null,
            "siblings": [content(2), "v1.2.0"],
        })
    );
}

/// The blobs of the images in [`story`]: what master needs, a release, and a branch that is gone.
fn weighed() -> Blobs {
    let base = (digest(50), 1_000);
    [
        (digest(1), vec![base, (digest(51), 2_000)]),
        (digest(2), vec![base, (digest(52), 4_000)]),
        (digest(3), vec![base, (digest(53), 8_000_000)]),
    ]
    .into()
}

/// What a reader sees of a page, without its head: the texts, one for each element that has one.
fn texts(page: &str) -> Vec<&str> {
    let (_, body) = page.split_once("<body>").expect("a page has a body");
    let texts = body.split('<').filter_map(|element| Some(element.split_once('>')?.1.trim()));
    texts.filter(|text| !text.is_empty()).collect()
}

#[test]
fn a_page_says_first_what_goes_and_how_much_space_that_brings() {
    let plan = reap(&story(), &rules(), now()).expect("no refusal");
    let page = plan.page(&weighed());
    assert_eq!(
        texts(&page)[..20],
        [
            "registry.example/acme/app-ci",
            "What",
            "git-image reap",
            "would do at 2027-01-15T08:00:00Z, by the branches of",
            "git.example/acme/app",
            ".",
            "6 of 16 tags go",
            ", up to 8.0 MB of 8.0 MB.",
            "tags",
            "size",
            "goes",
            "6",
            "8.0 MB",
            "free when the registry has collected its garbage, if no other repository needs it",
            "stays",
            "10",
            "7.0 kB",
            "of one branch alone,",
            "of several",
            "What goes",
        ]
    );
    let later = Rules { grace: grace("24h"), ..rules() };
    let plan = reap(&story(), &later, now()).expect("no refusal");
    assert_eq!(
        texts(&plan.page(&weighed()))[6..8],
        ["Nothing goes yet", ", 5 of 16 tags later, up to 8.0 MB of 8.0 MB."]
    );
    let alive = found([("master-latest".to_owned(), image(1))], git(&[("master", 1)], &[1]));
    let plan = reap(&alive, &rules(), now()).expect("no refusal");
    assert_eq!(texts(&plan.page(&weighed()))[6], "Nothing goes.");
}

#[test]
fn a_page_has_a_row_for_each_branch_with_its_space_and_what_goes_of_it() {
    let plan = reap(&story(), &rules(), now()).expect("no refusal");
    let page = plan.page(&weighed());
    let row = |name: &str| -> Vec<&str> {
        let (_, row) = page.split_once(&format!("<bdi>{name}</bdi>")).expect("it has a row");
        let (row, _) = row.split_once("<table").expect("its tags follow");
        row.split('<').filter_map(|element| Some(element.split_once('>')?.1.trim())).filter(|t| !t.is_empty()).collect()
    };
    assert_eq!(
        row("feat-old (gone)"),
        ["8.0 MB", "goes: 3 of 3 tags, 8.0 MB", "8.0 MB goes,", "1.0 kB others need too"]
    );
    // A tag on an image that stays brings no space.
    assert_eq!(
        row("master"),
        ["3.0 kB", "goes: 1 of 6 tags, 0 bytes", "2.0 kB nobody else needs,", "1.0 kB others need too"]
    );
    // Each blob once, also where two that go need it.
    let mut blobs = weighed();
    blobs.insert(digest(9), vec![(digest(53), 8_000_000)]);
    assert!(plan.page(&blobs).contains(", up to 8.0 MB of 8.0 MB."));
    // Where the older images are many times as large as a branch, they are drawn no longer than the largest one.
    let gap = "A bar with a gap is longer than it is drawn.";
    assert!(!texts(&plan.page(&blobs)).contains(&gap));
    blobs.insert(digest(4), vec![(digest(54), 30_000_000)]);
    assert!(texts(&plan.page(&blobs)).contains(&gap));
}

#[test]
fn a_page_shows_every_tag_as_text_and_asks_nobody_for_anything() {
    let mut found = story();
    found.registry.tags.extend([("evil<script>-latest".to_owned(), TagState::Missing)]);
    let plan = reap(&found, &rules(), now()).expect("no refusal");
    let page = plan.page(&weighed());
    assert!(page.contains("evil&lt;script&gt;-latest") && !page.contains("<script"), "{page}");
    for word in ["://", "@import", "url(", "src=", "href=\"h"] {
        assert!(!page.contains(word), "{word}: {page}");
    }
    for judgement in plan.judgements().iter().filter(|judgement| !judgement.tag.contains('<')) {
        assert!(page.contains(&format!("<code>{}</code>", judgement.tag)), "{}", judgement.tag);
    }
}

#[test]
fn what_belongs_to_an_image_stays_and_goes_with_it() {
    let signature = |number: u8, kind: &str| (format!("sha256-{}{kind}", digest(number).hex()), foreign(100 + number));
    let index = TagState::Image { digest: digest(20), origin: Origin::Labels(labels(1)) };
    let tags = [
        ("master-latest".to_owned(), image(1)),
        (commit(1).to_string(), index),
        (commit(2).to_string(), image(2)),
        ("v1".to_owned(), foreign(3)),
        signature(1, ".sig"),
        signature(2, ".att"),
        signature(3, ".sbom"),
        signature(21, ""),
        signature(4, ".sig"),
        signature(5, ".sig"),
        signature(6, ".sig"),
        signature(7, ".sig"),
    ];
    let mut found = found(tags, git(&[("master", 1)], &[1]));
    found.registry.children.insert(digest(20), [digest(21)].into());
    let unread = reap(&found, &rules(), now()).expect("no refusal").unread().clone();
    assert_eq!(unread, [digest(4), digest(5), digest(6), digest(7)].into());
    let theirs = Labels { repository: Some("git.example/other".to_owned()), ..labels(5) };
    found.registry.subjects = [
        (digest(4), attached::Subject::Image(Origin::Labels(labels(4)))),
        (digest(5), attached::Subject::Image(Origin::Labels(theirs))),
        (digest(6), attached::Subject::Gone),
        (digest(7), attached::Subject::Image(Origin::Unreadable { why: "it is broken".to_owned() })),
    ]
    .into();
    let plan = reap(&found, &rules(), now()).expect("no refusal");
    assert_eq!(plan.unread().len(), 0);
    let judged = |number: u8, kind: &str| {
        let tag = signature(number, kind).0;
        let judgement = plan.judgements().iter().find(|judgement| judgement.tag == tag).expect("it is judged");
        (judgement.verdict, judgement.reason.to_string())
    };
    let [c1, c2] = [commit(1), commit(2)];
    for (number, kind, verdict, reason) in [
        (1, ".sig", Verdict::Keep, "belongs to the image of tag master-latest, which stays".to_owned()),
        (2, ".att", Verdict::Remove, format!("belongs to the image of tag {c2} alone")),
        (3, ".sbom", Verdict::Keep, "belongs to the image of tag v1, which stays".to_owned()),
        (21, "", Verdict::Keep, format!("belongs to the image of tag {c1}, which stays")),
        (4, ".sig", Verdict::Remove, "belongs to an image that no tag points to any more".to_owned()),
        (5, ".sig", Verdict::Foreign, "not a tag that git-image writes here".to_owned()),
        (6, ".sig", Verdict::Foreign, "belongs to an image that is not there".to_owned()),
        (7, ".sig", Verdict::Foreign, "not a tag that git-image writes here".to_owned()),
    ] {
        assert_eq!(judged(number, kind), (verdict, reason), "{number}{kind}");
    }
    // Where two images share a repository, nobody can tell whose an image without tags is.
    found.registry.tags.insert(format!("web-{}", content(9)), foreign(9));
    let plan = reap(&found, &rules(), now()).expect("no refusal");
    assert_eq!(removed(&plan), [commit(2).to_string(), signature(2, ".att").0].into());
}

/// Names for tags: few, so that they meet.
fn any_tag() -> impl Strategy<Value = String> {
    let branch_name = || prop_oneof![Just("master"), Just("a"), Just("b/c"), Just("web-a")];
    prop_oneof![
        (0..6u8).prop_map(|n| commit(n).to_string()),
        (0..6u8).prop_map(content),
        (0..6u8).prop_map(|n| format!("web-{}", content(n))),
        branch_name().prop_map(|name| tags::latest_tag("", &branch(name)).to_string()),
        branch_name().prop_map(|name| tags::cache_tag("", &repository(), &branch(name)).to_string()),
        Just("v1".to_owned()),
        Just("web-v1".to_owned()),
        Just("_reaper-canary-0-a".to_owned()),
    ]
}

fn any_origin() -> impl Strategy<Value = Origin> {
    prop_oneof![
        6 => (0..6u8).prop_map(|n| Origin::Labels(labels(n))),
        1 => Just(Origin::Labels(Labels::default())),
        1 => Just(Origin::Labels(Labels { repository: Some("git.example/other".to_owned()), ..labels(1) })),
        1 => Just(Origin::Unreadable { why: "it is broken".to_owned() }),
        1 => Just(Origin::NotRead),
    ]
}

fn any_state() -> impl Strategy<Value = TagState> {
    let ours = repository().to_string();
    prop_oneof![
        8 => (0..6u8, any_origin()).prop_map(|(n, origin)| TagState::Image { digest: digest(n), origin }),
        1 => Just(TagState::Missing),
        1 => (0..6u8, any_origin()).prop_map({
            let ours = ours.clone();
            move |(n, origin)| TagState::Tombstone {
                digest: digest(90),
                repository: ours.clone(),
                before: Some(Before::Image { digest: digest(n), origin }),
            }
        }),
        1 => Just(TagState::Canary { digest: digest(91), repository: ours }),
    ]
}

fn any_git() -> impl Strategy<Value = GitFacts> {
    let branches = btree_map(prop_oneof![Just("a"), Just("b/c"), Just("web-a")], 0..6u8, 0..4);
    (branches, btree_set(0..6u8, 0..6)).prop_map(|(branches, reachable)| {
        let branches: Vec<(&str, u8)> = branches.into_iter().chain([("master", 1)]).collect();
        let reachable: Vec<u8> = reachable.into_iter().collect();
        git(&branches, &reachable)
    })
}

fn any_found() -> impl Strategy<Value = Found> {
    (vec((any_tag(), any_state()), 0..24), any_git()).prop_map(|(tags, git)| found(tags, git))
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let prefix = prop_oneof![Just(""), Just("web-")];
    prefix.prop_map(|prefix| Rules { tag_prefix: prefix.to_owned(), ..rules() })
}

fn removed(plan: &Plan) -> BTreeSet<String> {
    plan.removals().map(|judgement| judgement.tag.clone()).collect()
}

proptest! {
    #[test]
    fn every_tag_has_exactly_one_verdict(found in any_found(), rules in any_rules()) {
        let plan = reap(&found, &rules, now()).expect("no refusal");
        let judged: Vec<&str> = plan.judgements().iter().map(|judgement| judgement.tag.as_str()).collect();
        let listed: Vec<&str> = found.registry.tags.keys().map(String::as_str).collect();
        prop_assert_eq!(judged, listed);
    }

    #[test]
    fn nothing_alive_and_nothing_foreign_is_removed(found in any_found(), rules in any_rules()) {
        let plan = reap(&found, &rules, now()).expect("no refusal");
        for judgement in plan.removals() {
            let tag = judgement.tag.as_str();
            let name = tag.strip_prefix(&rules.tag_prefix).expect("a removed tag has our prefix");
            prop_assert!(tag != "v1" && tag != "web-v1");
            if let Ok(commit) = name.parse::<CommitId>() {
                prop_assert!(!found.git.reachable.contains(&commit));
            }
            for branch in found.git.branches.keys() {
                prop_assert!(tag != tags::latest_tag(&rules.tag_prefix, branch).as_str());
                prop_assert!(tag != tags::cache_tag(&rules.tag_prefix, &rules.repository, branch).as_str());
            }
            if let Some(labels) = found.registry.tags[tag].labels().filter(|_| !name.starts_with("cache-") && !name.starts_with("_reaper")) {
                prop_assert_eq!(labels.repository.as_deref(), Some(rules.repository.as_str()));
            }
        }
    }

    #[test]
    fn an_image_that_a_tag_keeps_keeps_its_content_tag(found in any_found(), rules in any_rules()) {
        let plan = reap(&found, &rules, now()).expect("no refusal");
        for judgement in plan.removals().filter(|judgement| judgement.order == Order::Last) {
            prop_assert!(judgement.siblings.is_empty(), "{}", judgement);
        }
    }

    #[test]
    fn a_second_run_removes_and_restores_nothing(found in any_found(), rules in any_rules()) {
        let plan = reap(&found, &rules, now()).expect("no refusal");
        let mut after = found.clone();
        for judgement in plan.removals() {
            after.registry.tags.remove(&judgement.tag);
        }
        for judgement in plan.restores() {
            let (digest, origin) = found.registry.tags[&judgement.tag].image().expect("a restored tag has an image");
            let image = TagState::Image { digest, origin: origin.clone() };
            after.registry.tags.insert(judgement.tag.clone(), image);
        }
        let again = reap(&after, &rules, now()).expect("no refusal");
        prop_assert_eq!(removed(&again), BTreeSet::new());
        prop_assert_eq!(again.restores().count(), 0);
    }

    #[test]
    fn a_new_branch_never_makes_more_tags_go(
        found in any_found(),
        rules in any_rules(),
        name in prop_oneof![Just("a"), Just("b/c"), Just("web-a"), Just("new")],
        reached in btree_set(0..6u8, 0..3),
    ) {
        let before = removed(&reap(&found, &rules, now()).expect("no refusal"));
        let mut more = found;
        more.git.branches.insert(branch(name), commit(1));
        more.git.reachable.extend(reached.into_iter().map(commit));
        let after = removed(&reap(&more, &rules, now()).expect("no refusal"));
        prop_assert!(after.is_subset(&before), "{:?} is not within {:?}", after, before);
    }

    #[test]
    fn the_order_in_which_tags_are_listed_does_not_matter(
        tags in vec((any_tag(), any_state()), 0..24).prop_map(|tags| tags.into_iter().collect::<BTreeMap<_, _>>()),
        git in any_git(),
        rules in any_rules(),
    ) {
        let forwards = found(tags.clone(), git.clone());
        let backwards = found(tags.into_iter().rev(), git);
        prop_assert_eq!(reap(&forwards, &rules, now()), reap(&backwards, &rules, now()));
    }

    #[test]
    fn a_grace_period_without_a_journal_removes_no_image(found in any_found(), rules in any_rules()) {
        let plan = reap(&found, &Rules { grace: grace("1s"), ..rules }, now()).expect("no refusal");
        for judgement in plan.removals() {
            prop_assert_eq!(&judgement.reason, &Reason::TombstoneWithoutImage);
        }
    }
}
