//! The image that a build is based on: which digest its tag stands for now, so that the label says what was built on.

use std::time::Duration;

use crate::clients::registry::Registry;
use crate::commands::bases::registry_of;
use crate::commands::put::Put;
use crate::commands::put::builders::Builders;
use crate::dockerfile::is_image_of_context;
use crate::names::{Digest, ImageReference};

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
    Tagged(ImageReference),
    /// A named context, or no reference of an image at all: the engine will say.
    Elsewhere,
}

impl Base {
    /// Reads the name of a base. A named context is used in the place of an image of its name.
    pub fn read<'a>(name: &str, contexts: impl IntoIterator<Item = &'a String>) -> Self {
        let reference: Option<ImageReference> = name.parse().ok();
        let is_this = |context: &String| {
            let same =
                |reference: &ImageReference| context.parse().is_ok_and(|other: ImageReference| other == *reference);
            context == name || reference.as_ref().is_some_and(same)
        };
        let is_context = contexts.into_iter().any(is_this);
        let place = match reference {
            Some(reference) if !is_context => reference.digest().map_or(Place::Tagged(reference), Place::At),
            Some(_) | None => Place::Elsewhere,
        };
        Self { name: name.to_owned(), place }
    }

    /// As the Dockerfile names it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it stands for: one HEAD, when the Dockerfile names a tag and the engine can be held to the answer.
    /// A registry that cannot be asked from here may be one that the engine can ask, so that is no error.
    pub async fn resolve(&self, put: &Put<'_>, builders: &Builders, dockerfile: &[u8]) -> Option<Digest> {
        let reference = match &self.place {
            Place::At(digest) => return Some(*digest),
            // Then it is one of those that are known.
            Place::Tagged(reference) if put.followed.is_some() => {
                return put.followed.as_ref()?.bases.digest(reference);
            }
            Place::Tagged(reference) if can_be_pinned(reference, put, builders, dockerfile) => reference,
            Place::Tagged(_) | Place::Elsewhere => return None,
        };
        let asked = async {
            let source = registry_of(put.source, reference.repository());
            let registry = Registry::to_read(reference.repository(), &source, put.say)?.at_first_try();
            match reference.tag() {
                Some(tag) => registry.resolve(tag).await,
                None => Ok(None),
            }
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
            Place::Tagged(reference) => Some((reference.familiar(), by_digest(reference, digest))),
            Place::At(_) | Place::Elsewhere => None,
        }
    }
}

/// What a named context is that stands for one digest of an image.
pub(super) fn by_digest(reference: &ImageReference, digest: Digest) -> String {
    format!("docker-image://{}@{digest}", reference.repository())
}

/// Whether the engine can be held to a digest in the place of the tag.
fn can_be_pinned(reference: &ImageReference, put: &Put<'_>, builders: &Builders, dockerfile: &[u8]) -> bool {
    let args = &put.subject.made_of.selection.args;
    builders.can_pin() && is_image_of_context(dockerfile, args, &reference.familiar())
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
