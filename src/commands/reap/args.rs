//! The command line of `git-image reap`.

use std::path::PathBuf;

use crate::commands::cli::source::SourceArgs;
use crate::decide::reap::{Grace, MaxDelete};
use crate::request::ReapSource;

/// Removes the tags of branches and commits that git no longer has.
///
/// Shows a plan with one line for each tag of the repository: what happens to it, and why. Nothing is changed without
/// --apply. Every branch is judged, whichever `git.branch` of the source names. Only tags that git-image wrote for this
/// git repository are ever removed; a tag that cannot be judged stays.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct ReapArgs {
    /// Do what the plan says
    ///
    /// First proves on two tags of its own that this registry can remove one tag and leave the others on the same
    /// digest alone. Afterwards verifies every tag that was kept.
    #[arg(long)]
    pub apply: bool,

    /// How long a tag stays after it was first seen dead, such as 90m or 7d [default: `reap.grace` of the source, else 24h]
    ///
    /// Must be longer than the longest build, or the image of a branch that is being built may go: 0s is for when nothing
    /// is being built. When a tag was first seen dead is kept in the registry, by the tag `_reaper-journal-…`; the clock
    /// of a tag starts with the first --apply that sees it dead, and anew when it was alive or pushed meanwhile.
    #[arg(long, value_name = "DURATION")]
    pub grace: Option<Grace>,

    /// Refuse to remove more than N tags [default: `reap.max_delete` of the source, else 100, and at most half of the tags
    /// when there are 20 or more]
    #[arg(long, value_name = "N")]
    pub max_delete: Option<usize>,

    /// Also delete the images that earlier runs with this flag left without a tag
    ///
    /// An image goes when no tag points to it, no index of a tag has it, and it has been so for as long as --grace says;
    /// --max-delete says how many go in one run. It is for registries whose garbage collection spares what has no tag,
    /// such as distribution; elsewhere it only costs requests.
    #[arg(long)]
    pub delete_untagged: bool,

    /// Afterwards run the tasks of Nexus that free what the tags have left, and wait for them
    ///
    /// These are all of the type "Docker - Delete unused manifests and images", then all of "Admin - Compact blob store";
    /// without one of each, nothing is done. Not run when the removal failed.
    #[arg(long, requires = "apply")]
    pub nexus_tasks: bool,

    /// Write the plan as JSON
    #[arg(long)]
    pub json: bool,

    /// Also write the plan as one HTML page, with the size of every image
    ///
    /// It needs no network to be looked at. One request more is made for each image.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Which image.
    #[command(flatten)]
    pub source: SourceArgs,
}

const EXAMPLES: &str = "\
Examples:
  git-image reap --source source.yml
          shows the plan
  git-image reap --source source.yml --apply
          notes what is dead, and removes what has been so for a day
  git-image reap --source source.yml --grace 0s --apply
          removes at once what is dead
  git-image reap --source - --grace 0s < source.yml | grep '^REMOVE'
          shows only what would be removed
  git-image reap --source source.yml --html plan.html --json | jq .summary
          makes a page of the plan, and counts the tags

The plan is written to stdout, everything else to stderr.
Exit status: 0 done, 1 refused, failed or repaired, 2 wrong usage.";

impl ReapArgs {
    /// How many tags may be removed.
    pub fn max_delete(&self, source: &ReapSource) -> MaxDelete {
        self.max_delete.or(source.max_delete).map_or(MaxDelete::Default, MaxDelete::Count)
    }

    /// Whether images without a tag are deleted.
    pub fn delete_untagged(&self, source: &ReapSource) -> bool {
        self.delete_untagged || source.delete_untagged
    }

    /// How long a dead tag stays.
    pub fn grace(&self, source: &ReapSource) -> Grace {
        self.grace.or(source.grace).unwrap_or_default()
    }

    /// How the plan is written.
    pub fn format(&self) -> Format {
        if self.json { Format::Json } else { Format::Text }
    }

    /// What is done with the plan.
    pub fn mode(&self) -> Mode {
        if self.apply { Mode::Apply } else { Mode::Plan }
    }
}

/// How the plan is written to stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One line for each tag.
    Text,
    /// One JSON object.
    Json,
}

/// What is done with the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is shown.
    Plan,
    /// It is shown, and done.
    Apply,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use crate::commands::cli::Cli;

    #[test]
    fn the_help_says_what_it_does_and_what_it_needs() {
        let mut command = Cli::command().term_width(100);
        command.build();
        let reap = command.find_subcommand_mut("reap").expect("there is reap");
        assert_eq!(reap.render_long_help().to_string(), include_str!("../../../tests/golden/reap-help.txt"));
    }
}
