//! The images that an image is built on, when they are followed: the third key of a version, and which build of a
//! version is the newest.

mod newest;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::concourse::Version;
use crate::decide::inputs::{NamedContext, Recipe};
use crate::dockerfile::{self, Taken, Unclear};
use crate::names::{BadName, BasesId, Digest, ImageReference};

pub use newest::{Build, Newest, Next, Reading};

/// The images that a build takes, by the name of the context that holds the engine to one digest of each.
pub type Wanted = BTreeMap<String, ImageReference>;

/// The images that a Dockerfile takes: those that its target needs, and those that named contexts put in their place.
///
/// # Errors
///
/// It is not certain which these are, or one of them cannot be had by its digest.
pub fn wanted(recipe: &Recipe, text: &[u8], args: &BTreeMap<String, String>) -> Result<Wanted, Unclear> {
    let is_context = |stage: &str| recipe.contexts.contains_key(stage);
    let mut wanted = Wanted::new();
    for Taken { name, line } in dockerfile::images(text, args, recipe.target.as_deref(), &recipe.platforms, is_context)?
    {
        let unclear = |why: String| Unclear { line: Some(line), why };
        let read = |text: &str| text.parse::<ImageReference>().map_err(|error: BadName| unclear(error.to_string()));
        let reference = match context(recipe, &name) {
            // Their content is part of the inputs.
            Some(
                NamedContext::Git { .. }
                | NamedContext::Directory(_)
                | NamedContext::Layout(_)
                | NamedContext::Finished(_),
            ) => continue,
            Some(NamedContext::Image(image)) => read(image)?,
            None => read(&name)?,
        };
        let key = match name.parse::<ImageReference>() {
            Ok(named) if !is_context(&name) => named.familiar(),
            Ok(_) | Err(_) => name.clone(),
        };
        let is_replaced = is_context(&key);
        if reference.digest().is_none() && !is_replaced && !dockerfile::is_image_of_context(text, args, &key) {
            return Err(unclear(format!("a stage has the name of the image {name}; give the stage another name")));
        }
        wanted.insert(key, reference);
    }
    Ok(wanted)
}

/// The named context that is used in the place of an image of this name.
fn context<'a>(recipe: &'a Recipe, name: &str) -> Option<&'a NamedContext> {
    let reference: Option<ImageReference> = name.parse().ok();
    let is_this = |key: &String| key == name || (reference.is_some() && key.parse().ok() == reference);
    recipe.contexts.iter().find(|(key, _)| is_this(key)).map(|(_, context)| context)
}

/// Images, each with its digest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bases(BTreeSet<ImageReference>);

/// One image as get writes it and put reads it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    digest: Digest,
}

impl Bases {
    /// The wanted images with the digests that are known of them; the first that has none.
    ///
    /// # Errors
    ///
    /// That one.
    pub fn of<'a>(
        wanted: &'a Wanted,
        digest: impl Fn(&ImageReference) -> Option<Digest>,
    ) -> Result<Self, &'a ImageReference> {
        let with_digest = |reference: &'a ImageReference| {
            let digest = reference.digest().or_else(|| digest(reference)).ok_or(reference)?;
            Ok(reference.with_digest(digest))
        };
        wanted.values().map(with_digest).collect::<Result<_, _>>().map(Self)
    }

    /// The digest of an image, as a Dockerfile names it.
    pub fn digest(&self, reference: &ImageReference) -> Option<Digest> {
        reference.digest().or_else(|| self.0.iter().find(|one| one.name() == reference.name())?.digest())
    }

    /// What stands for them in a version: the SHA-256 of the lines `name@digest`, sorted, each with a newline behind it.
    pub fn id(&self) -> BasesId {
        let lines: BTreeSet<String> = self.0.iter().map(|image| format!("{image}\n")).collect();
        BasesId::from_bytes(Sha256::digest(lines.into_iter().collect::<String>()).into())
    }

    /// The images.
    pub fn iter(&self) -> impl Iterator<Item = &ImageReference> {
        self.0.iter()
    }

    /// As the label of an image lists them.
    pub fn to_label(&self) -> String {
        self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    /// What a label lists, when it is of these bases.
    pub fn of_label(text: &str, id: BasesId) -> Option<Self> {
        let images = text.split_whitespace().map(|text| text.parse().ok()).collect::<Option<_>>()?;
        Some(Self(images)).filter(|bases: &Self| bases.id() == id)
    }

    /// As get writes them.
    pub fn to_json(&self) -> String {
        let line = |image: &ImageReference| Some(Line { name: image.name(), digest: image.digest()? });
        serde_json::to_string(&self.0.iter().filter_map(line).collect::<Vec<_>>()).expect("texts are always JSON")
    }

    /// What get wrote.
    ///
    /// # Errors
    ///
    /// It is another text than [`Bases::to_json`] makes.
    pub fn of_json(text: &[u8]) -> Result<Self, serde_json::Error> {
        let lines: Vec<Line> = serde_json::from_slice(text)?;
        let image = |Line { name, digest }| format!("{name}@{digest}").parse().map_err(serde::de::Error::custom);
        lines.into_iter().map(image).collect::<Result<_, _>>().map(Self)
    }
}

/// What check answers when bases are followed. `versions` are those that git tells, oldest first, the given one among
/// them; `bases` are those of the present, as far as they are known.
///
/// The given version is answered as it is. When it is the newest, and its bases moved, the version with the new ones
/// comes after it. A version whose bases are not known is one that check cannot tell them of: a put made it.
pub fn announce(versions: &[Version], given: Option<&Version>, bases: &BTreeMap<Version, BasesId>) -> Vec<Version> {
    let mut announced = Vec::new();
    for version in versions {
        let now = Version { bases: bases.get(version).copied().or(version.bases), ..*version };
        match given.filter(|given| given.without_bases() == version.without_bases()) {
            None => announced.push(now),
            Some(given) => {
                announced.push(*given);
                if versions.last() == Some(version) && now.bases.is_some() && now.bases != given.bases {
                    announced.push(now);
                }
            }
        }
    }
    announced
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::inputs::tests::recipe;
    use crate::names::{CommitId, InputsId};

    fn digest(number: u8) -> Digest {
        Digest::from_bytes([number; 32])
    }

    fn id(number: u8) -> BasesId {
        BasesId::from_bytes([number; 32])
    }

    fn all(text: &str, contexts: &[(&str, NamedContext)]) -> Result<Vec<(String, String)>, String> {
        let contexts = contexts.iter().map(|(name, context)| ((*name).to_owned(), context.clone())).collect();
        let recipe = Recipe { contexts, ..recipe() };
        let found = wanted(&recipe, text.as_bytes(), &BTreeMap::new()).map_err(|unclear| unclear.why)?;
        Ok(found.into_iter().map(|(key, image)| (key, image.to_string())).collect())
    }

    #[test]
    fn the_images_of_a_build_are_held_by_their_contexts() {
        let image = |text: &str| NamedContext::Image(text.to_owned());
        let directory = NamedContext::Directory(crate::names::GitPath::new("d"));
        for (text, contexts, expected) in [
            ("FROM debian:12\n", vec![], vec![("debian:12", "docker.io/library/debian:12")]),
            (
                "FROM a\nCOPY --from=r.example/b:1 /x /\n",
                vec![],
                vec![("a", "docker.io/library/a:latest"), ("r.example/b:1", "r.example/b:1")],
            ),
            ("FROM debian:12\n", vec![("debian:12", image("r.example/d:1"))], vec![("debian:12", "r.example/d:1")]),
            (
                "FROM debian:12\n",
                vec![("docker.io/library/debian:12", image("r.example/d:1"))],
                vec![("debian:12", "r.example/d:1")],
            ),
            (
                "FROM code\nCOPY --from=b /x /\n",
                vec![("code", directory), ("unused", image("u"))],
                vec![("b", "docker.io/library/b:latest")],
            ),
            (
                "FROM a AS stage\nFROM stage\n",
                vec![("stage", image("r.example/s:1"))],
                vec![("stage", "r.example/s:1")],
            ),
        ] {
            let expected = expected.into_iter().map(|(key, image)| (key.to_owned(), image.to_owned())).collect();
            assert_eq!(all(text, &contexts), Ok(expected), "{text:?} {contexts:?}");
        }
        for (text, why) in [
            ("FROM a AS a\n", "a stage has the name of the image a; give the stage another name"),
            ("FROM A\n", "image \"A\" has upper-case letters, which a repository may not have"),
        ] {
            assert_eq!(all(text, &[]), Err(why.to_owned()));
        }
    }

    #[test]
    fn bases_are_one_text_whatever_they_are_called() {
        let wanted = Wanted::from([
            ("debian:12".to_owned(), "debian:12".parse().expect("a reference")),
            ("b".to_owned(), format!("r.example/b@{}", digest(2)).parse().expect("a reference")),
        ]);
        assert_eq!(Bases::of(&wanted, |_| None), Err(&wanted["debian:12"]));
        let bases = Bases::of(&wanted, |_| Some(digest(1))).expect("all are known");
        let lines = format!("docker.io/library/debian:12@{}\nr.example/b@{}\n", digest(1), digest(2));
        assert_eq!(bases.id().to_string(), Digest::of(lines.as_bytes()).hex());
        assert_eq!(bases.to_label(), lines.trim_end().replace('\n', " "));
        assert_eq!(Bases::of_label(&bases.to_label(), bases.id()), Some(bases.clone()));
        assert_eq!(Bases::of_label("docker.io/library/debian:12", bases.id()), None);
        assert_eq!(Bases::of_json(bases.to_json().as_bytes()).expect("it is its own"), bases);
        assert_eq!(bases.digest(&wanted["debian:12"]), Some(digest(1)));
        assert_eq!(bases.digest(&"debian:11".parse().expect("a reference")), None);
    }

    #[test]
    fn check_answers_a_version_for_bases_that_moved() {
        let of_git = |number| Version::of_git(CommitId::from_bytes([number; 20]), InputsId::from_bytes([number; 32]));
        let with = |number, bases| Version { bases: Some(id(bases)), ..of_git(number) };
        let (one, two) = (of_git(1), of_git(2));
        let now = BTreeMap::from([(one, id(7)), (two, id(8))]);
        for (name, versions, given, bases, expected) in [
            ("first", vec![one], None, &now, vec![with(1, 7)]),
            ("nothing moved", vec![one], Some(with(1, 7)), &now, vec![with(1, 7)]),
            ("a base moved", vec![one], Some(with(1, 6)), &now, vec![with(1, 6), with(1, 7)]),
            ("just switched on", vec![one], Some(one), &now, vec![one, with(1, 7)]),
            ("a commit", vec![one, two], Some(with(1, 6)), &now, vec![with(1, 6), with(2, 8)]),
            ("two commits at first", vec![one, two], None, &now, vec![with(1, 7), with(2, 8)]),
            ("made by a put", vec![one], Some(with(1, 6)), &BTreeMap::new(), vec![with(1, 6)]),
            ("the branch was reset", vec![two], Some(with(1, 6)), &now, vec![with(2, 8)]),
            (
                "only what is built",
                vec![one, with(2, 5)],
                Some(with(1, 6)),
                &BTreeMap::new(),
                vec![with(1, 6), with(2, 5)],
            ),
            ("nothing", vec![], Some(one), &now, vec![]),
        ] {
            assert_eq!(announce(&versions, given.as_ref(), bases), expected, "{name}");
        }
    }
}
