//! Files that git keeps elsewhere: the batch API of Git LFS, as far as downloads need it.
//!
//! Fact: git-lfs, docs/spec.md ("The Pointer"), docs/api/batch.md, docs/api/server-discovery.md and docs/api/authentication.md.
//! Every file is verified by size and SHA-256, and none is held in memory.

mod error;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use futures_util::stream::{self, TryStreamExt as _};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use url::Url;

pub use error::LfsError;

use crate::clients::git::Git;
use crate::names::{Digest, GitRepository, GitScheme, Secret};
use crate::request::{Credentials, GitSource, HttpsTunnel, Verify};

/// The first line of a file that stands for another one.
pub const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";

/// A pointer is never longer: "less than 1024 bytes".
pub const POINTER_BYTES: u64 = 1024;

const JSON: &str = "application/vnd.git-lfs+json";

/// How many objects are asked for at once; servers have limits of their own.
const BATCH: usize = 100;

/// How many files are fetched at the same time.
const AT_ONCE: usize = 4;

/// The most that is read of an answer that is no file.
const ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// How long a server may take to be reached, and to send the next bytes.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
const READ_LIMIT: Duration = Duration::from_secs(60);

/// A file that stands for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pointer {
    /// The digest of the file.
    pub sha256: Digest,
    /// Its size.
    pub size_bytes: u64,
}

impl Pointer {
    /// Reads a pointer; `None`: it is a file like any other.
    pub fn read(content: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(content.strip_prefix(POINTER)?).ok()?;
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        Some(Self { sha256: value("oid")?.parse().ok()?, size_bytes: value("size")?.parse().ok()? })
    }
}

/// The LFS server of a repository.
pub struct Store {
    repository: GitRepository,
    /// Where objects are asked for, without a slash at the end.
    endpoint: Url,
    headers: HeaderMap,
    credentials: Option<Credentials>,
    asks: reqwest::Client,
    fetches: reqwest::Client,
}

/// What `git-lfs-authenticate` prints, and what an action of a batch is.
#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Batch {
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    oid: String,
    actions: Option<Actions>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Actions {
    download: Option<Action>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    code: u64,
    #[serde(default)]
    message: String,
}

impl Store {
    /// The server beside a repository: of http(s) below its own address, of ssh as its `git-lfs-authenticate` tells.
    ///
    /// # Errors
    ///
    /// The ssh server does not tell, or a certificate of `ca_certs` cannot be used.
    pub async fn of(source: &GitSource, git: &Git) -> Result<Self, LfsError> {
        let repository = source.uri.repository().clone();
        let odd = |what: String| LfsError::Odd { repository: repository.clone(), what };
        let mut headers = HeaderMap::new();
        let mut credentials = None;
        let address = match source.uri.scheme() {
            GitScheme::Http | GitScheme::Https => {
                credentials.clone_from(&source.credentials);
                for setting in &source.git_config {
                    if setting.name.eq_ignore_ascii_case("http.extraHeader")
                        && let Some((name, value)) = setting.value.open().split_once(':')
                    {
                        add(&mut headers, name.trim(), &Secret::new(value.trim()));
                    }
                }
                let address = source.uri.as_str().trim_end_matches('/');
                let end = if address.ends_with(".git") { "" } else { ".git" };
                format!("{address}{end}/info/lfs")
            }
            GitScheme::Ssh => {
                let printed = git.lfs_authenticate().await?;
                let action: Action = serde_json::from_slice(&printed)
                    .map_err(|_| odd("git-lfs-authenticate printed what is no JSON with a href".to_owned()))?;
                for (name, value) in &action.header {
                    add(&mut headers, name, &Secret::new(value.as_str()));
                }
                action.href
            }
        };
        let endpoint = http_url(address.trim_end_matches('/'))
            .ok_or_else(|| odd("the address of its LFS server is none of http or https".to_owned()))?;
        let builder = || -> Result<reqwest::ClientBuilder, LfsError> {
            let mut authorities = Vec::new();
            for pem in &source.ca_certs {
                let read = reqwest::Certificate::from_pem_bundle(pem.as_bytes());
                authorities.extend(read.map_err(|source| LfsError::request(&repository, &endpoint, source))?);
            }
            let mut builder = reqwest::Client::builder();
            if let Some(HttpsTunnel { host, port, credentials }) = &source.https_tunnel {
                let proxy = reqwest::Proxy::all(format!("http://{host}:{port}"));
                let proxy = proxy.map_err(|source| LfsError::request(&repository, &endpoint, source))?;
                builder = builder.proxy(match credentials {
                    Some(login) => proxy.basic_auth(&login.username, login.password.open()),
                    None => proxy,
                });
            }
            Ok(builder
                .user_agent(concat!("git-image/", env!("CARGO_PKG_VERSION")))
                .referer(false)
                .connect_timeout(CONNECT_LIMIT)
                .read_timeout(READ_LIMIT)
                .tls_danger_accept_invalid_certs(source.verify == Verify::Nothing)
                .tls_certs_merge(authorities))
        };
        let build = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|source| LfsError::request(&repository, &endpoint, source))
        };
        // Who asks is shown to this server alone.
        let asks = build(builder()?.redirect(reqwest::redirect::Policy::none()))?;
        let fetches = build(builder()?.redirect(reqwest::redirect::Policy::limited(5)))?;
        Ok(Self { repository: repository.clone(), endpoint: endpoint.clone(), headers, credentials, asks, fetches })
    }

    /// Fetches these files into a directory, each under the digits of its digest.
    ///
    /// # Errors
    ///
    /// The server does not have one, refuses it, or sends something else.
    pub async fn fetch(&self, wanted: &BTreeSet<Pointer>, into: &Path) -> Result<(), LfsError> {
        let wanted: Vec<Pointer> = wanted.iter().copied().collect();
        for batch in wanted.chunks(BATCH) {
            let actions = self.ask(batch).await?;
            stream::iter(actions.into_iter().map(Ok))
                .try_for_each_concurrent(AT_ONCE, |(pointer, action)| self.fetch_one(pointer, action, into))
                .await?;
        }
        Ok(())
    }

    /// Asks where these objects are.
    async fn ask(&self, wanted: &[Pointer]) -> Result<Vec<(Pointer, Action)>, LfsError> {
        let objects: Vec<_> = wanted
            .iter()
            .map(|pointer| serde_json::json!({"oid": pointer.sha256.hex(), "size": pointer.size_bytes}))
            .collect();
        let body = serde_json::json!({
            "operation": "download", "transfers": ["basic"], "hash_algo": "sha256", "objects": objects,
        });
        let mut url = self.endpoint.clone();
        url.set_path(&format!("{}/objects/batch", self.endpoint.path()));
        let mut request = self.asks.post(url.clone()).header(ACCEPT, JSON).body(body.to_string());
        request = request.header(CONTENT_TYPE, JSON).headers(self.headers.clone());
        if let Some(credentials) = self.credentials.as_ref().filter(|_| !self.headers.contains_key(AUTHORIZATION)) {
            request = request.basic_auth(&credentials.username, Some(credentials.password.open()));
        }
        let failed = |error| LfsError::request(&self.repository, &url, error);
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let text = read(response, ANSWER_BYTES).await.map_err(failed)?;
        if !status.is_success() {
            let message = serde_json::from_slice::<Refusal>(&text).map(|refusal| refusal.message).unwrap_or_default();
            return Err(LfsError::status(&self.repository, "POST", &url, status.as_u16(), message));
        }
        let batch: Batch = serde_json::from_slice(&text).map_err(|_| LfsError::Odd {
            repository: self.repository.clone(),
            what: format!("{} answered what is no answer of LFS", error::shown(&url)),
        })?;
        let mut found = Vec::new();
        for &pointer in wanted {
            let hex = pointer.sha256.hex();
            let object = batch.objects.iter().find(|object| object.oid == hex);
            let missing = |code: u64, message: &str| LfsError::NoObject {
                repository: self.repository.clone(),
                object: pointer.sha256,
                code,
                message: message.to_owned(),
            };
            match object {
                Some(Object { error: Some(refusal), .. }) => return Err(missing(refusal.code, &refusal.message)),
                Some(Object { actions: Some(Actions { download: Some(action) }), .. }) => {
                    let action = Action { href: action.href.clone(), header: action.header.clone() };
                    found.push((pointer, action));
                }
                Some(_) | None => return Err(missing(404, "the answer does not say where it is")),
            }
        }
        Ok(found)
    }

    async fn fetch_one(&self, pointer: Pointer, action: Action, into: &Path) -> Result<(), LfsError> {
        let url = http_url(&action.href).ok_or_else(|| LfsError::Odd {
            repository: self.repository.clone(),
            what: "the LFS server gave an address that is none of http or https".to_owned(),
        })?;
        let mut headers = HeaderMap::new();
        for (name, value) in &action.header {
            add(&mut headers, name, &Secret::new(value.as_str()));
        }
        let mut request = self.fetches.get(url.clone());
        // Elsewhere the address itself, or its headers, say that we may.
        if !headers.contains_key(AUTHORIZATION) && url.origin() == self.endpoint.origin() {
            match (self.headers.get(AUTHORIZATION), &self.credentials) {
                (Some(value), _) => drop(headers.insert(AUTHORIZATION, value.clone())),
                (None, Some(credentials)) => {
                    request = request.basic_auth(&credentials.username, Some(credentials.password.open()));
                }
                (None, None) => {}
            }
        }
        let failed = |error| LfsError::request(&self.repository, &url, error);
        let mut response = request.headers(headers).send().await.map_err(failed)?;
        if !response.status().is_success() {
            let status = response.status().as_u16();
            return Err(LfsError::status(&self.repository, "GET", &url, status, String::new()));
        }
        let path = into.join(pointer.sha256.hex());
        let files = |source| LfsError::Files { what: "write", path: path.clone(), source };
        let mut file = File::create(&path).map_err(files)?;
        let mut hash = Sha256::new();
        let mut arrived = 0_u64;
        let differs =
            |why: String| LfsError::Differs { repository: self.repository.clone(), object: pointer.sha256, why };
        while let Some(bytes) = response.chunk().await.map_err(failed)? {
            arrived += bytes.len() as u64;
            if arrived > pointer.size_bytes {
                return Err(differs(format!("it has more than its {} bytes", pointer.size_bytes)));
            }
            hash.update(&bytes);
            file.write_all(&bytes).map_err(files)?;
        }
        let found = Digest::from_bytes(hash.finalize().into());
        if arrived < pointer.size_bytes {
            return Err(differs(format!("it has {arrived} bytes instead of {}", pointer.size_bytes)));
        }
        if found != pointer.sha256 {
            // What is there under the name must be what the name says.
            fs::remove_file(&path).map_err(files)?;
            return Err(differs(format!("its content is {found}")));
        }
        Ok(())
    }
}

fn http_url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// A header as the server named it; one that no request may have is left out, and the server will say so.
fn add(headers: &mut HeaderMap, name: &str, value: &Secret) {
    if let (Ok(name), Ok(mut value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value.open())) {
        value.set_sensitive(true);
        headers.insert(name, value);
    }
}

/// The body of an answer, up to a limit.
async fn read(mut response: reqwest::Response, limit_bytes: usize) -> Result<Vec<u8>, reqwest::Error> {
    let mut text = Vec::new();
    while let Some(bytes) = response.chunk().await? {
        text.extend_from_slice(&bytes);
        if text.len() > limit_bytes {
            break;
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_says_which_file_it_stands_for() {
        let hex = "ab".repeat(32);
        let text = |more: &str| format!("version https://git-lfs.github.com/spec/v1\n{more}");
        let good = text(&format!("oid sha256:{hex}\nsize 3\n"));
        let pointer = Pointer::read(good.as_bytes()).expect("it is a pointer");
        assert_eq!((pointer.sha256.hex(), pointer.size_bytes), (hex.clone(), 3));
        let more = text(&format!("ext-0-x sha256:{hex}\noid sha256:{hex}\nsize 3\n"));
        assert_eq!(Pointer::read(more.as_bytes()), Some(pointer));
        for bad in [
            text(""),
            text("oid sha256:ab\nsize 3\n"),
            text(&format!("oid sha256:{hex}\n")),
            text(&format!("oid sha256:{hex}\nsize -1\n")),
            format!("oid sha256:{hex}\nsize 3\n"),
        ] {
            assert_eq!(Pointer::read(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
