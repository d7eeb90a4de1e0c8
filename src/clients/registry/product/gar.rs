//! Google Artifact Registry.
//!
//! Fact:
//! <https://docs.cloud.google.com/artifact-registry/docs/reference/rest/v1/projects.locations.repositories.packages.tags/delete>:
//! it wants an OAuth access token, and answers an empty object. Whoever asks the registry with a key (`_json_key`) has no
//! such token; OCI's DELETE by tag does the same there.

use std::collections::BTreeMap;

use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::AUTHORIZATION;
use serde::Deserialize;
use url::Url;

use super::{Client, Pushed, Row, Way, with_hint};
use crate::clients::registry::auth::sensitive;
use crate::clients::registry::http::{Access, Ask};
use crate::clients::registry::{Deleted, RegistryError};
use crate::names::{Secret, Tag};
use crate::request::{ApiSource, Product};

pub(super) const ROW: Row = Row {
    product: Product::Gar,
    recognised_by: "a host `<location>-docker.pkg.dev`",
    call: "`DELETE /v1/projects/P/locations/L/repositories/R/packages/<image>/tags/<tag>` of artifactregistry.googleapis.com",
    way: Way::Untag { digest_too: false },
    needs: "an access token with the permission `artifactregistry.tags.delete`: the password of `oauth2accesstoken`, or `registry.api.token`; with another login OCI's DELETE by tag is used",
    limits: "18,000 writes a minute and region, then 429; where tags are immutable they are refused",
};

const HOST_END: &str = "-docker.pkg.dev";

/// Whether a host is one of its.
pub(super) fn is(host: &str) -> bool {
    host.ends_with(HOST_END)
}

/// Where the API is.
pub(super) fn place() -> Option<Url> {
    Url::parse("https://artifactregistry.googleapis.com/").ok()
}

pub(in crate::clients::registry) struct Gar {
    client: Client,
    token: Option<Secret>,
}

impl Gar {
    pub(super) fn new(client: Client, told: &ApiSource) -> Self {
        Self { client, token: told.token.clone() }
    }

    /// When each image was uploaded: the registry's own list of tags says it, and needs no other token.
    ///
    /// Fact: go-containerregistry, pkg/v1/google/list.go, `ManifestInfo`: `timeUploadedMs` is a text, in milliseconds of
    /// Unix.
    pub(super) async fn pushed(&self) -> Result<Pushed, RegistryError> {
        #[derive(Deserialize)]
        struct List {
            #[serde(default)]
            manifest: BTreeMap<String, Uploaded>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Uploaded {
            time_uploaded_ms: String,
        }
        let what = format!("list the manifests of {}", self.client.repository);
        let ask = Ask::new(what, Method::GET, self.client.http.url(&["tags", "list"]), Access::Read);
        let (list, _): (List, _) = self.client.read(&ask).await?;
        let time = |uploaded: &Uploaded| Timestamp::from_millisecond(uploaded.time_uploaded_ms.parse().ok()?).ok();
        Ok(list
            .manifest
            .iter()
            .filter_map(|(digest, uploaded)| Some((digest.parse().ok()?, time(uploaded)?)))
            .collect())
    }

    pub(super) async fn untag(&self, tag: &Tag) -> Result<Deleted, RegistryError> {
        let what = format!("remove tag {} by Artifact Registry's API", self.client.named(tag));
        let refuse = |why: &str, hint| RegistryError::Product { what: what.clone(), why: why.to_owned(), hint };
        let login = self.client.http.identity().credentials();
        let login = login.filter(|login| login.username == "oauth2accesstoken").map(|login| &login.password);
        let token = self.token.as_ref().or(login).and_then(|token| sensitive(&format!("Bearer {}", token.open())));
        let token = token.ok_or_else(|| {
            refuse(
                "it takes an access token only",
                "give one in `source.registry.api.token`, or to `oauth2accesstoken`",
            )
        })?;
        let (host, mut parts) = (self.client.repository.registry(), self.client.repository.name().splitn(3, '/'));
        let (Some(project), Some(repository), Some(package)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(refuse(
                "its name has no project, repository and image",
                "`source.registry.repository` is <location>-docker.pkg.dev/<project>/<repository>/<image>",
            ));
        };
        let location = host.strip_suffix(HOST_END).unwrap_or(host);
        // A `/` in the name of an image is written as %2F.
        let url = self.client.url(&[
            "v1",
            "projects",
            project,
            "locations",
            location,
            "repositories",
            repository,
            "packages",
            package,
            "tags",
            tag.as_str(),
        ]);
        let ask = self.client.ask(&what, Method::DELETE, url, Some((AUTHORIZATION, token)))?;
        let needs = "the access token needs the permission `artifactregistry.tags.delete`, and lives for an hour only";
        self.client.delete(&ask).await.map_err(|error| with_hint(error, needs))
    }
}
