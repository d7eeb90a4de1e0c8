//! Harbor.
//!
//! Fact: the API's description, <https://github.com/goharbor/harbor/blob/v2.11.0/api/v2.0/swagger.yaml>, "deleteTag":
//! 200, 401, 403, 404, 500; a `/` in the name of a repository is to be encoded twice. An immutable tag is refused with 412
//! (src/controller/tag/controller.go, `Delete`).

use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde::Deserialize;

use super::{Client, PAGES, PER_PAGE, PullTimes, Pushed, Row, Way};
use crate::clients::registry::auth::challenges;
use crate::clients::registry::{Deleted, RegistryError};
use crate::names::{Digest, Tag};
use crate::request::Product;

pub(super) const ROW: Row = Row {
    product: Product::Harbor,
    recognised_by: "the service `harbor-registry` that it names to whom has no token",
    call: "`DELETE /api/v2.0/projects/P/repositories/R/artifacts/<digest>/tags/<tag>`",
    way: Way::Untag { digest_too: true },
    needs: "the registry's user, with the right to delete tags (a robot account: *Tag: Delete*)",
    limits: "a tag that a rule makes immutable is refused (412)",
};

/// Whether an answer to `GET /v2/` without credentials is Harbor's.
pub(super) fn is(headers: &HeaderMap) -> bool {
    challenges(headers).iter().any(|challenge| challenge.parameter("service") == Some("harbor-registry"))
}

pub(in crate::clients::registry) struct Harbor {
    client: Client,
}

/// What the list tells of an image.
#[derive(Deserialize)]
struct Artifact {
    digest: String,
    push_time: Timestamp,
    pull_time: Option<Timestamp>,
    tags: Option<Vec<TagOfArtifact>>,
}

#[derive(Deserialize)]
struct TagOfArtifact {
    name: String,
    pull_time: Option<Timestamp>,
}

impl Harbor {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// When each image was pushed. Fact: the description of the API, "listArtifacts", `push_time`.
    pub(super) async fn pushed(&self) -> Result<Pushed, RegistryError> {
        let artifacts = self.artifacts().await?;
        Ok(artifacts.into_iter().filter_map(|one| Some((one.digest.parse().ok()?, one.push_time))).collect())
    }

    /// When images and tags were pulled.
    ///
    /// Fact: src/server/registry/manifest.go, `getManifest`: every GET of a manifest but those of its replication is a pull,
    /// a HEAD is none. src/controller/event/handler/internal/artifact.go: a pull by tag is noted of tag and image, one by
    /// digest of the image alone; some seconds later. What was never pulled has the year 1.
    pub(super) async fn pulled(&self) -> Result<PullTimes, RegistryError> {
        let was_pulled = |time: &Timestamp| Timestamp::UNIX_EPOCH < *time;
        let mut pulled = PullTimes::default();
        for Artifact { digest, pull_time, tags, .. } in self.artifacts().await? {
            if let (Ok(digest), Some(time)) = (digest.parse(), pull_time.filter(was_pulled)) {
                pulled.images.insert(digest, time);
            }
            let tags = tags.unwrap_or_default().into_iter();
            pulled.tags.extend(tags.filter_map(|tag| Some((tag.name, tag.pull_time.filter(was_pulled)?))));
        }
        Ok(pulled)
    }

    /// All artifacts, each with its tags.
    async fn artifacts(&self) -> Result<Vec<Artifact>, RegistryError> {
        let what = format!("list the artifacts of {} by Harbor's API", self.client.repository);
        let (project, repository) = self.path();
        let mut all = Vec::new();
        for page in 1..=PAGES {
            let segments = ["api", "v2.0", "projects", project, "repositories", &repository, "artifacts"];
            let mut url = self.client.url(&segments);
            url.query_pairs_mut()
                .append_pair("page", &page.to_string())
                .append_pair("page_size", &PER_PAGE.to_string());
            let ask = self.client.ask(&what, Method::GET, url, self.client.basic())?;
            let (artifacts, _): (Vec<Artifact>, _) = self.client.read(&ask).await?;
            let read = artifacts.len();
            all.extend(artifacts);
            if read < PER_PAGE {
                break;
            }
        }
        Ok(all)
    }

    /// The project, and the name in it as the API wants it: encoded here and once more as a segment of the path.
    fn path(&self) -> (&str, String) {
        let name = self.client.repository.name();
        // An image right below the host is in no project; Harbor says so.
        let (project, repository) = name.split_once('/').unwrap_or(("", name));
        (project, repository.replace('/', "%2F"))
    }

    /// Removes a tag, if it is on this digest.
    pub(super) async fn untag(&self, tag: &Tag, digest: &Digest) -> Result<Deleted, RegistryError> {
        let (project, repository) = self.path();
        let (digest, tag_text) = (digest.to_string(), tag.as_str());
        let url = self.client.url(&[
            "api",
            "v2.0",
            "projects",
            project,
            "repositories",
            &repository,
            "artifacts",
            &digest,
            "tags",
            tag_text,
        ]);
        let what = format!("remove tag {} by Harbor's API", self.client.named(tag));
        self.client.delete(&self.client.ask(&what, Method::DELETE, url, self.client.basic())?).await
    }
}
