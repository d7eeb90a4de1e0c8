//! What `image.details` says of the image's name: the repository that it goes to.

use std::num::NonZeroU32;

use crate::clients::git::{Depth, Git, Want};
use crate::commands::{StepError, inputs};
use crate::decide::inputs::Recipe;
use crate::details::Details;
use crate::error::Error;
use crate::names::{GitPath, Repository};
use crate::request::{RegistrySource, RepositorySetting, Source};

/// The repository of the image: as the source says, and as NAME completes or confirms it.
pub fn repository(
    registry: &RegistrySource,
    path: Option<&GitPath>,
    details: &Details,
) -> Result<Repository, StepError> {
    match (&registry.repository, path, &details.name) {
        (RepositorySetting::Whole(repository), Some(path), Some(name)) => {
            let last = repository.name().rsplit('/').next().unwrap_or(repository.name());
            if last == name {
                Ok(repository.clone())
            } else {
                Err(StepError::OtherName { details: path.clone(), name: name.clone(), repository: repository.clone() })
            }
        }
        (RepositorySetting::Whole(repository), _, _) => Ok(repository.clone()),
        (RepositorySetting::Beginning(beginning), Some(path), Some(name)) => format!("{beginning}/{name}")
            .parse()
            .map_err(|source| StepError::BadRepository { details: path.clone(), source }),
        (RepositorySetting::Beginning(_), path, _) => Err(StepError::NoName { details: path.cloned() }),
    }
}

/// The repository of the image. What completes it is read at the tip of the source's branch, as check does.
pub async fn repository_of(source: &Source, git: &Git) -> Result<Repository, Error> {
    let recipe = Recipe::new(source);
    let details = match source.registry.repository {
        RepositorySetting::Whole(_) => Details::default(),
        RepositorySetting::Beginning(_) => {
            let tip = git.tip(source.git.branch.as_ref()).await?;
            git.fetch(&Want::Branch(tip.branch), Depth::Commits(NonZeroU32::MIN)).await?;
            inputs::of_commit(git, &recipe, tip.commit).await?.selection.details
        }
    };
    Ok(repository(&source.registry, recipe.details.as_ref(), &details)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{ApiSource, RegistryTransport};

    fn named(repository: RepositorySetting, name: Option<&str>) -> Result<String, String> {
        let registry = RegistrySource {
            repository,
            tag_prefix: String::new(),
            credentials: None,
            transport: RegistryTransport::Https,
            ca_certs: Vec::new(),
            client_certs: Vec::new(),
            mirror: None,
            api: ApiSource::default(),
            platform: None,
            variant: None,
            download_timeout: RegistrySource::DOWNLOAD_TIMEOUT,
        };
        let details = Details { name: name.map(str::to_owned), ..Details::default() };
        let path = GitPath::new("ci/image.details");
        repository_text(&registry, &path, &details)
    }

    fn repository_text(registry: &RegistrySource, path: &GitPath, details: &Details) -> Result<String, String> {
        repository(registry, Some(path), details).map(|repository| repository.to_string()).map_err(|e| e.to_string())
    }

    #[test]
    fn name_completes_or_confirms_the_repository() {
        let whole = || RepositorySetting::Whole("r.example.com/acme/app".parse().expect("it is a repository"));
        let beginning = || RepositorySetting::Beginning("r.example.com/acme".to_owned());
        for (setting, name, expected) in [
            (whole(), None, Ok("r.example.com/acme/app")),
            (whole(), Some("app"), Ok("r.example.com/acme/app")),
            (
                whole(),
                Some("web"),
                Err("NAME in `ci/image.details` is web, but the repository is r.example.com/acme/app"),
            ),
            (beginning(), Some("web"), Ok("r.example.com/acme/web")),
            (beginning(), None, Err("`source.registry.repository` ends in '/', and no NAME completes it")),
            (beginning(), Some("a:b"), Err("NAME in `ci/image.details` cannot be the last part of a repository")),
        ] {
            assert_eq!(named(setting, name), expected.map(str::to_owned).map_err(str::to_owned), "{name:?}");
        }
    }
}
