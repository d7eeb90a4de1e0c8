//! What a put is about: a commit, what its image is made of, and whether the files lie as git has them.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use crate::clients::checkout::{Checkout, Directory, Files, Nested};
use crate::clients::finished::{Blobs, Finished};
use crate::clients::git::{Depth, Git, GitError, Tip, Want, blob_id};
use crate::commands::StepError;
use crate::commands::history::{FIRST_DEPTH, History};
use crate::commands::inputs::{self, MadeOf};
use crate::commands::put::artifact_directory;
use crate::commands::put::beyond::Beyond;
use crate::commands::put::lfs::is_pointer;
use crate::commands::put::submodules::{self, Missing};
use crate::concourse::Version;
use crate::decide::inputs::{Asked, Entry, Mode, Recipe, Selection, Tree, digest, select};
use crate::decide::versions::{State, version_at};
use crate::details::Details;
use crate::error::Error;
use crate::names::{Branch, CommitId, GitPath, InputsId};
use crate::request::{Announce, PutParams, Source};
use crate::say::Say;

/// The most that is read of a Dockerfile, an ignore file or a details file.
const TEXT_BYTES: u64 = 8 * 1024 * 1024;

/// How much history is fetched for a shallow checkout at first: what most images need, in the one request that must be
/// made anyway.
const SHALLOW_DEPTH: NonZeroU32 = NonZeroU32::new(128).expect("128 is not zero");

/// What a put is about.
pub struct Subject {
    /// HEAD of the checkout, or the branch's tip.
    pub commit: CommitId,
    /// The branch of the resource.
    pub branch: Branch,
    /// Where the branch is on the remote.
    pub remote: Remote,
    /// What the image is made of, as it lies.
    pub made_of: MadeOf,
    /// Whether git describes it.
    pub described: Described,
    /// The checkout.
    pub checkout: Option<Checkout>,
    /// The files of the checkout, and of a context that a task made; `None`: nothing of the commit is laid out yet.
    pub files: Option<Files>,
    /// The words of the build: those of the source, and what the params add.
    pub recipe: Recipe,
    /// Images that other steps made, by their names in the Dockerfile.
    pub images: BTreeMap<String, Arc<Blobs>>,
}

/// What a step has besides its request.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    /// The directory with the artifacts.
    pub artifacts: &'a Path,
    /// A directory of our own, gone with the step.
    pub work: &'a Path,
    /// What `params.image` names.
    pub finished: Option<&'a Finished>,
}

/// Where the branch is on the remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// There.
    Tip(Tip),
    /// The remote has no such branch any more.
    Gone,
}

impl Remote {
    /// What the answer to a question for a named branch says.
    pub fn of_named(found: Result<Tip, GitError>) -> Result<Self, GitError> {
        match found {
            Ok(tip) => Ok(Self::Tip(tip)),
            Err(GitError::NoBranch { .. }) => Ok(Self::Gone),
            Err(error) => Err(error),
        }
    }
}

/// Whether git describes what the image is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Described {
    /// It does: the version is a function of git.
    ByGit,
    /// Files differ from their commit, or the params add to it, and `only_built` allows it.
    ByContent,
}

impl Subject {
    /// Reads git, and the checkout when one is named.
    pub async fn read(
        source: &Source,
        params: &PutParams,
        recipe: &Recipe,
        git: &Git,
        step: &Step<'_>,
        say: &Say,
    ) -> Result<Self, Error> {
        let Step { artifacts, work, finished } = *step;
        // Versions are released of the default branch.
        let wanted = match (&recipe.details, &params.version) {
            (None, None) => Wanted::Tip,
            (Some(_), _) | (_, Some(_)) => Wanted::TipAndDefault,
        };
        let Some(name) = &params.source else {
            let tip = tip(git, wanted, source.git.branch.as_ref()).await?;
            git.fetch(&Want::Branch(tip.branch.clone()), Depth::Commits(FIRST_DEPTH)).await?;
            say.line(format_args!(
                "git: no `params.source`: putting {}, the tip of {} of {}",
                tip.commit.short(),
                tip.branch,
                source.git.uri.repository()
            ));
            let made_of = inputs::of_commit(git, recipe, tip.commit).await?;
            return Ok(Self {
                commit: tip.commit,
                branch: tip.branch.clone(),
                remote: Remote::Tip(tip),
                made_of,
                described: Described::ByGit,
                checkout: None,
                files: None,
                recipe: recipe.clone(),
                images: BTreeMap::new(),
            });
        };
        let checkout = Checkout::open(&artifact_directory(artifacts, "params.source", name)?)?;
        let beyond = Beyond::read(source, params, recipe, artifacts)?;
        git.borrow(&checkout).await?;
        let commit = checkout.head();
        // The remote answers while the files are hashed.
        let (remote, Laid { made_of, described, files }) =
            tokio::try_join!(remote(git, wanted, source.git.branch.as_ref(), &checkout), async {
                match (finished, &beyond) {
                    (Some(finished), _) => of_finished(recipe, &checkout, finished).await,
                    (None, None) => of_checkout(source, recipe, git, &checkout, name, work, say).await,
                    (None, Some(beyond)) => of_params(beyond, git, &checkout, say).await,
                }
            })?;
        let branch = match (&remote, &source.git.branch) {
            (_, Some(branch)) => branch.clone(),
            (Remote::Tip(tip), None) => tip.branch.clone(),
            (Remote::Gone, None) => unreachable!("only a branch that was named can be gone"),
        };
        say.line(format_args!(
            "git: putting {} of artifact `{name}` for branch {branch}{}",
            commit.short(),
            place(&remote, commit)
        ));
        let (recipe, images) = match beyond {
            Some(Beyond { recipe, context: _, images }) => (recipe, images),
            None => (recipe.clone(), BTreeMap::new()),
        };
        let (checkout, files) = (Some(checkout), Some(files));
        Ok(Self { commit, branch, remote, made_of, described, checkout, files, recipe, images })
    }

    /// The digest of everything that the image is made of.
    pub fn inputs(&self) -> InputsId {
        self.made_of.id
    }

    /// What the inputs would be without `build.epoch`: the same for every rebuild.
    pub fn inputs_but_epoch(&self) -> InputsId {
        let MadeOf { tree, selection, id } = &self.made_of;
        // Of a finished image nothing is built, and no epoch counts.
        if digest(&self.recipe, selection, tree) != *id {
            return *id;
        }
        digest(&Recipe { epoch: None, ..self.recipe.clone() }, selection, tree)
    }

    /// What `image.details` says.
    pub fn details(&self) -> &Details {
        &self.made_of.selection.details
    }

    /// The version: for what git describes, with the commit that brought the inputs; else with HEAD.
    pub async fn version(&self, git: &Git, recipe: &Recipe) -> Result<Version, Error> {
        if self.described == Described::ByContent {
            return Ok(Version::of_git(self.commit, self.inputs()));
        }
        let mut history = History::read(git, recipe, self.want(), self.commit).await?;
        if let Remote::Tip(tip) = &self.remote {
            history.or_fetch(Want::Branch(tip.branch.clone()));
        }
        history.tell(self.commit, self.state());
        let version = match history.ask(|known| version_at(&known.line, &known.states)).await {
            Ok(version) => version,
            Err(Error::Git(source)) => return Err(StepError::NoHistory { commit: self.commit, source }.into()),
            Err(error) => return Err(error),
        };
        version
            .ok_or_else(|| StepError::NoVersion { commit: self.commit, dockerfile: recipe.dockerfile.clone() }.into())
    }

    /// What is fetched to see the history of the commit.
    pub fn want(&self) -> Want {
        match &self.remote {
            Remote::Tip(tip) if tip.commit == self.commit => Want::Branch(tip.branch.clone()),
            Remote::Tip(_) | Remote::Gone => Want::Commit(self.commit),
        }
    }

    /// What the decisions on versions need to know of the commit.
    pub fn state(&self) -> State {
        State::Image { inputs: self.made_of.id, selector: Box::new(self.made_of.selection.selector.clone()) }
    }
}

fn place(remote: &Remote, commit: CommitId) -> String {
    match remote {
        Remote::Tip(tip) if tip.commit == commit => ", its tip".to_owned(),
        Remote::Tip(tip) => format!(", whose tip is {}", tip.commit.short()),
        Remote::Gone => ", which the remote does not have any more".to_owned(),
    }
}

/// What is asked of the remote. The default branch costs a longer answer: it is asked for only where a version needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Tip,
    TipAndDefault,
}

async fn tip(git: &Git, wanted: Wanted, branch: Option<&Branch>) -> Result<Tip, GitError> {
    match wanted {
        Wanted::TipAndDefault => git.tip_and_default_branch(branch).await,
        Wanted::Tip => git.tip(branch).await,
    }
}

async fn remote(git: &Git, wanted: Wanted, branch: Option<&Branch>, checkout: &Checkout) -> Result<Remote, Error> {
    // Only a branch that was named can be gone; without a default branch there is nothing to put for.
    let Some(branch) = branch else { return Ok(Remote::Tip(tip(git, wanted, None).await?)) };
    // A shallow checkout does not have the commit that brought its inputs: the history that is fetched for it
    // begins with the tip, so nothing else has to be asked.
    let fetched = if checkout.shallow().is_empty() || wanted == Wanted::TipAndDefault {
        Ok(None)
    } else {
        git.fetch(&Want::Branch(branch.clone()), Depth::Commits(SHALLOW_DEPTH)).await
    };
    let found = match fetched {
        Ok(Some(commit)) => Ok(Tip { branch: branch.clone(), commit, default_branch: None }),
        Ok(None) => tip(git, wanted, Some(branch)).await,
        Err(error) => Err(error),
    };
    Ok(Remote::of_named(found)?)
}

/// A checkout as it lies.
struct Laid {
    made_of: MadeOf,
    described: Described,
    files: Files,
}

/// What the image of a checkout is made of: what git says, when the files lie as git has them.
async fn of_checkout(
    source: &Source,
    recipe: &Recipe,
    git: &Git,
    checkout: &Checkout,
    name: &str,
    work: &Path,
    say: &Say,
) -> Result<Laid, Error> {
    let mut files = Files::new(Directory::clone(checkout));
    let on_disk = files.list()?;
    let selection = select_on_disk(recipe, &files, &on_disk)?;
    // The commit may have no usable Dockerfile where the checkout has one.
    let (tree, by_git) = match inputs::of_commit(git, recipe, checkout.head()).await {
        Ok(MadeOf { tree, selection, id }) => (tree, Some((selection, id))),
        Err(Error::Inputs(_)) => (git.tree(checkout.head()).await?, None),
        Err(error) => return Err(error),
    };
    let mut counted: BTreeSet<GitPath> = selection.files.keys().cloned().collect();
    counted.extend(by_git.iter().flat_map(|(selection, _)| selection.files.keys().cloned()));
    let mut differences = checkout.compare(git, &tree, &counted).await?;
    if let Some((selection, _)) = &by_git {
        let reader = submodules::Reader {
            source: &source.git,
            selector: &selection.selector,
            work,
            missing: Missing::Tell,
            say,
        };
        let inside = reader.read(git, &tree, Some(checkout)).await?;
        differences.add(&GitPath::new(""), inside.differences);
        inside.places.into_iter().for_each(|(at, directory)| files.place(at, directory));
    }
    // Without differences both selections are the same.
    if let (Some((selection, id)), true) = (by_git, differences.is_clean()) {
        return Ok(Laid { made_of: MadeOf { tree, selection, id }, described: Described::ByGit, files });
    }
    let error = StepError::NotAsCommitted {
        artifact: name.to_owned(),
        commit: checkout.head(),
        changed: differences.modified,
        missing: differences.missing,
        unknown: differences.untracked,
    };
    if source.announce == Announce::All {
        return Err(error.into());
    }
    say.line(format_args!("git: {error}"));
    say.line("git: `only_built` is set: the version stands for the files as they lie");
    let files = Files::new(Directory::clone(checkout).with(Nested::Files));
    let made_of = as_it_lies(recipe, &files, &tree).await?;
    Ok(Laid { made_of, described: Described::ByContent, files })
}

/// What the image of a checkout is made of to which the params add something: the files as they lie.
async fn of_params(beyond: &Beyond, git: &Git, checkout: &Checkout, say: &Say) -> Result<Laid, Error> {
    let Beyond { recipe, context, images } = beyond;
    let mut files = Files::new(Directory::clone(checkout).with(Nested::Files));
    if let Some((at, directory)) = context {
        files.place(at.clone(), directory.clone());
        say.line(format_args!("context: {at}, as it lies; the Dockerfile is {}", recipe.dockerfile));
    }
    for (name, blobs) in images {
        say.line(format_args!("context: {name} is the image {}", blobs.root()));
    }
    let tree = git.tree(checkout.head()).await?;
    let made_of = as_it_lies(recipe, &files, &tree).await?;
    say.line("git: `only_built` is set: the version stands for the files as they lie, and for what the params add");
    Ok(Laid { made_of, described: Described::ByContent, files })
}

/// What an image is made of, by the content of files. `tree` is the commit that they were made from.
async fn as_it_lies(recipe: &Recipe, files: &Files, tree: &Tree) -> Result<MadeOf, Error> {
    let modes = files.list()?;
    let selection = select_on_disk(recipe, files, &modes)?;
    let is_lacked = |(path, entry): &(&GitPath, &Entry)| {
        entry.mode == Mode::Submodule
            && selection.selector.counts(path).is_some()
            && !modes.range(GitPath::clone(path)..).next().is_some_and(|(first, _)| first.is_within(path))
    };
    let lacked: Vec<GitPath> = tree.iter().filter(is_lacked).map(|(path, _)| path.clone()).collect();
    if !lacked.is_empty() {
        return Err(StepError::Submodules { files: lacked }.into());
    }
    // Whose attributes say which files of it are kept by git-lfs is not asked for what lies in it by chance.
    let links: Vec<&GitPath> =
        tree.iter().filter(|(_, entry)| entry.mode == Mode::Submodule).map(|(path, _)| path).collect();
    let is_inside = |path: &&GitPath| links.iter().any(|link| path.is_within(link));
    let pointers: Vec<GitPath> =
        selection.files.keys().filter(is_inside).filter(|path| is_pointer(&files.on_disk(path))).cloned().collect();
    if !pointers.is_empty() {
        return Err(StepError::LfsPointers { files: pointers }.into());
    }
    let hashes = files.hash(selection.files.keys().cloned()).await?;
    let entries =
        hashes.into_iter().filter_map(|(path, id)| Some((path.clone(), Entry { mode: *modes.get(&path)?, id })));
    let tree: Tree = entries.collect();
    let id = digest(recipe, &selection, &tree);
    Ok(MadeOf { tree, selection, id })
}

/// What a finished image stands for: its digest, and the words and labels that are put on it. No file is built.
async fn of_finished(recipe: &Recipe, checkout: &Checkout, finished: &Finished) -> Result<Laid, Error> {
    let recipe = recipe.of_finished(&finished.digest);
    let files = Files::new(Directory::clone(checkout));
    let named: BTreeSet<&GitPath> = recipe.details.iter().chain(&recipe.labels_file).collect();
    let mut modes = files.list()?;
    modes.retain(|path, _| named.contains(path));
    // Stands in for a Dockerfile, which the checkout need not have.
    let (dockerfile, nothing) = (recipe.dockerfile.clone(), b"FROM scratch\n".to_vec());
    let mut texts = BTreeMap::from([(dockerfile.clone(), nothing.clone())]);
    modes.insert(dockerfile.clone(), Mode::File);
    let selection = select_with(&recipe, &files, &modes, &mut texts)?;
    let counted = selection.files.keys().filter(|path| **path != dockerfile && modes.contains_key(path)).cloned();
    let hashes = files.hash(counted).await?;
    let entries =
        hashes.into_iter().filter_map(|(path, id)| Some((path.clone(), Entry { mode: *modes.get(&path)?, id })));
    let mut tree: Tree = entries.collect();
    tree.insert(dockerfile, Entry { mode: Mode::File, id: blob_id(&nothing) });
    let id = digest(&recipe, &selection, &tree);
    Ok(Laid { made_of: MadeOf { tree, selection, id }, described: Described::ByContent, files })
}

fn select_on_disk(recipe: &Recipe, files: &Files, paths: &BTreeMap<GitPath, Mode>) -> Result<Selection, Error> {
    select_with(recipe, files, paths, &mut BTreeMap::new())
}

fn select_with(
    recipe: &Recipe,
    files: &Files,
    paths: &BTreeMap<GitPath, Mode>,
    texts: &mut BTreeMap<GitPath, Vec<u8>>,
) -> Result<Selection, Error> {
    loop {
        match select(recipe, paths, texts)? {
            Asked::Known(selection) => return Ok(selection),
            Asked::Need(wanted) => {
                for path in wanted {
                    let text = match paths.get(&path) {
                        Some(Mode::Symlink) => files.link(&path)?,
                        _ => files.read(&path, TEXT_BYTES)?.unwrap_or_default(),
                    };
                    texts.insert(path, text);
                }
            }
        }
    }
}
