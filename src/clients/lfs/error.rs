//! What can go wrong with Git LFS, and what to do then.

use std::io;
use std::path::PathBuf;

use url::Url;

use crate::clients::git::GitError;
use crate::names::{Digest, GitRepository};

/// Why a file that git keeps elsewhere could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LfsError {
    /// git, or the ssh server, did not say where.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The server could not be asked, or broke off.
    #[error("cannot ask the LFS server of {repository} at {address}")]
    Request {
        /// The repository.
        repository: GitRepository,
        /// The address, without what may be secret.
        address: String,
        /// Why.
        #[source]
        source: Why,
    },
    /// The server answered with an error.
    #[error("the LFS server of {repository} answered {method} {address} with {status}{}", after(message))]
    Status {
        /// The repository.
        repository: GitRepository,
        /// What was asked.
        method: &'static str,
        /// The address, without what may be secret.
        address: String,
        /// The status of the answer.
        status: u16,
        /// The server's words; empty when there are none.
        message: String,
    },
    /// The server does not have an object, or does not give it.
    #[error("the LFS server of {repository} does not give {object}: {code}{}", after(message))]
    NoObject {
        /// The repository.
        repository: GitRepository,
        /// The object.
        object: Digest,
        /// The server's code, which is one of HTTP.
        code: u64,
        /// The server's words; empty when there are none.
        message: String,
    },
    /// What came is not what the pointer names.
    #[error("the LFS server of {repository} sent something else for {object}: {why}")]
    Differs {
        /// The repository.
        repository: GitRepository,
        /// The object.
        object: Digest,
        /// What is wrong with it.
        why: String,
    },
    /// The server does not speak the protocol.
    #[error("{what}, for the git-lfs files of {repository}")]
    Odd {
        /// The repository.
        repository: GitRepository,
        /// What it did.
        what: String,
    },
    /// Our own files could not be written.
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
}

/// The innermost reason of a failed request.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Why(String);

impl LfsError {
    pub(super) fn request(repository: &GitRepository, url: &Url, error: reqwest::Error) -> Self {
        let error = error.without_url();
        let mut innermost: &dyn std::error::Error = &error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        Self::Request { repository: repository.clone(), address: shown(url), source: Why(innermost.to_string()) }
    }

    pub(super) fn status(
        repository: &GitRepository,
        method: &'static str,
        url: &Url,
        status: u16,
        message: String,
    ) -> Self {
        Self::Status { repository: repository.clone(), method, address: shown(url), status, message }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Git(error) => return error.hint(),
            Self::Request { .. } => {
                "check that workers reach it; a certificate that they do not know belongs into `source.git.ca_certs`".to_owned()
            }
            Self::Status { status: 401 | 403, .. } | Self::NoObject { code: 401 | 403, .. } => {
                "the account of `source.git` (or of `submodule_credentials`) must be allowed to read its LFS files".to_owned()
            }
            Self::Status { status: 404, .. } => {
                "the server has no LFS at this place: get the repository with git-lfs and name that artifact in `params.source`".to_owned()
            }
            Self::Status { .. } | Self::Differs { .. } | Self::Odd { .. } => {
                "try again; if it stays, get the repository with git-lfs and name that artifact in `params.source`".to_owned()
            }
            Self::NoObject { .. } => "push the file with `git lfs push --all`, or commit it anew".to_owned(),
            Self::Files { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "free space on the worker".to_owned()
            }
            Self::Files { .. } => return None,
        })
    }
}

fn after(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

/// An address without user, password and query: links to storage are signed there.
pub(super) fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}
