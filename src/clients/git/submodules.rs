//! What a tree says of its submodules.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::{Depth, Git, GitError, Want, failed_to, write};
use crate::decide::inputs::{Mode, Tree};
use crate::names::{CommitId, GitPath};

/// The addresses of submodules, as `.gitmodules` has them, by path.
pub type Modules = BTreeMap<GitPath, String>;

impl Git {
    /// The addresses in the `.gitmodules` of a tree; none when there is no such file, or when it is no regular one.
    ///
    /// git reads the text from a file of our own, as settings that nobody applies.
    ///
    /// # Errors
    ///
    /// The file cannot be had, or git cannot read it.
    pub async fn modules(&self, tree: &Tree) -> Result<Modules, GitError> {
        let entry = tree.get(&GitPath::new(".gitmodules"));
        let Some(entry) = entry.filter(|entry| matches!(entry.mode, Mode::File | Mode::Executable)) else {
            return Ok(Modules::new());
        };
        let text = self.blobs(&[entry.id]).await?.remove(&entry.id).unwrap_or_default();
        let file = tempfile::Builder::new().prefix("modules-").tempfile_in(self.private.path());
        let path = file.map_err(failed_to("make a file in", self.private.path()))?.into_temp_path();
        write(&path, &text)?;
        let program = self.local("config").arg("--file").arg(&path).args(["--no-includes", "--null", "--list"]);
        let printed = program.output().await.map_err(|error| self.explain(error))?;
        Ok(read_modules(&printed))
    }

    /// Fetches one commit of a submodule: by its id where the server gives it so, else with everything that has a name.
    ///
    /// # Errors
    ///
    /// The server cannot be asked, or does not have it.
    pub async fn fetch_commit(&self, commit: CommitId) -> Result<(), GitError> {
        let alone = self.fetch(&Want::Commit(commit), Depth::Commits(NonZeroU32::MIN)).await;
        let Err(error @ GitError::Gone { .. }) = alone else { return alone.map(drop) };
        self.fetch(&Want::AllRefs, Depth::Everything).await?;
        if self.has(commit).await? { Ok(()) } else { Err(error) }
    }
}

/// Reads what `git config --null --list` printed: a key, a line end, a value, a NUL.
fn read_modules(printed: &[u8]) -> Modules {
    let mut by_name: BTreeMap<Vec<u8>, (Option<GitPath>, Option<String>)> = BTreeMap::new();
    for pair in printed.split(|&b| b == 0) {
        let Some(end) = pair.iter().position(|&b| b == b'\n') else { continue };
        let (key, value) = (&pair[..end], &pair[end + 1..]);
        let Some(key) = key.strip_prefix(b"submodule.") else { continue };
        // The name may have dots itself.
        let Some(dot) = key.iter().rposition(|&b| b == b'.') else { continue };
        let found = by_name.entry(key[..dot].to_vec()).or_default();
        match &key[dot + 1..] {
            b"path" => found.0 = Some(GitPath::new(value.strip_suffix(b"/").unwrap_or(value))),
            b"url" => found.1 = Some(String::from_utf8_lossy(value).into_owned()),
            _ => {}
        }
    }
    by_name.into_values().filter_map(|(path, url)| Some((path?, url?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_path_is_found_by_the_name_that_has_both() {
        let printed = b"submodule.a.b.path\nvendor/lib/\0submodule.a.b.url\n../lib.git\0submodule.a.b.branch\nx\0\
                        submodule.c.path\nnowhere\0core.bare\nfalse\0flag\0submodule.x\0";
        let found: Vec<_> = read_modules(printed).into_iter().collect();
        assert_eq!(found, [(GitPath::new("vendor/lib"), "../lib.git".to_owned())]);
    }
}
