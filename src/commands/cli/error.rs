//! Why a command of the command line could not do what it was asked for, when no server is to blame.

use std::path::PathBuf;

use crate::clients::credential_helper::HelperError;
use crate::pipeline::PipelineError;
use crate::request::DockerConfigError;
use crate::yaml::YamlError;

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
    /// Files are there that would be overwritten.
    #[error("there is already {}", paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "))]
    There {
        /// The files.
        paths: Vec<PathBuf>,
    },
    /// A file with secrets could be committed.
    #[error("cannot write {}: {} does not keep it out of git", path.display(), ignore.display())]
    NotIgnored {
        /// The file with the secrets.
        path: PathBuf,
        /// The file that should name it.
        ignore: PathBuf,
    },
    /// The doctor found what would fail.
    #[error("{failed} of the things looked at would fail")]
    Unwell {
        /// How many.
        failed: usize,
    },
    /// stdin cannot be read.
    #[error("cannot read stdin")]
    Stdin(#[source] std::io::Error),
    /// stdin is asked for twice.
    #[error("stdin cannot be both the source and the password")]
    StdinTwice,
    /// stdin has no password.
    #[error("there is no password on stdin")]
    NoPassword,
    /// A variable of the environment is there, and the one that belongs to it is not.
    #[error("{given} is set in the environment, and {missing} is not")]
    HalfLogin {
        /// The variable that is set.
        given: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// No image is named.
    #[error("no image is named")]
    NoSource,
    /// A text is no YAML.
    #[error("cannot read {what} as YAML")]
    NotYaml {
        /// The file, stdin or option.
        what: String,
        /// Why.
        #[source]
        source: YamlError,
    },
    /// A pipeline has no image of ours.
    #[error("cannot take an image from the pipeline {what}")]
    Pipeline {
        /// The file.
        what: String,
        /// Why.
        #[source]
        source: PipelineError,
    },
    /// A file of variables has something else.
    #[error("{what} has no variables: it is not a block of names with values")]
    NoVariables {
        /// The file.
        what: String,
    },
    /// Variables of the source have no value.
    #[error("the source needs a value for {}", names.iter().map(|name| format!("(({name}))")).collect::<Vec<_>>().join(", "))]
    Unfilled {
        /// Their names.
        names: Vec<String>,
    },
    /// Docker's own configuration cannot be read.
    #[error("cannot take a login from {}", path.display())]
    DockerConfig {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: DockerConfigError,
    },
    /// A credential helper gives nothing.
    #[error(transparent)]
    Helper(HelperError),
}

impl CliError {
    /// Whether the arguments do not fit together, whatever the servers say.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::NoSource | Self::StdinTwice)
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Output(_) | Self::File { .. } | Self::Stdin(_) | Self::NotYaml { .. } => return None,
            Self::There { .. } => "nothing was written; move them away, or go on with what they say".to_owned(),
            Self::NotIgnored { path, .. } => format!(
                "nothing was written; add a line `{}` there: it is for what nobody may read in a commit",
                path.file_name().unwrap_or_default().display()
            ),
            Self::Unwell { .. } => "what to do about each stands with it".to_owned(),
            Self::StdinTwice => "give the source as a file".to_owned(),
            Self::NoPassword => "pipe it: --password-stdin < FILE".to_owned(),
            Self::HalfLogin { .. } => "set both, or neither".to_owned(),
            Self::NoSource => {
                "give its source with --source FILE or --pipeline FILE; inside a working tree, --repository REGISTRY/NAME is enough".to_owned()
            }
            Self::Pipeline { source: PipelineError::Several { .. }, .. } => "name one with --resource".to_owned(),
            Self::Pipeline { .. } => "give the block `source` of the resource with --source FILE".to_owned(),
            Self::NoVariables { .. } => "write it as for fly: `name: value` lines".to_owned(),
            Self::Unfilled { .. } => "give it with --load-vars-from FILE or --var NAME=VALUE".to_owned(),
            Self::DockerConfig { .. } => {
                "log in again with `docker login`, or give --username and --password-stdin".to_owned()
            }
            Self::Helper(error) => return error.hint(),
        })
    }
}
