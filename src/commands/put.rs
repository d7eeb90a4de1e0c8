//! `out`: gives the version of a checkout its image, built only if nobody has built it, and sets the tags.

mod base;
mod beyond;
mod build;
mod builders;
mod finished;
mod followed;
mod given;
mod lfs;
mod subject;
mod submodules;
mod tags;

use std::path::Path;
use std::time::Instant;

use crate::clients::finished::Finished;
use crate::clients::git::{CommitFacts, Git};
use crate::clients::process::Environment;
use crate::clients::registry::{Image, Registry};
use crate::commands::facts::{Facts, first_build};
use crate::commands::put::followed::Followed;
use crate::commands::put::subject::{Step, Subject};
use crate::commands::put::tags::{Read, Tags};
use crate::commands::{StepError, details, image, workplace};
use crate::concourse::{Answer, Edge, Version};
use crate::decide::inputs::Recipe;
use crate::decide::tags::content_tag;
use crate::error::Error;
use crate::names::Tag;
use crate::request::{PutRequest, Rebuild, Source};
use crate::say::Say;

/// Everything that a put knows once it has read git: which image is wanted, and where it goes.
struct Put<'a> {
    source: &'a Source,
    recipe: &'a Recipe,
    git: &'a Git,
    registry: &'a Registry,
    subject: &'a Subject,
    version: Version,
    content: Tag,
    /// What it is built on, when that is followed.
    followed: Option<Followed>,
    programs: &'a Environment,
    say: &'a Say,
}

/// Gives the version of a checkout its image and its tags, and answers the version.
///
/// # Errors
///
/// Nothing is lost by any of them: a put that is run again continues where this one ended.
pub async fn put(request: PutRequest, edge: &Edge, say: &Say) -> Result<Answer, Error> {
    let started = Instant::now();
    let PutRequest { source, params } = request;
    let artifacts = edge.directory()?;
    let work = workplace(edge)?;
    let recipe = Recipe::new(&source);
    let git = Git::open(&source.git, &work.path().join("repository"), &edge.programs, say).await?;

    let finished = match &params.image {
        Some(image) => Some(Finished::open(&artifact_path(artifacts, "params.image", image)?)?),
        None => None,
    };
    let step = Step { artifacts, work: work.path(), finished: finished.as_ref() };
    let subject = Subject::read(&source, &params, &recipe, &git, &step, say).await?;
    let repository = details::repository(&source.registry, recipe.details.as_ref(), subject.details())?;
    let registry = Registry::new(&repository, &source.registry, say)?;
    // The registries answer while git tells the history.
    let (version, (followed, content, found)) = tokio::try_join!(subject.version(&git, &recipe), async {
        let followed = Followed::read(&source, &params, &subject, artifacts, say).await?;
        let bases = followed.as_ref().map(|followed| followed.bases.id());
        let content = content_tag(&recipe.tag_prefix, subject.inputs(), bases);
        let found = image::of_inputs(&registry, &content, subject.inputs(), bases).await?;
        Ok((followed, content, found))
    })?;
    let version = Version { bases: followed.as_ref().map(|followed| followed.bases.id()), ..version };
    let put = Put {
        source: &source,
        recipe: &recipe,
        git: &git,
        registry: &registry,
        subject: &subject,
        version,
        content,
        followed,
        programs: &edge.programs,
        say,
    };
    let made_of = match (&params.image, subject.made_of.selection.files.len()) {
        (Some(image), _) => format!("`{image}`"),
        (None, 1) => "1 file".to_owned(),
        (None, count) => format!("{count} files"),
    };
    say.line(format_args!(
        "image: {made_of}, inputs {}, since commit {}",
        version.inputs.short(),
        version.commit.short()
    ));
    let commit = async { Ok(git.commit(version.commit).await?) };
    let (tags, commit) = tokio::try_join!(Tags::plan(&put, &params, artifacts, &edge.build, found.as_ref()), commit)?;
    let (image, how, read) = match found {
        Some(image) if params.rebuild == Rebuild::No => {
            let how = format!("before, {}", first_build(&image));
            say.line(format_args!("image: {} is there, built {}; nothing to build", put.content, first_build(&image)));
            (image, how, Read::JustNow)
        }
        found => {
            if found.is_some() {
                say.line("image: built again, as `params.rebuild` says; workers that have fetched this version keep the old bytes");
            }
            let image = match &finished {
                Some(finished) => finished::push(&put, &params, &edge.build, &commit, finished).await?,
                None => build::build(&put, &params, edge, &commit, work.path()).await?,
            };
            (image, "now".to_owned(), Read::BeforeABuild)
        }
    };
    let written = tags.write(&put, &image, read).await?;
    say.line(format_args!("put: done in {:.2} s", started.elapsed().as_secs_f64()));
    Ok(answer(&put, &commit, &image, &written, how))
}

fn answer(put: &Put<'_>, commit: &CommitFacts, image: &Image, tags: &[Tag], how: String) -> Answer {
    let mut facts = Facts::new(&put.version, Some(&put.subject.branch), Some(commit));
    facts.add_image(put.registry.repository(), &put.content, image);
    facts.add_tags(tags);
    facts.add("built", how);
    Answer { version: put.version, metadata: facts.into_metadata() }
}

/// Refuses a path whose artifact is not there, which Concourse brings only when it is told to.
fn artifact_is_there(artifacts: &Path, name: &str) -> Result<(), StepError> {
    let first = name.split('/').find(|part| !part.is_empty() && *part != ".").unwrap_or(name);
    if artifacts.join(first).is_dir() {
        return Ok(());
    }
    let entries = std::fs::read_dir(artifacts);
    let entries = entries.map_err(|source| StepError::File { what: "list", path: artifacts.to_owned(), source })?;
    let mut there: Vec<String> =
        entries.flatten().map(|entry| format!("`{}`", entry.file_name().to_string_lossy())).collect();
    there.sort();
    Err(StepError::NoSuchArtifact { name: first.to_owned(), there })
}

/// A directory below the artifacts, as a param names it.
fn artifact_directory(artifacts: &Path, key: &'static str, name: &str) -> Result<std::path::PathBuf, StepError> {
    let path = artifact_path(artifacts, key, name)?;
    artifact_is_there(artifacts, name)?;
    if !path.is_dir() {
        return Err(StepError::NoDirectory { key, path: name.to_owned() });
    }
    stays_inside(artifacts, key, name, &path)?;
    Ok(path)
}

/// Refuses a path whose links lead out of its artifact: they may lead anywhere in this container.
fn stays_inside(artifacts: &Path, key: &'static str, name: &str, path: &Path) -> Result<(), StepError> {
    let real = |path: &Path| {
        let failed = |source| StepError::File { what: "find", path: path.to_owned(), source };
        std::fs::canonicalize(path).map_err(failed)
    };
    let first = name.split('/').find(|part| !part.is_empty() && *part != ".").unwrap_or(name);
    if real(path)?.starts_with(real(&artifacts.join(first))?) {
        Ok(())
    } else {
        Err(StepError::Outside { key: key.to_owned(), path: name.to_owned() })
    }
}

/// A path below the artifacts, as a param names it.
fn artifact_path(artifacts: &Path, key: &str, path: &str) -> Result<std::path::PathBuf, StepError> {
    let outside = || StepError::Outside { key: key.to_owned(), path: path.to_owned() };
    let relative: crate::names::GitPath = path.parse().map_err(|_| outside())?;
    if relative.as_bytes().is_empty() {
        return Err(outside());
    }
    Ok(artifacts.join(relative.to_os_path()))
}
