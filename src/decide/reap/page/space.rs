//! To whom each image belongs, and who needs which bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Blobs;
use crate::decide::reap::{Judgement, Plan, Reason, Verdict};
use crate::decide::tags::{self, OurTag};
use crate::names::Digest;

/// What becomes of something. Who needs it longest decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    Goes,
    /// Dead, and its grace period is not over.
    Later,
    Stays,
}

impl Fate {
    pub fn of(judgement: &Judgement) -> Self {
        match judgement.verdict {
            Verdict::Remove => Self::Goes,
            Verdict::Grace => Self::Later,
            Verdict::Keep | Verdict::Foreign | Verdict::Unknown | Verdict::Restore => Self::Stays,
        }
    }
}

/// To whom an image belongs: the first that fits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    Branch(String),
    Gone(String),
    History,
    Dead,
    Others,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Branch(name) => f.write_str(name),
            Self::Gone(slug) => write!(f, "{slug} (gone)"),
            Self::History => f.write_str("older images that branches or git tags reach"),
            Self::Dead => f.write_str("images that no branch needs"),
            Self::Others => f.write_str("other tags"),
        }
    }
}

/// Bytes by what becomes of them. A blob that several need counts once for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Space {
    pub goes: u64,
    pub later: u64,
    /// Stays, and nobody else needs it.
    pub own: u64,
    /// Stays, and others need it too.
    pub shared: u64,
}

impl Space {
    pub fn total(self) -> u64 {
        self.goes + self.later + self.stays()
    }

    pub fn stays(self) -> u64 {
        self.own + self.shared
    }

    fn add(&mut self, fate: Fate, owners: usize, bytes: u64) {
        *match (fate, owners) {
            (Fate::Goes, _) => &mut self.goes,
            (Fate::Later, _) => &mut self.later,
            (Fate::Stays, ..=1) => &mut self.own,
            (Fate::Stays, 2..) => &mut self.shared,
        } += bytes;
    }
}

/// The tags and images of one owner.
#[derive(Default)]
pub struct Part<'a> {
    pub images: BTreeMap<Option<Digest>, Vec<&'a Judgement>>,
    pub space: Space,
}

impl Part<'_> {
    pub fn count(&self, fate: Fate) -> usize {
        self.judgements().filter(|judgement| Fate::of(judgement) == fate).count()
    }

    /// What goes first of it.
    pub fn first(&self) -> Option<Fate> {
        self.judgements().map(Fate::of).min()
    }

    pub fn judgements(&self) -> impl Iterator<Item = &Judgement> {
        self.images.values().flatten().copied()
    }
}

/// Who has what.
#[derive(Default)]
pub struct Parts<'a> {
    pub of: BTreeMap<Owner, Part<'a>>,
    /// The whole repository, where each blob counts once.
    pub all: Space,
}

impl<'a> Parts<'a> {
    pub fn new(plan: &'a Plan, blobs: &Blobs) -> Self {
        let mut images: BTreeMap<Digest, (Owner, Fate)> = BTreeMap::new();
        for judgement in &plan.judgements {
            if let Some(image) = judgement.image {
                let (owner, fate) = (owner(plan, judgement), Fate::of(judgement));
                let known = images.entry(image).or_insert_with(|| (owner.clone(), fate));
                known.1 = known.1.max(fate);
                if owner < known.0 {
                    known.0 = owner;
                }
            }
        }
        let mut parts = Self::default();
        for judgement in &plan.judgements {
            let owner_of_image = judgement.image.and_then(|image| images.get(&image)).map(|(owner, _)| owner.clone());
            let part = parts.of.entry(owner_of_image.unwrap_or_else(|| owner(plan, judgement))).or_default();
            part.images.entry(judgement.image).or_default().push(judgement);
        }
        let mut needed: BTreeMap<Digest, (u64, Fate, BTreeSet<&Owner>)> = BTreeMap::new();
        for (image, list) in blobs {
            let Some((owner, fate)) = images.get(image) else { continue };
            for (blob, bytes) in list {
                let (_, longest, owners) = needed.entry(*blob).or_insert((*bytes, *fate, BTreeSet::new()));
                *longest = (*longest).max(*fate);
                owners.insert(owner);
            }
        }
        for (bytes, fate, owners) in needed.into_values() {
            parts.all.add(fate, owners.len(), bytes);
            for owner in &owners {
                if let Some(part) = parts.of.get_mut(*owner) {
                    part.space.add(fate, owners.len(), bytes);
                }
            }
        }
        parts
    }
}

fn owner(plan: &Plan, judgement: &Judgement) -> Owner {
    match &judgement.reason {
        Reason::BranchLives(branch) | Reason::NewestOf(branch) | Reason::LastOf(branch, _) => {
            return Owner::Branch(branch.to_string());
        }
        Reason::Journal | Reason::Reserved => return Owner::Others,
        _ => {}
    }
    if matches!(judgement.verdict, Verdict::Foreign | Verdict::Unknown) {
        return Owner::Others;
    }
    let tag = judgement.tag.strip_prefix(&plan.tag_prefix).and_then(|name| name.parse().ok());
    match tag.map(|tag| tags::classify("", &tag)) {
        Some(OurTag::Latest { slug } | OurTag::Cache { slug, .. }) => Owner::Gone(slug),
        _ if judgement.is_dead() => Owner::Dead,
        _ => Owner::History,
    }
}
