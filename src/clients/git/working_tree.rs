//! The working tree that a person stands in, as their own git sees it.
//!
//! Everything else here hides the user's configuration from git. A person at a terminal has asked with it a hundred times
//! before: their credential helpers, keys and proxies are what is meant.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Refs;
use super::remote::Listed;
use crate::clients::process::{Environment, Program, ProgramError, Said};
use crate::concourse::Edge;
use crate::names::{BadName, Branch, CommitId};

/// Why the user's own git does not tell what was asked.
#[derive(Debug, thiserror::Error)]
pub enum WorkingTreeError {
    /// git could not be run.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The present directory is in none.
    #[error("the present directory is in no git working tree")]
    None(#[source] Said),
    /// HEAD names a branch that no image can be made for.
    #[error("cannot use the branch of this working tree")]
    Branch(#[source] BadName),
    /// A revision means no commit.
    #[error("there is no commit {revision:?} in this working tree, and no such branch on the remote")]
    NoCommit {
        /// The revision.
        revision: String,
    },
    /// There is no such remote.
    #[error("this working tree has no remote {REMOTE}")]
    NoRemote,
    /// The remote cannot be asked.
    #[error("cannot ask the remote {REMOTE} for its branches")]
    Remote(#[source] Said),
    /// The names of the remote's objects are those of SHA-256.
    #[error("the remote {REMOTE} has SHA-256 object names")]
    Sha256,
}

impl WorkingTreeError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Program(ProgramError::Missing { .. }) => "install git, and see that it is on the PATH".to_owned(),
            Self::Program(_) | Self::Branch(_) => return None,
            Self::None(_) => "run it in a clone of the repository".to_owned(),
            Self::NoCommit { .. } => "give its 40 digits, or fetch it".to_owned(),
            Self::NoRemote => format!("add it: git remote add {REMOTE} URL"),
            Self::Remote(_) => format!("git itself must be able to: git ls-remote {REMOTE}"),
            Self::Sha256 => "only repositories with SHA-1 object names can be used for now".to_owned(),
        })
    }
}

/// The name of the remote that is asked.
pub const REMOTE: &str = "origin";

/// The working tree, and the remote that its branch goes to.
#[derive(Debug)]
pub struct WorkingTree {
    root: PathBuf,
    environment: Environment,
    variables: BTreeMap<OsString, OsString>,
}

/// What HEAD is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// A branch.
    Branch(Branch),
    /// A commit.
    Detached,
}

impl WorkingTree {
    /// The working tree around the present directory.
    ///
    /// # Errors
    ///
    /// There is none, or there is no git.
    pub async fn open(edge: &Edge) -> Result<Self, WorkingTreeError> {
        let mut tree =
            Self { root: PathBuf::from("."), environment: edge.programs.clone(), variables: edge.variables.clone() };
        let printed = tree.git("rev-parse").arg("--show-toplevel").output().await;
        let root = printed.map_err(|error| failed(error, WorkingTreeError::None))?;
        tree.root = PathBuf::from(text(&root));
        Ok(tree)
    }

    /// Its topmost directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What HEAD is.
    ///
    /// # Errors
    ///
    /// The branch has a name that no image can be made for.
    pub async fn head(&self) -> Result<Head, WorkingTreeError> {
        let program = self.git("symbolic-ref").args(["--quiet", "--short", "HEAD"]);
        match program.output().await {
            Ok(name) => text(&name).parse().map(Head::Branch).map_err(WorkingTreeError::Branch),
            Err(ProgramError::Failed { status, .. }) if status.code() == Some(1) => Ok(Head::Detached),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether git leaves a file out that is not committed yet: a path below the root.
    ///
    /// # Errors
    ///
    /// git cannot be run.
    pub async fn ignores(&self, path: &str) -> Result<bool, WorkingTreeError> {
        let program = self.git("check-ignore").args(["--quiet", "--end-of-options", path]);
        match program.output().await {
            Ok(_) => Ok(true),
            Err(ProgramError::Failed { status, .. }) if status.code() == Some(1) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The newest commit of a local branch; `None`: there is no such branch here.
    ///
    /// # Errors
    ///
    /// git cannot be run.
    pub async fn tip(&self, branch: &Branch) -> Result<Option<CommitId>, WorkingTreeError> {
        let program = self.git("rev-parse").args(["--verify", "--quiet", "--end-of-options", &branch.full_ref()]);
        match program.output().await {
            Ok(id) => Ok(text(&id).parse().ok()),
            Err(ProgramError::Failed { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The commit that a revision means, as `HEAD~3`.
    ///
    /// # Errors
    ///
    /// There is none.
    pub async fn commit(&self, revision: &str) -> Result<CommitId, WorkingTreeError> {
        let none = || WorkingTreeError::NoCommit { revision: revision.to_owned() };
        let wanted = format!("{revision}^{{commit}}");
        match self.git("rev-parse").args(["--verify", "--quiet", "--end-of-options", &wanted]).output().await {
            Ok(id) => text(&id).parse().map_err(|_| none()),
            Err(ProgramError::Failed { .. }) => Err(none()),
            Err(error) => Err(error.into()),
        }
    }

    /// The address of the remote, as git would use it. It may hold a password.
    ///
    /// # Errors
    ///
    /// There is no remote of that name.
    pub async fn remote_address(&self) -> Result<String, WorkingTreeError> {
        match self.git("remote").args(["get-url", REMOTE]).output().await {
            Ok(address) => Ok(text(&address)),
            Err(ProgramError::Failed { .. }) => Err(WorkingTreeError::NoRemote),
            Err(error) => Err(error.into()),
        }
    }

    /// Every branch and tag of the remote, asked now.
    ///
    /// # Errors
    ///
    /// It cannot be asked.
    pub async fn remote_refs(&self) -> Result<Refs, WorkingTreeError> {
        let program = self.git("ls-remote").args(["--symref", "--end-of-options", REMOTE]);
        let printed = program.output().await.map_err(|error| failed(error, WorkingTreeError::Remote))?;
        let lines = Listed::read_lines(&printed).ok_or(WorkingTreeError::Sha256)?;
        Ok(lines.into_refs())
    }

    /// A git command as the user would run it. It may ask on the terminal.
    fn git(&self, command: &str) -> Program {
        let program = Program::new("git", format!("git {command}"), &self.environment);
        program.envs(&self.variables).directory(&self.root).attended().arg(command)
    }
}

/// What git's own words are the cause of; that it cannot be run is another matter.
fn failed(error: ProgramError, why: impl FnOnce(Said) -> WorkingTreeError) -> WorkingTreeError {
    match error {
        ProgramError::Failed { said, .. } => why(said),
        error => error.into(),
    }
}

/// One line that git printed.
fn text(printed: &[u8]) -> String {
    String::from_utf8_lossy(printed).trim_end_matches(['\n', '\r']).to_owned()
}
