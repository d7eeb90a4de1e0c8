//! Sonatype Nexus Repository 3.
//!
//! Its OCI API does not remove a tag: it answers 404 for one that is there, and some releases leave the tags of a manifest
//! that is deleted. Its own API has a component for each tag.
//!
//! Fact: <https://help.sonatype.com/en/search-api.html>, `GET /service/rest/v1/search` with `continuationToken`;
//! <https://help.sonatype.com/en/components-api.html>, "Delete Component": 204, 403, 404, 422.

mod tasks;

use std::collections::BTreeSet;

use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::{HeaderMap, SERVER};
use serde::Deserialize;

use super::{Client, PAGES, Pushed, Row, Way};
use crate::clients::registry::auth::challenges;
use crate::clients::registry::{Deleted, RegistryError};
use crate::names::{Digest, Tag};
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
    #[serde(default)]
    assets: Vec<Asset>,
}

/// The manifest that a tag points to.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asset {
    checksum: Option<Checksum>,
    last_modified: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Checksum {
    sha256: Option<String>,
}

impl Asset {
    fn pushed(&self) -> Option<(Digest, Timestamp)> {
        let digest = format!("sha256:{}", self.checksum.as_ref()?.sha256.as_ref()?);
        Some((digest.parse().ok()?, self.last_modified.as_ref()?.parse().ok()?))
    }
}

impl Nexus {
    pub(super) fn new(client: Client, told: &ApiSource) -> Self {
        Self { client, repository: told.repository.clone() }
    }

    pub(super) async fn untag(&self, tag: &Tag) -> Result<Deleted, RegistryError> {
        let what = format!("remove tag {} by Nexus's API", self.client.named(tag));
        let Some(component) = self.find(&what, Some(tag)).await?.pop() else { return Ok(Deleted::WasNotThere) };
        let url = self.client.url(&["service", "rest", "v1", "components", &component.id]);
        self.client.delete(&self.client.ask(&what, Method::DELETE, url, self.client.basic())?).await
    }

    /// When each image was pushed: the newest of its tags.
    pub(super) async fn pushed(&self) -> Result<Pushed, RegistryError> {
        let what = format!("list the components of {} by Nexus's API", self.client.repository);
        let mut pushed = Pushed::new();
        for (digest, time) in self.find(&what, None).await?.iter().flat_map(|one| &one.assets).filter_map(Asset::pushed)
        {
            let newest = pushed.entry(digest).or_insert(time);
            *newest = time.max(*newest);
        }
        Ok(pushed)
    }

    /// The component of a tag, or those of all.
    async fn find(&self, what: &str, tag: Option<&Tag>) -> Result<Vec<Component>, RegistryError> {
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
        let repositories: BTreeSet<&str> = found.iter().map(|component| component.repository.as_str()).collect();
        if repositories.len() > 1 {
            let repositories: Vec<&str> = repositories.into_iter().collect();
            return Err(RegistryError::Product {
                what: what.to_owned(),
                why: format!("several repositories of Nexus have it: {}", repositories.join(", ")),
                hint: "say which one is meant in `source.registry.api.repository`, or with --nexus-repository of prune",
            });
        }
        Ok(found)
    }

    async fn search(
        &self,
        what: &str,
        repository: Option<&str>,
        name: &str,
        tag: Option<&Tag>,
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
                .extend_pairs(tag.map(|tag| ("version", tag.as_str())))
                .extend_pairs(repository.map(|repository| ("repository", repository)))
                .extend_pairs(token.iter().map(|token| ("continuationToken", token)));
            let page: Page = self.client.read(&self.client.ask(what, Method::GET, url, self.client.basic())?).await?.0;
            // The search also finds what is only like it.
            let same = |one: &Component| one.name == name && tag.is_none_or(|tag| one.version == tag.as_str());
            found.extend(page.items.into_iter().filter(same));
            token = page.continuation_token;
            if token.is_none() {
                break;
            }
        }
        Ok(found)
    }
}
