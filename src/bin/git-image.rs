//! The command line for people and tasks.

use std::process::ExitCode;

use clap::Parser as _;
use git_image::commands::cli::{self, Cli};
use git_image::concourse;
use git_image::say::Say;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (say, edge) = (Say::new(std::io::stderr()), concourse::read_edge());
    let (mut input, mut output) = (std::io::stdin(), std::io::stdout());
    let ran = concourse::block_on(&say, cli::run(&cli, &mut input, &mut output, &edge, &say));
    ran.map_or_else(|code| code, |()| ExitCode::SUCCESS)
}
