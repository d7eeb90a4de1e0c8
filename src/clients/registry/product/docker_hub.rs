//! Docker Hub.
//!
//! Fact: a tag is removed by the API of the hub, and not by that of the registry: a maintainer in
//! <https://github.com/docker/hub-feedback/issues/1759>, and Docker's own hub-tool (pkg/hub/tags.go, `DeleteTagURL`). A
//! token is had with user and password or access token: <https://docs.docker.com/reference/api/hub/latest/>, "Create access
//! token"; requests beyond the limit are answered with 429 and `Retry-After`, the same page, "Rate limiting".

use std::collections::BTreeMap;

use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;
use url::Url;

use super::{Client, PAGES, PER_PAGE, PullTimes, Pushed, Row, Way};
use crate::clients::registry::auth::sensitive;
use crate::clients::registry::{ANSWER_LIMIT, Deleted, RegistryError};
use crate::names::{Digest, Secret, Tag};
use crate::request::Product;

pub(super) const ROW: Row = Row {
    product: Product::DockerHub,
    recognised_by: "the host `docker.io`",
    call: "`POST /v2/auth/token`, then `DELETE /v2/repositories/<name>/tags/<tag>/` of hub.docker.com",
    way: Way::Untag { digest_too: false },
    needs: "the registry's user, with a password or an access token that may read, write and delete",
    limits: "429 with `Retry-After` beyond the limit of the account",
};

/// Where the API is.
pub(super) fn place() -> Option<Url> {
    Url::parse("https://hub.docker.com/").ok()
}

pub(in crate::clients::registry) struct DockerHub {
    client: Client,
    /// Held while a token is fetched, so that many requests at once fetch one token.
    token: Mutex<Option<HeaderValue>>,
}

/// What the list tells of a tag.
#[derive(Deserialize)]
struct Listed {
    name: String,
    digest: Option<String>,
    tag_last_pushed: Option<Timestamp>,
    tag_last_pulled: Option<Timestamp>,
}

fn set_newest(times: &mut BTreeMap<Digest, Timestamp>, digest: Option<&str>, time: Option<Timestamp>) {
    if let (Some(digest), Some(time)) = (digest.and_then(|digest| digest.parse().ok()), time) {
        let newest = times.entry(digest).or_insert(time);
        *newest = time.max(*newest);
    }
}

impl DockerHub {
    pub(super) fn new(client: Client) -> Self {
        Self { client, token: Mutex::new(None) }
    }

    pub(super) async fn untag(&self, tag: &Tag) -> Result<Deleted, RegistryError> {
        let what = format!("remove tag {} by Docker Hub's API", self.client.named(tag));
        let name = self.client.repository.name().split('/');
        let segments: Vec<&str> =
            ["v2", "repositories"].into_iter().chain(name).chain(["tags", tag.as_str(), ""]).collect();
        let url = self.client.url(&segments);
        let mut refused = None;
        loop {
            let token = self.token(&what, refused.as_ref()).await?;
            let ask = self.client.ask(&what, Method::DELETE, url.clone(), Some((AUTHORIZATION, token.clone())))?;
            match self.client.delete(&ask).await {
                // It lives for minutes only; a new one that is refused too is an error.
                Err(RegistryError::Unauthorized { .. }) if refused.is_none() => refused = Some(token),
                result => return result,
            }
        }
    }

    /// When each image was pushed: the newest of its tags. Fact: the same page, "List repository tags", `tag_last_pushed`.
    pub(super) async fn pushed(&self) -> Result<Pushed, RegistryError> {
        let mut pushed = Pushed::new();
        for Listed { digest, tag_last_pushed, .. } in self.tags().await? {
            set_newest(&mut pushed, digest.as_deref(), tag_last_pushed);
        }
        Ok(pushed)
    }

    /// When tags were pulled; an image with the last of its tags. Fact: the same, `tag_last_pulled`. That a HEAD is no pull:
    /// <https://docs.docker.com/docker-hub/usage/pulls/>.
    pub(super) async fn pulled(&self) -> Result<PullTimes, RegistryError> {
        let mut pulled = PullTimes::default();
        for Listed { name, digest, tag_last_pulled, .. } in self.tags().await? {
            set_newest(&mut pulled.images, digest.as_deref(), tag_last_pulled);
            pulled.tags.extend(tag_last_pulled.map(|time| (name, time)));
        }
        Ok(pulled)
    }

    /// All tags. `next` is null on the last page.
    async fn tags(&self) -> Result<Vec<Listed>, RegistryError> {
        #[derive(Deserialize)]
        struct Page {
            next: Option<String>,
            results: Vec<Listed>,
        }
        let what = format!("list the tags of {} by Docker Hub's API", self.client.repository);
        let name = self.client.repository.name().split('/');
        let segments: Vec<&str> = ["v2", "repositories"].into_iter().chain(name).chain(["tags"]).collect();
        let token = self.token(&what, None).await?;
        let mut all = Vec::new();
        for page in 1..=PAGES {
            let mut url = self.client.url(&segments);
            url.query_pairs_mut()
                .append_pair("page", &page.to_string())
                .append_pair("page_size", &PER_PAGE.to_string());
            let ask = self.client.ask(&what, Method::GET, url, Some((AUTHORIZATION, token.clone())))?;
            let (Page { next, results }, _) = self.client.read(&ask).await?;
            all.extend(results);
            if next.is_none() {
                break;
            }
        }
        Ok(all)
    }

    /// A token, other than one that was refused.
    async fn token(&self, what: &str, refused: Option<&HeaderValue>) -> Result<HeaderValue, RegistryError> {
        #[derive(Deserialize)]
        struct Granted {
            access_token: Secret,
        }
        let mut kept = self.token.lock().await;
        if let Some(token) = kept.as_ref().filter(|token| Some(*token) != refused) {
            return Ok(token.clone());
        }
        let Some(credentials) = self.client.http.identity().credentials() else {
            return Err(RegistryError::Product {
                what: what.to_owned(),
                why: "nobody is named who asks".to_owned(),
                hint: "give `source.registry.username` and `source.registry.password`",
            });
        };
        let url = self.client.url(&["v2", "auth", "token"]);
        self.client.guard(what, &url)?;
        let body = json!({"identifier": credentials.username, "secret": credentials.password.open()});
        let ask = self
            .client
            .ask(what, Method::POST, url, None)?
            .with_header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .with_body(body.to_string().into());
        let whole = self.client.http.ask(&ask, ANSWER_LIMIT).await?;
        if whole.status != StatusCode::OK {
            return Err(self.client.http.refused(&ask, &whole));
        }
        let Granted { access_token } = self.client.json(&ask, &whole)?;
        let token = sensitive(&format!("Bearer {}", access_token.open()));
        let token = token.ok_or_else(|| self.client.odd(&ask))?;
        *kept = Some(token.clone());
        Ok(token)
    }
}
