//! What a server said instead of what was asked for, or why it said nothing; as text for eyes, without secrets.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER};
use serde::Deserialize;
use url::Url;

use super::http::{Ask, Whole};

/// The most characters of a refusal that are shown.
const MESSAGE_LIMIT: usize = 300;

/// What a server answered, when it is not what we asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Who answered.
    pub server: Server,
    /// The method of the request.
    pub method: Method,
    /// The address, without user info, and with harmless query keys only.
    pub url: String,
    /// The status.
    pub status: u16,
    /// The first error code of the body, such as `MANIFEST_UNKNOWN`.
    pub code: Option<String>,
    /// What the body says, shortened.
    pub message: Option<String>,
}

/// Who answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// The registry, or where it redirected us.
    Registry,
    /// The server that gives tokens for it.
    Tokens,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = match self.server {
            Server::Registry => "the registry",
            Server::Tokens => "the token server",
        };
        write!(f, "{server} answered {}", self.status)?;
        let reason = reqwest::StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason());
        match (&self.code, reason) {
            (Some(code), _) => write!(f, " {code}")?,
            (None, Some(reason)) => write!(f, " {reason}")?,
            (None, None) => {}
        }
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        write!(f, " ({} {})", self.method, self.url)
    }
}

impl StdError for Answer {}

/// A request that got no answer, or only a part of one.
#[derive(Debug, thiserror::Error)]
#[error("{method} {url} failed")]
pub struct Silence {
    /// The method.
    pub method: Method,
    /// The address, without user info, and with harmless query keys only.
    pub url: String,
    /// Why.
    #[source]
    pub source: RootCause,
}

/// The innermost cause of an error of the HTTP library.
///
/// Between the request and the cause that helps ("connection refused") it has three layers that say "client error
/// (Connect)" and the like; and its outermost layer shows the address with its query.
#[derive(Debug)]
pub struct RootCause(reqwest::Error);

impl RootCause {
    pub(super) fn new(error: reqwest::Error) -> Self {
        Self(error.without_url())
    }

    /// The chain of causes, outermost first.
    fn chain(&self) -> impl Iterator<Item = &(dyn StdError + 'static)> {
        std::iter::successors(Some(&self.0 as &(dyn StdError + 'static)), |&error| {
            // The source of an io::Error is that of the error inside it, so the inner one would be passed over.
            match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
                Some(inner) => Some(inner as &(dyn StdError + 'static)),
                None => error.source(),
            }
        })
    }

    /// The first error of this type in the chain.
    pub(super) fn find<T: StdError + 'static>(&self) -> Option<&T> {
        self.chain().find_map(|error| error.downcast_ref())
    }
}

impl fmt::Display for RootCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.chain().last() {
            Some(error) => fmt::Display::fmt(error, f),
            None => fmt::Display::fmt(&self.0, f),
        }
    }
}

impl StdError for RootCause {}

/// What a server said instead of what was asked for.
pub(super) fn answer(ask: &Ask, server: Server, whole: &Whole) -> Box<Answer> {
    let (code, message) = errors(&whole.bytes).unwrap_or_else(|| (None, plain_text(&whole.headers, &whole.bytes)));
    Box::new(Answer {
        server,
        method: ask.method.clone(),
        url: shown(&whole.url),
        status: whole.status.as_u16(),
        code: code.and_then(|code| tidy(&code)),
        message: message.and_then(|message| tidy(&message)),
    })
}

/// The code of the first error in a body of the protocol.
pub(super) fn code(bytes: &[u8]) -> Option<String> {
    errors(bytes).and_then(|(code, _)| code)
}

/// How long a server wants us to wait. A date is compared with the server's own clock, which it sends along.
///
/// Fact: RFC 9110, section 10.2.3.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let wanted = text(RETRY_AFTER)?;
    if let Ok(seconds) = wanted.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text: &str| jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp());
    let span = date(wanted)?.duration_since(date(text(DATE)?)?);
    Some(span.try_into().unwrap_or_default())
}

/// An address for eyes: without user info, and with those keys of the query that never hold a secret.
pub(super) fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    // Both fail only for addresses without a host, which have no user info.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_fragment(None);
    let harmless = |key: &str| matches!(key, "n" | "last" | "digest");
    let query: Vec<_> = url.query_pairs().filter(|(key, _)| harmless(key)).collect();
    shown.set_query(None);
    if !query.is_empty() {
        shown.query_pairs_mut().extend_pairs(query);
    }
    shown.into()
}

/// Code and message of the first error in a body of the protocol; a token server has `details` for the same.
///
/// Fact: distribution-spec 1.1, "Error Codes".
fn errors(bytes: &[u8]) -> Option<(Option<String>, Option<String>)> {
    #[derive(Deserialize)]
    struct Body {
        errors: Option<Vec<One>>,
        details: Option<String>,
        message: Option<String>,
    }
    #[derive(Deserialize)]
    struct One {
        code: Option<String>,
        message: Option<String>,
    }
    let Body { errors, details, message } = serde_json::from_slice(bytes).ok()?;
    match errors.unwrap_or_default().into_iter().next() {
        Some(One { code, message }) => Some((code, message)),
        None => Some((None, details.or(message))),
    }
}

/// The body when it is meant for eyes. A page of HTML says less than the status.
fn plain_text(headers: &HeaderMap, bytes: &[u8]) -> Option<String> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.starts_with("text/plain").then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// A text of a server as one line of bearable length, without control characters.
fn tidy(text: &str) -> Option<String> {
    let words: Vec<&str> =
        text.split(|c: char| c.is_control() || c.is_whitespace()).filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    let short = match line.char_indices().nth(MESSAGE_LIMIT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    };
    (!short.is_empty()).then_some(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_user_info_and_without_what_may_be_secret() {
        let rows = [
            ("https://u:p@r.example/v2/a/tags/list?n=2&last=b", "https://r.example/v2/a/tags/list?n=2&last=b"),
            ("https://s3.example/x?X-Amz-Signature=s&digest=d#f", "https://s3.example/x?digest=d"),
            ("http://r.example:5000/v2/a?_state=s", "http://r.example:5000/v2/a"),
        ];
        for (url, expected) in rows {
            assert_eq!(shown(&Url::parse(url).expect("it is a URL")), expected);
        }
    }

    #[test]
    fn the_first_error_of_a_body_is_read_and_any_other_body_is_none() {
        let found =
            |code: Option<&str>, message: Option<&str>| Some((code.map(str::to_owned), message.map(str::to_owned)));
        let rows = [
            (
                r#"{"errors":[{"code":"DENIED","message":"no","detail":[1]},{"code":"X"}]}"#,
                found(Some("DENIED"), Some("no")),
            ),
            (r#"{"errors":[{"code":"DENIED"}]}"#, found(Some("DENIED"), None)),
            (r#"{"details":"incorrect username or password"}"#, found(None, Some("incorrect username or password"))),
            (r#"{"errors":null,"message":"m"}"#, found(None, Some("m"))),
            (r#"{"errors":[]}"#, found(None, None)),
            ("404 page not found", None),
            ("", None),
        ];
        for (body, expected) in rows {
            assert_eq!(errors(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn a_text_of_a_server_becomes_one_short_line() {
        assert_eq!(tidy(" a\n\tb\u{1b}[31mc  ").as_deref(), Some("a b [31mc"));
        assert_eq!(tidy("\n"), None);
        let long = tidy(&"ä".repeat(1000)).expect("it is not empty");
        assert_eq!(long.chars().count(), MESSAGE_LIMIT + 1);
    }

    #[test]
    fn a_wait_is_seconds_or_a_date_by_the_clock_of_the_server() {
        let rows = [
            (Some("7"), None, Some(7)),
            (Some("Sat, 21 Nov 2026 10:00:30 GMT"), Some("Sat, 21 Nov 2026 10:00:00 GMT"), Some(30)),
            (Some("Sat, 21 Nov 2026 10:00:00 GMT"), Some("Sat, 21 Nov 2026 10:00:30 GMT"), Some(0)),
            (Some("Sat, 21 Nov 2026 10:00:30 GMT"), None, None),
            (Some("soon"), Some("Sat, 21 Nov 2026 10:00:00 GMT"), None),
            (None, None, None),
        ];
        for (wait, date, expected) in rows {
            let mut headers = HeaderMap::new();
            for (name, value) in [(RETRY_AFTER, wait), (DATE, date)] {
                headers.extend(value.map(|value| (name, value.parse().expect("it is a header"))));
            }
            assert_eq!(retry_after(&headers), expected.map(Duration::from_secs), "{wait:?} {date:?}");
        }
    }
}
