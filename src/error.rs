//! The error a program prints: what was wanted, to what, why it failed, and what to do next.

use std::error::Error as StdError;
use std::fmt;
use std::process::ExitCode;

use crate::clients::checkout::CheckoutError;
use crate::clients::engine::EngineError;
use crate::clients::finished::FinishedError;
use crate::clients::git::{GitError, WorkingTreeError};
use crate::clients::registry::RegistryError;
use crate::clients::rootfs::RootfsError;
use crate::clients::save::SaveError;
use crate::clients::ssh_agent::AgentError;
use crate::decide::inputs::InputsError;
use crate::request::RequestError;

/// Why a step failed. What and to what are its `Display`, why is its `source()`, what next is [`Error::hint`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The JSON that Concourse sent is not a request that we can serve.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// git, or the server that it spoke to, refused.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The user's own git does not tell what was asked.
    #[error(transparent)]
    WorkingTree(#[from] WorkingTreeError),
    /// An artifact is not the checkout that it should be.
    #[error(transparent)]
    Checkout(#[from] CheckoutError),
    /// Which files the image is made of cannot be told.
    #[error(transparent)]
    Inputs(#[from] InputsError),
    /// The registry refused, or could not be reached.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The engine refused, could not be reached, or the build failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An ssh key for the build cannot be used.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// An image could not be unpacked.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// An image could not be written.
    #[error(transparent)]
    Save(#[from] SaveError),
    /// What `params.image` names is no image.
    #[error(transparent)]
    Finished(#[from] FinishedError),
    /// Tags were not reaped, or not as planned.
    #[error(transparent)]
    Reap(#[from] crate::commands::reap::ReapError),
    /// The repositories of a registry were not pruned.
    #[error(transparent)]
    Prune(#[from] crate::commands::prune::PruneError),
    /// A verb could not do what it was asked for.
    #[error(transparent)]
    Step(#[from] crate::commands::StepError),
    /// A command of the command line could not do what it was asked for.
    #[error(transparent)]
    Cli(#[from] crate::commands::cli::CliError),
    /// The pipeline of a branch was not set or destroyed.
    #[error(transparent)]
    Fly(#[from] crate::commands::fly::FlyError),
    /// A server did not take the login that the command line found, or wants one.
    #[error("{error}")]
    Login {
        /// The error, which speaks of the keys of a source.
        #[source]
        error: Box<Error>,
        /// Whose login it is.
        of: LoginOf,
    },
}

/// Whose login a server did not take, or wants to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginOf {
    /// The git server's.
    Git,
    /// The registry's.
    Registry,
}

impl LoginOf {
    /// Where the command line takes it from. README, "`git-image`", has the same order.
    fn hint(self) -> &'static str {
        match self {
            Self::Git => {
                "on the command line: GIT_IMAGE_GIT_USERNAME and GIT_IMAGE_GIT_PASSWORD, or GIT_IMAGE_GIT_PRIVATE_KEY; \
                 else the source; else what your git's credential helpers keep, or your ssh keys"
            }
            Self::Registry => {
                "on the command line: --username and --password-stdin; else GIT_IMAGE_REGISTRY_USERNAME and \
                 GIT_IMAGE_REGISTRY_PASSWORD; else the source; else what `docker login` left"
            }
        }
    }
}

impl Error {
    /// With what the program ends: 2 for wrong usage of the command line, else 1.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Cli(error) if error.is_usage() => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }

    /// The same for who has no pipeline before them: a login may come from elsewhere than the source.
    pub fn on_the_command_line(self) -> Self {
        let of = match &self {
            Self::Git(error) => error.is_of_login().then_some(LoginOf::Git),
            Self::Registry(error) => error.is_of_login().then_some(LoginOf::Registry),
            Self::Reap(error) => error.login(),
            _ => None,
        };
        match of {
            Some(of) => Self::Login { error: Box::new(self), of },
            None => self,
        }
    }

    /// What the user can do about it, when we know.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Request(error) => error.hint(),
            Self::Git(error) => error.hint(),
            Self::WorkingTree(error) => error.hint(),
            Self::Checkout(error) => error.hint(),
            Self::Inputs(error) => error.hint(),
            Self::Registry(error) => error.hint(),
            Self::Engine(error) => error.hint(),
            Self::Agent(error) => error.hint(),
            Self::Rootfs(error) => error.hint(),
            Self::Save(error) => error.hint(),
            Self::Finished(error) => error.hint(),
            Self::Reap(error) => error.hint(),
            Self::Prune(error) => error.hint(),
            Self::Step(error) => error.hint(),
            Self::Cli(error) => error.hint(),
            Self::Fly(error) => error.hint(),
            Self::Login { error, of } => {
                let hints = error.hint().into_iter().chain([of.hint().to_owned()]);
                Some(hints.collect::<Vec<_>>().join("\nhint: "))
            }
        }
    }
}

/// The lines that a program prints for an error: `error:`, `cause:` (the chain of sources), `hint:`.
pub struct Report<'a>(pub &'a Error);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.0)?;
        let mut cause = self.0.source();
        let mut said = self.0.to_string();
        while let Some(error) = cause {
            let text = error.to_string();
            // Some libraries repeat their source in their own message: once is enough.
            if !said.contains(&text) {
                write!(f, "\ncause: {text}")?;
                said = text;
            }
            cause = error.source();
        }
        match self.0.hint() {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}
