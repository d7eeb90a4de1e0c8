//! Since when tags are dead, and which images runs have left without a tag.
//!
//! The registry is the only place that every run sees, so the journal is an artifact behind a tag of its own. What is
//! lost of it makes a tag stay longer, never shorter: a tag that it does not name is seen dead for the first time, and an
//! image that it does not name is never deleted.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::pulls::Noted;
use super::{Refusal, RegistryFacts, Rules, TagState, form};
use crate::decide::tags::{self, OurTag};
use crate::names::{CommitId, Digest};

/// Since when tags are dead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// When it was written.
    pub written: Timestamp,
    /// The tags that are dead.
    pub dead: BTreeMap<String, Dead>,
    /// The images without a tag, when these are to be deleted too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub untagged: BTreeMap<Digest, Untagged>,
    /// What the images of these tags say of themselves, where reading one counts as a pull.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<Digest, Noted>,
}

/// A tag that was seen dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dead {
    /// When a run saw it dead, and no run since saw it alive.
    pub since: Timestamp,
    /// What it pointed to. A tag that points elsewhere now was pushed since.
    pub image: Digest,
    /// When it was pulled last, as the registry told when the tag was seen last. One that tells another time now saw a
    /// pull since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulled: Option<Timestamp>,
    /// When it was first seen dead, if a pull made its clock begin anew since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Timestamp>,
}

/// An image that a run has left without a tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untagged {
    /// When a run saw that no tag is left, and no run since saw one.
    pub since: Timestamp,
    /// The commit that its labels name: while that is alive, the same image may be pushed again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitId>,
    /// The manifests that belong to it: those that an index has, and those that refer to it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub parts: BTreeSet<Digest>,
}

/// The journal of a run before this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Before {
    /// There is none.
    None,
    /// It could be read.
    Read(Journal),
    /// It could not be read: the clock of every dead tag starts anew.
    Unreadable {
        /// Why, in one line.
        why: String,
    },
}

impl Journal {
    /// The most tags that a journal names. With names as long as can be, with all that is noted of each, and with
    /// [`Self::UNTAGGED_BYTES`] and [`Self::IMAGES_BYTES`] besides, it stays below the 8 MiB that are read of it.
    pub const CAPACITY: usize = 11_000;

    /// How much space a journal has for images without a tag: some 9,000 of one platform.
    const UNTAGGED_BYTES: usize = 1 << 20;

    /// How much space it has for what the images of dead tags say of themselves: some 12,000 of one platform.
    const IMAGES_BYTES: usize = 3_000_000;

    /// A journal of these tags and images. When they are too many, the newest are left out: the clock of such a tag starts
    /// later, and such an image is left to the registry.
    pub fn new(written: Timestamp, dead: BTreeMap<String, Dead>, untagged: BTreeMap<Digest, Untagged>) -> Self {
        let mut bytes = 0;
        let fits = |(_, untagged): &(Digest, Untagged)| {
            bytes += untagged.bytes();
            bytes <= Self::UNTAGGED_BYTES
        };
        let untagged = oldest_first(untagged, |untagged| untagged.since).into_iter().take_while(fits).collect();
        let dead = oldest_first(dead, |dead| dead.since).into_iter().take(Self::CAPACITY).collect();
        Self { written, dead, untagged, images: BTreeMap::new() }
    }

    /// The same with what is known of images, those left out that none of its tags points to, and those that are too much:
    /// they are read again.
    #[must_use]
    pub fn with_images(self, known: &BTreeMap<Digest, Noted>) -> Self {
        let named: BTreeSet<Digest> = self.dead.values().map(|dead| dead.image).collect();
        let mut bytes = 0;
        let fits = known.iter().filter(|(digest, _)| named.contains(digest)).take_while(|(_, noted)| {
            bytes += noted.bytes();
            bytes <= Self::IMAGES_BYTES
        });
        Self { images: fits.map(|(digest, noted)| (*digest, noted.clone())).collect(), ..self }
    }

    /// What is noted of a tag with this image; `None` when its clock has not begun.
    ///
    /// A time that lies ahead says that a clock was wrong: it counts for nothing.
    pub fn dead(&self, tag: &str, image: Digest, now: Timestamp) -> Option<&Dead> {
        let dead = self.dead.get(tag).filter(|dead| dead.image == image)?;
        (self.written <= now && dead.since <= now).then_some(dead)
    }

    /// What two runs at once agree on: no clock runs that is not in both, and each as late as either says.
    #[must_use]
    pub fn agreed(self, other: &Self) -> Self {
        let Self { written, dead, untagged, images } = self;
        let agree = |(tag, mine): (String, Dead)| {
            let since = match other.dead(&tag, mine.image, written) {
                Some(theirs) => mine.since.max(theirs.since),
                None => written,
            };
            (tag, Dead { since, ..mine })
        };
        let mut all = other.untagged.clone();
        all.extend(untagged.clone());
        for (digest, image) in &mut all {
            image.since = match (untagged.get(digest), other.untagged.get(digest)) {
                (Some(mine), Some(theirs)) => mine.since.max(theirs.since),
                (Some(_), None) | (None, Some(_)) | (None, None) => written,
            };
        }
        Self::new(written, dead.into_iter().map(agree).collect(), all).with_images(&images)
    }
}

impl Untagged {
    /// How much space it takes in a journal, at most.
    fn bytes(&self) -> usize {
        180 + 74 * self.parts.len()
    }
}

fn oldest_first<K: Ord, V>(all: BTreeMap<K, V>, since: impl Fn(&V) -> Timestamp) -> Vec<(K, V)> {
    let mut all: Vec<(K, V)> = all.into_iter().collect();
    all.sort_by_key(|(_, one)| since(one));
    all
}

impl Before {
    /// The journal of this git repository and prefix.
    ///
    /// # Errors
    ///
    /// There is a journal of another git repository under this prefix, or something else in the place of ours.
    pub fn of(registry: &RegistryFacts, rules: &Rules) -> Result<Self, Refusal> {
        let ours = tags::journal_tag(&rules.tag_prefix, &rules.repository);
        let others = |tag: &&String| form(rules, tag) == OurTag::Reaper && tag.as_str() != ours.as_str();
        for tag in registry.tags.keys().filter(others) {
            if let TagState::Journal { repository, .. } = &registry.tags[tag]
                && repository.as_deref() != Some(rules.repository.as_str())
            {
                return Err(other(tag, repository.as_deref(), rules));
            }
        }
        match registry.tags.get(ours.as_str()) {
            None | Some(TagState::Missing) => Ok(Self::None),
            Some(TagState::Journal { repository: Some(name), .. }) if name != rules.repository.as_str() => {
                Err(other(ours.as_str(), Some(name), rules))
            }
            Some(TagState::Journal { journal: Ok(journal), .. }) => Ok(Self::Read(journal.clone())),
            Some(TagState::Journal { journal: Err(why), .. }) => Ok(Self::Unreadable { why: why.clone() }),
            Some(TagState::Image { .. } | TagState::Tombstone { .. } | TagState::Canary { .. }) => {
                Err(Refusal::NotAJournal { tag: ours.to_string() })
            }
        }
    }

    /// The journal, when it could be read.
    pub(super) fn journal(&self) -> Option<&Journal> {
        match self {
            Self::Read(journal) => Some(journal),
            Self::None | Self::Unreadable { .. } => None,
        }
    }

    /// What is noted of a tag with this image; `None` when its clock has not begun.
    pub(super) fn dead(&self, tag: &str, image: Digest, now: Timestamp) -> Option<&Dead> {
        self.journal()?.dead(tag, image, now)
    }
}

fn other(tag: &str, repository: Option<&str>, rules: &Rules) -> Refusal {
    Refusal::OtherJournal {
        tag: tag.to_owned(),
        repository: repository.map(str::to_owned),
        tag_prefix: rules.tag_prefix.clone(),
    }
}
