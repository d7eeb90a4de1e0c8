//! The image that a build is based on: which digest its tag stands for now, so that the label says what was built on.

use std::time::Duration;

use oci_distribution::Reference;

use crate::clients::registry::Registry;
use crate::commands::put::Put;
use crate::commands::put::builders::Builders;
use crate::dockerfile::is_image_of_context;
use crate::names::{Digest, RegistryHost, Repository, Tag};
use crate::request::{FurtherRegistry, RegistrySource, RegistryTransport, RepositorySetting, Source};

/// How long the registry of a base may take. The build does without its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the target stage is built on in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// As the Dockerfile names it.
    name: String,
    place: Place,
}

/// Where a base is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// The Dockerfile names the digest.
    At(Digest),
    /// A tag of a registry.
    Tagged { reference: Reference, repository: Repository, tag: Tag },
    /// A named context, or no reference of an image at all: the engine will say.
    Elsewhere,
}

impl Base {
    /// Reads the name of a base. A named context is used in the place of an image of its name.
    pub fn read<'a>(name: &str, contexts: impl IntoIterator<Item = &'a String>) -> Self {
        let place = place(name).unwrap_or(Place::Elsewhere);
        let is_this = |context: &String| {
            let same = |reference: &Reference| context.parse().is_ok_and(|other: Reference| other == *reference);
            context == name || matches!(&place, Place::Tagged { reference, .. } if same(reference))
        };
        let is_context = contexts.into_iter().any(is_this);
        Self { name: name.to_owned(), place: if is_context { Place::Elsewhere } else { place } }
    }

    /// As the Dockerfile names it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it stands for: one HEAD, when the Dockerfile names a tag and the engine can be held to the answer.
    /// A registry that cannot be asked from here may be one that the engine can ask, so that is no error.
    pub async fn resolve(&self, put: &Put<'_>, builders: &Builders, dockerfile: &[u8]) -> Option<Digest> {
        let (repository, tag) = match &self.place {
            Place::At(digest) => return Some(*digest),
            Place::Tagged { repository, tag, .. } if self.can_be_pinned(put, builders, dockerfile) => (repository, tag),
            Place::Tagged { .. } | Place::Elsewhere => return None,
        };
        let asked = async {
            let source = registry_of(put.source, repository);
            let registry = Registry::to_read(repository, &source, put.say)?.at_first_try();
            registry.resolve(tag).await
        };
        let why = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(Some(found))) => {
                put.say.line(format_args!("base: {} is {}", self.name, found.digest));
                return Some(found.digest);
            }
            Ok(Ok(None)) => "its registry does not have it".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        put.say.line(format_args!("base: which digest {} has is left to the engine: {why}", self.name));
        None
    }

    /// The named context by which the engine builds from this digest: its name, and the reference.
    pub fn pinned(&self, digest: Digest) -> Option<(String, String)> {
        match &self.place {
            Place::Tagged { repository, .. } => {
                Some((self.context()?, format!("docker-image://{}", repository.with_digest(&digest).whole())))
            }
            Place::At(_) | Place::Elsewhere => None,
        }
    }

    /// The name under which a frontend looks for a context in the place of the image: without what goes without saying.
    fn context(&self) -> Option<String> {
        let Place::Tagged { reference, .. } = &self.place else { return None };
        let whole = reference.whole();
        let name = whole.strip_suffix(":latest").unwrap_or(&whole);
        let of_hub = name.strip_prefix("docker.io/");
        Some(of_hub.map_or(name, |name| name.strip_prefix("library/").unwrap_or(name)).to_owned())
    }

    /// Whether the engine can be held to a digest in the place of the tag.
    fn can_be_pinned(&self, put: &Put<'_>, builders: &Builders, dockerfile: &[u8]) -> bool {
        let args = &put.subject.made_of.selection.args;
        builders.can_pin() && self.context().is_some_and(|name| is_image_of_context(dockerfile, args, &name))
    }
}

fn place(name: &str) -> Option<Place> {
    let reference: Reference = name.parse().ok()?;
    if let Some(digest) = reference.digest() {
        return Some(Place::At(digest.parse().ok()?));
    }
    let repository = format!("{}/{}", reference.registry(), reference.repository()).parse().ok()?;
    let tag = reference.tag()?.parse().ok()?;
    Some(Place::Tagged { reference, repository, tag })
}

/// How the registry of a base is reached, and who asks: the source's own registry, one of its list, or any other.
fn registry_of(source: &Source, repository: &Repository) -> RegistrySource {
    let own = &source.registry;
    let Ok(host) = repository.registry().parse::<RegistryHost>() else { return own.clone() };
    let further = source.registries.iter().find(|one| one.host == host);
    let is_own = own.repository.host() == host;
    let credentials = further.and_then(|one| one.credentials.clone());
    let (transport, ca_certs) = match further {
        _ if is_own => (own.transport, own.ca_certs.clone()),
        // What the source says of its own registry is then about the mirror.
        _ if host.is_docker_hub() && own.mirror.is_some() => (own.transport, own.ca_certs.clone()),
        Some(FurtherRegistry { transport, ca_certs, .. }) => (*transport, ca_certs.clone()),
        None => (RegistryTransport::Https, Vec::new()),
    };
    RegistrySource {
        repository: RepositorySetting::Whole(repository.clone()),
        tag_prefix: String::new(),
        credentials: if is_own { own.credentials.clone() } else { credentials },
        transport,
        ca_certs,
        client_certs: own.client_certs.clone(),
        variant: None,
        platform: own.platform.clone(),
        mirror: own.mirror.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[test]
    fn a_tag_is_pinned_and_what_is_none_is_not() {
        let digest: Digest = DIGEST.parse().expect("it is a digest");
        for (name, contexts, expected) in [
            ("debian", &[][..], Some(("debian", "docker.io/library/debian"))),
            ("debian:12", &[], Some(("debian:12", "docker.io/library/debian"))),
            ("docker.io/acme/app:1", &[], Some(("acme/app:1", "docker.io/acme/app"))),
            ("registry.example:5000/app", &[], Some(("registry.example:5000/app", "registry.example:5000/app"))),
            ("debian:12", &["debian"], Some(("debian:12", "docker.io/library/debian"))),
            ("debian:12", &["docker.io/library/debian:12"], None),
            ("code", &["code"], None),
            ("Not An Image", &[], None),
        ] {
            let contexts: Vec<String> = contexts.iter().map(|&name: &&str| name.to_owned()).collect();
            let expected =
                expected.map(|(tagged, name)| (tagged.to_owned(), format!("docker-image://{name}@{DIGEST}")));
            assert_eq!(Base::read(name, &contexts).pinned(digest), expected, "{name} {contexts:?}");
        }
        let whole = format!("debian:12@{DIGEST}");
        assert_eq!(Base::read(&whole, []), Base { name: whole.clone(), place: Place::At(digest) });
        assert_eq!(Base::read(&whole, []).pinned(digest), None);
    }
}
