//! Docker's credential helpers: programs that keep the passwords of `docker login`.
//!
//! Fact: docker/docker-credential-helpers, `client/client.go` and `credentials/error.go`: `docker-credential-NAME get`
//! reads the server from stdin and prints JSON; what it says of an error is on stdout too.

use serde::Deserialize;
use tokio::io::AsyncReadExt as _;

use crate::clients::process::{Program, ProgramError, Said};
use crate::concourse::Edge;
use crate::names::{RegistryHost, Secret};
use crate::request::Credentials;

/// Why a helper gives no credentials.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// Its name could be another program's path.
    #[error("docker's config.json names a credential helper {name:?}, which is no name of a program")]
    Name {
        /// The name.
        name: String,
    },
    /// It is not there, or it failed.
    #[error("cannot get the password of {host} from docker's credential helper")]
    Failed {
        /// The registry.
        host: RegistryHost,
        /// Why.
        #[source]
        source: ProgramError,
    },
    /// What it printed is not what a helper prints.
    #[error("docker-credential-{name} printed no credentials for {host}")]
    Unreadable {
        /// The helper.
        name: String,
        /// The registry.
        host: RegistryHost,
    },
    /// It keeps an identity token.
    #[error("docker-credential-{name} keeps an identity token for {host}, and no password")]
    IdentityToken {
        /// The helper.
        name: String,
        /// The registry.
        host: RegistryHost,
    },
}

impl HelperError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let otherwise =
            "give --username and --password-stdin, or GIT_IMAGE_REGISTRY_USERNAME and GIT_IMAGE_REGISTRY_PASSWORD";
        Some(match self {
            Self::Name { .. } => "correct `credsStore` or `credHelpers` in it".to_owned(),
            Self::Failed { source: ProgramError::Missing { program, .. }, .. } => {
                format!("docker's config.json names it; install {program}, or {otherwise}")
            }
            Self::Failed { .. } | Self::Unreadable { .. } | Self::IdentityToken { .. } => otherwise.to_owned(),
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Printed {
    username: String,
    secret: Secret,
}

/// More than any helper prints.
const MOST_BYTES: u64 = 64 * 1024;

/// Asks a helper. `None`: it keeps nothing for the registry.
///
/// # Errors
///
/// It is not there, fails, or prints something else.
pub async fn get(name: &str, host: &RegistryHost, edge: &Edge) -> Result<Option<Credentials>, HelperError> {
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Err(HelperError::Name { name: name.to_owned() });
    }
    let program = format!("docker-credential-{name}");
    let mut printed = Vec::new();
    // It is the user's own: what it needs of the environment, nobody knows.
    let ended = Program::new(&program, format!("{program} get"), &edge.programs)
        .envs(&edge.variables)
        .arg("get")
        .input(if host.is_docker_hub() { "https://index.docker.io/v1/" } else { host.as_str() })
        .read(async |stdout| {
            let read = stdout.take(MOST_BYTES).read_to_end(&mut printed).await;
            let what = format!("{program} get");
            read.map(drop).map_err(|source| ProgramError::Io { program: program.clone(), what, source })
        })
        .await;
    match ended {
        Ok(()) => {}
        Err(ProgramError::Failed { .. }) if String::from_utf8_lossy(&printed).contains("credentials not found") => {
            return Ok(None);
        }
        Err(ProgramError::Failed { program, what, status, said }) => {
            let printed = String::from_utf8_lossy(&printed).trim().to_owned();
            let said = if printed.is_empty() { said } else { Said(printed) };
            let source = ProgramError::Failed { program, what, status, said };
            return Err(HelperError::Failed { host: host.clone(), source });
        }
        Err(source) => return Err(HelperError::Failed { host: host.clone(), source }),
    }
    // The cause is dropped: it may show a part of the text.
    let unreadable = |_| HelperError::Unreadable { name: name.to_owned(), host: host.clone() };
    let Printed { username, secret } = serde_json::from_slice(&printed).map_err(unreadable)?;
    match username.as_str() {
        "<token>" => Err(HelperError::IdentityToken { name: name.to_owned(), host: host.clone() }),
        _ if secret.open().is_empty() => Ok(None),
        _ => Ok(Some(Credentials { username, password: secret })),
    }
}
