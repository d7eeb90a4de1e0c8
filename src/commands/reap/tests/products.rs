//! A whole reap of a registry of each product.

use serde_json::json;

use super::*;
use crate::clients::registry::Registry;
use crate::clients::registry::liar::{Page, reply};
use crate::clients::registry::product::simulated::Simulated;
use crate::commands::reap::outside::Outside;
use crate::decide::reap::{GitFacts, History, Lines, Question};
use crate::request::Product;

/// A registry, and a git repository that has one branch.
struct Story {
    registry: Registry,
}

impl Outside for Story {
    type Registry = Registry;

    fn registry(&self) -> &Registry {
        &self.registry
    }

    async fn git(&self, question: &Question, _known: Option<&GitFacts>) -> Result<GitFacts, ReapError> {
        Ok(GitFacts {
            default_branch: Some(branch("master")),
            branches: [(branch("master"), commit(1))].into(),
            others: BTreeSet::new(),
            tags: BTreeMap::new(),
            history: History::Complete,
            lines: Lines::default(),
            asked: question.clone(),
            reachable: question.commits.iter().filter(|asked| **asked == commit(1)).copied().collect(),
        })
    }
}

fn labels(number: u8) -> serde_json::Value {
    json!({
        "git-image.repository": git_repository().to_string(),
        "git-image.commit": commit(number).to_string(),
        "git-image.inputs": InputsId::from_bytes([number; 32]).to_string(),
    })
}

/// Image 1 is master's, and a dead branch had it too; image 2 is of a dead branch only.
fn fill(simulated: &Simulated) -> Vec<String> {
    simulated.push(&labels(1), &[&latest("master"), &commit(1).to_string(), &content(1), &latest("twin")]);
    simulated.push(&labels(2), &[&latest("gone"), &commit(2).to_string(), &content(2)]);
    let mut left = [latest("master"), commit(1).to_string(), content(1)];
    left.sort();
    left.into()
}

async fn reap(simulated: &Simulated, mode: Mode) -> (Result<(), String>, String) {
    let (result, log) = reap_by(simulated, mode, &rules(), 0).await;
    (result.map(drop), log)
}

/// The same by other rules, so many hours after the first run; gives the plan.
async fn reap_by(simulated: &Simulated, mode: Mode, rules: &Rules, hours: i64) -> (Result<String, String>, String) {
    let page = Page::default();
    let say = Say::new(page.clone());
    let outside = Story { registry: simulated.registry(&say) };
    let repository = outside.registry.repository().clone();
    let now = after_hours(hours);
    let request = Request { repository: &repository, rules, mode, now, format: Format::Text, html: None };
    let mut output = Vec::new();
    let result = plan_and_apply(&outside, &request, &mut output, &say).await;
    let hide = |text: String| text.replace(&simulated.liar.host, "HOST");
    let result = result.map_err(|error| hide(crate::error::Report(&error.into()).to_string()));
    (result.map(|()| String::from_utf8(output).expect("a plan is text")), hide(page.text()))
}

/// Applies by a grace of a day.
async fn apply_after(simulated: &Simulated, hours: i64) -> (String, String) {
    let rules = Rules { grace: "24h".parse().expect("a good duration"), ..rules() };
    let (result, log) = reap_by(simulated, Mode::Apply, &rules, hours).await;
    (result.unwrap_or_else(|error| panic!("after {hours} hours: {error}")), log)
}

/// The products that tell when images were pulled.
const TELL_PULLS: [Product; 2] = [Product::Harbor, Product::DockerHub];

fn images(simulated: &Simulated) -> Vec<String> {
    simulated.tags().into_iter().filter(|tag| !tag.starts_with("_reaper-journal-")).collect()
}

#[tokio::test]
async fn dead_tags_go_by_the_api_of_each_product_and_their_siblings_stay() {
    for product in Product::ALL {
        let simulated = Simulated::start(product).await;
        let left = fill(&simulated);
        let (result, log) = reap(&simulated, Mode::Apply).await;
        assert_eq!(result, Ok(()), "{product:?}: {log}");
        assert_eq!(images(&simulated), left, "{product:?}: {log}");
        let way = match product {
            // Its API deletes the tombstones.
            Product::GitHub => "by tombstones".to_owned(),
            _ => format!("by the API of {}", product.name()),
        };
        let proven = format!("tags are removed {way}: a probe showed that this leaves their siblings alone\n");
        assert!(log.contains(&proven), "{product:?}: {log}");
        assert!(log.contains("tags removed: 4, kept tags verified: 3\n"), "{product:?}: {log}");
    }
}

#[tokio::test]
async fn a_plan_says_by_which_api_tags_would_go_and_sends_nothing_but_reads() {
    let simulated = Simulated::start(Product::Harbor).await;
    fill(&simulated);
    let before = simulated.tags();
    let (result, log) = reap(&simulated, Mode::Plan).await;
    assert_eq!(result, Ok(()));
    let told =
        "with --apply, tags are removed by the API of Harbor if a probe shows that this leaves their siblings alone\n";
    assert!(log.ends_with(told), "{log}");
    assert_eq!(simulated.tags(), before);
    let writes = |line: &String| !line.starts_with("GET ") && !line.starts_with("HEAD ");
    assert_eq!(simulated.liar.lines().into_iter().filter(writes).collect::<Vec<_>>(), Vec::<String>::new());
}

#[tokio::test]
async fn where_the_api_refuses_the_plain_ways_are_proven_and_the_log_says_why() {
    let simulated = Simulated::start(Product::Harbor).await;
    let left = fill(&simulated);
    // The probe, and both its tags when it is cleaned up.
    let denied = r#"{"errors":[{"code":"FORBIDDEN","message":"forbidden"}]}"#;
    simulated.answers([403; 3].map(|status| reply(status, &[], denied)));
    let (result, log) = reap(&simulated, Mode::Apply).await;
    assert_eq!(result, Ok(()), "{log}");
    assert_eq!(images(&simulated), left, "{log}");
    assert!(
        log.contains("the API of Harbor is not used here: cannot remove tag HOST/acme/app/ci:_reaper-canary-"),
        "{log}"
    );
    assert!(
        log.contains("by Harbor's API: the registry answered 403 FORBIDDEN: forbidden (DELETE http://HOST/"),
        "{log}"
    );
    assert!(log.contains("tags are removed by tombstones: a probe showed"), "{log}");
}

#[tokio::test]
async fn a_registry_whose_api_refuses_and_that_deletes_nothing_says_both() {
    let simulated = Simulated::start(Product::GitLab).await;
    let before = fill(&simulated).len() + 4;
    let denied = r#"{"message":"403 Forbidden"}"#;
    simulated.answers([403; 9].map(|status| reply(status, &[], denied)));
    let (result, log) = reap(&simulated, Mode::Apply).await;
    let error = result.expect_err("there is no way");
    let (first, rest) = error.split_once('\n').expect("an error has a cause");
    assert_eq!(first, "error: cannot remove tags from HOST/acme/app/ci: the registry does not allow deletes");
    assert!(rest.starts_with("cause: cannot remove tag HOST/acme/app/ci:_reaper-canary-"), "{rest}");
    assert!(
        rest.ends_with(
            "hint: give a token with the scope `api` that may change the project, in `source.registry.api.token`"
        ),
        "{rest}"
    );
    let kept = images(&simulated).into_iter().filter(|tag| !tag.starts_with("_reaper-")).count();
    assert_eq!(kept, before, "{log}");
}

#[tokio::test]
async fn our_own_reads_cost_one_grace_period_and_not_each_run() {
    for product in TELL_PULLS {
        let simulated = Simulated::start(product).await;
        let left = fill(&simulated);
        // The first run reads what is dead, and that is told to the next one as a pull. No later one reads it.
        for hours in [0, 24, 25, 47] {
            let (plan, log) = apply_after(&simulated, hours).await;
            for tag in [latest("gone"), commit(2).to_string(), content(2)] {
                assert!(images(&simulated).contains(&tag), "{product:?} {hours}: {plan}{log}");
            }
        }
        let (plan, log) = apply_after(&simulated, 48).await;
        assert_eq!(images(&simulated), left, "{product:?}: {plan}{log}");
    }
}

#[tokio::test]
async fn what_was_pulled_since_it_was_first_seen_dead_stays_for_one_more_grace_period() {
    for product in TELL_PULLS {
        let simulated = Simulated::start(product).await;
        let left = fill(&simulated);
        let gone = simulated.push(&labels(2), &[]).to_string();
        for hours in [0, 24] {
            apply_after(&simulated, hours).await;
        }
        // By its digest, as Concourse does; then nobody looks at it for a while.
        simulated.pull(&gone);
        apply_after(&simulated, 30).await;
        let (plan, log) = apply_after(&simulated, 48).await;
        let pulled = "; a pull of 2026-12-01T10:";
        let told = |tag: &str, hours: i64| {
            let line = plan.lines().find(|line| line.contains(&format!(" {tag} "))).expect("each tag has a line");
            let anew = format!(
                "Z was told after it was first seen dead on {}: its clock began anew on {}, goes after {}",
                after_hours(0),
                after_hours(hours),
                after_hours(hours + 24)
            );
            assert!(line.starts_with("GRACE ") && line.contains(pulled) && line.ends_with(&anew), "{product:?} {line}");
        };
        [latest("gone"), commit(2).to_string(), content(2)].iter().for_each(|tag| told(tag, 48));
        // Its image stays by other tags, which may be what was pulled.
        assert!(!images(&simulated).contains(&latest("twin")), "{product:?}: {plan}{log}");

        let (plan, log) = apply_after(&simulated, 71).await;
        assert!(plan.contains(pulled) && plan.contains("grace 3, restore 0, remove 0\n"), "{product:?}: {plan}{log}");
        let (plan, log) = apply_after(&simulated, 72).await;
        assert_eq!(images(&simulated), left, "{product:?}: {plan}{log}");
    }
}

#[tokio::test]
async fn where_pulls_are_refused_what_was_pulled_before_stays_and_the_rest_goes() {
    let simulated = Simulated::start(Product::Harbor).await;
    let left = fill(&simulated);
    simulated.pull(&latest("gone"));
    for hours in [0, 24] {
        apply_after(&simulated, hours).await;
    }
    // A tag that nobody was ever seen pulling.
    simulated.push(&labels(3), &[&commit(3).to_string()]);
    let denied = r#"{"errors":[{"code":"FORBIDDEN","message":"forbidden"}]}"#;
    let mut last = String::new();
    for hours in [48, 72] {
        simulated.answers([reply(403, &[], denied)]);
        let (plan, log) = apply_after(&simulated, hours).await;
        assert!(
            log.contains(
                "when images were pulled is not looked at: the registry answered 403 FORBIDDEN: forbidden (GET http://HOST/"
            ),
            "{log}"
        );
        let stays =
            format!("; dead since {}, stays until the registry tells again when it was pulled", after_hours(24));
        let line = plan.lines().find(|line| line.contains(&latest("gone"))).expect("each tag has a line");
        assert!(line.starts_with("GRACE ") && line.ends_with(&stays), "{line}");
        last = plan + &log;
    }
    assert!(!images(&simulated).contains(&commit(3).to_string()), "{last}");
    // It tells again, and that there was no pull meanwhile.
    let (plan, log) = apply_after(&simulated, 73).await;
    assert_eq!(images(&simulated), left, "{plan}{log}");
}

#[tokio::test]
async fn a_run_that_deletes_images_too_forgets_nothing_of_what_is_dead() {
    let simulated = Simulated::start(Product::Harbor).await;
    let left = fill(&simulated);
    let rules = Rules { grace: "24h".parse().expect("a good duration"), delete_untagged: true, ..rules() };
    let mut log = String::new();
    for hours in [0, 24, 48, 60, 72, 80, 96] {
        if hours == 60 {
            assert_eq!(images(&simulated), left, "{log}");
            simulated.push(&labels(3), &[&latest("late"), &commit(3).to_string(), &content(3)]);
        }
        let (result, said) = reap_by(&simulated, Mode::Apply, &rules, hours).await;
        log = said;
        assert!(result.is_ok(), "{hours}: {result:?}{log}");
        if hours == 72 {
            assert!(log.contains("images deleted: 1, manifests: 1, kept tags verified: 6\n"), "{log}");
        }
    }
    // Seen dead at 60, and our own read of then told at 72.
    assert_eq!(images(&simulated), left, "{log}");
}
