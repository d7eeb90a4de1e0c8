//! The pages of a list: `Link: <…>; rel="next"`.

use reqwest::header::{HeaderMap, LINK};
use url::Url;

use super::error::shown;

/// Where the next page is; `None` on the last one. An error is the link, for eyes, and why it is not followed.
///
/// Only the same scheme, host and port are followed: our credentials go along.
///
/// Fact: distribution-spec 1.1, "Listing Tags"; RFC 8288.
pub(super) fn next(page: &Url, headers: &HeaderMap) -> Result<Option<Url>, (String, &'static str)> {
    let values = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let Some(target) = values.flat_map(links).find(|link| link.is_next).map(|link| link.target) else {
        return Ok(None);
    };
    let Ok(next) = page.join(target) else { return Err((format!("{target:?}"), "it is not an address")) };
    if next.origin() != page.origin() {
        return Err((shown(&next), "it is on another server"));
    }
    Ok(Some(next))
}

#[derive(Debug, PartialEq, Eq)]
struct Link<'a> {
    target: &'a str,
    is_next: bool,
}

/// The links of one header. The targets stand between angle brackets, and may have commas and semicolons.
fn links(mut text: &str) -> Vec<Link<'_>> {
    let mut found = Vec::new();
    while let Some((_, rest)) = text.split_once('<') {
        let Some((target, rest)) = rest.split_once('>') else { break };
        let end = rest.find('<').unwrap_or(rest.len());
        let (parameters, rest) = rest.split_at(end);
        found.push(Link { target, is_next: parameters.split([';', ',']).any(is_next) });
        text = rest;
    }
    found
}

/// Whether a parameter is `rel=next`, with or without quotes; a `rel` may name several relations.
fn is_next(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return false };
    let value = value.trim().trim_matches('"');
    name.trim().eq_ignore_ascii_case("rel") && value.split_whitespace().any(|rel| rel.eq_ignore_ascii_case("next"))
}
