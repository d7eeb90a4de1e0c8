//! Files of several directories, seen as one tree.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{CheckoutError, Directory};
use crate::decide::inputs::Mode;
use crate::names::{GitPath, ObjectId};

/// Files as they lie: those of one directory, and those of others at paths of their own.
#[derive(Debug, Clone)]
pub struct Files {
    root: Directory,
    /// A path within another one comes after it.
    others: BTreeMap<GitPath, Directory>,
}

impl Files {
    /// The files of one directory.
    pub fn new(root: Directory) -> Self {
        Self { root, others: BTreeMap::new() }
    }

    /// Puts a directory at a path, in place of what is there.
    pub fn place(&mut self, at: GitPath, directory: Directory) {
        self.others.insert(at, directory);
    }

    /// Every path that is no directory, with its mode as git would record it, where git can.
    ///
    /// # Errors
    ///
    /// A directory cannot be read.
    pub fn list(&self) -> Result<BTreeMap<GitPath, Mode>, CheckoutError> {
        let root = GitPath::new("");
        let place = |path: &GitPath| self.others.keys().rev().find(|at| path.is_within(at)).unwrap_or(&root);
        let mut all = BTreeMap::new();
        for (at, directory) in [(&root, &self.root)].into_iter().chain(&self.others) {
            for (path, file) in directory.list()? {
                let path = at.join(path.as_bytes());
                if let Some(mode) = file.mode
                    && place(&path) == at
                {
                    all.insert(path, mode);
                }
            }
        }
        Ok(all)
    }

    /// Where a path is on disk.
    pub fn on_disk(&self, path: &GitPath) -> PathBuf {
        let (_, directory, path) = self.of(path);
        directory.root().join(path.to_os_path())
    }

    /// As [`Directory::read`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn read(&self, path: &GitPath, limit_bytes: u64) -> Result<Option<Vec<u8>>, CheckoutError> {
        let (_, directory, path) = self.of(path);
        directory.read(&path, limit_bytes)
    }

    /// As [`Directory::link`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn link(&self, path: &GitPath) -> Result<Vec<u8>, CheckoutError> {
        let (_, directory, path) = self.of(path);
        directory.link(&path)
    }

    /// As [`Directory::hash`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn hash(
        &self,
        paths: impl IntoIterator<Item = GitPath>,
    ) -> Result<BTreeMap<GitPath, ObjectId>, CheckoutError> {
        let mut by_place: BTreeMap<GitPath, Vec<GitPath>> = BTreeMap::new();
        for path in paths {
            let (at, _, path) = self.of(&path);
            by_place.entry(at.clone()).or_default().push(path);
        }
        let mut all = BTreeMap::new();
        for (at, paths) in by_place {
            let directory = self.others.get(&at).unwrap_or(&self.root);
            let hashes = directory.hash(paths).await?;
            all.extend(hashes.into_iter().map(|(path, id)| (at.join(path.as_bytes()), id)));
        }
        Ok(all)
    }

    /// The directory that has a path: where it is placed, what it is, and the path as it has it.
    fn of(&self, path: &GitPath) -> (GitPath, &Directory, GitPath) {
        let mut others = self.others.iter().rev();
        match others.find_map(|(at, directory)| Some((at, directory, path.relative_to(at)?))) {
            Some((at, directory, path)) => (at.clone(), directory, path),
            None => (GitPath::new(""), &self.root, path.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::git::tests::run;

    #[test]
    fn a_directory_takes_the_place_of_what_is_at_its_path() {
        let temporary = tempfile::tempdir().expect("a directory is made");
        let write = |path: &str| {
            let path = temporary.path().join(path);
            std::fs::create_dir_all(path.parent().expect("it lies in a directory")).expect("a directory is made");
            std::fs::write(path, "x").expect("a file is written");
        };
        let all = ["repo/a", "repo/lib/old", "made/new", "made/.git/config", "made/sub/.git/HEAD", "made/sub/f"];
        all.into_iter().for_each(write);
        let open = |name: &str| Directory::open(&temporary.path().join(name)).expect("it is there");
        let mut files = Files::new(open("repo"));
        files.place(GitPath::new("lib"), open("made"));
        files.place(GitPath::new("../made"), open("made"));
        let listed = files.list().expect("all can be read");
        let names: Vec<String> = listed.keys().map(ToString::to_string).collect();
        assert_eq!(names, ["../made/new", "../made/sub/f", "a", "lib/new", "lib/sub/f"]);
        assert_eq!(files.on_disk(&GitPath::new("lib/sub/f")), open("made").root().join("sub/f"));
        let hashes = run(files.hash(listed.keys().cloned())).expect("all can be read");
        assert_eq!(hashes.len(), listed.len());
        assert_eq!(files.read(&GitPath::new("lib/old"), 10).expect("it is read"), None);
    }
}
