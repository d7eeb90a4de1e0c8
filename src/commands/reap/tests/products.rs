//! A whole reap of a registry of each product.

use serde_json::json;

use super::*;
use crate::clients::registry::Registry;
use crate::clients::registry::liar::Page;
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

async fn reap(simulated: &Simulated) -> (Result<(), String>, String) {
    let page = Page::default();
    let say = Say::new(page.clone());
    let outside = Story { registry: simulated.registry(&say) };
    let repository = outside.registry.repository().clone();
    let rules = rules();
    let request = Request {
        repository: &repository,
        rules: &rules,
        mode: Mode::Apply,
        now: after_hours(0),
        format: Format::Text,
        html: None,
    };
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
        let (result, log) = reap(&simulated).await;
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
