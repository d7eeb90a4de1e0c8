//! Azure Container Registry.
//!
//! Fact: <https://learn.microsoft.com/en-us/rest/api/containerregistry/tag/delete>: `DELETE /acr/v1/{name}/_tags/{tag}`
//! answers 202, and removes the tag alone; it wants the same tokens as OCI's API, for the action `delete`. (`az acr
//! repository delete --image` deletes the manifest with all its tags.) The limits of the tiers:
//! <https://learn.microsoft.com/en-us/azure/container-registry/container-registry-skus>.

use jiff::Timestamp;
use reqwest::Method;
use serde::Deserialize;

use super::{Client, PAGES, PER_PAGE, Pushed, Row, Way};
use crate::clients::registry::{Deleted, RegistryError};
use crate::names::Tag;
use crate::request::Product;

pub(super) const ROW: Row = Row {
    product: Product::Acr,
    recognised_by: "a host below `azurecr.io`, `azurecr.cn` or `azurecr.us`",
    call: "`DELETE /acr/v1/<name>/_tags/<tag>`",
    way: Way::Untag { digest_too: false },
    needs: "the registry's user, with the role AcrDelete, or a token with the action `content/delete`",
    limits: "100 writes a minute in the tier Basic, then 429; a tag that is locked is refused",
};

/// Whether a host is one of its.
pub(super) fn is(host: &str) -> bool {
    [".azurecr.io", ".azurecr.cn", ".azurecr.us"].iter().any(|end| host.ends_with(end))
}

pub(in crate::clients::registry) struct Acr {
    client: Client,
}

impl Acr {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    pub(super) async fn untag(&self, tag: &Tag) -> Result<Deleted, RegistryError> {
        let what = format!("remove tag {} by ACR's API", self.client.named(tag));
        let name = self.client.repository.name().split('/');
        let segments: Vec<&str> = ["acr", "v1"].into_iter().chain(name).chain(["_tags", tag.as_str()]).collect();
        // The registry itself says which token it wants.
        self.client.delete(&self.client.ask(&what, Method::DELETE, self.client.url(&segments), None)?).await
    }

    /// When each image was pushed. Fact: the same documentation, "Manifests - Get List": `createdTime` of each, pages by
    /// `last`.
    pub(super) async fn pushed(&self) -> Result<Pushed, RegistryError> {
        #[derive(Deserialize)]
        struct Page {
            /// `null` beyond the last one.
            manifests: Option<Vec<Attributes>>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Attributes {
            digest: String,
            created_time: Timestamp,
        }
        let what = format!("list the manifests of {} by ACR's API", self.client.repository);
        let name = self.client.repository.name().split('/');
        let segments: Vec<&str> = ["acr", "v1"].into_iter().chain(name).chain(["_manifests"]).collect();
        let (mut pushed, mut last) = (Pushed::new(), None::<String>);
        for _ in 0..PAGES {
            let mut url = self.client.url(&segments);
            url.query_pairs_mut().append_pair("n", &PER_PAGE.to_string());
            if let Some(last) = &last {
                url.query_pairs_mut().append_pair("last", last);
            }
            let (page, _): (Page, _) = self.client.read(&self.client.ask(&what, Method::GET, url, None)?).await?;
            let Some(page) = page.manifests.filter(|page| !page.is_empty()) else { break };
            last = page.last().map(|one| one.digest.clone());
            pushed.extend(page.into_iter().filter_map(|one| Some((one.digest.parse().ok()?, one.created_time))));
        }
        Ok(pushed)
    }
}
