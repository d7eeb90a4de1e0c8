//! What is asked of a server over our own HTTP client: one request each, and no child that speaks to it.
//!
//! This is the short way for the common case, and it gives up easily: on any answer but the one that was hoped for, the
//! git program asks again in its own way, and it is its words that a person reads. So nothing here is an error.
//!
//! Redirects are not followed and proxies not used, so credentials go to the host of `source.git.uri` and to no other.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use url::Url;

use super::fetch_pack::{self, Fetched};
use super::login::BUNDLES;
use super::ls_refs;
use super::remote::{Listed, Tip};
use crate::clients::process::Environment;
use crate::names::{Branch, GitScheme};
use crate::request::{Credentials, GitSource, Verify};

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long nothing may come. git itself waits longer, and it is asked next.
const STALL: Duration = Duration::from_secs(10);
/// The same, where the server has objects to look for and to pack.
const PACK_STALL: Duration = Duration::from_secs(30);
/// The most bytes of an answer, which is kept in memory. git, which keeps none, is asked for what is larger.
const ANSWER_BYTES: usize = 32 << 20;

const REQUEST_TYPE: &str = "application/x-git-upload-pack-request";
const ANSWER_TYPE: &str = "application/x-git-upload-pack-result";

/// Some servers and firewalls know smart HTTP by its user agent.
const USER_AGENT: &str = concat!("git/2.0 (git-image ", env!("CARGO_PKG_VERSION"), ")");

/// Sections of `source.git.git_config` that change neither how git speaks HTTP nor how it looks at what comes.
const HARMLESS_SECTIONS: [&str; 7] = ["advice", "author", "color", "committer", "gc", "index", "user"];

/// A server that is asked without the git program, as long as nothing is odd.
pub struct Server(Option<SmartHttp>);

/// How it is asked.
struct SmartHttp {
    url: Url,
    authorization: Option<HeaderValue>,
    trust: Trust,
    /// Made when it is first needed: it may read the certificates of the system.
    client: OnceLock<Option<Client>>,
    /// Whether something odd was answered: it would be again.
    is_odd: AtomicBool,
}

/// Which servers are trusted.
enum Trust {
    /// Any: there is no TLS, or nothing of it is verified.
    Anybody,
    /// Those that authorities of the system vouch for, or these (PEM).
    Authorities(Vec<String>),
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.0.as_ref().map(|http| http.url.as_str())).finish()
    }
}

impl Server {
    /// The server of a source. Nothing is asked yet.
    pub fn of(source: &GitSource, environment: &Environment) -> Self {
        Self(SmartHttp::of(source, environment))
    }

    /// The tip of a branch, or with `None` of the default branch. `None`: git must be asked, also for what to say when
    /// there is no such branch.
    pub async fn tip(&self, branch: Option<&Branch>) -> Option<Tip> {
        let Some(branch) = branch else { return self.tip_and_default_branch(None).await };
        self.list(&[branch.full_ref().as_str()]).await?.tip(branch)
    }

    /// The same, and the default branch with it.
    pub(super) async fn tip_and_default_branch(&self, branch: Option<&Branch>) -> Option<Tip> {
        let full = branch.map(Branch::full_ref);
        let prefixes: Vec<&str> = std::iter::once("HEAD").chain(full.as_deref()).collect();
        let listed = self.list(&prefixes).await?;
        // Not every server that knows the command tells it: git has other ways to find out.
        let default_branch = listed.head.clone()?;
        listed.tip(branch.unwrap_or(&default_branch))
    }

    /// The refs whose names begin with one of these texts. `None`: git must be asked.
    async fn list(&self, prefixes: &[&str]) -> Option<Listed> {
        self.0.as_ref()?.ask(ls_refs::request(prefixes)?, STALL, ls_refs::read).await
    }

    /// Objects as a pack. `None`: git must be asked.
    pub(super) async fn fetch(&self, asked: &fetch_pack::Asked<'_>) -> Option<Fetched> {
        self.0.as_ref()?.ask(fetch_pack::request(asked)?, PACK_STALL, fetch_pack::read).await
    }
}

impl SmartHttp {
    /// `None`: the source or the environment asks for what git alone can do.
    fn of(source: &GitSource, environment: &Environment) -> Option<Self> {
        let is_harmless = |name: &str| {
            name.split_once('.').is_some_and(|(section, _)| {
                HARMLESS_SECTIONS.iter().any(|harmless| harmless.eq_ignore_ascii_case(section))
            })
        };
        let is_plain = source.https_tunnel.is_none()
            && source.git_config.iter().all(|setting| is_harmless(&setting.name))
            && environment.proxies().iter().all(|(_, value)| value.is_empty());
        let trust = match (source.uri.scheme(), source.verify) {
            (GitScheme::Http, _) | (GitScheme::Https, Verify::Nothing) => Trust::Anybody,
            (GitScheme::Https, Verify::Certificates) => Trust::Authorities(source.ca_certs.clone()),
            (GitScheme::Ssh, _) => return None,
        };
        let repository = source.uri.as_str();
        // What git makes of an address with a query is nothing to imitate.
        if !is_plain || repository.contains('?') {
            return None;
        }
        let url = Url::parse(&format!("{}/git-upload-pack", repository.trim_end_matches('/'))).ok()?;
        let authorization = source.credentials.as_ref().map(basic);
        Some(Self { url, authorization, trust, client: OnceLock::new(), is_odd: AtomicBool::new(false) })
    }

    /// Sends a command and reads the answer.
    async fn ask<T>(&self, command: Vec<u8>, stall: Duration, read: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        if self.is_odd.load(Ordering::Relaxed) {
            return None;
        }
        let answer = self.answer(command, stall).await.and_then(|answer| read(&answer));
        self.is_odd.store(answer.is_none(), Ordering::Relaxed);
        answer
    }

    /// The answer to a command of protocol version 2, when it is one.
    async fn answer(&self, command: Vec<u8>, stall: Duration) -> Option<Vec<u8>> {
        let request = self.client()?.post(self.url.clone()).headers(self.headers()).body(command);
        let mut response = tokio::time::timeout(stall, request.send()).await.ok()?.ok()?;
        let is_answer = response.status() == StatusCode::OK
            && response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == ANSWER_TYPE)
            && !response.headers().contains_key(CONTENT_ENCODING);
        if !is_answer {
            return None;
        }
        let mut answer = Vec::new();
        while let Some(chunk) = tokio::time::timeout(stall, response.chunk()).await.ok()?.ok()? {
            answer.extend_from_slice(&chunk);
            if ANSWER_BYTES < answer.len() {
                return None;
            }
        }
        Some(answer)
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(REQUEST_TYPE));
        headers.insert(ACCEPT, HeaderValue::from_static(ANSWER_TYPE));
        headers.insert(HeaderName::from_static("git-protocol"), HeaderValue::from_static("version=2"));
        headers.extend(self.authorization.iter().map(|value| (AUTHORIZATION, value.clone())));
        headers
    }

    fn client(&self) -> Option<&Client> {
        self.client.get_or_init(|| self.make_client()).as_ref()
    }

    /// Reads the certificates of the system only where they are needed: that takes longer than a request.
    fn make_client(&self) -> Option<Client> {
        // Fails only when a provider was installed before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = Client::builder()
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .connect_timeout(CONNECT_LIMIT);
        let builder = match &self.trust {
            Trust::Anybody => builder.tls_certs_only([]).tls_danger_accept_invalid_certs(true),
            Trust::Authorities(given) => builder.tls_backend_preconfigured(verifying(given)?),
        };
        builder.build().ok()
    }
}

/// The settings of TLS for a server that the system's authorities, or those given, vouch for. `None`: a text has no
/// certificate, or the system none at all.
fn verifying(given: &[String]) -> Option<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let system = BUNDLES.iter().find_map(|path| std::fs::read(path).ok()).unwrap_or_default();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&system).filter_map(Result::ok));
    for text in given {
        let (added, ignored) =
            roots.add_parsable_certificates(CertificateDer::pem_slice_iter(text.as_bytes()).filter_map(Result::ok));
        if added == 0 || ignored > 0 {
            return None;
        }
    }
    if roots.is_empty() {
        return None;
    }
    Some(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// The account as it is shown at once, so that the server need not ask for it.
fn basic(Credentials { username, password }: &Credentials) -> HeaderValue {
    let mut value =
        HeaderValue::try_from(format!("Basic {}", STANDARD.encode(format!("{username}:{}", password.open()))))
            .expect("base64 is good in a header");
    value.set_sensitive(true);
    value
}
