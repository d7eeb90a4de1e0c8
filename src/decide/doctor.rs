//! What in a source is suspicious: allowed, and seldom meant.

use crate::names::GitScheme;
use crate::request::{EngineHost, RegistryTransport, Source, Verify};

/// A setting that is worth a second look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspicion {
    /// The key, with its blocks.
    pub key: String,
    /// What comes of it.
    pub why: &'static str,
}

/// Every such setting, in the order of the source.
pub fn suspicions(source: &Source) -> Vec<Suspicion> {
    let Source { git, registry, registries, build, engine, .. } = source;
    let over_tcp = |host: &EngineHost| matches!(host, EngineHost::Tcp { .. });
    let plain = registry.transport == RegistryTransport::Http;
    let mut found: Vec<(bool, String, &'static str)> = vec![
        (
            git.uri.scheme() == GitScheme::Http && git.credentials.is_some(),
            "source.git.uri".to_owned(),
            "is http, so the password of git can be read on the way: use https",
        ),
        (
            git.verify == Verify::Nothing,
            "source.git.skip_ssl_verification".to_owned(),
            "trusts every certificate: give that of your authority in `source.git.ca_certs`",
        ),
        (
            git.uri.scheme() == GitScheme::Ssh && git.known_hosts.is_none(),
            "source.git.known_hosts".to_owned(),
            "is not given, so any host key is taken: give the line that `ssh-keyscan` prints",
        ),
        (
            plain && registry.credentials.is_some(),
            "source.registry.insecure".to_owned(),
            "sends the password of the registry over plain http",
        ),
        (
            engine.tls.is_none() && engine.hosts.iter().chain(engine.platforms.values()).any(over_tcp),
            "source.engine.host".to_owned(),
            "is tcp:// without `source.engine.tls`: whoever reaches the engine has the machine that it runs on",
        ),
        (
            build.dockerfile.is_none() && build.context.as_bytes().is_empty() && build.paths.is_none(),
            "source.build.context".to_owned(),
            "is the root of the repository: with `COPY .` in the Dockerfile every commit is another image",
        ),
    ];
    found.extend(registries.iter().enumerate().map(|(index, one)| {
        (
            one.transport == RegistryTransport::Http && one.credentials.is_some(),
            format!("source.registries[{index}].insecure"),
            "sends a password over plain http",
        )
    }));
    found.extend(build.args.keys().map(|name| {
        (
            looks_secret(name),
            format!("source.build.args.{name}"),
            "looks like a secret, and everybody who has the image can read it: give it in `source.build.secrets`",
        )
    }));
    found.into_iter().filter(|(is_so, ..)| *is_so).map(|(_, key, why)| Suspicion { key, why }).collect()
}

/// Whether the name of a build arg is one that secrets have.
pub fn looks_secret(name: &str) -> bool {
    const SIGNS: [&str; 7] = ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "CREDENTIAL", "PRIVATE_KEY", "API_KEY"];
    let name = name.to_ascii_uppercase();
    SIGNS.iter().any(|sign| name.contains(sign))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn keys(more: Value) -> Vec<String> {
        let mut source = json!({
            "git": {"uri": "https://h/a.git"},
            "registry": {"repository": "r.example.com/a"},
            "build": {"context": "ci/image"},
        });
        for (block, value) in more.as_object().expect("it is a block") {
            source[block] = value.clone();
        }
        let source = Source::from_value(source).expect("it is a source");
        suspicions(&source).into_iter().map(|suspicion| suspicion.key).collect()
    }

    #[test]
    fn what_is_seldom_meant_is_named_by_its_key() {
        let login = |uri: &str| json!({"uri": uri, "username": "a", "password": "b"});
        let registry = |insecure| json!({"repository": "r/a", "insecure": insecure, "username": "a", "password": "b"});
        let one = |insecure| json!({"host": "r.example", "insecure": insecure, "username": "a", "password": "b"});
        for (more, expected) in [
            (json!({}), &[][..]),
            (json!({"git": login("https://h/a.git")}), &[]),
            (json!({"git": login("http://h/a.git")}), &["source.git.uri"]),
            (json!({"git": {"uri": "http://h/a.git"}}), &[]),
            (
                json!({"git": {"uri": "https://h/a.git", "skip_ssl_verification": true}}),
                &["source.git.skip_ssl_verification"],
            ),
            (json!({"git": {"uri": "git@h:a.git"}}), &["source.git.known_hosts"]),
            (json!({"git": {"uri": "git@h:a.git", "known_hosts": "h ssh-ed25519 AAAA"}}), &[]),
            (json!({"registry": registry(true)}), &["source.registry.insecure"]),
            (json!({"registry": registry(false)}), &[]),
            (json!({"registries": [one(false)]}), &[]),
            (json!({"registries": [one(true)]}), &["source.registries[0].insecure"]),
            (json!({"engine": {"host": "tcp://h:1"}}), &["source.engine.host"]),
            (json!({"engine": {"host": "tcp://h:1", "tls": {}}}), &[]),
            (json!({"engine": {"host": "unix:///run/x"}}), &[]),
            (json!({"build": {}}), &["source.build.context"]),
            (json!({"build": {"paths": ["ci"]}}), &[]),
            (
                json!({"build": {"context": "ci", "args": {"A": "1", "NPM_TOKEN": "x"}}}),
                &["source.build.args.NPM_TOKEN"],
            ),
        ] {
            assert_eq!(keys(more.clone()), expected, "{more}");
        }
    }
}
