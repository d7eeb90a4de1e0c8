//! A directory of an artifact, whose files are read as they lie.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use sha1::{Digest as _, Sha1};

use super::{CheckoutError, compare, head};
use crate::decide::inputs::Mode;
use crate::names::{CommitId, GitPath, ObjectId};

/// A file of a checkout as it lies on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnDisk {
    /// Its mode as git would record it; `None` for sockets, pipes and devices, which git cannot record.
    pub mode: Option<Mode>,
    /// Its size in bytes; that of the target's name for a symlink.
    pub size_bytes: u64,
    /// For a submodule, the commit that it stands at.
    pub commit: Option<CommitId>,
}

impl OnDisk {
    fn of(metadata: &fs::Metadata) -> Self {
        let mode = if metadata.is_symlink() {
            Some(Mode::Symlink)
        } else if !metadata.is_file() {
            None
        } else if metadata.permissions().mode() & 0o100 == 0 {
            Some(Mode::File)
        } else {
            Some(Mode::Executable)
        };
        Self { mode, size_bytes: metadata.len(), commit: None }
    }

    fn submodule(commit: CommitId) -> Self {
        Self { mode: Some(Mode::Submodule), size_bytes: 0, commit: Some(commit) }
    }
}

/// What a repository inside of a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nested {
    /// One path: a submodule.
    Submodules,
    /// Files like the others, without its `.git`.
    Files,
}

/// A directory of an artifact. Nothing is read through a symlink that leads out of it.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
    /// Where the `.git` of a repository inside of it may be.
    limit: PathBuf,
    nested: Nested,
}

impl Directory {
    /// The directory at `root` of the artifact `limit`; both are canonical.
    pub(super) fn new(root: PathBuf, limit: PathBuf, nested: Nested) -> Self {
        Self { root, limit, nested }
    }

    /// Opens a directory that is no checkout.
    ///
    /// # Errors
    ///
    /// It is not there.
    pub fn open(root: &Path) -> Result<Self, CheckoutError> {
        let root = fs::canonicalize(root).map_err(failed_to("find", root))?;
        Ok(Self::new(root.clone(), root, Nested::Files))
    }

    /// The same directory, with repositories inside of it as this says.
    #[must_use]
    pub fn with(self, nested: Nested) -> Self {
        Self { nested, ..self }
    }

    /// The artifact that it is in.
    pub(super) fn limit(&self) -> &Path {
        &self.limit
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Every path below the root that is no directory, with its mode as git would record it.
    ///
    /// `.git` is left out at every depth.
    ///
    /// # Errors
    ///
    /// A directory cannot be read.
    pub fn list(&self) -> Result<BTreeMap<GitPath, OnDisk>, CheckoutError> {
        let mut found = BTreeMap::new();
        let mut waiting = vec![GitPath::new("")];
        while let Some(directory) = waiting.pop() {
            let path = self.root.join(directory.to_os_path());
            for entry in fs::read_dir(&path).map_err(failed_to("read", &path))? {
                let entry = entry.map_err(failed_to("read", &path))?;
                if entry.file_name() == ".git" {
                    continue;
                }
                let name = directory.join(entry.file_name().as_bytes());
                let kind = entry.file_type().map_err(failed_to("read", &entry.path()))?;
                if !kind.is_dir() {
                    // Of the entry itself: a symlink is not followed.
                    let metadata = entry.metadata().map_err(failed_to("read", &entry.path()))?;
                    found.insert(name, OnDisk::of(&metadata));
                } else if let Some(commit) = self.nested(&entry.path()) {
                    found.insert(name, OnDisk::submodule(commit));
                } else {
                    waiting.push(name);
                }
            }
        }
        Ok(found)
    }

    /// The content of a file; `None` when there is none. A symlink is followed as long as it stays in the artifact.
    ///
    /// # Errors
    ///
    /// It leads out of the artifact, is no file, has more than `limit_bytes`, or cannot be read.
    pub fn read(&self, path: &GitPath, limit_bytes: u64) -> Result<Option<Vec<u8>>, CheckoutError> {
        let named = self.root.join(path.to_os_path());
        let real = match fs::canonicalize(&named) {
            Ok(real) => real,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(failed_to("read", &named)(error)),
        };
        if !real.starts_with(&self.root) {
            return Err(CheckoutError::Escapes { path: named });
        }
        read_file(&real, limit_bytes).map(Some)
    }

    /// The target of a symlink that [`Self::list`] listed, byte by byte.
    ///
    /// # Errors
    ///
    /// It is not there, is no symlink, or cannot be read.
    pub fn link(&self, path: &GitPath) -> Result<Vec<u8>, CheckoutError> {
        let named = self.root.join(path.to_os_path());
        let target = fs::read_link(&named).map_err(failed_to("read", &named))?;
        Ok(target.into_os_string().into_vec())
    }

    /// The names that git would give to these files, or to the targets of these symlinks, byte by byte as they lie.
    ///
    /// Paths that are not there, or lie behind a symlink, have none.
    ///
    /// # Errors
    ///
    /// A file cannot be read.
    pub async fn hash(
        &self,
        paths: impl IntoIterator<Item = GitPath>,
    ) -> Result<BTreeMap<GitPath, ObjectId>, CheckoutError> {
        let hashed = self.hash_and_look(paths).await?;
        Ok(hashed.into_iter().map(|(path, hashed)| (path, hashed.id)).collect())
    }

    /// As [`Checkout::hash`], with what the content looks like.
    pub(super) async fn hash_and_look(
        &self,
        paths: impl IntoIterator<Item = GitPath>,
    ) -> Result<BTreeMap<GitPath, Hashed>, CheckoutError> {
        let paths: Vec<GitPath> = paths.into_iter().collect();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = paths.len().div_ceil(threads).max(1);
        let tasks: Vec<_> = paths
            .chunks(share)
            .map(|chunk| {
                let (root, chunk) = (self.root.clone(), chunk.to_vec());
                tokio::task::spawn_blocking(move || hash_all(&root, chunk))
            })
            .collect();
        let mut found = BTreeMap::new();
        for task in tasks {
            let hashed = task.await.map_err(|error| failed_to("hash files in", &self.root)(io::Error::other(error)))?;
            found.extend(hashed?);
        }
        Ok(found)
    }

    /// One path as [`Checkout::list`] has it. `None`: it is not there, is a directory, or lies behind a symlink.
    pub(super) fn look(&self, path: &GitPath, parents: &mut Parents<'_>) -> Result<Option<OnDisk>, CheckoutError> {
        if !parents.has_real(path) {
            return Ok(None);
        }
        let named = self.root.join(path.to_os_path());
        match fs::symlink_metadata(&named) {
            Ok(metadata) if metadata.is_dir() => Ok(self.nested(&named).map(OnDisk::submodule)),
            Ok(metadata) => Ok(Some(OnDisk::of(&metadata))),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(failed_to("read", &named)(error)),
        }
    }

    /// The commit of a repository in a directory of the checkout; `None` when it is not one, or has no commit.
    fn nested(&self, directory: &Path) -> Option<CommitId> {
        match self.nested {
            Nested::Submodules => {}
            Nested::Files => return None,
        }
        fs::symlink_metadata(directory.join(".git")).ok()?;
        let repository = head::Repository::find_within(directory, &self.limit).ok()??;
        Some(repository.head().ok()??.commit)
    }
}

/// What hashing a file told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hashed {
    pub(super) id: ObjectId,
    /// Whether it begins as a pointer of Git LFS does, and is as short.
    pub(super) may_be_pointer: bool,
}

pub(super) fn failed_to(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CheckoutError {
    let path = path.to_owned();
    move |source| CheckoutError::Files { what, path, source }
}

/// Whether a path is not there; with a file where a directory was, neither is what lay below.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Opens a regular file, never through a symlink at its end, and never waiting for the other end of a pipe.
pub(super) fn open_file(path: &Path) -> Result<(File, u64), CheckoutError> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed_to("open", path))?;
    let metadata = file.metadata().map_err(failed_to("read", path))?;
    if metadata.is_file() { Ok((file, metadata.len())) } else { Err(CheckoutError::Odd { path: path.to_owned() }) }
}

pub(super) fn read_file(path: &Path, limit_bytes: u64) -> Result<Vec<u8>, CheckoutError> {
    let (file, _) = open_file(path)?;
    let mut content = Vec::new();
    file.take(limit_bytes.saturating_add(1)).read_to_end(&mut content).map_err(failed_to("read", path))?;
    if content.len() as u64 > limit_bytes {
        return Err(CheckoutError::TooLarge { path: path.to_owned(), limit_bytes });
    }
    Ok(content)
}

fn hash_all(root: &Path, paths: Vec<GitPath>) -> Result<Vec<(GitPath, Hashed)>, CheckoutError> {
    let mut found = Vec::with_capacity(paths.len());
    let mut parents = Parents::new(root);
    for path in paths {
        if parents.has_real(&path)
            && let Some(hashed) = hash_file(&root.join(path.to_os_path()))?
        {
            found.push((path, hashed));
        }
    }
    Ok(found)
}

/// Tells whether the directory of a path is one, and not a symlink to one.
pub(super) struct Parents<'a> {
    root: &'a Path,
    /// Paths come sorted, so most have the parent of the one before.
    last: Option<(GitPath, bool)>,
}

impl<'a> Parents<'a> {
    pub(super) fn new(root: &'a Path) -> Self {
        Self { root, last: None }
    }

    pub(super) fn has_real(&mut self, path: &GitPath) -> bool {
        let directory = path.parent();
        match &self.last {
            Some((last, is_real)) if *last == directory => *is_real,
            _ => {
                // The root is canonical, so a path without symlinks is its own canonical path.
                let named = self.root.join(directory.to_os_path());
                let is_real = fs::canonicalize(&named).is_ok_and(|real| real.components().eq(named.components()));
                self.last = Some((directory, is_real));
                is_real
            }
        }
    }
}

fn hash_file(path: &Path) -> Result<Option<Hashed>, CheckoutError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(failed_to("read", path)(error)),
    };
    if metadata.is_symlink() {
        let target = fs::read_link(path).map_err(failed_to("read", path))?;
        let id = crate::clients::git::blob_id(target.as_os_str().as_bytes());
        return Ok(Some(Hashed { id, may_be_pointer: false }));
    }
    if !metadata.is_file() {
        return Ok(None);
    }
    let (mut file, size_bytes) = open_file(path)?;
    let mut hash = Sha1::new();
    hash.update(format!("blob {size_bytes}\0"));
    // Most files are small: one read, and one that finds the end.
    let mut buffer = vec![0; usize::try_from(size_bytes).unwrap_or(usize::MAX).clamp(1, 64 * 1024)];
    loop {
        match file.read(&mut buffer).map_err(failed_to("read", path))? {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }
    // A file as short as a pointer was read at once, so all of it is still in the buffer.
    let may_be_pointer = compare::may_be_pointer(size_bytes, &buffer);
    Ok(Some(Hashed { id: ObjectId::from_bytes(hash.finalize().into()), may_be_pointer }))
}
