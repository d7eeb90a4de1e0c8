//! git, through the git program; most servers are asked over HTTP of our own.
//!
//! Every command works on a bare repository of our own, whose configuration is written here, and sees no other
//! configuration. Commands that only read get no credentials, no allowed protocol and no promisor remote, so that
//! nothing but [`Git::tip`], [`Git::refs`], the fetches and [`Git::clone_to`] ever speaks to the server.
//!
//! - `remote`: what is asked of the server; `login`: the credentials for it; `tunnel`: a way to it through a proxy.
//! - `smart_http`: the same without a child that speaks to the server, where nothing is odd; `ls_refs`, `fetch_pack` and
//!   `pkt_line`: what is said then.
//! - `read`: what the local objects say.
//! - `lay_out`: files and clones on disk.
//! - `submodules` and `lfs`: where they are.
//! - `error` and `words`: what went wrong, and how git says it.
//! - `working_tree`: the exception, for the command line: git as the user has set it up.

mod error;
mod fetch_pack;
mod lay_out;
mod lfs;
mod login;
mod ls_refs;
mod pkt_line;
mod read;
mod remote;
mod smart_http;
mod submodules;
mod tunnel;
pub mod user_login;
mod words;
mod working_tree;

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::clients::checkout::Checkout;
use crate::clients::process::{Environment, Program, ProgramError};
use crate::names::{CommitId, GitPath, GitRepository, GitUrl};
use crate::request::{CommitFilter, GitSource};
use crate::say::Say;

pub use error::{GitError, Login};
pub(crate) use read::blob_id;
pub use read::{Attributes, CommitFacts, Setting};
pub use remote::{Depth, Refs, Tip, Want};
pub use smart_http::Server;
pub use submodules::Modules;
pub use tunnel::ProxyFault;
pub use working_tree::{Head, REMOTE, WorkingTree, WorkingTreeError};

/// A bare repository of our own, and the remote that it is a copy of.
pub struct Git {
    directory: PathBuf,
    /// Keys, scripts and index files: only we can read it, and it goes with this value.
    private: TempDir,
    environment: Environment,
    uri: GitUrl,
    login: login::Login,
    commit_filter: CommitFilter,
    /// The short way to the server, where there is one.
    server: Server,
    say: Say,
}

impl fmt::Debug for Git {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Git").field("directory", &self.directory).field("uri", &self.uri).finish_non_exhaustive()
    }
}

impl Git {
    /// Opens our bare repository in `directory`, or makes it there.
    ///
    /// What is in the directory and is not a repository that we made for the same address is removed. Lock files
    /// that a killed git left are removed too: the caller sees to it that nobody else uses the directory.
    ///
    /// `git_config` is for what speaks to the server, and for nothing else: what a commit says, and the files that are
    /// laid out, must not depend on it.
    ///
    /// # Errors
    ///
    /// The directory cannot be written, or `git_config` has a setting that is refused.
    pub async fn open(
        source: &GitSource,
        directory: &Path,
        environment: &Environment,
        say: &Say,
    ) -> Result<Self, GitError> {
        let private = tempfile::Builder::new()
            .prefix("git-image-")
            .tempdir_in(&environment.temporary)
            .map_err(failed_to("make a directory in", &environment.temporary))?;
        let home = private.path().join("home");
        fs::create_dir(&home).map_err(failed_to("make", &home))?;
        let login = login::Login::prepare(source, private.path())?;
        make_repository(directory, &source.uri)?;
        let directory = fs::canonicalize(directory).map_err(failed_to("find", directory))?;
        Ok(Self {
            directory,
            private,
            environment: environment.clone(),
            uri: source.uri.clone(),
            login,
            commit_filter: source.commit_filter.clone(),
            server: Server::of(source, environment),
            say: say.clone(),
        })
    }

    /// Asks through this server, which has been asked before: what it said then counts here too.
    #[must_use]
    pub fn through(self, server: Server) -> Self {
        Self { server, ..self }
    }

    /// Opens a repository of our own for another remote, as a submodule's.
    ///
    /// # Errors
    ///
    /// As [`Git::open`].
    pub async fn beside(&self, source: &GitSource, directory: &Path) -> Result<Self, GitError> {
        Self::open(source, directory, &self.environment, &self.say).await
    }

    /// The canonical name of the remote's repository.
    pub fn repository(&self) -> &GitRepository {
        self.uri.repository()
    }

    /// Whether history ends at a boundary of what was fetched.
    ///
    /// # Errors
    ///
    /// The file with the boundary cannot be read.
    pub fn is_shallow(&self) -> Result<bool, GitError> {
        Ok(!self.boundary()?.is_empty())
    }

    /// Reads an artifact's objects too, and takes over the boundary of its history.
    ///
    /// Its HEAD becomes a ref of ours, so that a fetch asks only for what the artifact lacks. git never reads the
    /// artifact's configuration: only its objects.
    ///
    /// # Errors
    ///
    /// Our files cannot be written, or the artifact's path has a line end.
    pub async fn borrow(&self, checkout: &Checkout) -> Result<(), GitError> {
        use std::os::unix::ffi::OsStrExt as _;

        let objects = checkout.objects();
        let mut line = objects.as_os_str().as_bytes().to_vec();
        if line.contains(&b'\n') || line.starts_with(b"\"") || line.starts_with(b"#") {
            let source =
                io::Error::new(io::ErrorKind::InvalidInput, "git cannot name this path in objects/info/alternates");
            return Err(failed_to("borrow objects from", objects)(source));
        }
        line.push(b'\n');
        write(&self.directory.join("objects/info/alternates"), &line)?;
        let mut boundary = self.boundary()?;
        boundary.extend(checkout.shallow());
        boundary.sort_unstable();
        boundary.dedup();
        if !boundary.is_empty() {
            let lines: String = boundary.iter().map(|commit| format!("{commit}\n")).collect();
            write(&self.directory.join("shallow"), lines.as_bytes())?;
        }
        let head = checkout.head();
        write(&self.directory.join(format!("refs/git-image/borrowed/{head}")), format!("{head}\n").as_bytes())
    }

    /// Whether objects of an artifact are read too.
    fn borrows(&self) -> bool {
        self.directory.join("objects/info/alternates").exists()
    }

    /// The commits whose parents we do not have.
    fn boundary(&self) -> Result<Vec<CommitId>, GitError> {
        let path = self.directory.join("shallow");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(failed_to("read", &path)(error)),
        }
    }

    /// A git command that cannot reach the server.
    fn local(&self, command: &str) -> Program {
        self.command(command).env("GIT_DIR", &self.directory).env("GIT_ALLOW_PROTOCOL", "none")
    }

    /// A git command with what every one of ours has.
    fn command(&self, command: &str) -> Program {
        self.command_with(&[], command)
    }

    /// The same, with options of git itself before the command.
    fn command_with(&self, before: &[&str], command: &str) -> Program {
        // The directory is our own, so that no relative path can mean a file of the step.
        Program::new("git", format!("git {command}"), &self.environment)
            .directory(&self.directory)
            .env("HOME", self.private.path().join("home"))
            .env("TMPDIR", self.private.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_LITERAL_PATHSPECS", "1")
            .args(before)
            .arg(command)
    }

    /// Tells what a failed git means that could not ask the server.
    fn explain(&self, error: ProgramError) -> GitError {
        words::classify(error, self.repository(), None)
    }

    /// A file for an index: git's staging area, which we need for some commands, and never keep.
    fn index(&self) -> Result<tempfile::TempPath, GitError> {
        let file = tempfile::Builder::new().prefix("index-").tempfile_in(self.private.path());
        let path = file.map_err(failed_to("make a file in", self.private.path()))?.into_temp_path();
        // git refuses an empty file as an index; it makes the file.
        fs::remove_file(&path).map_err(failed_to("remove", &path))?;
        Ok(path)
    }
}

/// An error of a file operation of ours.
fn failed_to(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> GitError {
    let path = path.to_owned();
    move |source| GitError::Files { what, path, source }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), GitError> {
    fs::write(path, bytes).map_err(failed_to("write", path))
}

/// The configuration of our repository.
///
/// Nothing in it runs a program. `alternateRefsCommand` must be said: without it, git would list the refs of a
/// borrowed artifact by running itself in the artifact, with the artifact's configuration. The promisor remote is
/// not here but given to each fetch, so that reading never fetches. Nothing is waited for until the disk has it: what a
/// crash of the machine damages is fetched again.
fn config(uri: &GitUrl) -> String {
    let url = uri.as_str().replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "# Written by git-image, format 1. A repository with another text here is made anew.\n\
         [core]\n\trepositoryformatversion = 0\n\tbare = true\n\tlogAllRefUpdates = false\n\
         \thooksPath = /dev/null\n\tfsmonitor = false\n\talternateRefsCommand = true\n\tattributesFile = /dev/null\n\
         \texcludesFile = /dev/null\n\tfsync = none\n\
         [gc]\n\tauto = 0\n\
         [maintenance]\n\tauto = false\n\
         [fetch]\n\twriteCommitGraph = false\n\trecurseSubmodules = false\n\
         [protocol]\n\tversion = 2\n\
         [http]\n\tlowSpeedLimit = 1\n\tlowSpeedTime = 60\n\
         [remote \"origin\"]\n\turl = \"{url}\"\n"
    )
}

/// Makes the repository, or repairs what a kill may have left of it.
fn make_repository(directory: &Path, uri: &GitUrl) -> Result<(), GitError> {
    let config = config(uri);
    fs::create_dir_all(directory).map_err(failed_to("make", directory))?;
    let is_ours = fs::read(directory.join("config")).is_ok_and(|found| found == config.as_bytes())
        // Objects of an artifact of an earlier step are gone with it.
        && !directory.join("objects/info/alternates").exists();
    if is_ours {
        remove_locks(directory)?;
    } else {
        empty(directory)?;
    }
    for name in ["objects/info", "objects/pack", "refs/heads", "refs/git-image/borrowed"] {
        let path = directory.join(name);
        fs::create_dir_all(&path).map_err(failed_to("make", &path))?;
    }
    let (head, branch) = (directory.join("HEAD"), b"ref: refs/heads/none\n");
    if !fs::read(&head).is_ok_and(|found| found == branch) {
        write(&head, branch)?;
    }
    if is_ours {
        return Ok(());
    }
    // The configuration comes last and at once: where it is, everything else is.
    let new = directory.join("config.new");
    write(&new, config.as_bytes())?;
    fs::rename(&new, directory.join("config")).map_err(failed_to("rename", &new))
}

fn empty(directory: &Path) -> Result<(), GitError> {
    for entry in fs::read_dir(directory).map_err(failed_to("read", directory))? {
        let entry = entry.map_err(failed_to("read", directory))?;
        let path = entry.path();
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(failed_to("remove", &path))?;
    }
    Ok(())
}

/// Removes what a killed git leaves: lock files, and packs that it had begun.
fn remove_locks(directory: &Path) -> Result<(), GitError> {
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_directory && !(name.len() == 2 && directory.ends_with("objects")) {
                waiting.push(entry.path());
            } else if !is_directory && (name.ends_with(".lock") || name.starts_with("tmp_")) {
                fs::remove_file(entry.path()).map_err(failed_to("remove", &entry.path()))?;
            }
        }
    }
    Ok(())
}

/// The pairs as git's own variables for settings: `GIT_CONFIG_COUNT`, `GIT_CONFIG_KEY_0` and so on.
fn settings(pairs: impl IntoIterator<Item = (String, String)>) -> Vec<(OsString, OsString)> {
    let mut variables = Vec::new();
    let mut count = 0_usize;
    for (key, value) in pairs {
        variables.push((format!("GIT_CONFIG_KEY_{count}").into(), key.into()));
        variables.push((format!("GIT_CONFIG_VALUE_{count}").into(), value.into()));
        count += 1;
    }
    variables.push(("GIT_CONFIG_COUNT".into(), count.to_string().into()));
    variables
}

/// Whether a checkout may have this path: no empty part, `.`, `..` or `.git`, and no NUL.
fn is_safe(path: &GitPath) -> bool {
    let odd = |part: &[u8]| part.is_empty() || part == b"." || part == b".." || part.eq_ignore_ascii_case(b".git");
    !path.as_bytes().contains(&0) && !path.as_bytes().split(|&b| b == b'/').any(odd)
}

#[cfg(test)]
pub(crate) mod tests;
