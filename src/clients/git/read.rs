//! What the objects in our repository say. Nothing here speaks to the server, but [`Git::blobs`] for missing ones.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _};

use super::{Git, GitError, is_safe};
use crate::clients::process::{ProgramError, Said};
use crate::decide::inputs::{Entry, Mode, Tree};
use crate::decide::versions::{LineCommit, Parent};
use crate::names::{CommitId, GitPath, ObjectId};
use crate::request::{CommitFilter, Patterns};

/// The most that is read of one blob: Dockerfiles and their like are far smaller.
const BLOB_BYTES: u64 = 8 * 1024 * 1024;

/// What a commit says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitFacts {
    /// The author's name.
    pub author_name: String,
    /// The author's address.
    pub author_email: String,
    /// When it was written.
    pub author_date: Timestamp,
    /// When it was committed.
    pub commit_date: Timestamp,
    /// The first paragraph of the message, on one line.
    pub subject: String,
    /// The whole message.
    pub message: String,
}

/// A setting of `.gitattributes` for one path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Setting {
    /// Nothing is said.
    #[default]
    Unspecified,
    /// `name`.
    Set,
    /// `-name`.
    Unset,
    /// `name=value`.
    Value(String),
}

/// The attributes that change a file between the object and the disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// `text`.
    pub text: Setting,
    /// `eol`.
    pub eol: Setting,
    /// `filter`.
    pub filter: Setting,
    /// `ident`.
    pub ident: Setting,
    /// `working-tree-encoding`.
    pub encoding: Setting,
}

impl Attributes {
    /// Whether the file is kept by Git LFS.
    pub fn is_lfs(&self) -> bool {
        self.filter == Setting::Value("lfs".to_owned())
    }
}

/// Every commit of a history with its time and its first parent.
#[derive(Debug, Clone, Default)]
pub struct FirstParents(HashMap<CommitId, (i64, Option<CommitId>)>);

impl FirstParents {
    /// The first-parent line from a tip, newest first, each with the time when it was committed, in seconds of Unix.
    pub fn line(&self, tip: CommitId) -> impl Iterator<Item = (CommitId, i64)> {
        let mut next = Some(tip);
        std::iter::from_fn(move || {
            let commit = next?;
            let &(time, parent) = self.0.get(&commit)?;
            next = parent;
            Some((commit, time))
        })
    }
}

impl Git {
    /// Whether a commit is in our repository, or in what it borrows.
    ///
    /// # Errors
    ///
    /// Our repository is damaged.
    pub async fn has(&self, commit: CommitId) -> Result<bool, GitError> {
        let program = self.local("cat-file").arg("--batch-check").input(format!("{commit}\n"));
        let printed = program.output().await.map_err(|error| self.explain(error))?;
        Ok(String::from_utf8_lossy(&printed).contains(" commit "))
    }

    /// The first-parent line from a commit, newest first, at most `limit` commits, or until history ends or is cut off.
    ///
    /// The changed paths are those that differ from the first parent; a rename is a path that goes and one that comes.
    ///
    /// # Errors
    ///
    /// A commit or a tree is not in our repository.
    pub async fn line(&self, from: CommitId, limit: usize) -> Result<Vec<LineCommit>, GitError> {
        let boundary: BTreeSet<CommitId> = self.boundary()?.into_iter().collect();
        // --raw and not --name-only: its lines begin with a colon, so no path can pass for the next commit.
        let program = self
            .local("log")
            .args(["--first-parent", "--diff-merges=first-parent", "--root", "--raw", "--no-abbrev", "-z"])
            .args(["--no-renames", "--ignore-submodules=none", "--no-show-signature", "--no-notes", "--no-decorate"])
            .args(["--encoding=UTF-8", "--format=%x01%H %P%x00%B%x00"])
            .arg(format!("--max-count={limit}"))
            .args(["--end-of-options".to_owned(), from.to_string(), "--".to_owned()]);
        let printed = program.output().await.map_err(|error| self.explain(error))?;
        let line = read_line(&printed, &boundary);
        let mut line = line.ok_or_else(|| self.damaged("git log printed what was not asked for"))?;
        let CommitFilter { include, exclude } = &self.commit_filter;
        let included = self.matching(&line, include).await?;
        // With --invert-grep, git (2.39) takes --all-match for any.
        let excluded = self.matching(&line, exclude).await?;
        for commit in &mut line {
            let is_in = |matching: &BTreeSet<CommitId>| matching.contains(&commit.id);
            commit.is_filtered = !included.as_ref().is_none_or(is_in) || excluded.as_ref().is_some_and(is_in);
        }
        Ok(line)
    }

    /// Which commits of a line match patterns, as git itself matches them. `None`: there are no patterns.
    async fn matching(&self, line: &[LineCommit], patterns: &Patterns) -> Result<Option<BTreeSet<CommitId>>, GitError> {
        if patterns.any_or_all.is_empty() {
            return Ok(None);
        }
        let ids: String = line.iter().map(|commit| format!("{}\n", commit.id)).collect();
        let program = self
            .local("rev-list")
            .args(["--no-walk=unsorted", "--stdin", "--encoding=UTF-8"])
            .args(patterns.all_match.then_some("--all-match"))
            .args(patterns.any_or_all.iter().map(|pattern| format!("--grep={pattern}")))
            .input(ids);
        match program.output().await {
            Ok(printed) => {
                Ok(Some(String::from_utf8_lossy(&printed).lines().filter_map(|line| line.parse().ok()).collect()))
            }
            Err(ProgramError::Failed { said, .. }) if said.0.contains("command line, '") => {
                Err(GitError::Filter { said })
            }
            Err(error) => Err(self.explain(error)),
        }
    }

    /// Every path of a commit that is no directory.
    ///
    /// # Errors
    ///
    /// The commit or a tree is not in our repository, or names a path that would lie outside of a checkout.
    pub async fn tree(&self, commit: CommitId) -> Result<Tree, GitError> {
        let program =
            self.local("ls-tree").args(["-r", "-z", "--full-tree", "--end-of-options"]).arg(commit.to_string());
        let printed = program.output().await.map_err(|error| self.explain(error))?;
        let mut tree = Tree::new();
        for line in printed.split(|&b| b == 0).filter(|line| !line.is_empty()) {
            let (path, entry) = read_entry(line).ok_or_else(|| self.damaged("git ls-tree printed an unknown mode"))?;
            if !is_safe(&path) {
                let repository = self.repository().clone();
                return Err(GitError::BadPath { commit, repository, path: path.to_string() });
            }
            tree.insert(path, entry);
        }
        Ok(tree)
    }

    /// The contents of blobs, verified against their names. Those that are missing are fetched in one request.
    ///
    /// # Errors
    ///
    /// A blob has more than 8 MiB, is on neither side, or has other content than its name says.
    pub async fn blobs(&self, ids: &[ObjectId]) -> Result<BTreeMap<ObjectId, Vec<u8>>, GitError> {
        let ids: BTreeSet<ObjectId> = ids.iter().copied().collect();
        let (mut found, missing) = self.local_blobs(ids).await?;
        if missing.is_empty() {
            return Ok(found);
        }
        self.fetch_objects(&missing).await?;
        let (fetched, missing) = self.local_blobs(missing.into_iter().collect()).await?;
        if let Some(&object) = missing.first() {
            return Err(GitError::Missing { object, repository: self.repository().clone() });
        }
        found.extend(fetched);
        Ok(found)
    }

    /// Fetches those of these blobs that are missing, of any size, in one request.
    pub(super) async fn complete(&self, ids: impl IntoIterator<Item = ObjectId>) -> Result<(), GitError> {
        let lines: String = ids.into_iter().map(|id| format!("{id}\n")).collect();
        if lines.is_empty() {
            return Ok(());
        }
        let program = self.local("cat-file").args(["--batch-check=%(objectname)", "--buffer"]).input(lines);
        let printed = program.output().await.map_err(|error| self.explain(error))?;
        let printed = String::from_utf8_lossy(&printed);
        let missing = printed.lines().filter_map(|line| line.strip_suffix(" missing")?.parse().ok());
        let missing: Vec<ObjectId> = missing.collect();
        if missing.is_empty() { Ok(()) } else { self.fetch_objects(&missing).await }
    }

    /// What a commit says of itself.
    ///
    /// # Errors
    ///
    /// It is not in our repository.
    pub async fn commit(&self, id: CommitId) -> Result<CommitFacts, GitError> {
        let program = self
            .local("log")
            .args(["--max-count=1", "--no-show-signature", "--no-notes", "--no-decorate", "--encoding=UTF-8", "-z"])
            .args(["--format=%an%x00%ae%x00%at%x00%ct%x00%s%x00%B", "--no-patch", "--end-of-options"])
            .args([id.to_string(), "--".to_owned()]);
        let printed = program.output().await.map_err(|error| self.explain(error))?;
        read_facts(&printed).ok_or_else(|| self.damaged("git log printed what was not asked for"))
    }

    /// Which of these commits are one of the tips, or an ancestor of one.
    ///
    /// # Errors
    ///
    /// The history is cut off, so that "not reachable" could not be told from "not fetched"; or a tip is missing.
    pub async fn reachable(&self, commits: &[CommitId], tips: &[CommitId]) -> Result<BTreeSet<CommitId>, GitError> {
        if self.is_shallow()? {
            return Err(GitError::Shallow { repository: self.repository().clone() });
        }
        if commits.is_empty() || tips.is_empty() {
            return Ok(BTreeSet::new());
        }
        let wanted: BTreeSet<CommitId> = commits.iter().copied().collect();
        let lines: String = tips.iter().map(|tip| format!("{tip}\n")).collect();
        let program = self.local("rev-list").arg("--stdin").input(lines);
        let read = program.read(async |stdout| {
            let mut found = BTreeSet::new();
            let mut line = String::new();
            while let Ok(1..) = stdout.read_line(&mut line).await {
                found.extend(line.trim().parse().ok().filter(|commit| wanted.contains(commit)));
                line.clear();
            }
            Ok::<_, ProgramError>(found)
        });
        read.await.map_err(|error| self.explain(error))
    }

    /// The first parents of every commit that the tips reach. Some 100 bytes of memory for each.
    ///
    /// # Errors
    ///
    /// A tip is missing, or our repository is damaged.
    pub async fn first_parents(&self, tips: &[CommitId]) -> Result<FirstParents, GitError> {
        let mut parents = HashMap::new();
        if tips.is_empty() {
            return Ok(FirstParents(parents));
        }
        let lines: String = tips.iter().map(|tip| format!("{tip}\n")).collect();
        let program = self.local("rev-list").args(["--timestamp", "--parents", "--stdin"]).input(lines);
        let read = program.read(async |stdout| {
            let mut line = String::new();
            while let Ok(1..) = stdout.read_line(&mut line).await {
                // The time, the commit, its parents.
                let mut words = line.split_whitespace();
                let time = words.next().and_then(|time| time.parse().ok());
                let mut ids = words.map_while(|id| id.parse().ok());
                if let (Some(time), Some(commit)) = (time, ids.next()) {
                    parents.insert(commit, (time, ids.next()));
                }
                line.clear();
            }
            Ok::<_, ProgramError>(FirstParents(parents))
        });
        read.await.map_err(|error| self.explain(error))
    }

    /// The attributes of these paths in the tree of a commit; of nothing else: neither files on disk nor a user's own.
    ///
    /// # Errors
    ///
    /// A `.gitattributes` cannot be had, or our repository is damaged.
    pub async fn attributes(
        &self,
        commit: CommitId,
        paths: &BTreeSet<GitPath>,
    ) -> Result<BTreeMap<GitPath, Attributes>, GitError> {
        if paths.is_empty() {
            return Ok(BTreeMap::new());
        }
        let tree = self.tree(commit).await?;
        let files = tree.iter().filter(|(path, _)| path.parts().last() == Some(b".gitattributes"));
        let files: Vec<ObjectId> = files
            .filter(|(path, _)| paths.iter().any(|of| of.is_within(&path.parent())))
            .map(|(_, at)| at.id)
            .collect();
        if files.is_empty() {
            return Ok(paths.iter().map(|path| (path.clone(), Attributes::default())).collect());
        }
        self.complete(files).await?;
        let index = self.read_index(commit).await?;
        let mut input = Vec::new();
        for path in paths {
            input.extend_from_slice(path.as_bytes());
            input.push(0);
        }
        let program = self
            .local("check-attr")
            .env("GIT_INDEX_FILE", &index)
            .args(["--cached", "--stdin", "-z", "text", "eol", "filter", "ident", "working-tree-encoding"])
            .input(input);
        let printed = program.output().await.map_err(|error| self.explain(error))?;
        Ok(read_attributes(&printed))
    }

    /// An index with the tree of a commit.
    pub(super) async fn read_index(&self, commit: CommitId) -> Result<tempfile::TempPath, GitError> {
        let index = self.index()?;
        let program = self.local("read-tree").env("GIT_INDEX_FILE", &index).arg(commit.to_string());
        program.output().await.map_err(|error| self.explain(error))?;
        Ok(index)
    }

    /// The blobs that we have, and the ids of those that we have not.
    async fn local_blobs(
        &self,
        ids: BTreeSet<ObjectId>,
    ) -> Result<(BTreeMap<ObjectId, Vec<u8>>, Vec<ObjectId>), GitError> {
        let (mut found, mut missing) = (BTreeMap::new(), Vec::new());
        if ids.is_empty() {
            return Ok((found, missing));
        }
        let lines: String = ids.iter().map(|id| format!("{id}\n")).collect();
        let program = self.local("cat-file").args(["--batch", "--buffer"]).input(lines);
        let read = program.read(async |stdout| {
            for &object in &ids {
                let mut header = String::new();
                stdout.read_line(&mut header).await.map_err(|_| self.damaged("git cat-file broke off"))?;
                if header.ends_with(" missing\n") {
                    missing.push(object);
                    continue;
                }
                let size = header.trim_end().rsplit(' ').next().and_then(|size| size.parse().ok());
                let size_bytes: u64 = size.ok_or_else(|| self.damaged("git cat-file broke off"))?;
                if size_bytes > BLOB_BYTES {
                    let (repository, limit_bytes) = (self.repository().clone(), BLOB_BYTES);
                    return Err(GitError::TooLarge { object, repository, size_bytes, limit_bytes });
                }
                let mut content = Vec::new();
                let whole = stdout.take(size_bytes + 1).read_to_end(&mut content).await;
                if whole.is_err() || content.pop() != Some(b'\n') {
                    return Err(self.damaged("git cat-file broke off"));
                }
                // git does not verify a loose object that it merely prints, and a borrowed one may be forged.
                if blob_id(&content) != object {
                    return Err(GitError::Forged { object, repository: self.repository().clone() });
                }
                found.insert(object, content);
            }
            Ok(())
        });
        read.await.map_err(|error| match error {
            GitError::Program(error) => self.explain(error),
            error => error,
        })?;
        Ok((found, missing))
    }

    fn damaged(&self, what: &str) -> GitError {
        GitError::Damaged { repository: self.repository().clone(), said: Said(what.to_owned()) }
    }
}

/// The name that git gives to a blob with this content.
pub(crate) fn blob_id(content: &[u8]) -> ObjectId {
    let mut hash = Sha1::new();
    hash.update(format!("blob {}\0", content.len()));
    hash.update(content);
    ObjectId::from_bytes(hash.finalize().into())
}

/// Reads what `git log -z --raw` printed: header, message, then pairs of a raw line and a path. `None`: it is no such text.
fn read_line(printed: &[u8], boundary: &BTreeSet<CommitId>) -> Option<Vec<LineCommit>> {
    let mut commits: Vec<LineCommit> = Vec::new();
    let mut fields = printed.split(|&b| b == 0);
    while let Some(field) = fields.next() {
        let field = field.strip_prefix(b"\n").unwrap_or(field);
        if field.is_empty() {
            continue;
        }
        if let Some(header) = field.strip_prefix(b"\x01") {
            let mut ids = std::str::from_utf8(header).ok()?.split_whitespace();
            let id: CommitId = ids.next()?.parse().ok()?;
            let parent = match ids.next() {
                Some(parent) => Parent::Commit(parent.parse().ok()?),
                None if boundary.contains(&id) => Parent::Unknown,
                None => Parent::Root,
            };
            let message = String::from_utf8_lossy(fields.next()?);
            let ci_skip = message.contains("[ci skip]") || message.contains("[skip ci]");
            commits.push(LineCommit { id, parent, changed: Vec::new(), ci_skip, is_filtered: false });
        } else if field.starts_with(b":") {
            let path = GitPath::new(fields.next()?);
            let commit = commits.last_mut()?;
            // To git a commit at the boundary is a root, which changes everything. We know better.
            if commit.parent != Parent::Unknown {
                commit.changed.push(path);
            }
        } else {
            return None;
        }
    }
    Some(commits)
}

/// Reads `<mode> <type> <id>\t<path>`.
fn read_entry(line: &[u8]) -> Option<(GitPath, Entry)> {
    let tab = line.iter().position(|&b| b == b'\t')?;
    let mut words = std::str::from_utf8(&line[..tab]).ok()?.split(' ');
    let mode = match words.next()? {
        "100755" => Mode::Executable,
        "120000" => Mode::Symlink,
        "160000" => Mode::Submodule,
        // Old repositories have 100664: git reads it as 100644.
        mode if mode.starts_with("100") => Mode::File,
        _ => return None,
    };
    let id = words.nth(1)?.parse().ok()?;
    Some((GitPath::new(&line[tab + 1..]), Entry { mode, id }))
}

fn read_facts(printed: &[u8]) -> Option<CommitFacts> {
    let text = String::from_utf8_lossy(printed);
    let mut fields = text.split('\0').map(str::to_owned);
    let (author_name, author_email) = (fields.next()?, fields.next()?);
    // A time that no calendar has is the beginning of all times, as in git itself.
    let mut time = || Some(Timestamp::from_second(fields.next()?.parse().unwrap_or(0)).unwrap_or_default());
    let (author_date, commit_date) = (time()?, time()?);
    let (subject, message) = (fields.next()?, fields.next()?.trim_end().to_owned());
    Some(CommitFacts { author_name, author_email, author_date, commit_date, subject, message })
}

fn read_attributes(printed: &[u8]) -> BTreeMap<GitPath, Attributes> {
    let mut found: BTreeMap<GitPath, Attributes> = BTreeMap::new();
    let mut fields = printed.split(|&b| b == 0);
    while let (Some(path), Some(name), Some(value)) = (fields.next(), fields.next(), fields.next()) {
        let setting = match value {
            b"unspecified" => Setting::Unspecified,
            b"set" => Setting::Set,
            b"unset" => Setting::Unset,
            value => Setting::Value(String::from_utf8_lossy(value).into_owned()),
        };
        let attributes = found.entry(GitPath::new(path)).or_default();
        match name {
            b"text" => attributes.text = setting,
            b"eol" => attributes.eol = setting,
            b"filter" => attributes.filter = setting,
            b"ident" => attributes.ident = setting,
            _ => attributes.encoding = setting,
        }
    }
    found
}
