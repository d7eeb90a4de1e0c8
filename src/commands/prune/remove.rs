//! Does what the plan says in one repository.

use std::collections::{BTreeMap, BTreeSet};

use super::outside::Pruned;
use super::{WRITER, read};
use crate::commands::reap::ReapError;
use crate::commands::reap::canary::{self, Method};
use crate::commands::reap::read::Images;
use crate::commands::reap::remove::{CHUNK, Removal, Run, Target};
use crate::decide::prune::{BEGUN, Judgement, Reason, State, Verdict};
use crate::decide::reap::artifact::{self, RunId};
use crate::decide::reap::{Order, attached};
use crate::names::{Digest, Tag};
use crate::say::Say;

/// Puts back what an earlier run left half done, and removes what goes.
///
/// # Errors
///
/// As the reaper's: see [`ReapError`].
pub async fn apply<R: Pruned>(registry: &R, plan: &[Judgement], id: &RunId, say: &Say) -> Result<(), ReapError> {
    let run = Run { registry, repository: registry.repository(), writer: WRITER, tag_prefix: "", id, say };
    let planned = by_tag(plan, |one| match one.verdict {
        Verdict::Remove => Some(Target { digest: one.digest?, image: one.image, order: one.order }),
        Verdict::Keep | Verdict::Unknown | Verdict::Restore => None,
    });
    let restores = by_tag(plan, |one| match one.verdict {
        Verdict::Restore => Some((one.digest?, one.image?)),
        Verdict::Keep | Verdict::Unknown | Verdict::Remove => None,
    });
    let kept = by_tag(plan, |one| match one.verdict {
        // Another run moves its journals, and cleans up after itself.
        _ if one.reason == Reason::Reaper => None,
        Verdict::Keep | Verdict::Unknown | Verdict::Restore => one.image,
        Verdict::Remove => None,
    });
    let images: BTreeSet<Digest> = kept.values().copied().collect();
    let mut removal = Removal::new(&run, kept, Images::default());
    removal.restore(&restores).await?;
    if planned.is_empty() {
        say.line(format_args!("nothing to remove from {}", run.repository));
        return Ok(());
    }
    let method = canary::prove(&run).await?;
    removal.images.save(registry, images).await?;
    say.line(format_args!("{}: {}", run.repository, method.proven()));
    let result = remove(&mut removal, &run, method, planned).await;
    removal.conclude(result).await?;
    removal.report()
}

fn by_tag<T>(plan: &[Judgement], value: impl Fn(&Judgement) -> Option<T>) -> BTreeMap<Tag, T> {
    plan.iter().filter_map(|one| Some((one.tag.parse().ok()?, value(one)?))).collect()
}

async fn remove<R: Pruned>(
    removal: &mut Removal<'_, R>,
    run: &Run<'_, R>,
    method: Method,
    planned: BTreeMap<Tag, Target>,
) -> Result<(), ReapError> {
    let (first, last): (BTreeMap<_, _>, BTreeMap<_, _>) =
        planned.into_iter().partition(|(_, target)| target.order == Order::First);
    let (mut attached, begun): (BTreeMap<_, _>, BTreeMap<_, _>) =
        last.into_iter().partition(|(tag, _)| attached::subject(tag.as_str()).is_some());
    if attached.is_empty() {
        in_chunks(removal, method, first).await?;
        return in_chunks(removal, method, begun).await;
    }
    let note = Begun::note(run, &attached).await?;
    in_chunks(removal, method, first).await?;
    // Somebody may have set another tag on an image meanwhile.
    let found = read::repository(run.registry, run.say).await?;
    let tagged: BTreeSet<Digest> = found.tags.values().filter_map(|state| State::image(*state)).collect();
    let is_used = |image: &Digest| {
        tagged.contains(image)
            || found.children.iter().any(|(index, all)| tagged.contains(index) && all.contains(image))
    };
    attached.retain(|tag, _| {
        let stays = attached::subject(tag.as_str()).is_some_and(|subject| is_used(&subject));
        if stays {
            run.say.line(format_args!("kept {tag}: a tag is on its image again"));
        }
        !stays
    });
    in_chunks(removal, method, attached).await?;
    in_chunks(removal, method, begun).await?;
    note.remove(run.registry, method).await
}

/// What a run notes before it removes the images to which something belongs.
struct Begun {
    tag: Tag,
    digest: Digest,
}

impl Begun {
    /// Writes which of these tags are to go, and where they point to.
    async fn note<R: Pruned>(run: &Run<'_, R>, attached: &BTreeMap<Tag, Target>) -> Result<Self, ReapError> {
        let tag: Tag = format!("{BEGUN}{}", run.id.as_str()).parse().map_err(ReapError::Prefix)?;
        let tags = attached.iter().filter_map(|(tag, target)| Some((tag.to_string(), target.image?))).collect();
        // No tombstone of the run has this number and these tags.
        let note = artifact::tombstone(WRITER, run.id, 0, tags);
        run.registry.push_note(&note).await?;
        run.registry.put_once(&tag, &note.manifest).await?;
        Ok(Self { tag, digest: note.manifest.digest })
    }

    /// Removes it. What stays of it, the next run removes.
    async fn remove<R: Pruned>(self, registry: &R, method: Method) -> Result<(), ReapError> {
        match method {
            Method::OwnApi(_) => registry.untag(&self.tag, &self.digest).await?,
            Method::ByTag => registry.delete_tag(&self.tag).await?,
            Method::Tombstone => return registry.delete(&self.digest).await.map(drop),
        };
        // It is an artifact of ours: what cannot be deleted only takes space.
        let _ = registry.delete(&self.digest).await;
        Ok(())
    }
}

async fn in_chunks<R: Pruned>(
    removal: &mut Removal<'_, R>,
    method: Method,
    mut planned: BTreeMap<Tag, Target>,
) -> Result<(), ReapError> {
    while let Some(tag) = planned.keys().nth(CHUNK).cloned() {
        let rest = planned.split_off(&tag);
        removal.remove_if_there(method, planned).await?;
        planned = rest;
    }
    removal.remove_if_there(method, planned).await
}
