//! The container registry of GitLab.
//!
//! Fact: <https://docs.gitlab.com/api/container_registry/>, "List registry repositories" and "Delete a registry
//! repository tag"; <https://docs.gitlab.com/api/rest/#pagination>: `x-next-page` is empty on the last page. A registry
//! names GitLab as its token server, `/jwt/auth`, whichever host it has itself
//! (<https://docs.gitlab.com/administration/packages/container_registry/>).

use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use tokio::sync::OnceCell;
use url::Url;

use super::{Client, Row, Way, with_hint};
use crate::clients::registry::auth::{challenges, sensitive};
use crate::clients::registry::{Deleted, RegistryError};
use crate::names::{Secret, Tag};
use crate::request::{ApiSource, Product};

pub(super) const ROW: Row = Row {
    product: Product::GitLab,
    recognised_by: "the service `container_registry` that it names to whom has no token; the token server `/jwt/auth` says where GitLab is",
    call: "`DELETE /api/v4/projects/<path>/registry/repositories/<id>/tags/<tag>`",
    way: Way::Untag { digest_too: false },
    needs: "a token with the scope `api` of a Maintainer, or a Developer where tags are not protected: `registry.api.token`, else `registry.password`",
    limits: "2,000 requests a minute to an account of GitLab.com; repositories are listed 100 to a page",
};

const PRIVATE_TOKEN: HeaderName = HeaderName::from_static("private-token");
const NEXT_PAGE: HeaderName = HeaderName::from_static("x-next-page");
const NEEDS: &str = "give a token with the scope `api` that may change the project, in `source.registry.api.token`";
/// The most pages of repositories that are read.
const PAGES: usize = 1000;

/// Whether an answer to `GET /v2/` without credentials is that of GitLab's registry.
pub(super) fn is(headers: &HeaderMap) -> bool {
    challenges(headers).iter().any(|challenge| challenge.parameter("service") == Some("container_registry"))
        && place(headers).is_some()
}

/// Where GitLab is, by the token server that its registry names.
pub(super) fn place(headers: &HeaderMap) -> Option<Url> {
    challenges(headers).iter().find_map(|challenge| {
        let mut realm = Url::parse(challenge.parameter("realm")?).ok()?;
        // GitLab itself may lie below a path.
        let path = realm.path().strip_suffix("/jwt/auth")?.to_owned();
        realm.set_query(None);
        realm.set_path(&path);
        Some(realm)
    })
}

pub(in crate::clients::registry) struct GitLab {
    client: Client,
    token: Option<Secret>,
    /// The project's path, and what it calls the repository.
    found: OnceCell<(String, u64)>,
}

impl GitLab {
    pub(super) fn new(client: Client, told: &ApiSource) -> Self {
        Self { client, token: told.token.clone(), found: OnceCell::new() }
    }

    pub(super) async fn untag(&self, tag: &Tag) -> Result<Deleted, RegistryError> {
        self.remove(tag).await.map_err(|error| with_hint(error, NEEDS))
    }

    async fn remove(&self, tag: &Tag) -> Result<Deleted, RegistryError> {
        let what = format!("remove tag {} by GitLab's API", self.client.named(tag));
        let (project, id) = self.found.get_or_try_init(|| self.find(&what)).await?;
        let id = id.to_string();
        let segments = ["api", "v4", "projects", project, "registry", "repositories", &id, "tags", tag.as_str()];
        let url = self.client.url(&segments);
        self.client.delete(&self.client.ask(&what, Method::DELETE, url, self.token())?).await
    }

    fn token(&self) -> Option<(HeaderName, HeaderValue)> {
        let token = self.token.as_ref().or_else(|| Some(&self.client.http.identity().credentials()?.password))?;
        Some((PRIVATE_TOKEN, sensitive(token.open())?))
    }

    /// The number of the repository. Its name is that of a project, or up to two names more.
    ///
    /// Fact: <https://docs.gitlab.com/user/packages/container_registry/#naming-convention-for-your-container-images>.
    async fn find(&self, what: &str) -> Result<(String, u64), RegistryError> {
        let name = self.client.repository.name();
        let ends = name.match_indices('/').map(|(end, _)| end).chain([name.len()]);
        let mut projects: Vec<&str> = ends.map(|end| &name[..end]).filter(|project| project.contains('/')).collect();
        projects.reverse();
        for project in projects.into_iter().take(3) {
            if let Some(id) = self.find_in(what, project, name).await? {
                return Ok((project.to_owned(), id));
            }
        }
        Err(RegistryError::Product {
            what: what.to_owned(),
            why: format!("GitLab shows no project that has the repository {name}"),
            hint: NEEDS,
        })
    }

    /// The number of the repository in this project; `None` for no such project, too.
    async fn find_in(&self, what: &str, project: &str, name: &str) -> Result<Option<u64>, RegistryError> {
        #[derive(Deserialize)]
        struct Listed {
            id: u64,
            path: String,
        }
        let mut page = "1".to_owned();
        for _ in 0..PAGES {
            let mut url = self.client.url(&["api", "v4", "projects", project, "registry", "repositories"]);
            url.query_pairs_mut().append_pair("per_page", "100").append_pair("page", &page);
            let ask = self.client.ask(what, Method::GET, url, self.token())?;
            let (listed, headers): (Vec<Listed>, _) = match self.client.read(&ask).await {
                Err(error) if error.answer().is_some_and(|answer| answer.status == 404) => return Ok(None),
                result => result?,
            };
            if let Some(found) = listed.into_iter().find(|listed| listed.path == name) {
                return Ok(Some(found.id));
            }
            match headers.get(NEXT_PAGE).and_then(|next| next.to_str().ok()).filter(|next| !next.is_empty()) {
                Some(next) => page = next.to_owned(),
                None => break,
            }
        }
        Ok(None)
    }
}
