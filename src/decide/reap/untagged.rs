//! The images that earlier runs left without a tag.
//!
//! A run that removes the last tag of an image notes its digest in the journal; a later run deletes it when it has been
//! without a tag for the whole grace period. Only what a reaper noted is ever deleted: no registry lists what has no tag,
//! and what it lists besides is not known to be ours.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::journal::{Before, Journal, Untagged};
use super::{Done, Found, Judge, RegistryFacts, Rules, attached};
use crate::names::{CommitId, Digest};

/// An image without a tag, as the journal has it, and what happens to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Its digest.
    pub digest: Digest,
    /// What the journal says of it.
    pub noted: Untagged,
    /// What happens to it.
    pub fate: Fate,
}

/// What happens to an image that the journal says is without a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It goes.
    Delete,
    /// It was without a tag for less than the grace period.
    Grace,
    /// One run deletes only so many; this one is for the next.
    NextRun,
    /// The commit that it was built from is alive again.
    CommitLives(CommitId),
    /// This tag belongs to it.
    HasAttached(String),
    /// This tag points to it again.
    Tagged(String),
    /// An index that this tag points to has it.
    PartOf(String),
}

/// What one image without a tag takes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// The image.
    pub image: Digest,
    /// Its manifests, its own among them, but those that something else needs.
    pub manifests: BTreeSet<Digest>,
}

impl Leftover {
    /// Whether it still is without a tag.
    fn is_untagged(&self) -> bool {
        match self.fate {
            Fate::Delete | Fate::Grace | Fate::NextRun | Fate::CommitLives(_) | Fate::HasAttached(_) => true,
            Fate::Tagged(_) | Fate::PartOf(_) => false,
        }
    }

    fn manifests(&self) -> impl Iterator<Item = Digest> + '_ {
        std::iter::once(self.digest).chain(self.noted.parts.iter().copied())
    }
}

/// Who holds a digest.
struct Holders<'a> {
    /// The tags that point to it, also from below a tombstone.
    tags: BTreeMap<Digest, &'a str>,
    /// The tags whose index has it.
    indexes: BTreeMap<Digest, &'a str>,
    /// The tags that belong to it.
    attached: BTreeMap<Digest, &'a str>,
}

impl<'a> Holders<'a> {
    fn new(registry: &'a RegistryFacts) -> Self {
        let mut holders = Self { tags: BTreeMap::new(), indexes: BTreeMap::new(), attached: BTreeMap::new() };
        for (tag, state) in &registry.tags {
            for digest in [state.digest(), state.image_digest()].into_iter().flatten() {
                holders.tags.insert(digest, tag);
                let parts = registry.children.get(&digest).into_iter().flatten();
                holders.indexes.extend(parts.map(|part| (*part, tag.as_str())));
            }
            if let Some(subject) = attached::subject(tag) {
                holders.attached.insert(subject, tag);
            }
        }
        holders
    }

    fn holds(&self, digest: &Digest) -> bool {
        self.tags.contains_key(digest) || self.indexes.contains_key(digest) || self.attached.contains_key(digest)
    }
}

/// Judges what the journal says is without a tag, sorted by digest, and says what goes.
pub(super) fn judge(
    found: &Found,
    before: &Before,
    rules: &Rules,
    judge: &Judge<'_>,
    now: Timestamp,
) -> (Vec<Leftover>, Vec<Deletion>) {
    let noted = match before.journal() {
        Some(journal) if rules.delete_untagged => journal.untagged_at(now),
        Some(_) | None => return (Vec::new(), Vec::new()),
    };
    let holders = Holders::new(&found.registry);
    let owned = |tag: &&str| (*tag).to_owned();
    let fate = |digest: &Digest, noted: &Untagged| {
        if let Some(tag) = holders.tags.get(digest) {
            Fate::Tagged(owned(tag))
        } else if let Some(tag) = holders.indexes.get(digest) {
            Fate::PartOf(owned(tag))
        } else if let Some(tag) = holders.attached.get(digest) {
            Fate::HasAttached(owned(tag))
        } else if let Some(commit) = noted.commit.filter(|commit| judge.commit(*commit).is_ok()) {
            Fate::CommitLives(commit)
        } else if rules.grace.is_over(Some(noted.since), now) {
            Fate::Delete
        } else {
            Fate::Grace
        }
    };
    let each = noted.into_iter().map(|(digest, noted)| Leftover { fate: fate(&digest, &noted), digest, noted });
    let mut leftovers: Vec<Leftover> = each.collect();
    leftovers.sort_by_key(|leftover| leftover.noted.since);
    let due = leftovers.iter_mut().filter(|leftover| leftover.fate == Fate::Delete);
    for leftover in due.skip(rules.max_delete.limit()) {
        leftover.fate = Fate::NextRun;
    }
    leftovers.sort_by_key(|leftover| leftover.digest);
    let deletions = deletions(&holders, &leftovers);
    (leftovers, deletions)
}

/// What goes: what is held by a tag, or by an image without one that stays for now, is left out.
fn deletions(holders: &Holders<'_>, leftovers: &[Leftover]) -> Vec<Deletion> {
    let (due, rest): (Vec<&Leftover>, Vec<&Leftover>) =
        leftovers.iter().partition(|leftover| leftover.fate == Fate::Delete);
    let staying: BTreeSet<Digest> = rest.into_iter().flat_map(Leftover::manifests).collect();
    let goes = |digest: &Digest| !staying.contains(digest) && !holders.holds(digest);
    let deletion = |leftover: &Leftover| Deletion {
        image: leftover.digest,
        manifests: leftover.manifests().filter(goes).collect(),
    };
    due.into_iter().map(deletion).collect()
}

/// What the journal of a run says is without a tag.
pub(super) fn noted(
    before: &Before,
    delete_untagged: bool,
    leftovers: &[Leftover],
    done: &Done,
) -> BTreeMap<Digest, Untagged> {
    if !delete_untagged {
        // A run that does not delete forgets nothing that another one is to delete.
        return before.journal().map(|journal| journal.untagged.clone()).unwrap_or_default();
    }
    let stays = |leftover: &&Leftover| leftover.is_untagged() && !done.deleted.contains(&leftover.digest);
    let before = leftovers.iter().filter(stays).map(|leftover| (leftover.digest, leftover.noted.clone()));
    let new = done.untagged.iter().map(|(digest, image)| (*digest, image.clone()));
    new.chain(before).collect()
}

impl Journal {
    /// The images without a tag. A time that lies ahead says that a clock was wrong: such a clock starts now.
    fn untagged_at(&self, now: Timestamp) -> BTreeMap<Digest, Untagged> {
        let mut untagged = self.untagged.clone();
        for image in untagged.values_mut().filter(|image| now < image.since || now < self.written) {
            image.since = now;
        }
        untagged
    }
}
