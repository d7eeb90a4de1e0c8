//! Azure Container Registry.
//!
//! Fact: <https://learn.microsoft.com/en-us/rest/api/containerregistry/tag/delete>: `DELETE /acr/v1/{name}/_tags/{tag}`
//! answers 202, and removes the tag alone; it wants the same tokens as OCI's API, for the action `delete`. (`az acr
//! repository delete --image` deletes the manifest with all its tags.) The limits of the tiers:
//! <https://learn.microsoft.com/en-us/azure/container-registry/container-registry-skus>.

use reqwest::Method;

use super::{Client, Row, Way};
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
}
