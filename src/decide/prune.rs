//! What prune removes from the repositories of a registry, and why the rest stays.
//!
//! There is no git to ask, so the newest versions of each repository stay: by the time at which the registry got them, where
//! it tells that, else by the time that their configs tell. A version is an image that has a tag which may go by its name;
//! however many tags it has, it counts once, and an image of an index that has a tag counts with that index. Where the
//! order cannot be trusted, nothing of that repository goes. Every tag has a verdict and a reason.

mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use jiff::Timestamp;

use super::reap::{MaxDelete, Order, attached};
use super::tags;
use crate::names::Digest;

/// No image is older: docker came in this year, and builds that can be repeated write 1970 or 1980.
const OLDEST: Timestamp = Timestamp::constant(1_356_998_400, 0);

/// How the tag begins behind which a run notes what it is about to remove after the images that it belongs to. When it is
/// stopped in between, nothing else tells that the image is gone for good, and not only without a tag.
pub const BEGUN: &str = "_reaper-prune-";

/// What stays besides the newest.
#[derive(Debug, Clone)]
pub struct Rules {
    /// How many versions of each repository stay.
    pub keep_last: NonZeroUsize,
    /// Tags that stay; `*` stands for any characters.
    pub protected: Vec<String>,
    /// How many tags one run may remove, from all repositories together.
    pub max_delete: MaxDelete,
}

/// What was read of one repository.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Every tag that is listed, and what it points to.
    pub tags: BTreeMap<String, State>,
    /// When the images were made; or why that cannot be told, in one line.
    pub created: BTreeMap<Digest, Result<Timestamp, String>>,
    /// When the registry got the images, of those of which it tells.
    pub pushed: BTreeMap<Digest, Timestamp>,
    /// What belongs to images of which an earlier prune, which was stopped, was about to remove every tag; and where these
    /// tags pointed to then.
    pub begun: BTreeMap<String, Digest>,
    /// What the indexes have. Read only when another tag belongs to an image, or could be on an image of an index.
    pub children: BTreeMap<Digest, BTreeSet<Digest>>,
}

/// What a tag points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The registry lists it and answers 404 for it.
    Missing,
    /// What prune did not write.
    Image(Digest),
    /// A tombstone that an earlier prune left when it was stopped.
    Tombstone {
        /// Its digest.
        digest: Digest,
        /// Where the tag pointed to before; `None` when the registry does not have that any more.
        image: Option<Digest>,
    },
    /// A probe that an earlier prune left when it was stopped.
    Canary(Digest),
    /// What a reaper wrote.
    Reaper(Digest),
}

impl State {
    fn digest(self) -> Option<Digest> {
        match self {
            Self::Missing => None,
            Self::Image(digest) | Self::Tombstone { digest, .. } | Self::Canary(digest) | Self::Reaper(digest) => {
                Some(digest)
            }
        }
    }

    /// The image that the tag stands for.
    pub fn image(self) -> Option<Digest> {
        match self {
            Self::Image(digest) => Some(digest),
            Self::Tombstone { image, .. } => image,
            Self::Missing | Self::Canary(_) | Self::Reaper(_) => None,
        }
    }
}

/// What happens to a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It stays.
    Keep,
    /// It cannot be judged, so it stays.
    Unknown,
    /// A tombstone lies on a tag that stays: its image is put back.
    Restore,
    /// It goes.
    Remove,
}

/// Why the order of the versions cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disorder {
    /// An image does not say when it was made.
    Missing {
        /// A tag of it.
        tag: String,
        /// Why.
        why: String,
    },
    /// An image was made before 2013 or in the future.
    Absurd {
        /// A tag of it.
        tag: String,
        /// When it says that it was made.
        created: Timestamp,
    },
    /// Two images were made at the same time.
    Equal {
        /// A tag of one.
        tag: String,
        /// A tag of the other.
        other: String,
    },
}

/// Why a tag has its verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// One of the newest versions.
    Newest(NonZeroUsize),
    /// It is `latest`, or ends in `-latest`.
    Latest,
    /// A pattern names it.
    Protected(String),
    /// This tag, which stays, points to the same digest.
    SameDigest(String),
    /// The index of this tag, which stays, has it.
    Part(String),
    /// It belongs to the image of this tag, which stays.
    Attached(String),
    /// It is the reaper's.
    Reaper,
    /// Listed, and 404.
    Missing,
    /// The order of the versions of its repository cannot be trusted.
    Disorder(Disorder),
    /// It belongs to an image that no tag points to.
    SubjectUntagged,
    /// It is older than the newest versions.
    Older(NonZeroUsize),
    /// The index of this tag, which goes, has it.
    PartOfOlder(String),
    /// It belongs to the image of this tag, which goes.
    AttachedToOlder(String),
    /// It belongs to an image of which an earlier prune, which was stopped, removed every tag.
    AttachedToRemoved,
    /// A probe that an earlier prune left.
    LeftOver,
}

impl Reason {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Newest(_)
            | Self::Latest
            | Self::Protected(_)
            | Self::SameDigest(_)
            | Self::Part(_)
            | Self::Attached(_)
            | Self::Reaper => Verdict::Keep,
            Self::Missing | Self::Disorder(_) | Self::SubjectUntagged => Verdict::Unknown,
            Self::Older(_)
            | Self::PartOfOlder(_)
            | Self::AttachedToOlder(_)
            | Self::AttachedToRemoved
            | Self::LeftOver => Verdict::Remove,
        }
    }
}

/// A tag, its verdict and its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The tag.
    pub tag: String,
    /// What it resolves to.
    pub digest: Option<Digest>,
    /// The image that it stands for.
    pub image: Option<Digest>,
    /// When the image was made, where that is known.
    pub created: Option<Timestamp>,
    /// When the registry got it, where it tells that.
    pub pushed: Option<Timestamp>,
    /// What happens to it.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// What belongs to an image goes after its tags, and what a stopped run noted of it after that.
    pub order: Order,
}

/// What happens to every tag of every repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The registry.
    pub host: String,
    /// Each repository by its name, and its tags, sorted.
    pub repositories: BTreeMap<String, Vec<Judgement>>,
    max_delete: MaxDelete,
}

/// The plan removes more than it may.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the plan removes {removals} of {tags} tags{place}, more than {limit}")]
pub struct TooMany {
    /// How many tags go from all repositories.
    pub all: usize,
    removals: usize,
    tags: usize,
    /// ` of REPOSITORY`, or nothing for all of them.
    place: String,
    limit: String,
}

/// Whether a repository is meant: `*` stands for any characters of one part of its name.
pub fn is_meant(pattern: &str, repository: &str) -> bool {
    let (patterns, parts): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), repository.split('/').collect());
    patterns.len() == parts.len() && patterns.iter().zip(parts).all(|(pattern, part)| tags::matches(pattern, part))
}

/// Decides what happens to every tag.
pub fn prune(host: &str, found: &BTreeMap<String, Found>, rules: &Rules, now: Timestamp) -> Plan {
    let repositories = found.iter().map(|(name, found)| (name.clone(), judge(found, rules, now))).collect();
    Plan { host: host.to_owned(), repositories, max_delete: rules.max_delete }
}

fn judge(found: &Found, rules: &Rules, now: Timestamp) -> Vec<Judgement> {
    let mut reasons: BTreeMap<&str, Reason> = BTreeMap::new();
    let mut versions: BTreeMap<Digest, &str> = BTreeMap::new();
    let indexes = found.tags.values().filter_map(|state| found.children.get(&state.image()?));
    let parts: BTreeSet<Digest> = indexes.flatten().copied().collect();
    for (tag, state) in &found.tags {
        if let Some(reason) = by_name(tag, *state, rules) {
            reasons.insert(tag, reason);
        } else if let (None, Some(image)) =
            (attached::subject(tag), state.image().filter(|image| !parts.contains(image)))
        {
            versions.entry(image).or_insert(tag);
        }
    }
    let order = order(&versions, found, rules.keep_last, now);
    // What stays by its name or its age keeps every tag on the same image.
    let mut kept: BTreeMap<Digest, &str> = BTreeMap::new();
    for (&tag, reason) in &reasons {
        if let Some(image) = found.tags[tag].image().filter(|_| reason.verdict() == Verdict::Keep) {
            kept.entry(image).or_insert(tag);
        }
    }
    for (tag, state) in found.tags.iter().filter(|(tag, _)| attached::subject(tag).is_none()) {
        let Some(image) = state.image() else { continue };
        if reasons.contains_key(tag.as_str()) {
            continue;
        }
        let reason = match (&order, kept.get(&image)) {
            (Ok(newest), _) if newest.contains(&image) => Reason::Newest(rules.keep_last),
            (_, Some(keeper)) => Reason::SameDigest((*keeper).to_owned()),
            // Judged below, by its index.
            (_, None) if parts.contains(&image) => continue,
            (Ok(_), None) => Reason::Older(rules.keep_last),
            (Err(disorder), None) => Reason::Disorder(disorder.clone()),
        };
        reasons.insert(tag, reason);
    }
    let holders = holders(found, &reasons);
    for (tag, state) in &found.tags {
        if reasons.contains_key(tag.as_str()) {
            continue;
        }
        let subject = attached::subject(tag);
        let holder = subject.or(state.image()).and_then(|image| holders.get(&image));
        let reason = match (subject, holder) {
            (Some(_), Some((false, holder))) => Reason::Attached((*holder).to_owned()),
            (Some(_), Some((true, holder))) => Reason::AttachedToOlder((*holder).to_owned()),
            (None, Some((false, holder))) => Reason::Part((*holder).to_owned()),
            (None, Some((true, holder))) => Reason::PartOfOlder((*holder).to_owned()),
            (_, None) if found.begun.get(tag).copied() == state.image() => Reason::AttachedToRemoved,
            (_, None) => Reason::SubjectUntagged,
        };
        reasons.insert(tag, reason);
    }
    let judgements = reasons.into_iter().map(|(tag, reason)| {
        let state = found.tags[tag];
        let is_hidden = matches!(state, State::Tombstone { image: Some(_), .. });
        let verdict = match reason.verdict() {
            Verdict::Keep | Verdict::Unknown if is_hidden => Verdict::Restore,
            verdict => verdict,
        };
        let created = state.image().and_then(|image| found.created.get(&image)?.as_ref().ok().copied());
        let pushed = state.image().and_then(|image| found.pushed.get(&image)).copied();
        let goes_last = attached::subject(tag).is_some() || tag.starts_with(BEGUN);
        let order = if goes_last { Order::Last } else { Order::First };
        let (tag, digest, image) = (tag.to_owned(), state.digest(), state.image());
        Judgement { tag, digest, image, created, pushed, verdict, reason, order }
    });
    judgements.collect()
}

/// What name and state alone say.
fn by_name(tag: &str, state: State, rules: &Rules) -> Option<Reason> {
    match state {
        State::Missing => return Some(Reason::Missing),
        State::Reaper(_) => return Some(Reason::Reaper),
        State::Canary(_) | State::Tombstone { image: None, .. } => return Some(Reason::LeftOver),
        State::Image(_) | State::Tombstone { image: Some(_), .. } => {}
    }
    if tag.contains("_reaper-") {
        return Some(Reason::Reaper);
    }
    if tag == "latest" || tag.ends_with("-latest") {
        return Some(Reason::Latest);
    }
    let pattern = rules.protected.iter().find(|pattern| tags::matches(pattern, tag))?;
    Some(Reason::Protected(pattern.clone()))
}

/// The newest versions. Where all of them stay, nobody asks for an order.
fn order(
    versions: &BTreeMap<Digest, &str>,
    found: &Found,
    keep_last: NonZeroUsize,
    now: Timestamp,
) -> Result<BTreeSet<Digest>, Disorder> {
    if versions.len() <= keep_last.get() {
        return Ok(versions.keys().copied().collect());
    }
    let pushed: Option<BTreeMap<Timestamp, Digest>> =
        versions.keys().map(|image| Some((*found.pushed.get(image)?, *image))).collect();
    // One that the registry does not tell of, or two at once: then the configs are asked.
    if let Some(pushed) = pushed.filter(|pushed| pushed.len() == versions.len()) {
        return Ok(pushed.into_values().rev().take(keep_last.get()).collect());
    }
    let mut by_time: BTreeMap<Timestamp, (Digest, &str)> = BTreeMap::new();
    for (&image, &tag) in versions {
        let created = match found.created.get(&image) {
            Some(Ok(created)) => *created,
            Some(Err(why)) => return Err(Disorder::Missing { tag: tag.to_owned(), why: why.clone() }),
            None => return Err(Disorder::Missing { tag: tag.to_owned(), why: "it was not read".to_owned() }),
        };
        if created < OLDEST || now < created {
            return Err(Disorder::Absurd { tag: tag.to_owned(), created });
        }
        if let Some((_, other)) = by_time.insert(created, (image, tag)) {
            return Err(Disorder::Equal { tag: other.to_owned(), other: tag.to_owned() });
        }
    }
    Ok(by_time.into_values().rev().take(keep_last.get()).map(|(image, _)| image).collect())
}

/// Every image that a tag stands for, with those that an index has: whether it goes, and the tag. One that stays comes first.
fn holders<'a>(found: &'a Found, reasons: &BTreeMap<&'a str, Reason>) -> BTreeMap<Digest, (bool, &'a str)> {
    let mut holders: BTreeMap<Digest, (bool, &str)> = BTreeMap::new();
    for (&tag, reason) in reasons {
        let Some(image) = found.tags[tag].image() else { continue };
        let goes = reason.verdict() == Verdict::Remove;
        for digest in std::iter::once(&image).chain(found.children.get(&image).into_iter().flatten()) {
            let holder = holders.entry(*digest).or_insert((goes, tag));
            if holder.0 && !goes {
                *holder = (goes, tag);
            }
        }
    }
    holders
}

impl Plan {
    /// Whether the plan stays within what one run may remove.
    ///
    /// # Errors
    ///
    /// [`TooMany`].
    pub fn within_limits(&self) -> Result<(), TooMany> {
        // What prune itself has left was never anybody's image.
        let goes = |one: &&Judgement| one.verdict == Verdict::Remove && one.reason != Reason::LeftOver;
        let removals = |judgements: &[Judgement]| judgements.iter().filter(goes).count();
        let all: usize = self.repositories.values().map(|judgements| removals(judgements)).sum();
        let tags: usize = self.repositories.values().map(Vec::len).sum();
        let whole = |limit| Err(TooMany { all, removals: all, tags, place: String::new(), limit });
        match self.max_delete {
            MaxDelete::Count(limit) if limit < all => whole(format!("the {limit} of --max-delete")),
            MaxDelete::Default if MaxDelete::COUNT < all => whole(format!("the {} of a run", MaxDelete::COUNT)),
            MaxDelete::Count(_) => Ok(()),
            MaxDelete::Default => {
                let is_too_many = |judgements: &Vec<Judgement>| {
                    MaxDelete::SHARE_FROM <= judgements.len() && judgements.len() < 2 * removals(judgements)
                };
                match self.repositories.iter().find(|(_, judgements)| is_too_many(judgements)) {
                    None => Ok(()),
                    Some((name, judgements)) => Err(TooMany {
                        all,
                        removals: removals(judgements),
                        tags: judgements.len(),
                        place: format!(" of {name}"),
                        limit: "half of them".to_owned(),
                    }),
                }
            }
        }
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.repositories.values().flatten().filter(|judgement| judgement.verdict == verdict).count()
    }
}

#[cfg(test)]
mod tests;
