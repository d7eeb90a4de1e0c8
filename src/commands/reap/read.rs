//! Reads what the decision needs of a registry.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;

use super::ReapError;
use super::canary::is_refusal;
use super::outside::{READS, RegistrySide, at_once};
use crate::clients::registry::{Descriptor, Manifest};
use crate::decide::reap::artifact::{self, JournalNote, Kind, Note};
use crate::decide::reap::attached::{self, Subject};
use crate::decide::reap::pulls::Pulls;
use crate::decide::reap::{self as decide, Before, Blobs, Labels, Origin, Plan, RegistryFacts, Rules, TagState};
use crate::decide::tags::{self, OurTag};
use crate::names::{Digest, Repository, Tag};

/// Manifests that were read, by their digest: a digest never changes what it says, so none is read twice.
#[derive(Default)]
pub struct Images(BTreeMap<Digest, Known>);

/// What is known of a digest.
enum Known {
    /// Somebody's image, not read: the journal notes its labels, and what it has if it is an index.
    Noted(Labels, Option<BTreeSet<Digest>>),
    /// The registry has no such manifest.
    Gone,
    /// Somebody's image.
    Image(Manifest, Origin),
    /// A tombstone of ours, if its note could be read.
    Tombstone(Manifest, Note),
    /// A probe.
    Canary(Manifest, Note),
    /// A journal, if its note could be read.
    Journal(Manifest, Result<JournalNote, String>),
}

impl Images {
    /// The bytes of a manifest that was read.
    pub fn manifest(&self, digest: &Digest) -> Option<&Manifest> {
        match self.0.get(digest)? {
            Known::Gone | Known::Noted(..) => None,
            Known::Image(manifest, _)
            | Known::Tombstone(manifest, _)
            | Known::Canary(manifest, _)
            | Known::Journal(manifest, _) => Some(manifest),
        }
    }

    /// An image that was read, and what it says of itself.
    pub fn image(&self, digest: &Digest) -> Option<(&Manifest, &Origin)> {
        match self.0.get(digest)? {
            Known::Image(manifest, origin) => Some((manifest, origin)),
            Known::Gone | Known::Noted(..) | Known::Tombstone(..) | Known::Canary(..) | Known::Journal(..) => None,
        }
    }

    /// Whether a journal was read that names images without a tag.
    fn notes_untagged(&self) -> bool {
        self.0.values().any(|known| matches!(known, Known::Journal(_, Ok(note)) if !note.journal.untagged.is_empty()))
    }

    /// Reads those that are not known yet.
    ///
    /// # Errors
    ///
    /// A manifest cannot be read.
    pub async fn read<R: RegistrySide>(&mut self, registry: &R, digests: BTreeSet<Digest>) -> Result<(), ReapError> {
        let is_known = |digest: &Digest| {
            !matches!(self.0.get(digest), None | Some(Known::Noted(..) | Known::Image(_, Origin::NotRead)))
        };
        let unknown = digests.into_iter().filter(|digest| !is_known(digest));
        let read: Vec<_> =
            at_once(READS, unknown, async |digest| Ok((digest, read_image(registry, &digest).await?))).await?;
        self.0.extend(read);
        Ok(())
    }

    /// Reads the manifests of those that are not known yet, to have them when somebody else removes them.
    ///
    /// # Errors
    ///
    /// A manifest cannot be read.
    pub async fn save<R: RegistrySide>(&mut self, registry: &R, digests: BTreeSet<Digest>) -> Result<(), ReapError> {
        let is_known = |digest: &Digest| !matches!(self.0.get(digest), None | Some(Known::Noted(..)));
        let unknown = digests.into_iter().filter(|digest| !is_known(digest));
        let read: Vec<_> =
            at_once(READS, unknown, async |digest| Ok((digest, registry.manifest(&digest).await?))).await?;
        for (digest, manifest) in read {
            let Some(manifest) = manifest else { continue };
            let image = Known::Image(manifest, self.origin(&digest));
            self.0.insert(digest, image);
        }
        Ok(())
    }

    /// Takes what the journal of this git repository and prefix notes of images that are not known yet.
    fn take_noted(&mut self, journal: &Digest, rules: &Rules) {
        let Some(Known::Journal(_, Ok(note))) = self.0.get(journal) else { return };
        if note.repository == rules.repository.as_str() {
            for (digest, noted) in note.journal.images.clone() {
                let known = Known::Noted(noted.labels(&rules.repository), noted.children);
                self.0.entry(digest).or_insert(known);
            }
        }
    }

    fn origin(&self, digest: &Digest) -> Origin {
        match self.0.get(digest) {
            Some(Known::Image(_, origin)) => origin.clone(),
            Some(Known::Noted(labels, _)) => Origin::Labels(labels.clone()),
            Some(Known::Tombstone(..) | Known::Canary(..) | Known::Journal(..)) => {
                Origin::Unreadable { why: "it is an artifact of the reaper".to_owned() }
            }
            Some(Known::Gone) | None => Origin::NotRead,
        }
    }

    fn state(&self, tag: &Tag, digest: Digest) -> TagState {
        match self.0.get(&digest) {
            Some(Known::Gone) => TagState::Missing,
            Some(Known::Canary(_, note)) => TagState::Canary { digest, repository: note.repository.clone() },
            Some(Known::Journal(_, note)) => TagState::Journal {
                digest,
                repository: note.as_ref().ok().map(|note| note.repository.clone()),
                journal: note.as_ref().map(|note| note.journal.clone()).map_err(String::clone),
            },
            Some(Known::Tombstone(_, note)) => TagState::Tombstone {
                digest,
                repository: note.repository.clone(),
                before: note.tags.get(tag.as_str()).map(|&digest| match self.0.get(&digest) {
                    Some(Known::Gone) => Before::Gone,
                    Some(_) | None => Before::Image { digest, origin: self.origin(&digest) },
                }),
            },
            Some(Known::Image(..) | Known::Noted(..)) | None => {
                TagState::Image { digest, origin: self.origin(&digest) }
            }
        }
    }
}

/// Reads every tag, and what of it the reaper itself has written. A tag of `known` that is still listed is taken to be
/// what it was, and not asked for. The labels of images are not read: see [`labels`].
///
/// # Errors
///
/// The list, or what a tag points to, cannot be read.
pub async fn registry<R: RegistrySide>(
    registry: &R,
    repository: &Repository,
    rules: &Rules,
    known: &BTreeMap<String, TagState>,
    images: &mut Images,
) -> Result<RegistryFacts, ReapError> {
    let listed = registry.tags().await?;
    let unknown = listed.iter().filter(|&text| !known.contains_key(text)).filter_map(|text| text.parse::<Tag>().ok());
    let described: BTreeMap<Tag, Option<Descriptor>> =
        at_once(READS, unknown, async |tag| Ok((tag.clone(), registry.describe(&tag).await?))).await?;

    // First what may be our journal: the images that it notes need not be looked at.
    let reserved = described.iter().filter(|(tag, _)| decide::form(rules, tag.as_str()) == OurTag::Reaper);
    images.read(registry, reserved.filter_map(|(_, found)| Some(found.as_ref()?.digest)).collect()).await?;
    let journal = described.get(&tags::journal_tag(&rules.tag_prefix, &rules.repository));
    if let Some(found) = journal.and_then(Option::as_ref) {
        images.take_noted(&found.digest, rules);
    }

    // What the reaper has written is told by its size.
    let may_be_ours = |(tag, found): (&Tag, &Option<Descriptor>)| {
        let found = found.as_ref()?;
        let is_ours = match decide::form(rules, tag.as_str()) {
            OurTag::Reaper => false,
            OurTag::Foreign => {
                let may_go = rules.is_of_a_branch(tag.as_str()) || attached::subject(tag.as_str()).is_some();
                may_go && found.size == artifact::MANIFEST_BYTES
            }
            OurTag::Content(_) | OurTag::Commit(_) | OurTag::Latest { .. } | OurTag::Cache { .. } => {
                found.size == artifact::MANIFEST_BYTES
            }
        };
        let is_image = matches!(images.0.get(&found.digest), Some(Known::Noted(..)));
        (is_ours && !is_image).then_some(found.digest)
    };
    let ours = described.iter().filter_map(may_be_ours).collect();
    images.read(registry, ours).await?;
    let below = images.0.values().filter_map(|image| match image {
        Known::Tombstone(_, note) => Some(note.tags.values().copied()),
        Known::Gone | Known::Noted(..) | Known::Image(..) | Known::Canary(..) | Known::Journal(..) => None,
    });
    let below = below.flatten().collect();
    images.read(registry, below).await?;

    let mut children = BTreeMap::new();
    let asks_for_parts = rules.delete_untagged && images.notes_untagged();
    if asks_for_parts || listed.iter().any(|tag| attached::subject(tag).is_some()) {
        let indexes =
            described.values().flatten().filter(|found| is_index(&found.media_type)).map(|found| found.digest);
        let noted = images.0.iter().filter_map(|(digest, known)| match known {
            Known::Noted(_, Some(children)) => Some((*digest, children.clone())),
            Known::Noted(_, None)
            | Known::Gone
            | Known::Image(..)
            | Known::Tombstone(..)
            | Known::Canary(..)
            | Known::Journal(..) => None,
        });
        children = noted.collect::<BTreeMap<_, _>>();
        let indexes: BTreeSet<Digest> = indexes.filter(|digest| !children.contains_key(digest)).collect();
        let read: Vec<_> =
            at_once(READS, indexes, async |digest| Ok((digest, closure(registry, digest).await?))).await?;
        children.extend(read);
    }
    let states = listed.into_iter().map(|text| {
        if let Some(state) = known.get(&text) {
            return (text, state.clone());
        }
        // What the grammar of tags does not allow cannot be asked for, and is not ours.
        let found = text.parse::<Tag>().ok().and_then(|tag| Some((described.get(&tag)?.as_ref()?.digest, tag)));
        let state = found.map_or(TagState::Missing, |(digest, tag)| images.state(&tag, digest));
        (text, state)
    });
    let (subjects, pulls) = (BTreeMap::new(), Pulls::NotAsked);
    Ok(RegistryFacts { repository: repository.to_string(), tags: states.collect(), children, subjects, pulls })
}

/// Whether a media type is that of an index, OCI's or Docker's.
pub fn is_index(media_type: &str) -> bool {
    media_type.contains(".image.index.") || media_type.contains(".manifest.list.")
}

/// Whether a media type is that of a manifest, an index included, OCI's or Docker's.
pub fn is_manifest(media_type: &str) -> bool {
    is_index(media_type) || media_type.contains(".image.manifest.") || media_type.contains(".distribution.manifest.")
}

/// What an index has, also what lies deeper.
///
/// # Errors
///
/// A manifest cannot be read.
pub async fn closure<R: RegistrySide>(registry: &R, index: Digest) -> Result<BTreeSet<Digest>, ReapError> {
    let (mut closure, mut left) = (BTreeSet::new(), vec![index]);
    while let Some(digest) = left.pop() {
        let Some(manifest) = registry.manifest(&digest).await? else { continue };
        for child in registry.children(&manifest) {
            if closure.insert(child.digest) && is_index(&child.media_type) {
                left.push(child.digest);
            }
        }
    }
    Ok(closure)
}

/// Reads the labels of these images into what is known of the tags. Labels that cannot be read are no error: such a tag is
/// kept.
///
/// # Errors
///
/// A manifest cannot be read.
pub async fn labels<R: RegistrySide>(
    registry: &R,
    digests: &BTreeSet<Digest>,
    facts: &mut RegistryFacts,
    images: &mut Images,
) -> Result<(), ReapError> {
    images.read(registry, digests.clone()).await?;
    let tagged: BTreeSet<Digest> = facts.tags.values().filter_map(TagState::image_digest).collect();
    for digest in digests.difference(&tagged) {
        let subject = match images.0.get(digest) {
            Some(Known::Gone) | None => Subject::Gone,
            Some(_) => Subject::Image(images.origin(digest)),
        };
        facts.subjects.insert(*digest, subject);
    }
    for (text, state) in &mut facts.tags {
        let digest = match state {
            TagState::Image { digest, origin: Origin::NotRead } if digests.contains(digest) => *digest,
            TagState::Tombstone { digest, before: Some(Before::Image { digest: below, .. }), .. }
                if digests.contains(below) =>
            {
                *digest
            }
            TagState::Image { .. }
            | TagState::Tombstone { .. }
            | TagState::Missing
            | TagState::Canary { .. }
            | TagState::Journal { .. } => continue,
        };
        if let Ok(tag) = text.parse() {
            *state = images.state(&tag, digest);
        }
    }
    Ok(())
}

/// The blobs of every image that a tag stands for. Their manifests are not kept. Left out are dead images that would have
/// to be read once more, where that counts as a pull.
///
/// # Errors
///
/// A manifest cannot be read.
pub async fn blobs<R: RegistrySide>(registry: &R, plan: &Plan, images: &Images) -> Result<Blobs, ReapError> {
    let digests: BTreeSet<Digest> = plan.judgements().iter().filter_map(|judgement| judgement.image).collect();
    let digests = digests.into_iter().filter(|digest| images.manifest(digest).is_some() || !plan.spares(digest));
    at_once(READS, digests, async |digest| {
        let blobs = match images.manifest(&digest) {
            Some(manifest) => registry.blobs(manifest).await?,
            None => match registry.manifest(&digest).await? {
                Some(manifest) => registry.blobs(&manifest).await?,
                None => Vec::new(),
            },
        };
        Ok((digest, blobs))
    })
    .await
}

async fn read_image<R: RegistrySide>(registry: &R, digest: &Digest) -> Result<Known, ReapError> {
    let Some(manifest) = registry.manifest(digest).await? else { return Ok(Known::Gone) };
    let unreadable = |why| Origin::Unreadable { why };
    Ok(match artifact::kind(&manifest) {
        Kind::Tombstone(config) => match note(registry, &config).await {
            Ok(note) => Known::Tombstone(manifest, note),
            Err(why) => Known::Image(manifest, unreadable(why)),
        },
        Kind::Canary(config) => match note(registry, &config).await {
            Ok(note) => Known::Canary(manifest, note),
            Err(why) => Known::Image(manifest, unreadable(why)),
        },
        Kind::Journal(config) => {
            let note = journal_note(registry, &config).await?;
            Known::Journal(manifest, note)
        }
        Kind::Other => {
            let origin = registry.labels(&manifest).await.map_or_else(unreadable, Origin::Labels);
            Known::Image(manifest, origin)
        }
    })
}

/// The config of an artifact of ours; or why it cannot be read.
pub async fn note<R: RegistrySide, T: DeserializeOwned>(registry: &R, config: &Descriptor) -> Result<T, String> {
    let bytes = registry.note(config).await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

/// The config of a journal; or why it cannot be read. What it says must not be forgotten because of a moment's trouble:
/// that is an error.
async fn journal_note<R: RegistrySide>(
    registry: &R,
    config: &Descriptor,
) -> Result<Result<JournalNote, String>, ReapError> {
    match registry.note(config).await {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).map_err(|error| error.to_string())),
        Err(error) if is_refusal(&error) => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

/// What a journal says that another run has written meanwhile; `None` when it cannot be read.
pub async fn journal<R: RegistrySide>(registry: &R, digest: &Digest) -> Result<Option<JournalNote>, ReapError> {
    let Some(manifest) = registry.manifest(digest).await? else { return Ok(None) };
    match artifact::kind(&manifest) {
        Kind::Journal(config) => Ok(journal_note(registry, &config).await?.ok()),
        Kind::Tombstone(_) | Kind::Canary(_) | Kind::Other => Ok(None),
    }
}
