//! When dead tags were pulled, where the registry tells: who pulls a tag still needs its image.
//!
//! The journal notes the time that the registry tells. When it tells another one later, the tag's clock begins anew. Only
//! the registry's times are compared with each other, never with a clock of ours.
//!
//! The reaper's own reads count as pulls too: on Harbor every GET of a manifest does, and is told some seconds later. So a
//! first look at an image may cost its tags one grace period more. It must not do so in each run, or nothing would ever be
//! dead: the journal also notes what a dead image says of itself, and the image is not read again. A digest never changes
//! what it says, so that changes no verdict.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::journal::{Before, Dead};
use super::{Labels, Origin, Reason, RegistryFacts, Rules, Verdict, attached};
use crate::clients::registry::PullTimes;
use crate::names::{CommitId, Digest, GitRepository, InputsId};

/// What the registry tells of pulls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Pulls {
    /// It was not asked: no tag is dead, or there is no grace period.
    #[default]
    NotAsked,
    /// This registry does not tell.
    NotTold,
    /// It would tell, and refuses.
    Refused {
        /// Why, in one line.
        why: String,
    },
    /// It tells.
    Told(PullTimes),
}

/// The clock of a dead tag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clock {
    /// Since when the tag is dead; `None` when the clock has not begun.
    pub since: Option<Timestamp>,
    /// When it was pulled last, as the registry tells.
    pub pulled: Option<Timestamp>,
    /// When it was first seen dead, if its clock began anew since then.
    pub first: Option<Timestamp>,
    /// Whether it stands still: there was a pull, and whether there was one since is refused.
    pub stands: bool,
}

/// What a dead image of ours says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// The commit in its labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    commit: Option<CommitId>,
    /// What its content tag ends in, by its labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<InputsId>,
    /// What the index has; `None` when that was not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub children: Option<BTreeSet<Digest>>,
}

impl Noted {
    /// How much space it takes in a journal, at most.
    pub(super) fn bytes(&self) -> usize {
        250 + 80 * self.children.as_ref().map_or(0, BTreeSet::len)
    }

    /// The labels, as far as a verdict depends on them.
    pub fn labels(&self, repository: &GitRepository) -> Labels {
        Labels {
            repository: Some(repository.to_string()),
            commit: self.commit.as_ref().map(ToString::to_string),
            // Without bases, a content tag ends in what the label says.
            inputs: self.content.as_ref().map(ToString::to_string),
            bases: None,
        }
    }
}

/// What is to be noted of dead images, so that they need not be read again.
pub(super) fn noted(
    registry: &RegistryFacts,
    before: &Before,
    rules: &Rules,
    reasons: &BTreeMap<&str, Reason>,
) -> BTreeMap<Digest, Noted> {
    match registry.pulls {
        // Here reading an image may count as a pull.
        Pulls::Told(_) | Pulls::Refused { .. } => {}
        Pulls::NotAsked => return before.journal().map(|journal| journal.images.clone()).unwrap_or_default(),
        Pulls::NotTold => return BTreeMap::new(),
    }
    let images = dead(reasons).filter_map(|tag| registry.tags[tag].image());
    let noted = images.filter_map(|(digest, origin)| {
        let Origin::Labels(labels) = origin else { return None };
        let noted = Noted {
            commit: labels.commit.as_deref().and_then(|commit| commit.parse().ok()),
            content: labels.content(),
            children: registry.children.get(&digest).cloned(),
        };
        (labels.repository.as_deref() == Some(rules.repository.as_str())).then_some((digest, noted))
    });
    noted.collect()
}

/// The clocks of the tags that are dead.
pub(super) fn clocks<'a>(
    registry: &RegistryFacts,
    before: &Before,
    reasons: &BTreeMap<&'a str, Reason>,
    staying: &BTreeMap<Digest, Vec<&str>>,
    now: Timestamp,
) -> BTreeMap<&'a str, Clock> {
    let clock = |tag: &'a str| {
        let state = &registry.tags[tag];
        let image = state.image().map(|(digest, _)| digest);
        // An artifact of ours is read in each run; what belongs to an image has its clock from there, see below.
        let image_of_its_own = image.filter(|_| attached::subject(tag).is_none());
        let told = image_of_its_own.and_then(|it| told(&registry.pulls, tag, it, !staying.contains_key(&it)));
        let noted = image.or(state.digest()).and_then(|what| before.dead(tag, what, now));
        (
            tag,
            noted.map_or(Clock { pulled: told, ..Clock::default() }, |noted| go_on(noted, &registry.pulls, told, now)),
        )
    };
    let mut clocks: BTreeMap<&str, Clock> = dead(reasons).map(clock).collect();
    // What belongs to an image is as long in use as the image.
    let mut latest: BTreeMap<Digest, Clock> = BTreeMap::new();
    for (tag, clock) in clocks.iter().filter(|(tag, _)| attached::subject(tag).is_none()) {
        let Some((image, _)) = registry.tags[*tag].image() else { continue };
        for digest in std::iter::once(&image).chain(registry.children.get(&image).into_iter().flatten()) {
            let latest = latest.entry(*digest).or_insert(*clock);
            *latest = latest.later(*clock);
        }
    }
    for (tag, clock) in &mut clocks {
        let subject = attached::subject(tag).filter(|_| matches!(reasons[tag], Reason::AttachedToDead(_)));
        if let Some(of_image) = subject.and_then(|subject| latest.get(&subject)) {
            *clock = clock.later(*of_image);
        }
    }
    clocks
}

fn dead<'a>(reasons: &BTreeMap<&'a str, Reason>) -> impl Iterator<Item = &'a str> {
    reasons.iter().filter(|(_, reason)| reason.verdict() == Verdict::Remove).map(|(tag, _)| *tag)
}

/// When a tag was pulled last. Where its image stays by another tag, pulls of the image say nothing of this tag, and our own
/// reads of what stays would count.
fn told(pulls: &Pulls, tag: &str, image: Digest, is_alone: bool) -> Option<Timestamp> {
    let Pulls::Told(PullTimes { tags, images }) = pulls else { return None };
    let of_image = images.get(&image).filter(|_| is_alone);
    tags.get(tag).into_iter().chain(of_image).max().copied()
}

/// The clock of a tag that was dead before.
fn go_on(noted: &Dead, pulls: &Pulls, told: Option<Timestamp>, now: Timestamp) -> Clock {
    let Dead { since, image: _, pulled, first } = *noted;
    let same = Clock { since: Some(since), pulled, first, stands: false };
    let anew = Clock { since: Some(now), pulled: told, first: first.or(Some(since)), stands: false };
    match pulls {
        Pulls::NotAsked => same,
        Pulls::Refused { .. } => Clock { stands: pulled.is_some(), ..same },
        // What was told before is told no more, for good: a pull meanwhile went unseen.
        Pulls::NotTold if pulled.is_some() => anew,
        Pulls::NotTold => same,
        Pulls::Told(_) if told.is_some() && told != pulled => anew,
        Pulls::Told(_) => Clock { pulled: told, ..same },
    }
}

impl Clock {
    /// The one that ends later.
    fn later(self, other: Self) -> Self {
        let since = match (self.since, other.since) {
            (Some(since), Some(others)) => Some(since.max(others)),
            (None, _) | (_, None) => None,
        };
        Self { since, stands: self.stands || other.stands, ..self }
    }
}
