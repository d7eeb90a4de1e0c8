//! `in`: fetches the image of a version.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Instant;

use futures_util::future::try_join_all;

use crate::clients::git::{CommitFacts, Depth, Git, GitError, Want};
use crate::clients::registry::{At, Choice, Image, Registry};
use crate::clients::{rootfs, save};
use crate::commands::facts::{Facts, first_build, labels};
use crate::commands::{StepError, bases, details, image, inputs, workplace};
use crate::concourse::{Answer, Edge, Version};
use crate::decide::bases::Bases;
use crate::decide::inputs::Recipe;
use crate::decide::tags::{commit_tag, content_tag, latest_tag};
use crate::details::Details;
use crate::error::Error;
use crate::names::{BasesId, Branch, Repository, Tag};
use crate::request::{Download, Follow, Format, GetParams, GetRequest, GetSource, RepositorySetting, Source};
use crate::say::Say;

/// Fetches the image of the given version, and answers that version.
///
/// # Errors
///
/// An image that is not there is one, unless `skip_download` is set; nothing half-made is left.
pub async fn get(request: GetRequest, edge: &Edge, say: &Say) -> Result<Answer, Error> {
    let started = Instant::now();
    let GetRequest { source, version, params } = request;
    let destination = edge.directory()?;
    let work = workplace(edge)?;
    let recipe = Recipe::new(&source);
    let git = Git::open(&source.git, &work.path().join("repository"), &edge.programs, say).await?;

    let details = match source.registry.repository {
        RepositorySetting::Whole(_) => Details::default(),
        // The rest of the repository's name is in git.
        RepositorySetting::Beginning(_) => {
            git.fetch(&Want::Commit(version.commit), Depth::Commits(NonZeroU32::MIN)).await?;
            inputs::of_commit(&git, &recipe, version.commit).await?.selection.details
        }
    };
    let repository = details::repository(&source.registry, recipe.details.as_ref(), &details)?;
    let registry = Registry::to_read(&repository, &source.registry, say)?;
    let content = content_tag(&recipe.tag_prefix, version.inputs, version.bases);
    let found = find(&registry, &recipe, &version, &content, say).await?;
    if found.is_none() && params.download == Download::Fetch {
        return Err(StepError::NotBuilt { repository, tag: content }.into());
    }
    let platform = params.platform.as_ref().or(source.registry.platform.as_ref());
    let found = match (found, params.download, params.format) {
        // The whole index.
        (Some(image), Download::Fetch, Format::Layout) if platform.is_none() => Some(image),
        (Some(image), Download::Fetch, _) => Some(image::of_platform(&registry, image, platform).await?),
        (found, _, _) => found,
    };

    // git tells who made the commit while the layers arrive.
    let (told, tags, ()) = tokio::try_join!(
        ask_git(&git, source.git.branch.as_ref(), &version, params.source, say),
        tags(&registry, &recipe, &version, source.git.branch.as_ref(), found.as_ref()),
        write_image(&registry, found.as_ref(), &params, &source, &content, destination, say)
    )?;
    if params.source == GetSource::Checkout
        && let Some(branch) = &told.branch
    {
        let into = destination.join("source");
        std::fs::create_dir_all(&into).map_err(|source| StepError::File {
            what: "make",
            path: into.clone(),
            source,
        })?;
        git.clone_to(version.commit, branch, &into).await?;
        say.line(format_args!("source: {} is in source/", version.commit.short()));
    }
    write_files(destination, &repository, &content, &version, told.branch.as_ref(), found.as_ref())?;
    if let Some(id) = version.bases {
        write(&destination.join("bases"), id.to_string().as_bytes())?;
        let seen = match (&found, params.source) {
            (Some(image), _) => image.label(labels::BASE_IMAGES).and_then(|text| Bases::of_label(text, id)),
            (None, GetSource::Checkout) => bases_now(&source, &recipe, &git, &version, id, say).await,
            (None, GetSource::Leave) => None,
        };
        if let Some(seen) = seen {
            write(&destination.join(bases::FILE), seen.to_json().as_bytes())?;
        }
    }
    let mut facts = Facts::new(&version, told.branch.as_ref(), told.commit.as_ref());
    match &found {
        Some(image) => {
            facts.add_image(&repository, &content, image);
            facts.add_tags(&tags);
            facts.add("built", first_build(image));
            if params.download == Download::Fetch {
                facts.add("format", params.format);
            }
        }
        None => {
            say.line(format_args!("image: {repository} has no {content} yet, which `skip_download` allows"));
            facts.add("built", "not yet");
        }
    }
    say.line(format_args!("get: done in {:.2} s", started.elapsed().as_secs_f64()));
    Ok(Answer { version, metadata: facts.into_metadata() })
}

/// The image of a version: by its content tag, else by its commit's when that is labelled with the same inputs.
async fn find(
    registry: &Registry,
    recipe: &Recipe,
    version: &Version,
    content: &Tag,
    say: &Say,
) -> Result<Option<Image>, Error> {
    for tag in [content, &commit_tag(&recipe.tag_prefix, version.commit)] {
        if let Some(image) = image::of_inputs(registry, tag, version.inputs, version.bases).await? {
            say.line(format_args!("image: {}:{tag}, built {}", registry.repository(), first_build(&image)));
            return Ok(Some(image));
        }
    }
    Ok(None)
}

/// The bases of a version that is not built yet, if they are still those that check saw. A put that finds none of them
/// beside its checkout looks for itself.
async fn bases_now(
    source: &Source,
    recipe: &Recipe,
    git: &Git,
    version: &Version,
    id: BasesId,
    say: &Say,
) -> Option<Bases> {
    let now = async {
        // It does not matter whether this source follows them: the version does.
        let recipe = Recipe { follow: Follow::GitAndBases, ..recipe.clone() };
        let made_of = inputs::of_commit(git, &recipe, version.commit).await?;
        bases::resolve_all(source, &made_of.selection.bases, say).await
    };
    match now.await {
        Ok(now) if now.id() == id => Some(now),
        Ok(_) => {
            say.line("base: one has moved since check saw this version; a put builds on what it finds then, and the next check announces that");
            None
        }
        Err(error) => {
            say.line(format_args!("base: which digests this version is to be built on cannot be told: {error}"));
            None
        }
    }
}

/// What git tells of a version.
#[derive(Default)]
struct Told {
    commit: Option<CommitFacts>,
    /// The branch of the resource.
    branch: Option<Branch>,
}

/// Best effort: an image can be used while git is down. With `source: true` git is needed, and its error counts.
async fn ask_git(
    git: &Git,
    branch: Option<&Branch>,
    version: &Version,
    source: GetSource,
    say: &Say,
) -> Result<Told, Error> {
    let facts = async {
        git.fetch(&Want::Commit(version.commit), Depth::Commits(NonZeroU32::MIN)).await?;
        let commit = git.commit(version.commit).await?;
        let branch = match branch {
            Some(branch) => branch.clone(),
            None => git.tip(None).await?.branch,
        };
        Ok(Told { commit: Some(commit), branch: Some(branch) })
    };
    match facts.await {
        Ok(told) => Ok(told),
        Err(error) if source == GetSource::Leave => {
            let error: GitError = error;
            say.line(format_args!("git: author and message are left out, the image does not need them: {error}"));
            Ok(Told { commit: None, branch: branch.cloned() })
        }
        Err(error) => Err(error.into()),
    }
}

/// Those of our own tags that point to the image.
async fn tags(
    registry: &Registry,
    recipe: &Recipe,
    version: &Version,
    branch: Option<&Branch>,
    image: Option<&Image>,
) -> Result<Vec<Tag>, Error> {
    let Some(image) = image else { return Ok(Vec::new()) };
    let prefix = &recipe.tag_prefix;
    let candidates = [content_tag(prefix, version.inputs, version.bases), commit_tag(prefix, version.commit)];
    let candidates = candidates.into_iter().chain(branch.map(|branch| latest_tag(prefix, branch)));
    let found = candidates.map(async |tag| {
        let found = registry.resolve(&tag).await?;
        Ok::<_, Error>(found.filter(|found| found.digest == image.manifest.digest).map(|_| tag))
    });
    Ok(try_join_all(found).await?.into_iter().flatten().collect())
}

/// Writes the image in the form that is wanted.
async fn write_image(
    registry: &Registry,
    image: Option<&Image>,
    params: &GetParams,
    source: &Source,
    tag: &Tag,
    destination: &Path,
    say: &Say,
) -> Result<(), Error> {
    let (Download::Fetch, Some(image)) = (params.download, image) else { return Ok(()) };
    match params.format {
        Format::Rootfs => {
            rootfs::unpack(registry, image, &destination.join("rootfs"), source.max_unpacked_bytes, say).await?;
            let metadata = rootfs::metadata_json(&image.config).to_string();
            write(&destination.join("metadata.json"), metadata.as_bytes())?;
        }
        Format::DockerArchive => {
            let reference = format!("{}:{tag}", registry.repository());
            save::docker_archive(registry, image, &reference, &destination.join("image.tar"), say).await?;
        }
        Format::Layout => {
            let top = &image.manifest;
            let chosen = match params.platform.as_ref().or(source.registry.platform.as_ref()) {
                Some(platform) => registry.image_manifest(At::Digest(&top.digest), Choice::Only(platform)).await?,
                None => None,
            };
            save::layout(registry, chosen.as_ref().unwrap_or(top), tag, &destination.join("oci"), say).await?;
        }
    }
    Ok(())
}

fn write_files(
    destination: &Path,
    repository: &Repository,
    tag: &Tag,
    version: &Version,
    branch: Option<&Branch>,
    image: Option<&Image>,
) -> Result<(), StepError> {
    let file = |name: &str, text: &str| write(&destination.join(name), text.as_bytes());
    file("repository", &repository.to_string())?;
    file("tag", tag.as_str())?;
    file("ref", &version.commit.to_string())?;
    file("inputs", &version.inputs.to_string())?;
    if let Some(branch) = branch {
        file("branch", branch.as_str())?;
    }
    if let Some(image) = image {
        file("digest", &image.manifest.digest.to_string())?;
    }
    let labels = image.and_then(|image| image.config.config.as_ref()?.labels.clone()).unwrap_or_default();
    file("labels.json", &serde_json::to_string(&labels).expect("texts by name are always JSON"))
}

fn write(path: &PathBuf, bytes: &[u8]) -> Result<(), StepError> {
    std::fs::write(path, bytes).map_err(|source| StepError::File { what: "write", path: path.clone(), source })
}
