//! Why a command of the command line could not do what it was asked for, when no server is to blame.

use std::path::PathBuf;

/// Why a command could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// stdout cannot be written.
    #[error("cannot write to stdout")]
    Output(#[source] std::io::Error),
    /// A file cannot be read or written.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was tried, as a verb.
        what: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl CliError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Output(_) | Self::File { .. } => None,
        }
    }
}
