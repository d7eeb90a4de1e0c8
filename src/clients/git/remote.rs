//! What is asked of the server.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU32;

use sha1::{Digest as _, Sha1};

use super::fetch_pack::{Asked, Fetched};
use super::{Git, GitError, failed_to, words};
use crate::clients::process::{Program, ProgramError, Said};
use crate::names::{Branch, CommitId, ObjectId};

/// How many objects are fetched by their names without git: Dockerfiles and their like.
const FEW_OBJECTS: usize = 32;

/// Where all branches and tags of the server are kept.
const PLACE_OF_ALL: &str = "refs/git-image/all/";

/// The newest commit of a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tip {
    /// The branch.
    pub branch: Branch,
    /// Its newest commit.
    pub commit: CommitId,
    /// The remote's default branch, when it was asked for and the server names one.
    pub default_branch: Option<Branch>,
}

/// Every branch and tag of the remote.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refs {
    /// The branches.
    pub branches: BTreeMap<Branch, CommitId>,
    /// The tags by name, without `refs/tags/`; an annotated tag with the commit that it points to.
    pub tags: BTreeMap<String, CommitId>,
    /// What further branches point to, whose names are none that [`Branch`] allows. They live all the same.
    pub others: Vec<CommitId>,
    /// The branch that the remote's HEAD names.
    pub default_branch: Option<Branch>,
}

/// What is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// A branch.
    Branch(Branch),
    /// A branch whose tip was asked for just now.
    Tip(Tip),
    /// A commit.
    Commit(CommitId),
    /// Every branch and tag; those that are gone there go here.
    AllRefs,
}

/// How much of the history is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What is new; where history ended before, it ends still.
    Keep,
    /// This many commits from the tip; what lies deeper is cut off.
    Commits(NonZeroU32),
    /// This many more commits than before.
    DeepenBy(NonZeroU32),
    /// All of it.
    Everything,
}

impl Git {
    /// The tip of a branch, or with `None` of the branch that the remote's HEAD names: one request, or `git ls-remote`.
    ///
    /// `default_branch` is known only with `None`: a server that is asked for one branch need not list its other refs.
    ///
    /// # Errors
    ///
    /// The server cannot be asked, or has no such branch.
    pub async fn tip(&self, branch: Option<&Branch>) -> Result<Tip, GitError> {
        let Some(branch) = branch else { return self.tip_and_default_branch(None).await };
        if let Some(tip) = self.server.tip(Some(branch)).await {
            return Ok(tip);
        }
        let listed = self.ls_remote(&["--heads"], &[branch.full_ref().as_str()]).await?;
        self.tip_in(listed, branch)
    }

    /// The tip of a branch as [`Git::tip`] gives it, and the default branch with it: still one question.
    ///
    /// # Errors
    ///
    /// As [`Git::tip`].
    pub async fn tip_and_default_branch(&self, branch: Option<&Branch>) -> Result<Tip, GitError> {
        if let Some(tip) = self.server.tip_and_default_branch(branch).await {
            return Ok(tip);
        }
        let full = branch.map_or_else(|| "refs/heads/*".to_owned(), Branch::full_ref);
        let listed = self.ls_remote(&["--symref"], &["HEAD", full.as_str()]).await?;
        match branch.cloned().or_else(|| listed.head.clone()) {
            Some(branch) => self.tip_in(listed, &branch),
            None => Err(GitError::NoDefaultBranch { repository: self.repository().clone() }),
        }
    }

    /// Every branch and tag of the remote. A repository without any has none: that is no error.
    ///
    /// # Errors
    ///
    /// The server cannot be asked, or its answer is cut off.
    pub async fn refs(&self) -> Result<Refs, GitError> {
        let listed = self.ls_remote(&["--symref"], &[]).await?;
        Ok(listed.into_refs())
    }

    /// Every branch and tag as [`Want::AllRefs`] was last fetched: of all of these, everything is here. The default branch
    /// is none of what is fetched.
    ///
    /// # Errors
    ///
    /// Nothing was fetched, or our repository is damaged.
    pub async fn fetched_refs(&self) -> Result<Refs, GitError> {
        let printed =
            self.local("show-ref").arg("--dereference").output().await.map_err(|error| self.explain(error))?;
        Ok(Listed::read_local(&printed).into_refs())
    }

    /// Fetches commits and trees, and blobs only from a server that cannot leave them out. Gives the commit that a
    /// branch or commit was wanted for; for all refs `None`.
    ///
    /// # Errors
    ///
    /// The server cannot be asked, does not have it, or breaks off.
    pub async fn fetch(&self, want: &Want, depth: Depth) -> Result<Option<CommitId>, GitError> {
        if let Some(commit) = self.fetch_known(want, depth).await {
            return Ok(Some(commit));
        }
        let depth = match depth {
            Depth::Keep => None,
            Depth::Commits(count) => Some(format!("--depth={count}")),
            Depth::DeepenBy(count) => Some(format!("--deepen={count}")),
            // What git itself sends for --unshallow, which it refuses when nothing is cut off.
            Depth::Everything => Some("--depth=2147483647".to_owned()),
        };
        let (flags, refspecs, local) = match want {
            Want::Branch(branch) | Want::Tip(Tip { branch, .. }) => {
                let local = place_of_branch(branch);
                (None, vec![format!("+{}:{local}", branch.full_ref())], Some(local))
            }
            Want::Commit(commit) => {
                let local = place_of_commit(*commit);
                (None, vec![format!("+{commit}:{local}")], Some(local))
            }
            Want::AllRefs => {
                let all = |kind| format!("+refs/{kind}/*:{PLACE_OF_ALL}{kind}/*");
                (Some("--prune"), vec![all("heads"), all("tags")], None)
            }
        };
        let program = self.fetch_command().args(flags).args(depth).args(["--end-of-options", "origin"]).args(refspecs);
        match (self.ask(program).await, want) {
            (Err(GitError::Gone { said, .. }), Want::Branch(branch) | Want::Tip(Tip { branch, .. }))
                if said.0.contains("couldn't find remote ref") =>
            {
                Err(GitError::NoBranch { branch: branch.clone(), repository: self.repository().clone() })
            }
            (Err(error), _) => Err(error),
            (Ok(_), _) => local.map(|local| self.loose_ref(&local)).transpose(),
        }
    }

    /// The tip of a branch as it was last fetched. `None`: it was not.
    pub fn fetched(&self, branch: &Branch) -> Option<CommitId> {
        self.loose_ref(&place_of_branch(branch)).ok()
    }

    /// Fetches a commit that is known by its name, in one request of our own. `None`: git must do it.
    async fn fetch_known(&self, want: &Want, depth: Depth) -> Option<CommitId> {
        if self.borrows() {
            return None;
        }
        let (commit, local) = match want {
            Want::Tip(Tip { branch, commit, .. }) => (*commit, place_of_branch(branch)),
            Want::Commit(commit) => (*commit, place_of_commit(*commit)),
            Want::Branch(_) | Want::AllRefs => return None,
        };
        let boundary = self.boundary().ok()?;
        let haves: Vec<CommitId> = self.loose_ref(&local).into_iter().collect();
        let asked = Asked { wants: &[commit.object()], depth, haves: &haves, boundary: &boundary };
        let fetched = self.server.fetch(&asked).await?;
        self.keep(&fetched).await?;
        // A kill between these steps leaves objects to which nothing leads, and a boundary of commits that are not there.
        let after = fetched.boundary(&boundary);
        if after != boundary {
            let lines: String = after.iter().map(|commit| format!("{commit}\n")).collect();
            self.replace("shallow", &lines)?;
        }
        self.replace(&local, &format!("{commit}\n"))?;
        Some(commit)
    }

    /// Puts the objects of a pack into our repository. `None`: git does not take it.
    async fn keep(&self, fetched: &Fetched) -> Option<()> {
        if !fetched.has_objects() {
            return Some(());
        }
        let program = self.local("index-pack").args(["--stdin", "--fix-thin", "--promisor"]);
        program.input(fetched.pack.as_slice()).output().await.ok().map(drop)
    }

    /// Writes a file of our repository, whole or not at all.
    fn replace(&self, name: &str, text: &str) -> Option<()> {
        let path = self.directory.join(name);
        fs::create_dir_all(path.parent()?).ok()?;
        // What a kill leaves of it is removed with git's own locks.
        let lock = self.directory.join(format!("{name}.lock"));
        fs::write(&lock, text).and_then(|()| fs::rename(&lock, &path)).ok()
    }

    /// Fetches these objects alone, in one request.
    pub(super) async fn fetch_objects(&self, ids: &[ObjectId]) -> Result<(), GitError> {
        let asked = Asked { wants: ids, depth: Depth::Keep, haves: &[], boundary: &[] };
        // More of them may be a whole checkout, which git writes to the disk while it comes.
        if ids.len() <= FEW_OBJECTS
            && !self.borrows()
            && let Some(fetched) = self.server.fetch(&asked).await
            && self.keep(&fetched).await.is_some()
        {
            return Ok(());
        }
        let lines: String = ids.iter().map(|id| format!("{id}\n")).collect();
        // What we have says nothing about these, so it is not told.
        let program = self.remote_with("fetch", &["-c", "fetch.negotiationAlgorithm=noop"]);
        let program = fetch_flags(program).args(["--stdin", "--end-of-options", "origin"]).input(lines);
        self.ask(program).await.map(drop)
    }

    /// A git command that speaks to the server.
    pub(super) fn remote(&self, command: &str) -> Program {
        self.remote_with(command, &[])
    }

    /// Runs a command that speaks to the server.
    pub(super) async fn ask(&self, program: Program) -> Result<Vec<u8>, GitError> {
        let result = program.output().await;
        let result = result.map_err(|error| words::classify(error, self.repository(), Some(self.login.kind())));
        self.login.say_accepted(&self.say);
        // ssh knows only that the connection was closed.
        if result.is_err()
            && let Some(fault) = self.login.proxy_fault(self.repository())
        {
            return Err(fault);
        }
        match result {
            // ssh says nothing of a passphrase that does not fit: it goes on without the key.
            Err(error @ GitError::Refused { .. }) => Err(self.judge_key().await.unwrap_or(error)),
            result => result,
        }
    }

    /// The error of a private key that the passphrase does not open. `None`: it is not that, or nobody can tell.
    async fn judge_key(&self) -> Option<GitError> {
        let program = Program::new("ssh-keygen", "ssh-keygen", &self.environment)
            .args(["-y", "-f"])
            .arg(self.login.locked_key()?)
            .envs(self.login.variables().map(|(name, value)| (name, value)));
        match program.output().await {
            Err(ProgramError::Failed { .. }) => {
                let said = Said("`source.git.private_key_passphrase` does not open it".to_owned());
                Some(GitError::Key { repository: self.repository().clone(), said })
            }
            _ => None,
        }
    }

    pub(super) fn remote_with(&self, command: &str, before: &[&str]) -> Program {
        self.command_with(before, command)
            .env("GIT_DIR", &self.directory)
            .envs(self.environment.ssh_agent())
            .envs(self.login.variables().map(|(name, value)| (name, value)))
    }

    fn fetch_command(&self) -> Program {
        fetch_flags(self.remote("fetch"))
    }

    async fn ls_remote(&self, flags: &[&str], patterns: &[&str]) -> Result<Listed, GitError> {
        let program = self.remote("ls-remote").args(flags).args(["--end-of-options", "origin"]).args(patterns);
        let printed = self.ask(program).await?;
        Listed::read_lines(&printed).ok_or_else(|| GitError::Sha256 { repository: self.repository().clone() })
    }

    fn tip_in(&self, listed: Listed, branch: &Branch) -> Result<Tip, GitError> {
        let none = || GitError::NoBranch { branch: branch.clone(), repository: self.repository().clone() };
        listed.tip(branch).ok_or_else(none)
    }

    /// Reads a ref that a fetch has just written.
    fn loose_ref(&self, name: &str) -> Result<CommitId, GitError> {
        let path = self.directory.join(name);
        let text = fs::read_to_string(&path).map_err(failed_to("read", &path))?;
        text.trim()
            .parse()
            .map_err(|error| failed_to("read", &path)(std::io::Error::new(std::io::ErrorKind::InvalidData, error)))
    }
}

/// Our ref for a branch of the server. Hashed: branches `a` and, later, `a/b` must both have a place.
fn place_of_branch(branch: &Branch) -> String {
    format!("refs/git-image/branches/{}", hex::encode(Sha1::digest(branch.as_str())))
}

/// Our ref for a commit of the server.
fn place_of_commit(commit: CommitId) -> String {
    format!("refs/git-image/commits/{commit}")
}

fn fetch_flags(program: Program) -> Program {
    program.args([
        "--quiet",
        "--no-tags",
        "--no-write-fetch-head",
        "--no-auto-maintenance",
        "--no-recurse-submodules",
        "--no-show-forced-updates",
    ])
}

/// The refs that a server told of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    /// What each points to, by its full name.
    pub(super) refs: BTreeMap<Vec<u8>, CommitId>,
    /// The branch that HEAD names.
    pub(super) head: Option<Branch>,
}

impl Listed {
    /// Notes that HEAD is this ref, whether or not the ref itself is listed.
    pub(super) fn point_head_to(&mut self, target: &[u8], commit: CommitId) {
        let name = target.strip_prefix(b"refs/heads/").and_then(|name| std::str::from_utf8(name).ok());
        self.head = name.and_then(|name| name.parse().ok());
        self.refs.insert(target.to_vec(), commit);
    }

    /// The tip of a branch. `None`: it is not among these.
    pub(super) fn tip(self, branch: &Branch) -> Option<Tip> {
        // A pattern matches the end of a name too: refs/x/refs/heads/master is no branch.
        let commit = *self.refs.get(branch.full_ref().as_bytes())?;
        Some(Tip { branch: branch.clone(), commit, default_branch: self.head })
    }

    /// What `git ls-remote` printed. `None`: the names of the objects are those of SHA-256.
    pub(super) fn read_lines(printed: &[u8]) -> Option<Self> {
        let mut listed = Self::default();
        for line in printed.split(|&b| b == b'\n') {
            let Some(tab) = line.iter().position(|&b| b == b'\t') else { continue };
            let (value, name) = (String::from_utf8_lossy(&line[..tab]), &line[tab + 1..]);
            if let Some(target) = value.strip_prefix("ref: refs/heads/") {
                if name == b"HEAD" {
                    listed.head = target.parse().ok();
                }
            } else if let Ok(commit) = value.parse() {
                listed.refs.insert(name.to_vec(), commit);
            } else if value.len() == 64 {
                return None;
            }
        }
        Some(listed)
    }

    /// What `git show-ref --dereference` printed of all branches and tags that were fetched, by their names on the server.
    fn read_local(printed: &[u8]) -> Self {
        let mut listed = Self::default();
        for line in printed.split(|&b| b == b'\n') {
            let Some(space) = line.iter().position(|&b| b == b' ') else { continue };
            let commit = String::from_utf8_lossy(&line[..space]).parse();
            if let (Some(name), Ok(commit)) = (line[space + 1..].strip_prefix(PLACE_OF_ALL.as_bytes()), commit) {
                listed.refs.insert([b"refs/", name].concat(), commit);
            }
        }
        listed
    }

    /// Branches and tags; what is neither is left out.
    pub(super) fn into_refs(self) -> Refs {
        let mut refs = Refs { default_branch: self.head, ..Refs::default() };
        for (name, commit) in self.refs {
            if let Some(name) = name.strip_prefix(b"refs/heads/") {
                match std::str::from_utf8(name).ok().and_then(|name| name.parse().ok()) {
                    Some(branch) => drop(refs.branches.insert(branch, commit)),
                    None => refs.others.push(commit),
                }
            } else if let Some(name) = name.strip_prefix(b"refs/tags/") {
                // The line of the commit, `^{}`, follows the line of the tag and takes its place.
                let name = name.strip_suffix(b"^{}").unwrap_or(name);
                refs.tags.insert(String::from_utf8_lossy(name).into_owned(), commit);
            }
        }
        refs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_ls_remote_give_refs_and_the_default_branch() {
        let id = |digit: &str| digit.repeat(40);
        let text = format!(
            "ref: refs/heads/main\tHEAD\n{0}\tHEAD\n{0}\trefs/heads/main\n{1}\trefs/tags/v1\n{0}\trefs/tags/v1^{{}}\n",
            id("a"),
            id("b")
        );
        let listed = Listed::read_lines(text.as_bytes()).expect("the names are those of SHA-1");
        assert_eq!(listed.head.map(|branch| branch.to_string()), Some("main".to_owned()));
        let names: Vec<_> = listed.refs.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        assert_eq!(names, ["HEAD", "refs/heads/main", "refs/tags/v1", "refs/tags/v1^{}"]);
    }

    #[test]
    fn what_was_fetched_of_all_refs_reads_as_the_server_lists_it() {
        let id = |digit: &str| digit.repeat(40);
        let listed = format!("{0}\trefs/heads/a/b\n{1}\trefs/tags/v1\n{0}\trefs/tags/v1^{{}}\n", id("a"), id("b"));
        let local = listed.replace("\trefs/", " refs/git-image/all/");
        let local = format!("{local}{} refs/git-image/branches/x\n", id("c"));
        assert_eq!(Some(Listed::read_local(local.as_bytes())), Listed::read_lines(listed.as_bytes()));
    }

    #[test]
    fn names_of_sha256_are_told_from_no_refs() {
        assert!(Listed::read_lines(format!("{}\tHEAD\n", "a".repeat(64)).as_bytes()).is_none());
        assert!(Listed::read_lines(b"").is_some_and(|listed| listed.refs.is_empty()));
    }
}
