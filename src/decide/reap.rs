//! What the reaper removes, and why the rest stays.
//!
//! The registry is kept equal to git: a tag that we wrote for a commit or branch that git no longer has may go,
//! everything else stays. A tag that cannot be judged stays, and is named. Every tag has a verdict and a reason.
//!
//! The files: `facts` is what was read, `rules` by what it is judged, `journal` since when tags are dead, `pulls`
//! whether somebody pulled them since, `retention` what the user wants kept besides, `attached` judges signatures and
//! their like, `untagged` images that have no tag any more, `plan` is what comes out and `text`, `json` and `page` how it
//! is shown; this one decides. [`artifact`] is what the reaper itself writes to a registry.
//! Our tags are told by their names in [`tags`].

pub mod artifact;
pub mod attached;
mod facts;
pub mod journal;
pub(super) mod json;
mod page;
mod plan;
pub mod pulls;
mod retention;
mod rules;
pub(super) mod text;
mod untagged;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::tags::{self, OurTag};
use crate::names::{Branch, CommitId, Digest, InputsId};

pub use facts::{Before, Found, GitFacts, History, Labels, Lines, Origin, Placed, Question, RegistryFacts, TagState};
pub use page::Blobs;
pub use plan::{Done, Gone, Judgement, Order, Plan, Reason, Verdict};
pub use retention::{BranchTag, Keep, KeepLast, Per};
pub use rules::{Grace, MaxDelete, Refusal, Rules};
pub use untagged::{Deletion, Fate, Leftover};

/// Decides what happens to every tag.
///
/// # Errors
///
/// git's answer is one in which living commits may look dead, or another reaper is at work under the same prefix.
pub fn reap(found: &Found, rules: &Rules, now: Timestamp) -> Result<Plan, Refusal> {
    trust(&found.git, rules)?;
    let before = journal::Before::of(&found.registry, rules)?;
    let judge = Judge::new(found, rules);
    let mut reasons: BTreeMap<&str, Reason> =
        found.registry.tags.iter().map(|(tag, state)| (tag.as_str(), judge.reason(tag, state))).collect();
    let mut unread = unread(&found.registry, rules, &reasons);
    keep_content_of_kept_tags(&found.registry, rules, &mut reasons);
    unread.extend(attached::judge(&found.registry, rules, !judge.other_prefixes.is_empty(), &mut reasons));

    let (untagged, deletions) = untagged::judge(found, &before, rules, &judge, now);

    let mut staying: BTreeMap<Digest, Vec<&str>> = BTreeMap::new();
    for (&tag, _) in reasons.iter().filter(|(_, reason)| reason.verdict() != Verdict::Remove) {
        if let Some((digest, _)) = found.registry.tags[tag].image() {
            staying.entry(digest).or_default().push(tag);
        }
    }
    let clocks = pulls::clocks(&found.registry, &before, &reasons, &staying, now);
    let noted = pulls::noted(&found.registry, &before, rules, &reasons);
    let judgements = reasons.into_iter().map(|(tag, reason)| {
        let state = &found.registry.tags[tag];
        let image = state.image().map(|(digest, _)| digest);
        let siblings = image.and_then(|digest| staying.get(&digest)).into_iter().flatten();
        let clock = clocks.get(tag).copied().unwrap_or_default();
        let is_over = rules.grace.is_none() || !clock.stands && rules.grace.is_over(clock.since, now);
        Judgement {
            digest: state.digest(),
            image,
            verdict: verdict(&reason, state, rules, is_over),
            clock,
            order: order(tag, rules),
            siblings: siblings.filter(|&&other| other != tag).map(|&other| other.to_owned()).collect(),
            tag: tag.to_owned(),
            reason,
        }
    });
    Ok(Plan {
        judgements: judgements.collect(),
        deletions,
        untagged,
        unread,
        noted,
        pulls: found.registry.pulls.clone(),
        registry: found.registry.repository.clone(),
        repository: rules.repository.clone(),
        tag_prefix: rules.tag_prefix.clone(),
        git: found.git.clone(),
        grace: rules.grace,
        before,
        now,
        max_delete: rules.max_delete,
        delete_untagged: rules.delete_untagged,
    })
}

/// What a tag is by its name. A text that is no tag is none of ours.
pub fn form(rules: &Rules, tag: &str) -> OurTag {
    tag.parse().map_or(OurTag::Foreign, |tag| tags::classify(&rules.tag_prefix, &tag))
}

/// The prefix and the inputs of a content tag, whatever its prefix: no tag of another form ends like one.
fn content_with_any_prefix(tag: &str) -> Option<(&str, InputsId)> {
    let (prefix, digits) = tag.rsplit_once("inputs-")?;
    Some((prefix, digits.parse().ok()?))
}

/// Refuses an answer of git in which everything, or too much, would look dead.
fn trust(git: &GitFacts, rules: &Rules) -> Result<(), Refusal> {
    let repository = || rules.repository.clone();
    if git.branches.is_empty() {
        return Err(Refusal::NoBranches { repository: repository() });
    }
    if !git.default_branch.as_ref().is_some_and(|head| git.branches.contains_key(head)) {
        return Err(Refusal::DefaultBranchMissing { repository: repository(), head: git.default_branch.clone() });
    }
    if let Some(branch) = rules.branch.as_ref().filter(|branch| !git.branches.contains_key(branch)) {
        return Err(Refusal::BranchMissing { repository: repository(), branch: branch.clone() });
    }
    match git.history {
        History::Complete => Ok(()),
        History::Shallow => Err(Refusal::Shallow { repository: repository() }),
    }
}

fn order(tag: &str, rules: &Rules) -> Order {
    match form(rules, tag) {
        OurTag::Content(_) => Order::Last,
        // What belongs to an image goes after its tags.
        OurTag::Foreign if attached::subject(tag).is_some() => Order::Last,
        OurTag::Commit(_) | OurTag::Latest { .. } | OurTag::Cache { .. } | OurTag::Reaper | OurTag::Foreign => {
            Order::First
        }
    }
}

fn verdict(reason: &Reason, state: &TagState, rules: &Rules, is_over: bool) -> Verdict {
    let tombstone_of_ours = match state {
        TagState::Tombstone { repository, before: Some(Before::Image { .. }), .. } => {
            repository == rules.repository.as_str()
        }
        TagState::Tombstone { .. }
        | TagState::Missing
        | TagState::Image { .. }
        | TagState::Canary { .. }
        | TagState::Journal { .. } => false,
    };
    match reason.verdict() {
        // What we put a tombstone on and would not remove today is put back, also when it cannot be judged.
        Verdict::Keep | Verdict::Foreign | Verdict::Unknown if tombstone_of_ours => Verdict::Restore,
        // An empty tombstone was never anybody's image: no grace. A probe has one: its run may be at work.
        Verdict::Remove if *reason == Reason::TombstoneWithoutImage => Verdict::Remove,
        Verdict::Remove if tombstone_of_ours && !is_over => Verdict::Restore,
        Verdict::Remove if !is_over => Verdict::Grace,
        verdict => verdict,
    }
}

/// The images of tags that only their labels can judge. A content tag needs none where a tag stays for good on its digest.
fn unread(registry: &RegistryFacts, rules: &Rules, reasons: &BTreeMap<&str, Reason>) -> BTreeSet<Digest> {
    let image = |tag: &str| registry.tags[tag].image().map(|(digest, _)| digest);
    let stays = |reason: &Reason| *reason != Reason::Unread && reason.verdict() != Verdict::Remove;
    let kept: BTreeSet<Digest> =
        reasons.iter().filter(|(_, reason)| stays(reason)).filter_map(|(tag, _)| image(tag)).collect();
    let unread = reasons.iter().filter(|(_, reason)| **reason == Reason::Unread);
    let needed = unread.filter_map(|(tag, _)| {
        let is_content = matches!(form(rules, tag), OurTag::Content(_));
        image(tag).filter(|digest| !is_content || !kept.contains(digest))
    });
    needed.collect()
}

/// A content tag that is dead by itself stays while a tag that stays points to its digest.
///
/// One pass is enough: a content tag never keeps another one that is dead by itself, or two of them would keep each
/// other for ever.
fn keep_content_of_kept_tags(registry: &RegistryFacts, rules: &Rules, reasons: &mut BTreeMap<&str, Reason>) {
    let mut kept: BTreeMap<Digest, &str> = BTreeMap::new();
    for (&tag, reason) in reasons.iter().filter(|(_, reason)| reason.verdict() != Verdict::Remove) {
        if let Some((digest, _)) = registry.tags[tag].image() {
            // A tag of ours is the better reason; else the first by name.
            let entry = kept.entry(digest).or_insert(tag);
            if reason.verdict() == Verdict::Keep && reasons[*entry].verdict() != Verdict::Keep {
                *entry = tag;
            }
        }
    }
    for (tag, reason) in reasons.iter_mut() {
        let digest = registry.tags[*tag].image().map(|(digest, _)| digest);
        let keeper = digest.and_then(|digest| kept.get(&digest)).filter(|keeper| **keeper != *tag);
        if let (Reason::Unused(..) | Reason::Unread, Some(keeper)) = (&*reason, keeper)
            && matches!(form(rules, tag), OurTag::Content(_))
        {
            *reason = Reason::SameDigest((*keeper).to_owned());
        }
    }
}

/// What is looked up for every tag.
struct Judge<'a> {
    rules: &'a Rules,
    git: &'a GitFacts,
    /// The tags that living branches have, and the branch.
    living: BTreeMap<String, &'a Branch>,
    /// Of which commits the images stay when only the last do.
    kept: BTreeMap<CommitId, Reason>,
    /// Which prefixes have a content tag for which inputs.
    contents: BTreeMap<InputsId, BTreeSet<&'a str>>,
    /// Which prefixes have a content tag on which digest.
    digests: BTreeMap<Digest, BTreeSet<&'a str>>,
    /// Every prefix before a tag of the unmistakable forms, ours left out.
    other_prefixes: BTreeSet<&'a str>,
}

impl<'a> Judge<'a> {
    fn new(found: &'a Found, rules: &'a Rules) -> Self {
        let mut contents: BTreeMap<InputsId, BTreeSet<&str>> = BTreeMap::new();
        let mut digests: BTreeMap<Digest, BTreeSet<&str>> = BTreeMap::new();
        let mut other_prefixes = BTreeSet::new();
        for (tag, state) in &found.registry.tags {
            if let Some((prefix, inputs)) = content_with_any_prefix(tag) {
                if let Some((digest, _)) = state.image() {
                    digests.entry(digest).or_default().insert(prefix);
                }
                contents.entry(inputs).or_default().insert(prefix);
                other_prefixes.insert(prefix);
            }
        }
        other_prefixes.remove(rules.tag_prefix.as_str());
        let living = found.git.branches.keys().flat_map(|branch| {
            let latest = tags::latest_tag(&rules.tag_prefix, branch).to_string();
            let cache = tags::cache_tag(&rules.tag_prefix, &rules.repository, branch).to_string();
            let users = rules.keep.branch_tags.iter().map(|pattern| pattern.of(&rules.tag_prefix, branch));
            [latest, cache].into_iter().chain(users).map(move |tag| (tag, branch))
        });
        let kept = rules.keep.last.map(|last| retention::kept(last, &found.git)).unwrap_or_default();
        Self { rules, git: &found.git, living: living.collect(), kept, contents, digests, other_prefixes }
    }

    fn reason(&self, tag: &str, state: &TagState) -> Reason {
        let form = form(self.rules, tag);
        if let Some(reason) = self.reason_of_name(tag, &form, state) {
            return reason;
        }
        let ours = self.rules.repository.as_str();
        match state {
            TagState::Missing => Reason::Dangling,
            TagState::Canary { repository, .. } | TagState::Tombstone { repository, .. } if repository != ours => {
                Reason::OtherRepository(repository.clone())
            }
            TagState::Journal { .. } if form == OurTag::Reaper => Reason::Journal,
            TagState::Journal { .. } => Reason::NotLabelled,
            // A probe may have been stopped below its own tombstone.
            TagState::Canary { .. } | TagState::Tombstone { .. } if form == OurTag::Reaper => Reason::LeftOverCanary,
            // Somebody copied a probe to a tag of another form.
            TagState::Canary { .. } => Reason::NotLabelled,
            // An empty artifact serves nobody, and a put would take it for the image.
            TagState::Tombstone { before: None | Some(Before::Gone), .. } => Reason::TombstoneWithoutImage,
            TagState::Image { digest, origin }
            | TagState::Tombstone { before: Some(Before::Image { digest, origin }), .. } => {
                self.reason_of_image(tag, &form, *digest, origin)
            }
        }
    }

    /// What the name alone says.
    fn reason_of_name(&self, tag: &str, form: &OurTag, state: &TagState) -> Option<Reason> {
        let keep = &self.rules.keep;
        if *form != OurTag::Reaper && state.image().is_some() {
            let protected = keep.protected.iter().find(|pattern| tags::matches(pattern, tag));
            if let Some(pattern) = protected {
                return Some(Reason::Protected(pattern.clone()));
            }
        }
        if *form != OurTag::Foreign {
            return None;
        }
        let name = tag.strip_prefix(&self.rules.tag_prefix);
        if name.is_some_and(tags::is_release_name) {
            return Some(Reason::Release);
        }
        (!self.rules.is_of_a_branch(tag)).then_some(Reason::NotOurForm)
    }

    fn reason_of_image(&self, tag: &str, form: &OurTag, digest: Digest, origin: &Origin) -> Reason {
        // Whatever its form: a branch named like another form must not lose its tag.
        let living = self.living.get(tag).map(|&branch| Reason::BranchLives(branch.clone()));
        match form {
            OurTag::Reaper => Reason::Reserved,
            OurTag::Cache { repository, .. } if *repository != tags::repository_mark(&self.rules.repository) => {
                living.unwrap_or_else(|| Reason::OtherRepository(hex::encode(repository)))
            }
            OurTag::Cache { .. } => living.unwrap_or(Reason::NoBranch),
            OurTag::Commit(commit) => match (self.owned(origin), self.commit(*commit)) {
                (Ok(_) | Err(Reason::Unread), Ok(alive)) => alive,
                (Err(reason), _) => reason,
                (Ok(_), Err(gone)) => Reason::CommitGone(*commit, gone),
            },
            OurTag::Content(_) => match self.owned(origin) {
                Err(reason) => reason,
                Ok(labels) => match labels.commit.as_deref().map(str::parse) {
                    Some(Ok(commit)) => self.commit(commit).unwrap_or_else(|gone| Reason::Unused(commit, gone)),
                    Some(Err(_)) | None => Reason::NoCommit,
                },
            },
            // A tag of another form is here by a pattern of the user.
            OurTag::Latest { .. } | OurTag::Foreign => match (self.owned(origin), living) {
                (Ok(_) | Err(Reason::Unread), Some(living)) => living,
                (Err(reason), _) => reason,
                (Ok(labels), None) => self.reason_of_dead_branch(tag, digest, labels),
            },
        }
    }

    /// Why the image of a commit stays or goes.
    fn commit(&self, commit: CommitId) -> Result<Reason, Gone> {
        retention::of_commit(commit, self.git, self.rules.keep.last, &self.kept)
    }

    /// The labels of an image that is labelled with our git repository.
    fn owned<'o>(&self, origin: &'o Origin) -> Result<&'o Labels, Reason> {
        match origin {
            Origin::NotRead => Err(Reason::Unread),
            Origin::Unreadable { why } => Err(Reason::Unreadable(why.clone())),
            Origin::Labels(labels) => match &labels.repository {
                None => Err(Reason::NotLabelled),
                Some(name) if name != self.rules.repository.as_str() => Err(Reason::OtherRepository(name.clone())),
                Some(_) => Ok(labels),
            },
        }
    }

    /// `web-app-latest` is branch `app` of the prefix `web-`, or branch `web-app` of no prefix, and both images may
    /// be of our git repository. Its content tag tells: it stands under the right prefix only, because the prefix is one
    /// of the inputs. It is found by the digest, else by what the labels say.
    fn reason_of_dead_branch(&self, tag: &str, digest: Digest, labels: &Labels) -> Reason {
        let prefixes = self.digests.get(&digest).or_else(|| self.contents.get(&labels.content()?));
        if prefixes.is_some_and(|prefixes| prefixes.contains(self.rules.tag_prefix.as_str())) {
            return Reason::NoBranch;
        }
        if let Some(prefix) = prefixes.and_then(|prefixes| prefixes.first()) {
            return Reason::OtherPrefix((*prefix).to_owned());
        }
        match self.other_prefixes.iter().find(|prefix| tag.starts_with(**prefix)) {
            Some(prefix) => Reason::PrefixUnclear((*prefix).to_owned()),
            None => Reason::NoBranch,
        }
    }
}

#[cfg(test)]
mod tests;
