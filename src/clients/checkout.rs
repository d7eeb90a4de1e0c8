//! An artifact with a checkout: data, whose git configuration is never used.
//!
//! The artifact may be hostile. git never runs in it: HEAD, refs and the boundary of its history are read here, its
//! files are hashed here, and only its objects are read by git, through a repository of our own ([`Git::borrow`]).
//! Its owner does not matter either, since git never opens it.

mod compare;
mod directory;
mod files;
mod head;

use std::fs;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use crate::clients::git::GitError;
use crate::names::{Branch, CommitId, GitPath};

pub use compare::Differences;
pub use directory::{Directory, Nested, OnDisk};
use directory::{Parents, failed_to};
pub use files::Files;

/// Why an artifact is not the checkout that it should be.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// The artifact has no `.git`.
    #[error("{} is no git checkout: it has no .git", root.display())]
    NotACheckout {
        /// The artifact.
        root: PathBuf,
    },
    /// What `.git` says leads out of the artifact.
    #[error("{} leads out of the artifact, or nowhere", path.display())]
    Escapes {
        /// The file, or symlink.
        path: PathBuf,
    },
    /// Among git's files is one that is neither file nor directory, or one that is not as git writes it.
    #[error("{} is not what git has there", path.display())]
    Odd {
        /// The file.
        path: PathBuf,
    },
    /// HEAD names a branch without a commit.
    #[error("the checkout {} has no commit", root.display())]
    NoCommit {
        /// The artifact.
        root: PathBuf,
    },
    /// The repository uses a format that is not read here.
    #[error("the checkout {} uses {format}", root.display())]
    Format {
        /// The artifact.
        root: PathBuf,
        /// The format.
        format: &'static str,
    },
    /// The objects are not in the artifact.
    #[error("the checkout {} keeps its objects elsewhere (objects/info/alternates)", root.display())]
    Alternates {
        /// The artifact.
        root: PathBuf,
    },
    /// A file that must be read whole is too large for that.
    #[error("{} has more than {limit_bytes} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        limit_bytes: u64,
    },
    /// A file could not be read.
    #[error("cannot {what} {}", path.display())]
    Files {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// git could not say what the commit has.
    #[error(transparent)]
    Git(#[from] GitError),
}

impl CheckoutError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotACheckout { .. } => {
                "`params.source` must name the artifact of a git resource, or a task's output that is a whole checkout with its .git"
            }
            Self::Escapes { .. } | Self::Odd { .. } => {
                "an artifact must hold all of its .git; a task that copies a checkout copies the .git with it"
            }
            Self::NoCommit { .. } => "commit in the task that makes it, or name another artifact in `params.source`",
            Self::Format { .. } => "make the checkout with `git clone` as it is by default: SHA-1, refs as files",
            Self::Alternates { .. } => "clone without --shared and --reference, or with --dissociate",
            Self::Git(error) => return error.hint(),
            Self::TooLarge { .. } | Self::Files { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

/// An artifact with a checkout, whose HEAD was read.
#[derive(Debug, Clone)]
pub struct Checkout {
    files: Directory,
    objects: PathBuf,
    head: CommitId,
    branch: Option<Branch>,
    shallow: Vec<CommitId>,
}

impl Checkout {
    /// Opens the artifact at `root`.
    ///
    /// # Errors
    ///
    /// It is no checkout, its `.git` leads out of it, or it uses a format that is not read here.
    pub fn open(root: &Path) -> Result<Self, CheckoutError> {
        let root = fs::canonicalize(root).map_err(failed_to("find", root))?;
        let repository = head::Repository::find(&root)?;
        let repository = repository.ok_or_else(|| CheckoutError::NotACheckout { root: root.clone() })?;
        Self::read(repository, root.clone(), root)
    }

    /// Opens the checkout of a submodule at a path of this one; `None`: nothing was checked out there.
    ///
    /// # Errors
    ///
    /// As [`Checkout::open`]: nothing of it may lie outside of the artifact.
    pub fn submodule(&self, path: &GitPath) -> Result<Option<Self>, CheckoutError> {
        let root = self.root().join(path.to_os_path());
        let is_directory = fs::symlink_metadata(&root).is_ok_and(|metadata| metadata.is_dir());
        if !is_directory || !Parents::new(self.root()).has_real(path) {
            return Ok(None);
        }
        let limit = self.files.limit().to_owned();
        match head::Repository::find_within(&root, &limit)? {
            Some(repository) => Self::read(repository, root, limit).map(Some),
            None => Ok(None),
        }
    }

    fn read(repository: head::Repository, root: PathBuf, limit: PathBuf) -> Result<Self, CheckoutError> {
        repository.examine()?;
        let head = repository.head()?.ok_or(CheckoutError::NoCommit { root: root.clone() })?;
        Ok(Self {
            objects: repository.objects(),
            shallow: repository.shallow()?,
            head: head.commit,
            branch: head.branch,
            files: Directory::new(root, limit, Nested::Submodules),
        })
    }

    /// The commit that is checked out.
    pub fn head(&self) -> CommitId {
        self.head
    }

    /// The branch that is checked out; `None` when HEAD is detached, as the git resource leaves it.
    pub fn branch(&self) -> Option<&Branch> {
        self.branch.as_ref()
    }

    /// The commits at which its history is cut off.
    pub fn shallow(&self) -> &[CommitId] {
        &self.shallow
    }

    /// The directory of its objects, which lies in the artifact.
    pub(super) fn objects(&self) -> &Path {
        &self.objects
    }
}

impl Deref for Checkout {
    type Target = Directory;

    fn deref(&self) -> &Directory {
        &self.files
    }
}

#[cfg(test)]
mod tests;
