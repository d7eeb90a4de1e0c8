//! One request and its answer: connecting, identifying, redirects, retries, limits.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode};
use rustls::pki_types::CertificateDer;
use url::Url;

use crate::names::Repository;
use crate::request::{ClientCert, Credentials, RegistryTransport};
use crate::say::Say;

use super::answer::{Answer, RootCause, Server, Silence, answer, retry_after, shown};
use super::auth::{self, Auth};
use super::error::{Given, Passing, RegistryError};
use super::tls;

/// How often one request is sent at most.
const TRIES: u32 = 4;
/// The pause before the first retry; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause that a registry may ask for. It is longer than the minute in which limits are usually counted.
const LONGEST_PAUSE: Duration = Duration::from_secs(90);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long nothing may come while we read.
const READ_STALL: Duration = Duration::from_secs(60);
/// How long nothing may come while a registry does what changes it. To give up early would be harmful: a registry
/// looks at all its tags for one DELETE, and some stop half way when the client is gone.
///
/// Fact: docs/facts.md, `slow-delete`.
const WRITE_STALL: Duration = Duration::from_secs(300);
/// The most bytes of a refusal that are read.
const REFUSAL_LIMIT: usize = 64 << 10;
/// How many redirects of one read are followed.
const REDIRECTS: u32 = 5;

/// What a request needs the right for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// To read.
    Read,
    /// To read and to write.
    Write,
    /// To delete.
    Delete,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
        })
    }
}

/// One request.
pub(super) struct Ask {
    /// What it is for, in the words of the user: `read registry.example/acme/app:v1`.
    pub(super) what: String,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) access: Access,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Payload>,
}

/// What a request sends.
#[derive(Clone)]
pub(super) enum Payload {
    /// These bytes.
    Whole(Bytes),
    /// Bytes that are read while they are sent, anew for each try; and how many have been read so far.
    Stream(Arc<Streams>),
}

/// Makes a body, and what tells how far it has come.
pub(super) type Streams = dyn Fn() -> (reqwest::Body, Arc<dyn Fn() -> u64 + Send + Sync>) + Send + Sync;

impl Ask {
    pub(super) fn new(what: impl Into<String>, method: Method, url: Url, access: Access) -> Self {
        Self { what: what.into(), method, url, access, headers: HeaderMap::new(), body: None }
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    pub(super) fn with_body(mut self, body: Bytes) -> Self {
        self.body = Some(Payload::Whole(body));
        self
    }

    pub(super) fn with_stream(mut self, stream: Arc<Streams>) -> Self {
        self.body = Some(Payload::Stream(stream));
        self
    }

    /// Whether it has credentials of its own, which go to this address and to no other one.
    fn brings_credentials(&self) -> bool {
        self.headers.values().any(HeaderValue::is_sensitive)
    }

    fn only_reads(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }
}

/// A whole answer with a status that is not passing.
pub(super) struct Whole {
    /// Who answered in the end: after redirects it is not who was asked.
    pub(super) url: Url,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) bytes: Bytes,
}

/// The connections to one registry.
pub(super) struct Http {
    plain: OnceLock<reqwest::Client>,
    /// For the registry's own host. Made when it is first needed: it reads the certificates of the system, which takes longer than a request.
    tls: OnceLock<reqwest::Client>,
    /// For other hosts, to which we were sent: they do not see our certificate.
    tls_elsewhere: OnceLock<reqwest::Client>,
    identity: Option<tls::Identity>,
    asked: tls::Asked,
    /// Whether any server has answered yet.
    heard: AtomicBool,
    authorities: Vec<CertificateDer<'static>>,
    base: Url,
    repository: String,
    auth: Auth,
    say: Say,
    tries: u32,
    first_pause: Duration,
    read_stall: Duration,
}

/// Where a repository is read and written.
pub(super) struct Place<'a> {
    /// Host and port.
    pub(super) host: &'a str,
    pub(super) transport: RegistryTransport,
    pub(super) credentials: Option<&'a Credentials>,
    pub(super) ca_certs: &'a [String],
    pub(super) client_cert: Option<&'a ClientCert>,
}

impl Http {
    pub(super) fn new(repository: &Repository, place: &Place<'_>, say: &Say) -> Result<Self, RegistryError> {
        let Place { host, transport, credentials, ca_certs, client_cert } = *place;
        let scheme = match transport {
            RegistryTransport::Https => "https",
            RegistryTransport::Http => "http",
        };
        let base = Url::parse(&format!("{scheme}://{host}/v2/{}/", repository.name()))
            .map_err(|error| RegistryError::BadHost { registry: host.to_owned(), source: error })?;
        Ok(Self {
            plain: OnceLock::new(),
            tls: OnceLock::new(),
            tls_elsewhere: OnceLock::new(),
            identity: client_cert.map(tls::identity).transpose()?,
            asked: tls::Asked::default(),
            heard: AtomicBool::new(false),
            authorities: tls::authorities(ca_certs)?,
            base,
            repository: repository.to_string(),
            auth: Auth::new(repository.name(), credentials.cloned()),
            say: say.clone(),
            tries: TRIES,
            first_pause: FIRST_PAUSE,
            read_stall: READ_STALL,
        })
    }

    /// Each request is sent once, whatever happens to it.
    pub(super) fn at_first_try(mut self) -> Self {
        self.try_once();
        self
    }

    pub(super) fn try_once(&mut self) {
        self.tries = 1;
    }

    #[cfg(test)]
    pub(super) fn without_patience(&mut self) {
        self.first_pause = Duration::from_millis(1);
    }

    #[cfg(test)]
    pub(super) fn stalled_after(&mut self, time: Duration) {
        self.read_stall = time;
    }

    /// How long nothing may come.
    fn stall(&self, ask: &Ask) -> Duration {
        if ask.only_reads() { self.read_stall } else { WRITE_STALL }
    }

    /// An address below the repository. `parts` are digests, tags and words of the protocol: nothing that needs escaping.
    pub(super) fn url(&self, parts: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        url
    }

    /// Sends a request, again while it fails for a reason that passes, and reads the answer.
    pub(super) async fn ask(&self, ask: &Ask, limit: u64) -> Result<Whole, RegistryError> {
        if ask.method == Method::DELETE {
            // Never again: the first one may have worked, and what is there now may be somebody's new push.
            return self.ask_once(ask, limit).await;
        }
        let mut patience = self.patience();
        loop {
            match self.ask_once(ask, limit).await {
                Ok(whole) => return Ok(whole),
                Err(error) => patience.wait(&ask.what, error).await?,
            }
        }
    }

    /// Sends a request once and reads the answer.
    pub(super) async fn ask_once(&self, ask: &Ask, limit: u64) -> Result<Whole, RegistryError> {
        let response = self.response(ask).await?;
        if !response.status().is_success() {
            return Ok(self.refusal(response).await);
        }
        let (url, status, headers) = (response.url().clone(), response.status(), response.headers().clone());
        let bytes = match ask.method {
            Method::HEAD => Bytes::new(),
            _ => self.body(ask, response, limit).await?,
        };
        Ok(Whole { url, status, headers, bytes })
    }

    /// The head of the answer to a request without credentials, whatever its status.
    pub(super) async fn head_of(&self, ask: &Ask) -> Result<HeaderMap, RegistryError> {
        let mut patience = self.patience();
        loop {
            match self.transmit(ask, None).await {
                Ok(response) => return Ok(response.headers().clone()),
                Err(error) => patience.wait(&ask.what, error).await?,
            }
        }
    }

    /// An address of the registry's host that is not below the repository.
    pub(super) fn root(&self, path: &str) -> Url {
        let mut root = self.base.clone();
        root.set_path(path);
        root
    }

    /// Whether the registry is reached by https.
    pub(super) fn is_https(&self) -> bool {
        self.base.scheme() == "https"
    }

    /// Who asks the registry.
    pub(super) fn identity(&self) -> &Auth {
        &self.auth
    }

    /// The pause before a first retry.
    pub(super) fn first_pause(&self) -> Duration {
        self.first_pause
    }

    /// The patience for one thing that is wanted.
    pub(super) fn patience(&self) -> Patience {
        Patience {
            say: self.say.clone(),
            tries: self.tries,
            tried: 1,
            first_pause: self.first_pause,
            pause: self.first_pause,
        }
    }

    /// The answer to one request, after identification and redirects. A status that passes is an error.
    pub(super) async fn response(&self, ask: &Ask) -> Result<Response, RegistryError> {
        let response = self.authorized(ask).await?;
        let is_followed = ask.only_reads() && !ask.brings_credentials();
        let response = if is_followed { self.redirected(ask, response).await? } else { response };
        let passing = matches!(response.status().as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504);
        if !passing {
            return Ok(response);
        }
        let (answer, retry_after) = self.answer(ask, Server::Registry, response).await;
        let what = ask.what.clone();
        Err(match answer.status {
            429 => RegistryError::TooManyRequests { what, retry_after, answer },
            _ => RegistryError::Server { what, retry_after, answer },
        })
    }

    /// Sends a request with our credentials, if it goes to the registry itself; a token that is refused is renewed once.
    async fn authorized(&self, ask: &Ask) -> Result<Response, RegistryError> {
        if !self.is_ours(&ask.url) || ask.brings_credentials() {
            return self.transmit(ask, None).await;
        }
        let header = self.auth.header(self, ask).await?;
        let mut response = self.transmit(ask, header.as_ref()).await?;
        if response.status() == StatusCode::FORBIDDEN && header.as_ref().is_some_and(auth::is_basic) {
            // A registry that wants a token may deny basic credentials, which we sent unasked, in place of asking for
            // what it wants: ghcr.io does (argocd-image-updater, issue 303). Without any it asks.
            let bare = self.transmit(ask, None).await?;
            if !auth::wants_token(&bare) {
                return Ok(if bare.status().is_success() { bare } else { response });
            }
            response = bare;
        }
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        match self.auth.after_refusal(self, ask, response.headers(), header.as_ref()).await? {
            Some(better) => self.transmit(ask, Some(&better)).await,
            None => Ok(response),
        }
    }

    /// Follows the redirects of a read.
    async fn redirected(&self, ask: &Ask, mut response: Response) -> Result<Response, RegistryError> {
        let mut at = ask.url.clone();
        for _ in 0..REDIRECTS {
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let refuse = |why| RegistryError::BadRedirect { what: ask.what.clone(), url: shown(&at), why };
            let target = location(&at, response.headers()).ok_or_else(|| refuse("it does not say where to"))?;
            match (at.scheme(), target.scheme()) {
                (_, "https") | ("http", "http") => {}
                (_, "http") => return Err(refuse("it leads from https to plain http")),
                _ => return Err(refuse("it leads neither to https nor to http")),
            }
            if at.scheme() != target.scheme() && at.host() == target.host() && self.is_ours(&at) {
                return Err(RegistryError::SpeaksHttps { what: ask.what.clone(), host: authority(&at) });
            }
            let next = Ask {
                what: ask.what.clone(),
                method: ask.method.clone(),
                url: target.clone(),
                access: ask.access,
                headers: ask.headers.clone(),
                body: None,
            };
            response = self.authorized(&next).await?;
            at = target;
        }
        Err(RegistryError::BadRedirect { what: ask.what.clone(), url: shown(&ask.url), why: "it leads on and on" })
    }

    /// Whether an address is the registry's own, so that it may have our credentials.
    fn is_ours(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Sends one request with these credentials, and waits for the head of the answer.
    pub(super) async fn transmit(
        &self,
        ask: &Ask,
        credentials: Option<&HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let mut request = self.client(ask)?.request(ask.method.clone(), ask.url.clone()).headers(ask.headers.clone());
        if let Some(value) = credentials {
            request = request.header(AUTHORIZATION, value);
        }
        let mut sent: Arc<dyn Fn() -> u64 + Send + Sync> = Arc::new(|| 0);
        match &ask.body {
            None => {}
            Some(Payload::Whole(bytes)) => request = request.body(bytes.clone()),
            Some(Payload::Stream(open)) => {
                let (body, progress) = open();
                request = request.body(body);
                sent = progress;
            }
        }
        let mut answer = std::pin::pin!(request.send());
        let mut before = sent();
        loop {
            match tokio::time::timeout(self.stall(ask), &mut answer).await {
                Ok(Ok(response)) => {
                    self.heard.store(true, Ordering::Relaxed);
                    return Ok(response);
                }
                Ok(Err(error)) => return Err(self.silence(ask, error)),
                // A large body takes its time; only one that does not move is stalled.
                Err(_) if before < sent() => before = sent(),
                Err(_) => return Err(self.stalled(ask)),
            }
        }
    }

    /// The error for a request that got no answer.
    fn silence(&self, ask: &Ask, error: reqwest::Error) -> RegistryError {
        match silence(ask, error) {
            // The server says why after the handshake and closes while the request is on its way: the kernel may drop what
            // it said with the rest.
            RegistryError::Interrupted { what, source } | RegistryError::Unreachable { what, source }
                if self.asked.is_set() && !self.heard.load(Ordering::Relaxed) =>
            {
                RegistryError::WantsClientCert { what, host: authority(&ask.url), source }
            }
            error => error,
        }
    }

    fn client(&self, ask: &Ask) -> Result<&reqwest::Client, RegistryError> {
        let over_tls = ask.url.scheme() == "https";
        // By host alone: the token server of a registry often has a port of its own.
        let identity = self.identity.as_ref().filter(|_| ask.url.host() == self.base.host());
        let slot = match (over_tls, identity) {
            (true, Some(_)) => &self.tls,
            (true, None) => &self.tls_elsewhere,
            (false, _) => &self.plain,
        };
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        let builder = reqwest::Client::builder()
            .user_agent(concat!("git-image/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_LIMIT);
        let builder = if over_tls {
            let settings = tls::settings(&self.authorities, identity, &self.asked)
                .map_err(|source| RegistryError::NoTrust { what: ask.what.clone(), source })?;
            builder.tls_backend_preconfigured(settings)
        } else {
            builder.tls_certs_only([])
        };
        let client = builder
            .build()
            .map_err(|error| RegistryError::NoClient { what: ask.what.clone(), source: RootCause::new(error) })?;
        Ok(slot.get_or_init(|| client))
    }

    /// The body of an answer, up to a limit.
    pub(super) async fn body(&self, ask: &Ask, mut response: Response, limit: u64) -> Result<Bytes, RegistryError> {
        let too_large = || RegistryError::TooLarge { what: ask.what.clone(), limit };
        if response.content_length().is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let mut bytes = BytesMut::new();
        while let Some(chunk) = self.chunk(ask, &mut response).await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > limit {
                return Err(too_large());
            }
        }
        Ok(bytes.freeze())
    }

    /// The next part of a body; `None` at its end.
    pub(super) async fn chunk(&self, ask: &Ask, response: &mut Response) -> Result<Option<Bytes>, RegistryError> {
        match tokio::time::timeout(self.read_stall, response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => {
                Err(RegistryError::Interrupted { what: ask.what.clone(), source: silent(ask, RootCause::new(error)) })
            }
            Err(_) => Err(self.stalled(ask)),
        }
    }

    fn stalled(&self, ask: &Ask) -> RegistryError {
        RegistryError::Stalled {
            what: ask.what.clone(),
            method: ask.method.clone(),
            url: shown(&ask.url),
            waited: self.stall(ask),
        }
    }

    /// A refusal with the beginning of its body. A body that breaks off is no reason to lose the refusal.
    async fn refusal(&self, mut response: Response) -> Whole {
        let (url, status, headers) = (response.url().clone(), response.status(), response.headers().clone());
        let mut bytes = BytesMut::new();
        while bytes.len() < REFUSAL_LIMIT {
            match tokio::time::timeout(self.read_stall, response.chunk()).await {
                Ok(Ok(Some(chunk))) => bytes.extend_from_slice(&chunk),
                Ok(Ok(None) | Err(_)) | Err(_) => break,
            }
        }
        Whole { url, status, headers, bytes: bytes.freeze() }
    }

    /// What a server said instead of what was asked for, and how long it wants us to wait.
    pub(super) async fn answer(
        &self,
        ask: &Ask,
        server: Server,
        response: Response,
    ) -> (Box<Answer>, Option<Duration>) {
        let whole = self.refusal(response).await;
        (answer(ask, server, &whole), retry_after(&whole.headers))
    }

    /// The error for an answer that is not the one that was asked for, and is not read yet.
    pub(super) async fn refused_with(&self, ask: &Ask, response: Response) -> RegistryError {
        let whole = self.refusal(response).await;
        self.refused(ask, &whole)
    }

    /// The error for an answer that is not the one that was asked for.
    pub(super) fn refused(&self, ask: &Ask, whole: &Whole) -> RegistryError {
        let answer = answer(ask, Server::Registry, whole);
        let (what, credentials) = (ask.what.clone(), self.auth.given());
        let denied = |what, answer| RegistryError::Denied {
            what,
            access: ask.access,
            repository: self.repository.clone(),
            credentials,
            answer,
        };
        match answer.status {
            401 if auth::lacks_scope(&whole.headers) && credentials == Given::Yes => denied(what, answer),
            401 => RegistryError::Unauthorized { what, credentials, answer },
            // A server of blobs to which we were sent knows nothing of our account.
            403 if self.is_ours(&whole.url) || ask.brings_credentials() => denied(what, answer),
            400 if wants_tls(ask, &answer, &whole.bytes) => {
                RegistryError::SpeaksHttps { what, host: authority(&ask.url) }
            }
            _ => RegistryError::Unexpected { what, answer },
        }
    }
}

/// How often and how long we wait for one thing.
pub(super) struct Patience {
    say: Say,
    tries: u32,
    tried: u32,
    first_pause: Duration,
    pause: Duration,
}

impl Patience {
    /// As it was at the beginning: for what goes on after it made some way.
    pub(super) fn renew(&mut self) {
        (self.tried, self.pause) = (1, self.first_pause);
    }

    /// Waits after an error that passes, and says so. Any other error, or one too many, is given back.
    pub(super) async fn wait(&mut self, what: &str, error: RegistryError) -> Result<(), RegistryError> {
        self.wait_and(what, error, "trying again").await
    }

    /// The same for what does something else `then`.
    pub(super) async fn wait_and(&mut self, what: &str, error: RegistryError, then: &str) -> Result<(), RegistryError> {
        let wait = match error.passing() {
            Passing::Soon => self.pause,
            Passing::After(wait) if wait <= LONGEST_PAUSE => wait.max(self.pause),
            Passing::After(_) | Passing::Not => return Err(error),
        };
        if self.tried >= self.tries {
            return Err(error);
        }
        let why = error.why();
        // An error without a cause says itself what was wanted.
        let why = why.strip_prefix(&format!("cannot {what}: ")).unwrap_or(&why);
        self.tried += 1;
        self.pause *= 2;
        self.say.line(format_args!(
            "cannot {what} yet: {why}; {then} in {:.1} s ({} of {})",
            wait.as_secs_f64(),
            self.tried,
            self.tries,
        ));
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// Where `Location` leads from an address.
pub(super) fn location(from: &Url, headers: &HeaderMap) -> Option<Url> {
    from.join(headers.get(LOCATION)?.to_str().ok()?).ok()
}

/// Host and port, as a user writes them.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn silent(ask: &Ask, source: RootCause) -> Silence {
    Silence { method: ask.method.clone(), url: shown(&ask.url), source }
}

/// The error for a request that got no answer, by what is told of its end.
fn silence(ask: &Ask, error: reqwest::Error) -> RegistryError {
    use rustls::{CertificateError, Error as Tls};
    let (what, connecting) = (ask.what.clone(), error.is_connect());
    let cause = RootCause::new(error);
    let not_http = cause.find::<hyper::Error>().is_some_and(hyper::Error::is_parse);
    if wants_client_cert(&cause) {
        return RegistryError::WantsClientCert { what, host: authority(&ask.url), source: silent(ask, cause) };
    }
    match cause.find::<Tls>() {
        Some(Tls::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            RegistryError::TlsUntrusted { what, source: silent(ask, cause) }
        }
        Some(Tls::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
            RegistryError::SpeaksHttp { what, host: authority(&ask.url) }
        }
        Some(_) => RegistryError::TlsRefused { what, source: silent(ask, cause) },
        // A TLS server answers a plain request with an alert, which is no HTTP.
        None if not_http && ask.url.scheme() == "http" => {
            RegistryError::SpeaksHttps { what, host: authority(&ask.url) }
        }
        None if connecting => RegistryError::Unreachable { what, source: silent(ask, cause) },
        None => RegistryError::Interrupted { what, source: silent(ask, cause) },
    }
}

/// Whether a server ends a connection because of the certificate that we did, or did not, show.
///
/// It says so after the handshake, when HTTP/2 is already spoken; and the library for that keeps only the text of what
/// ends a connection.
fn wants_client_cert(cause: &RootCause) -> bool {
    use rustls::AlertDescription::{BadCertificate, CertificateRequired, CertificateUnknown, UnknownCA};
    let text = cause.to_string();
    [BadCertificate, CertificateRequired, CertificateUnknown, UnknownCA]
        .into_iter()
        .any(|alert| text == rustls::Error::AlertReceived(alert).to_string())
}

/// Whether a server says in plain http that it wants https. There is no code for it: Go's and nginx's servers say it
/// in words.
fn wants_tls(ask: &Ask, answer: &Answer, bytes: &[u8]) -> bool {
    ask.url.scheme() == "http"
        && answer.code.is_none()
        && String::from_utf8_lossy(bytes).to_ascii_uppercase().contains("HTTPS")
}
