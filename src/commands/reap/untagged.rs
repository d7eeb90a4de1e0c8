//! Deletes the images that earlier runs left without a tag, and notes those that this one does.
//!
//! This is the one place where a digest of an image is deleted, and with it every tag that somebody sets on it meanwhile.
//! So everything is read anew before, git and the tags again before each hundred, and all tags afterwards.

use std::collections::{BTreeMap, BTreeSet};

use super::apply::{self, Reaping};
use super::canary;
use super::outside::{Outside, READS, RegistrySide, at_once};
use super::read::{self, Images};
use super::record::Record;
use super::remove::{CHUNK, Removal};
use super::{ReapError, decide_by_labels, refused};
use crate::clients::registry::{Deleted, Manifest};
use crate::decide::reap::journal::Untagged;
use crate::decide::reap::{self as decide, Deletion, Done, Found, Origin, Plan, TagState};
use crate::names::{Digest, Tag};

/// How many manifests are deleted at once: each makes a server look through all its tags.
const DELETES: usize = 4;

/// What is noted of images that have no tag any more. What the registry does not have any more is left out.
///
/// # Errors
///
/// A manifest cannot be read.
pub async fn note<R: RegistrySide>(
    registry: &R,
    digests: BTreeSet<Digest>,
    now: jiff::Timestamp,
    images: &mut Images,
) -> Result<BTreeMap<Digest, Untagged>, ReapError> {
    if digests.is_empty() {
        return Ok(BTreeMap::new());
    }
    images.read(registry, digests.clone()).await?;
    let has_referrers = registry.lists_referrers().await?;
    let (known, images) = (digests.into_iter().filter(|digest| images.image(digest).is_some()), &*images);
    at_once(READS, known, async |digest| {
        let (manifest, origin) = images.image(&digest).expect("it was looked for just now");
        let commit = match origin {
            Origin::Labels(labels) => labels.commit.as_deref().and_then(|commit| commit.parse().ok()),
            Origin::NotRead | Origin::Unreadable { .. } => None,
        };
        let parts = parts(registry, manifest, has_referrers).await?;
        Ok((digest, Untagged { since: now, commit, parts }))
    })
    .await
}

/// The manifests that belong to one: those that an index has, and those that refer to any of them.
async fn parts<R: RegistrySide>(
    registry: &R,
    manifest: &Manifest,
    has_referrers: bool,
) -> Result<BTreeSet<Digest>, ReapError> {
    let mut parts = BTreeSet::new();
    let mut left = vec![(manifest.digest, registry.children(manifest))];
    while let Some((digest, mut next)) = left.pop() {
        if has_referrers {
            next.extend(registry.referrers(&digest).await?);
        }
        // A cache of layers is an index too, and its layers are no manifests.
        for part in next.into_iter().filter(|part| read::is_manifest(&part.media_type)) {
            if part.digest == manifest.digest || !parts.insert(part.digest) {
                continue;
            }
            let below = if read::is_index(&part.media_type) { registry.manifest(&part.digest).await? } else { None };
            left.push((part.digest, below.map(|below| registry.children(&below)).unwrap_or_default()));
        }
    }
    Ok(parts)
}

/// Deletes those of these images that still are to be deleted.
///
/// # Errors
///
/// The registry does not delete by digest, did not do it or refused some of them, or a request failed: what is left is
/// done by the next run. Or a tag was lost to it that somebody set at the same time: it is put back, and
/// [`ReapError::Repaired`] names it.
pub async fn delete<O: Outside>(
    reaping: &Reaping<'_, O>,
    record: &mut Record,
    planned: &BTreeSet<Digest>,
    mut images: Images,
) -> Result<(), ReapError> {
    let Reaping { outside, rules, now, run } = reaping;
    run.say.line("reading registry and git again, to delete images without a tag");
    // Every tag is asked for: what has a tag again, or is part of what has one, stays.
    let registry = read::registry(run.registry, run.repository, rules, &BTreeMap::new(), &mut images).await?;
    let git = outside.git(&registry.question(rules), None).await?;
    let mut found = Found { registry, git };
    let plan = decide_by_labels(*outside, run.repository, rules, *now, &mut found, &mut images).await?;
    let mut due = by_image(&plan);
    due.retain(|image, _| planned.contains(image));
    if due.is_empty() {
        run.say.line("no image is to be deleted any more");
        return Ok(());
    }
    canary::may_delete(run, None).await?;

    let images_due: Vec<Digest> = due.keys().copied().collect();
    let mut work = Deleting {
        reaping,
        due,
        found,
        gone: BTreeMap::new(),
        done: Done::default(),
        refused: Refused::default(),
        is_proven: false,
    };
    let result = work.delete_all(&images_due).await;
    // Whatever stopped it, what was kept is looked after.
    let mut removal = Removal::new(run, apply::kept(&plan), images);
    let verified = work.verify(&mut removal).await;
    let deleted = work.done.deleted.len();
    if let Err(why) = result {
        if let Err(second) = verified {
            run.say.line(format_args!("the kept tags could not be verified either: {second}"));
        }
        return Err(ReapError::StoppedDeleting { repository: run.repository.clone(), deleted, why: Box::new(why) });
    }
    verified?;
    record.write(reaping, plan.journal(&work.done)).await?;
    let kept = removal.kept.len();
    run.say.line(format_args!("images deleted: {deleted}, manifests: {}, kept tags verified: {kept}", work.gone.len()));
    removal.repaired()?;
    work.refused.into_result(reaping)
}

/// What is deleted with each image.
fn by_image(plan: &Plan) -> BTreeMap<Digest, BTreeSet<Digest>> {
    plan.deletions().iter().map(|Deletion { image, manifests }| (*image, manifests.clone())).collect()
}

/// What the registry refused to delete.
#[derive(Default)]
struct Refused {
    manifests: usize,
    /// The first of them, and why.
    first: Option<(Digest, Option<ReapError>)>,
}

impl Refused {
    fn add(&mut self, digest: Digest, why: Option<ReapError>) {
        self.manifests += 1;
        self.first.get_or_insert((digest, why));
    }

    fn into_result<O: Outside>(self, reaping: &Reaping<'_, O>) -> Result<(), ReapError> {
        let Some((first, why)) = self.first else { return Ok(()) };
        Err(ReapError::NotDeleted {
            repository: reaping.run.repository.clone(),
            manifests: self.manifests,
            first,
            why: why.map(Box::new),
        })
    }
}

struct Deleting<'a, O: Outside> {
    reaping: &'a Reaping<'a, O>,
    /// The images that go as git is now, each with its manifests but those that what stays needs.
    due: BTreeMap<Digest, BTreeSet<Digest>>,
    found: Found,
    /// What was deleted, to put it back.
    gone: BTreeMap<Digest, Manifest>,
    done: Done,
    refused: Refused,
    /// Whether a manifest that was deleted was seen to be gone.
    is_proven: bool,
}

impl<O: Outside> Deleting<'_, O> {
    async fn delete_all(&mut self, images: &[Digest]) -> Result<(), ReapError> {
        for chunk in images.chunks(CHUNK) {
            self.look_at_git().await?;
            let held = self.held_meanwhile().await?;
            let goes = |image: &Digest| self.due.get(image).filter(|manifests| manifests.is_disjoint(&held));
            let free: BTreeMap<Digest, BTreeSet<Digest>> =
                chunk.iter().filter_map(|image| Some((*image, goes(image)?.clone()))).collect();
            for image in chunk.iter().filter(|image| !free.contains_key(image)) {
                self.reaping.run.say.line(format_args!("kept {image}: it is needed again"));
            }
            self.delete_chunk(&free).await?;
        }
        Ok(())
    }

    /// Reads git's refs; when they moved, decides anew: an image whose commit is alive stays, with all that it has.
    async fn look_at_git(&mut self) -> Result<(), ReapError> {
        let Reaping { outside, rules, now, run } = self.reaping;
        let git = outside.git(&self.found.registry.question(rules), Some(&self.found.git)).await?;
        if !git.same_refs(&self.found.git) {
            run.say.line("git has moved meanwhile; deciding again");
            self.found.git = git;
            let plan = decide::reap(&self.found, rules, *now).map_err(|refusal| refused(run.repository, refusal))?;
            self.due = by_image(&plan);
        }
        Ok(())
    }

    /// What the tags need that were not there when everything was read. A put that uses an image again sets at least one
    /// such tag: the image had none.
    async fn held_meanwhile(&self) -> Result<BTreeSet<Digest>, ReapError> {
        let registry = self.reaping.run.registry;
        let listed = registry.tags().await?;
        let new = listed.iter().filter(|&tag| !self.found.registry.tags.contains_key(tag));
        let new: Vec<Tag> = new.filter_map(|tag| tag.parse().ok()).collect();
        let held: Vec<BTreeSet<Digest>> = at_once(READS, new, async |tag| {
            let Some(found) = registry.describe(&tag).await? else { return Ok(BTreeSet::new()) };
            let mut held = if read::is_index(&found.media_type) {
                read::closure(registry, found.digest).await?
            } else {
                BTreeSet::new()
            };
            held.insert(found.digest);
            Ok(held)
        })
        .await?;
        Ok(held.into_iter().flatten().collect())
    }

    /// Deletes these images, each with these manifests.
    async fn delete_chunk(&mut self, chunk: &BTreeMap<Digest, BTreeSet<Digest>>) -> Result<(), ReapError> {
        let run = &self.reaping.run;
        let digests = chunk.values().flatten().filter(|digest| !self.gone.contains_key(digest));
        let digests: BTreeSet<Digest> = digests.copied().collect();
        let manifests: Vec<Option<Manifest>> =
            at_once(READS, digests, async |digest| run.registry.manifest(&digest).await).await?;
        let manifests: BTreeMap<Digest, Manifest> =
            manifests.into_iter().flatten().map(|manifest| (manifest.digest, manifest)).collect();
        let mut left: BTreeSet<Digest> = BTreeSet::new();
        for wave in waves(run.registry, &manifests) {
            // To be put back, also when the answer to its DELETE is lost.
            self.gone.extend(wave.iter().map(|digest| (*digest, manifests[digest].clone())));
            let answers: Vec<(Digest, Result<Deleted, ReapError>)> =
                at_once(DELETES, wave, async |digest| match run.registry.delete(&digest).await {
                    Err(error) if !canary::is_refusal(&error) => Err(error),
                    answer => Ok((digest, answer)),
                })
                .await?;
            for (digest, answer) in answers {
                let why = match answer {
                    Ok(Deleted::Gone | Deleted::WasNotThere) => {
                        self.prove(&digest).await?;
                        continue;
                    }
                    Ok(Deleted::NotAllowed) => None,
                    Err(error) => Some(error),
                };
                self.refused.add(digest, why);
                self.gone.remove(&digest);
                left.insert(digest);
            }
        }
        for (image, _) in chunk.iter().filter(|(_, manifests)| manifests.is_disjoint(&left)) {
            run.say.line(format_args!("deleted {image}"));
            self.done.deleted.insert(*image);
        }
        Ok(())
    }

    /// Looks whether the first manifest that was deleted is gone: some registries acknowledge what they do not do.
    async fn prove(&mut self, digest: &Digest) -> Result<(), ReapError> {
        if self.is_proven {
            return Ok(());
        }
        let run = &self.reaping.run;
        if run.registry.manifest(digest).await?.is_some() {
            let repository = run.repository.clone();
            return Err(ReapError::NotDeleted { repository, manifests: 1, first: *digest, why: None });
        }
        self.is_proven = true;
        Ok(())
    }

    /// Asks for every tag, and puts back what is not there any more or lacks a manifest that was deleted.
    async fn verify(&self, removal: &mut Removal<'_, O::Registry>) -> Result<(), ReapError> {
        let Reaping { rules, run, .. } = self.reaping;
        let after = read::registry(run.registry, run.repository, rules, &BTreeMap::new(), &mut removal.images).await?;
        let mut needed: BTreeMap<Digest, &str> = BTreeMap::new();
        for (tag, state) in &after.tags {
            let Some(digest) = state.image_digest() else { continue };
            let parts = after.children.get(&digest).into_iter().flatten();
            needed.extend(parts.chain([&digest]).map(|digest| (*digest, tag.as_str())));
        }
        for (digest, manifest) in &self.gone {
            if let Some(tag) = needed.get(digest).and_then(|tag| tag.parse().ok()) {
                run.registry.put_by_digest(manifest).await?;
                removal.was_repaired(tag, digest);
            }
        }
        let lost = removal
            .kept
            .iter()
            .filter(|(tag, _)| matches!(after.tags.get(tag.as_str()), None | Some(TagState::Missing)));
        let lost: Vec<(Tag, Digest)> = lost.map(|(tag, digest)| (tag.clone(), *digest)).collect();
        let mut failed = Ok(());
        for (tag, digest) in lost {
            // One that cannot be put back must not keep the others from it.
            failed = failed.and(removal.repair(&tag, &digest).await);
        }
        failed
    }
}

/// These manifests so that an index comes before what it has: some registries delete nothing that an index needs.
fn waves<R: RegistrySide>(registry: &R, manifests: &BTreeMap<Digest, Manifest>) -> Vec<BTreeSet<Digest>> {
    let children = |digest: &Digest| registry.children(&manifests[digest]).into_iter().map(|child| child.digest);
    let (mut waves, mut left): (Vec<BTreeSet<Digest>>, BTreeSet<Digest>) =
        (Vec::new(), manifests.keys().copied().collect());
    while !left.is_empty() {
        let below: BTreeSet<Digest> = left.iter().flat_map(children).collect();
        let wave: BTreeSet<Digest> = left.difference(&below).copied().collect();
        left.retain(|digest| !wave.contains(digest));
        waves.push(wave);
    }
    waves
}
