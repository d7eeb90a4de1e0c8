//! Who asks a registry: by option, by the environment, or as `docker login` left it.

use std::io::Read;
use std::path::PathBuf;

use super::CliError;
use crate::clients::credential_helper;
use crate::concourse::Edge;
use crate::error::Error;
use crate::names::{RegistryHost, Secret};
use crate::request::Credentials;
use crate::request::docker_config::{self, Kept};
use crate::say::Say;

/// Who asks a registry that no source names.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LoginArgs {
    /// Who asks the registry; its password comes from stdin
    ///
    /// Otherwise GIT_IMAGE_REGISTRY_USERNAME and GIT_IMAGE_REGISTRY_PASSWORD of the environment are taken, else what
    /// `docker login` left in Docker's config.json or in its credential helpers.
    #[arg(long, value_name = "USER", requires = "password_stdin")]
    username: Option<String>,

    /// Read the password of --username from stdin
    #[arg(long, requires = "username")]
    password_stdin: bool,
}

impl LoginArgs {
    /// Finds who asks.
    ///
    /// # Errors
    ///
    /// Half a login is given, or a credential helper fails.
    pub async fn read(
        &self,
        host: &RegistryHost,
        stdin: &mut impl Read,
        edge: &Edge,
        say: &Say,
    ) -> Result<Option<Credentials>, Error> {
        let given = match &self.username {
            Some(username) => Some([username.clone(), password(stdin)?]),
            None => both(VARIABLES, edge)?,
        };
        let login = match given {
            Some([username, password]) => Some(Credentials { username, password: Secret::new(password) }),
            None => of_docker(host, edge).await?,
        };
        login.iter().for_each(|login| say.hide(&login.password));
        Ok(login)
    }
}

/// Where the environment has user and password for the registry.
pub const VARIABLES: [&str; 2] = ["GIT_IMAGE_REGISTRY_USERNAME", "GIT_IMAGE_REGISTRY_PASSWORD"];

/// User and password of the environment; one of them alone is an error.
///
/// # Errors
///
/// Only one of the two is set.
pub fn both(names: [&'static str; 2], edge: &Edge) -> Result<Option<[String; 2]>, CliError> {
    let value = |name| edge.variable(name).filter(|value| !value.is_empty());
    match names.map(value) {
        [Some(username), Some(password)] => Ok(Some([username, password])),
        [None, None] => Ok(None),
        [Some(_), None] => Err(CliError::HalfLogin { given: names[0], missing: names[1] }),
        [None, Some(_)] => Err(CliError::HalfLogin { given: names[1], missing: names[0] }),
    }
}

/// The first line of stdin.
///
/// # Errors
///
/// stdin cannot be read, or has none.
pub fn password(stdin: &mut impl Read) -> Result<String, CliError> {
    let mut text = String::new();
    stdin.read_to_string(&mut text).map_err(CliError::Stdin)?;
    match text.lines().next() {
        Some(password) if !password.is_empty() => Ok(password.to_owned()),
        Some(_) | None => Err(CliError::NoPassword),
    }
}

/// What `docker login` left for the registry.
///
/// # Errors
///
/// Its file cannot be read as one, or a helper fails.
pub async fn of_docker(host: &RegistryHost, edge: &Edge) -> Result<Option<Credentials>, Error> {
    let directory = edge.variable("DOCKER_CONFIG").map(PathBuf::from);
    let directory = directory.or_else(|| Some(PathBuf::from(edge.variable("HOME")?).join(".docker")));
    let Some(path) = directory.map(|directory| directory.join("config.json")) else { return Ok(None) };
    // Nobody has said that there is one.
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(None) };
    let kept = docker_config::find(&Secret::new(text), host);
    Ok(match kept.map_err(|source| CliError::DockerConfig { path, source })? {
        Kept::Here(credentials) => Some(credentials),
        Kept::Nowhere => None,
        Kept::Helper(name) => credential_helper::get(&name, host, edge).await.map_err(CliError::Helper)?,
    })
}
