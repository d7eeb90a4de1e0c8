//! The bases of a put when they are followed: those that the get of its checkout saw, else those of the moment.

use std::path::Path;

use crate::clients::engine::NamedContext;
use crate::commands::put::base::by_digest;
use crate::commands::put::builders::Builders;
use crate::commands::put::subject::Subject;
use crate::commands::put::{Put, artifact_path, stays_inside};
use crate::commands::{StepError, bases};
use crate::decide::bases::Bases;
use crate::error::Error;
use crate::names::{BasesId, CommitId};
use crate::request::{Follow, PutParams, Source};
use crate::say::Say;

/// The most that is read of it.
const FILE_BYTES: u64 = 1024 * 1024;

/// The bases of a put.
pub struct Followed {
    /// What is built on.
    pub bases: Bases,
    /// Which ones there were when the put began; `None`: that could not be told.
    pub at_first: Option<BasesId>,
}

impl Followed {
    /// Reads what a get of ours wrote beside the checkout, and asks the registries. `None`: bases are not followed, or
    /// nothing is built.
    ///
    /// # Errors
    ///
    /// The digest of a base cannot be told, and no get told it.
    pub async fn read(
        source: &Source,
        params: &PutParams,
        subject: &Subject,
        artifacts: &Path,
        say: &Say,
    ) -> Result<Option<Self>, Error> {
        if subject.recipe.follow == Follow::Git || params.image.is_some() {
            return Ok(None);
        }
        let wanted = &subject.made_of.selection.bases;
        let seen = match &params.source {
            Some(name) => seen_by_get(artifacts, name, subject.commit)?,
            None => None,
        };
        let now = bases::resolve_all(source, wanted, say).await;
        let seen = seen.and_then(|seen| Bases::of(wanted, |one| seen.digest(one)).ok());
        let (bases, at_first) = match (seen, now) {
            (Some(seen), Ok(now)) => {
                if seen != now {
                    say.line("base: moved since the get; what the get saw is built on, and the next check announces the newer");
                }
                (seen, Some(now.id()))
            }
            (Some(seen), Err(error)) => {
                say.line(format_args!("base: whether one has moved since the get cannot be told: {error}"));
                (seen, None)
            }
            (None, now) => {
                let now = now?;
                let id = now.id();
                (now, Some(id))
            }
        };
        for image in bases.iter() {
            say.line(format_args!("base: {image}"));
        }
        Ok(Some(Self { bases, at_first }))
    }
}

/// The bases of this moment; `None`: they cannot be told, which is no reason to lose what was built.
pub async fn now(put: &Put<'_>) -> Option<BasesId> {
    match bases::resolve_all(put.source, &put.subject.made_of.selection.bases, put.say).await {
        Ok(now) => Some(now.id()),
        Err(error) => {
            put.say.line(format_args!("base: whether one has moved meanwhile cannot be told: {error}"));
            None
        }
    }
}

/// The bases that a get saw, if the checkout is the one that it made: of the same commit, in a directory `source`.
fn seen_by_get(artifacts: &Path, name: &str, commit: CommitId) -> Result<Option<Bases>, Error> {
    let Some(above) = name.trim_end_matches('/').strip_suffix("/source") else { return Ok(None) };
    let directory = artifact_path(artifacts, "params.source", above)?;
    let of_commit = std::fs::read_to_string(directory.join("ref")).is_ok_and(|text| text.trim() == commit.to_string());
    let path = directory.join(bases::FILE);
    if !of_commit || !path.is_file() {
        return Ok(None);
    }
    let name = format!("{above}/{}", bases::FILE);
    stays_inside(artifacts, "params.source", &name, &path)?;
    let text = read(&path).map_err(|source| StepError::File { what: "read", path: path.clone(), source })?;
    Ok(Some(Bases::of_json(&text).map_err(|source| StepError::BasesFile { path, source })?))
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

/// The named contexts by which the engine builds on exactly these bases.
///
/// # Errors
///
/// The engine knows no named contexts.
pub fn contexts(put: &Put<'_>, builders: &Builders) -> Result<Vec<(String, NamedContext)>, StepError> {
    let Some(followed) = &put.followed else { return Ok(Vec::new()) };
    let wanted = &put.subject.made_of.selection.bases;
    let held = wanted.iter().filter(|(_, image)| image.digest().is_none()).filter_map(|(key, image)| {
        let digest = followed.bases.digest(image)?;
        Some((key.clone(), NamedContext::Fetched(by_digest(image, digest))))
    });
    let held: Vec<(String, NamedContext)> = held.collect();
    if held.is_empty() || builders.can_pin() { Ok(held) } else { Err(StepError::BasesNotHeld) }
}
