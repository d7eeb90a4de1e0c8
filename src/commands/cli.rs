//! The command line for people and tasks: `git-image`, or `git image`.

use std::io::{Read, Write};

use super::reap;
use super::reap::args::ReapArgs;
use crate::concourse::Edge;
use crate::error::Error;
use crate::say::Say;

/// One image of one git branch: the command line
///
/// The programs check, in and out of the Concourse resource type make the images; this one looks after them.
#[derive(Debug, clap::Parser)]
#[command(name = "git-image", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Reap(ReapArgs),
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
    match &cli.command {
        Command::Reap(args) => reap::reap(args, input, output, &edge.programs, say).await,
    }
}
