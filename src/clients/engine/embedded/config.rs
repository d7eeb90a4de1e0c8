//! The configuration of the daemon: how the source says that registries are reached, in the daemon's words.

use std::collections::BTreeMap;
use std::path::Path;

use super::RUNTIME;
use crate::request::{ClientCert, Entitlement, RegistryTransport, Source};

/// How one registry is reached.
#[derive(Default)]
struct Reached<'a> {
    /// `None`: nothing is said about it.
    transport: Option<RegistryTransport>,
    ca_certs: &'a [String],
    client_cert: Option<&'a ClientCert>,
    mirror: Option<&'a str>,
}

/// The registries of a source, by their hosts. Of what is said twice, the first holds: that of the image's own.
fn reached(source: &Source) -> BTreeMap<String, Reached<'_>> {
    let (own, host) = (&source.registry, source.registry.repository.host());
    let mut all: BTreeMap<String, Reached<'_>> = BTreeMap::new();
    // Where there is a mirror, `insecure` is about that: Docker Hub has TLS.
    let is_mirrored = own.mirror.is_some() && host.is_docker_hub();
    let transport = if is_mirrored { RegistryTransport::Https } else { own.transport };
    let blocks = [(host.to_string(), transport, own.ca_certs.as_slice())].into_iter();
    let mirror = own.mirror.iter().map(|mirror| (mirror.host.to_string(), own.transport, own.ca_certs.as_slice()));
    let further = source.registries.iter().map(|one| (one.host.to_string(), one.transport, one.ca_certs.as_slice()));
    for (host, transport, ca_certs) in blocks.chain(mirror).chain(further) {
        let said = Reached { transport: Some(transport), ca_certs, ..Reached::default() };
        all.entry(host).or_insert(said);
    }
    for certificate in &own.client_certs {
        all.entry(certificate.host.to_string()).or_default().client_cert.get_or_insert(certificate);
    }
    if let Some(mirror) = &own.mirror {
        all.entry(DOCKER_HUB.to_owned()).or_default().mirror = Some(mirror.host.as_str());
    }
    all
}

/// What the daemon calls Docker Hub, as everybody does.
const DOCKER_HUB: &str = "docker.io";

/// The daemon's configuration, and the files that it names, by their names in `files`.
///
/// The keys of certificates are among them.
pub(super) fn config(
    directory: &Path,
    files: &Path,
    group: &str,
    source: &Source,
) -> (String, BTreeMap<String, String>) {
    let mut written = BTreeMap::new();
    let mut write = |name: String, content: String| {
        let path = quote_path(&files.join(&name));
        written.insert(name, content);
        path
    };
    // What the source allows, this engine allows too: it builds for nobody else.
    let entitlements: Vec<&str> = source.build.options.entitlements().into_iter().map(Entitlement::as_str).collect();
    // Garbage is not collected: everything goes when the build is done.
    let mut text = format!(
        "insecure-entitlements = {}\n\
         [worker.containerd]\nenabled = false\n\
         [worker.oci]\nenabled = true\ngc = false\nbinary = {}\ndefaultCgroupParent = {}\n\
         [cdi]\ndisabled = true\n\
         [otel]\nsocketPath = {}\n",
        serde_json::Value::from(entitlements),
        quote(RUNTIME),
        quote(group),
        quote_path(&directory.join("otel.sock")),
    );
    for (at, (host, reached)) in reached(source).into_iter().enumerate() {
        let Reached { transport, ca_certs, client_cert, mirror } = reached;
        text.push_str(&format!("[registry.{}]\n", quote(&host)));
        match transport {
            // Said also where it is the default: on 127.0.0.1 it is not.
            Some(RegistryTransport::Https) => text.push_str("http = false\n"),
            Some(RegistryTransport::Http) => text.push_str("http = true\n"),
            None => {}
        }
        if let Some(mirror) = mirror {
            text.push_str(&format!("mirrors = [{}]\n", quote(mirror)));
        }
        if !ca_certs.is_empty() {
            let path = write(format!("registry-{at}-ca.pem"), ca_certs.join("\n"));
            text.push_str(&format!("ca = [{path}]\n"));
        }
        if let Some(ClientCert { cert, key, .. }) = client_cert {
            let cert = write(format!("registry-{at}-cert.pem"), cert.clone());
            let key = write(format!("registry-{at}-key.pem"), key.open().to_owned());
            text.push_str(&format!("[[registry.{}.keypair]]\nkey = {key}\ncert = {cert}\n", quote(&host)));
        }
    }
    (text, written)
}

/// A text as TOML writes it: JSON's escapes are among TOML's.
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn quote_path(path: &Path) -> String {
    quote(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::request::{CheckRequest, Request as _};

    fn configured(source: serde_json::Value) -> (String, BTreeMap<String, String>) {
        let mut source = source;
        source["git"] = json!({"uri": "https://git.example/a.git"});
        let request = CheckRequest::parse(json!({"source": source}).to_string().as_bytes()).expect("a request");
        let directory = Path::new("/scratch/x");
        config(directory, &directory.join("files"), "x", &request.source)
    }

    const BEGINNING: &str = "insecure-entitlements = []\n[worker.containerd]\nenabled = false\n\
         [worker.oci]\nenabled = true\ngc = false\nbinary = \"runc\"\ndefaultCgroupParent = \"x\"\n\
         [cdi]\ndisabled = true\n\
         [otel]\nsocketPath = \"/scratch/x/otel.sock\"\n";

    #[test]
    fn each_registry_is_reached_as_the_source_says() {
        for (name, source, registries) in [
            (
                "plain http",
                json!({"registry": {"repository": "a.example:5000/b", "insecure": true}}),
                "[registry.\"a.example:5000\"]\nhttp = true\n",
            ),
            (
                "certificates",
                json!({"registry": {"repository": "a.example/b", "ca_certs": ["one\n", "two\n"]}}),
                "[registry.\"a.example\"]\nhttp = false\nca = [\"/scratch/x/files/registry-0-ca.pem\"]\n",
            ),
            (
                "a mirror that is insecure, and a registry that is not",
                json!({"registry": {"repository": "acme/b", "insecure": true, "registry_mirror": {"host": "m.example"}}}),
                "[registry.\"docker.io\"]\nhttp = false\nmirrors = [\"m.example\"]\n[registry.\"m.example\"]\nhttp = true\n",
            ),
            (
                "further registries, of which the image's own is none",
                json!({
                    "registry": {"repository": "a.example/b"},
                    "registries": [{"host": "b.example", "insecure": true}],
                }),
                "[registry.\"a.example\"]\nhttp = false\n[registry.\"b.example\"]\nhttp = true\n",
            ),
            (
                "a certificate of ours",
                json!({"registry": {
                    "repository": "a.example/b",
                    "client_certs": [{"cert": "public", "key": "secret"}],
                }}),
                "[registry.\"a.example\"]\nhttp = false\n[[registry.\"a.example\".keypair]]\n\
                 key = \"/scratch/x/files/registry-0-key.pem\"\ncert = \"/scratch/x/files/registry-0-cert.pem\"\n",
            ),
        ] {
            assert_eq!(configured(source).0, format!("{BEGINNING}{registries}"), "{name}");
        }
    }

    #[test]
    fn the_engine_allows_what_the_source_allows() {
        for (build, first) in [
            (json!({}), "insecure-entitlements = []"),
            (json!({"network": "host"}), "insecure-entitlements = [\"network.host\"]"),
            (
                json!({"allow": ["security.insecure", "network.host"]}),
                "insecure-entitlements = [\"network.host\",\"security.insecure\"]",
            ),
        ] {
            let (text, _) = configured(json!({"registry": {"repository": "a.example/b"}, "build": build}));
            assert_eq!(text.lines().next(), Some(first), "{build}");
        }
    }

    #[test]
    fn what_is_secret_is_in_files_and_not_in_the_configuration() {
        let (_, files) = configured(json!({"registry": {
            "repository": "a.example/b",
            "ca_certs": ["one\n", "two\n"],
            "client_certs": [{"cert": "public", "key": "secret"}],
        }}));
        let wanted = [("ca", "one\n\ntwo\n"), ("cert", "public"), ("key", "secret")];
        let wanted = wanted.map(|(name, text)| (format!("registry-0-{name}.pem"), text.to_owned()));
        assert_eq!(files, BTreeMap::from(wanted));
    }
}
