//! `check`: which versions of the image are new.

mod cache;

use std::collections::BTreeMap;

use crate::clients::git::{Depth, Git, Server, Tip, Want};
use crate::clients::registry::Registry;
use crate::commands::bases::Resolved;
use crate::commands::check::cache::{Cache, Seen};
use crate::commands::facts::labels;
use crate::commands::history::{FIRST_DEPTH, History};
use crate::commands::{StepError, details, image, inputs};
use crate::concourse::{Edge, Version};
use crate::decide::bases::{Wanted, announce};
use crate::decide::inputs::{InputsError, Recipe};
use crate::decide::tags::latest_tag;
use crate::decide::versions::{Built, LIMIT, Question, Remark, State, answer};
use crate::details::Details;
use crate::error::Error;
use crate::names::{BasesId, Branch};
use crate::request::{Announce, CheckRequest, Follow, Source};
use crate::say::Say;

/// Answers every version after the given one, oldest first, the given one included.
///
/// # Errors
///
/// A remote that cannot be read and a branch that is not there are errors, never an empty answer.
pub async fn check(request: CheckRequest, edge: &Edge, say: &Say) -> Result<Vec<Version>, Error> {
    let mut cache = Cache::open(&request, edge, say)?;
    match check_with(&request, edge, say, &cache).await {
        Err(Error::Git(error)) if error.is_local_damage() => {
            say.line(format_args!("git: the cache of earlier checks is damaged and is made anew: {error}"));
            cache = Cache::fresh(edge)?;
            check_with(&request, edge, say, &cache).await
        }
        result => result,
    }
}

async fn check_with(request: &CheckRequest, edge: &Edge, say: &Say, cache: &Cache) -> Result<Vec<Version>, Error> {
    let CheckRequest { source, version } = request;
    // Git knows nothing of bases.
    let given = version.map(Version::without_bases);
    let answered_before = |tip: &Tip| {
        cache.seen(tip.commit).filter(|seen| match given {
            Some(given) => given == seen.version,
            None => source.announce == Announce::All && source.git.version_depth.get() == 1,
        })
    };
    let server = Server::of(&source.git, &edge.programs);
    let told = server.tip(source.git.branch.as_ref()).await;
    if let Some(tip) = &told
        && let Some(seen) = answered_before(tip)
    {
        return unchanged(request, tip, seen, say).await;
    }
    // Only now: to write files takes longer than to ask.
    let git = Git::open(&source.git, &cache.repository(), &edge.programs, say).await?.through(server);
    let tip = match told {
        Some(tip) => tip,
        None => {
            let tip = git.tip(source.git.branch.as_ref()).await?;
            if let Some(seen) = answered_before(&tip) {
                return unchanged(request, &tip, seen, say).await;
            }
            tip
        }
    };
    let want = Want::Tip(tip.clone());
    match git.fetched(&tip.branch) {
        Some(commit) if commit == tip.commit => {}
        Some(_) => drop(git.fetch(&want, Depth::Keep).await?),
        None => drop(git.fetch(&want, Depth::Commits(FIRST_DEPTH)).await?),
    }
    let recipe = Recipe::new(source);
    let registry;
    let mut history = History::read(&git, &recipe, want, tip.commit).await?;
    if source.announce == Announce::OnlyBuilt {
        let made_of = match (inputs::of_commit(&git, &recipe, tip.commit).await, version) {
            (Err(Error::Inputs(error @ InputsError::NoDockerfile { .. })), _) if has_none_at_all(&error, source) => {
                return finished(source, &recipe, &tip.branch, version.as_ref(), error, say).await;
            }
            // The Dockerfile may be one that a task makes: then puts alone know versions.
            (Err(Error::Inputs(error @ InputsError::NoDockerfile { .. })), Some(given)) => {
                say.line(format_args!("check: {error}; the given version, which a put made, is still the newest"));
                return Ok(vec![*given]);
            }
            (made_of, _) => made_of?,
        };
        let details = &made_of.selection.details;
        let repository = details::repository(&source.registry, recipe.details.as_ref(), details)?;
        registry = Registry::to_read(&repository, &source.registry, say)?;
        history.look_up_in(&registry);
        history.tell(tip.commit, State::Image { inputs: made_of.id, selector: Box::new(made_of.selection.selector) });
    }
    let question = Question {
        given: given.as_ref(),
        depth: source.git.version_depth,
        ci_skip: source.git.ci_skip,
        announce: source.announce,
        limit: LIMIT,
    };
    let found = history.ask(|known| answer(&question, &known.line, &known.states, &known.built)).await?;
    match &found.remark {
        Some(Remark::NoDockerfile) => {
            return Err(StepError::NoVersion { commit: tip.commit, dockerfile: recipe.dockerfile.clone() }.into());
        }
        Some(remark) => say.line(format_args!("check: {remark}")),
        None => {}
    }
    let mut wanted = BTreeMap::new();
    let bases = match (source.build.follow, source.announce, found.versions.last()) {
        (Follow::GitAndBases, Announce::All, _) => {
            wanted = wanted_bases(&git, &recipe, &found.versions, given.as_ref()).await?;
            now(source, &wanted, say).await?
        }
        // The others were looked up before.
        (Follow::GitAndBases, Announce::OnlyBuilt, Some(newest)) if given == Some(*newest) => {
            built_bases(&history, newest).await?
        }
        (Follow::GitAndBases, Announce::OnlyBuilt, _) | (Follow::Git, _, _) => BTreeMap::new(),
    };
    match found.versions.last() {
        Some(newest) => {
            say.line(format_args!(
                "git: {} is at {}; the newest version is of {}, inputs {}",
                tip.branch,
                tip.commit.short(),
                newest.commit.short(),
                newest.inputs.short()
            ));
            // What is not built yet is looked for again at the same tip.
            if source.announce == Announce::All {
                let bases = wanted.remove(newest);
                cache.remember(&Seen { tip: tip.commit, version: *newest, bases }, say);
            }
        }
        None => {
            say.line(format_args!("git: {} is at {}; it has no version to announce", tip.branch, tip.commit.short()))
        }
    }
    Ok(answered(&found.versions, version.as_ref(), &bases, say))
}

/// The answer for a tip that was seen before.
async fn unchanged(request: &CheckRequest, tip: &Tip, seen: Seen, say: &Say) -> Result<Vec<Version>, Error> {
    say.line(format_args!("git: {} is still at {}: nothing new", tip.branch, tip.commit.short()));
    let wanted = seen.bases.map(|bases| (seen.version, bases)).into_iter().collect();
    let bases = now(&request.source, &wanted, say).await?;
    Ok(answered(&[seen.version], request.version.as_ref(), &bases, say))
}

/// What is announced, with a word where git alone has nothing new.
fn answered(
    versions: &[Version],
    given: Option<&Version>,
    bases: &BTreeMap<Version, BasesId>,
    say: &Say,
) -> Vec<Version> {
    let announced = announce(versions, given, bases);
    if let (Some(given), Some(newest)) = (given, announced.last())
        && given != newest
        && given.without_bases() == newest.without_bases()
    {
        say.line(format_args!("base: of {} there is a version with other base images", newest.commit.short()));
    }
    announced
}

/// The images that versions are to be built on, of those versions that git describes. Of the given one they matter only
/// when it is the newest.
async fn wanted_bases(
    git: &Git,
    recipe: &Recipe,
    versions: &[Version],
    given: Option<&Version>,
) -> Result<BTreeMap<Version, Wanted>, Error> {
    let mut wanted = BTreeMap::new();
    for version in versions.iter().filter(|version| given != Some(version) || versions.last() == Some(version)) {
        match inputs::of_commit(git, recipe, version.commit).await {
            Ok(made_of) if made_of.id == version.inputs => {
                wanted.insert(*version, made_of.selection.bases);
            }
            // A put made it of what git does not describe.
            Ok(_) => {}
            Err(Error::Inputs(error)) if !matches!(error, InputsError::Bases { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(wanted)
}

/// What these images are now: one HEAD each.
async fn now(
    source: &Source,
    wanted: &BTreeMap<Version, Wanted>,
    say: &Say,
) -> Result<BTreeMap<Version, BasesId>, Error> {
    let mut resolved = Resolved::default();
    resolved.ask(source, wanted.values(), say).await?;
    Ok(wanted.iter().map(|(version, wanted)| (*version, resolved.bases(wanted).id())).collect())
}

/// What the newest image of the given version is built on.
async fn built_bases(history: &History<'_>, version: &Version) -> Result<BTreeMap<Version, BasesId>, Error> {
    Ok(match history.built(version).await? {
        Built::Yes { bases: Some(bases) } => BTreeMap::from([(*version, bases)]),
        Built::Yes { bases: None } | Built::No => BTreeMap::new(),
    })
}

/// Whether nothing is to be built: there is no Dockerfile, and nobody said that there is one.
fn has_none_at_all(error: &InputsError, source: &Source) -> bool {
    matches!(error, InputsError::NoDockerfile { elsewhere, .. } if elsewhere.is_empty())
        && source.build.dockerfile.is_none()
}

/// The version of a branch whose images others finish: what the image says to which the branch's tag points.
async fn finished(
    source: &Source,
    recipe: &Recipe,
    branch: &Branch,
    given: Option<&Version>,
    error: InputsError,
    say: &Say,
) -> Result<Vec<Version>, Error> {
    let repository = details::repository(&source.registry, None, &Details::default())?;
    let registry = Registry::to_read(&repository, &source.registry, say)?;
    let tag = latest_tag(&recipe.tag_prefix, branch);
    let newest = image::at(&registry, &tag).await?.and_then(|image| {
        image.label(labels::REPOSITORY).filter(|name| *name == recipe.repository.as_str())?;
        Some(Version {
            commit: image.label(labels::COMMIT)?.parse().ok()?,
            inputs: image.label(labels::INPUTS)?.parse().ok()?,
            bases: image.label(labels::BASES).and_then(|bases| bases.parse().ok()),
        })
    });
    let versions: Vec<Version> =
        given.into_iter().copied().filter(|given| Some(*given) != newest).chain(newest).collect();
    if versions.is_empty() {
        return Err(error.into());
    }
    say.line(format_args!("check: {error}; the versions are those of the images that were pushed to {tag}"));
    Ok(versions)
}
