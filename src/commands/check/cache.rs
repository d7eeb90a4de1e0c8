//! What check keeps in its container: a repository, and the version of the tip that it last saw.
//!
//! Concourse keeps a check container for five minutes to an hour, and shares it between pipelines with the same
//! source. Nothing may rely on the cache: it can be missing, stale, half-written or of another source.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::commands::{StepError, workplace};
use crate::concourse::{Edge, Version};
use crate::decide::bases::Wanted;
use crate::names::CommitId;
use crate::request::CheckRequest;
use crate::say::Say;

/// The version of a tip, as a check computed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// The tip of the branch.
    pub tip: CommitId,
    /// The newest version there, as git tells it.
    pub version: Version,
    /// What it is to be built on, when bases are followed and git tells.
    pub bases: Option<Wanted>,
}

/// The cache of one source.
pub struct Cache {
    directory: PathBuf,
    /// Held while the check runs; children of a killed check may still hold it.
    _lock: Option<File>,
    /// Set when the directory is this check's alone and goes with it.
    _own: Option<TempDir>,
}

impl Cache {
    /// The cache of this source; an empty one of our own when another check holds it.
    pub fn open(request: &CheckRequest, edge: &Edge, say: &Say) -> Result<Self, StepError> {
        let directory = edge.temporary.join(format!("git-image-check-{}", key(request)));
        let lock = match private_directory(&directory).and_then(|()| File::create(directory.join("lock"))) {
            Ok(lock) => lock,
            Err(error) => {
                say.line(format_args!("check: no cache, as {} cannot be used: {error}", directory.display()));
                return Self::fresh(edge);
            }
        };
        match lock.try_lock() {
            Ok(()) => Ok(Self { directory, _lock: Some(lock), _own: None }),
            Err(_) => {
                say.line("check: another check holds the cache; this one goes without");
                Self::fresh(edge)
            }
        }
    }

    /// An empty cache that goes with the check.
    pub fn fresh(edge: &Edge) -> Result<Self, StepError> {
        let own = workplace(edge)?;
        Ok(Self { directory: own.path().to_owned(), _lock: None, _own: Some(own) })
    }

    /// Where the repository lies.
    pub fn repository(&self) -> PathBuf {
        self.directory.join("repository")
    }

    /// What was seen of this tip, when it is the one that was last seen.
    pub fn seen(&self, tip: CommitId) -> Option<Seen> {
        let text = std::fs::read(self.seen_file()).ok()?;
        // A file that cannot be read is a file that is not there.
        serde_json::from_slice::<Seen>(&text).ok().filter(|seen| seen.tip == tip)
    }

    /// Remembers what was seen, whole or not at all.
    pub fn remember(&self, seen: &Seen, say: &Say) {
        let text = serde_json::to_vec(seen).expect("ids are texts, so this is always JSON");
        let written = tempfile::NamedTempFile::new_in(&self.directory).and_then(|mut file| {
            file.write_all(&text)?;
            file.persist(self.seen_file()).map_err(|error| error.error)?;
            Ok(())
        });
        if let Err(error) = written {
            say.line(format_args!("check: the cache could not be written, so the next check starts anew: {error}"));
        }
    }

    fn seen_file(&self) -> PathBuf {
        self.directory.join("seen.json")
    }
}

/// One cache for everything that decides which versions there are.
fn key(request: &CheckRequest) -> String {
    let source = &request.source;
    let words = format!(
        "1\n{}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}",
        source.git.uri.as_str(),
        source.git.branch,
        source.git.ci_skip,
        source.git.commit_filter,
        source.build,
        source.registry.repository,
        source.registry.tag_prefix,
        source.announce,
    );
    hex::encode(&Sha256::digest(words)[..8])
}

/// Makes a directory that nobody else may enter: it holds the source of a private repository.
fn private_directory(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let found = path.symlink_metadata()?;
            let ours = rustix::process::geteuid().as_raw();
            if found.is_dir() && found.uid() == ours {
                Ok(())
            } else {
                Err(std::io::Error::other("something that is not ours is there"))
            }
        }
        made => made,
    }
}
