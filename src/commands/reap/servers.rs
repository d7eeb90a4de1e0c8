//! The registry and the git repository of a source, as the reaper asks them.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use bytes::Bytes;
use tempfile::TempDir;

use super::ReapError;
use super::outside::Outside;
use crate::clients::git::{Depth, Git, Refs, Want};
use crate::clients::process::Environment;
use crate::clients::registry::{At, Content, Deleted, Descriptor, ImageConfig, Manifest, Registry, RegistryError};
use crate::commands::details;
use crate::decide::reap::artifact::Artifact;
use crate::decide::reap::{GitFacts, History, Labels, Lines, Placed, Question};
use crate::error::Error;
use crate::names::{CommitId, Digest, Repository, Tag};
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

    /// The config of an image, or of the first image of an index: those that we push have the same labels.
    async fn config(&self, manifest: &Manifest) -> Result<ImageConfig, RegistryError> {
        let children = match self.registry.content(manifest)? {
            Content::Image { config, .. } => return self.registry.config(&config).await,
            Content::Index { manifests } => manifests,
        };
        // An attestation is of no platform and has no labels.
        let is_image = |child: &&Descriptor| child.platform.as_ref().is_none_or(|it| it.os != "unknown");
        let Some(child) = children.iter().find(is_image) else { return Ok(ImageConfig::default()) };
        let what = || format!("{}@{}", self.registry.repository(), child.digest);
        let child = self.registry.manifest(At::Digest(&child.digest)).await?;
        let child = child.ok_or_else(|| RegistryError::Incomplete { what: what() })?;
        match self.registry.content(&child)? {
            Content::Image { config, .. } => self.registry.config(&config).await,
            Content::Index { .. } => Ok(ImageConfig::default()),
        }
    }
}

impl Outside for Servers {
    async fn tags(&self) -> Result<Vec<String>, ReapError> {
        Ok(self.registry.tags().await?)
    }

    async fn describe(&self, tag: &Tag) -> Result<Option<Descriptor>, ReapError> {
        Ok(self.registry.resolve(tag).await?)
    }

    async fn manifest(&self, digest: &Digest) -> Result<Option<Manifest>, ReapError> {
        Ok(self.registry.manifest(At::Digest(digest)).await?)
    }

    async fn labels(&self, manifest: &Manifest) -> Result<Labels, String> {
        let config = match self.config(manifest).await {
            // A chart, a signature or a cache is nobody's image: it has no labels.
            Err(RegistryError::NotAnImage { .. }) => return Ok(Labels::default()),
            result => result.map_err(|error| error.to_string())?,
        };
        let mut labels = config.config.and_then(|config| config.labels).unwrap_or_default();
        Ok(Labels {
            repository: labels.remove("git-image.repository"),
            commit: labels.remove("git-image.commit"),
            inputs: labels.remove("git-image.inputs"),
            bases: labels.remove("git-image.bases"),
        })
    }

    fn children(&self, manifest: &Manifest) -> Vec<Descriptor> {
        match self.registry.content(manifest) {
            Ok(Content::Index { manifests }) => manifests,
            Ok(Content::Image { .. }) | Err(_) => Vec::new(),
        }
    }

    async fn blobs(&self, manifest: &Manifest) -> Result<Vec<(Digest, u64)>, ReapError> {
        let weigh = |content: Content| match content {
            Content::Image { config, layers } => {
                layers.into_iter().chain([config]).map(|blob| (blob.digest, blob.size)).collect()
            }
            Content::Index { .. } => Vec::new(),
        };
        match self.registry.content(manifest) {
            Ok(Content::Index { manifests }) => {
                let mut blobs = Vec::new();
                for child in manifests {
                    if let Some(child) = self.registry.manifest(At::Digest(&child.digest)).await? {
                        blobs.extend(self.registry.content(&child).map(weigh).unwrap_or_default());
                    }
                }
                Ok(blobs)
            }
            Ok(image) => Ok(weigh(image)),
            // What is no image has no size that anybody asks for.
            Err(_) => Ok(Vec::new()),
        }
    }

    async fn note(&self, config: &Descriptor) -> Result<Bytes, String> {
        self.registry.blob(config).await.map_err(|error| error.to_string())
    }

    async fn push_note(&self, artifact: &Artifact) -> Result<(), ReapError> {
        self.registry.push_blob(artifact.config_type, artifact.config.clone()).await?;
        Ok(())
    }

    async fn put_once(&self, tag: &Tag, manifest: &Manifest) -> Result<(), ReapError> {
        Ok(self.registry.put_manifest_once(At::Tag(tag), manifest).await?)
    }

    async fn put(&self, tag: &Tag, manifest: &Manifest) -> Result<(), ReapError> {
        Ok(self.registry.put_manifest(At::Tag(tag), manifest).await?)
    }

    async fn delete(&self, digest: &Digest) -> Result<Deleted, ReapError> {
        Ok(self.registry.delete(digest).await?)
    }

    async fn delete_tag(&self, tag: &Tag) -> Result<Deleted, ReapError> {
        Ok(self.registry.delete_tag(tag).await?)
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
