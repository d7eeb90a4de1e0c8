//! The submodules that an image is made of: as they lie in the checkout, else fetched.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::clients::checkout::{Checkout, Differences, Directory};
use crate::clients::git::{Git, GitError, Modules};
use crate::commands::StepError;
use crate::decide::inputs::{Entry, Mode, Selector, Tree};
use crate::decide::submodules::source_of;
use crate::error::Error;
use crate::names::{CommitId, GitPath, GitUrl};
use crate::request::GitSource;
use crate::say::Say;

/// What counts of the submodules of a commit.
#[derive(Default)]
pub struct Submodules {
    /// Every path in them, as their commits have it.
    pub tree: Tree,
    /// Where they lie.
    pub places: Vec<(GitPath, Directory)>,
    /// How that differs from their commits.
    pub differences: Differences,
    /// Those that lie nowhere.
    pub missing: Vec<GitPath>,
    /// Those that lie somewhere, an inner one after the one that it is in.
    pub repositories: Vec<Repository>,
}

/// A submodule that lies somewhere.
pub struct Repository {
    /// Where it lies in the whole.
    pub at: GitPath,
    /// Its objects.
    pub git: Arc<Git>,
    /// Its commit.
    pub commit: CommitId,
    /// Who asks for it.
    pub source: GitSource,
}

/// What is done with a submodule that lies nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// It is named.
    Tell,
    /// It is fetched.
    Fetch,
}

/// What decides which submodules are read, and how.
pub struct Reader<'a> {
    /// Who asks for the repository.
    pub source: &'a GitSource,
    /// Which paths count.
    pub selector: &'a Selector,
    /// Where what is fetched goes: a directory that exists.
    pub work: &'a Path,
    /// What is done with those that lie nowhere.
    pub missing: Missing,
    /// The log.
    pub say: &'a Say,
}

/// A repository whose submodules are read.
struct Level {
    git: Option<Arc<Git>>,
    uri: GitUrl,
    /// Where it lies in the whole.
    at: GitPath,
    tree: Tree,
    checkout: Option<Checkout>,
}

/// A submodule of a level.
struct Link {
    path: GitPath,
    commit: CommitId,
    inside: Option<Checkout>,
    /// Another one for each, for the names of directories.
    number: usize,
}

impl Reader<'_> {
    /// Reads the submodules that count, also those in submodules, of a commit of `git`, with the checkout of it.
    ///
    /// # Errors
    ///
    /// One cannot be fetched, or what lies in the checkout is no repository as git makes them.
    pub async fn read(&self, git: &Git, tree: &Tree, checkout: Option<&Checkout>) -> Result<Submodules, Error> {
        let mut found = Submodules::default();
        if !tree.iter().any(|(path, entry)| is_submodule(entry) && self.selector.counts(path).is_some()) {
            return Ok(found);
        }
        let at = GitPath::new("");
        let uri = self.source.uri.clone();
        let mut waiting = vec![Level { git: None, uri, at, tree: tree.clone(), checkout: checkout.cloned() }];
        let mut number = 0;
        while let Some(level) = waiting.pop() {
            let counts = |path: &GitPath| self.selector.counts(&level.at.join(path.as_bytes())).is_some();
            let is_link = |(path, entry): &(&GitPath, &_)| is_submodule(entry) && counts(path);
            let links: Vec<(GitPath, CommitId)> =
                level.tree.iter().filter(is_link).map(|(path, entry)| (path.clone(), CommitId::of(entry.id))).collect();
            if links.is_empty() {
                continue;
            }
            let own = level.git.as_deref().unwrap_or(git);
            let modules = own.modules(&level.tree).await.map_err(|error| not_had(&level.at, error))?;
            for (path, commit) in links {
                let inside = match &level.checkout {
                    Some(checkout) => checkout.submodule(&path)?,
                    None => None,
                };
                // One at another commit is a difference of the repository that has it.
                if inside.as_ref().is_some_and(|inside| inside.head() != commit) {
                    continue;
                }
                let at = level.at.join(path.as_bytes());
                if inside.is_none() && self.missing == Missing::Tell {
                    found.missing.push(at);
                    continue;
                }
                number += 1;
                let link = Link { path, commit, inside, number };
                let next = self.descend(own, &level, &modules, link, &mut found).await?;
                waiting.push(next);
            }
        }
        Ok(found)
    }

    async fn descend(
        &self,
        own: &Git,
        level: &Level,
        modules: &Modules,
        link: Link,
        found: &mut Submodules,
    ) -> Result<Level, Error> {
        let Link { path, commit, inside, number } = link;
        let at = level.at.join(path.as_bytes());
        let written = modules.get(&path);
        let address = |source| StepError::SubmoduleAddress { path: at.clone(), source };
        let source = match written.map(|written| source_of(self.source, &level.uri, written)) {
            Some(Ok(source)) => source,
            // What lies in the checkout needs no address.
            Some(Err(_)) | None if inside.is_some() => GitSource { uri: level.uri.clone(), ..self.source.clone() },
            Some(Err(error)) => return Err(address(Some(error)).into()),
            None => return Err(address(None).into()),
        };
        let not_had = |error| not_had(&at, error);
        let directory = self.work.join(format!("submodule-{number}"));
        let git = own.beside(&source, &directory).await.map_err(not_had)?;
        let counts = |path: &GitPath| self.selector.counts(&at.join(path.as_bytes())).is_some();
        let tree = match &inside {
            Some(checkout) => {
                git.borrow(checkout).await.map_err(not_had)?;
                let tree = git.tree(commit).await.map_err(not_had)?;
                let listed = checkout.list()?;
                let counted: BTreeSet<GitPath> =
                    tree.keys().chain(listed.keys()).filter(|path| counts(path)).cloned().collect();
                let differences = checkout.compare(&git, &tree, &counted).await?;
                found.differences.add(&at, differences);
                found.places.push((at.clone(), Directory::clone(checkout)));
                tree
            }
            None => {
                self.say.line(format_args!(
                    "git: fetching the submodule {at}, {} of {}",
                    commit.short(),
                    source.uri.repository()
                ));
                git.fetch_commit(commit).await.map_err(not_had)?;
                let tree = git.tree(commit).await.map_err(not_had)?;
                let is_file = |(path, entry): &(&GitPath, &_)| !is_submodule(entry) && counts(path);
                let counted: Vec<GitPath> = tree.iter().filter(is_file).map(|(path, _)| path.clone()).collect();
                let into = self.work.join(format!("files-{number}"));
                let made = std::fs::create_dir(&into);
                made.map_err(|source| StepError::File { what: "make", path: into.clone(), source })?;
                git.lay_out(commit, Some(&counted), &into).await.map_err(not_had)?;
                found.places.push((at.clone(), Directory::open(&into)?));
                tree
            }
        };
        found.tree.extend(tree.iter().map(|(path, entry)| (at.join(path.as_bytes()), *entry)));
        let (git, uri) = (Arc::new(git), source.uri.clone());
        found.repositories.push(Repository { at: at.clone(), git: git.clone(), commit, source });
        Ok(Level { git: Some(git), uri, at, tree, checkout: inside })
    }
}

fn is_submodule(entry: &Entry) -> bool {
    entry.mode == Mode::Submodule
}

fn not_had(path: &GitPath, error: GitError) -> Error {
    match path.as_bytes() {
        b"" => error.into(),
        _ => StepError::Submodule { path: path.clone(), source: Box::new(error) }.into(),
    }
}
