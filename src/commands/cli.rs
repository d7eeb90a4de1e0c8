//! The command line for people and tasks: `git-image`, or `git image`.
//!
//! `source` finds out which image a command is about, `login` who asks a registry, `variables` takes values for its pipeline, `output` writes what
//! a command answers, `error` is what can go wrong around it.

mod error;
pub mod login;
pub mod output;
pub mod source;
pub mod variables;

use std::io::{Read, Write};

use super::badge::BadgeArgs;
use super::branches::BranchesArgs;
use super::completions::CompletionsArgs;
use super::destroy_pipeline::DestroyPipelineArgs;
use super::doctor::DoctorArgs;
use super::init::InitArgs;
use super::inputs::list::InputsArgs;
use super::man::ManArgs;
use super::prune::PruneArgs;
use super::reap::args::ReapArgs;
use super::set_pipeline::SetPipelineArgs;
use super::{badge, branches, completions, destroy_pipeline, doctor, init, inputs, man, prune, reap, set_pipeline};
use crate::concourse::Edge;
use crate::error::Error;
use crate::say::Say;

pub use error::CliError;

/// One image of one git branch: the command line
///
/// The programs check, in and out of the Concourse resource type make the images; this one looks after them and after
/// their pipelines. git finds it on the PATH: `git image` is the same.
#[derive(Debug, clap::Parser)]
#[command(name = "git-image", version, after_help = AFTER_HELP, after_long_help = AFTER_LONG_HELP)]
#[command(disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "Each command has examples: git-image COMMAND --help";

const AFTER_LONG_HELP: &str = "\
Examples:
  git-image set-pipeline --target ci
          sets the pipeline of the branch that is checked out
  git-image reap --source source.yml
          shows which tags would be removed, and why the others stay
  git-image completions bash > /etc/bash_completion.d/git-image
          completes commands and options in bash
  git-image man --output /usr/local/share/man/man1
          lets `git image --help` find its manual

What can be piped is written to stdout, everything else to stderr.
Exit status: 0 done, 1 refused or failed, 2 wrong usage.";

#[derive(Debug, clap::Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one, made once")]
enum Command {
    Init(InitArgs),
    SetPipeline(SetPipelineArgs),
    DestroyPipeline(DestroyPipelineArgs),
    Branches(BranchesArgs),
    Badge(BadgeArgs),
    Inputs(InputsArgs),
    Doctor(DoctorArgs),
    Reap(ReapArgs),
    Prune(PruneArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Runs one command. `input` is stdin; `output` is stdout, for data that the user may pipe.
///
/// # Errors
///
/// What the command could not do.
pub async fn run(
    cli: &Cli,
    input: &mut impl Read,
    output: &mut impl Write,
    edge: &Edge,
    say: &Say,
) -> Result<(), Error> {
    let ran = match &cli.command {
        Command::Init(args) => init::init(args, output, edge, say).await,
        Command::SetPipeline(args) => set_pipeline::set_pipeline(args, output, edge, say).await,
        Command::DestroyPipeline(args) => destroy_pipeline::destroy_pipeline(args, output, edge, say).await,
        Command::Branches(args) => branches::branches(args, input, output, edge, say).await,
        Command::Badge(args) => badge::badge(args, input, output, edge, say).await,
        Command::Inputs(args) => inputs::list::list(args, input, output, edge, say).await,
        Command::Doctor(args) => doctor::doctor(args, input, output, edge, say).await,
        Command::Reap(args) => reap::reap(args, input, output, edge, say).await,
        Command::Prune(args) => prune::prune(args, input, output, edge, say).await,
        Command::Completions(args) => completions::completions(args, output),
        Command::Man(args) => man::man(args, output, say),
    };
    ran.map_err(Error::on_the_command_line)
}

#[cfg(test)]
mod tests;
