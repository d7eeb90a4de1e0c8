//! `git-image destroy-pipeline`: destroys the pipeline of a branch, with fly.

use std::io::Write;

use super::cli::variables::VariableArgs;
use super::fly::{FlyArgs, Place};
use crate::concourse::Edge;
use crate::error::Error;
use crate::say::Say;

/// Destroys the pipeline of a branch with its builds, with fly.
///
/// The branch itself, and its images, stay: git deletes the one, `git-image reap` the others.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct DestroyPipelineArgs {
    #[command(flatten)]
    fly: FlyArgs,

    #[command(flatten)]
    variables: VariableArgs,
}

const EXAMPLES: &str = "\
Examples:
  git-image destroy-pipeline --target ci --branch feat/foo
          destroys the pipeline of a branch, after fly has asked
  git-image destroy-pipeline --print
          prints the command for the branch that is checked out

What is run is shown on stderr; stdout is fly's, or with --print the command.
Exit status: 0 done, 1 refused or failed, 2 wrong usage.";

/// Shows what is run, and runs it. The branch may be gone already.
///
/// # Errors
///
/// The remote cannot be asked, or fly fails.
pub async fn destroy_pipeline(
    args: &DestroyPipelineArgs,
    out: &mut impl Write,
    edge: &Edge,
    say: &Say,
) -> Result<(), Error> {
    let place = Place::read(edge, say).await?;
    let variables = args.variables.or_of(place.tree.root()).read()?;
    let pipeline = args.fly.pipeline(&place, &variables).await?;
    say.line(format_args!("pipeline  {pipeline}"));
    args.fly.run("destroy-pipeline", &["--pipeline".to_owned(), pipeline.to_string()], out, edge, say).await
}
