//! Does what the plan says, and looks again at git and registry before each step.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::canary::{self, Method};
use super::outside::{Outside, RegistrySide as _};
use super::read::{self, Images};
use super::record::Record;
use super::remove::{CHUNK, Removal, Run, Target};
use super::{ReapError, decide_by_labels, refused, untagged};
use crate::decide::reap::{self as decide, Done, Found, Judgement, Order, Plan, Rules, TagState, Verdict};
use crate::decide::tags::OurTag;
use crate::names::{Digest, Tag};

/// What a run needs besides the plan.
pub struct Reaping<'a, O: Outside> {
    /// Registry and git.
    pub outside: &'a O,
    /// The rules that the plan was made by.
    pub rules: &'a Rules,
    /// When it began.
    pub now: Timestamp,
    /// The registry's side of it.
    pub run: Run<'a, O::Registry>,
}

/// Applies a plan.
///
/// # Errors
///
/// Nothing was removed: the plan goes too far, deletes are disabled, or no method was proven. Or the run stopped half way, which leaves every
/// kept tag as it was. Or a kept tag was lost to somebody else's request at the same time: it is put back, and
/// [`ReapError::Repaired`] names it.
pub async fn apply<O: Outside>(
    reaping: &Reaping<'_, O>,
    plan: Plan,
    found: Found,
    images: Images,
) -> Result<(), ReapError> {
    let run = &reaping.run;
    let due: BTreeSet<Digest> = plan.deletions().iter().map(|deletion| deletion.image).collect();
    let mut state = State {
        reaping,
        planned: removals(&plan),
        removal: Removal::new(run, kept(&plan), images),
        plan,
        found,
        done: Done::default(),
    };
    // Before anything else: a run that cannot write its journal must not remove by it.
    state.note_what_is_done().await?;
    let mut record = Record::begin(reaping, &state.plan, &state.done).await?;
    state.restore_what_tombstones_hide().await?;
    // After these two: the limit protects tags, and what was seen alive or dead was seen all the same.
    state.plan.within_limits().map_err(|refusal| refused(run.repository, refusal))?;
    if state.planned.is_empty() && due.is_empty() {
        run.say.line("nothing to remove");
    }
    if !state.planned.is_empty() {
        let method = canary::prove(run).await?;
        state.save_what_stays().await?;
        run.say.line(method.proven());
        // Whatever stops the removal, what was kept is looked after.
        let result = state.remove_all(method).await;
        state.removal.conclude(result).await?;
        // A tag that is pushed again begins anew.
        state.note_what_is_done().await?;
        record.write(reaping, state.plan.journal(&state.done)).await?;
        state.removal.report()?;
    }
    if due.is_empty() {
        return Ok(());
    }
    untagged::delete(reaping, &mut record, &due, state.removal.images).await
}

struct State<'a, O: Outside> {
    reaping: &'a Reaping<'a, O>,
    plan: Plan,
    found: Found,
    /// What may still be removed, and what it points to. It only ever shrinks.
    planned: BTreeMap<Tag, Target>,
    removal: Removal<'a, O::Registry>,
    /// What the journal is to say of this run.
    done: Done,
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

/// The tags that stay, and what they point to.
pub fn kept(plan: &Plan) -> BTreeMap<Tag, Digest> {
    by_tag(plan.judgements().iter(), |judgement| match judgement.verdict {
        // Runs move their journals, and clean up after themselves; those of prune, too.
        _ if judgement.tag.contains("_reaper-") => None,
        Verdict::Keep | Verdict::Foreign | Verdict::Unknown | Verdict::Grace => judgement.digest,
        Verdict::Restore => judgement.image,
        Verdict::Remove => None,
    })
}

impl<O: Outside> State<'_, O> {
    /// Undoes what a run that was stopped has left on tags that are not dead.
    async fn restore_what_tombstones_hide(&mut self) -> Result<(), ReapError> {
        let restores = by_tag(self.plan.restores(), |judgement| Some((judgement.digest?, judgement.image?)));
        self.removal.restore(&restores).await
    }

    /// What is ours and stays can be put again, even if somebody else deletes its manifest while this run is at work.
    async fn save_what_stays(&mut self) -> Result<(), ReapError> {
        let stays = self.plan.judgements().iter().filter(|judgement| judgement.verdict == Verdict::Keep);
        let ours = stays.filter(|judgement| decide::form(self.reaping.rules, &judgement.tag) != OurTag::Foreign);
        let digests = ours.filter_map(|judgement| judgement.image).collect();
        self.removal.images.save(self.reaping.run.registry, digests).await
    }

    /// What of this run goes into the journal.
    async fn note_what_is_done(&mut self) -> Result<(), ReapError> {
        let Reaping { run, now, .. } = self.reaping;
        self.done.removed = self.removal.removed.keys().map(Tag::to_string).collect();
        let images = self.plan.newly_untagged(&self.done.removed);
        self.done.untagged.retain(|image, _| images.contains(image));
        let new = images.into_iter().filter(|image| !self.done.untagged.contains_key(image)).collect();
        self.done.untagged.extend(untagged::note(run.registry, new, *now, &mut self.removal.images).await?);
        Ok(())
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
                self.planned.retain(|tag, _| !chunk.contains_key(tag));
                self.removal.remove_if_there(method, chunk).await?;
            }
        }
        self.look_at_git().await
    }

    /// Before content tags go: a put that overlaps may have set another tag on the image of one of them.
    async fn list_again(&mut self) -> Result<(), ReapError> {
        let Reaping { outside, rules, run, .. } = self.reaping;
        let known = self.found.registry.tags.iter().filter(|(tag, _)| self.stays_where_it_is(tag));
        let known = known.map(|(tag, state)| (tag.clone(), state.clone())).collect();
        let mut registry =
            read::registry(run.registry, run.repository, rules, &known, &mut self.removal.images).await?;
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
        registry.pulls = std::mem::take(&mut self.found.registry.pulls);
        self.found.registry = registry;
        self.found.git = outside.git(&self.found.registry.question(rules), None).await?;
        self.decide_again().await
    }

    /// Whether a tag need not be asked for again: the tags of a commit and of inputs name their image, and a put that
    /// moves one of them all the same sets the tag of its branch too, which is asked for.
    fn stays_where_it_is(&self, tag: &str) -> bool {
        let removed = tag.parse::<Tag>().is_ok_and(|tag| self.removal.removed.contains_key(&tag));
        match decide::form(self.reaping.rules, tag) {
            // By the journal of another run that ends meanwhile, what that one removed would be seen dead for the first time.
            OurTag::Commit(_) | OurTag::Content(_) | OurTag::Reaper => !removed,
            OurTag::Latest { .. } | OurTag::Cache { .. } | OurTag::Foreign => false,
        }
    }

    /// Reads git's refs; when they moved, decides anew.
    async fn look_at_git(&mut self) -> Result<(), ReapError> {
        let question = self.found.registry.question(self.reaping.rules);
        let git = self.reaping.outside.git(&question, Some(&self.found.git)).await?;
        if !git.same_refs(&self.found.git) {
            self.reaping.run.say.line("git has moved meanwhile; deciding again");
            self.found.git = git;
            self.decide_again().await?;
        }
        Ok(())
    }

    /// What the new plan does not remove is not removed. What it would remove besides has not been shown: next time.
    async fn decide_again(&mut self) -> Result<(), ReapError> {
        let Reaping { outside, rules, now, run } = self.reaping;
        self.plan =
            decide_by_labels(*outside, run.repository, rules, *now, &mut self.found, &mut self.removal.images).await?;
        let removals = removals(&self.plan);
        self.planned.retain(|tag, target| {
            let stays = removals.get(tag) != Some(target);
            if stays {
                self.reaping.run.say.line(format_args!("kept {tag}: it is no longer what the plan was made for"));
            }
            !stays
        });
        self.removal.kept.extend(kept(&self.plan));
        self.removal.kept.retain(|tag, _| self.plan.verdict(tag.as_str()) != Some(Verdict::Remove));
        self.revive().await
    }

    /// Puts back what was removed in this run and is alive now, unless a push has already set it.
    async fn revive(&mut self) -> Result<(), ReapError> {
        let alive: Vec<(Tag, Option<Digest>)> = self
            .removal
            .removed
            .iter()
            .filter(|(tag, _)| self.is_alive(tag))
            .map(|(tag, image)| (tag.clone(), *image))
            .collect();
        for (tag, image) in alive {
            self.removal.removed.remove(&tag);
            let Some(image) = image else { continue };
            if self.reaping.run.registry.resolve(&tag).await?.is_none() {
                self.removal.put_back(&tag, &image).await?;
                self.reaping.run.say.line(format_args!("restored {tag} to {image}: it is alive again"));
            }
            self.removal.kept.insert(tag, image);
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
}
