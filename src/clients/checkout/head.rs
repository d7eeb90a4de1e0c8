//! HEAD, refs and the boundary of a history, as git's files have them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::CheckoutError;
use super::directory::{failed_to, read_file};
use crate::names::{Branch, CommitId};

/// The most that is read of HEAD, a ref or a `gitdir:` file.
const SMALL_BYTES: u64 = 64 * 1024;

/// The most that is read of `packed-refs` and `shallow`.
const LARGE_BYTES: u64 = 256 * 1024 * 1024;

/// The `.git` of a checkout.
pub(super) struct Repository {
    /// The directory of the checkout.
    root: PathBuf,
    /// What every link must stay in.
    limit: PathBuf,
    /// Where HEAD is.
    git_dir: PathBuf,
    /// Where refs and objects are: another place for a second working tree.
    common_dir: PathBuf,
}

/// What HEAD says.
pub(super) struct Head {
    /// The commit.
    pub commit: CommitId,
    /// The branch; `None` when HEAD is detached.
    pub branch: Option<Branch>,
}

impl Repository {
    /// The repository of a checkout that is the artifact itself. `None`: there is no `.git`.
    pub(super) fn find(root: &Path) -> Result<Option<Self>, CheckoutError> {
        Self::find_within(root, root)
    }

    /// The repository of a checkout in the artifact `limit`.
    pub(super) fn find_within(root: &Path, limit: &Path) -> Result<Option<Self>, CheckoutError> {
        let path = root.join(".git");
        let git_dir = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed_to("read", &path)(error)),
            Ok(metadata) if metadata.is_file() => {
                let text = read_text(&path, SMALL_BYTES)?;
                let Some(target) = text.strip_prefix("gitdir:") else { return Err(CheckoutError::Odd { path }) };
                inside(&path, &root.join(target.trim()), limit)?
            }
            Ok(_) => inside(&path, &path, limit)?,
        };
        let link = git_dir.join("commondir");
        let common_dir = match fs::symlink_metadata(&link) {
            Ok(_) => inside(&link, &git_dir.join(read_text(&link, SMALL_BYTES)?.trim()), limit)?,
            Err(_) => git_dir.clone(),
        };
        if !git_dir.is_dir() || !common_dir.is_dir() {
            return Err(CheckoutError::Odd { path });
        }
        Ok(Some(Self { root: root.to_owned(), limit: limit.to_owned(), git_dir, common_dir }))
    }

    /// Where the objects are.
    pub(super) fn objects(&self) -> PathBuf {
        self.common_dir.join("objects")
    }

    /// Refuses what would make git, which reads the objects, read or wait for something else.
    pub(super) fn examine(&self) -> Result<(), CheckoutError> {
        let alternates = self.objects().join("info/alternates");
        if fs::symlink_metadata(&alternates).is_ok_and(|metadata| metadata.len() > 0) {
            return Err(CheckoutError::Alternates { root: self.root.clone() });
        }
        let mut waiting = vec![self.common_dir.clone()];
        if self.git_dir != self.common_dir {
            waiting.push(self.git_dir.clone());
        }
        while let Some(directory) = waiting.pop() {
            for entry in fs::read_dir(&directory).map_err(failed_to("read", &directory))? {
                let entry = entry.map_err(failed_to("read", &directory))?;
                let kind = entry.file_type().map_err(failed_to("read", &directory))?;
                if kind.is_dir() {
                    // Hooks are often links into a tool's files. Nobody looks at them here.
                    if entry.file_name() != "hooks" {
                        waiting.push(entry.path());
                    }
                } else if kind.is_symlink() {
                    inside(&entry.path(), &entry.path(), &self.limit)?;
                } else if !kind.is_file() && entry.path().starts_with(self.objects()) {
                    return Err(CheckoutError::Odd { path: entry.path() });
                }
            }
        }
        Ok(())
    }

    /// The commit and the branch of HEAD. `None`: the branch has no commit yet.
    pub(super) fn head(&self) -> Result<Option<Head>, CheckoutError> {
        if self.common_dir.join("reftable").exists() {
            return Err(CheckoutError::Format { root: self.root.clone(), format: "refs in a reftable" });
        }
        let path = self.git_dir.join("HEAD");
        let text = read_text(&path, SMALL_BYTES)?;
        let Some(target) = text.strip_prefix("ref:").map(str::trim) else {
            return Ok(Some(Head { commit: self.commit(&text, &path)?, branch: None }));
        };
        let is_ref = target.starts_with("refs/")
            && !target.split('/').any(|part| part.is_empty() || part.starts_with('.'))
            && !target.contains('\0');
        if !is_ref {
            return Err(CheckoutError::Odd { path });
        }
        let branch = target.strip_prefix("refs/heads/").and_then(|name| name.parse().ok());
        Ok(self.resolve(target)?.map(|commit| Head { commit, branch }))
    }

    /// The commits at which the history is cut off.
    pub(super) fn shallow(&self) -> Result<Vec<CommitId>, CheckoutError> {
        let path = self.common_dir.join("shallow");
        match fs::symlink_metadata(&path) {
            Err(_) => Ok(Vec::new()),
            Ok(_) => {
                let text = read_text(&path, LARGE_BYTES)?;
                text.lines().map(|line| self.commit(line, &path)).collect()
            }
        }
    }

    fn resolve(&self, name: &str) -> Result<Option<CommitId>, CheckoutError> {
        let loose = self.common_dir.join(name);
        if fs::symlink_metadata(&loose).is_ok_and(|metadata| metadata.is_file()) {
            return self.commit(&read_text(&loose, SMALL_BYTES)?, &loose).map(Some);
        }
        let packed = self.common_dir.join("packed-refs");
        if fs::symlink_metadata(&packed).is_err() {
            return Ok(None);
        }
        let text = read_text(&packed, LARGE_BYTES)?;
        let id = text.lines().find_map(|line| line.strip_suffix(name)?.strip_suffix(' '));
        id.map(|id| self.commit(id, &packed)).transpose()
    }

    fn commit(&self, text: &str, path: &Path) -> Result<CommitId, CheckoutError> {
        let text = text.trim();
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(CheckoutError::Format { root: self.root.clone(), format: "SHA-256 for its objects" });
        }
        text.parse().map_err(|_| CheckoutError::Odd { path: path.to_owned() })
    }
}

/// Where a path really is, when that is inside `limit`. `named` is the path that the error names.
fn inside(named: &Path, path: &Path, limit: &Path) -> Result<PathBuf, CheckoutError> {
    match fs::canonicalize(path) {
        Ok(real) if real.starts_with(limit) => Ok(real),
        Ok(_) | Err(_) => Err(CheckoutError::Escapes { path: named.to_owned() }),
    }
}

fn read_text(path: &Path, limit_bytes: u64) -> Result<String, CheckoutError> {
    Ok(String::from_utf8_lossy(&read_file(path, limit_bytes)?).into_owned())
}
