//! The APIs that registries have besides OCI's, for what that cannot do: to remove one tag and leave its siblings.
//!
//! Each product is one file, with how it is recognised, its call, and its row of docs/registries.md.

mod acr;
mod docker_hub;
mod ecr;
mod gar;
mod github;
mod gitlab;
mod harbor;
mod nexus;
#[cfg(test)]
pub(crate) mod simulated;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use url::Url;

use self::acr::Acr;
use self::docker_hub::DockerHub;
use self::ecr::Ecr;
use self::gar::Gar;
use self::github::GitHub;
use self::gitlab::GitLab;
use self::harbor::Harbor;
use self::nexus::Nexus;
pub use self::nexus::NexusTasks;
use super::http::{Access, Ask, Http, Whole};
use super::{ANSWER_LIMIT, At, Deleted, PAGE_LIMIT, Registry, RegistryError, answer};
use crate::names::{Digest, RegistryHost, Repository, Tag};
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
    /// What the call does.
    pub way: Way,
    /// What the account needs.
    pub needs: &'static str,
    /// What is to be known of its limits.
    pub limits: &'static str,
}

/// What the API of a product does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It removes one tag and leaves its siblings.
    Untag {
        /// The call names the digest too, so that a tag that moved meanwhile stays.
        digest_too: bool,
    },
    /// It deletes a manifest with all its tags, which OCI's API does not there: a tag goes by a tombstone.
    DeleteManifest,
}

impl Row {
    /// The row of a product.
    pub fn of(product: Product) -> &'static Self {
        ROWS.iter().find(|row| row.product == product).expect("each product has its row: a test looks")
    }
}

/// The rows, in the order in which they are told.
pub const ROWS: &[Row] =
    &[harbor::ROW, gitlab::ROW, nexus::ROW, docker_hub::ROW, github::ROW, ecr::ROW, acr::ROW, gar::ROW];

/// When the registry got its images.
type Pushed = BTreeMap<Digest, Timestamp>;

/// When somebody last pulled, as a registry tells; what was never pulled is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PullTimes {
    /// By the name of the tag.
    pub tags: BTreeMap<String, Timestamp>,
    /// The image, by whatever name.
    pub images: BTreeMap<Digest, Timestamp>,
}

/// How many items are asked for in one page of a list; all of them give so many.
const PER_PAGE: usize = 100;
/// The most pages that are read.
const PAGES: usize = 1000;

/// How often a tag that the API does not find, and the registry has, is asked for again.
const LATE_TRIES: u32 = 6;

/// The API of one repository's product.
pub(super) enum Api {
    Harbor(Harbor),
    GitLab(GitLab),
    Nexus(Nexus),
    DockerHub(DockerHub),
    GitHub(GitHub),
    Ecr(Ecr),
    Acr(Acr),
    Gar(Gar),
}

impl Api {
    fn product(&self) -> Product {
        match self {
            Self::Harbor(_) => Product::Harbor,
            Self::GitLab(_) => Product::GitLab,
            Self::Nexus(_) => Product::Nexus,
            Self::DockerHub(_) => Product::DockerHub,
            Self::GitHub(_) => Product::GitHub,
            Self::Ecr(_) => Product::Ecr,
            Self::Acr(_) => Product::Acr,
            Self::Gar(_) => Product::Gar,
        }
    }

    async fn pushed(&self) -> Result<Pushed, RegistryError> {
        match self {
            Self::Harbor(api) => api.pushed().await,
            Self::Nexus(api) => api.pushed().await,
            Self::DockerHub(api) => api.pushed().await,
            Self::GitHub(api) => api.pushed().await,
            Self::Ecr(api) => api.pushed().await,
            Self::Acr(api) => api.pushed().await,
            Self::Gar(api) => api.pushed().await,
            // It tells `created` of the config.
            Self::GitLab(_) => Ok(Pushed::new()),
        }
    }

    async fn pulled(&self) -> Result<Option<PullTimes>, RegistryError> {
        match self {
            Self::Harbor(api) => Ok(Some(api.pulled().await?)),
            Self::DockerHub(api) => Ok(Some(api.pulled().await?)),
            // Nexus counts a HEAD as a download: to look whether a tag is there would keep it for ever. Amazon ECR tells, and
            // does not say what a HEAD counts as. The others do not tell.
            Self::Nexus(_) | Self::GitLab(_) | Self::GitHub(_) | Self::Ecr(_) | Self::Acr(_) | Self::Gar(_) => Ok(None),
        }
    }

    async fn untag(&self, tag: &Tag, digest: &Digest) -> Result<Deleted, RegistryError> {
        match self {
            Self::Harbor(api) => api.untag(tag, digest).await,
            Self::GitLab(api) => api.untag(tag).await,
            Self::Nexus(api) => api.untag(tag).await,
            Self::DockerHub(api) => api.untag(tag).await,
            Self::GitHub(_) => Ok(Deleted::NotAllowed),
            Self::Ecr(api) => api.untag(tag, digest).await,
            Self::Acr(api) => api.untag(tag).await,
            Self::Gar(api) => api.untag(tag).await,
        }
    }
}

/// What goes by an API.
enum Goes<'a> {
    /// A tag, which points to this digest.
    Tag(&'a Api, &'a Tag, &'a Digest),
    /// A manifest with all its tags.
    Manifest(&'a GitHub, &'a Digest),
}

impl Goes<'_> {
    async fn remove(&self) -> Result<Deleted, RegistryError> {
        match self {
            Self::Tag(api, tag, digest) => api.untag(tag, digest).await,
            Self::Manifest(api, digest) => api.delete(digest).await,
        }
    }

    async fn is_there(&self, registry: &Registry) -> Result<bool, RegistryError> {
        match self {
            Self::Tag(_, tag, digest) => Ok(registry.resolve(tag).await?.is_some_and(|found| found.digest == **digest)),
            Self::Manifest(_, digest) => Ok(registry.manifest(At::Digest(digest)).await?.is_some()),
        }
    }
}

impl Registry {
    /// Which product this is, when it has an API of its own that is used: at most one request, and one only.
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
        self.while_there(&what, &Goes::Tag(api, tag, digest)).await
    }

    /// When the registry got its images, as the API of the product tells; none where it does not.
    ///
    /// # Errors
    ///
    /// The API refuses, or cannot be reached.
    pub async fn pushed(&self) -> Result<BTreeMap<Digest, Timestamp>, RegistryError> {
        match self.api().await? {
            Some(api) => api.pushed().await,
            None => Ok(Pushed::new()),
        }
    }

    /// When somebody last pulled, as the API of the product tells; `None` where it does not.
    ///
    /// # Errors
    ///
    /// The API refuses, or cannot be reached.
    pub async fn pulled(&self) -> Result<Option<PullTimes>, RegistryError> {
        match self.api().await? {
            Some(api) => api.pulled().await,
            None => Ok(None),
        }
    }

    /// Deletes a manifest by the API of the product, where OCI's does not; `None`: there OCI's does.
    pub(super) async fn delete_by_api(&self, digest: &Digest) -> Result<Option<Deleted>, RegistryError> {
        let is_told = match self.told.product {
            ProductSetting::Recognised => of_host(self.repository.registry()) == Some(Product::GitHub),
            ProductSetting::Plain => false,
            ProductSetting::Is(product) => product == Product::GitHub,
        };
        if !is_told {
            return Ok(None);
        }
        let Some(Api::GitHub(api)) = self.api().await? else { return Ok(None) };
        let what = format!("delete {}@{digest} by the API of GitHub", self.repository);
        self.while_there(&what, &Goes::Manifest(api, digest)).await.map(Some)
    }

    /// Removes something, again after 429 and where the API does not know of it yet, as long as it is there.
    async fn while_there(&self, what: &str, goes: &Goes<'_>) -> Result<Deleted, RegistryError> {
        let (mut patience, mut pause, mut late) = (self.http.patience(), self.http.first_pause(), 0);
        loop {
            match goes.remove().await {
                Ok(Deleted::WasNotThere) if late < LATE_TRIES => {
                    // Some find it by an index that is written after the push.
                    if !goes.is_there(self).await? {
                        return Ok(Deleted::WasNotThere);
                    }
                    late += 1;
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(error @ RegistryError::TooManyRequests { .. }) => patience.wait(what, error).await?,
                result => return result,
            }
            if !goes.is_there(self).await? {
                return Ok(Deleted::WasNotThere);
            }
        }
    }

    async fn api(&self) -> Result<Option<&Api>, RegistryError> {
        Ok(self.api.get_or_try_init(|| self.open_api()).await?.as_ref())
    }

    async fn open_api(&self) -> Result<Option<Api>, RegistryError> {
        let url = self.http.root("v2/");
        let ask = Ask::new(format!("recognise {}", self.repository.registry()), Method::GET, url, Access::Read);
        let host = self.repository.registry();
        let product = match self.told.product {
            ProductSetting::Plain => return Ok(None),
            ProductSetting::Is(product) => Some(product),
            ProductSetting::Recognised => of_host(host),
        };
        // Also where the product is told: the answer says where GitLab is.
        let headers = match (product, &self.told.url) {
            (None, _) | (Some(Product::GitLab), None) => self.http.head_of(&ask).await?,
            (Some(_), _) => HeaderMap::new(),
        };
        let Some(product) = product.or_else(|| recognise(&headers)) else { return Ok(None) };
        let place = self.told.url.clone().or_else(|| match product {
            Product::GitLab => gitlab::place(&headers),
            Product::DockerHub => docker_hub::place(),
            Product::GitHub => github::place(),
            Product::Ecr => ecr::place(host),
            Product::Gar => gar::place(),
            Product::Harbor | Product::Nexus | Product::Acr => None,
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
            Product::DockerHub => Api::DockerHub(DockerHub::new(client)),
            Product::GitHub => Api::GitHub(GitHub::new(client, &self.told)),
            Product::Ecr => Api::Ecr(Ecr::new(client, &self.told)),
            Product::Acr => Api::Acr(Acr::new(client)),
            Product::Gar => Api::Gar(Gar::new(client, &self.told)),
        }))
    }
}

/// Which product has this host for itself.
fn of_host(host: &str) -> Option<Product> {
    Product::ALL.into_iter().find(|product| match product {
        Product::DockerHub => host.parse().is_ok_and(|host: RegistryHost| host.is_docker_hub()),
        Product::GitHub => host == github::HOST,
        Product::Ecr => ecr::is(host),
        Product::Acr => acr::is(host),
        Product::Gar => gar::is(host),
        // These are told by what they answer.
        Product::Harbor | Product::GitLab | Product::Nexus => false,
    })
}

/// Which product answers so to `GET /v2/` without credentials.
fn recognise(headers: &HeaderMap) -> Option<Product> {
    Product::ALL.into_iter().find(|product| match product {
        Product::Harbor => harbor::is(headers),
        Product::GitLab => gitlab::is(headers),
        Product::Nexus => nexus::is(headers),
        // These are told by their hosts.
        Product::DockerHub | Product::GitHub | Product::Ecr | Product::Acr | Product::Gar => false,
    })
}

/// A refusal, with a hint that names what the API wants; who asks it is not always who asks the registry.
fn with_hint(error: RegistryError, hint: &'static str) -> RegistryError {
    match error {
        RegistryError::Unauthorized { what, answer, .. } | RegistryError::Denied { what, answer, .. } => {
            RegistryError::Product { what, why: answer.to_string(), hint }
        }
        error => error,
    }
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
        if credentials.is_some() {
            self.guard(what, &url)?;
        }
        let access = if method == Method::GET { Access::Read } else { Access::Delete };
        let ask = Ask::new(what, method, url, access);
        Ok(match credentials {
            Some((name, value)) => ask.with_header(name, value),
            None => ask,
        })
    }

    /// Refuses to send in plain http what the registry is told in https.
    fn guard(&self, what: &str, url: &Url) -> Result<(), RegistryError> {
        if url.scheme() == "https" || !self.http.is_https() {
            return Ok(());
        }
        Err(RegistryError::Product {
            what: what.to_owned(),
            why: format!("{} would be sent the password in plain http", answer::shown(url)),
            hint: "give the address of the API with https:// in `source.registry.api.url`",
        })
    }

    /// The error for an answer that lacks what it must have.
    fn odd(&self, ask: &Ask) -> RegistryError {
        RegistryError::BadAnswer {
            what: ask.what.clone(),
            url: answer::shown(&ask.url),
            why: "is not what its documentation says".to_owned(),
        }
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
