//! Reads what the decision needs of one repository.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::WRITER;
use super::outside::Pruned;
use crate::clients::registry::{Descriptor, Manifest};
use crate::commands::reap::ReapError;
use crate::commands::reap::outside::{READS, at_once};
use crate::commands::reap::read::{closure, is_index, note};
use crate::decide::prune::{Found, State};
use crate::decide::reap::artifact::{self, Kind, MANIFEST_BYTES, Note};
use crate::decide::reap::attached;
use crate::names::{Digest, Tag};
use crate::say::Say;

/// What a digest is.
enum Known {
    /// The registry has no such manifest.
    Gone,
    /// Somebody's image, and when it was made.
    Image(Result<Timestamp, String>),
    /// A tombstone of ours.
    Tombstone(Note),
    /// A probe of ours.
    Canary,
    /// An artifact of a reaper.
    Reaper,
}

/// Reads every tag, and when its image was made.
///
/// # Errors
///
/// The list, a manifest, or what a tag points to, cannot be read. A config that cannot is no error.
pub async fn repository<R: Pruned>(registry: &R, say: &Say) -> Result<Found, ReapError> {
    let listed = registry.tags().await?;
    let tags = listed.iter().filter_map(|text| text.parse::<Tag>().ok());
    let described: BTreeMap<Tag, Option<Descriptor>> =
        at_once(READS, tags, async |tag| Ok((tag.clone(), registry.describe(&tag).await?))).await?;

    // What belongs to an image is told by its name, unless a tombstone lies on it.
    let is_asked =
        |tag: &Tag, found: &Descriptor| attached::subject(tag.as_str()).is_none() || found.size == MANIFEST_BYTES;
    let asked = described.iter().filter_map(|(tag, found)| Some((tag, found.as_ref()?)));
    let asked: BTreeSet<Digest> =
        asked.filter(|(tag, found)| is_asked(tag, found)).map(|(_, found)| found.digest).collect();
    let mut known = look_at(registry, asked).await?;
    let hidden = known.values().filter_map(|one| match one {
        Known::Tombstone(note) => Some(&note.tags),
        Known::Gone | Known::Image(_) | Known::Canary | Known::Reaper => None,
    });
    let hidden = hidden.flatten().map(|(tag, digest)| (tag.clone(), *digest));
    let (begun, hidden): (BTreeMap<_, _>, BTreeMap<_, _>) =
        hidden.partition(|(tag, _)| attached::subject(tag).is_some());
    let below = hidden.values().chain(begun.values()).filter(|digest| !known.contains_key(digest)).copied().collect();
    known.extend(look_at(registry, below).await?);

    let mut children = BTreeMap::new();
    let (indexes, images): (Vec<_>, Vec<_>) =
        described.values().flatten().partition(|found| is_index(&found.media_type));
    // A tag may be on an image of an index, and what belongs to an image, to one of them.
    if !images.is_empty() {
        let indexes: BTreeSet<Digest> = indexes.into_iter().map(|found| found.digest).collect();
        children = at_once(READS, indexes, async |digest| Ok((digest, closure(registry, digest).await?))).await?;
    }
    let tags = listed.into_iter().map(|text| {
        let found = text.parse::<Tag>().ok().and_then(|tag| described.get(&tag)?.as_ref());
        let state = found.map_or(State::Missing, |found| state(&text, found.digest, &known));
        (text, state)
    });
    let tags = tags.collect();
    let created = known.into_iter().filter_map(|(digest, one)| match one {
        Known::Image(created) => Some((digest, created)),
        Known::Gone | Known::Tombstone(_) | Known::Canary | Known::Reaper => None,
    });
    let pushed = registry.pushed().await?.unwrap_or_else(|why| {
        say.line(format_args!("{}: when the images were pushed is not told: {why}", registry.repository()));
        BTreeMap::new()
    });
    Ok(Found { tags, created: created.collect(), pushed, begun, children })
}

fn state(tag: &str, digest: Digest, known: &BTreeMap<Digest, Known>) -> State {
    match known.get(&digest) {
        Some(Known::Gone) => State::Missing,
        Some(Known::Canary) => State::Canary(digest),
        Some(Known::Reaper) => State::Reaper(digest),
        Some(Known::Tombstone(note)) => {
            let image = note.tags.get(tag).copied();
            State::Tombstone { digest, image: image.filter(|image| matches!(known.get(image), Some(Known::Image(_)))) }
        }
        Some(Known::Image(_)) | None => State::Image(digest),
    }
}

async fn look_at<R: Pruned>(registry: &R, digests: BTreeSet<Digest>) -> Result<BTreeMap<Digest, Known>, ReapError> {
    at_once(READS, digests, async |digest| {
        let manifest = registry.manifest(&digest).await?;
        let known = match manifest {
            None => Known::Gone,
            Some(manifest) => known(registry, &manifest).await,
        };
        Ok((digest, known))
    })
    .await
}

async fn known<R: Pruned>(registry: &R, manifest: &Manifest) -> Known {
    let (config, as_ours): (_, fn(Note) -> Known) = match artifact::kind(manifest) {
        Kind::Other => return Known::Image(registry.created(manifest).await),
        Kind::Journal(_) => return Known::Reaper,
        Kind::Tombstone(config) => (config, Known::Tombstone),
        Kind::Canary(config) => (config, |_| Known::Canary),
    };
    match note::<R, Note>(registry, &config).await {
        Ok(note) if note.repository == WRITER => as_ours(note),
        Ok(_) | Err(_) => Known::Reaper,
    }
}
