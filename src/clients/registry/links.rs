//! The pages of a list: `Link: <…>; rel="next"`.

use reqwest::header::{HeaderMap, LINK};
use url::Url;

use super::answer::shown;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_in_every_form_of_link() {
        let page = Url::parse("https://r.example:5000/v2/a/tags/list?n=2").expect("it is a URL");
        let rows = [
            (
                r#"</v2/a/tags/list?n=2&last=b>; rel="next""#,
                Ok(Some("https://r.example:5000/v2/a/tags/list?n=2&last=b")),
            ),
            ("<?last=b>;rel=next", Ok(Some("https://r.example:5000/v2/a/tags/list?last=b"))),
            (r#"<https://r.example:5000/x>; title="a, b"; REL="prev Next""#, Ok(Some("https://r.example:5000/x"))),
            (r#"</first>; rel="first", </a,b;c>; rel="next""#, Ok(Some("https://r.example:5000/a,b;c"))),
            (r#"</first>; rel="first""#, Ok(None)),
            ("", Ok(None)),
            ("</broken; rel=next", Ok(None)),
            ("<https://r.example/x>; rel=next", Err("https://r.example/x")),
            ("<http://r.example:5000/x>; rel=next", Err("http://r.example:5000/x")),
            ("<//other.example:5000/x?token=t>; rel=next", Err("https://other.example:5000/x")),
            ("<https://[>; rel=next", Err("\"https://[\"")),
        ];
        for (link, expected) in rows {
            let mut headers = HeaderMap::new();
            headers.insert(LINK, link.parse().expect("it is a header"));
            let found = next(&page, &headers).map(|url| url.map(String::from)).map_err(|(shown, _)| shown);
            assert_eq!(found, expected.map(|url| url.map(str::to_owned)).map_err(str::to_owned), "{link}");
        }
    }
}
