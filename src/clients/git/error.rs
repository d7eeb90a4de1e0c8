//! What can go wrong with git, by what the user must do about it.

use std::io;
use std::path::PathBuf;

use super::tunnel::ProxyFault;
use crate::clients::process::{ProgramError, Said};
use crate::names::{Branch, CommitId, GitRepository, ObjectId};

/// Why git, or the server that it spoke to, did not do what was wanted.
///
/// git's own words are the source, without user info in addresses.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// git could not be run.
    #[error(transparent)]
    Program(ProgramError),
    /// The server did not answer, or its name is not known.
    #[error("cannot reach the git server of {repository}")]
    Unreachable {
        /// The repository.
        repository: GitRepository,
        /// git's words.
        #[source]
        said: Said,
    },
    /// The proxy does not let us through.
    #[error("cannot reach the git server of {repository} through the proxy {proxy}")]
    Proxy {
        /// Host and port of the proxy.
        proxy: String,
        /// The repository.
        repository: GitRepository,
        /// Why.
        #[source]
        source: ProxyFault,
    },
    /// The server's certificate is not trusted.
    #[error("cannot trust the certificate of the git server of {repository}")]
    Untrusted {
        /// The repository.
        repository: GitRepository,
        /// git's words.
        #[source]
        said: Said,
    },
    /// The server did not accept who asks.
    #[error("the git server refused access to {repository}")]
    Refused {
        /// The repository.
        repository: GitRepository,
        /// What was shown to the server.
        login: Login,
        /// git's words.
        #[source]
        said: Said,
    },
    /// There is no such repository, or the server hides it.
    #[error("the git server has no repository {repository}")]
    NoRepository {
        /// The repository.
        repository: GitRepository,
        /// What was shown to the server.
        login: Login,
        /// git's words.
        #[source]
        said: Said,
    },
    /// There is no such branch.
    #[error("no branch `{branch}` in {repository}")]
    NoBranch {
        /// The branch.
        branch: Branch,
        /// The repository.
        repository: GitRepository,
    },
    /// The remote's HEAD names no branch that exists.
    #[error("{repository} has no default branch")]
    NoDefaultBranch {
        /// The repository.
        repository: GitRepository,
    },
    /// The private key cannot be read, or its passphrase is another one.
    #[error("cannot use `source.git.private_key` for {repository}")]
    Key {
        /// The repository.
        repository: GitRepository,
        /// git's words.
        #[source]
        said: Said,
    },
    /// The server's ssh key is not the one that was given.
    #[error("the ssh host key of the git server of {repository} is not in `source.git.known_hosts`")]
    HostKey {
        /// The repository.
        repository: GitRepository,
        /// git's words.
        #[source]
        said: Said,
    },
    /// The server ended the connection, or answered what is no git protocol.
    #[error("the git server of {repository} broke off while it answered `{what}`")]
    HungUp {
        /// The repository.
        repository: GitRepository,
        /// What was asked.
        what: String,
        /// git's words.
        #[source]
        said: Said,
    },
    /// The server does not have, or does not give, a commit or another object.
    #[error("the git server of {repository} does not have what was asked for")]
    Gone {
        /// The repository.
        repository: GitRepository,
        /// git's words.
        #[source]
        said: Said,
    },
    /// The repository uses SHA-256.
    #[error("{repository} uses SHA-256 for its objects")]
    Sha256 {
        /// The repository.
        repository: GitRepository,
    },
    /// git does not understand a pattern.
    #[error("`source.git.commit_filter` is not usable")]
    Filter {
        /// git's words.
        #[source]
        said: Said,
    },
    /// A setting would run a program, or undo what keeps git safe here.
    #[error("`source.git.git_config` sets {name}")]
    Setting {
        /// The name of the setting.
        name: String,
        /// Why it is refused.
        #[source]
        said: Said,
    },
    /// There is no room for what git writes.
    #[error("no space left for the files of {repository}")]
    DiskFull {
        /// The repository.
        repository: GitRepository,
        /// git's words.
        #[source]
        said: Said,
    },
    /// Our own copy of the repository is broken or incomplete.
    #[error("the local copy of {repository} is damaged")]
    Damaged {
        /// The repository.
        repository: GitRepository,
        /// git's words.
        #[source]
        said: Said,
    },
    /// An object is not in our copy.
    #[error("{object} is not in the local copy of {repository}")]
    Missing {
        /// The object.
        object: ObjectId,
        /// The repository.
        repository: GitRepository,
    },
    /// The content of an object does not have its name.
    #[error("object {object} of {repository} has other content than its name says")]
    Forged {
        /// The object.
        object: ObjectId,
        /// The repository.
        repository: GitRepository,
    },
    /// A tree names a path that no checkout may have.
    #[error("commit {commit} of {repository} has the path \"{path}\", which no checkout may have")]
    BadPath {
        /// The commit.
        commit: CommitId,
        /// The repository.
        repository: GitRepository,
        /// The path, escaped.
        path: String,
    },
    /// A file that must be read whole is too large for that.
    #[error("blob {object} of {repository} has {size_bytes} bytes, more than {limit_bytes}")]
    TooLarge {
        /// The blob.
        object: ObjectId,
        /// The repository.
        repository: GitRepository,
        /// Its size.
        size_bytes: u64,
        /// The most that is read.
        limit_bytes: u64,
    },
    /// More history is needed than the server itself has.
    #[error("the git server of {repository} has no history before commit {commit}")]
    CutOff {
        /// The repository.
        repository: GitRepository,
        /// The oldest commit that it has of this line.
        commit: CommitId,
    },
    /// A question that only the whole history answers.
    #[error("the local copy of {repository} has only the end of the history")]
    Shallow {
        /// The repository.
        repository: GitRepository,
    },
    /// Our own files could not be read or written.
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
    /// git failed with words that we do not know.
    #[error("`{what}` failed for {repository}")]
    Other {
        /// What was run.
        what: String,
        /// The repository.
        repository: GitRepository,
        /// git's words.
        #[source]
        said: Said,
    },
}

/// What was shown to the server to be let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// Nothing.
    Nobody,
    /// A user and a password.
    Password,
    /// A private key.
    Key,
}

impl GitError {
    /// Whether a server did not take a login, or hides what it shows to others.
    pub fn is_of_login(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::NoRepository { .. })
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Program(error) => return error.hint(),
            Self::Unreachable { .. } => {
                "check the host in `source.git.uri`, and that workers reach it (proxies are read from http_proxy, https_proxy and no_proxy)"
            }
            Self::Proxy { source, .. } => match source {
                ProxyFault::Unreachable(_) | ProxyFault::Silent => {
                    "check `source.git.https_tunnel.proxy_host` and `proxy_port`, and that workers reach it"
                }
                ProxyFault::Refused { status: 407, account: false, .. } => {
                    "give `source.git.https_tunnel.proxy_user` and `proxy_password`"
                }
                ProxyFault::Refused { status: 407, account: true, .. } => {
                    "check `source.git.https_tunnel.proxy_user` and `proxy_password`"
                }
                ProxyFault::Refused { .. } => "the proxy must allow CONNECT to the host and port of `source.git.uri`",
            },
            Self::Untrusted { .. } => "give the certificate of the authority that signed it in `source.git.ca_certs`",
            Self::Refused { login, .. } | Self::NoRepository { login, .. } => match login {
                Login::Nobody => {
                    "check `source.git.uri`; a private repository needs `source.git.username` and `source.git.password`, or `source.git.private_key`"
                }
                Login::Password => {
                    "check `source.git.uri`, and that `source.git.username` and `source.git.password` may read it"
                }
                Login::Key => "check `source.git.uri`, and that `source.git.private_key` may read it",
            },
            Self::NoBranch { .. } => {
                "check `source.git.branch`; was the branch pushed, or deleted? Upper and lower case differ"
            }
            Self::NoDefaultBranch { .. } => "set `source.git.branch`",
            Self::Key { .. } => {
                "`source.git.private_key` must be a whole private key (use a block scalar, `|`), and an encrypted one needs `source.git.private_key_passphrase`"
            }
            Self::HostKey { .. } => {
                "if the server has a new key, put the line that `ssh-keyscan` prints into `source.git.known_hosts`"
            }
            Self::HungUp { .. } => "try again; if it stays, the git server's log tells why",
            Self::Gone { .. } => {
                "a force push may have removed it, or it is of another repository than `source.git.uri`; use a newer version, or a new checkout"
            }
            Self::CutOff { .. } => {
                "its repository is itself a shallow clone: run `git fetch --unshallow` there, so that it can tell which commit brought the image's files"
            }
            Self::Sha256 { .. } => "only repositories with SHA-1 object names can be used for now",
            Self::Filter { .. } => {
                "the patterns are basic regular expressions, as for `git log --grep`; write \\[ and \\* for the characters themselves"
            }
            Self::Setting { .. } => "remove it; settings such as http.extraHeader and url.….insteadOf are allowed",
            Self::Damaged { .. } | Self::Missing { .. } | Self::Forged { .. } => {
                "run the step again; an artifact that is damaged must be fetched again"
            }
            Self::DiskFull { .. } => "free space on this machine, which in a step is the worker",
            Self::Files { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "free space on this machine, which in a step is the worker"
            }
            Self::BadPath { .. } => "remove that path from the repository",
            Self::TooLarge { .. } => "this file is read whole, so it must be small",
            Self::Shallow { .. } | Self::Files { .. } | Self::Other { .. } => return None,
        };
        Some(hint.to_owned())
    }

    /// Whether our own copy is at fault, so that starting anew with an empty one may help.
    pub fn is_local_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::Missing { .. } | Self::Forged { .. } => true,
            Self::Program(_)
            | Self::Unreachable { .. }
            | Self::Proxy { .. }
            | Self::Untrusted { .. }
            | Self::Refused { .. }
            | Self::NoRepository { .. }
            | Self::NoBranch { .. }
            | Self::NoDefaultBranch { .. }
            | Self::Key { .. }
            | Self::HostKey { .. }
            | Self::HungUp { .. }
            | Self::Gone { .. }
            | Self::Sha256 { .. }
            | Self::Filter { .. }
            | Self::Setting { .. }
            | Self::DiskFull { .. }
            | Self::BadPath { .. }
            | Self::TooLarge { .. }
            | Self::CutOff { .. }
            | Self::Shallow { .. }
            | Self::Files { .. }
            | Self::Other { .. } => false,
        }
    }
}

impl From<ProgramError> for GitError {
    fn from(error: ProgramError) -> Self {
        Self::Program(error)
    }
}
