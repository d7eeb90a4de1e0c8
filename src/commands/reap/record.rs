//! Keeps the journal in the registry: since when tags are dead.

use super::ReapError;
use super::apply::Reaping;
use super::outside::{Outside, RegistrySide as _};
use super::read;
use crate::decide::reap::artifact;
use crate::decide::reap::journal::Journal;
use crate::decide::reap::{Done, Plan};
use crate::decide::tags;
use crate::names::{Digest, Tag};

/// The journal of a run.
pub struct Record {
    tag: Tag,
    /// What the tag pointed to when it was seen last; `None`: nothing.
    seen: Option<Digest>,
    /// How many journals this run has written: no two may have the same bytes.
    number: usize,
}

impl Record {
    /// Writes what the plan says, where that is news.
    ///
    /// # Errors
    ///
    /// The journal cannot be written.
    pub async fn begin<O: Outside>(reaping: &Reaping<'_, O>, plan: &Plan, done: &Done) -> Result<Self, ReapError> {
        let tag = tags::journal_tag(&reaping.rules.tag_prefix, &reaping.rules.repository);
        let seen = plan.judgements().iter().find(|judgement| judgement.tag == tag.as_str());
        let mut record = Self { tag, seen: seen.and_then(|judgement| judgement.digest), number: 0 };
        record.write(reaping, plan.journal(done)).await?;
        Ok(record)
    }

    /// Writes a journal. Where another run has written one meanwhile, it says what both agree on.
    ///
    /// # Errors
    ///
    /// The journal cannot be written.
    pub async fn write<O: Outside>(
        &mut self,
        reaping: &Reaping<'_, O>,
        journal: Option<Journal>,
    ) -> Result<(), ReapError> {
        let Some(mut journal) = journal else { return Ok(()) };
        let run = &reaping.run;
        let mut before = self.seen;
        let there = run.registry.resolve(&self.tag).await?;
        if let Some(digest) = there.filter(|_| there != self.seen) {
            let other = read::journal(run.registry, &digest).await?;
            before = other.as_ref().map(|_| digest);
            journal = match other {
                Some(other) => journal.agreed(&other.journal),
                None => journal,
            };
        }
        self.number += 1;
        let (tags, images) = (journal.dead.len(), journal.untagged.len());
        let artifact = artifact::journal(run.writer, run.id, self.number, journal);
        run.registry.push_note(&artifact).await?;
        run.registry.put(&self.tag, &artifact.manifest).await?;
        let images = if images == 0 { String::new() } else { format!(", images without a tag: {images}") };
        run.say.line(format_args!("journal {}: dead tags noted: {tags}{images}", self.tag));
        // The one before is of no use to anybody, and is an artifact of ours: what cannot be deleted only takes space.
        if let Some(before) = before {
            let _ = run.registry.delete(&before).await;
        }
        self.seen = Some(artifact.manifest.digest);
        Ok(())
    }
}
