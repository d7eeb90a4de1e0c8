//! The APIs that registries have besides OCI's, for what that cannot do: to remove one tag and leave its siblings.
//!
//! Each product is one file, with how it is recognised, its call, and its row of docs/registries.md.

mod gitlab;
mod harbor;
mod nexus;
#[cfg(test)]
pub(crate) mod simulated;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use url::Url;

use self::gitlab::GitLab;
use self::harbor::Harbor;
use self::nexus::Nexus;
pub use self::nexus::NexusTasks;
use super::http::{Access, Ask, Http, Whole};
use super::{ANSWER_LIMIT, Deleted, PAGE_LIMIT, Registry, RegistryError, answer};
use crate::names::{Digest, Repository, Tag};
use crate::request::{Product, ProductSetting};

/// What a product can do: its row of docs/registries.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The product.
    pub product: Product,
    /// How it is told from others.
    pub recognised_by: &'static str,
    /// The call that removes one tag.
    pub call: &'static str,
    /// Whether the call names the digest too, so that a tag that moved meanwhile stays.
    pub digest_too: bool,
    /// What the account needs.
    pub needs: &'static str,
    /// What is to be known of its limits.
    pub limits: &'static str,
}

impl Row {
    /// The row of a product.
    pub fn of(product: Product) -> &'static Self {
        ROWS.iter().find(|row| row.product == product).expect("each product has its row: a test looks")
    }
}

/// The rows, in the order in which they are told.
pub const ROWS: &[Row] = &[harbor::ROW, gitlab::ROW, nexus::ROW];

/// How often a tag that the API does not find, and the registry has, is asked for again.
const LATE_TRIES: u32 = 6;

/// The API of one repository's product.
pub(super) enum Api {
    Harbor(Harbor),
    GitLab(GitLab),
    Nexus(Nexus),
}

impl Api {
    fn product(&self) -> Product {
        match self {
            Self::Harbor(_) => Product::Harbor,
            Self::GitLab(_) => Product::GitLab,
            Self::Nexus(_) => Product::Nexus,
        }
    }

    async fn untag(&self, tag: &Tag, digest: &Digest) -> Result<Deleted, RegistryError> {
        match self {
            Self::Harbor(api) => api.untag(tag, digest).await,
            Self::GitLab(api) => api.untag(tag).await,
            Self::Nexus(api) => api.untag(tag).await,
        }
    }
}

impl Registry {
    /// Which product this is, when it has an API of its own that removes single tags: at most one request, and one only.
    ///
    /// # Errors
    ///
    /// The registry cannot be reached.
    pub async fn product(&self) -> Result<Option<Product>, RegistryError> {
        Ok(self.api().await?.map(Api::product))
    }

    /// Removes one tag by the API of the product, which leaves its siblings.
    ///
    /// `digest` is what the tag points to. Sent again only where nothing was done: the answer was 429, or the API did not
    /// know of the tag yet; and only while the tag points there.
    ///
    /// # Errors
    ///
    /// The API refuses, or cannot be reached.
    pub async fn untag(&self, tag: &Tag, digest: &Digest) -> Result<Deleted, RegistryError> {
        let Some(api) = self.api().await? else { return Ok(Deleted::NotAllowed) };
        let what = format!("remove {}:{tag} by the API of {}", self.repository, api.product().name());
        let (mut patience, mut pause, mut late) = (self.http.patience(), self.http.first_pause(), 0);
        loop {
            match api.untag(tag, digest).await {
                Ok(Deleted::WasNotThere) if late < LATE_TRIES => {
                    // Some find a tag by an index that is written after the push.
                    if !self.points_to(tag, digest).await? {
                        return Ok(Deleted::WasNotThere);
                    }
                    late += 1;
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(error @ RegistryError::TooManyRequests { .. }) => patience.wait(&what, error).await?,
                result => return result,
            }
            if !self.points_to(tag, digest).await? {
                return Ok(Deleted::WasNotThere);
            }
        }
    }

    async fn points_to(&self, tag: &Tag, digest: &Digest) -> Result<bool, RegistryError> {
        Ok(self.resolve(tag).await?.is_some_and(|found| found.digest == *digest))
    }

    async fn api(&self) -> Result<Option<&Api>, RegistryError> {
        Ok(self.api.get_or_try_init(|| self.open_api()).await?.as_ref())
    }

    async fn open_api(&self) -> Result<Option<Api>, RegistryError> {
        let url = self.http.root("v2/");
        let ask = Ask::new(format!("recognise {}", self.repository.registry()), Method::GET, url, Access::Read);
        let product = match self.told.product {
            ProductSetting::Plain => return Ok(None),
            ProductSetting::Is(product) => Some(product),
            ProductSetting::Recognised => None,
        };
        // Also where the product is told: the answer says where GitLab is.
        let headers = match (product, &self.told.url) {
            (Some(_), Some(_)) => HeaderMap::new(),
            (None, _) | (_, None) => self.http.head_of(&ask).await?,
        };
        let Some(product) = product.or_else(|| recognise(&headers)) else { return Ok(None) };
        let place = self.told.url.clone().or_else(|| match product {
            Product::GitLab => gitlab::place(&headers),
            Product::Harbor | Product::Nexus => None,
        });
        let client = Client {
            http: Arc::clone(&self.http),
            base: place.unwrap_or_else(|| self.http.root("")),
            repository: self.repository.clone(),
        };
        Ok(Some(match product {
            Product::Harbor => Api::Harbor(Harbor::new(client)),
            Product::GitLab => Api::GitLab(GitLab::new(client, &self.told)),
            Product::Nexus => Api::Nexus(Nexus::new(client, &self.told)),
        }))
    }
}

/// Which product answers so to `GET /v2/` without credentials.
fn recognise(headers: &HeaderMap) -> Option<Product> {
    Product::ALL.into_iter().find(|product| match product {
        Product::Harbor => harbor::is(headers),
        Product::GitLab => gitlab::is(headers),
        Product::Nexus => nexus::is(headers),
    })
}

/// Requests to an API that is not OCI's.
pub(super) struct Client {
    http: Arc<Http>,
    /// Where the API is, without the path that is the same everywhere.
    base: Url,
    repository: Repository,
}

impl Client {
    /// An address of the API. What a segment has besides letters, digits and the like is written with `%`.
    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    fn named(&self, tag: &Tag) -> String {
        format!("{}:{tag}", self.repository)
    }

    /// A request with these credentials. They go to the address alone, and to none that it redirects to.
    fn ask(
        &self,
        what: &str,
        method: Method,
        url: Url,
        credentials: Option<(HeaderName, HeaderValue)>,
    ) -> Result<Ask, RegistryError> {
        let is_given_away = credentials.is_some() && url.scheme() == "http" && self.http.is_https();
        if is_given_away {
            return Err(RegistryError::Product {
                what: what.to_owned(),
                why: format!("{} would be sent the password in plain http", answer::shown(&url)),
                hint: "give the address of the API with https:// in `source.registry.api.url`",
            });
        }
        let access = if method == Method::GET { Access::Read } else { Access::Delete };
        let ask = Ask::new(what, method, url, access);
        Ok(match credentials {
            Some((name, value)) => ask.with_header(name, value),
            None => ask,
        })
    }

    /// User and password of the registry.
    fn basic(&self) -> Option<(HeaderName, HeaderValue)> {
        Some((reqwest::header::AUTHORIZATION, self.http.identity().basic()?))
    }

    /// The answer, which must be JSON of this form.
    async fn read<T: DeserializeOwned>(&self, ask: &Ask) -> Result<(T, HeaderMap), RegistryError> {
        let whole = self.http.ask(ask, PAGE_LIMIT).await?;
        if whole.status != StatusCode::OK {
            return Err(self.http.refused(ask, &whole));
        }
        Ok((self.json(ask, &whole)?, whole.headers))
    }

    fn json<T: DeserializeOwned>(&self, ask: &Ask, whole: &Whole) -> Result<T, RegistryError> {
        serde_json::from_slice(&whole.bytes).map_err(|error| RegistryError::BadAnswer {
            what: ask.what.clone(),
            url: answer::shown(&ask.url),
            // Where in the text, and nothing of the text, which may hold a token.
            why: format!("is not what its documentation says (line {}, column {})", error.line(), error.column()),
        })
    }

    /// Sends a request that removes a tag, and reads its answer as most APIs mean it.
    async fn delete(&self, ask: &Ask) -> Result<Deleted, RegistryError> {
        let whole = self.http.ask_once(ask, ANSWER_LIMIT).await?;
        match whole.status {
            status if status.is_success() => Ok(Deleted::Gone),
            StatusCode::NOT_FOUND => Ok(Deleted::WasNotThere),
            StatusCode::METHOD_NOT_ALLOWED => Ok(Deleted::NotAllowed),
            _ => Err(self.http.refused(ask, &whole)),
        }
    }
}
