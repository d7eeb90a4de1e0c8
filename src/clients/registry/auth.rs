//! How we identify ourselves: basic credentials, or tokens from the server that the registry names.
//!
//! Our own, and not oci-client's `auth()`: that one asks `/v2/` first for every token, knows the scopes of pull and
//! push only, and hides the status with which a token server refuses.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use crate::names::Secret;
use crate::request::Credentials;

use super::answer::{Server, shown};
use super::error::{Given, RegistryError};
use super::http::{Access, Ask, Http};

/// A token lives so long when its server does not say.
///
/// Fact: distribution, docs/spec/auth/token.md, `expires_in`.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);

/// The most bytes of a token server's answer.
const ANSWER_LIMIT: u64 = 1 << 20;

/// The credentials for one repository, and what was learnt about how its registry wants them.
pub(super) struct Auth {
    /// The name inside the registry.
    repository: String,
    credentials: Option<Credentials>,
    /// Held while a token is fetched, so that many requests at once fetch one token.
    learnt: Mutex<Learnt>,
}

#[derive(Default)]
struct Learnt {
    /// Where tokens are given; `None` until the registry names it.
    tokens_from: Option<TokenServer>,
    /// The scope that the registry named for an access. Some name others than the specification does.
    scopes: HashMap<Access, String>,
    tokens: HashMap<Access, Token>,
}

#[derive(Clone)]
struct TokenServer {
    realm: Url,
    service: Option<String>,
}

struct Token {
    header: HeaderValue,
    until: Instant,
}

impl Auth {
    pub(super) fn new(repository: &str, credentials: Option<Credentials>) -> Self {
        Self { repository: repository.to_owned(), credentials, learnt: Mutex::default() }
    }

    /// Whether the source has credentials.
    pub(super) fn given(&self) -> Given {
        match self.credentials {
            Some(_) => Given::Yes,
            None => Given::No,
        }
    }

    /// What to send along: a token when the registry is known to want one, else the credentials at once. That saves a
    /// refused request for each program that is started.
    pub(super) async fn header(&self, http: &Http, ask: &Ask) -> Result<Option<HeaderValue>, RegistryError> {
        let mut learnt = self.learnt.lock().await;
        let Some(server) = learnt.tokens_from.clone() else { return Ok(self.basic()) };
        if let Some(token) = learnt.tokens.get(&ask.access).filter(|token| Instant::now() < token.until) {
            return Ok(Some(token.header.clone()));
        }
        let scope = match (learnt.scopes.get(&ask.access), ask.access) {
            (Some(scope), _) => scope.clone(),
            // How a registry calls the right to delete differs, and some refuse a scope that they do not know: the
            // refusal of the request without a token will name it.
            (None, Access::Delete) => return Ok(None),
            (None, access @ (Access::Read | Access::Write)) => self.scope(access),
        };
        let token = self.fetch(http, ask, &server, &scope).await?;
        let header = token.header.clone();
        learnt.tokens.insert(ask.access, token);
        Ok(Some(header))
    }

    /// What to send after a 401 to a request that had `sent`; `None` when nothing better is known.
    pub(super) async fn after_refusal(
        &self,
        http: &Http,
        ask: &Ask,
        headers: &HeaderMap,
        sent: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let Some(challenge) = challenges(headers).into_iter().find(|challenge| challenge.is("bearer")) else {
            return Ok(None);
        };
        let server = self.token_server(ask, &challenge)?;
        let mut learnt = self.learnt.lock().await;
        // Another request may have fetched a new token while this one was refused with the old one.
        if let Some(token) = learnt.tokens.get(&ask.access).filter(|token| Some(&token.header) != sent) {
            return Ok(Some(token.header.clone()));
        }
        let scope = challenge.parameter("scope").map_or_else(|| self.scope(ask.access), str::to_owned);
        learnt.tokens_from = Some(server.clone());
        learnt.scopes.insert(ask.access, scope.clone());
        learnt.tokens.remove(&ask.access);
        let token = self.fetch(http, ask, &server, &scope).await?;
        let header = token.header.clone();
        learnt.tokens.insert(ask.access, token);
        Ok(Some(header))
    }

    /// User and password of the registry, as a header.
    pub(super) fn basic(&self) -> Option<HeaderValue> {
        let Credentials { username, password } = self.credentials.as_ref()?;
        let text = format!("Basic {}", STANDARD.encode(format!("{username}:{}", password.open())));
        sensitive(&text)
    }

    /// User and password of the registry.
    pub(super) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    fn scope(&self, access: Access) -> String {
        let actions = match access {
            Access::Read => "pull",
            Access::Write => "pull,push",
            Access::Delete => "delete",
        };
        format!("repository:{}:{actions}", self.repository)
    }

    fn token_server(&self, ask: &Ask, challenge: &Challenge) -> Result<TokenServer, RegistryError> {
        let refuse = |why: &str| RegistryError::BadChallenge { what: ask.what.clone(), why: why.to_owned() };
        let realm = challenge.parameter("realm").ok_or_else(|| refuse("it names no token server"))?;
        let realm = Url::parse(realm).map_err(|_| refuse("the address of its token server is not a URL"))?;
        match (realm.scheme(), ask.url.scheme()) {
            ("https", _) | ("http", "http") => {}
            ("http", _) => return Err(refuse("its token server would be sent the password in plain http")),
            _ => return Err(refuse("its token server is reached neither by https nor by http")),
        }
        Ok(TokenServer { realm, service: challenge.parameter("service").map(str::to_owned) })
    }

    /// Fetches a token.
    ///
    /// Fact: distribution, docs/spec/auth/token.md.
    async fn fetch(&self, http: &Http, ask: &Ask, server: &TokenServer, scope: &str) -> Result<Token, RegistryError> {
        #[derive(Deserialize)]
        struct Granted {
            token: Option<Secret>,
            access_token: Option<Secret>,
            expires_in: Option<u64>,
        }
        let mut url = server.realm.clone();
        // A challenge may name several scopes; each is a parameter of its own.
        url.query_pairs_mut()
            .extend_pairs(server.service.iter().map(|service| ("service", service.as_str())))
            .extend_pairs(scope.split(' ').filter(|scope| !scope.is_empty()).map(|scope| ("scope", scope)));
        let mut headers = HeaderMap::new();
        headers.extend(self.basic().map(|value| (AUTHORIZATION, value)));
        let asked = Instant::now();
        let request = Ask { what: ask.what.clone(), method: Method::GET, url, access: ask.access, headers, body: None };
        let response = http.transmit(&request, None).await?;
        if response.status() != StatusCode::OK {
            let (answer, retry_after) = http.answer(&request, Server::Tokens, response).await;
            let (what, credentials) = (ask.what.clone(), self.given());
            return Err(match answer.status {
                429 => RegistryError::TooManyRequests { what, retry_after, answer },
                408 | 425 | 500 | 502 | 503 | 504 => RegistryError::Server { what, retry_after, answer },
                _ => RegistryError::TokenRefused { what, credentials, answer },
            });
        }
        let bytes = http.body(&request, response, ANSWER_LIMIT).await?;
        // The cause is dropped: a message of serde_json may show a part of the text, which is a token.
        let granted: Option<Granted> = serde_json::from_slice(&bytes).ok();
        let life = granted.as_ref().and_then(|granted| granted.expires_in).map_or(DEFAULT_LIFE, Duration::from_secs);
        let header = granted
            .and_then(|granted| granted.token.or(granted.access_token))
            .and_then(|token| sensitive(&format!("Bearer {}", token.open())))
            .ok_or_else(|| RegistryError::BadAnswer {
                what: ask.what.clone(),
                url: shown(&request.url),
                why: "holds no token".to_owned(),
            })?;
        // Renewed a little early: the request has to arrive while the token is good.
        let life = life - (life / 10).min(Duration::from_secs(10));
        let until = asked.checked_add(life).unwrap_or(asked + DEFAULT_LIFE);
        Ok(Token { header, until })
    }
}

/// A header value that no debug output shows.
pub(super) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Whether a header holds basic credentials.
pub(super) fn is_basic(header: &HeaderValue) -> bool {
    header.as_bytes().starts_with(b"Basic ")
}

/// Whether a registry asks for a token.
pub(super) fn wants_token(response: &Response) -> bool {
    response.status() == StatusCode::UNAUTHORIZED
        && challenges(response.headers()).iter().any(|challenge| challenge.is("bearer"))
}

/// Whether a registry says that the token is good and its rights are not enough.
///
/// Fact: RFC 6750, section 3.1, `insufficient_scope`.
pub(super) fn lacks_scope(headers: &HeaderMap) -> bool {
    challenges(headers)
        .iter()
        .any(|challenge| challenge.is("bearer") && challenge.parameter("error") == Some("insufficient_scope"))
}

/// One way of identifying oneself that a server offers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    pub(super) fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Every challenge of an answer. A server may send several headers, and several challenges in one.
pub(super) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(parse_challenges)
        .collect()
}

/// Reads the value of one `WWW-Authenticate` header; what cannot be read is passed over.
///
/// The comma divides both challenges and the parameters of one: a word without `=` begins a new challenge.
///
/// Fact: RFC 9110, section 11.6.1.
fn parse_challenges(text: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    for item in split_outside_quotes(text) {
        let item = item.trim();
        let word_end = item.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(item.len());
        let (word, rest) = item.split_at(word_end);
        let parameter = match rest.trim_start().strip_prefix('=') {
            Some(value) => Some((word, value)),
            None => {
                if word.is_empty() {
                    continue;
                }
                found.push(Challenge { scheme: word.to_owned(), parameters: Vec::new() });
                rest.split_once('=')
            }
        };
        if let (Some((name, value)), Some(challenge)) = (parameter, found.last_mut()) {
            challenge.parameters.push((name.trim().to_owned(), unquote(value.trim())));
        }
    }
    found
}

/// The parts between the commas that stand outside quotes.
fn split_outside_quotes(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (position, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                parts.push(&text[start..position]);
                start = position + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unquote(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"') else { return value.to_owned() };
    let inner = inner.strip_suffix('"').unwrap_or(inner);
    let mut plain = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.extend(chars.next()),
            _ => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_with_their_quotes_and_commas() {
        let rows = [
            ("", ""),
            ("Basic", "Basic"),
            (r#"Basic realm="a, b""#, "Basic [realm: a, b]"),
            (
                r#"Bearer realm="https://auth.example/token",service="registry",scope="repository:a/b:pull,push""#,
                "Bearer [realm: https://auth.example/token] [service: registry] [scope: repository:a/b:pull,push]",
            ),
            (
                r#"Basic realm=simple , Bearer realm = "t", error=x"#,
                "Basic [realm: simple] Bearer [realm: t] [error: x]",
            ),
            ("Negotiate, Basic realm=x", "Negotiate Basic [realm: x]"),
            (r#"bearer Realm="a \"quoted\" word""#, r#"bearer [Realm: a "quoted" word]"#),
            (r#"Bearer realm="never closed, x=y"#, "Bearer [realm: never closed, x=y]"),
            (",, =x,Basic", "Basic"),
        ];
        for (text, expected) in rows {
            let words = parse_challenges(text).into_iter().flat_map(|Challenge { scheme, parameters }| {
                let parameters = parameters.into_iter().map(|(name, value)| format!("[{name}: {value}]"));
                std::iter::once(scheme).chain(parameters)
            });
            assert_eq!(words.collect::<Vec<_>>().join(" "), expected, "{text}");
        }
    }

    #[test]
    fn the_names_of_schemes_and_parameters_may_be_written_in_any_case() {
        let challenge = &parse_challenges(r#"BEARER REALM="x""#)[0];
        assert!(challenge.is("bearer"));
        assert_eq!(challenge.parameter("realm"), Some("x"));
    }

    proptest::proptest! {
        #[test]
        fn no_header_makes_the_reader_panic(text in ".*") {
            parse_challenges(&text);
        }
    }
}
