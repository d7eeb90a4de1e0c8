//! What the params of a put add to the build, and git does not describe.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::clients::checkout::Directory;
use crate::clients::finished::Blobs;
use crate::commands::StepError;
use crate::commands::put::{artifact_directory, artifact_path, stays_inside};
use crate::decide::inputs::{NamedContext, Pairs, Recipe, merge_pairs};
use crate::error::Error;
use crate::names::GitPath;
use crate::request::{PutParams, Source};

/// The most that is read of a file with build args.
const ARGS_BYTES: u64 = 8 * 1024 * 1024;

/// What is built in place of what git describes.
pub struct Beyond {
    /// The words of the build, with what the params add.
    pub recipe: Recipe,
    /// The context that a task made, and the path that stands for it: as it is seen from the checkout, so no path of git.
    pub context: Option<(GitPath, Directory)>,
    /// The images that other steps made, by their names in the Dockerfile.
    pub images: BTreeMap<String, Arc<Blobs>>,
}

impl Beyond {
    /// Reads the params; `None`: they add nothing.
    pub fn read(source: &Source, params: &PutParams, recipe: &Recipe, artifacts: &Path) -> Result<Option<Self>, Error> {
        let mut recipe = recipe.clone();
        recipe.args.extend(params.args.clone());
        if let Some(file) = &params.args_file {
            let path = artifact_path(artifacts, "params.args_file", file)?;
            stays_inside(artifacts, "params.args_file", file, &path)?;
            let text = read(&path)?;
            recipe.args = merge_pairs(Pairs::Args, &recipe.args, &GitPath::new(file.as_str()), &text)?;
        }
        let context = match (&params.context, &params.source) {
            (Some(name), Some(checkout)) => {
                let directory = Directory::open(&artifact_directory(artifacts, "params.context", name)?)?;
                let at = seen_from(checkout, name);
                // A rule for paths of the repository says nothing of a directory that is not in it.
                recipe = Recipe {
                    dockerfile: source.build.dockerfile.clone().unwrap_or_else(|| at.join(b"Dockerfile")),
                    context: at.clone(),
                    paths: None,
                    ignore_paths: Vec::new(),
                    ..recipe
                };
                Some((at, directory))
            }
            (Some(_), None) | (None, _) => None,
        };
        let mut images = BTreeMap::new();
        for (name, image) in &params.contexts {
            let key = format!("params.contexts.{name}");
            let path = artifact_path(artifacts, &key, image)?;
            let blobs = Blobs::open(&path)?;
            recipe.contexts.insert(name.clone(), NamedContext::Finished(blobs.root()));
            images.insert(name.clone(), Arc::new(blobs));
        }
        let adds = context.is_some() || !images.is_empty() || !params.args.is_empty() || params.args_file.is_some();
        Ok(adds.then_some(Self { recipe, context, images }))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, StepError> {
    use std::io::Read as _;
    let mut text = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(ARGS_BYTES).read_to_end(&mut text));
    let what = "read `params.args_file` from";
    read.map(|_| text).map_err(|source| StepError::File { what, path: path.to_owned(), source })
}

/// The path of one artifact as it is seen from another.
fn seen_from(from: &str, to: &str) -> GitPath {
    let parts = |text: &str| -> Vec<String> {
        text.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect()
    };
    let up = parts(from).into_iter().map(|_| "..".to_owned());
    GitPath::new(up.chain(parts(to)).collect::<Vec<_>>().join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_named_as_it_is_seen_from_the_checkout() {
        for (from, to, expected) in [
            ("repo", "built", "../built"),
            ("repo/app/", "./built//x", "../../built/x"),
            ("repo", "repo/out", "../repo/out"),
        ] {
            assert_eq!(seen_from(from, to), GitPath::new(expected));
        }
    }
}
