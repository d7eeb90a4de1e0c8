//! What setting and destroying the pipeline of a branch share: whose pipeline it is, and fly.

use serde_json::Value;

use super::cli::output;
use crate::clients::git::{Head, Refs, WorkingTree};
use crate::clients::process::{Program, ProgramError};
use crate::concourse::Edge;
use crate::decide::pipelines::{NotPushed, Pipeline, PipelineName};
use crate::error::Error;
use crate::names::{BadName, Branch, GitUrl};
use crate::pipeline::Variables;
use crate::say::Say;

/// Where `init` puts the variables of the pipelines, below the root of the repository.
pub const VARIABLES: &str = "ci/variables.yml";

/// Where `init` puts those that may not be committed.
pub const SECRETS: &str = "ci/secrets.yml";

/// Why fly was not run, or did not do it.
#[derive(Debug, thiserror::Error)]
pub enum FlyError {
    /// HEAD is no branch.
    #[error("the working tree is at no branch: HEAD is detached")]
    Detached,
    /// The branch is not on the remote as it is here.
    #[error("cannot set a pipeline for branch {branch}")]
    NotPushed {
        /// The branch.
        branch: Branch,
        /// Why.
        #[source]
        source: NotPushed,
    },
    /// The remote names no default branch.
    #[error("the remote has no default branch, so it cannot be told which template the branch has")]
    NoDefaultBranch,
    /// The name is none for a pipeline.
    #[error("cannot name a pipeline")]
    Name(#[source] BadName),
    /// The remote's address is none that a pipeline can use.
    #[error("cannot use the address of the remote in a pipeline")]
    Address(#[source] BadName),
    /// There is no fly.
    #[error("cannot run fly: it is not on the PATH")]
    Missing,
    /// fly did not do it; it has said why.
    #[error(transparent)]
    Failed(ProgramError),
}

impl FlyError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Detached => "name the branch with --branch, or check it out".to_owned(),
            Self::NotPushed { source, .. } => source.hint(),
            Self::NoDefaultBranch => "set the default branch on the git server".to_owned(),
            Self::Name(_) => "give one with --name, or the variable `pipeline`".to_owned(),
            Self::Address(_) => "Concourse reaches https, http and ssh: git remote set-url origin URL".to_owned(),
            Self::Missing => {
                "your Concourse has it: download it at the foot of its first page, make it executable, and put it on the PATH"
                    .to_owned()
            }
            Self::Failed(_) => return None,
        })
    }
}

/// The options that both commands have.
#[derive(Debug, Clone, clap::Args)]
pub struct FlyArgs {
    /// The branch, in place of the one that is checked out
    #[arg(long, value_name = "BRANCH")]
    pub branch: Option<Branch>,

    /// The target of fly, as `fly login` named it
    #[arg(short = 't', long, value_name = "TARGET")]
    pub target: Option<String>,

    /// The name of the pipeline; branches other than the default branch are instances of it
    ///
    /// Without it: the variable `pipeline`, else the last part of the repository's name.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// Show what would be run, and run nothing
    #[arg(long)]
    pub print: bool,

    /// Let fly ask nothing
    #[arg(short = 'n', long)]
    pub non_interactive: bool,
}

/// The repository that the user stands in.
pub struct Place {
    /// The working tree.
    pub tree: WorkingTree,
    /// The remote's address, without a password.
    pub address: GitUrl,
    /// What the remote has.
    pub refs: Refs,
}

impl Place {
    /// Asks git and the remote.
    pub async fn read(edge: &Edge, say: &Say) -> Result<Self, Error> {
        let tree = WorkingTree::open(edge).await?;
        let (address, password) = GitUrl::parse(&tree.remote_address().await?).map_err(FlyError::Address)?;
        password.iter().for_each(|password| say.hide(password));
        let refs = tree.remote_refs().await?;
        Ok(Self { tree, address, refs })
    }
}

impl FlyArgs {
    /// The pipeline that is meant.
    pub async fn pipeline(&self, place: &Place, variables: &Variables) -> Result<Pipeline, Error> {
        let branch = match &self.branch {
            Some(branch) => branch.clone(),
            None => match place.tree.head().await? {
                Head::Branch(branch) => branch,
                Head::Detached => return Err(FlyError::Detached.into()),
            },
        };
        let given = self.name.as_deref().or_else(|| variables.get("pipeline").and_then(Value::as_str));
        let name = match given {
            Some(name) => name.parse(),
            None => PipelineName::of_repository(place.address.repository()),
        };
        let default = place.refs.default_branch.as_ref().ok_or(FlyError::NoDefaultBranch)?;
        Ok(Pipeline::of_branch(name.map_err(FlyError::Name)?, branch, default))
    }

    /// The epoch with which the pipeline of the default branch builds now. `None`: it has none, or fly finds no such
    /// pipeline; if fly cannot reach Concourse at all, what is run next says so.
    pub async fn epoch(&self, pipeline: &PipelineName, edge: &Edge) -> Option<String> {
        let target = self.target.iter().flat_map(|target| ["--target", target]);
        let fly = edge.programs.find("fly")?;
        let fly = Program::new(&fly.display().to_string(), "fly get-pipeline", &edge.programs).envs(&edge.variables);
        let fly = fly.args(target).args(["get-pipeline", "--json", "--pipeline", &pipeline.to_string()]);
        let config = serde_json::from_slice(&fly.output().await.ok()?).ok()?;
        let source = crate::pipeline::source(&config, None).ok()?;
        source.pointer("/build/epoch").and_then(Value::as_str).filter(|epoch| !epoch.contains("((")).map(str::to_owned)
    }

    /// Shows what is run, and runs it.
    pub async fn run(
        &self,
        command: &str,
        arguments: &[String],
        out: &mut impl std::io::Write,
        edge: &Edge,
        say: &Say,
    ) -> Result<(), Error> {
        let target = self.target.iter().flat_map(|target| ["--target".to_owned(), target.clone()]);
        let quiet = self.non_interactive.then(|| "--non-interactive".to_owned());
        let words: Vec<String> =
            target.chain([command.to_owned()]).chain(arguments.iter().cloned()).chain(quiet).collect();
        let shown = std::iter::once("fly").chain(words.iter().map(String::as_str)).map(shell_word);
        let shown = shown.collect::<Vec<_>>().join(" ");
        if self.print {
            return Ok(output::write(out, format!("{shown}\n").as_bytes())?);
        }
        say.line(format_args!("run       {shown}"));
        let fly = edge.programs.find("fly").ok_or(FlyError::Missing)?;
        let fly = Program::new(&fly.display().to_string(), format!("fly {command}"), &edge.programs);
        // It reads ~/.flyrc, and asks the user.
        let fly = fly.envs(&edge.variables).args(&words);
        Ok(fly.run_on_terminal().await.map_err(FlyError::Failed)?)
    }
}

/// A word as a shell reads it.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
