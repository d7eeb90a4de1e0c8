//! Keeps the journal in the registry: since when tags are dead.

use super::ReapError;
use super::apply::Run;
use super::outside::Outside;
use super::read;
use crate::decide::reap::Plan;
use crate::decide::reap::artifact;
use crate::decide::reap::journal::Journal;
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
    pub async fn begin<O: Outside>(run: &Run<'_, O>, plan: &Plan) -> Result<Self, ReapError> {
        let tag = tags::journal_tag(&run.rules.tag_prefix, &run.rules.repository);
        let seen = plan.judgements().iter().find(|judgement| judgement.tag == tag.as_str());
        let mut record = Self { tag, seen: seen.and_then(|judgement| judgement.digest), number: 0 };
        record.write(run, plan.journal(|_| false)).await?;
        Ok(record)
    }

    /// Writes a journal. Where another run has written one meanwhile, it says what both agree on.
    ///
    /// # Errors
    ///
    /// The journal cannot be written.
    pub async fn write<O: Outside>(&mut self, run: &Run<'_, O>, journal: Option<Journal>) -> Result<(), ReapError> {
        let Some(mut journal) = journal else { return Ok(()) };
        let mut before = self.seen;
        let there = run.outside.resolve(&self.tag).await?;
        if let Some(digest) = there.filter(|_| there != self.seen) {
            let other = read::journal(run.outside, &digest).await?;
            before = other.as_ref().map(|_| digest);
            journal = match other {
                Some(other) => journal.agreed(&other.journal),
                None => journal,
            };
        }
        self.number += 1;
        let tags = journal.dead.len();
        let artifact = artifact::journal(&run.rules.repository, run.id, self.number, journal);
        run.outside.push_note(&artifact).await?;
        run.outside.put(&self.tag, &artifact.manifest).await?;
        run.say.line(format_args!("journal {}: dead tags noted: {tags}", self.tag));
        // The one before is of no use to anybody, and is an artifact of ours: what cannot be deleted only takes space.
        if let Some(before) = before {
            let _ = run.outside.delete(&before).await;
        }
        self.seen = Some(artifact.manifest.digest);
        Ok(())
    }
}
