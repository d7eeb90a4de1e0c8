//! git: repositories with a history that a test makes, served over HTTP and SSH, and checkouts of them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

use super::certificates::Certificates;
use super::registry::{Account, Transport};
use super::server::{Server, answers, free_port, run, wait_until};
use super::{http, temporary};

/// The time of a repository's first commit; each later one is a minute younger. 2026-01-01T00:00:00Z.
pub const FIRST_COMMIT: u64 = 1_767_225_600;

const BACKEND: &str = "/usr/lib/git-core/git-http-backend";

/// Whether a git server leaves blobs out when it is asked to.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Filters {
    /// It does, as hosting services do.
    #[default]
    Allowed,
    /// It sends everything, as git does by default.
    Refused,
}

/// Which version of its protocol a git server speaks, with who wants it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Protocol {
    /// The second.
    #[default]
    Two,
    /// The first one, of git before 2.18 and of Azure DevOps.
    Zero,
}

/// How a git server is started.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// The only account that may read; none: everybody may.
    pub account: Option<Account<'a>>,
    /// How it is reached.
    pub transport: Transport,
    /// Whether partial clones are possible.
    pub filters: Filters,
    /// Which protocol it speaks.
    pub protocol: Protocol,
}

/// A git server: smart HTTP by lighttpd and `git-http-backend`.
pub struct GitServer {
    server: Server,
    directory: TempDir,
    port: u16,
    filters: Filters,
    certificates: Option<Certificates>,
}

impl GitServer {
    /// Starts one on a free port.
    #[track_caller]
    pub fn start(options: Options<'_>) -> Self {
        let Options { account, transport, filters, protocol } = options;
        let (directory, port) = (temporary(), free_port());
        let path = directory.path();
        std::fs::create_dir(path.join("repositories")).expect("a directory can be made");
        let certificates = (transport == Transport::Tls).then(Certificates::new);
        // The access log goes through a pipe: lighttpd would keep a file's lines in memory for seconds.
        let mut config = format!(
            r#"
server.modules = ("mod_auth", "mod_authn_file", "mod_alias", "mod_setenv", "mod_cgi", "mod_accesslog", "mod_openssl")
server.document-root = "{root}"
server.bind = "127.0.0.1"
server.port = {port}
server.upload-dirs = ("{root}")
accesslog.filename = "|tee {root}/access"
accesslog.format = "%r %>s %I %O"
alias.url = ("" => "{BACKEND}")
cgi.assign = ("" => "")
setenv.set-environment = ("GIT_PROJECT_ROOT" => "{root}/repositories", "GIT_HTTP_EXPORT_ALL" => "1", "PATH" => "/usr/bin:/bin")
"#,
            root = path.display()
        );
        if protocol == Protocol::Zero {
            config += "setenv.set-environment += (\"GIT_PROTOCOL\" => \"version=0\")\n";
        }
        if let Some(Account { username, password }) = account {
            let file = path.join("passwords");
            std::fs::write(&file, format!("{username}:{password}\n")).expect("the password file can be written");
            config += &format!(
                r#"
auth.backend = "plain"
auth.backend.plain.userfile = "{}"
auth.require = ("" => ("method" => "basic", "realm" => "test", "require" => "valid-user"))
"#,
                file.display()
            );
        }
        if let Some(certificates) = &certificates {
            config += &format!("ssl.engine = \"enable\"\nssl.pemfile = \"{}\"\n", certificates.both_file().display());
        }
        let file = path.join("config");
        std::fs::write(&file, config).expect("the configuration can be written");
        let server =
            Server::start(Command::new("lighttpd").arg("-D").arg("-f").arg(&file), &path.join("log"), || answers(port));
        Self { server, directory, port, filters, certificates }
    }

    /// A new, empty repository of this name.
    #[track_caller]
    pub fn repository(&self, name: &str) -> GitRepository {
        GitRepository::new(&self.repositories().join(format!("{name}.git")), self.uri(name), self.filters)
    }

    /// The address of a repository, as `source.uri` has it.
    pub fn uri(&self, name: &str) -> String {
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}/{name}.git", self.port)
    }

    /// Its host and port.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The directory that holds the repositories.
    pub fn repositories(&self) -> PathBuf {
        self.directory.path().join("repositories")
    }

    /// The certificate of its authority as PEM; none for [`Transport::Plain`].
    pub fn ca_certs(&self) -> Option<&str> {
        self.certificates.as_ref().map(|certificates| certificates.authority.as_str())
    }

    /// Ends it, as an outage does.
    pub fn stop(self) {
        self.server.stop();
    }

    /// The requests about one repository so far: `GET /acme.git/info/refs?service=git-upload-pack HTTP/1.1 200`.
    #[track_caller]
    pub fn requests_for(&self, name: &str) -> Vec<String> {
        let request = |line: String| line.rsplitn(3, ' ').last().unwrap_or_default().to_owned();
        self.log_of(name).into_iter().map(request).collect()
    }

    /// How much was asked and answered about one repository so far.
    #[track_caller]
    pub fn traffic_of(&self, name: &str) -> Traffic {
        let log = self.log_of(name);
        let bytes = log.iter().flat_map(|line| line.rsplit(' ').take(2));
        Traffic { requests: log.len(), bytes: bytes.map(|count| count.parse::<usize>().expect("a number")).sum() }
    }

    /// The lines of the access log about one repository.
    ///
    /// It is written after an answer, so this sends one request more, and waits for that one's line.
    #[track_caller]
    fn log_of(&self, name: &str) -> Vec<String> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let mark = format!("mark-{}", LAST.fetch_add(1, Ordering::Relaxed));
        http::get(&self.uri(&mark));
        let log = || std::fs::read_to_string(self.directory.path().join("access")).unwrap_or_default();
        wait_until("the git server's access log", || log().contains(&format!("/{mark}.git ")));
        log().lines().filter(|line| line.contains(&format!("/{name}.git/"))).map(str::to_owned).collect()
    }
}

/// Requests, and the bytes of them and of their answers, with their heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    pub requests: usize,
    pub bytes: usize,
}

/// A change of one path in a commit.
#[derive(Clone, Debug)]
pub enum Change<'a> {
    /// A file with this content.
    Write(&'a str, &'a [u8]),
    /// An executable file with this content.
    Executable(&'a str, &'a [u8]),
    /// A symbolic link to this target.
    Symlink(&'a str, &'a str),
    /// A submodule at this commit.
    Submodule(&'a str, &'a str),
    /// Nothing there any more; a directory goes whole.
    Remove(&'a str),
}

/// A file with this text: the common [`Change`].
pub fn file<'a>(path: &'a str, text: &'a str) -> Change<'a> {
    Change::Write(path, text.as_bytes())
}

/// A bare repository on a server. Commits are made in it directly; their times are fixed, so their ids repeat.
#[derive(Debug)]
pub struct GitRepository {
    path: PathBuf,
    uri: String,
    commits: AtomicU64,
}

impl GitRepository {
    #[track_caller]
    fn new(path: &Path, uri: String, filters: Filters) -> Self {
        run(git().args(["init", "--quiet", "--bare", "--initial-branch=master"]).arg(path));
        let repository = Self { path: path.to_owned(), uri, commits: AtomicU64::new(0) };
        let mut settings = vec![("http.receivepack", "true"), ("uploadpack.allowAnySHA1InWant", "true")];
        if filters == Filters::Allowed {
            settings.push(("uploadpack.allowFilter", "true"));
        }
        for (key, value) in settings {
            repository.git(&["config", key, value]);
        }
        repository
    }

    /// Its address, as `source.uri` has it.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Commits changes on top of a branch, which begins with them if it is not there. Returns the commit's id.
    #[track_caller]
    pub fn commit(&self, branch: &str, changes: &[Change<'_>]) -> String {
        let parents: Vec<String> = self.find(branch).into_iter().collect();
        let number = self.commits.load(Ordering::Relaxed) + 1;
        self.import(branch, &format!("commit {number}"), &parents, None, changes)
    }

    /// Commits as [`Self::commit`] does, with this message.
    #[track_caller]
    pub fn commit_with_message(&self, branch: &str, message: &str, changes: &[Change<'_>]) -> String {
        let parents: Vec<String> = self.find(branch).into_iter().collect();
        self.import(branch, message, &parents, None, changes)
    }

    /// Merges one branch into another with a merge commit, as a hosting service does. Returns its id.
    #[track_caller]
    pub fn merge(&self, from: &str, into: &str) -> String {
        let tree = self.git(&["merge-tree", "--write-tree", into, from]);
        let parents = [self.id(into), self.id(from)];
        self.import(into, &format!("Merge branch '{from}'"), &parents, Some(&tree), &[])
    }

    /// Merges any number of commits into a branch, with the tree of `tree_of`. Returns the id of the merge commit.
    #[track_caller]
    pub fn merge_all(&self, others: &[&str], into: &str, tree_of: &str) -> String {
        let tree = self.git(&["rev-parse", &format!("{tree_of}^{{tree}}")]);
        let into_now = self.id(&format!("refs/heads/{into}"));
        let parents: Vec<String> = std::iter::once(into_now).chain(others.iter().map(|other| self.id(other))).collect();
        self.import(into, "Merge", &parents, Some(&tree), &[])
    }

    /// Commits the tree that the branch had before its newest commit. Returns the new commit's id.
    #[track_caller]
    pub fn revert(&self, branch: &str) -> String {
        let head = format!("refs/heads/{branch}");
        let tree = self.git(&["rev-parse", &format!("{head}^^{{tree}}")]);
        self.import(branch, "Revert", &[self.id(&head)], Some(&tree), &[])
    }

    /// Begins a branch at a commit or another branch, or moves it there, as a force push does. Returns the commit's id.
    #[track_caller]
    pub fn set(&self, branch: &str, to: &str) -> String {
        let commit = self.id(to);
        self.git(&["update-ref", &format!("refs/heads/{branch}"), &commit]);
        commit
    }

    /// Deletes a branch.
    #[track_caller]
    pub fn delete(&self, branch: &str) {
        self.git(&["update-ref", "-d", &format!("refs/heads/{branch}")]);
    }

    /// The commit that a branch or an expression like `master~2` names.
    #[track_caller]
    pub fn id(&self, revision: &str) -> String {
        self.git(&["rev-parse", "--verify", &format!("{revision}^{{commit}}")])
    }

    /// Runs git in it and returns what it printed.
    #[track_caller]
    pub fn git(&self, arguments: &[&str]) -> String {
        run(git().arg("-C").arg(&self.path).args(arguments))
    }

    /// Clones it as a person does: the default branch is checked out, and the remote is `origin`.
    #[track_caller]
    pub fn clone_to(&self, directory: &Path) -> WorkingTree {
        run(git().args(["clone", "--quiet", &self.uri]).arg(directory));
        WorkingTree { path: directory.to_owned() }
    }

    /// Checks a branch out into a new directory, as Concourse's git resource does: one branch, HEAD detached at the
    /// commit, and what it knows of it in files under `.git`. `depth` is the get step's parameter.
    #[track_caller]
    pub fn checkout(&self, directory: &Path, branch: &str, depth: Option<u32>) {
        let mut clone = git();
        clone.args(["clone", "--quiet", "--single-branch", "--no-tags", "--branch", branch]);
        if let Some(depth) = depth {
            clone.arg(format!("--depth={depth}"));
        }
        // By file, so that any server's repository can be taken; `file://`, because a path would ignore the depth.
        run(clone.arg(format!("file://{}", self.path.display())).arg(directory));
        let within = |arguments: &[&str]| run(git().arg("-C").arg(directory).args(arguments));
        within(&["remote", "set-url", "origin", &self.uri]);
        let commit = within(&["rev-parse", "HEAD"]);
        within(&["checkout", "--quiet", "--force", "--detach", &commit]);
        let write = |name: &str, text: &str| {
            std::fs::write(directory.join(".git").join(name), format!("{text}\n")).expect("a file can be written");
        };
        write("ref", &commit);
        write("short_ref", &commit[..7]);
        write("branch", branch);
        write("commit_message", &within(&["log", "-1", "--format=%B"]));
        write("committer", &within(&["log", "-1", "--format=%ce"]));
    }

    fn find(&self, branch: &str) -> Option<String> {
        let output = git()
            .arg("-C")
            .arg(&self.path)
            .args(["rev-parse", "--verify", "--quiet", &format!("refs/heads/{branch}")])
            .output()
            .expect("git runs");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Makes a commit without a working tree.
    #[track_caller]
    fn import(
        &self,
        branch: &str,
        message: &str,
        parents: &[String],
        tree: Option<&str>,
        changes: &[Change<'_>],
    ) -> String {
        let time = FIRST_COMMIT + 60 * self.commits.fetch_add(1, Ordering::Relaxed);
        let mut stream = Vec::new();
        let mut say = |line: &str| stream.extend_from_slice(format!("{line}\n").as_bytes());
        say(&format!("commit refs/heads/{branch}"));
        say(&format!("committer Ada <ada@acme.example> {time} +0000"));
        say(&format!("data {}\n{message}", message.len()));
        for (place, parent) in parents.iter().enumerate() {
            say(&format!("{} {parent}", if place == 0 { "from" } else { "merge" }));
        }
        if let Some(tree) = tree {
            say(&format!("M 040000 {tree} \"\""));
        }
        for change in changes {
            match change {
                Change::Write(path, content) => blob(&mut stream, "100644", path, content),
                Change::Executable(path, content) => blob(&mut stream, "100755", path, content),
                Change::Symlink(path, target) => blob(&mut stream, "120000", path, target.as_bytes()),
                Change::Submodule(path, commit) => {
                    stream.extend_from_slice(format!("M 160000 {commit} {path}\n").as_bytes());
                }
                Change::Remove(path) => stream.extend_from_slice(format!("D {path}\n").as_bytes()),
            }
        }
        let mut child = git()
            .arg("-C")
            .arg(&self.path)
            .args(["fast-import", "--quiet", "--force"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("git runs");
        child.stdin.take().expect("stdin is a pipe").write_all(&stream).expect("git reads what it is given");
        assert!(child.wait().expect("a child can be waited for").success(), "git fast-import failed");
        self.id(&format!("refs/heads/{branch}"))
    }
}

fn blob(stream: &mut Vec<u8>, mode: &str, path: &str, content: &[u8]) {
    stream.extend_from_slice(format!("M {mode} inline {path}\ndata {}\n", content.len()).as_bytes());
    stream.extend_from_slice(content);
    stream.push(b'\n');
}

/// The clone that a person works in.
#[derive(Debug)]
pub struct WorkingTree {
    pub path: PathBuf,
}

impl WorkingTree {
    /// Runs git in it and returns what it printed.
    #[track_caller]
    pub fn git(&self, arguments: &[&str]) -> String {
        run(git().arg("-C").arg(&self.path).args(arguments))
    }
}

/// Gives a directory and all that is in it to another user, as a get step of another image does.
#[track_caller]
pub fn give_to(directory: &Path, user: u32, group: u32) {
    run(Command::new("chown").arg("-R").arg(format!("{user}:{group}")).arg(directory));
}

/// Whether a private key is protected.
#[derive(Clone, Copy, Debug)]
pub enum Passphrase<'a> {
    /// It is not.
    None,
    /// By these words.
    Words(&'a str),
}

/// An SSH server that serves the repositories of a [`GitServer`] to one key.
pub struct SshServer {
    server: Server,
    directory: TempDir,
    repositories: PathBuf,
    port: u16,
}

impl SshServer {
    /// Starts one on a free port, with keys of its own.
    #[track_caller]
    pub fn start(repositories: &GitServer, passphrase: Passphrase<'_>) -> Self {
        Self::start_at(repositories, passphrase, free_port())
    }

    /// Starts one on this port, which only one test may do.
    #[track_caller]
    pub fn start_at(repositories: &GitServer, passphrase: Passphrase<'_>, port: u16) -> Self {
        let directory = temporary();
        let path = directory.path();
        let make_key = |name: &str, words: &str| {
            run(Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", words, "-C", name, "-f"])
                .arg(path.join(name)));
        };
        make_key("host_key", "");
        make_key(
            "user_key",
            match passphrase {
                Passphrase::None => "",
                Passphrase::Words(words) => words,
            },
        );
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {root}/host_key\nAuthorizedKeysFile {root}/user_key.pub\n\
             PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n\
             KbdInteractiveAuthentication no\nPrintMotd no\nAcceptEnv GIT_PROTOCOL\nLogLevel VERBOSE\n\
             SetEnv PATH={root}/bin:/usr/local/bin:/usr/bin:/bin\n",
            root = path.display()
        );
        let file = path.join("config");
        std::fs::write(&file, config).expect("the configuration can be written");
        let server = Server::start(
            // It starts itself again for each connection, and therefore wants to be called by its whole path.
            Command::new("/usr/sbin/sshd").args(["-D", "-e", "-f"]).arg(&file),
            &path.join("log"),
            || answers(port),
        );
        Self { server, directory, repositories: repositories.repositories(), port }
    }

    /// The address of a repository, as `source.uri` has it.
    pub fn uri(&self, name: &str) -> String {
        format!("ssh://{}{}/{name}.git", self.login(), self.repositories.display())
    }

    /// `user@host:port` of the one that it lets in.
    pub fn login(&self) -> String {
        format!("root@127.0.0.1:{}", self.port)
    }

    /// The private key that it lets in, as `source.private_key` has it.
    pub fn private_key(&self) -> String {
        std::fs::read_to_string(self.private_key_file()).expect("the key can be read")
    }

    /// The private key's file.
    pub fn private_key_file(&self) -> PathBuf {
        self.directory.path().join("user_key")
    }

    /// Gives the server a program that clients may run.
    #[track_caller]
    pub fn program(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = self.directory.path().join("bin");
        std::fs::create_dir_all(&directory).expect("a directory can be made");
        let path = directory.join(name);
        std::fs::write(&path, script).expect("a file can be written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("its mode can change");
    }

    /// The server's public key, as a line of a `known_hosts` file.
    pub fn known_hosts(&self) -> String {
        let key = std::fs::read_to_string(self.directory.path().join("host_key.pub")).expect("the key can be read");
        format!("[127.0.0.1]:{} {key}", self.port)
    }

    /// Its log.
    pub fn log(&self) -> String {
        self.server.log()
    }
}

/// git, without the settings of who runs the tests.
fn git() -> Command {
    let mut command = Command::new("git");
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE");
    command
}
