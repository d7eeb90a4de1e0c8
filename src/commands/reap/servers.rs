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

/// How often git is fetched from until its refs hold still.
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
        let Refs { branches, tags, others, default_branch } = self.git.refs().await?;
        let others = others.into_iter().collect();
        let (history, reachable, lines) = (History::Complete, BTreeSet::new(), Lines::default());
        let asked = Question::default();
        Ok(GitFacts { default_branch, branches, others, tags, history, reachable, lines, asked })
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
            let again = self.refs().await?;
            if !again.same_refs(&facts) {
                // What was fetched may be neither of the two.
                facts = again;
                continue;
            }
            if self.git.is_shallow()? {
                return Ok(GitFacts { history: History::Shallow, ..facts });
            }
            return self.reach(facts, question).await;
        }
        Err(ReapError::GitMoves { repository: self.git.repository().clone() })
    }
}
