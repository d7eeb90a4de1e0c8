//! Since when tags are dead.
//!
//! The registry is the only place that every run sees, so the journal is an artifact behind a tag of its own. What is
//! lost of it makes a tag stay longer, never shorter: a tag that it does not name is seen dead for the first time.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Refusal, RegistryFacts, Rules, TagState, form};
use crate::decide::tags::{self, OurTag};
use crate::names::Digest;

/// Since when tags are dead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// When it was written.
    pub written: Timestamp,
    /// The tags that are dead.
    pub dead: BTreeMap<String, Dead>,
}

/// A tag that was seen dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dead {
    /// When a run saw it dead, and no run since saw it alive.
    pub since: Timestamp,
    /// What it pointed to. A tag that points elsewhere now was pushed since.
    pub image: Digest,
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
    /// The most tags that a journal names. With names as long as can be it stays below the 4 MiB that are read of it.
    pub const CAPACITY: usize = 15_000;

    /// A journal of these tags. When they are too many, the newest are left out: their clock starts later.
    pub fn new(written: Timestamp, dead: BTreeMap<String, Dead>) -> Self {
        if dead.len() <= Self::CAPACITY {
            return Self { written, dead };
        }
        let mut oldest: Vec<(String, Dead)> = dead.into_iter().collect();
        oldest.sort_by_key(|(_, dead)| dead.since);
        oldest.truncate(Self::CAPACITY);
        Self { written, dead: oldest.into_iter().collect() }
    }

    /// Since when a tag with this image is dead; `None` when its clock has not begun.
    ///
    /// A time that lies ahead says that a clock was wrong: it counts for nothing.
    pub fn since(&self, tag: &str, image: Digest, now: Timestamp) -> Option<Timestamp> {
        let dead = self.dead.get(tag).filter(|dead| dead.image == image)?;
        (self.written <= now && dead.since <= now).then_some(dead.since)
    }

    /// What two runs at once agree on: no clock runs that is not in both, and each as late as either says.
    #[must_use]
    pub fn agreed(self, other: &Self) -> Self {
        let Self { written, dead } = self;
        let agree = |(tag, mine): (String, Dead)| {
            let since = match other.since(&tag, mine.image, written) {
                Some(theirs) => mine.since.max(theirs),
                None => written,
            };
            (tag, Dead { since, ..mine })
        };
        Self { written, dead: dead.into_iter().map(agree).collect() }
    }
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

    /// Since when a tag with this image is dead; `None` when its clock has not begun.
    pub(super) fn since(&self, tag: &str, image: Digest, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Read(journal) => journal.since(tag, image, now),
            Self::None | Self::Unreadable { .. } => None,
        }
    }
}

fn other(tag: &str, repository: Option<&str>, rules: &Rules) -> Refusal {
    Refusal::OtherJournal {
        tag: tag.to_owned(),
        repository: repository.map(str::to_owned),
        tag_prefix: rules.tag_prefix.clone(),
    }
}
