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
    let page = Page::default();
    let say = Say::new(page.clone());
    let outside = Story { registry: simulated.registry(&say) };
    let repository = outside.registry.repository().clone();
    let rules = rules();
    let request =
        Request { repository: &repository, rules: &rules, mode, now: after_hours(0), format: Format::Text, html: None };
    let result = plan_and_apply(&outside, &request, &mut Vec::new(), &say).await;
    let hide = |text: String| text.replace(&simulated.liar.host, "HOST");
    let result = result.map_err(|error| hide(crate::error::Report(&error.into()).to_string()));
    (result, hide(page.text()))
}

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
