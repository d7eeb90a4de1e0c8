//! Which product a registry is, and where the API is that it has besides OCI's: `source.registry.api`.

use std::str::FromStr;

use url::Url;

use super::RequestError;
use super::read::Block;
use crate::names::{BadName, Secret};

/// A registry product with an API of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// Harbor, 2.0 and later.
    Harbor,
    /// The container registry of GitLab.
    GitLab,
    /// Sonatype Nexus Repository 3.
    Nexus,
    /// Docker Hub.
    DockerHub,
    /// GitHub's container registry, ghcr.io.
    GitHub,
    /// Amazon Elastic Container Registry.
    Ecr,
    /// Azure Container Registry.
    Acr,
    /// Google Artifact Registry.
    Gar,
}

impl Product {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 8] =
        [Self::Harbor, Self::GitLab, Self::Nexus, Self::DockerHub, Self::GitHub, Self::Ecr, Self::Acr, Self::Gar];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Harbor => "Harbor",
            Self::GitLab => "GitLab",
            Self::Nexus => "Nexus",
            Self::DockerHub => "Docker Hub",
            Self::GitHub => "GitHub",
            Self::Ecr => "Amazon ECR",
            Self::Acr => "Azure Container Registry",
            Self::Gar => "Google Artifact Registry",
        }
    }

    /// What `source.registry.api.product` calls it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Harbor => "harbor",
            Self::GitLab => "gitlab",
            Self::Nexus => "nexus",
            Self::DockerHub => "docker-hub",
            Self::GitHub => "ghcr",
            Self::Ecr => "ecr",
            Self::Acr => "acr",
            Self::Gar => "gar",
        }
    }
}

/// What is said of a registry's product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProductSetting {
    /// Nothing: it is recognised.
    #[default]
    Recognised,
    /// `none`: only OCI's API is used.
    Plain,
    /// It is this one.
    Is(Product),
}

impl FromStr for ProductSetting {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        if text == "none" {
            return Ok(Self::Plain);
        }
        let product = Product::ALL.into_iter().find(|product| product.word() == text);
        product.map(Self::Is).ok_or_else(|| {
            let words: Vec<&str> = Product::ALL.into_iter().map(Product::word).collect();
            BadName { what: "product", text: text.to_owned(), why: format!("is none of {}, none", words.join(", ")) }
        })
    }
}

/// The API that a registry's product has besides OCI's. What is not given is found out.
#[derive(Debug, Clone, Default)]
pub struct ApiSource {
    /// Which product it is.
    pub product: ProductSetting,
    /// Where its API is, without the path that is the same everywhere; `None`: where the registry is, or says.
    pub url: Option<Url>,
    /// Which repository of Nexus the images are in; `None`: the one that has them.
    pub repository: Option<String>,
    /// Who asks, where that is another one than asks the registry.
    pub token: Option<Secret>,
    /// The access key of AWS, for ECR.
    pub aws_key: Option<AwsKey>,
}

impl ApiSource {
    /// Every secret in it.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let key = self.aws_key.iter().flat_map(|key| [Some(&key.secret), key.session_token.as_ref()]);
        self.token.iter().chain(key.flatten())
    }
}

/// An access key of AWS.
#[derive(Debug, Clone)]
pub struct AwsKey {
    /// Its id.
    pub id: String,
    /// The secret that belongs to it.
    pub secret: Secret,
    /// What belongs to one that lives for a while only.
    pub session_token: Option<Secret>,
}

/// Reads the block.
pub(super) fn read(block: &Block) -> Result<ApiSource, RequestError> {
    Ok(ApiSource {
        product: block.parsed("product")?.unwrap_or_default(),
        url: block.parsed::<ApiUrl>("url")?.map(|url| url.0),
        repository: block.text("repository").filter(|repository| !repository.is_empty()),
        token: block.secret("token"),
        aws_key: aws_key(block)?,
    })
}

fn aws_key(block: &Block) -> Result<Option<AwsKey>, RequestError> {
    let alone = |given: &str, missing: &str| RequestError::Contradiction {
        what: format!("`{}` is given without `{}`", block.key(given), block.key(missing)),
        hint: "an access key of AWS has both".to_owned(),
    };
    match (block.text("aws_access_key_id"), block.secret("aws_secret_access_key")) {
        (Some(id), Some(secret)) => Ok(Some(AwsKey { id, secret, session_token: block.secret("aws_session_token") })),
        (Some(_), None) => Err(alone("aws_access_key_id", "aws_secret_access_key")),
        (None, Some(_)) => Err(alone("aws_secret_access_key", "aws_access_key_id")),
        (None, None) if block.map.contains_key("aws_session_token") => {
            Err(alone("aws_session_token", "aws_access_key_id"))
        }
        (None, None) => Ok(None),
    }
}

/// The address of an API.
#[derive(Debug, Clone)]
pub struct ApiUrl(pub Url);

impl FromStr for ApiUrl {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        // What stands before '@' may be a user with a password.
        let shown = text.rsplit('@').next().unwrap_or_default();
        let refuse = |why: &str| BadName { what: "address", text: shown.to_owned(), why: why.to_owned() };
        let url = Url::parse(text).map_err(|_| refuse("is no URL, such as https://nexus.example.com"))?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(refuse("begins neither with https:// nor with http://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("has a user; give it in `source.registry.username`"));
        }
        Ok(Self(url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_one_of_a_list_and_an_address_has_no_user() {
        let refused = |text: &str| text.parse::<ProductSetting>().expect_err("it is none").to_string();
        assert_eq!(
            refused("quay"),
            "product \"quay\" is none of harbor, gitlab, nexus, docker-hub, ghcr, ecr, acr, gar, none"
        );
        for product in Product::ALL {
            assert_eq!(product.word().parse(), Ok(ProductSetting::Is(product)));
        }
        let rows = [
            ("nexus.example", "address \"nexus.example\" is no URL, such as https://nexus.example.com"),
            ("ftp://nexus.example", "address \"ftp://nexus.example\" begins neither with https:// nor with http://"),
            (
                "https://u:hunter2@nexus.example",
                "address \"nexus.example\" has a user; give it in `source.registry.username`",
            ),
        ];
        for (text, message) in rows {
            assert_eq!(text.parse::<ApiUrl>().expect_err("it is none").to_string(), message);
        }
    }
}
