//! Why the files of an image cannot be told, and what to do then.

use super::Mode;
use crate::details::DetailsError;
use crate::names::GitPath;

/// Why the files of an image cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum InputsError {
    /// There is no Dockerfile.
    #[error("there is no Dockerfile at {path}")]
    NoDockerfile {
        /// Where it was looked for.
        path: GitPath,
        /// Where there are files of that name.
        elsewhere: Vec<GitPath>,
    },
    /// The Dockerfile is a symlink that leads to no regular file of the repository.
    #[error("the Dockerfile {path} is a symlink to {target}, which is no file of the repository")]
    DockerfileSymlink {
        /// The symlink.
        path: GitPath,
        /// Where it leads.
        target: String,
    },
    /// The ignore file is a symlink or a submodule.
    #[error("the ignore file {path} is {}", kind(*mode))]
    IgnoreFile {
        /// Where it is.
        path: GitPath,
        /// What it is.
        mode: Mode,
    },
    /// The context, or a directory above it, is no directory.
    #[error("the context {context} is no directory: {path} is {}", kind(*mode))]
    Context {
        /// The key of the source that names it.
        key: String,
        /// The context.
        context: GitPath,
        /// What stands there.
        path: GitPath,
        /// What it is.
        mode: Mode,
    },
    /// `image.details` is missing, or no regular file.
    #[error("there is no file of details at {path}{}", mode.map(|mode| format!(": it is {}", kind(mode))).unwrap_or_default())]
    NoDetails {
        /// Where it was looked for.
        path: GitPath,
        /// What stands there.
        mode: Option<Mode>,
    },
    /// `image.details` cannot be read.
    #[error("cannot read the details in {path}")]
    Details {
        /// The file.
        path: GitPath,
        /// Why.
        #[source]
        source: DetailsError,
    },
    /// A pattern that git would not take, or that means something else than a path.
    #[error("`{key}` has the pattern {pattern:?}, which {why}")]
    Pathspec {
        /// The key of the source.
        key: &'static str,
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

fn kind(mode: Mode) -> &'static str {
    match mode {
        Mode::File | Mode::Executable => "a file",
        Mode::Symlink => "a symlink",
        Mode::Submodule => "a submodule",
    }
}

impl InputsError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoDockerfile { elsewhere, .. } => {
                let keys =
                    "say where it is with `source.build.dockerfile`, or `source.build.context` for its directory";
                Some(match elsewhere.as_slice() {
                    [] => keys.to_owned(),
                    [found, ..] => format!("{keys}; there is one at {found}"),
                })
            }
            Self::DockerfileSymlink { .. } => Some(
                "name the file itself in `source.build.dockerfile`; a symlink may lead once, inside the repository"
                    .to_owned(),
            ),
            Self::IgnoreFile { .. } => Some(
                "make it a regular file; a Dockerfile can have rules of its own in <Dockerfile>.dockerignore"
                    .to_owned(),
            ),
            Self::Context { key, .. } => {
                Some(format!("name a directory of this repository in `{key}`, without symlinks or submodules"))
            }
            Self::NoDetails { .. } => Some("commit the file, or take `source.build.details` out".to_owned()),
            Self::Details { .. } => Some(
                "it is made of KEY=value lines; NAME and VERSION are ours, every other key becomes a label".to_owned(),
            ),
            Self::Pathspec { .. } => Some("give a path from the root of the repository, with *, ? and […]".to_owned()),
        }
    }
}
