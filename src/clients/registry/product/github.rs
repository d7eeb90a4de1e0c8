//! GitHub's container registry.
//!
//! It deletes nothing by OCI's API. Its API for packages has a version for each digest, and deletes it with all its tags:
//! so a single tag goes by a tombstone, whose version is deleted. The image that it was taken from stays, without a tag.
//!
//! Fact: <https://docs.github.com/en/rest/packages/packages>, "List package versions for a package owned by an
//! organization" and "Delete package version for an organization": 204, 401, 403, 404; the limits:
//! <https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api>.

use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderName, HeaderValue};
use serde::Deserialize;
use tokio::sync::OnceCell;
use url::Url;

use super::{Client, PAGES, PER_PAGE, Pushed, Row, Way, with_hint};
use crate::clients::registry::auth::sensitive;
use crate::clients::registry::http::Ask;
use crate::clients::registry::{Deleted, RegistryError};
use crate::names::{Digest, Secret};
use crate::request::{ApiSource, Product};

pub(super) const ROW: Row = Row {
    product: Product::GitHub,
    recognised_by: "the host `ghcr.io`",
    call: "a tombstone is put on the tag, then `DELETE /orgs/<owner>/packages/container/<name>/versions/<id>` of api.github.com, or `/users/…`, deletes the tombstone",
    way: Way::DeleteManifest,
    needs: "a token (classic) with the scopes `write:packages` and `delete:packages`: `registry.password`, or `registry.api.token`",
    limits: "5,000 requests an hour; versions are listed 100 to a page; the image of a tag that went stays as an untagged version",
};

/// The host of its registry.
pub(super) const HOST: &str = "ghcr.io";

const NEEDS: &str =
    "give a token (classic) with the scopes `write:packages` and `delete:packages` in `source.registry.api.token`";

/// Where the API is.
pub(super) fn place() -> Option<Url> {
    Url::parse("https://api.github.com/").ok()
}

pub(in crate::clients::registry) struct GitHub {
    client: Client,
    token: Option<Secret>,
    /// Whether the owner is one of `orgs` or `users`.
    owners: OnceCell<&'static str>,
}

#[derive(Deserialize)]
struct Version {
    id: u64,
    /// The digest.
    name: String,
    created_at: Timestamp,
}

impl GitHub {
    pub(super) fn new(client: Client, told: &ApiSource) -> Self {
        Self { client, token: told.token.clone(), owners: OnceCell::new() }
    }

    /// Deletes a manifest with all its tags.
    pub(super) async fn delete(&self, digest: &Digest) -> Result<Deleted, RegistryError> {
        self.remove(digest).await.map_err(|error| with_hint(error, NEEDS))
    }

    async fn remove(&self, digest: &Digest) -> Result<Deleted, RegistryError> {
        let what = format!("delete {}@{digest} by GitHub's API", self.client.repository);
        let owners = *self.owners.get_or_try_init(|| self.owners(&what)).await?;
        for page in 1..=PAGES {
            let versions = self.page(&what, owners, page).await?;
            if let Some(version) = versions.iter().find(|version| version.name == digest.to_string()) {
                let url = self.url(owners, Some(version.id));
                return self.client.delete(&self.ask(&what, Method::DELETE, url)?).await;
            }
            if versions.len() < PER_PAGE {
                break;
            }
        }
        Ok(Deleted::WasNotThere)
    }

    /// When each image was pushed: its version is made then.
    pub(super) async fn pushed(&self) -> Result<Pushed, RegistryError> {
        let what = format!("list the versions of {} by GitHub's API", self.client.repository);
        let owners = *self.owners.get_or_try_init(|| self.owners(&what)).await?;
        let mut pushed = Pushed::new();
        for page in 1..=PAGES {
            let versions = self.page(&what, owners, page).await?;
            let read = versions.len();
            pushed.extend(versions.into_iter().filter_map(|one| Some((one.name.parse().ok()?, one.created_at))));
            if read < PER_PAGE {
                break;
            }
        }
        Ok(pushed)
    }

    /// What the owner of the package is.
    async fn owners(&self, what: &str) -> Result<&'static str, RegistryError> {
        for owners in ["orgs", "users"] {
            match self.page(what, owners, 1).await {
                Ok(_) => return Ok(owners),
                Err(error) if error.answer().is_some_and(|answer| answer.status == 404) => {}
                Err(error) => return Err(error),
            }
        }
        Err(RegistryError::Product {
            what: what.to_owned(),
            why: "GitHub shows no such package to this account".to_owned(),
            hint: NEEDS,
        })
    }

    async fn page(&self, what: &str, owners: &str, page: usize) -> Result<Vec<Version>, RegistryError> {
        let mut url = self.url(owners, None);
        url.query_pairs_mut().append_pair("per_page", &PER_PAGE.to_string()).append_pair("page", &page.to_string());
        Ok(self.client.read(&self.ask(what, Method::GET, url)?).await?.0)
    }

    fn url(&self, owners: &str, version: Option<u64>) -> Url {
        let name = self.client.repository.name();
        let (owner, package) = name.split_once('/').unwrap_or((name, ""));
        let version = version.map(|id| id.to_string());
        let segments = [owners, owner, "packages", "container", package, "versions"];
        // A `/` in the name of a package is written as %2F.
        self.client.url(&segments.into_iter().chain(version.as_deref()).collect::<Vec<_>>())
    }

    fn ask(&self, what: &str, method: Method, url: Url) -> Result<Ask, RegistryError> {
        let login = self.client.http.identity().credentials();
        let token = self.token.as_ref().or(login.map(|login| &login.password));
        let token = token.and_then(|token| sensitive(&format!("Bearer {}", token.open())));
        Ok(self
            .client
            .ask(what, method, url, token.map(|token| (AUTHORIZATION, token)))?
            .with_header(ACCEPT, HeaderValue::from_static("application/vnd.github+json"))
            .with_header(HeaderName::from_static("x-github-api-version"), HeaderValue::from_static("2022-11-28")))
    }
}
