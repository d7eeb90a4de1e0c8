//! An artifact with a checkout: data, whose git configuration is never used.
//!
//! The artifact may be hostile. git never runs in it: HEAD, refs and the boundary of its history are read here, its
//! files are hashed here, and only its objects are read by git, through a repository of our own ([`Git::borrow`]).
//! Its owner does not matter either, since git never opens it.

mod compare;
mod head;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use sha1::{Digest as _, Sha1};

use crate::clients::git::{Git, GitError};
use crate::decide::inputs::Mode;
use crate::names::{Branch, CommitId, GitPath, ObjectId};

pub use compare::{Differences, POINTER};

/// Why an artifact is not the checkout that it should be.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// The artifact has no `.git`.
    #[error("{} is no git checkout: it has no .git", root.display())]
    NotACheckout {
        /// The artifact.
        root: PathBuf,
    },
    /// What `.git` says leads out of the artifact.
    #[error("{} leads out of the artifact, or nowhere", path.display())]
    Escapes {
        /// The file, or symlink.
        path: PathBuf,
    },
    /// Among git's files is one that is neither file nor directory, or one that is not as git writes it.
    #[error("{} is not what git has there", path.display())]
    Odd {
        /// The file.
        path: PathBuf,
    },
    /// HEAD names a branch without a commit.
    #[error("the checkout {} has no commit", root.display())]
    NoCommit {
        /// The artifact.
        root: PathBuf,
    },
    /// The repository uses a format that is not read here.
    #[error("the checkout {} uses {format}", root.display())]
    Format {
        /// The artifact.
        root: PathBuf,
        /// The format.
        format: &'static str,
    },
    /// The objects are not in the artifact.
    #[error("the checkout {} keeps its objects elsewhere (objects/info/alternates)", root.display())]
    Alternates {
        /// The artifact.
        root: PathBuf,
    },
    /// A file that must be read whole is too large for that.
    #[error("{} has more than {limit_bytes} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        limit_bytes: u64,
    },
    /// A file could not be read.
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
    /// git could not say what the commit has.
    #[error(transparent)]
    Git(#[from] GitError),
}

impl CheckoutError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotACheckout { .. } => {
                "`params.source` must name the artifact of a git resource, or a task's output that is a whole checkout with its .git"
            }
            Self::Escapes { .. } | Self::Odd { .. } => {
                "an artifact must hold all of its .git; a task that copies a checkout copies the .git with it"
            }
            Self::NoCommit { .. } => "commit in the task that makes it, or name another artifact in `params.source`",
            Self::Format { .. } => "make the checkout with `git clone` as it is by default: SHA-1, refs as files",
            Self::Alternates { .. } => "clone without --shared and --reference, or with --dissociate",
            Self::Git(error) => return error.hint(),
            Self::TooLarge { .. } | Self::Files { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

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

/// An artifact with a checkout, whose HEAD was read.
#[derive(Debug, Clone)]
pub struct Checkout {
    root: PathBuf,
    objects: PathBuf,
    head: CommitId,
    branch: Option<Branch>,
    shallow: Vec<CommitId>,
}

impl Checkout {
    /// Opens the artifact at `root`.
    ///
    /// # Errors
    ///
    /// It is no checkout, its `.git` leads out of it, or it uses a format that is not read here.
    pub fn open(root: &Path) -> Result<Self, CheckoutError> {
        let root = fs::canonicalize(root).map_err(failed_to("find", root))?;
        let repository = head::Repository::find(&root)?.ok_or(CheckoutError::NotACheckout { root: root.clone() })?;
        repository.examine()?;
        let head = repository.head()?.ok_or(CheckoutError::NoCommit { root: root.clone() })?;
        Ok(Self {
            objects: repository.objects(),
            shallow: repository.shallow()?,
            head: head.commit,
            branch: head.branch,
            root,
        })
    }

    /// The directory of the artifact.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The commit that is checked out.
    pub fn head(&self) -> CommitId {
        self.head
    }

    /// The branch that is checked out; `None` when HEAD is detached, as the git resource leaves it.
    pub fn branch(&self) -> Option<&Branch> {
        self.branch.as_ref()
    }

    /// The commits at which its history is cut off.
    pub fn shallow(&self) -> &[CommitId] {
        &self.shallow
    }

    /// The directory of its objects, which lies in the artifact.
    pub(super) fn objects(&self) -> &Path {
        &self.objects
    }

    /// Every path below the root that is no directory, with its mode as git would record it.
    ///
    /// `.git` is left out at every depth. A repository in the repository is one submodule.
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
    async fn hash_and_look(
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
    fn look(&self, path: &GitPath, parents: &mut Parents<'_>) -> Result<Option<OnDisk>, CheckoutError> {
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
        fs::symlink_metadata(directory.join(".git")).ok()?;
        let repository = head::Repository::find_within(directory, &self.root).ok()??;
        Some(repository.head().ok()??.commit)
    }
}

/// What hashing a file told.
#[derive(Debug, Clone, Copy)]
struct Hashed {
    id: ObjectId,
    /// Whether it begins as a pointer of Git LFS does, and is as short.
    may_be_pointer: bool,
}

fn failed_to(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CheckoutError {
    let path = path.to_owned();
    move |source| CheckoutError::Files { what, path, source }
}

/// Whether a path is not there; with a file where a directory was, neither is what lay below.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Opens a regular file, never through a symlink at its end, and never waiting for the other end of a pipe.
fn open_file(path: &Path) -> Result<(File, u64), CheckoutError> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed_to("open", path))?;
    let metadata = file.metadata().map_err(failed_to("read", path))?;
    if metadata.is_file() { Ok((file, metadata.len())) } else { Err(CheckoutError::Odd { path: path.to_owned() }) }
}

fn read_file(path: &Path, limit_bytes: u64) -> Result<Vec<u8>, CheckoutError> {
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
struct Parents<'a> {
    root: &'a Path,
    /// Paths come sorted, so most have the parent of the one before.
    last: Option<(GitPath, bool)>,
}

impl<'a> Parents<'a> {
    fn new(root: &'a Path) -> Self {
        Self { root, last: None }
    }

    fn has_real(&mut self, path: &GitPath) -> bool {
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

#[cfg(test)]
mod tests;
