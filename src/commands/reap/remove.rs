//! Takes tags away, and looks after those that stay.
//!
//! Here a digest of an image is never deleted. What is deleted is a tag, or an artifact of ours. So the worst that an
//! interruption leaves is a tombstone that says what it lies on; the next run puts back or finishes.

use std::collections::{BTreeMap, BTreeSet};

use super::ReapError;
use super::canary::Method;
use super::outside::{self, RegistrySide, WRITES, at_once};
use super::read::Images;
use crate::clients::registry::{Deleted, Manifest};
use crate::decide::reap::Order;
use crate::decide::reap::artifact::{self, RunId};
use crate::names::{Digest, Repository, Tag};
use crate::say::Say;

/// How many tags go at once, between two looks at what decides.
pub const CHUNK: usize = 100;

/// Who removes, from where.
pub struct Run<'a, R> {
    /// The repository, to ask.
    pub registry: &'a R,
    /// The repository of the registry.
    pub repository: &'a Repository,
    /// Who writes: the canonical name of the git repository, or the command where there is none.
    pub writer: &'a str,
    /// What stands before every tag that the run itself writes.
    pub tag_prefix: &'a str,
    /// This run.
    pub id: &'a RunId,
    /// Where every action is told.
    pub say: &'a Say,
}

/// A tag that is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// What it resolves to.
    pub digest: Digest,
    /// The image that it stands for; another one when a tombstone lies on it.
    pub image: Option<Digest>,
    /// When it goes.
    pub order: Order,
}

/// What a run has done to the tags of a repository.
pub struct Removal<'a, R> {
    run: &'a Run<'a, R>,
    /// The manifests that were read.
    pub images: Images,
    /// The tags that stay, and what they pointed to when they were seen last.
    pub kept: BTreeMap<Tag, Digest>,
    /// What this run has removed, and the image it pointed to.
    pub removed: BTreeMap<Tag, Option<Digest>>,
    /// The images of which this run removed a tag, or tried to.
    touched: BTreeSet<Digest>,
    /// How many tombstones this run has made: no two may have the same bytes.
    tombstones: usize,
    /// The tags that had to be put back.
    repaired: BTreeSet<Tag>,
}

impl<'a, R: RegistrySide> Removal<'a, R> {
    /// Nothing is removed yet.
    pub fn new(run: &'a Run<'a, R>, kept: BTreeMap<Tag, Digest>, images: Images) -> Self {
        let (removed, touched, repaired) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        Self { run, images, kept, removed, touched, tombstones: 0, repaired }
    }

    /// Undoes what a run that was stopped has left on tags that stay: for each its tombstone, and its image.
    ///
    /// # Errors
    ///
    /// An image cannot be put back, or a request failed.
    pub async fn restore(&mut self, hidden: &BTreeMap<Tag, (Digest, Digest)>) -> Result<(), ReapError> {
        for (tag, (tombstone, image)) in hidden {
            if self.run.registry.resolve(tag).await? == Some(*tombstone) {
                self.put_back(tag, image).await?;
                self.run.say.line(format_args!("restored {tag} to {image}: a stopped run had left a tombstone on it"));
            }
        }
        Ok(())
    }

    /// Looks after what was kept, however the removal ended.
    ///
    /// # Errors
    ///
    /// The removal was stopped, or as [`Self::verify`].
    pub async fn conclude(&mut self, result: Result<(), ReapError>) -> Result<(), ReapError> {
        let verified = self.verify().await;
        let Err(error) = result else { return verified };
        if let Err(second) = verified {
            self.run.say.line(format_args!("the kept tags could not be verified either: {second}"));
        }
        Err(ReapError::Stopped {
            repository: self.run.repository.clone(),
            removed: self.removed.len(),
            why: Box::new(error),
        })
    }

    /// Removes tags, except those that moved since they were judged.
    ///
    /// # Errors
    ///
    /// The registry refused or did not do it, or a request failed; some of the tags may be gone.
    pub async fn remove_if_there(&mut self, method: Method, mut chunk: BTreeMap<Tag, Target>) -> Result<(), ReapError> {
        let now = outside::resolve(self.run.registry, chunk.keys().cloned()).await?;
        chunk.retain(|tag, target| {
            let same = now.get(tag).copied().flatten() == Some(target.digest);
            if !same {
                self.run.say.line(format_args!("skipped {tag}: it moved since it was read"));
            }
            same
        });
        self.remove(method, &chunk).await
    }

    async fn remove(&mut self, method: Method, chunk: &BTreeMap<Tag, Target>) -> Result<(), ReapError> {
        if chunk.is_empty() {
            return Ok(());
        }
        self.touched.extend(chunk.values().filter_map(|target| target.image));
        let run = self.run;
        let result = match method {
            Method::OwnApi(_) => {
                self.remove_each(chunk, async |tag, target: &Target| run.registry.untag(tag, &target.digest).await)
                    .await
            }
            Method::ByTag => self.remove_each(chunk, async |tag, _| run.registry.delete_tag(tag).await).await,
            Method::Tombstone => self.remove_by_tombstone(chunk).await,
        };
        let gone: Vec<&Tag> = match result {
            Ok(()) => chunk.keys().collect(),
            // Some of them may be gone all the same: these come back if they are alive.
            Err(_) => {
                let now = outside::resolve(self.run.registry, chunk.keys().cloned()).await.unwrap_or_default();
                chunk.keys().filter(|tag| now.get(tag) == Some(&None)).collect()
            }
        };
        for tag in gone {
            self.run.say.line(format_args!("removed {tag}"));
            self.removed.insert(tag.clone(), chunk[tag].image);
        }
        result
    }

    /// Removes tag by tag.
    async fn remove_each(
        &self,
        chunk: &BTreeMap<Tag, Target>,
        remove: impl AsyncFn(&Tag, &Target) -> Result<Deleted, ReapError>,
    ) -> Result<(), ReapError> {
        let remove = &remove;
        let answers: Vec<(&Tag, Deleted)> =
            at_once(WRITES, chunk, async |(tag, target)| Ok((tag, remove(tag, target).await?))).await?;
        match answers.into_iter().find(|(_, deleted)| *deleted == Deleted::NotAllowed) {
            Some((tag, _)) => Err(self.not_removed(vec![tag.clone()])),
            None => Ok(()),
        }
    }

    async fn remove_by_tombstone(&mut self, chunk: &BTreeMap<Tag, Target>) -> Result<(), ReapError> {
        let Run { registry, writer, id, .. } = self.run;
        self.tombstones += 1;
        let before = chunk.iter().filter_map(|(tag, target)| Some((tag.to_string(), target.image?))).collect();
        let tombstone = artifact::tombstone(writer, id, self.tombstones, before);
        let digest = tombstone.manifest.digest;
        registry.push_note(&tombstone).await?;
        // Neither PUT nor DELETE is repeated: when the first one worked unseen, the second may hit what was pushed since.
        let put = at_once::<_, _, Vec<()>, _>(WRITES, chunk.keys(), async |tag| {
            registry.put_once(tag, &tombstone.manifest).await
        });
        let result = match put.await {
            Ok(_) => registry.delete(&digest).await,
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
                && self.run.registry.resolve(tag).await? == Some(*tombstone)
            {
                self.put_back(tag, &image).await?;
            }
        }
        Ok(())
    }

    /// Looks whether what was kept is there and what was removed is not.
    ///
    /// What is not listed any more is asked for, and what is listed and shares an image with a tag that this run removed.
    ///
    /// # Errors
    ///
    /// A kept tag cannot be put back, a removed one is still there, or a request failed.
    async fn verify(&mut self) -> Result<(), ReapError> {
        let run = self.run;
        let listed: BTreeSet<String> = run.registry.tags().await?.into_iter().collect();
        let in_doubt =
            |(tag, digest): &(&Tag, &Digest)| !listed.contains(tag.as_str()) || self.touched.contains(digest);
        let doubtful: BTreeMap<Tag, Digest> =
            self.kept.iter().filter(in_doubt).map(|(tag, digest)| (tag.clone(), *digest)).collect();
        let now = outside::resolve(run.registry, doubtful.keys().cloned()).await?;
        let mut failed = Ok(());
        // A tag that points elsewhere was pushed meanwhile: that is its owner's business.
        for (tag, digest) in doubtful.iter().filter(|(tag, _)| now.get(tag) == Some(&None)) {
            // One that cannot be put back must not keep the others from it.
            failed = failed.and(self.repair(tag, digest).await);
        }
        failed?;
        let again = self.removed.iter().filter(|(tag, _)| listed.contains(tag.as_str()));
        let again: BTreeMap<Tag, Option<Digest>> = again.map(|(tag, image)| (tag.clone(), *image)).collect();
        let now = outside::resolve(run.registry, again.keys().cloned()).await?;
        let same = again.iter().filter(|(tag, image)| image.is_some() && now.get(tag) == Some(image));
        let tags: Vec<Tag> = same.map(|(tag, _)| tag.clone()).collect();
        if tags.is_empty() { Ok(()) } else { Err(self.not_removed(tags)) }
    }

    /// Says how many tags went.
    ///
    /// # Errors
    ///
    /// [`ReapError::Repaired`].
    pub fn report(&self) -> Result<(), ReapError> {
        let Self { removed, kept, .. } = self;
        self.run.say.line(format_args!("tags removed: {}, kept tags verified: {}", removed.len(), kept.len()));
        self.repaired()
    }

    /// Names what had to be put back.
    ///
    /// # Errors
    ///
    /// [`ReapError::Repaired`].
    pub fn repaired(&self) -> Result<(), ReapError> {
        if self.repaired.is_empty() {
            return Ok(());
        }
        Err(ReapError::Repaired {
            repository: self.run.repository.clone(),
            repaired: self.repaired.iter().cloned().collect(),
        })
    }

    /// Puts back a tag that was lost.
    ///
    /// # Errors
    ///
    /// As [`Self::put_back`].
    pub async fn repair(&mut self, tag: &Tag, image: &Digest) -> Result<(), ReapError> {
        self.put_back(tag, image).await?;
        self.was_repaired(tag.clone(), image);
        Ok(())
    }

    /// Says that a tag, or what it needs, was put back.
    pub fn was_repaired(&mut self, tag: Tag, digest: &Digest) {
        self.run.say.line(format_args!("REPAIRED {tag}: {digest} was lost, and is there again"));
        self.repaired.insert(tag);
    }

    fn not_removed(&self, tags_left: Vec<Tag>) -> ReapError {
        ReapError::NotRemoved { repository: self.run.repository.clone(), tags_left }
    }

    /// Puts an image at a tag again.
    ///
    /// # Errors
    ///
    /// The registry does not have it any more, or a request failed.
    pub async fn put_back(&mut self, tag: &Tag, image: &Digest) -> Result<(), ReapError> {
        let saved: Option<Manifest> = match self.images.manifest(image) {
            Some(manifest) => Some(manifest.clone()),
            None => self.run.registry.manifest(image).await?,
        };
        let manifest = saved.ok_or_else(|| ReapError::Lost {
            repository: self.run.repository.clone(),
            tag: tag.clone(),
            digest: *image,
        })?;
        self.run.registry.put(tag, &manifest).await
    }
}
