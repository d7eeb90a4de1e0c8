//! Files and clones on disk.

use std::fs;
use std::path::Path;

use super::{Git, GitError, failed_to, write};
use crate::clients::process::Program;
use crate::decide::inputs::Mode;
use crate::names::{Branch, CommitId, GitPath, ObjectId};

impl Git {
    /// Lays files of a commit out in a directory, which exists: these paths, or all when `None`.
    ///
    /// Line ends are those that `.gitattributes` of the tree ask for. No filter runs: a file of LFS is its pointer.
    /// Submodules are left out. Missing blobs are fetched at once.
    ///
    /// # Errors
    ///
    /// A path is not in the tree, a blob cannot be had, or the directory cannot be written.
    pub async fn lay_out(&self, commit: CommitId, paths: Option<&[GitPath]>, into: &Path) -> Result<(), GitError> {
        let tree = self.tree(commit).await?;
        let mut input = Vec::new();
        let mut blobs: Vec<ObjectId> = Vec::new();
        let mut add = |path: &GitPath| {
            if let Some(entry) = tree.get(path).filter(|entry| entry.mode != Mode::Submodule) {
                input.extend_from_slice(path.as_bytes());
                input.push(0);
                blobs.push(entry.id);
            }
        };
        match paths {
            Some(paths) => paths.iter().for_each(&mut add),
            None => tree.keys().for_each(&mut add),
        }
        if let Some(path) = paths.into_iter().flatten().find(|path| !tree.contains_key(*path)) {
            let source = std::io::Error::new(std::io::ErrorKind::NotFound, format!("commit {commit} does not have it"));
            return Err(failed_to("lay out", path.to_os_path())(source));
        }
        if blobs.is_empty() {
            return Ok(());
        }
        blobs.extend(
            tree.iter().filter(|(path, _)| path.parts().last() == Some(b".gitattributes")).map(|(_, entry)| entry.id),
        );
        self.complete(blobs).await?;
        let index = self.read_index(commit).await?;
        let into = fs::canonicalize(into).map_err(failed_to("find", into))?;
        let program = self
            .local("checkout-index")
            .env("GIT_INDEX_FILE", &index)
            .env("GIT_WORK_TREE", &into)
            .directory(&into)
            .args(["--quiet", "--force", "-z", "--stdin"])
            .input(input);
        program.output().await.map(drop).map_err(|error| self.explain(error))
    }

    /// Makes a clone of the commit in a directory, which exists: with all its files, on the branch, and of depth 1.
    ///
    /// Its `origin` is the address without credentials, and no secret is in it. Filters do not run, and submodules
    /// are left out.
    ///
    /// # Errors
    ///
    /// The server does not give the commit, or the directory cannot be written.
    pub async fn clone_to(&self, commit: CommitId, branch: &Branch, into: &Path) -> Result<(), GitError> {
        let into = fs::canonicalize(into).map_err(failed_to("find", into))?;
        let git_dir = into.join(".git");
        for name in ["objects/info", "objects/pack", "refs/heads", "refs/tags", "info"] {
            let path = git_dir.join(name);
            fs::create_dir_all(&path).map_err(failed_to("make", &path))?;
        }
        let head = format!("ref: {}\n", branch.full_ref());
        write(&git_dir.join("HEAD"), head.as_bytes())?;
        write(&git_dir.join("config"), clone_config(self.uri.as_str(), branch).as_bytes())?;
        self.fetch_into_clone(commit, branch, &git_dir).await?;
        let here = |program: Program| {
            program.env("GIT_DIR", &git_dir).env("GIT_WORK_TREE", &into).directory(&into).args(["--quiet"])
        };
        // `reset` sets the branch, too. It runs no hook, and the configuration has no filter.
        let reset = here(self.local("reset")).arg("--hard").arg(commit.to_string());
        reset.output().await.map(drop).map_err(|error| self.explain(error))
    }

    /// The commit alone where the server gives it, else the whole branch.
    async fn fetch_into_clone(&self, commit: CommitId, branch: &Branch, git_dir: &Path) -> Result<(), GitError> {
        let tracking = format!("refs/remotes/origin/{branch}");
        let fetch = |refspec: String, depth: &[&str]| {
            self.remote("fetch")
                .env("GIT_DIR", git_dir)
                .args(["--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--no-filter"])
                .arg("--no-recurse-submodules")
                .args(depth)
                .args(["--end-of-options", "origin"])
                .arg(refspec)
        };
        let alone = self.ask(fetch(format!("+{commit}:{tracking}"), &["--depth=1"])).await;
        let Err(error @ GitError::Gone { .. }) = alone else { return alone.map(drop) };
        self.ask(fetch(format!("+{}:{tracking}", branch.full_ref()), &[])).await?;
        // The branch may have moved away from the commit. Then the first answer was the right one.
        let look = self.local("cat-file").env("GIT_DIR", git_dir).arg("-e").arg(commit.to_string());
        look.output().await.map(drop).map_err(|_| error)
    }
}

fn clone_config(uri: &str, branch: &Branch) -> String {
    let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let (uri, name, full) = (quote(uri), quote(branch.as_str()), quote(&branch.full_ref()));
    format!(
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n\
         [remote \"origin\"]\n\turl = \"{uri}\"\n\tfetch = \"+{full}:refs/remotes/origin/{name}\"\n\
         [branch \"{name}\"]\n\tremote = origin\n\tmerge = \"{full}\"\n"
    )
}
