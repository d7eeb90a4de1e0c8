//! Amazon Elastic Container Registry.
//!
//! Fact: <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_BatchDeleteImage.html>: by tag removes the tag, and
//! the image with its last one; with a digest too, only if the tag is on it (`ImageTagDoesNotMatchDigest`). The host of the
//! API: <https://docs.aws.amazon.com/general/latest/gr/ecr.html>. It takes no password of the registry but requests that
//! are signed with an access key: see [`signature`]. When an image was pushed:
//! <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeImages.html>, `imagePushedAt`, in seconds of Unix.

mod signature;

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use url::Url;

use self::signature::{Signed, sign};
use super::{Client, PAGES, Pushed, Row, Way};
use crate::clients::registry::answer::{Server, answer};
use crate::clients::registry::auth::sensitive;
use crate::clients::registry::http::{Access, Ask, Whole};
use crate::clients::registry::{ANSWER_LIMIT, Deleted, PAGE_LIMIT, RegistryError};
use crate::names::{Digest, Tag};
use crate::request::{ApiSource, AwsKey, Product};

pub(super) const ROW: Row = Row {
    product: Product::Ecr,
    recognised_by: "a host `<account>.dkr.ecr.<region>.amazonaws.com`",
    call: "`BatchDeleteImage` by tag and digest",
    way: Way::Untag { digest_too: true },
    needs: "an access key with the right `ecr:BatchDeleteImage`, for prune also `ecr:DescribeImages`: `registry.api.aws_access_key_id`, `registry.api.aws_secret_access_key`, `registry.api.aws_session_token`",
    limits: "an image goes with its last tag, and may then not come back by its manifest alone; throttled requests are waited for",
};

const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
const AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SESSION_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
/// What the API is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    BatchDelete,
    Describe,
}

impl Action {
    fn target(self) -> &'static str {
        match self {
            Self::BatchDelete => "AmazonEC2ContainerRegistry_V20150921.BatchDeleteImage",
            Self::Describe => "AmazonEC2ContainerRegistry_V20150921.DescribeImages",
        }
    }

    fn access(self) -> Access {
        match self {
            Self::BatchDelete => Access::Delete,
            Self::Describe => Access::Read,
        }
    }

    /// What whom it refuses lacks.
    fn hint(self) -> &'static str {
        match self {
            Self::BatchDelete => {
                "check the access key in `source.registry.api`; it needs the right `ecr:BatchDeleteImage`"
            }
            Self::Describe => "check the access key in `source.registry.api`; it needs the right `ecr:DescribeImages`",
        }
    }
}

/// The region of what has none.
const DEFAULT_REGION: &str = "us-east-1";
/// The most that a page may have.
const MOST_PER_PAGE: usize = 1000;
const JSON: &str = "application/x-amz-json-1.1";

/// A host of it: `<account>.dkr.ecr.<region>.amazonaws.com`.
struct Host<'h> {
    account: &'h str,
    region: &'h str,
    /// `amazonaws.com`, or another one in China.
    domain: &'h str,
}

fn host(host: &str) -> Option<Host<'_>> {
    let (account, rest) = host.split_once(".dkr.ecr.")?;
    let (region, domain) = rest.split_once('.')?;
    let is_one = account.len() == 12
        && account.bytes().all(|byte| byte.is_ascii_digit())
        && matches!(domain, "amazonaws.com" | "amazonaws.com.cn");
    is_one.then_some(Host { account, region, domain })
}

/// Whether a host is one of its.
pub(super) fn is(text: &str) -> bool {
    host(text).is_some()
}

/// Where the API is.
pub(super) fn place(text: &str) -> Option<Url> {
    let Host { region, domain, .. } = host(text)?;
    Url::parse(&format!("https://api.ecr.{region}.{domain}/")).ok()
}

pub(in crate::clients::registry) struct Ecr {
    client: Client,
    key: Option<AwsKey>,
    /// The time of its clock, when it was asked.
    clock: OnceCell<(Timestamp, Instant)>,
}

impl Ecr {
    pub(super) fn new(client: Client, told: &ApiSource) -> Self {
        Self { client, key: told.aws_key.clone(), clock: OnceCell::new() }
    }

    /// Removes a tag, if it is on this digest.
    pub(super) async fn untag(&self, tag: &Tag, digest: &Digest) -> Result<Deleted, RegistryError> {
        let what = format!("remove tag {} by ECR's API", self.client.named(tag));
        let Some(key) = &self.key else {
            return Err(RegistryError::Product {
                what,
                why: "it takes requests only that are signed with an access key".to_owned(),
                hint: "give `source.registry.api.aws_access_key_id` and `source.registry.api.aws_secret_access_key`",
            });
        };
        let body = json!({"imageIds": [{"imageDigest": digest.to_string(), "imageTag": tag.as_str()}]});
        let ask = self.ask(&what, key, Action::BatchDelete, body).await?;
        let whole = self.client.http.ask_once(&ask, ANSWER_LIMIT).await?;
        self.outcome(&ask, &whole)
    }

    /// When each image was pushed; none without an access key.
    pub(super) async fn pushed(&self) -> Result<Pushed, RegistryError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Page {
            image_details: Vec<Detail>,
            next_token: Option<String>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Detail {
            image_digest: String,
            image_pushed_at: f64,
        }
        let what = format!("list the images of {} by ECR's API", self.client.repository);
        let (mut pushed, mut next) = (Pushed::new(), None);
        let Some(key) = &self.key else { return Ok(pushed) };
        for _ in 0..PAGES {
            let mut body = json!({"maxResults": MOST_PER_PAGE});
            if let Some(next) = next {
                body["nextToken"] = Value::String(next);
            }
            let ask = self.ask(&what, key, Action::Describe, body).await?;
            let whole = self.client.http.ask(&ask, PAGE_LIMIT).await?;
            if whole.status != StatusCode::OK {
                return Err(refused(&ask, &whole, Action::Describe));
            }
            let page: Page = self.client.json(&ask, &whole)?;
            pushed.extend(page.image_details.into_iter().filter_map(|one| {
                let time = SignedDuration::try_from_secs_f64(one.image_pushed_at).ok()?;
                Some((one.image_digest.parse().ok()?, Timestamp::from_duration(time).ok()?))
            }));
            next = page.next_token;
            if next.is_none() {
                break;
            }
        }
        Ok(pushed)
    }

    /// A request about the repository.
    async fn ask(&self, what: &str, key: &AwsKey, action: Action, mut body: Value) -> Result<Ask, RegistryError> {
        let host = host(self.client.repository.registry());
        // Of another host, a stand-in for it, nothing is known; the account of the key is then meant.
        let (account, region) = host.map_or((None, DEFAULT_REGION), |host| (Some(host.account), host.region));
        body["repositoryName"] = self.client.repository.name().into();
        if let Some(account) = account {
            body["registryId"] = account.into();
        }
        let time = self.now(what).await?;
        self.signed(what, key, region, time, action, body.to_string())
    }

    fn outcome(&self, ask: &Ask, whole: &Whole) -> Result<Deleted, RegistryError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Outcome {
            #[serde(default)]
            failures: Vec<Failure>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Failure {
            failure_code: String,
            failure_reason: Option<String>,
        }
        if whole.status != StatusCode::OK {
            return Err(refused(ask, whole, Action::BatchDelete));
        }
        let outcome: Outcome = self.client.json(ask, whole)?;
        match outcome.failures.into_iter().next() {
            None => Ok(Deleted::Gone),
            Some(Failure { failure_code, .. })
                if matches!(failure_code.as_str(), "ImageNotFound" | "ImageTagDoesNotMatchDigest") =>
            {
                Ok(Deleted::WasNotThere)
            }
            Some(Failure { failure_code, failure_reason }) => Err(RegistryError::Product {
                what: ask.what.clone(),
                why: format!("{failure_code}: {}", failure_reason.unwrap_or_default()),
                hint: "the documentation of BatchDeleteImage says what that means",
            }),
        }
    }

    /// The time by the clock of AWS, which judges by it how old a signature is.
    async fn now(&self, what: &str) -> Result<Timestamp, RegistryError> {
        let ask = Ask::new(what, Method::GET, self.client.url(&[]), Access::Read);
        let read = async || {
            let headers = self.client.http.head_of(&ask).await?;
            let date = headers.get(DATE).and_then(|date| jiff::fmt::rfc2822::parse(date.to_str().ok()?).ok());
            Ok::<_, RegistryError>((date.ok_or_else(|| self.client.odd(&ask))?.timestamp(), Instant::now()))
        };
        let (then, began) = *self.clock.get_or_try_init(read).await?;
        let passed = SignedDuration::try_from(began.elapsed()).unwrap_or_default();
        Ok(then.checked_add(passed).unwrap_or(then))
    }

    fn signed(
        &self,
        what: &str,
        key: &AwsKey,
        region: &str,
        time: Timestamp,
        action: Action,
        body: String,
    ) -> Result<Ask, RegistryError> {
        let url = self.client.url(&[]);
        self.client.guard(what, &url)?;
        let host = match (url.host_str().unwrap_or_default(), url.port()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        };
        let date = time.strftime("%Y%m%dT%H%M%SZ").to_string();
        let mut headers = vec![("content-type", JSON), ("host", &host), ("x-amz-date", &date)];
        headers.extend(key.session_token.as_ref().map(|token| ("x-amz-security-token", token.open())));
        headers.push(("x-amz-target", action.target()));
        let signed = Signed { method: "POST", path: url.path(), headers: &headers, body: body.as_bytes() };
        let authorization = sign(&signed, &key.id, &key.secret, region, "ecr", &date);
        let odd = || RegistryError::Product {
            what: what.to_owned(),
            why: "the access key has characters that no header can have".to_owned(),
            hint: "check `source.registry.api.aws_access_key_id`",
        };
        let token = key.session_token.as_ref().map(|token| sensitive(token.open()).ok_or_else(odd)).transpose()?;
        let mut ask = Ask::new(what, Method::POST, url, action.access())
            .with_header(AUTHORIZATION, sensitive(&authorization).ok_or_else(odd)?)
            .with_header(CONTENT_TYPE, HeaderValue::from_static(JSON))
            .with_header(TARGET, HeaderValue::from_static(action.target()))
            .with_header(AMZ_DATE, HeaderValue::from_str(&date).map_err(|_| odd())?)
            .with_body(body.into());
        if let Some(token) = token {
            ask = ask.with_header(SESSION_TOKEN, token);
        }
        Ok(ask)
    }
}

/// An answer that is no success. It says 400 where others say 429.
fn refused(ask: &Ask, whole: &Whole, action: Action) -> RegistryError {
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(rename = "__type")]
        kind: String,
    }
    let refusal: Option<Refusal> = serde_json::from_slice(&whole.bytes).ok();
    match refusal {
        Some(Refusal { kind }) if kind.ends_with("ThrottlingException") => RegistryError::TooManyRequests {
            what: ask.what.clone(),
            retry_after: None,
            answer: answer(ask, Server::Registry, whole),
        },
        Some(_) | None => RegistryError::Product {
            what: ask.what.clone(),
            why: answer(ask, Server::Registry, whole).to_string(),
            hint: action.hint(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_of_ecr_has_an_account_and_a_region() {
        let place = |text| place(text).map(|url| url.to_string());
        let rows = [
            ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", Some("https://api.ecr.eu-central-1.amazonaws.com/")),
            ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", Some("https://api.ecr.cn-north-1.amazonaws.com.cn/")),
            ("public.ecr.aws", None),
            ("12345678901x.dkr.ecr.eu-central-1.amazonaws.com", None),
            ("123456789012.dkr.ecr.eu-central-1.amazonaws.com.evil.example", None),
        ];
        for (text, expected) in rows {
            assert_eq!(place(text).as_deref(), expected, "{text}");
        }
    }
}
