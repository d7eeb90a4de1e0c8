//! `git-image inputs`: what the image is made of, and what changed between two commits.

use std::io::{Read, Write};
use std::num::NonZeroU32;

use serde_json::json;

use super::{MadeOf, of_commit};
use crate::clients::git::{Depth, Git, Want, WorkingTree};
use crate::commands::cli::output;
use crate::commands::cli::source::SourceArgs;
use crate::concourse::Edge;
use crate::decide::inputs::Recipe;
use crate::decide::inputs::changes::changes;
use crate::dockerfile::Whole;
use crate::error::Error;
use crate::names::{Branch, CommitId};
use crate::say::Say;

/// Lists the files that the image is made of, with the reason for each; with two commits, what changed between them.
///
/// It is told from git alone, as check tells it: whatever is not listed can change without another image.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct InputsArgs {
    /// A commit that the remote has: its 40 digits, a branch of the remote, or inside a working tree whatever git takes
    /// [default: the newest commit of the source's branch]
    #[arg(value_name = "COMMIT")]
    commit: Option<String>,

    /// Another one: lists what changed from the first to this
    #[arg(value_name = "COMMIT")]
    other: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Which image.
    #[command(flatten)]
    source: SourceArgs,
}

const EXAMPLES: &str = "\
Examples:
  git-image inputs --source source.yml
          lists the files of the newest image
  git-image inputs --source source.yml master feat/foo
          says why the branch has another image
  git-image inputs --pipeline pipeline.yml -l vars.yml HEAD~3 HEAD --json

The list is written to stdout, everything else to stderr.
Exit status: 0 done, 1 refused or failed, 2 wrong usage.";

/// Asks git, and writes the list.
///
/// # Errors
///
/// git cannot be asked, does not have a commit, or what its image is made of cannot be told.
pub async fn list(
    args: &InputsArgs,
    input: &mut impl Read,
    out: &mut impl Write,
    edge: &Edge,
    say: &Say,
) -> Result<(), Error> {
    let source = args.source.read(input, edge, say).await?;
    let directory = crate::commands::workplace(edge)?;
    let git = Git::open(&source.git, &directory.path().join("git"), &edge.programs, say).await?;
    let recipe = Recipe::new(&source);
    let first = match &args.commit {
        Some(text) => find(text, &git, edge).await?,
        None => git.tip(source.git.branch.as_ref()).await?.commit,
    };
    let before = read(&git, &recipe, first).await?;
    let text = match &args.other {
        None if args.json => listed_as_json(first, &before),
        None => listed(first, &before),
        Some(text) => {
            let second = find(text, &git, edge).await?;
            let after = read(&git, &recipe, second).await?;
            if args.json {
                compared_as_json((first, &before), (second, &after))
            } else {
                compared((first, &before), (second, &after))
            }
        }
    };
    Ok(output::write(out, text.as_bytes())?)
}

/// The commit that a person means.
async fn find(text: &str, git: &Git, edge: &Edge) -> Result<CommitId, Error> {
    if let Ok(commit) = text.parse() {
        return Ok(commit);
    }
    if let Ok(branch) = text.parse::<Branch>()
        && let Some(commit) = git.refs().await?.branches.get(&branch)
    {
        return Ok(*commit);
    }
    Ok(WorkingTree::open(edge).await?.commit(text).await?)
}

async fn read(git: &Git, recipe: &Recipe, commit: CommitId) -> Result<MadeOf, Error> {
    git.fetch(&Want::Commit(commit), Depth::Commits(NonZeroU32::MIN)).await?;
    of_commit(git, recipe, commit).await
}

fn listed(commit: CommitId, made_of: &MadeOf) -> String {
    let mut text = format!("{commit} is made of {} files, inputs {}\n", made_of.selection.files.len(), made_of.id);
    if let Some(whole) = &made_of.selection.whole {
        text += &format!("the whole context counts: {}\n", reason(whole));
    }
    let rows = made_of.selection.files.iter().map(|(path, why)| (path.to_string(), why.to_string()));
    text + &table(rows.collect())
}

fn listed_as_json(commit: CommitId, made_of: &MadeOf) -> String {
    let files = made_of.selection.files.iter();
    let files: Vec<_> = files.map(|(path, why)| json!({"path": path.to_string(), "why": why.to_string()})).collect();
    let whole = made_of.selection.whole.as_ref().map(reason);
    pretty(&json!({"commit": commit, "inputs": made_of.id, "whole_context": whole, "files": files}))
}

fn compared(before: (CommitId, &MadeOf), after: (CommitId, &MadeOf)) -> String {
    let ((from, before), (to, after)) = (before, after);
    if before.id == after.id {
        return format!("{} and {} have the same image: inputs {}\n", from.short(), to.short(), after.id);
    }
    let changes = changes((&before.selection, &before.tree), (&after.selection, &after.tree));
    let heading = format!(
        "{} has inputs {}\n{} has inputs {}, because of {} files\n",
        from.short(),
        before.id,
        to.short(),
        after.id,
        changes.len()
    );
    let rows = changes.iter().map(|(path, change, why)| (format!("{change:<8} {path}"), why.to_string()));
    heading + &table(rows.collect())
}

fn compared_as_json(before: (CommitId, &MadeOf), after: (CommitId, &MadeOf)) -> String {
    let ((from, before), (to, after)) = (before, after);
    let changes = changes((&before.selection, &before.tree), (&after.selection, &after.tree));
    let changes = changes.iter();
    let changes: Vec<_> = changes
        .map(|(path, change, why)| json!({"path": path.to_string(), "change": change, "why": why.to_string()}))
        .collect();
    let side = |commit: CommitId, made_of: &MadeOf| json!({"commit": commit, "inputs": made_of.id});
    pretty(&json!({"from": side(from, before), "to": side(to, after), "changes": changes}))
}

/// Why the whole context counts.
fn reason(whole: &Whole) -> String {
    match whole.line {
        Some(line) => format!("{}, in line {line} of the Dockerfile", whole.why),
        None => whole.why.clone(),
    }
}

fn table(rows: Vec<(String, String)>) -> String {
    let width = rows.iter().map(|(first, _)| first.chars().count()).max().unwrap_or_default();
    rows.iter().map(|(first, second)| format!("{first:width$}  {second}\n")).collect()
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}
