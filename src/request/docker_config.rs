//! Reads the credentials in Docker's `config.json`.
//!
//! Fact: docker/cli, `cli/config/configfile/file.go` and `cli/config/types/authconfig.go`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::Credentials;
use crate::names::{BadName, RegistryHost, Secret};

/// Why a `config.json` gives no credentials. No message shows a part of the file but the names of hosts.
#[derive(Debug, thiserror::Error)]
pub enum DockerConfigError {
    /// It is no JSON, or has other types than a `config.json`.
    #[error("it is not a config.json: line {line}, column {column}")]
    NotJson {
        /// Where it stops making sense; the first line is 1.
        line: usize,
        /// The column there.
        column: usize,
    },
    /// It says that the passwords are kept elsewhere.
    #[error("its `{key}` names programs that keep the passwords on another machine")]
    Helper {
        /// The key.
        key: &'static str,
    },
    /// The key of an entry is no registry.
    #[error("it has an entry that is for no registry")]
    Host {
        /// Why.
        #[source]
        source: BadName,
    },
    /// Credentials for a part of a registry.
    #[error("its entry {entry:?} is for a part of a registry")]
    Part {
        /// The entry.
        entry: String,
    },
    /// A login with an identity token.
    #[error("its entry for {host} is an identity token")]
    IdentityToken {
        /// The registry.
        host: RegistryHost,
    },
    /// `auth` cannot be read.
    #[error("`auth` of its entry for {host} is not the base64 form of user:password")]
    BadAuth {
        /// The registry.
        host: RegistryHost,
    },
    /// There is no password.
    #[error("its entry for {host} has no password")]
    NoPassword {
        /// The registry.
        host: RegistryHost,
    },
    /// Two entries for one registry.
    #[error("it has two entries for {host}, which differ")]
    Twice {
        /// The registry.
        host: RegistryHost,
    },
}

impl DockerConfigError {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotJson { .. } => "give the content of the file that `docker login` writes, as one text",
            Self::Helper { .. } | Self::NoPassword { .. } => {
                "log in where no credential helper is set, or give user and password in `source.registries`"
            }
            Self::Host { .. } => "an entry is host[:port], such as registry.example.com",
            Self::Part { .. } => "credentials are for whole registries: name the host alone",
            Self::IdentityToken { .. } => "give user and password, or user and token, in `source.registries`",
            Self::BadAuth { .. } => "log in again, or give user and password in `source.registries`",
            Self::Twice { .. } => "keep one of the two",
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigFile {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    creds_store: String,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<Secret>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<Secret>,
    #[serde(default)]
    identitytoken: Option<Secret>,
}

/// Where the login of one registry is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// In the file.
    Here(Credentials),
    /// By the helper of this name: the program `docker-credential-NAME`.
    Helper(String),
    /// Nobody is logged in.
    Nowhere,
}

/// Where the login of a registry is kept, as docker looks for it on the user's own machine: the registry's helper, else
/// the one for all, else the file.
pub fn find(text: &Secret, host: &RegistryHost) -> Result<Kept, DockerConfigError> {
    let ConfigFile { auths, creds_store, cred_helpers } = parse(text)?;
    let is_it = |entry: &str| self::host(entry).is_ok_and(|found| found == *host);
    if let Some((_, helper)) = cred_helpers.into_iter().find(|(entry, _)| is_it(entry)) {
        return Ok(Kept::Helper(helper));
    }
    if !creds_store.is_empty() {
        return Ok(Kept::Helper(creds_store));
    }
    match auths.into_iter().find(|(entry, _)| is_it(entry)) {
        Some((_, login)) => Ok(Kept::Here(login.credentials(host)?)),
        None => Ok(Kept::Nowhere),
    }
}

fn parse(text: &Secret) -> Result<ConfigFile, DockerConfigError> {
    // The cause is dropped: it may show a part of the text.
    serde_json::from_str(text.open())
        .map_err(|error| DockerConfigError::NotJson { line: error.line(), column: error.column() })
}

/// The credentials in a `config.json`, by registry.
pub fn read(text: &Secret) -> Result<BTreeMap<RegistryHost, Credentials>, DockerConfigError> {
    let config = parse(text)?;
    if !config.creds_store.is_empty() {
        return Err(DockerConfigError::Helper { key: "credsStore" });
    }
    if !config.cred_helpers.is_empty() {
        return Err(DockerConfigError::Helper { key: "credHelpers" });
    }
    let mut all: BTreeMap<RegistryHost, Credentials> = BTreeMap::new();
    for (entry, login) in config.auths {
        let host = host(&entry)?;
        let credentials = login.credentials(&host)?;
        match all.get(&host) {
            Some(other) if *other != credentials => return Err(DockerConfigError::Twice { host }),
            Some(_) | None => drop(all.insert(host, credentials)),
        }
    }
    Ok(all)
}

/// The registry of an entry: a host, or the address of its API.
fn host(entry: &str) -> Result<RegistryHost, DockerConfigError> {
    let bare = entry.strip_prefix("https://").or_else(|| entry.strip_prefix("http://")).unwrap_or(entry);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    match path.trim_end_matches('/') {
        "" | "v1" | "v2" => host.parse().map_err(|source| DockerConfigError::Host { source }),
        _ => Err(DockerConfigError::Part { entry: bare.to_owned() }),
    }
}

impl Entry {
    fn credentials(self, host: &RegistryHost) -> Result<Credentials, DockerConfigError> {
        // Written by programs that mean nothing by an empty text.
        let given = |secret: Option<Secret>| secret.filter(|secret| !secret.open().is_empty());
        if given(self.identitytoken).is_some() {
            return Err(DockerConfigError::IdentityToken { host: host.clone() });
        }
        if let Some(auth) = given(self.auth) {
            return decoded(&auth).ok_or_else(|| DockerConfigError::BadAuth { host: host.clone() });
        }
        match (self.username.filter(|username| !username.is_empty()), given(self.password)) {
            (Some(username), Some(password)) => Ok(Credentials { username, password }),
            _ => Err(DockerConfigError::NoPassword { host: host.clone() }),
        }
    }
}

/// `auth` with or without `=` at its end; docker pads the password with NUL at times, and takes that off.
fn decoded(auth: &Secret) -> Option<Credentials> {
    let any = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = GeneralPurpose::new(&STANDARD, any).decode(auth.open().trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (username, password) = text.split_once(':')?;
    let password = password.trim_end_matches('\0');
    let whole = !username.is_empty() && !password.is_empty();
    whole.then(|| Credentials { username: username.to_owned(), password: Secret::new(password) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> String {
        let all = match read(&Secret::new(text)) {
            Ok(all) => all,
            Err(error) => {
                use std::error::Error as _;
                let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
                return format!("{error}{cause}");
            }
        };
        let line = |(host, login): (&RegistryHost, &Credentials)| {
            format!("{host} {} {}", login.username, login.password.open())
        };
        all.iter().map(line).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn the_entries_of_a_config_json_are_credentials_or_an_error_that_says_which_is_none() {
        for (text, expected) in [
            (r#"{}"#, ""),
            (r#"{"auths": {"r.example": {"auth": "YWRhOnNlY3JldA=="}}}"#, "r.example ada secret"),
            (r#"{"auths": {"r.example": {"auth": "YWRhOnNlY3JldA"}}}"#, "r.example ada secret"),
            (r#"{"auths": {"r.example:5000": {"auth": "YWRhOmE6Yg==", "email": "a@b"}}}"#, "r.example:5000 ada a:b"),
            (r#"{"auths": {"https://r.example/v2/": {"username": "ada", "password": "p"}}}"#, "r.example ada p"),
            (r#"{"auths": {"https://index.docker.io/v1/": {"auth": "YWRhOnAAAA=="}}}"#, "docker.io ada p"),
            (
                r#"{"auths": {"docker.io": {"auth": "YWRhOnA="}, "https://index.docker.io/v1/": {"auth": "YWRhOnA="}}}"#,
                "docker.io ada p",
            ),
            (
                r#"{"auths": {"docker.io": {"auth": "YWRhOnA="}, "registry-1.docker.io": {"auth": "YWRhOnE="}}}"#,
                "it has two entries for docker.io, which differ",
            ),
            (r#"{"auths": {"r.example": {}}}"#, "its entry for r.example has no password"),
            (
                r#"{"auths": {"r.example": {"auth": "", "identitytoken": "t"}}}"#,
                "its entry for r.example is an identity token",
            ),
            (
                r#"{"auths": {"r.example": {"auth": "secret"}}}"#,
                "`auth` of its entry for r.example is not the base64 form of user:password",
            ),
            (
                r#"{"auths": {"r.example/acme": {"auth": "YWRhOnA="}}}"#,
                "its entry \"r.example/acme\" is for a part of a registry",
            ),
            (
                r#"{"auths": {"r example": {"auth": "YWRhOnA="}}}"#,
                "it has an entry that is for no registry: registry \"r example\" is not host[:port]",
            ),
            (
                r#"{"credsStore": "desktop"}"#,
                "its `credsStore` names programs that keep the passwords on another machine",
            ),
            (
                r#"{"credHelpers": {"r.example": "x"}}"#,
                "its `credHelpers` names programs that keep the passwords on another machine",
            ),
            ("secret", "it is not a config.json: line 1, column 1"),
            (r#"{"auths": {"r.example": {"auth": 7}}}"#, "it is not a config.json: line 1, column 34"),
        ] {
            assert_eq!(found(text), expected, "{text}");
        }
    }
    #[test]
    fn a_login_on_the_users_machine_is_found_where_docker_keeps_it() {
        let entry = r#""auths": {"r.example": {"auth": "YWRhOnA="}, "https://index.docker.io/v1/": {}}"#;
        for (more, host, expected) in [
            ("", "r.example", "ada"),
            ("", "s.example", "nowhere"),
            (r#", "credsStore": "desktop""#, "r.example", "helper desktop"),
            (r#", "credHelpers": {"r.example": "x", "s.example": "y"}"#, "r.example", "helper x"),
            (r#", "credsStore": "desktop", "credHelpers": {"docker.io": "x"}"#, "docker.io", "helper x"),
            ("", "docker.io", "its entry for docker.io has no password"),
        ] {
            let host = host.parse().expect("it is a registry");
            let found = match find(&Secret::new(format!("{{{entry}{more}}}")), &host) {
                Ok(Kept::Here(credentials)) => credentials.username,
                Ok(Kept::Helper(name)) => format!("helper {name}"),
                Ok(Kept::Nowhere) => "nowhere".to_owned(),
                Err(error) => error.to_string(),
            };
            assert_eq!(found, expected, "{more} {host}");
        }
    }
}
