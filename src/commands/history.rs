//! The first-parent line of a branch, read step by step: as far as a decision asks for it, and no further.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use crate::clients::git::{Depth, Git, GitError, Want};
use crate::clients::registry::Registry;
use crate::commands::facts::labels;
use crate::commands::{image, inputs};
use crate::concourse::Version;
use crate::decide::inputs::Recipe;
use crate::decide::tags::{commit_tag, content_tag};
use crate::decide::versions::{Built, LineCommit, Next, Parent, State};
use crate::error::Error;
use crate::names::CommitId;
use crate::request::Follow;

/// How many commits are read at first. Each further step reads four times as many: ten thousand commits are five steps.
///
/// The first commit brings all trees, and each further one some 2 kB: less than a step more, which is a request and two
/// programs. docs/check.md has what was measured.
pub const FIRST_DEPTH: NonZeroU32 = NonZeroU32::new(128).expect("128 is not zero");

/// What is known of the line so far: what decisions are made from.
pub struct Known {
    /// The line from its start down.
    pub line: Vec<LineCommit>,
    /// What the images of its commits are made of, as far as it was asked for.
    pub states: BTreeMap<CommitId, State>,
    /// Which versions are in the registry, as far as it was asked for.
    pub built: BTreeMap<Version, Built>,
}

/// The line from one commit down.
pub struct History<'a> {
    git: &'a Git,
    recipe: &'a Recipe,
    /// Where images are looked up.
    registry: Option<&'a Registry>,
    /// What is fetched when the line is not long enough.
    want: Want,
    /// What is fetched in its place when the server does not have that.
    otherwise: Option<Want>,
    from: CommitId,
    depth: NonZeroU32,
    known: Known,
}

impl<'a> History<'a> {
    /// The line from `from` down, which must be in `git` already. What lies deeper is fetched by `want`.
    pub async fn read(git: &'a Git, recipe: &'a Recipe, want: Want, from: CommitId) -> Result<Self, Error> {
        let line = git.line(from, length(FIRST_DEPTH)).await?;
        let known = Known { line, states: BTreeMap::new(), built: BTreeMap::new() };
        Ok(Self { git, recipe, registry: None, want, otherwise: None, from, depth: FIRST_DEPTH, known })
    }

    /// Fetches this where the server does not have what was wanted at first: a commit that a task made lies on commits of the branch.
    pub fn or_fetch(&mut self, want: Want) {
        self.otherwise = Some(want);
    }

    /// Looks images up in this registry, for decisions that ask for them.
    pub fn look_up_in(&mut self, registry: &'a Registry) {
        self.registry = Some(registry);
    }

    /// Tells what was computed elsewhere of a commit, so that it is not computed again.
    pub fn tell(&mut self, commit: CommitId, state: State) {
        self.known.states.insert(commit, state);
    }

    /// Asks a decision again and again, until it needs nothing more.
    pub async fn ask<T>(&mut self, decide: impl Fn(&Known) -> Next<T>) -> Result<T, Error> {
        loop {
            match decide(&self.known) {
                Next::Done(answer) => return Ok(answer),
                Next::State(commit) => {
                    let state = self.state(commit).await?;
                    self.known.states.insert(commit, state);
                }
                Next::Built(version) => {
                    let built = self.built(&version).await?;
                    self.known.built.insert(version, built);
                }
                Next::Deeper => self.deepen().await?,
            }
        }
    }

    /// Whether a version is built, by its content tag. Where bases are followed git does not tell which ones it was built
    /// on, so the tag of its commit is asked.
    pub async fn built(&self, version: &Version) -> Result<Built, Error> {
        let registry = self.registry.expect("only who gave a registry asks for images");
        let prefix = &self.recipe.tag_prefix;
        let found = match self.recipe.follow {
            Follow::Git => registry.resolve(&content_tag(prefix, version.inputs, None)).await?.map(|_| None),
            Follow::GitAndBases => {
                let tag = commit_tag(prefix, version.commit);
                let image = image::of_inputs(registry, &tag, version.inputs, None).await?;
                image.map(|image| image.label(labels::BASES).and_then(|bases| bases.parse().ok()))
            }
        };
        Ok(found.map_or(Built::No, |bases| Built::Yes { bases }))
    }

    async fn state(&self, commit: CommitId) -> Result<State, Error> {
        match inputs::of_commit(self.git, self.recipe, commit).await {
            Ok(made_of) => Ok(State::Image { inputs: made_of.id, selector: Box::new(made_of.selection.selector) }),
            // The tip must have an image; an older commit may have a Dockerfile that nobody could use.
            Err(Error::Inputs(_)) if commit != self.from => Ok(State::NoDockerfile),
            Err(error) => Err(error),
        }
    }

    async fn deepen(&mut self) -> Result<(), Error> {
        let end = self.known.line.last().map(|commit| (commit.id, commit.parent));
        while length(self.depth) <= self.known.line.len() {
            self.depth = self.depth.saturating_mul(NonZeroU32::new(4).expect("4 is not zero"));
        }
        if matches!(end, Some((_, Parent::Unknown))) {
            self.fetch_deeper().await?;
        }
        self.known.line = self.git.line(self.from, length(self.depth)).await?;
        let now = self.known.line.last().map(|commit| (commit.id, commit.parent));
        if now == end {
            // More was asked for and nothing came: what is wanted may not hold our commit, or the server counts otherwise.
            self.git.fetch(&Want::Commit(self.from), Depth::Everything).await?;
            self.known.line = self.git.line(self.from, length(self.depth)).await?;
        }
        match self.known.line.last() {
            Some(last) if last.parent == Parent::Unknown && end == Some((last.id, last.parent)) => {
                Err(GitError::CutOff { repository: self.git.repository().clone(), commit: last.id }.into())
            }
            _ => Ok(()),
        }
    }

    async fn fetch_deeper(&mut self) -> Result<(), GitError> {
        let fetched = self.git.fetch(&self.want, Depth::Commits(self.depth)).await;
        match (fetched, self.otherwise.take()) {
            (Err(GitError::Gone { .. }), Some(otherwise)) => {
                self.want = otherwise;
                self.git.fetch(&self.want, Depth::Commits(self.depth)).await.map(drop)
            }
            (fetched, otherwise) => {
                self.otherwise = otherwise;
                fetched.map(drop)
            }
        }
    }
}

fn length(depth: NonZeroU32) -> usize {
    usize::try_from(depth.get()).unwrap_or(usize::MAX)
}
