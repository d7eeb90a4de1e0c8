//! Reads `source.registries` and `source.docker_config_json`: one list of registries, with at most one login for each.

use super::read::Block;
use super::{Credentials, FurtherRegistry, RegistrySource, RegistryTransport, RequestError, docker_config};
use crate::names::RegistryHost;

/// A login, and the key that gave it.
struct Login {
    host: RegistryHost,
    credentials: Credentials,
    key: String,
}

/// The registries besides the image's own. An entry for that one gives its credentials, when it has none itself.
pub(super) fn read(source: &Block, own: &mut RegistrySource) -> Result<Vec<FurtherRegistry>, RequestError> {
    let (mut all, mut logins): (Vec<FurtherRegistry>, Vec<Login>) = (Vec::new(), Vec::new());
    let own_host = own.repository.host();
    if let Some(credentials) = &own.credentials {
        let key = "source.registry".to_owned();
        logins.push(Login { host: own_host.clone(), credentials: credentials.clone(), key });
    }
    if let Some((mirror, credentials)) = own.mirror.as_ref().and_then(|one| Some((one, one.credentials.as_ref()?))) {
        let key = "source.registry.registry_mirror".to_owned();
        add(&mut logins, Login { host: mirror.host.clone(), credentials: credentials.clone(), key })?;
    }
    for (index, entry) in source.blocks("registries").iter().enumerate() {
        let text = entry.required_text("host", "host: registry.example.com")?;
        let host: RegistryHost = text.parse().map_err(|error| entry.refuse("host", error))?;
        let key = format!("source.registries[{index}]");
        if let Some(other) = all.iter().position(|other| other.host == host) {
            return Err(RequestError::Contradiction {
                what: format!("`{key}` is a second entry for {host}, after `source.registries[{other}]`"),
                hint: "give one entry for each registry".to_owned(),
            });
        }
        let credentials = entry.credentials()?;
        if let Some(credentials) = &credentials {
            add(&mut logins, Login { host: host.clone(), credentials: credentials.clone(), key })?;
        }
        all.push(FurtherRegistry {
            host,
            credentials,
            transport: if entry.flag("insecure") { RegistryTransport::Http } else { RegistryTransport::Https },
            ca_certs: entry.texts("ca_certs").unwrap_or_default(),
        });
    }
    if let Some(text) = source.secret("docker_config_json") {
        for (host, credentials) in docker_config::read(&text).map_err(RequestError::DockerConfig)? {
            let key = "source.docker_config_json".to_owned();
            add(&mut logins, Login { host: host.clone(), credentials: credentials.clone(), key })?;
            match all.iter_mut().find(|one| one.host == host) {
                Some(one) => one.credentials = Some(credentials),
                None => all.push(FurtherRegistry {
                    host,
                    credentials: Some(credentials),
                    transport: RegistryTransport::Https,
                    ca_certs: Vec::new(),
                }),
            }
        }
    }
    let login =
        |host: &RegistryHost| logins.iter().find(|login| login.host == *host).map(|login| login.credentials.clone());
    own.credentials = own.credentials.take().or_else(|| login(&own_host));
    if let Some(mirror) = &mut own.mirror {
        mirror.credentials = mirror.credentials.take().or_else(|| login(&mirror.host));
    }
    Ok(all)
}

/// The same login may be given twice, as shared blocks do; two logins for one registry contradict each other.
fn add(logins: &mut Vec<Login>, new: Login) -> Result<(), RequestError> {
    match logins.iter().find(|login| login.host == new.host) {
        Some(other) if other.credentials != new.credentials => Err(RequestError::Contradiction {
            what: format!("`{}` and `{}` have different credentials for {}", other.key, new.key, new.host),
            hint: "give one user for each registry".to_owned(),
        }),
        Some(_) => Ok(()),
        None => {
            logins.push(new);
            Ok(())
        }
    }
}
