//! Does what the plan says, and looks again before each step and after the last one.
//!
//! A digest of an image is never deleted. What is deleted is a tag, or an artifact of ours. So the worst that an
//! interruption leaves is a tombstone that says what it lies on; the next run puts back or finishes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::canary::{self, Method};
use super::outside::{self, Outside, WRITES, at_once};
use super::read::{self, Images};
use super::record::Record;
use super::{ReapError, decide_by_labels};
use crate::clients::registry::{Deleted, Manifest};
use crate::decide::reap::artifact::{self, RunId};
use crate::decide::reap::{self as decide, Found, Judgement, Order, Plan, Reason, Rules, TagState, Verdict};
use crate::decide::tags::OurTag;
use crate::names::{Digest, Repository, Tag};
use crate::say::Say;

/// How many tags go between two looks at git.
const CHUNK: usize = 100;

/// What a run needs besides the plan.
pub struct Run<'a, O> {
    /// Registry and git.
    pub outside: &'a O,
    /// The repository of the registry.
    pub repository: &'a Repository,
    /// The rules that the plan was made by.
    pub rules: &'a Rules,
    /// This run.
    pub id: &'a RunId,
    /// When it began.
    pub now: Timestamp,
    /// Where every action is told.
    pub say: &'a Say,
}

/// Applies a plan.
///
/// # Errors
///
/// Nothing was removed: deletes are disabled, or no method was proven. Or the run stopped half way, which leaves every
/// kept tag as it was. Or a kept tag was lost to somebody else's request at the same time: it is put back, and
/// [`ReapError::Repaired`] names it.
pub async fn apply<O: Outside>(run: &Run<'_, O>, plan: Plan, found: Found, images: Images) -> Result<(), ReapError> {
    let mut state = State {
        run,
        planned: removals(&plan),
        kept: kept(&plan),
        plan,
        found,
        images,
        removed: BTreeMap::new(),
        touched: BTreeSet::new(),
        tombstones: 0,
        repaired: BTreeSet::new(),
    };
    // Before anything else: a run that cannot write its journal must not remove by it.
    let mut record = Record::begin(run, &state.plan).await?;
    state.restore_what_tombstones_hide().await?;
    if state.planned.is_empty() {
        run.say.line("nothing to remove");
        return Ok(());
    }
    let method = canary::prove(run).await?;
    state.save_what_stays().await?;
    run.say.line(match method {
        Method::ByTag => "tags are removed by name: a probe showed that this leaves their siblings alone",
        Method::Tombstone => "tags are removed by tombstones: a probe showed that this leaves their siblings alone",
    });
    // Whatever stops the removal, what was kept is looked after.
    let result = state.remove_all(method).await;
    let verified = state.verify().await;
    match (result, verified) {
        (Ok(()), Ok(())) => {
            // A tag that is pushed again begins anew.
            let is_gone = |tag: &str| tag.parse().is_ok_and(|tag: Tag| state.removed.contains_key(&tag));
            record.write(run, state.plan.journal(is_gone)).await?;
            state.report()
        }
        (Ok(()), Err(error)) => Err(error),
        (Err(error), verified) => {
            if let Err(second) = verified {
                run.say.line(format_args!("the kept tags could not be verified either: {second}"));
            }
            Err(ReapError::Stopped {
                repository: run.repository.clone(),
                removed: state.removed.len(),
                why: Box::new(error),
            })
        }
    }
}

struct State<'a, O> {
    run: &'a Run<'a, O>,
    plan: Plan,
    found: Found,
    images: Images,
    /// What may still be removed, and what it points to. It only ever shrinks.
    planned: BTreeMap<Tag, Target>,
    /// The tags that stay, and what they pointed to when they were seen last.
    kept: BTreeMap<Tag, Digest>,
    /// What this run has removed, and the image it pointed to.
    removed: BTreeMap<Tag, Option<Digest>>,
    /// The images of which this run removed a tag, or tried to.
    touched: BTreeSet<Digest>,
    /// How many tombstones this run has made: no two may have the same bytes.
    tombstones: usize,
    /// The tags that had to be put back.
    repaired: BTreeSet<Tag>,
}

/// A tag that is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Target {
    /// What it resolves to.
    digest: Digest,
    /// The image that it stands for; another one when a tombstone lies on it.
    image: Option<Digest>,
    order: Order,
}

/// Reads the tags of a plan back; a text that is no tag was never resolved, so it is in no plan to act.
fn by_tag<'p, T>(
    judgements: impl Iterator<Item = &'p Judgement>,
    value: impl Fn(&Judgement) -> Option<T>,
) -> BTreeMap<Tag, T> {
    judgements.filter_map(|judgement| Some((judgement.tag.parse().ok()?, value(judgement)?))).collect()
}

fn removals(plan: &Plan) -> BTreeMap<Tag, Target> {
    by_tag(plan.removals(), |judgement| {
        Some(Target { digest: judgement.digest?, image: judgement.image, order: judgement.order })
    })
}

fn kept(plan: &Plan) -> BTreeMap<Tag, Digest> {
    by_tag(plan.judgements().iter(), |judgement| match judgement.verdict {
        // Runs move their journals, and clean up after themselves.
        _ if matches!(judgement.reason, Reason::Journal | Reason::LeftOverCanary) => None,
        Verdict::Keep | Verdict::Foreign | Verdict::Unknown | Verdict::Grace => judgement.digest,
        Verdict::Restore => judgement.image,
        Verdict::Remove => None,
    })
}

impl<O: Outside> State<'_, O> {
    /// Undoes what a run that was stopped has left on tags that are not dead.
    async fn restore_what_tombstones_hide(&mut self) -> Result<(), ReapError> {
        let restores = by_tag(self.plan.restores(), |judgement| Some((judgement.digest?, judgement.image?)));
        for (tag, (tombstone, image)) in restores {
            if self.run.outside.resolve(&tag).await? == Some(tombstone) {
                self.put_back(&tag, &image).await?;
                self.run.say.line(format_args!("restored {tag} to {image}: a stopped run had left a tombstone on it"));
            }
        }
        Ok(())
    }

    /// What is ours and stays can be put again, even if somebody else deletes its manifest while this run is at work.
    async fn save_what_stays(&mut self) -> Result<(), ReapError> {
        let stays = self.plan.judgements().iter().filter(|judgement| judgement.verdict == Verdict::Keep);
        let ours = stays.filter(|judgement| decide::form(self.run.rules, &judgement.tag) != OurTag::Foreign);
        let digests = ours.filter_map(|judgement| judgement.image).collect();
        self.images.save(self.run.outside, digests).await
    }

    async fn remove_all(&mut self, method: Method) -> Result<(), ReapError> {
        for order in [Order::First, Order::Last] {
            if order == Order::Last && self.planned.values().any(|target| target.order == Order::Last) {
                self.list_again().await?;
            }
            loop {
                let next = self.planned.iter().filter(|(_, target)| target.order == order).take(CHUNK);
                let chunk: BTreeMap<Tag, Target> = next.map(|(tag, target)| (tag.clone(), *target)).collect();
                if chunk.is_empty() {
                    break;
                }
                self.look_at_git().await?;
                let chunk = self.still_planned(chunk);
                let chunk = self.still_there(chunk).await?;
                self.planned.retain(|tag, _| !chunk.contains_key(tag));
                self.remove(method, &chunk).await?;
            }
        }
        self.look_at_git().await
    }

    /// Before content tags go: a put that overlaps may have set another tag on the image of one of them.
    async fn list_again(&mut self) -> Result<(), ReapError> {
        let Run { outside, repository, rules, .. } = self.run;
        let known = self.found.registry.tags.iter().filter(|(tag, _)| self.stays_where_it_is(tag));
        let known = known.map(|(tag, state)| (tag.clone(), state.clone())).collect();
        let mut registry = read::registry(*outside, repository, rules, &known, &mut self.images).await?;
        // What is gone is judged further: what this run has removed comes back when its branch does, and what somebody
        // else has removed is missed only as long as it is alive.
        for (tag, before) in &self.found.registry.tags {
            let now = registry.tags.entry(tag.clone()).or_insert(TagState::Missing);
            if *now == TagState::Missing {
                *now = before.clone();
            }
        }
        // What an index has never changes.
        registry.children.extend(std::mem::take(&mut self.found.registry.children));
        registry.subjects = std::mem::take(&mut self.found.registry.subjects);
        self.found.registry = registry;
        self.found.git = outside.git(&self.found.registry.question(rules), None).await?;
        self.decide_again().await
    }

    /// Whether a tag need not be asked for again: the tags of a commit and of inputs name their image, and a put that
    /// moves one of them all the same sets the tag of its branch too, which is asked for.
    fn stays_where_it_is(&self, tag: &str) -> bool {
        let removed = tag.parse::<Tag>().is_ok_and(|tag| self.removed.contains_key(&tag));
        match decide::form(self.run.rules, tag) {
            // By the journal of another run that ends meanwhile, what that one removed would be seen dead for the first time.
            OurTag::Commit(_) | OurTag::Content(_) | OurTag::Reaper => !removed,
            OurTag::Latest { .. } | OurTag::Cache { .. } | OurTag::Foreign => false,
        }
    }

    /// Reads git's refs; when they moved, decides anew.
    async fn look_at_git(&mut self) -> Result<(), ReapError> {
        let question = self.found.registry.question(self.run.rules);
        let git = self.run.outside.git(&question, Some(&self.found.git)).await?;
        if !git.same_refs(&self.found.git) {
            self.run.say.line("git has moved meanwhile; deciding again");
            self.found.git = git;
            self.decide_again().await?;
        }
        Ok(())
    }

    /// What the new plan does not remove is not removed. What it would remove besides has not been shown: next time.
    async fn decide_again(&mut self) -> Result<(), ReapError> {
        let Run { outside, repository, rules, now, .. } = self.run;
        self.plan = decide_by_labels(*outside, repository, rules, *now, &mut self.found, &mut self.images).await?;
        let removals = removals(&self.plan);
        self.planned.retain(|tag, target| {
            let stays = removals.get(tag) != Some(target);
            if stays {
                self.run.say.line(format_args!("kept {tag}: it is no longer what the plan was made for"));
            }
            !stays
        });
        self.kept.extend(kept(&self.plan));
        self.kept.retain(|tag, _| self.plan.verdict(tag.as_str()) != Some(Verdict::Remove));
        self.revive().await
    }

    /// Puts back what was removed in this run and is alive now, unless a push has already set it.
    async fn revive(&mut self) -> Result<(), ReapError> {
        let alive: Vec<(Tag, Option<Digest>)> = self
            .removed
            .iter()
            .filter(|(tag, _)| self.is_alive(tag))
            .map(|(tag, image)| (tag.clone(), *image))
            .collect();
        for (tag, image) in alive {
            self.removed.remove(&tag);
            let Some(image) = image else { continue };
            if self.run.outside.resolve(&tag).await?.is_none() {
                self.put_back(&tag, &image).await?;
                self.run.say.line(format_args!("restored {tag} to {image}: it is alive again"));
            }
            self.kept.insert(tag, image);
        }
        Ok(())
    }

    fn is_alive(&self, tag: &Tag) -> bool {
        match self.plan.verdict(tag.as_str()) {
            Some(Verdict::Remove) | None => false,
            Some(Verdict::Keep | Verdict::Foreign | Verdict::Unknown | Verdict::Grace | Verdict::Restore) => true,
        }
    }

    fn still_planned(&self, mut chunk: BTreeMap<Tag, Target>) -> BTreeMap<Tag, Target> {
        chunk.retain(|tag, _| self.planned.contains_key(tag));
        chunk
    }

    /// Drops tags that moved since they were judged.
    async fn still_there(&mut self, mut chunk: BTreeMap<Tag, Target>) -> Result<BTreeMap<Tag, Target>, ReapError> {
        let now = outside::resolve(self.run.outside, chunk.keys().cloned()).await?;
        chunk.retain(|tag, target| {
            let same = now.get(tag).copied().flatten() == Some(target.digest);
            if !same {
                self.planned.remove(tag);
                self.run.say.line(format_args!("skipped {tag}: it moved since it was read"));
            }
            same
        });
        Ok(chunk)
    }

    async fn remove(&mut self, method: Method, chunk: &BTreeMap<Tag, Target>) -> Result<(), ReapError> {
        if chunk.is_empty() {
            return Ok(());
        }
        self.touched.extend(chunk.values().filter_map(|target| target.image));
        let result = match method {
            Method::ByTag => self.remove_by_tag(chunk).await,
            Method::Tombstone => self.remove_by_tombstone(chunk).await,
        };
        let gone: Vec<&Tag> = match result {
            Ok(()) => chunk.keys().collect(),
            // Some of them may be gone all the same: these come back if they are alive.
            Err(_) => {
                let now = outside::resolve(self.run.outside, chunk.keys().cloned()).await.unwrap_or_default();
                chunk.keys().filter(|tag| now.get(tag) == Some(&None)).collect()
            }
        };
        for tag in gone {
            self.run.say.line(format_args!("removed {tag}"));
            self.removed.insert(tag.clone(), chunk[tag].image);
        }
        result
    }

    async fn remove_by_tag(&mut self, chunk: &BTreeMap<Tag, Target>) -> Result<(), ReapError> {
        let outside = self.run.outside;
        let answers: Vec<(&Tag, Deleted)> =
            at_once(WRITES, chunk.keys(), async |tag| Ok((tag, outside.delete_tag(tag).await?))).await?;
        match answers.into_iter().find(|(_, deleted)| *deleted == Deleted::NotAllowed) {
            Some((tag, _)) => Err(self.not_removed(vec![tag.clone()])),
            None => Ok(()),
        }
    }

    async fn remove_by_tombstone(&mut self, chunk: &BTreeMap<Tag, Target>) -> Result<(), ReapError> {
        let Run { outside, rules, id, .. } = self.run;
        self.tombstones += 1;
        let before = chunk.iter().filter_map(|(tag, target)| Some((tag.to_string(), target.image?))).collect();
        let tombstone = artifact::tombstone(&rules.repository, id, self.tombstones, before);
        let digest = tombstone.manifest.digest;
        outside.push_note(&tombstone).await?;
        // Neither PUT nor DELETE is repeated: when the first one worked unseen, the second may hit what was pushed since.
        let put = at_once::<_, _, Vec<()>, _>(WRITES, chunk.keys(), async |tag| {
            outside.put_once(tag, &tombstone.manifest).await
        });
        let result = match put.await {
            Ok(_) => outside.delete(&digest).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(Deleted::Gone) => Ok(()),
            Ok(Deleted::WasNotThere | Deleted::NotAllowed) => {
                self.lift(chunk, &digest).await?;
                Err(self.not_removed(chunk.keys().cloned().collect()))
            }
            Err(error) => {
                // The next run does it, when this one cannot.
                let _ = self.lift(chunk, &digest).await;
                Err(error)
            }
        }
    }

    /// Puts the images back that a tombstone hides which could not be deleted.
    async fn lift(&mut self, chunk: &BTreeMap<Tag, Target>, tombstone: &Digest) -> Result<(), ReapError> {
        for (tag, target) in chunk {
            if let Some(image) = target.image
                && self.run.outside.resolve(tag).await? == Some(*tombstone)
            {
                self.put_back(tag, &image).await?;
            }
        }
        Ok(())
    }

    /// Looks whether what was kept is there and what was removed is not.
    ///
    /// What is not listed any more is asked for, and what is listed and shares an image with a tag that this run removed.
    async fn verify(&mut self) -> Result<(), ReapError> {
        let run = self.run;
        let listed: BTreeSet<String> = run.outside.tags().await?.into_iter().collect();
        let in_doubt =
            |(tag, digest): &(&Tag, &Digest)| !listed.contains(tag.as_str()) || self.touched.contains(digest);
        let doubtful: BTreeMap<Tag, Digest> =
            self.kept.iter().filter(in_doubt).map(|(tag, digest)| (tag.clone(), *digest)).collect();
        let now = outside::resolve(run.outside, doubtful.keys().cloned()).await?;
        let mut failed = Ok(());
        // A tag that points elsewhere was pushed meanwhile: that is its owner's business.
        for (tag, digest) in doubtful.iter().filter(|(tag, _)| now.get(tag) == Some(&None)) {
            match self.put_back(tag, digest).await {
                Ok(()) => {
                    run.say.line(format_args!("REPAIRED {tag}: it was lost, and points to {digest} again"));
                    self.repaired.insert(tag.clone());
                }
                // One that cannot be put back must not keep the others from it.
                Err(error) => failed = failed.and(Err(error)),
            }
        }
        failed?;
        let again = self.removed.iter().filter(|(tag, _)| listed.contains(tag.as_str()));
        let again: BTreeMap<Tag, Option<Digest>> = again.map(|(tag, image)| (tag.clone(), *image)).collect();
        let now = outside::resolve(run.outside, again.keys().cloned()).await?;
        let same = again.iter().filter(|(tag, image)| image.is_some() && now.get(tag) == Some(image));
        let tags: Vec<Tag> = same.map(|(tag, _)| tag.clone()).collect();
        if tags.is_empty() { Ok(()) } else { Err(self.not_removed(tags)) }
    }

    fn report(&self) -> Result<(), ReapError> {
        let Self { removed, kept, repaired, .. } = self;
        self.run.say.line(format_args!("tags removed: {}, kept tags verified: {}", removed.len(), kept.len()));
        if repaired.is_empty() {
            return Ok(());
        }
        Err(ReapError::Repaired {
            repository: self.run.repository.clone(),
            repaired: repaired.iter().cloned().collect(),
        })
    }

    fn not_removed(&self, tags_left: Vec<Tag>) -> ReapError {
        ReapError::NotRemoved { repository: self.run.repository.clone(), tags_left }
    }

    async fn put_back(&mut self, tag: &Tag, image: &Digest) -> Result<(), ReapError> {
        let saved: Option<Manifest> = match self.images.manifest(image) {
            Some(manifest) => Some(manifest.clone()),
            None => self.run.outside.manifest(image).await?,
        };
        let manifest = saved.ok_or_else(|| ReapError::Lost {
            repository: self.run.repository.clone(),
            tag: tag.clone(),
            digest: *image,
        })?;
        self.run.outside.put(tag, &manifest).await
    }
}
