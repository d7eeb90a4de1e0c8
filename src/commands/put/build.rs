//! Builds the image, and brings it to the registry under its content tag.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clients::checkout::{Directory, Files};
use crate::clients::context::{Context, ContextEntry, ContextKind, Share};
use crate::clients::engine::{Build, Built, CacheReferences, EngineError, NamedContext, Refusal};
use crate::clients::git::CommitFacts;
use crate::clients::registry::{At, Image};
use crate::commands::facts::labels;
use crate::commands::put::base::Base;
use crate::commands::put::builders::Builders;
use crate::commands::put::subject::Described;
use crate::commands::put::submodules::{self, Missing};
use crate::commands::put::{Put, followed, given, lfs};
use crate::commands::{Rule, StepError, image};
use crate::concourse::Edge;
use crate::decide::doctor;
use crate::decide::inputs::{Mode, Recipe, Tree, modes};
use crate::decide::tags::{cache_tag, expand_build_variables};
use crate::dockerfile;
use crate::error::Error;
use crate::names::{Branch, Digest, GitPath, ObjectId};
use crate::request::{PutParams, Rebuild, RegistryCache};
use crate::say::size;

/// Builds, and pushes to the content tag, unless somebody else was quicker: then theirs is the image.
pub async fn build(
    put: &Put<'_>,
    params: &PutParams,
    edge: &Edge,
    commit: &CommitFacts,
    work: &Path,
) -> Result<Image, Error> {
    let laid_out = lay_out(put, work).await?;
    let path = laid_out.on_disk(&put.subject.made_of.selection.dockerfile);
    let dockerfile = std::fs::read(&path).map_err(|source| StepError::File { what: "read", path, source })?;
    let builders = Builders::connect(put, &dockerfile).await?;
    let image = build_with(&builders, put, params, edge, commit, (&laid_out, &dockerfile, work)).await;
    builders.close();
    image
}

/// Builds and pushes by these engines.
async fn build_with(
    builders: &Builders,
    put: &Put<'_>,
    params: &PutParams,
    edge: &Edge,
    commit: &CommitFacts,
    (laid_out, dockerfile, work): (&LaidOut, &[u8], &Path),
) -> Result<Image, Error> {
    let recipe = &put.subject.recipe;
    let context = context(put, laid_out, &recipe.context)?;
    let selection = &put.subject.made_of.selection;
    let read = |path: &GitPath| {
        let path = laid_out.on_disk(path);
        std::fs::read(&path).map_err(|source| StepError::File { what: "read", path, source })
    };
    let ignore_file = selection.ignore_file.as_ref().map(read).transpose()?;
    let base = dockerfile::base(dockerfile, &selection.args, recipe.target.as_deref());
    let base = base.map(|name| Base::read(&name, recipe.contexts.keys()));
    for name in selection.args.keys().filter(|name| doctor::looks_secret(name)) {
        put.say.line(format_args!(
            "warning: build arg {name} looks like a secret, and everybody who has the image can read it; give it in `source.build.secrets`"
        ));
    }
    let resolved = async {
        match &base {
            Some(base) => base.resolve(put, builders, dockerfile).await,
            None => None,
        }
    };
    let (given, digest) = tokio::join!(given::given(put, edge, laid_out, work), resolved);
    let (mut given, _agents) = given?;
    let pinned = base.as_ref().and_then(|base| base.pinned(digest?));
    given.contexts.extend(pinned.map(|(name, address)| (name, NamedContext::Fetched(address))));
    given.contexts.extend(followed::contexts(put, builders)?);
    let inherits = if base.is_some() { Inherits::Labels } else { Inherits::Nothing };
    let labels = labels(put, params, &edge.build, commit, base.as_ref().map(|base| (base, digest)), inherits);
    let cache = cache(put, builders).await?;
    let registry = put.registry.repository();
    let credentials = put.source.logins();
    let build = Build {
        reference: &registry.with_tag(&put.content),
        registry: put.source.registry.transport,
        credentials: &credentials,
        context: Arc::new(context),
        dockerfile,
        dockerfile_name: &file_name(&selection.dockerfile),
        dockerignore: ignore_file.as_deref(),
        target: recipe.target.as_deref(),
        args: &selection.args,
        labels: &labels,
        platforms: &recipe.platforms,
        options: &put.source.build.options,
        given: &given,
        cache: &cache,
        commit_time: commit.commit_date.as_second(),
        shared_key: &format!("{}:{}{}", recipe.repository, recipe.tag_prefix, recipe.dockerfile),
    };
    if let Some(stage) = &params.test {
        put.say.line(format_args!("test: stage {stage} must build before anything is pushed"));
        let test = Build { target: Some(stage), cache: &CacheReferences::default(), ..build.clone() };
        builders.test(put, &test).await.map_err(|error| in_the_users_words(&put.subject.recipe, error))?;
    }
    match publish(put, params, builders, &build).await {
        // Puts of one image share its name in the engine: one that was quicker, or dropped its image, took it away.
        Err(Error::Engine(EngineError::Push { why: Refusal::Gone, .. })) => {
            put.say.line(
                "push: another put on this engine took the image's name away; once more, from the engine's cache",
            );
            publish(put, params, builders, &build).await
        }
        // The engine uploads image and cache at once, and a layer of both may come to the registry twice.
        Err(Error::Engine(EngineError::Push { why: Refusal::Mixed, .. })) => {
            put.say.line("push: the registry mixed up two uploads of one layer; once more, from the engine's cache");
            publish(put, params, builders, &build).await
        }
        result => result,
    }
}

/// Where the layers of this branch are kept: read from its own tag and that of the default branch, written to its own.
async fn cache(put: &Put<'_>, builders: &Builders) -> Result<CacheReferences, Error> {
    let wanted = match put.source.build.options.cache {
        RegistryCache::Always => true,
        RegistryCache::ForEmptyEngines => builders.begin_empty(),
        RegistryCache::Never => false,
    };
    if !wanted {
        return Ok(CacheReferences::default());
    }
    let of = |branch: &Branch| {
        let tag = cache_tag(&put.recipe.tag_prefix, &put.recipe.repository, branch);
        put.registry.repository().with_tag(&tag).whole()
    };
    let own = of(&put.subject.branch);
    let default = put.git.tip_and_default_branch(Some(&put.subject.branch)).await;
    // A branch that is gone has a cache all the same.
    let default = default.ok().and_then(|tip| tip.default_branch).map(|branch| of(&branch));
    let from = std::iter::once(own.clone()).chain(default.filter(|default| *default != own)).collect();
    Ok(CacheReferences { from, to: Some(own) })
}

/// Builds and pushes once.
async fn publish(put: &Put<'_>, params: &PutParams, builders: &Builders, build: &Build<'_>) -> Result<Image, Error> {
    let repository = put.registry.repository();
    let built = builders.build(put, build).await.map_err(|error| match error {
        Error::Engine(error) => in_the_users_words(&put.subject.recipe, error),
        error => error,
    })?;
    // Somebody else may have built the same inputs meanwhile: the content tag is written once.
    if params.rebuild == Rebuild::No
        && let Some(image) = image::of_inputs(put.registry, &put.content, put.version.inputs, put.version.bases).await?
    {
        put.say
            .line(format_args!("push: {} came to exist meanwhile; that image is used, ours is dropped", put.content));
        if let Built::InEngine(built) = built {
            built.discard().await?;
        }
        return Ok(image);
    }
    let pushed = match built {
        Built::Pushed(digest) => {
            let manifest = put.registry.manifest(At::Digest(&digest)).await?;
            let manifest = manifest.ok_or_else(|| StepError::ImageGone { repository: repository.clone(), digest })?;
            put.registry.put_manifest(At::Tag(&put.content), &manifest).await?;
            digest
        }
        Built::InEngine(built) => built.push(put.say).await?,
    };
    let image = image::of_inputs(put.registry, &put.content, put.version.inputs, put.version.bases)
        .await?
        .ok_or_else(|| StepError::TagMoved { repository: repository.clone(), tag: put.content.clone() })?;
    let digest = image.manifest.digest;
    if digest == pushed {
        put.say.line(format_args!("push: {repository}:{} is {digest}, {}", put.content, size(image.size())));
    } else {
        put.say.line(format_args!("push: another put of the same inputs was later; its image {digest} is used"));
    }
    Ok(image)
}

/// The engine knows paths of the context only, and not which key said what counts.
fn in_the_users_words(recipe: &Recipe, error: EngineError) -> Error {
    let EngineError::BeyondInputs { path, more } = error else { return error.into() };
    let rule = match (&recipe.paths, recipe.ignore_paths.as_slice()) {
        (Some(_), _) => Rule::Paths,
        (None, [_, ..]) => Rule::IgnorePaths,
        (None, []) => Rule::Dockerfile,
    };
    StepError::BeyondInputs { path: recipe.context.join(path.as_bytes()), more, rule }.into()
}

/// All files that count, on disk.
pub(super) struct LaidOut {
    files: Files,
    /// The paths in submodules, as their commits have them.
    inside: Tree,
    /// Where the files are for which pointers of Git LFS lie.
    elsewhere: BTreeMap<GitPath, PathBuf>,
}

impl LaidOut {
    fn on_disk(&self, path: &GitPath) -> PathBuf {
        self.elsewhere.get(path).cloned().unwrap_or_else(|| self.files.on_disk(path))
    }
}

/// All files that count, with the paths in submodules: those of the checkout as they lie, the others laid out.
async fn lay_out(put: &Put<'_>, work: &Path) -> Result<LaidOut, Error> {
    let subject = put.subject;
    let made_of = &subject.made_of;
    let make = |name: &str| {
        let path = work.join(name);
        let made = std::fs::create_dir(&path);
        made.map(|()| path.clone()).map_err(|source| StepError::File { what: "make", path, source })
    };
    let mut files = match &subject.files {
        Some(files) => files.clone(),
        None => {
            let into = make("files")?;
            let counted: Vec<GitPath> = made_of.selection.files.keys().cloned().collect();
            put.git.lay_out(subject.commit, Some(&counted), &into).await?;
            Files::new(Directory::open(&into)?)
        }
    };
    let mut inside = Tree::new();
    let mut repositories = Vec::new();
    if subject.described == Described::ByGit {
        let reader = submodules::Reader {
            source: &put.source.git,
            selector: &made_of.selection.selector,
            work: &make("submodules")?,
            missing: Missing::Fetch,
            say: put.say,
        };
        let found = reader.read(put.git, &made_of.tree, subject.checkout.as_ref()).await?;
        found.places.into_iter().for_each(|(at, directory)| files.place(at, directory));
        inside = found.tree;
        repositories = found.repositories;
    }
    let store = make("lfs")?;
    let no_path = GitPath::new("");
    let own = lfs::Repository { at: &no_path, git: put.git, commit: subject.commit, source: &put.source.git };
    let further = repositories.iter().map(|submodule| lfs::Repository {
        at: &submodule.at,
        git: &submodule.git,
        commit: submodule.commit,
        source: &submodule.source,
    });
    let repositories: Vec<lfs::Repository<'_>> = std::iter::once(own).chain(further).collect();
    let selector = &made_of.selection.selector;
    let counted = inside.keys().filter(|path| selector.counts(path).is_some()).chain(made_of.selection.files.keys());
    let mut of_repository: BTreeMap<&GitPath, Vec<&GitPath>> = BTreeMap::new();
    for path in counted.filter(|path| path.parts().next().is_some_and(|first| first != b"..")) {
        let innermost = repositories.iter().map(|one| one.at).filter(|at| path.is_within(at)).max();
        of_repository.entry(innermost.unwrap_or(&no_path)).or_default().push(path);
    }
    let mut elsewhere = BTreeMap::new();
    for repository in repositories {
        let counted = of_repository.remove(repository.at).unwrap_or_default();
        elsewhere.extend(lfs::fetch(repository, counted, &files, &store, put.say).await?);
    }
    Ok(LaidOut { files, inside, elsewhere })
}

/// Everything below a context: what counts is served, of the rest only the paths are known.
pub(super) fn context(put: &Put<'_>, laid_out: &LaidOut, directory: &GitPath) -> Result<Context, Error> {
    let LaidOut { files, inside, elsewhere: _ } = laid_out;
    let made_of = &put.subject.made_of;
    let mut paths: BTreeMap<GitPath, Mode> = match &put.subject.files {
        Some(_) => files.list()?,
        None => modes(&made_of.tree),
    };
    paths.extend(modes(inside));
    let counts = |path: &GitPath| match inside.get(path) {
        // The commit of the submodule, which counts, says what is in it.
        Some(_) => made_of.selection.selector.counts(path).is_some(),
        None => made_of.selection.files.contains_key(path),
    };
    let mut entries = Vec::new();
    for (path, mode) in paths {
        let Some(relative) = path.relative_to(directory) else { continue };
        let on_disk = laid_out.on_disk(&path);
        let share = if counts(&path) { Share::Counted } else { Share::Beyond };
        let kind = match (share, mode) {
            (Share::Counted, Mode::File | Mode::Executable) => {
                ContextKind::File { executable: mode == Mode::Executable, size: size_on_disk(&on_disk)? }
            }
            (Share::Counted, Mode::Symlink) => ContextKind::Symlink { target: link(&on_disk)? },
            // Its files are there by themselves.
            (Share::Counted, Mode::Submodule) => continue,
            // Never served: only the path matters.
            (Share::Beyond, _) => ContextKind::File { executable: false, size: 0 },
        };
        let id = made_of
            .tree
            .get(&path)
            .or_else(|| inside.get(&path))
            .map_or(ObjectId::from_bytes([0; 20]), |entry| entry.id);
        entries.push(ContextEntry { path: relative, kind, id, share, on_disk });
    }
    Ok(Context::new(entries))
}

fn size_on_disk(path: &Path) -> Result<u64, StepError> {
    let metadata = path.symlink_metadata();
    Ok(metadata.map_err(|source| StepError::File { what: "read", path: path.to_owned(), source })?.len())
}

fn link(path: &Path) -> Result<Vec<u8>, StepError> {
    use std::os::unix::ffi::OsStringExt as _;
    let target = std::fs::read_link(path);
    let target = target.map_err(|source| StepError::File { what: "read", path: path.to_owned(), source })?;
    Ok(target.into_os_string().into_vec())
}

fn file_name(path: &GitPath) -> String {
    path.parts().last().map_or_else(|| "Dockerfile".to_owned(), |name| String::from_utf8_lossy(name).into_owned())
}

/// The labels of the image: the user's, those of `image.details`, those of the params, and ours, which win.
pub(super) fn labels(
    put: &Put<'_>,
    params: &PutParams,
    variables: &BTreeMap<String, String>,
    commit: &CommitFacts,
    base: Option<(&Base, Option<Digest>)>,
    inherits: Inherits,
) -> BTreeMap<String, String> {
    let details = put.subject.details();
    let mut all = put.subject.made_of.selection.labels.clone();
    all.extend(details.labels.clone());
    all.extend(params.labels.iter().map(|(name, text)| (name.clone(), expand_build_variables(text, variables))));
    let title = details
        .name
        .clone()
        .unwrap_or_else(|| put.registry.repository().name().rsplit('/').next().unwrap_or_default().to_owned());
    let address = put.source.git.uri.page();
    let described = match put.subject.described {
        Described::ByGit => put.version.commit.to_string(),
        // What lies in the checkout is more than its commit.
        Described::ByContent => format!("{}-dirty", put.version.commit),
    };
    let version = params.version.as_ref().map(ToString::to_string);
    let version = version.or_else(|| details.version.as_ref().map(ToString::to_string));
    let but_epoch = put.subject.inputs_but_epoch();
    let ours = [
        (labels::INPUTS, Some(put.version.inputs.to_string())),
        (labels::INPUTS_BUT_EPOCH, (but_epoch != put.version.inputs).then(|| but_epoch.to_string())),
        (labels::BASES, put.version.bases.map(|bases| bases.to_string())),
        (labels::BASE_IMAGES, put.followed.as_ref().map(|followed| followed.bases.to_label())),
        (labels::COMMIT, Some(put.version.commit.to_string())),
        (labels::REPOSITORY, Some(put.recipe.repository.to_string())),
        (labels::CREATED, Some(commit.commit_date.to_string())),
        (labels::REVISION, Some(described)),
        (labels::SOURCE, Some(address.clone())),
        (labels::URL, Some(address)),
        (labels::VERSION, version.clone()),
        (labels::OUR_VERSION, version),
        (labels::TITLE, Some(title)),
        (labels::BASE_NAME, base.map(|(base, _)| base.name().to_owned())),
        (labels::BASE_DIGEST, base.and_then(|(_, digest)| Some(digest?.to_string()))),
        (labels::REF_NAME, Some(put.subject.branch.to_string())),
    ];
    all.extend(ours.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    if inherits == Inherits::Labels {
        // The base image may be one of ours too, and what it says of itself is not true of this one.
        for name in [labels::INPUTS_BUT_EPOCH, labels::BASES, labels::BASE_IMAGES, labels::OUR_VERSION] {
            all.entry(name.to_owned()).or_default();
        }
    }
    all
}

/// Whether an image has labels before ours are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inherits {
    /// It has those of another image.
    Labels,
    /// It begins with none.
    Nothing,
}
