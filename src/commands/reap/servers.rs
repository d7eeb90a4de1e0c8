//! The registry and the git repository of a source, as the reaper asks them.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use tempfile::TempDir;

use super::ReapError;
use super::outside::Outside;
use crate::clients::git::{Depth, Git, Refs, Want};
use crate::clients::process::Environment;
use crate::clients::registry::Registry;
use crate::commands::details;
use crate::decide::reap::{GitFacts, History, Lines, Placed, Question};
use crate::error::Error;
use crate::names::{CommitId, Repository};
use crate::request::Source;
use crate::say::Say;

/// How often git is fetched from until no ref goes meanwhile.
const ROUNDS: usize = 5;

/// The real outside.
pub struct Servers {
    registry: Registry,
    git: Git,
    /// Where git's objects are; gone with this value.
    _directory: TempDir,
}

impl Servers {
    /// Nothing is asked yet, except git when the source has only the beginning of the repository.
    ///
    /// # Errors
    ///
    /// Certificates, keys or settings of the source are not usable, no directory can be made, or the repository of the
    /// registry cannot be told.
    pub async fn open(source: &Source, environment: &Environment, say: &Say) -> Result<Self, Error> {
        let directory = tempfile::Builder::new().prefix("git-image-reap-").tempdir_in(&environment.temporary);
        let directory =
            directory.map_err(|source| ReapError::Directory { within: environment.temporary.clone(), source })?;
        let git = Git::open(&source.git, &directory.path().join("git"), environment, say).await?;
        let repository = details::repository_of(source, &git).await?;
        Ok(Self { registry: Registry::new(&repository, &source.registry, say)?, git, _directory: directory })
    }

    /// The repository of the registry.
    pub fn repository(&self) -> &Repository {
        self.registry.repository()
    }

    /// The registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Our own copy of the git repository: after git was asked, it has all commits and trees.
    pub fn local(&self) -> &Git {
        &self.git
    }

    async fn refs(&self) -> Result<GitFacts, ReapError> {
        Ok(facts_of(self.git.refs().await?))
    }

    /// Which commits the refs reach, of which everything is here.
    async fn reach(&self, mut facts: GitFacts, question: &Question) -> Result<GitFacts, ReapError> {
        let GitFacts { branches, others, tags, .. } = &facts;
        let tips: Vec<CommitId> = branches.values().chain(others).chain(tags.values()).copied().collect();
        let commits: Vec<CommitId> = question.commits.iter().copied().collect();
        facts.reachable = self.git.reachable(&commits, &tips).await?;
        if let Some(last) = question.last {
            facts.lines = self.lines(&facts, last, &tips).await?;
        }
        facts.asked = question.clone();
        Ok(facts)
    }

    /// The last commits of each line that are reachable and in question.
    async fn lines(&self, facts: &GitFacts, last: NonZeroUsize, tips: &[CommitId]) -> Result<Lines, ReapError> {
        let history = self.git.first_parents(tips).await?;
        let line = |tip: CommitId| {
            let line = history.line(tip).filter(|(commit, _)| facts.reachable.contains(commit));
            line.map(|(commit, time)| Placed { commit, time })
        };
        let last = last.get();
        Ok(Lines {
            branches: facts
                .branches
                .iter()
                .map(|(branch, tip)| (branch.clone(), line(*tip).take(last).collect()))
                .collect(),
            tags: facts.tags.iter().filter_map(|(tag, tip)| Some((tag.clone(), line(*tip).next()?.commit))).collect(),
            others: facts.others.iter().flat_map(|tip| line(*tip).take(last)).map(|placed| placed.commit).collect(),
        })
    }
}

impl Outside for Servers {
    type Registry = Registry;

    fn registry(&self) -> &Registry {
        &self.registry
    }

    async fn git(&self, question: &Question, known: Option<&GitFacts>) -> Result<GitFacts, ReapError> {
        let mut facts = self.refs().await?;
        if let Some(known) = known.filter(|known| known.same_refs(&facts)) {
            if known.answers(question) {
                return Ok(known.clone());
            }
            // The objects of these refs are here already.
            return self.reach(known.clone(), question).await;
        }
        for _ in 0..ROUNDS {
            if facts.branches.is_empty() {
                // git fetches nothing from such a repository, and nothing can be decided by it.
                return Ok(facts);
            }
            // Asked for everything, a server whose own history is cut off says where; asked for nothing it would not.
            self.git.fetch(&Want::AllRefs, Depth::Everything).await?;
            let default_branch = facts.default_branch.clone();
            let fetched = facts_of(Refs { default_branch, ..self.git.fetched_refs().await? });
            // What is pushed meanwhile only adds. What is gone meanwhile is gone only when it is not listed again.
            if !has_all_of(&fetched, &facts) {
                facts = self.refs().await?;
                continue;
            }
            if self.git.is_shallow()? {
                return Ok(GitFacts { history: History::Shallow, ..fetched });
            }
            return self.reach(fetched, question).await;
        }
        Err(ReapError::GitMoves { repository: self.git.repository().clone() })
    }
}

/// What refs tell, before it is known what they reach.
fn facts_of(refs: Refs) -> GitFacts {
    let Refs { branches, tags, others, default_branch } = refs;
    let others = others.into_iter().collect();
    let (history, reachable, lines) = (History::Complete, BTreeSet::new(), Lines::default());
    let asked = Question::default();
    GitFacts { default_branch, branches, others, tags, history, reachable, lines, asked }
}

/// Whether each branch and tag that was listed is among those that were fetched, wherever it points to by now.
fn has_all_of(fetched: &GitFacts, listed: &GitFacts) -> bool {
    listed.branches.keys().all(|branch| fetched.branches.contains_key(branch))
        && listed.tags.keys().all(|tag| fetched.tags.contains_key(tag))
        && listed.others.len() <= fetched.others.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_listed_must_be_among_what_was_fetched_whatever_it_points_to() {
        let commit = |number: u8| CommitId::from_bytes([number; 20]);
        let facts = |branches: &[(&str, u8)], tags: &[&str], others: &[u8]| {
            facts_of(Refs {
                branches: branches
                    .iter()
                    .map(|(name, tip)| (name.parse().expect("a good branch"), commit(*tip)))
                    .collect(),
                tags: tags.iter().map(|name| ((*name).to_owned(), commit(9))).collect(),
                others: others.iter().map(|tip| commit(*tip)).collect(),
                default_branch: None,
            })
        };
        let listed = facts(&[("master", 1), ("a", 2)], &["v1"], &[7]);
        for (fetched, has_all) in [
            (facts(&[("master", 1), ("a", 2)], &["v1"], &[7]), true),
            (facts(&[("master", 3), ("a", 2), ("new", 3)], &["v1", "v2"], &[8, 9]), true),
            (facts(&[("master", 1)], &["v1"], &[7]), false),
            (facts(&[("master", 1), ("a", 2)], &[], &[7]), false),
            (facts(&[("master", 1), ("a", 2)], &["v1"], &[]), false),
        ] {
            assert_eq!(has_all_of(&fetched, &listed), has_all, "{fetched:?}");
        }
    }
}
