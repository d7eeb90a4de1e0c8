//! One file per verb: read, decide, say, act.

mod badge;
mod bases;
mod branches;
mod check;
pub mod cli;
mod completions;
mod destroy_pipeline;
mod details;
mod doctor;
mod error;
mod facts;
pub mod fly;
mod get;
mod history;
mod image;
mod init;
mod inputs;
mod man;
pub mod prune;
mod put;
pub mod reap;
mod set_pipeline;

use tempfile::TempDir;

use crate::concourse::Edge;

pub use check::check;
pub use error::{Rule, StepError};
pub use get::get;
pub use put::put;

/// A directory for the files of one step, which goes with it.
fn workplace(edge: &Edge) -> Result<TempDir, StepError> {
    let made = tempfile::Builder::new().prefix("git-image-").tempdir_in(&edge.temporary);
    made.map_err(|source| StepError::File { what: "make a directory in", path: edge.temporary.clone(), source })
}
