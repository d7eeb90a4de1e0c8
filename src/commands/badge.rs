//! `git-image badge`: a picture of a branch's state and newest version.

mod svg;

use std::io::{Read, Write};
use std::path::PathBuf;

use super::cli::source::SourceArgs;
use super::cli::{CliError, output};
use super::facts::labels;
use super::{details, image};
use crate::clients::git::Git;
use crate::clients::registry::Registry;
use crate::concourse::Edge;
use crate::decide::tags::latest_tag;
use crate::details::Details;
use crate::error::{Error, Report};
use crate::names::Branch;
use crate::request::{RepositorySetting, Source};
use crate::say::Say;

pub use svg::State;

/// Draws a badge: the word build, the state, and the newest version of a branch.
///
/// The version is VERSION of the image that the branch's tag points to, else its short commit. The badge is an SVG, for
/// light and dark pages.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct BadgeArgs {
    /// How the build ended
    #[arg(long, value_name = "STATE")]
    state: State,

    /// The branch, in place of the source's; without either, the default branch
    #[arg(long, value_name = "BRANCH")]
    branch: Option<Branch>,

    /// Where the badge is written; stdout without it
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Which image.
    #[command(flatten)]
    source: SourceArgs,
}

const EXAMPLES: &str = "\
Examples:
  git-image badge --state passing --source source.yml --output badge.svg
  git-image badge --state failing --pipeline pipeline.yml -l vars.yml --branch feat/foo > badge.svg

Where the registry does not tell the version, the badge is drawn without one, and stderr says why.
Exit status: 0 done, 1 refused or failed, 2 wrong usage.";

/// Asks the registry for the version, and writes the badge.
///
/// # Errors
///
/// The source cannot be read, or the badge not written. Without a version it is drawn all the same: the badge of a build
/// that failed with the registry must not go on saying that it passed.
pub async fn badge(
    args: &BadgeArgs,
    input: &mut impl Read,
    out: &mut impl Write,
    edge: &Edge,
    say: &Say,
) -> Result<(), Error> {
    let source = args.source.read(input, edge, say).await?;
    let version = newest(&source, args.branch.as_ref(), edge, say).await.unwrap_or_else(|error| {
        say.line(Report(&error));
        say.line("badge: drawn without a version, so that it shows the state all the same");
        None
    });
    let svg = svg::draw(args.state, version.as_deref());
    match &args.output {
        None => Ok(output::write(out, svg.as_bytes())?),
        Some(path) => Ok(std::fs::write(path, svg).map_err(|source| CliError::File {
            what: "write the badge to",
            path: path.clone(),
            source,
        })?),
    }
}

/// What the newest image of the branch is called; `None`: there is none, or it is not ours. A version is a tag: any other
/// text in its label is not of put.
async fn newest(source: &Source, branch: Option<&Branch>, edge: &Edge, say: &Say) -> Result<Option<String>, Error> {
    let directory = super::workplace(edge)?;
    let branch = branch.or(source.git.branch.as_ref());
    let (repository, branch) = match (&source.registry.repository, branch) {
        (RepositorySetting::Whole(_), Some(branch)) => {
            (details::repository(&source.registry, None, &Details::default())?, branch.clone())
        }
        (_, branch) => {
            let git = Git::open(&source.git, &directory.path().join("git"), &edge.programs, say).await?;
            let tip = git.tip(branch).await?;
            (details::repository_of(source, &git).await?, tip.branch)
        }
    };
    let registry = Registry::to_read(&repository, &source.registry, say)?;
    let image = image::at(&registry, &latest_tag(&source.registry.tag_prefix, &branch)).await?;
    Ok(image.and_then(|image| {
        image.label(labels::REPOSITORY).filter(|name| *name == source.git.uri.repository().as_str())?;
        let commit = || image.label(labels::COMMIT).and_then(|commit| commit.get(..7));
        image.label(labels::OUR_VERSION).or_else(commit).map(str::to_owned)
    }))
}
