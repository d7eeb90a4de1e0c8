//! How the files of a checkout differ from its commit, after git's own normalisation.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use super::directory::{Hashed, OnDisk, Parents, failed_to, open_file};
use super::{Checkout, CheckoutError};
use crate::clients::git::{Attributes, Git, GitError, Setting, blob_id};
use crate::clients::lfs::{POINTER, POINTER_BYTES, Pointer};
use crate::decide::inputs::{Entry, Mode, Tree};
use crate::names::{Digest, GitPath, ObjectId};

/// The most that is read of one file to compare it without its line ends; a larger one counts as modified.
const TEXT_BYTES: u64 = 64 * 1024 * 1024;

/// The counted paths that are not as the commit has them, sorted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Differences {
    /// Other content or another mode.
    pub modified: Vec<GitPath>,
    /// In the commit, not on disk.
    pub missing: Vec<GitPath>,
    /// On disk, not in the commit: untracked or ignored.
    pub untracked: Vec<GitPath>,
    /// A pointer of Git LFS in place of its content: as the commit has it, and no difference.
    pub pointers: Vec<GitPath>,
}

impl Differences {
    /// Whether git alone describes the counted files.
    pub fn is_clean(&self) -> bool {
        self.modified.is_empty() && self.missing.is_empty() && self.untracked.is_empty()
    }

    /// Adds those of a submodule at this path.
    pub fn add(&mut self, at: &GitPath, more: Self) {
        let Self { modified, missing, untracked, pointers } = more;
        for (all, more) in [
            (&mut self.modified, modified),
            (&mut self.missing, missing),
            (&mut self.untracked, untracked),
            (&mut self.pointers, pointers),
        ] {
            all.extend(more.into_iter().map(|path| at.join(path.as_bytes())));
            all.sort_unstable();
        }
    }
}

impl Checkout {
    /// Compares the counted paths with the tree of the checkout's commit.
    ///
    /// Line ends that `.gitattributes` changes, `$Id$` and the content behind a pointer of Git LFS are no difference.
    /// A submodule that was not brought is none either: git leaves an empty directory there.
    ///
    /// # Errors
    ///
    /// Files cannot be read, or git cannot tell what the commit has.
    pub async fn compare(
        &self,
        git: &Git,
        commit_tree: &Tree,
        counted: &BTreeSet<GitPath>,
    ) -> Result<Differences, CheckoutError> {
        let mut parents = Parents::new(self.root());
        let mut differences = Differences::default();
        let mut same_kind: BTreeMap<GitPath, (Entry, OnDisk)> = BTreeMap::new();
        for path in counted {
            match (commit_tree.get(path), self.look(path, &mut parents)?) {
                (None, None) => {}
                (Some(entry), None) if entry.mode == Mode::Submodule => {}
                (Some(_), None) => differences.missing.push(path.clone()),
                (None, Some(_)) => differences.untracked.push(path.clone()),
                (Some(entry), Some(found)) if found.mode != Some(entry.mode) => differences.modified.push(path.clone()),
                (Some(entry), Some(found)) if entry.mode == Mode::Submodule => {
                    if found.commit.is_none_or(|commit| commit.object() != entry.id) {
                        differences.modified.push(path.clone());
                    }
                }
                (Some(entry), Some(found)) => drop(same_kind.insert(path.clone(), (*entry, found))),
            }
        }
        let hashes = self.hash_and_look(same_kind.keys().cloned()).await?;
        let has_id = |path: &GitPath, entry: &Entry| hashes.get(path).is_some_and(|hashed| hashed.id == entry.id);
        let mut suspects = BTreeSet::new();
        for (path, (entry, _)) in &same_kind {
            let is_same = has_id(path, entry);
            if entry.mode == Mode::Symlink {
                if !is_same {
                    differences.modified.push(path.clone());
                }
            } else if !is_same
                || (hashes.get(path).is_some_and(|hashed| hashed.may_be_pointer) && self.is_pointer(path)?)
            {
                suspects.insert(path.clone());
            }
        }
        let attributes = git.attributes(self.head, &suspects).await?;
        let pointers = self.pointers(git, &suspects, &attributes, &same_kind, &hashes).await?;
        for path in suspects {
            let Some((entry, found)) = same_kind.get(&path) else { continue };
            let of_path = attributes.get(&path).cloned().unwrap_or_default();
            if has_id(&path, entry) {
                if of_path.is_lfs() {
                    differences.pointers.push(path);
                }
                continue;
            }
            let is_same = match pointers.get(&entry.id).and_then(|content| Pointer::read(content)) {
                Some(pointer) if of_path.is_lfs() => {
                    pointer.size_bytes == found.size_bytes && self.sha256(&path)? == pointer.sha256
                }
                _ => self.is_same_text(&path, found, &of_path, entry.id)?,
            };
            if !is_same {
                differences.modified.push(path);
            }
        }
        differences.modified.sort_unstable();
        Ok(differences)
    }

    /// The blobs of the suspects that may be pointers whose content lies on disk.
    async fn pointers(
        &self,
        git: &Git,
        suspects: &BTreeSet<GitPath>,
        attributes: &BTreeMap<GitPath, Attributes>,
        entries: &BTreeMap<GitPath, (Entry, OnDisk)>,
        hashes: &BTreeMap<GitPath, Hashed>,
    ) -> Result<BTreeMap<ObjectId, Vec<u8>>, CheckoutError> {
        let ids: Vec<ObjectId> = suspects
            .iter()
            .filter(|path| attributes.get(*path).is_some_and(Attributes::is_lfs))
            .filter_map(|path| entries.get(path).map(|(entry, _)| (path, entry.id)))
            .filter(|(path, id)| hashes.get(*path).is_none_or(|hashed| hashed.id != *id))
            .map(|(_, id)| id)
            .collect();
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        match git.blobs(&ids).await {
            // A large file that was committed as it is, in spite of the attribute: no pointer.
            Err(GitError::TooLarge { .. }) => {}
            result => return Ok(result?),
        }
        let mut found = BTreeMap::new();
        for id in ids {
            match git.blobs(&[id]).await {
                Err(GitError::TooLarge { .. }) => {}
                result => found.extend(result?),
            }
        }
        Ok(found)
    }

    fn is_pointer(&self, path: &GitPath) -> Result<bool, CheckoutError> {
        Ok(self.read(path, POINTER_BYTES)?.is_some_and(|content| Pointer::read(&content).is_some()))
    }

    fn is_same_text(
        &self,
        path: &GitPath,
        found: &OnDisk,
        attributes: &Attributes,
        id: ObjectId,
    ) -> Result<bool, CheckoutError> {
        if found.size_bytes > TEXT_BYTES {
            return Ok(false);
        }
        let content = self.read(path, TEXT_BYTES)?.unwrap_or_default();
        Ok(normalised(content, attributes).is_some_and(|content| blob_id(&content) == id))
    }

    fn sha256(&self, path: &GitPath) -> Result<Digest, CheckoutError> {
        let path = self.root().join(path.to_os_path());
        let mut hash = Sha256::new();
        let mut file = open_file(&path)?.0;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match std::io::Read::read(&mut file, &mut buffer).map_err(failed_to("read", &path))? {
                0 => return Ok(Digest::from_bytes(hash.finalize().into())),
                read => hash.update(&buffer[..read]),
            }
        }
    }
}

/// Whether a file may be a pointer of Git LFS, by its size and its beginning.
pub(super) fn may_be_pointer(size_bytes: u64, beginning: &[u8]) -> bool {
    size_bytes < POINTER_BYTES && beginning.starts_with(POINTER)
}

/// The content as git would store it, when the attributes ask for another one than lies on disk. `None`: they do not.
fn normalised(content: Vec<u8>, attributes: &Attributes) -> Option<Vec<u8>> {
    let auto = attributes.text == Setting::Value("auto".to_owned());
    let is_text = match &attributes.text {
        Setting::Unset => false,
        Setting::Set | Setting::Value(_) => true,
        // `eol` alone says that it is text.
        Setting::Unspecified => matches!(attributes.eol, Setting::Value(_)),
    };
    // With `auto` git looks itself; a NUL is what makes a file binary.
    let line_ends = is_text && !(auto && content.contains(&0));
    let ident = attributes.ident == Setting::Set;
    if !line_ends && !ident {
        return None;
    }
    let content = if line_ends { without_carriage_returns(&content) } else { content };
    Some(if ident { without_ident(&content) } else { content })
}

fn without_carriage_returns(content: &[u8]) -> Vec<u8> {
    let next = content.iter().skip(1).map(Some).chain(std::iter::once(None));
    let kept = content.iter().zip(next).filter(|&(&byte, next)| !(byte == b'\r' && next == Some(&b'\n')));
    kept.map(|(&byte, _)| byte).collect()
}

/// Replaces `$Id: anything$` on one line by `$Id$`.
fn without_ident(content: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(content.len());
    let mut rest = content;
    while let Some(at) = rest.windows(4).position(|window| window == b"$Id:") {
        let after = &rest[at + 4..];
        let end = after.iter().position(|&byte| byte == b'$' || byte == b'\n');
        kept.extend_from_slice(&rest[..at]);
        match end {
            Some(end) if after[end] == b'$' => {
                kept.extend_from_slice(b"$Id$");
                rest = &after[end + 1..];
            }
            _ => {
                kept.extend_from_slice(b"$Id:");
                rest = after;
            }
        }
    }
    kept.extend_from_slice(rest);
    kept
}
