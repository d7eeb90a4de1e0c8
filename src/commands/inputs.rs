//! Reads what [`decide::inputs`](crate::decide::inputs) asks for, from git or from a checkout.

pub mod list;

use std::collections::BTreeMap;

use crate::clients::git::{Git, GitError};
use crate::decide::inputs::{self, Asked, InputsError, Mode, Recipe, Selection, Tree};
use crate::error::Error;
use crate::names::{CommitId, GitPath, InputsId, ObjectId};

/// What the image of a commit is made of.
pub struct MadeOf {
    /// Every path of the commit.
    pub tree: Tree,
    /// Those that count.
    pub selection: Selection,
    /// The digest of it all.
    pub id: InputsId,
}

/// What the image of a commit is made of, read from git alone.
pub async fn of_commit(git: &Git, recipe: &Recipe, commit: CommitId) -> Result<MadeOf, Error> {
    let mut reading = Reading::begin(git, recipe, commit).await?;
    loop {
        let wanted = match reading.select()? {
            Asked::Known(selection) => {
                let id = inputs::digest(recipe, &selection, &reading.tree);
                return Ok(MadeOf { tree: reading.tree, selection, id });
            }
            Asked::Need(wanted) => reading.ids(wanted),
        };
        let blobs = git.blobs(&wanted.values().copied().collect::<Vec<_>>()).await?;
        reading.take(wanted, &blobs);
    }
}

/// The digests of several commits, each with its recipe: what git lacks of all of them is fetched together, and the
/// trees of all of them are in memory. An error of one stands in its place.
///
/// # Errors
///
/// git cannot be read.
pub async fn of_commits(
    git: &Git,
    asked: &[(Recipe, CommitId)],
) -> Result<Vec<Result<InputsId, InputsError>>, GitError> {
    let mut readings = Vec::new();
    for (recipe, commit) in asked {
        readings.push(Reading::begin(git, recipe, *commit).await?);
    }
    let mut known: Vec<Option<Result<InputsId, InputsError>>> = asked.iter().map(|_| None).collect();
    loop {
        let mut wanted = Vec::new();
        for (reading, known) in readings.iter_mut().zip(&mut known).filter(|(_, known)| known.is_none()) {
            match reading.select() {
                Ok(Asked::Known(selection)) => {
                    *known = Some(Ok(inputs::digest(reading.recipe, &selection, &reading.tree)));
                }
                Ok(Asked::Need(paths)) => wanted.push((reading.ids(paths), reading)),
                Err(error) => *known = Some(Err(error)),
            }
        }
        if wanted.is_empty() {
            return Ok(known.into_iter().flatten().collect());
        }
        let ids: Vec<ObjectId> = wanted.iter().flat_map(|(ids, _)| ids.values().copied()).collect();
        let blobs = git.blobs(&ids).await?;
        for (ids, reading) in wanted {
            reading.take(ids, &blobs);
        }
    }
}

/// A commit of which it is not yet known what counts.
struct Reading<'a> {
    recipe: &'a Recipe,
    tree: Tree,
    modes: BTreeMap<GitPath, Mode>,
    texts: BTreeMap<GitPath, Vec<u8>>,
}

impl<'a> Reading<'a> {
    async fn begin(git: &Git, recipe: &'a Recipe, commit: CommitId) -> Result<Self, GitError> {
        let tree = git.tree(commit).await?;
        Ok(Self { recipe, modes: inputs::modes(&tree), tree, texts: BTreeMap::new() })
    }

    fn select(&self) -> Result<Asked<Selection, Vec<GitPath>>, InputsError> {
        inputs::select(self.recipe, &self.modes, &self.texts)
    }

    /// The blobs at these paths. Only paths of the tree are asked for; one that is not there would be asked for again
    /// without end.
    fn ids(&self, paths: Vec<GitPath>) -> BTreeMap<GitPath, ObjectId> {
        paths
            .into_iter()
            .filter_map(|path| Some((self.tree.get(&path)?.id, path)))
            .map(|(id, path)| (path, id))
            .collect()
    }

    fn take(&mut self, ids: BTreeMap<GitPath, ObjectId>, blobs: &BTreeMap<ObjectId, Vec<u8>>) {
        self.texts.extend(ids.into_iter().filter_map(|(path, id)| Some((path, blobs.get(&id)?.clone()))));
    }
}
