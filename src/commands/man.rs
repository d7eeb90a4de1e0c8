//! `git-image man`: the manual, as `man` reads it.

use std::io::Write;
use std::path::PathBuf;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use super::cli::{Cli, CliError, output};
use crate::error::Error;
use crate::say::Say;

/// Prints the manual page, or writes one for each command.
///
/// `git image --help` asks man for git-image(1): it finds what lies in a directory man1 of the manual's path.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct ManArgs {
    /// Write git-image.1, and a page for each command, into this directory
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  git-image man | man -l -
          shows the first page
  git-image man --output /usr/local/share/man/man1
          lets `git image --help` and `man git-image-reap` find them";

/// Writes the first page to `out`, or all of them into a directory.
///
/// # Errors
///
/// stdout or the directory cannot be written.
pub fn man(args: &ManArgs, out: &mut impl Write, say: &Say) -> Result<(), Error> {
    let mut command = Cli::command();
    // Gives each command the name that its page has: git-image-reap.
    command.build();
    let Some(directory) = &args.output else {
        return Ok(output::write(out, page(&Man::new(command)).as_bytes())?);
    };
    let failed = |source| CliError::File { what: "write the manual into", path: directory.clone(), source };
    std::fs::create_dir_all(directory).map_err(failed)?;
    let commands: Vec<Command> = command.get_subcommands().cloned().collect();
    for man in std::iter::once(command).chain(commands).map(Man::new) {
        let path = directory.join(man.get_filename());
        std::fs::write(&path, page(&man)).map_err(failed)?;
        say.line(path.display());
    }
    Ok(())
}

fn page(man: &Man) -> String {
    let mut page = Vec::new();
    man.render(&mut page).expect("memory can be written, and roff is UTF-8 when its words are");
    // All that our commands say after their options begins with examples.
    String::from_utf8_lossy(&page).replace(".SH EXTRA\nExamples:", ".SH EXAMPLES")
}
