//! Why the files of an image cannot be told, and what to do then.

use std::fmt;

use super::Mode;
use crate::details::DetailsError;
use crate::names::GitPath;
use crate::pairs::PairsError;

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
    /// A file of args or labels is missing, or no regular file.
    #[error("there is no file of {kind} at {path}{}", mode.map(|mode| format!(": it is {}", self::kind(mode))).unwrap_or_default())]
    NoPairs {
        /// What it should have.
        kind: Pairs,
        /// Where it was looked for.
        path: GitPath,
        /// What stands there.
        mode: Option<Mode>,
    },
    /// A file of args or labels cannot be read.
    #[error("cannot read the {kind} in {path}")]
    Pairs {
        /// What it should have.
        kind: Pairs,
        /// The file.
        path: GitPath,
        /// Why.
        #[source]
        source: PairsError,
    },
    /// A file has another value than the key for the same name.
    #[error("{name} of the {kind} has another value in line {line} of {path} than in `{}`", kind.key())]
    Disagree {
        /// What they have.
        kind: Pairs,
        /// The file.
        path: GitPath,
        /// The name.
        name: String,
        /// Its line in the file.
        line: usize,
    },
    /// A file has a variable of a build.
    #[error(
        "{name} of the {kind} in line {line} of {path} has a `$BUILD_…` variable: every build would make another image"
    )]
    BuildVariable {
        /// What it has.
        kind: Pairs,
        /// The file.
        path: GitPath,
        /// The name.
        name: String,
        /// Its line.
        line: usize,
    },
    /// It is not certain which images the Dockerfile builds on, and they are to be followed.
    #[error(
        "which images {path} builds on is not certain{}: {why}",
        line.map(|line| format!(", line {line}")).unwrap_or_default()
    )]
    Bases {
        /// The Dockerfile.
        path: GitPath,
        /// The line.
        line: Option<usize>,
        /// Why.
        why: String,
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

/// What a file with names and values has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// Build args.
    Args,
    /// Labels.
    Labels,
}

impl Pairs {
    /// The key that gives them by itself, in the source or the params.
    fn key(self) -> &'static str {
        match self {
            Self::Args => "args",
            Self::Labels => "labels",
        }
    }

    /// The key of the source that names their file.
    fn file_key(self) -> &'static str {
        match self {
            Self::Args => "source.build.args_file",
            Self::Labels => "source.build.labels_file",
        }
    }
}

impl fmt::Display for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Args => "build args",
            Self::Labels => "labels",
        })
    }
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
            Self::NoPairs { kind, .. } => Some(format!("commit the file, or take `{}` out", kind.file_key())),
            Self::Pairs { .. } => Some(
                "it is made of NAME=value lines; .yml, .yaml or .json at its end makes it a block of names with one text each"
                    .to_owned(),
            ),
            Self::Disagree { .. } => Some("give it in one of the two".to_owned()),
            Self::BuildVariable { .. } => {
                Some("say which build it was in `params.labels` or `params.tags` of the put".to_owned())
            }
            Self::Bases { .. } => Some(
                "`source.build.follow_bases` needs to know them all: write the image out, give its variable in `source.build.args`, or leave `follow_bases` out"
                    .to_owned(),
            ),
            Self::Pathspec { .. } => Some("give a path from the root of the repository, with *, ? and […]".to_owned()),
        }
    }
}
