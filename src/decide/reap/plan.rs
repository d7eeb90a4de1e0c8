//! What happens to every tag, and why.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::journal::{Before, Dead, Journal, Untagged};
use super::pulls::{Clock, Noted, Pulls};
use super::untagged::{self, Deletion, Leftover};
use super::{GitFacts, Grace, KeepLast, MaxDelete, Refusal};
use crate::names::{Branch, CommitId, Digest, GitRepository};

/// What happens to a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Ours, and alive.
    Keep,
    /// Not ours.
    Foreign,
    /// Cannot be judged, so it stays.
    Unknown,
    /// Ours and dead, and its grace period is not over.
    Grace,
    /// A tombstone lies on a tag that is not dead: its image is put back.
    Restore,
    /// Ours and dead.
    Remove,
}

/// Why a tag has its verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A branch or git tag reaches the commit.
    Reachable(CommitId),
    /// The branch is there.
    BranchLives(Branch),
    /// The newest image of a branch.
    NewestOf(Branch),
    /// One of the last images of a branch.
    LastOf(Branch, KeepLast),
    /// One of the last images of all branches.
    LastOfAll(KeepLast),
    /// The newest image of a git tag.
    GitTag(String),
    /// A pattern of `source.reap.protected` names the tag.
    Protected(String),
    /// The name of a release or of an alias of one.
    Release,
    /// A content tag: this tag, which stays, points to the same digest.
    SameDigest(String),
    /// It belongs to the image of this tag, which stays.
    Attached(String),
    /// The reaper's own journal.
    Journal,
    /// Reserved for the reaper, and neither journal nor probe.
    Reserved,
    /// Not a name that we write.
    NotOurForm,
    /// The image has no `git-image.repository`.
    NotLabelled,
    /// `git-image.repository`, or the tag's name, is of another git repository.
    OtherRepository(String),
    /// The inputs of the image have their content tag under another `tag_prefix`.
    OtherPrefix(String),
    /// Listed, and 404.
    Dangling,
    /// The labels were not read: nothing depends on them yet, or the tag came while others were removed.
    Unread,
    /// The labels cannot be read.
    Unreadable(String),
    /// A content tag whose image does not name a commit.
    NoCommit,
    /// The tag may be of this prefix or of that one, and no content tag tells.
    PrefixUnclear(String),
    /// The commit is gone, or too many images came after it.
    CommitGone(CommitId, Gone),
    /// No branch has this tag.
    NoBranch,
    /// A content tag: its commit is gone, and no tag that stays points to its digest.
    Unused(CommitId, Gone),
    /// It belongs to the image of this tag, which is dead, and to no other.
    AttachedToDead(String),
    /// It belongs to an image of ours that no tag points to any more.
    SubjectUntagged,
    /// It belongs to an image that the registry does not have.
    SubjectGone,
    /// A probe that an earlier run left.
    LeftOverCanary,
    /// A tombstone that an earlier run left, with no image to put back.
    TombstoneWithoutImage,
}

/// Why the image of a commit is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// No branch or git tag reaches the commit.
    Unreachable,
    /// It is reached, and not among the last images that stay.
    BeyondLast(KeepLast),
}

impl Reason {
    /// What the reason leads to, before grace period and tombstones are looked at.
    pub(super) fn verdict(&self) -> Verdict {
        match self {
            Self::Reachable(_)
            | Self::BranchLives(_)
            | Self::NewestOf(_)
            | Self::LastOf(..)
            | Self::LastOfAll(_)
            | Self::GitTag(_)
            | Self::Protected(_)
            | Self::SameDigest(_)
            | Self::Attached(_)
            | Self::Journal
            | Self::Reserved => Verdict::Keep,
            Self::NotOurForm
            | Self::Release
            | Self::SubjectGone
            | Self::NotLabelled
            | Self::OtherRepository(_)
            | Self::OtherPrefix(_) => Verdict::Foreign,
            Self::Dangling | Self::Unread | Self::Unreadable(_) | Self::NoCommit | Self::PrefixUnclear(_) => {
                Verdict::Unknown
            }
            Self::CommitGone(..)
            | Self::NoBranch
            | Self::Unused(..)
            | Self::AttachedToDead(_)
            | Self::SubjectUntagged
            | Self::LeftOverCanary
            | Self::TombstoneWithoutImage => Verdict::Remove,
        }
    }
}

/// A tag, its verdict and its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The tag.
    pub tag: String,
    /// What it resolves to; `None` when it resolves to nothing.
    pub digest: Option<Digest>,
    /// The image that the tag stands for: the digest itself, or the one from before a tombstone.
    pub image: Option<Digest>,
    /// What happens to it.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Since when it is dead. That of a tag that is alive has not begun.
    pub clock: Clock,
    /// Whether it is a content tag; those go last.
    pub order: Order,
    /// The other tags on the same image that stay.
    pub siblings: Vec<String>,
}

impl Judgement {
    /// Whether the tag is dead, whatever happens to it now.
    pub(super) fn is_dead(&self) -> bool {
        self.reason.verdict() == Verdict::Remove
    }
}

/// When a tag goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// With the first.
    First,
    /// A content tag: after the others, when the tags were listed again. A put that overlaps may have set
    /// another tag on its digest meanwhile.
    Last,
}

/// What happens to every tag, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub(super) registry: String,
    pub(super) repository: GitRepository,
    pub(super) tag_prefix: String,
    pub(super) git: GitFacts,
    pub(super) grace: Grace,
    pub(super) before: Before,
    pub(super) now: Timestamp,
    pub(super) max_delete: MaxDelete,
    pub(super) delete_untagged: bool,
    pub(super) unread: BTreeSet<Digest>,
    pub(super) noted: BTreeMap<Digest, Noted>,
    pub(super) pulls: Pulls,
    pub(super) judgements: Vec<Judgement>,
    pub(super) untagged: Vec<Leftover>,
    pub(super) deletions: Vec<Deletion>,
}

/// What a run has done, as far as its journal tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// The tags that it removed.
    pub removed: BTreeSet<String>,
    /// The images that it found without a tag, and did not know to be so. Their clocks start now.
    pub untagged: BTreeMap<Digest, Untagged>,
    /// Of the images without a tag, those that it deleted.
    pub deleted: BTreeSet<Digest>,
}

impl Plan {
    /// What git has.
    pub fn git(&self) -> &GitFacts {
        &self.git
    }

    /// Every tag, sorted by name.
    pub fn judgements(&self) -> &[Judgement] {
        &self.judgements
    }

    /// The images whose labels must be read before the plan is worth anything. What is alive by its name, or on the digest
    /// of a tag that is, needs none: so reading a registry costs little more than a request for each tag.
    pub fn unread(&self) -> &BTreeSet<Digest> {
        &self.unread
    }

    /// Whether the registry must be asked for pulls before the plan is worth anything: clocks run, and it was not.
    pub fn asks_for_pulls(&self) -> bool {
        let clocks = self.judgements.iter().any(|judgement| judgement.is_dead() && judgement.image.is_some());
        clocks && !self.grace.is_none() && self.pulls == Pulls::NotAsked
    }

    /// Whether an image must not be read without need: it is dead, known, and the registry would count it as a pull.
    pub fn spares(&self, image: &Digest) -> bool {
        self.noted.contains_key(image)
    }

    /// The tags that are removed, sorted by name.
    pub fn removals(&self) -> impl Iterator<Item = &Judgement> {
        self.judgements.iter().filter(|judgement| judgement.verdict == Verdict::Remove)
    }

    /// The tags whose image is put back, sorted by name.
    pub fn restores(&self) -> impl Iterator<Item = &Judgement> {
        self.judgements.iter().filter(|judgement| judgement.verdict == Verdict::Restore)
    }

    /// The verdict on a tag; `None` for a tag that was not listed.
    pub fn verdict(&self, tag: &str) -> Option<Verdict> {
        let at = self.judgements.binary_search_by(|judgement| judgement.tag.as_str().cmp(tag)).ok()?;
        Some(self.judgements[at].verdict)
    }

    /// The images without a tag that are deleted, sorted by digest.
    pub fn deletions(&self) -> &[Deletion] {
        &self.deletions
    }

    /// The images that have no tag now that these were removed, nor are known to have none: those of the removed tags, and
    /// those of the tags that an earlier run noted as dead and that are not listed any more. It may have been stopped
    /// before it could note what it removed.
    pub fn newly_untagged(&self, removed: &BTreeSet<String>) -> BTreeSet<Digest> {
        if !self.delete_untagged {
            return BTreeSet::new();
        }
        let (gone, left): (Vec<&Judgement>, Vec<&Judgement>) =
            self.judgements.iter().partition(|judgement| removed.contains(&judgement.tag));
        let tagged: BTreeSet<Digest> =
            left.into_iter().flat_map(|judgement| [judgement.digest, judgement.image]).flatten().collect();
        let before = self.before.journal();
        let unlisted =
            before.into_iter().flat_map(|before| &before.dead).filter(|(tag, _)| self.verdict(tag).is_none());
        let images =
            gone.into_iter().filter_map(|judgement| judgement.image).chain(unlisted.map(|(_, dead)| dead.image));
        let is_known = |image: &Digest| before.is_some_and(|before| before.untagged.contains_key(image));
        images.filter(|image| !tagged.contains(image) && !is_known(image)).collect()
    }

    /// The journal that this plan leads to: every dead tag, and since when; and the images without a tag. `None` when
    /// there is nothing to write: the one of the run before says the same, or no clock is needed.
    pub fn journal(&self, done: &Done) -> Option<Journal> {
        let dead =
            self.judgements.iter().filter(|judgement| judgement.is_dead() && !done.removed.contains(&judgement.tag));
        let dead: BTreeMap<String, Dead> = dead
            .filter_map(|judgement| {
                let image = judgement.image.or(judgement.digest)?;
                let Clock { since, pulled, first, stands: _ } = judgement.clock;
                Some((judgement.tag.clone(), Dead { since: since.unwrap_or(self.now), image, pulled, first }))
            })
            .collect();
        let untagged = untagged::noted(&self.before, self.delete_untagged, &self.untagged, done);
        let journal = Journal::new(self.now, dead, untagged).with_images(&self.noted);
        let is_empty = journal.dead.is_empty() && journal.untagged.is_empty();
        let needs_no_clock = self.grace.is_none() && !self.delete_untagged;
        match &self.before {
            Before::Read(Journal { written, dead, untagged, images })
                if (dead, untagged, images) == (&journal.dead, &journal.untagged, &journal.images)
                    && *written <= self.now =>
            {
                None
            }
            Before::None if needs_no_clock || is_empty => None,
            Before::None | Before::Read(_) | Before::Unreadable { .. } => Some(journal),
        }
    }

    /// Whether the plan stays within what one run may remove.
    ///
    /// # Errors
    ///
    /// [`Refusal::TooMany`].
    pub fn within_limits(&self) -> Result<(), Refusal> {
        // What the reaper itself has left was never anybody's image.
        let removals = self.removals().filter(|judgement| judgement.reason != Reason::LeftOverCanary).count();
        let owned = removals + self.count(Verdict::Keep) + self.count(Verdict::Grace) + self.count(Verdict::Restore);
        let too_many = |limit: String| Err(Refusal::TooMany { removals, owned, limit });
        match self.max_delete {
            MaxDelete::Count(limit) if limit < removals => too_many(format!("the {limit} of --max-delete")),
            MaxDelete::Default if MaxDelete::COUNT < removals => too_many(format!("the {} of a run", MaxDelete::COUNT)),
            MaxDelete::Default if MaxDelete::SHARE_FROM <= owned && owned < 2 * removals => {
                too_many("half of them".to_owned())
            }
            MaxDelete::Count(_) | MaxDelete::Default => Ok(()),
        }
    }

    pub(super) fn count(&self, verdict: Verdict) -> usize {
        self.judgements.iter().filter(|judgement| judgement.verdict == verdict).count()
    }
}
