//! The files of Git LFS that an image is made of, and only pointers lie for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::clients::checkout::Files;
use crate::clients::git::Git;
use crate::clients::lfs::{POINTER, POINTER_BYTES, Pointer, Store};
use crate::commands::StepError;
use crate::error::Error;
use crate::names::{CommitId, GitPath};
use crate::request::GitSource;
use crate::say::{Say, size};

/// A repository that files are of.
#[derive(Clone, Copy)]
pub struct Repository<'a> {
    /// Where it lies in the whole.
    pub at: &'a GitPath,
    /// Its objects.
    pub git: &'a Git,
    /// The commit that lies there.
    pub commit: CommitId,
    /// Who asks for it.
    pub source: &'a GitSource,
}

/// Fetches what the pointers among these files of a repository stand for; where each file is then.
///
/// A file is a pointer when it is one and the attributes of the commit say so, as for git-lfs itself.
///
/// # Errors
///
/// The LFS server does not give one, or something else.
pub async fn fetch(
    repository: Repository<'_>,
    counted: impl IntoIterator<Item = &GitPath>,
    files: &Files,
    into: &Path,
    say: &Say,
) -> Result<BTreeMap<GitPath, PathBuf>, Error> {
    let Repository { at, git, commit, source } = repository;
    let mut pointers: BTreeMap<GitPath, Pointer> = BTreeMap::new();
    for path in counted {
        if is_pointer(&files.on_disk(path))
            && let Some(inside) = path.relative_to(at)
            && let Some(pointer) = files.read(path, POINTER_BYTES)?.and_then(|text| Pointer::read(&text))
        {
            pointers.insert(inside, pointer);
        }
    }
    let attributes = git.attributes(commit, &pointers.keys().cloned().collect()).await?;
    pointers.retain(|path, _| attributes.get(path).is_some_and(|attributes| attributes.is_lfs()));
    if pointers.is_empty() {
        return Ok(BTreeMap::new());
    }
    let wanted: BTreeSet<Pointer> = pointers.values().copied().collect();
    let bytes = wanted.iter().map(|pointer| pointer.size_bytes).sum();
    say.line(format_args!(
        "git: fetching {} of git-lfs, {}, from {}",
        if wanted.len() == 1 { "1 file".to_owned() } else { format!("{} files", wanted.len()) },
        size(bytes),
        source.uri.repository()
    ));
    let whole = |path: &GitPath| at.join(path.as_bytes());
    let failed = |source| StepError::Lfs { files: pointers.keys().map(whole).collect(), source: Box::new(source) };
    let store = Store::of(source, git).await.map_err(failed)?;
    store.fetch(&wanted, into).await.map_err(failed)?;
    Ok(pointers.iter().map(|(path, pointer)| (whole(path), into.join(pointer.sha256.hex()))).collect())
}

/// Whether a file begins as a pointer does, and is as short.
pub fn is_pointer(path: &Path) -> bool {
    use std::io::Read as _;
    let mut start = [0; POINTER.len()];
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() < POINTER_BYTES)
        && std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok()
        && start == POINTER
}
