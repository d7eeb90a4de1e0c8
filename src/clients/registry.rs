//! A repository of an OCI registry.
//!
//! - [`model`]: what a registry holds, and how its JSON is read.
//! - [`error`]: what goes wrong, and what to do about it.
//! - `http`: one request and its answer; retries, redirects, limits. `tls`: whom we trust.
//! - `auth`: basic credentials and tokens.
//! - [`answer`]: what a server said instead, or why it said nothing.
//! - `product`: the APIs that some registries have besides OCI's.
//! - `links`: the pages of a list. `download`, `upload`: a blob on its way.
//!
//! References and media types are those of oci-client (`oci_distribution`). Its client is not used: it hides the
//! status of an answer, its `Retry-After` and its next page, it cannot delete, and on top of it there would be two
//! HTTP clients with two caches of tokens.

pub mod answer;
mod auth;
mod capabilities;
mod download;
pub mod error;
mod http;
#[cfg(test)]
pub(crate) mod liar;
mod links;
pub mod model;
pub(crate) mod product;
#[cfg(test)]
mod tests;
mod tls;
mod upload;

use std::collections::{BTreeSet, HashSet};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::try_unfold;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use url::Url;

use crate::names::{Digest, ImagePlatform, RegistryHost, Repository, Span, Tag};
use crate::request::{ApiSource, RegistrySource, RegistryTransport};
use crate::say::Say;

pub use answer::Answer;
pub use error::RegistryError;
pub use model::{At, Choice, Content, Descriptor, Image, ImageConfig, Manifest, Platform, RootfsDigests, RunConfig};
pub use product::{NexusTasks, PullTimes, ROWS, Row, Way};

pub use upload::{Open, Sent, Upload};

use download::{Deadline, Download, Origin, verify};
use http::{Access, Ask, Http, Place, Whole};
use model::Unreadable;

/// The most bytes of a manifest. Registries take no larger ones.
///
/// Fact: distribution, registry/handlers/manifests.go, `maxManifestBodySize`.
const MANIFEST_LIMIT: u64 = 4 << 20;
/// The most bytes of a blob that is held in memory.
const BLOB_LIMIT: u64 = 8 << 20;
/// The most bytes of one page of tags. distribution 2.8 answers all tags in one page: 32 MiB are 250,000 of the longest.
const PAGE_LIMIT: u64 = 32 << 20;
/// The most bytes of an answer that says nothing that is used.
const ANSWER_LIMIT: u64 = 64 << 10;
/// How many tags are asked for in one page; registries give fewer when it is too many for them.
const TAGS_PER_PAGE: &str = "1000";
/// After so many pages something is wrong.
const PAGES: usize = 10_000;
/// How deep indexes may lie in indexes.
const INDEX_DEPTH: usize = 4;

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// One repository of a registry, and the credentials for it.
///
/// Any number of requests may run at once; how many is for the caller to bound.
pub struct Registry {
    repository: Repository,
    http: Arc<Http>,
    mirror: Option<Arc<Mirror>>,
    /// Its own API, once it is known which product it is.
    api: OnceCell<Option<product::Api>>,
    told: ApiSource,
    say: Say,
    download_timeout: Span,
    /// When the first download has to be over, and with it all of them.
    download_end: OnceLock<Instant>,
}

/// Where a repository of Docker Hub is read first.
struct Mirror {
    host: RegistryHost,
    http: Arc<Http>,
    /// It failed once, and is not asked again.
    is_lost: AtomicBool,
    /// The registry that it mirrors.
    registry: String,
    say: Say,
}

impl Mirror {
    /// Asks it no more. That is said once.
    fn lose(&self, error: &RegistryError) {
        if !self.is_lost.swap(true, Ordering::Relaxed) {
            let Self { host, registry, .. } = self;
            self.say.line(format_args!("mirror: {host} fails: {}; {registry} is asked from here on", error.why()));
        }
    }

    /// What it answered; after an error it is not asked again.
    fn unless_lost<T>(&self, answer: Result<Option<T>, RegistryError>) -> Option<T> {
        answer.unwrap_or_else(|error| {
            self.lose(&error);
            None
        })
    }
}

/// The manifest of one image, taken apart.
struct Single {
    manifest: Manifest,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// How a delete ended that was no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// 202: it is gone.
    Gone,
    /// 404 MANIFEST_UNKNOWN: it was not there.
    WasNotThere,
    /// 405, or 400 UNSUPPORTED: the registry does not delete this way.
    NotAllowed,
}

impl Registry {
    /// A client for one repository. Nothing is asked yet.
    ///
    /// # Errors
    ///
    /// An entry of `source.registry.ca_certs` or of `client_certs` is no certificate, or the host is none.
    pub fn new(repository: &Repository, source: &RegistrySource, say: &Say) -> Result<Self, RegistryError> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Fails only when another thread was quicker, which is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        // Docker Hub is reached under another name than the one that it has in references.
        let reference = oci_distribution::Reference::with_tag(
            repository.registry().to_owned(),
            repository.name().to_owned(),
            String::new(),
        );
        let host: Option<RegistryHost> = repository.registry().parse().ok();
        let client_cert = |host: &RegistryHost| source.client_certs.iter().find(|one| one.host == *host);
        let is_mirrored = source.mirror.is_some() && host.as_ref().is_some_and(RegistryHost::is_docker_hub);
        let place = Place {
            host: reference.resolve_registry(),
            // Where there is a mirror, `insecure` is about that: Docker Hub has TLS.
            transport: if is_mirrored { RegistryTransport::Https } else { source.transport },
            credentials: source.credentials.as_ref(),
            ca_certs: &source.ca_certs,
            client_cert: host.as_ref().and_then(client_cert),
        };
        let http = Arc::new(Http::new(repository, &place, say)?);
        Ok(Self {
            repository: repository.clone(),
            http,
            mirror: None,
            api: OnceCell::new(),
            told: source.api.clone(),
            say: say.clone(),
            download_timeout: source.download_timeout,
            download_end: OnceLock::new(),
        })
    }

    /// The same for steps that only read: a repository of Docker Hub is read from the mirror of the source, when there
    /// is one. What it does not have is read from Docker Hub, and everything, once it fails.
    ///
    /// Not for what decides on writing: a mirror may answer what was so an hour ago.
    ///
    /// # Errors
    ///
    /// As [`Registry::new`].
    pub fn to_read(repository: &Repository, source: &RegistrySource, say: &Say) -> Result<Self, RegistryError> {
        let mut registry = Self::new(repository, source, say)?;
        let is_docker_hub = repository.registry().parse().is_ok_and(|host: RegistryHost| host.is_docker_hub());
        if let Some(mirror) = source.mirror.as_ref().filter(|_| is_docker_hub) {
            let place = Place {
                host: mirror.host.as_str(),
                transport: source.transport,
                credentials: mirror.credentials.as_ref(),
                ca_certs: &source.ca_certs,
                client_cert: source.client_certs.iter().find(|one| one.host == mirror.host),
            };
            let http = Http::new(repository, &place, say)?.at_first_try();
            registry.mirror = Some(Arc::new(Mirror {
                host: mirror.host.clone(),
                http: Arc::new(http),
                is_lost: AtomicBool::new(false),
                registry: repository.registry().to_owned(),
                say: say.clone(),
            }));
        }
        Ok(registry)
    }

    /// Each request is sent once, whatever happens to it: for what can be done without.
    #[must_use]
    pub fn at_first_try(mut self) -> Self {
        Arc::get_mut(&mut self.http).expect("nobody else has it before the first request").try_once();
        self
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// What a tag points to: one HEAD. `None`: 404 MANIFEST_UNKNOWN or NAME_UNKNOWN; anything else that is no 200 is an error.
    ///
    /// A registry that does not tell digest and size in the head is asked with GET.
    pub async fn resolve(&self, tag: &Tag) -> Result<Option<Descriptor>, RegistryError> {
        if let Some(mirror) = self.mirror()
            && let Some(found) = mirror.unless_lost(self.resolve_at(&mirror.http, tag).await)
        {
            return Ok(Some(found));
        }
        self.resolve_at(&self.http, tag).await
    }

    async fn resolve_at(&self, http: &Http, tag: &Tag) -> Result<Option<Descriptor>, RegistryError> {
        let at = At::Tag(tag);
        let ask = self.ask_manifest(http, Method::HEAD, &at);
        let head = http.ask(&ask, ANSWER_LIMIT).await?;
        match head.status {
            StatusCode::OK => {
                if let Some(descriptor) = described(&head.headers) {
                    return Ok(Some(descriptor));
                }
            }
            // The answer to a HEAD has no body that could say what is unknown. A registry's has the type that its body
            // would have; any other server's 404 is looked at more closely.
            StatusCode::NOT_FOUND if text(&head.headers, &CONTENT_TYPE).is_some_and(|kind| kind.contains("json")) => {
                return Ok(None);
            }
            StatusCode::UNAUTHORIZED => return Err(http.refused(&ask, &head)),
            // The answer to a GET says why.
            _ => {}
        }
        let manifest = self.manifest_at(http, at).await?;
        Ok(manifest.map(|Manifest { digest, media_type, bytes }| Descriptor {
            media_type,
            digest,
            size: bytes.len() as u64,
            platform: None,
            annotations: Default::default(),
        }))
    }

    /// A manifest or index: one GET, verified. `None`: 404 MANIFEST_UNKNOWN or NAME_UNKNOWN.
    pub async fn manifest(&self, at: At<'_>) -> Result<Option<Manifest>, RegistryError> {
        if let Some(mirror) = self.mirror()
            && let Some(found) = mirror.unless_lost(self.manifest_at(&mirror.http, at).await)
        {
            return Ok(Some(found));
        }
        self.manifest_at(&self.http, at).await
    }

    async fn manifest_at(&self, http: &Http, at: At<'_>) -> Result<Option<Manifest>, RegistryError> {
        let ask = self.ask_manifest(http, Method::GET, &at);
        let answer = http.ask(&ask, MANIFEST_LIMIT).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND if is_unknown(&answer) => return Ok(None),
            _ => return Err(http.refused(&ask, &answer)),
        }
        let actual = Digest::of(&answer.bytes);
        let told = told_digest(&answer.headers);
        for expected in [told, at.digest()].into_iter().flatten() {
            if expected != actual {
                return Err(RegistryError::DigestMismatch { what: ask.what, expected, actual });
            }
        }
        let media_type = model::media_type(text(&answer.headers, &CONTENT_TYPE), &answer.bytes);
        Ok(Some(Manifest { digest: actual, media_type, bytes: answer.bytes }))
    }

    /// What a manifest is.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotAnImage`] for a media type that is none of the four, [`RegistryError::BadManifest`] for JSON
    /// that is not what the media type promises.
    pub fn content(&self, manifest: &Manifest) -> Result<Content, RegistryError> {
        model::content(&manifest.media_type, &manifest.bytes)
            .map_err(|unreadable| self.unreadable(&manifest.digest, unreadable))
    }

    /// An image with its config: two GETs, and two more for each index that leads to it.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotAnImage`] for what is no image, such as a cache, a signature or a chart, and
    /// [`RegistryError::NoPlatform`] for an index that does not have the one that is chosen.
    pub async fn image(&self, at: At<'_>, choice: Choice<'_>) -> Result<Option<Image>, RegistryError> {
        let Some(manifest) = self.manifest(at).await? else { return Ok(None) };
        let single = self.single(&at, choice, manifest.clone()).await?;
        let config = self.config(&single.config).await?;
        Ok(Some(Image { manifest, config_descriptor: single.config, layers: single.layers, config }))
    }

    /// The manifest of one image: the one that is here, or the one of a platform in the index that is here.
    ///
    /// # Errors
    ///
    /// As [`Registry::image`].
    pub async fn image_manifest(&self, at: At<'_>, choice: Choice<'_>) -> Result<Option<Manifest>, RegistryError> {
        let Some(manifest) = self.manifest(at).await? else { return Ok(None) };
        Ok(Some(self.single(&at, choice, manifest).await?.manifest))
    }

    /// Goes from a manifest through indexes to that of one image. An index in an index need not have a platform: it is
    /// looked into when its neighbours are not what is wanted.
    async fn single(&self, at: &At<'_>, choice: Choice<'_>, manifest: Manifest) -> Result<Single, RegistryError> {
        let (Choice::Only(wanted) | Choice::Rather(wanted)) = choice;
        let (mut waiting, mut platforms, mut first) = (vec![(manifest, 0)], Vec::new(), None);
        loop {
            let Some((manifest, depth)) = waiting.pop() else {
                let Some(first) = first.take() else {
                    let (what, wanted) = (self.named(at), wanted.clone());
                    return Err(RegistryError::NoPlatform { what, wanted, platforms });
                };
                waiting.push((self.child(&first).await?, 0));
                continue;
            };
            let children = match self.content(&manifest)? {
                Content::Image { config, layers } => return Ok(Single { manifest, config, layers }),
                Content::Index { manifests } => manifests,
            };
            if depth == INDEX_DEPTH {
                let media_type = "an index in an index in an index".to_owned();
                return Err(RegistryError::NotAnImage { what: self.named(at), media_type });
            }
            let named = || children.iter().filter_map(|child| Some((child, child.platform.as_ref()?)));
            if let Some((child, _)) = named().find(|(_, platform)| platform.is(wanted)) {
                waiting = vec![(self.child(&child.digest).await?, depth + 1)];
                continue;
            }
            let known: Vec<_> = named().filter(|(_, platform)| !platform.is_unknown()).collect();
            platforms.extend(known.iter().map(|(_, platform)| platform.to_string()));
            if let (Choice::Rather(_), None, Some((child, _))) = (choice, first, known.first()) {
                first = Some(child.digest);
            }
            for child in children.iter().rev().filter(|child| child.platform.is_none() && child.is_index()) {
                waiting.push((self.child(&child.digest).await?, depth + 1));
            }
        }
    }

    /// The error of an image that is for another platform than the one that is wanted.
    pub fn other_platform(&self, image: &Image, wanted: &ImagePlatform) -> RegistryError {
        RegistryError::NoPlatform {
            what: self.named(&At::Digest(&image.manifest.digest)),
            wanted: wanted.clone(),
            platforms: vec![image.platform().to_string()],
        }
    }

    /// The config of an image: one GET.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotAnImage`] for the config of something else.
    pub async fn config(&self, descriptor: &Descriptor) -> Result<ImageConfig, RegistryError> {
        let bytes = self.blob(descriptor).await?;
        model::config(&descriptor.media_type, &bytes)
            .map_err(|unreadable| self.unreadable(&descriptor.digest, unreadable))
    }

    /// A small blob (at most 8 MiB), verified.
    pub async fn blob(&self, descriptor: &Descriptor) -> Result<Bytes, RegistryError> {
        if let Some(mirror) = self.mirror()
            && let Some(found) = mirror.unless_lost(self.blob_at(&mirror.http, descriptor).await.map(Some))
        {
            return Ok(found);
        }
        self.blob_at(&self.http, descriptor).await
    }

    async fn blob_at(&self, http: &Http, descriptor: &Descriptor) -> Result<Bytes, RegistryError> {
        let ask = self.ask_blob(http, descriptor);
        if descriptor.size > BLOB_LIMIT {
            return Err(RegistryError::TooLarge { what: ask.what, limit: BLOB_LIMIT });
        }
        let answer = http.ask(&ask, BLOB_LIMIT).await?;
        if answer.status != StatusCode::OK {
            return Err(http.refused(&ask, &answer));
        }
        let (expected, actual) = (descriptor.size, answer.bytes.len() as u64);
        if expected != actual {
            return Err(RegistryError::SizeMismatch { what: ask.what, expected, actual });
        }
        verify(ask.what, descriptor.digest, Digest::of(&answer.bytes))?;
        Ok(answer.bytes)
    }

    /// A blob as it arrives. The stream ends with an error when size or digest are not those of the descriptor, or when
    /// `source.registry.download_timeout` is over, which is counted from the first blob on. What breaks off goes on where
    /// it stopped.
    ///
    /// The error stands in the place of the last bytes, so a reader that stops at the end of what is packed in the blob
    /// meets it too.
    pub async fn stream_blob(
        &self,
        descriptor: &Descriptor,
    ) -> Result<impl Stream<Item = Result<Bytes, RegistryError>> + Send + Unpin + 'static, RegistryError> {
        let origin = |http: &Arc<Http>| Origin { http: Arc::clone(http), ask: self.ask_blob(http, descriptor) };
        let mirror = self.mirror().map(|mirror| (Arc::clone(mirror), origin(&mirror.http)));
        let download = Download::open(mirror, origin(&self.http), self.deadline(), descriptor).await?;
        let stream =
            try_unfold(download, async |mut download| Ok(download.next().await?.map(|bytes| (bytes, download))));
        let stream: Pin<Box<dyn Stream<Item = _> + Send>> = Box::pin(stream);
        Ok(stream)
    }

    /// Uploads a small blob, unless it is there.
    pub async fn push_blob(&self, media_type: &str, bytes: Bytes) -> Result<Descriptor, RegistryError> {
        let descriptor = Descriptor {
            media_type: media_type.to_owned(),
            digest: Digest::of(&bytes),
            size: bytes.len() as u64,
            platform: None,
            annotations: Default::default(),
        };
        let what = format!("push blob {} to {}", descriptor.digest, self.repository);
        // Repeated as a whole: an upload that failed half way may be gone, so its PUT alone cannot be repeated.
        let mut patience = self.http.patience();
        loop {
            match self.push_blob_once(&what, &descriptor, &bytes).await {
                Ok(()) => return Ok(descriptor),
                Err(error) => patience.wait(&what, error).await?,
            }
        }
    }

    /// Puts a manifest at a tag or at its digest.
    pub async fn put_manifest(&self, at: At<'_>, manifest: &Manifest) -> Result<(), RegistryError> {
        let ask = self.ask_put(&at, manifest)?;
        self.taken(&ask, manifest, &self.http.ask(&ask, ANSWER_LIMIT).await?)
    }

    /// The same with one request, whatever happens to it: a second one that comes late could hide what somebody else
    /// has pushed to the tag since.
    pub async fn put_manifest_once(&self, at: At<'_>, manifest: &Manifest) -> Result<(), RegistryError> {
        let ask = self.ask_put(&at, manifest)?;
        self.taken(&ask, manifest, &self.http.ask_once(&ask, ANSWER_LIMIT).await?)
    }

    /// Every tag of the repository, all pages. A repository that is unknown has none. Sorted, no duplicates.
    pub async fn tags(&self) -> Result<Vec<String>, RegistryError> {
        let url = self.http.url(&["tags", "list"]);
        self.list(Listed::Tags, format!("list the tags of {}", self.repository), url).await
    }

    /// Every repository that the registry shows to these credentials, all pages. Sorted, no duplicates.
    ///
    /// Fact: docs/facts.md, `catalog`. It is no part of the specification: some registries do not answer it.
    ///
    /// # Errors
    ///
    /// The registry does not tell, or cannot be reached.
    pub async fn repositories(&self) -> Result<Vec<String>, RegistryError> {
        let mut url = self.http.url(&[]);
        url.set_path("/v2/_catalog");
        self.list(Listed::Repositories, format!("list the repositories of {}", self.repository.registry()), url).await
    }

    /// All pages of a list.
    async fn list(&self, listed: Listed, what: String, mut url: Url) -> Result<Vec<String>, RegistryError> {
        url.query_pairs_mut().append_pair("n", TAGS_PER_PAGE);
        let (mut names, mut seen) = (BTreeSet::new(), HashSet::new());
        loop {
            seen.insert(url.clone());
            let ask = Ask::new(what.clone(), Method::GET, url.clone(), Access::Read);
            let answer = self.http.ask(&ask, PAGE_LIMIT).await?;
            match answer.status {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND if listed == Listed::Tags && seen.len() == 1 && is_unknown(&answer) => {
                    return Ok(Vec::new());
                }
                _ => return Err(self.http.refused(&ask, &answer)),
            }
            names.extend(listed.names(&ask, &answer.bytes)?);
            let next = links::next(&url, &answer.headers).map_err(|(link, why)| RegistryError::BadPage {
                what: what.clone(),
                link,
                why,
            })?;
            let Some(next) = next else { return Ok(names.into_iter().collect()) };
            let refuse = |why| RegistryError::BadPage { what: what.clone(), link: answer::shown(&next), why };
            if seen.contains(&next) {
                return Err(refuse("it was read before, so the list has no end"));
            }
            if seen.len() >= PAGES {
                return Err(refuse("there were 10,000 pages before it"));
            }
            url = next;
        }
    }

    /// Deletes a manifest by its digest, and with it every tag that points to it. Never repeated blindly.
    pub async fn delete(&self, digest: &Digest) -> Result<Deleted, RegistryError> {
        match self.delete_by_api(digest).await? {
            Some(deleted) => Ok(deleted),
            None => self.delete_at(At::Digest(digest), &["UNSUPPORTED"]).await,
        }
    }

    /// Deletes by tag. What that does differs between registries: prove it on tags that nobody needs.
    pub async fn delete_tag(&self, tag: &Tag) -> Result<Deleted, RegistryError> {
        // distribution 2.8 wants a digest and says that the tag is none.
        self.delete_at(At::Tag(tag), &["UNSUPPORTED", "DIGEST_INVALID"]).await
    }

    async fn delete_at(&self, at: At<'_>, not_this_way: &[&str]) -> Result<Deleted, RegistryError> {
        let url = self.http.url(&["manifests", &at.to_string()]);
        let ask = Ask::new(format!("delete {}", self.named(&at)), Method::DELETE, url, Access::Delete);
        let answer = self.http.ask(&ask, ANSWER_LIMIT).await?;
        match answer.status {
            status if status.is_success() => Ok(Deleted::Gone),
            StatusCode::NOT_FOUND if is_unknown(&answer) => Ok(Deleted::WasNotThere),
            StatusCode::METHOD_NOT_ALLOWED => Ok(Deleted::NotAllowed),
            StatusCode::BAD_REQUEST
                if answer::code(&answer.bytes).is_some_and(|code| not_this_way.contains(&code.as_str())) =>
            {
                Ok(Deleted::NotAllowed)
            }
            _ => Err(self.http.refused(&ask, &answer)),
        }
    }

    async fn push_blob_once(&self, what: &str, descriptor: &Descriptor, bytes: &Bytes) -> Result<(), RegistryError> {
        if self.has_blob(what, &descriptor.digest).await? {
            return Ok(());
        }
        let mut upload = self.begin_upload(what).await?;
        // The address has a query of the registry's own, which must stay.
        upload.query_pairs_mut().append_pair("digest", &descriptor.digest.to_string());
        let put = Ask::new(what, Method::PUT, upload, Access::Write)
            .with_header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
            .with_body(bytes.clone());
        let answer = self.http.ask_once(&put, ANSWER_LIMIT).await?;
        if answer.status.is_success() { Ok(()) } else { Err(self.http.refused(&put, &answer)) }
    }

    fn ask_put(&self, at: &At<'_>, manifest: &Manifest) -> Result<Ask, RegistryError> {
        let what = format!("push {}", self.named(at));
        let url = self.http.url(&["manifests", &at.to_string()]);
        let kind = HeaderValue::from_str(&manifest.media_type).map_err(|_| RegistryError::NotAnImage {
            what: self.named(at),
            media_type: format!("{:?}", manifest.media_type),
        })?;
        Ok(Ask::new(what, Method::PUT, url, Access::Write)
            .with_header(CONTENT_TYPE, kind)
            .with_body(manifest.bytes.clone()))
    }

    /// Whether a registry has taken what was put.
    fn taken(&self, ask: &Ask, manifest: &Manifest, answer: &Whole) -> Result<(), RegistryError> {
        if !answer.status.is_success() {
            return Err(self.http.refused(ask, answer));
        }
        match told_digest(&answer.headers) {
            Some(actual) => verify(ask.what.clone(), manifest.digest, actual),
            None => Ok(()),
        }
    }

    /// The mirror, while it answers.
    fn mirror(&self) -> Option<&Arc<Mirror>> {
        self.mirror.as_ref().filter(|mirror| !mirror.is_lost.load(Ordering::Relaxed))
    }

    fn deadline(&self) -> Deadline {
        let limit = self.download_timeout;
        let end = *self.download_end.get_or_init(|| {
            let now = Instant::now();
            // What is beyond every calendar is no limit.
            now.checked_add(limit.duration()).unwrap_or_else(|| now + Span::hours(24 * 365).duration())
        });
        Deadline { end, limit }
    }

    fn ask_manifest(&self, http: &Http, method: Method, at: &At<'_>) -> Ask {
        let url = http.url(&["manifests", &at.to_string()]);
        Ask::new(format!("read {}", self.named(at)), method, url, Access::Read)
            .with_header(ACCEPT, HeaderValue::from_static(model::ACCEPTED))
    }

    fn ask_blob(&self, http: &Http, descriptor: &Descriptor) -> Ask {
        let url = http.url(&["blobs", &descriptor.digest.to_string()]);
        Ask::new(format!("read blob {} of {}", descriptor.digest, self.repository), Method::GET, url, Access::Read)
    }

    /// The reference of a manifest, for eyes.
    fn named(&self, at: &At<'_>) -> String {
        match at {
            At::Tag(tag) => format!("{}:{tag}", self.repository),
            At::Digest(digest) => format!("{}@{digest}", self.repository),
        }
    }

    /// A manifest that an index names.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Incomplete`] when it is not there.
    pub async fn child(&self, digest: &Digest) -> Result<Manifest, RegistryError> {
        let at = At::Digest(digest);
        self.manifest(at).await?.ok_or_else(|| RegistryError::Incomplete { what: self.named(&at) })
    }

    fn unreadable(&self, digest: &Digest, unreadable: Unreadable) -> RegistryError {
        let what = self.named(&At::Digest(digest));
        match unreadable {
            Unreadable::Other(media_type) => RegistryError::NotAnImage { what, media_type },
            Unreadable::Json(source) => RegistryError::BadManifest { what, source },
        }
    }
}

impl At<'_> {
    fn digest(&self) -> Option<Digest> {
        match self {
            Self::Tag(_) => None,
            Self::Digest(digest) => Some(**digest),
        }
    }
}

/// Whether a 404 is a registry's own, about what was asked for, and not that of a proxy or of a wrong address.
///
/// Harbor says NOT_FOUND where the specification says MANIFEST_UNKNOWN or NAME_UNKNOWN.
fn is_unknown(answer: &Whole) -> bool {
    answer::code(&answer.bytes)
        .is_some_and(|code| matches!(code.as_str(), "MANIFEST_UNKNOWN" | "NAME_UNKNOWN" | "NOT_FOUND"))
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// The digest that the registry tells; a digest of another algorithm is passed over.
fn told_digest(headers: &HeaderMap) -> Option<Digest> {
    text(headers, &CONTENT_DIGEST)?.parse().ok()
}

/// What the head of an answer says of a manifest, if it says all.
fn described(headers: &HeaderMap) -> Option<Descriptor> {
    Some(Descriptor {
        media_type: model::media_type(text(headers, &CONTENT_TYPE), &[]),
        digest: told_digest(headers)?,
        size: text(headers, &CONTENT_LENGTH)?.parse().ok()?,
        platform: None,
        annotations: Default::default(),
    })
}

/// What a list has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listed {
    Tags,
    Repositories,
}

impl Listed {
    /// The names of one page.
    fn names(self, ask: &Ask, bytes: &[u8]) -> Result<Vec<String>, RegistryError> {
        #[derive(Deserialize)]
        struct Page {
            /// `null` when the last tag was deleted.
            tags: Option<Vec<String>>,
            repositories: Option<Vec<String>>,
        }
        let what = match self {
            Self::Tags => "tags",
            Self::Repositories => "repositories",
        };
        let page: Page = serde_json::from_slice(bytes).map_err(|error| RegistryError::BadAnswer {
            what: ask.what.clone(),
            url: answer::shown(&ask.url),
            why: format!("is not a list of {what}: {error}"),
        })?;
        let names = match self {
            Self::Tags => page.tags,
            Self::Repositories => page.repositories,
        };
        Ok(names.unwrap_or_default())
    }
}
