//! Reads what [`decide::inputs`](crate::decide::inputs) asks for, from git or from a checkout.

pub mod list;

use std::collections::BTreeMap;

use crate::clients::git::Git;
use crate::decide::inputs::{self, Asked, Recipe, Selection, Tree};
use crate::error::Error;
use crate::names::{CommitId, GitPath, InputsId};

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
    let tree = git.tree(commit).await?;
    let modes = inputs::modes(&tree);
    let mut texts = BTreeMap::new();
    loop {
        let wanted = match inputs::select(recipe, &modes, &texts)? {
            Asked::Known(selection) => {
                let id = inputs::digest(recipe, &selection, &tree);
                return Ok(MadeOf { tree, selection, id });
            }
            Asked::Need(wanted) => wanted,
        };
        // Only paths of the tree are asked for; one that is not there would be asked for again without end.
        let ids: BTreeMap<GitPath, _> = wanted
            .into_iter()
            .filter_map(|path| Some((tree.get(&path)?.id, path)))
            .map(|(id, path)| (path, id))
            .collect();
        let blobs = git.blobs(&ids.values().copied().collect::<Vec<_>>()).await?;
        texts.extend(ids.into_iter().filter_map(|(path, id)| Some((path, blobs.get(&id)?.clone()))));
    }
}
