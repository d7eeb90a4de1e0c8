//! Sonatype Nexus Repository 3.
//!
//! Its OCI API does not remove a tag: it answers 404 for one that is there, and some releases leave the tags of a manifest
//! that is deleted. Its own API has a component for each tag.
//!
//! Fact: <https://help.sonatype.com/en/search-api.html>, `GET /service/rest/v1/search` with `continuationToken`;
//! <https://help.sonatype.com/en/components-api.html>, "Delete Component": 204, 403, 404, 422.

mod tasks;

use reqwest::Method;
use reqwest::header::{HeaderMap, SERVER};
use serde::Deserialize;

use super::{Client, Row, Way};
use crate::clients::registry::auth::challenges;
use crate::clients::registry::{Deleted, RegistryError};
use crate::names::Tag;
use crate::request::{ApiSource, Product};

pub use tasks::NexusTasks;

pub(super) const ROW: Row = Row {
    product: Product::Nexus,
    recognised_by: "`Server: Nexus/…`, or the realm *Sonatype Nexus Repository Manager*",
    call: "`GET /service/rest/v1/search` by name and tag, then `DELETE /service/rest/v1/components/<id>`",
    way: Way::Untag { digest_too: false },
    needs: "the registry's user, with the privileges browse, read and delete of the repository; `registry.api.url` where Docker has a port or host of its own",
    limits: "the search is written a moment after a push, and is waited for; nothing is freed before *Admin - Compact blob store*: `--nexus-tasks`",
};

/// The most pages of a search that are read.
const PAGES: usize = 100;

/// Whether an answer to `GET /v2/` without credentials is that of Nexus.
pub(super) fn is(headers: &HeaderMap) -> bool {
    let server = headers.get(SERVER).and_then(|server| server.to_str().ok()).unwrap_or_default();
    let realm = |realm: &str| realm.starts_with("Sonatype Nexus");
    server.starts_with("Nexus/")
        || challenges(headers).iter().any(|challenge| challenge.parameter("realm").is_some_and(realm))
}

pub(in crate::clients::registry) struct Nexus {
    client: Client,
    /// The repository of Nexus, when it was told.
    repository: Option<String>,
}

/// A tag, as the search tells it.
#[derive(Debug, Deserialize)]
struct Component {
    id: String,
    repository: String,
    name: String,
    version: String,
}

impl Nexus {
    pub(super) fn new(client: Client, told: &ApiSource) -> Self {
        Self { client, repository: told.repository.clone() }
    }

    pub(super) async fn untag(&self, tag: &Tag) -> Result<Deleted, RegistryError> {
        let what = format!("remove tag {} by Nexus's API", self.client.named(tag));
        let Some(component) = self.find(&what, tag).await? else { return Ok(Deleted::WasNotThere) };
        let url = self.client.url(&["service", "rest", "v1", "components", &component.id]);
        self.client.delete(&self.client.ask(&what, Method::DELETE, url, self.client.basic())?).await
    }

    /// The component of a tag.
    async fn find(&self, what: &str, tag: &Tag) -> Result<Option<Component>, RegistryError> {
        let name = self.client.repository.name();
        // Where images are reached by path, the first part of the name is the repository of Nexus.
        let by_path = name.split_once('/');
        let mut found = match (&self.repository, by_path) {
            (Some(told), Some((first, rest))) if told == first => self.search(what, Some(told), rest, tag).await?,
            (Some(told), _) => self.search(what, Some(told), name, tag).await?,
            (None, _) => self.search(what, None, name, tag).await?,
        };
        if let (true, None, Some((first, rest))) = (found.is_empty(), &self.repository, by_path) {
            found = self.search(what, Some(first), rest, tag).await?;
        }
        if found.len() > 1 {
            let repositories: Vec<&str> = found.iter().map(|component| component.repository.as_str()).collect();
            return Err(RegistryError::Product {
                what: what.to_owned(),
                why: format!("several repositories of Nexus have it: {}", repositories.join(", ")),
                hint: "say which one is meant in `source.registry.api.repository`",
            });
        }
        Ok(found.pop())
    }

    async fn search(
        &self,
        what: &str,
        repository: Option<&str>,
        name: &str,
        tag: &Tag,
    ) -> Result<Vec<Component>, RegistryError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Page {
            items: Vec<Component>,
            continuation_token: Option<String>,
        }
        let (mut found, mut token) = (Vec::new(), None::<String>);
        for _ in 0..PAGES {
            let mut url = self.client.url(&["service", "rest", "v1", "search"]);
            url.query_pairs_mut()
                .append_pair("format", "docker")
                .append_pair("name", name)
                .append_pair("version", tag.as_str())
                .extend_pairs(repository.map(|repository| ("repository", repository)))
                .extend_pairs(token.iter().map(|token| ("continuationToken", token)));
            let page: Page = self.client.read(&self.client.ask(what, Method::GET, url, self.client.basic())?).await?.0;
            // The search also finds what is only like it.
            let same = |component: &Component| component.name == name && component.version == tag.as_str();
            found.extend(page.items.into_iter().filter(same));
            token = page.continuation_token;
            if token.is_none() {
                break;
            }
        }
        Ok(found)
    }
}
