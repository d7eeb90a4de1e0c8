//! What git tells of local objects. What needs a server is in tests/servers.

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use super::*;
use crate::decide::inputs::Mode;
use crate::decide::versions::{LineCommit, Parent};
use crate::names::ObjectId;
use crate::request::{CiSkip, CommitFilter, Verify};

/// A directory of one test, with a checkout that the real git program makes.
pub(crate) struct Sandbox(TempDir);

impl Sandbox {
    /// An empty repository on the branch `master`.
    pub(crate) fn new() -> Self {
        let sandbox = Self(tempfile::tempdir().expect("a directory is made"));
        fs::create_dir(sandbox.path("repo")).expect("a directory is made");
        sandbox.git(&["init", "--quiet", "--initial-branch=master"]);
        sandbox
    }

    /// A path in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The path of a file of the checkout.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path("repo").join(name)
    }

    /// Writes a file of the checkout.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.file(name);
        fs::create_dir_all(path.parent().expect("a file has a directory")).expect("a directory is made");
        fs::write(path, content).expect("a file is written");
    }

    pub(crate) fn environment(&self) -> Environment {
        Environment::select(self.0.path().to_owned(), [])
    }

    /// Runs git in the checkout, and gives what it printed.
    #[track_caller]
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        self.git_at(&self.path("repo"), arguments)
    }

    /// Runs git in a directory.
    #[track_caller]
    pub(crate) fn git_at(&self, directory: &Path, arguments: &[&str]) -> String {
        let mut program = Program::new("git", "git", &self.environment())
            .directory(directory)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .args(["-c", "protocol.file.allow=always", "-c", "commit.gpgSign=false"])
            .args(arguments);
        for name in ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"] {
            program = program.env(name, "Ada Örn");
        }
        for name in ["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"] {
            program = program.env(name, "ada@example.com");
        }
        for name in ["GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"] {
            program = program.env(name, "2026-11-02T03:04:05+0100");
        }
        let printed = run(program.output()).expect("git does what the test needs");
        String::from_utf8(printed).expect("git prints text").trim().to_owned()
    }

    /// Commits every file.
    #[track_caller]
    pub(crate) fn commit(&self, message: &str) -> CommitId {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
        self.head()
    }

    #[track_caller]
    pub(crate) fn head(&self) -> CommitId {
        self.git(&["rev-parse", "HEAD"]).parse().expect("HEAD is a commit")
    }

    /// Our own repository, with the objects of the checkout.
    #[track_caller]
    pub(crate) fn borrowed(&self) -> (Git, Checkout) {
        let git = self.open();
        let checkout = Checkout::open(&self.path("repo")).expect("it is a checkout");
        run(git.borrow(&checkout)).expect("its objects are borrowed");
        (git, checkout)
    }

    #[track_caller]
    pub(crate) fn open(&self) -> Git {
        self.open_at("https://git.invalid/acme/app.git")
    }

    /// Our own repository, as a copy of the one at this address.
    #[track_caller]
    fn open_at(&self, uri: &str) -> Git {
        let say = Say::new(std::io::sink());
        run(Git::open(&source(uri), &self.path("ours"), &self.environment(), &say)).expect("it is made")
    }
}

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts").block_on(future)
}

fn source(uri: &str) -> GitSource {
    GitSource {
        uri: GitUrl::parse(uri).expect("it is an address").0,
        branch: None,
        credentials: None,
        private_key: None,
        private_key_user: None,
        private_key_passphrase: None,
        known_hosts: None,
        verify: Verify::Certificates,
        ca_certs: Vec::new(),
        https_tunnel: None,
        git_config: Vec::new(),
        submodule_credentials: Vec::new(),
        ci_skip: CiSkip::Honour,
        commit_filter: CommitFilter::default(),
        version_depth: NonZeroUsize::MIN,
    }
}

pub(crate) fn path(text: &str) -> GitPath {
    GitPath::new(text)
}

#[test]
fn the_line_has_first_parents_and_the_paths_that_changed_against_them() {
    let sandbox = Sandbox::new();
    sandbox.write("a", "1");
    sandbox.write("d/b", "1");
    let root = sandbox.commit("one");
    sandbox.git(&["checkout", "--quiet", "-b", "side"]);
    sandbox.write("side", "1");
    sandbox.commit("side");
    sandbox.git(&["checkout", "--quiet", "master"]);
    sandbox.git(&["mv", "a", "ü \n\u{1}x"]);
    let renamed = sandbox.commit("two\n\nnot now: [ci skip]");
    sandbox.git(&["merge", "--quiet", "--no-ff", "--message", "merge", "side"]);
    let merge = sandbox.head();
    let empty = sandbox.commit("empty");

    let (git, _) = sandbox.borrowed();
    let line = run(git.line(empty, 100)).expect("the line is read");
    let commit = |id, parent, changed: &[&str], ci_skip| LineCommit {
        id,
        parent,
        changed: changed.iter().map(|text| path(text)).collect(),
        ci_skip,
        is_filtered: false,
    };
    assert_eq!(
        line,
        [
            commit(empty, Parent::Commit(merge), &[], false),
            commit(merge, Parent::Commit(renamed), &["side"], false),
            commit(renamed, Parent::Commit(root), &["a", "ü \n\u{1}x"], true),
            commit(root, Parent::Root, &["a", "d/b"], false),
        ]
    );
    assert_eq!(run(git.line(empty, 2)).expect("the line is read"), line[..2]);
}

#[test]
fn a_commit_where_history_is_cut_off_has_an_unknown_parent() {
    let sandbox = Sandbox::new();
    for number in 0..4 {
        sandbox.write("a", number.to_string());
        sandbox.commit("more");
    }
    let origin = format!("file://{}", sandbox.path("repo").display());
    sandbox.git_at(&sandbox.path("."), &["clone", "--quiet", "--depth=2", &origin, "shallow"]);
    let git = sandbox.open();
    let checkout = Checkout::open(&sandbox.path("shallow")).expect("it is a checkout");
    run(git.borrow(&checkout)).expect("its objects are borrowed");
    assert!(git.is_shallow().expect("the boundary is read"));
    let line = run(git.line(checkout.head(), 100)).expect("the line is read");
    assert_eq!(line.len(), 2);
    assert_eq!(line[0].changed, [path("a")]);
    assert_eq!((line[1].parent, line[1].changed.len()), (Parent::Unknown, 0));
    let error = run(git.reachable(&[line[0].id], &[line[0].id])).expect_err("it cannot tell");
    assert!(matches!(error, GitError::Shallow { .. }), "{error:?}");
}

#[test]
fn a_tree_has_every_path_with_its_mode() {
    use std::os::unix::fs::PermissionsExt as _;

    let sandbox = Sandbox::new();
    sandbox.write("d/run", "x");
    fs::set_permissions(sandbox.file("d/run"), fs::Permissions::from_mode(0o755)).expect("the mode is set");
    sandbox.write("ü \n", "y");
    std::os::unix::fs::symlink("d/run", sandbox.file("link")).expect("a link is made");
    let id = "1".repeat(40);
    sandbox.git(&["add", "."]);
    sandbox.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{id},sub")]);
    sandbox.git(&["commit", "--quiet", "--message", "all"]);
    let (git, checkout) = sandbox.borrowed();
    let tree = run(git.tree(checkout.head())).expect("the tree is read");
    let modes: Vec<_> = tree.iter().map(|(path, entry)| (path.clone(), entry.mode)).collect();
    assert_eq!(
        modes,
        [
            (path("d/run"), Mode::Executable),
            (path("link"), Mode::Symlink),
            (path("sub"), Mode::Submodule),
            (path("ü \n"), Mode::File),
        ]
    );
    assert_eq!(tree[&path("sub")].id, id.parse().expect("it is an id"));
}

#[test]
fn a_tree_with_a_path_that_leads_out_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.write("a", "x");
    let blob = sandbox.git(&["hash-object", "-w", "a"]);
    let entry = sandbox.path("tree");
    // git itself would not make such a tree, so its bytes are written here: a directory `..` with the file `a`.
    let mut bytes = b"100644 a\0".to_vec();
    bytes.extend_from_slice(&hex::decode(&blob).expect("an id is hexadecimal"));
    fs::write(&entry, &bytes).expect("a file is written");
    let inner = sandbox.git(&["hash-object", "-w", "--literally", "-t", "tree", &entry.to_string_lossy()]);
    let mut bytes = b"40000 ..\0".to_vec();
    bytes.extend_from_slice(&hex::decode(&inner).expect("an id is hexadecimal"));
    fs::write(&entry, &bytes).expect("a file is written");
    let outer = sandbox.git(&["hash-object", "-w", "--literally", "-t", "tree", &entry.to_string_lossy()]);
    let commit = sandbox.git(&["commit-tree", &outer, "-m", "hostile"]);
    sandbox.git(&["update-ref", "refs/heads/master", &commit]);
    let (git, checkout) = sandbox.borrowed();
    let error = run(git.tree(checkout.head())).expect_err("it is refused");
    assert!(matches!(&error, GitError::BadPath { path, .. } if path == "../a"), "{error:?}");
    run(git.lay_out(checkout.head(), None, &sandbox.path("ours"))).expect_err("it is not laid out either");
}

#[test]
fn a_commit_tells_author_dates_and_message() {
    let sandbox = Sandbox::new();
    let id = sandbox.commit("subject\n\nbody\nmore");
    let (git, _) = sandbox.borrowed();
    let facts = run(git.commit(id)).expect("the commit is read");
    assert_eq!((facts.author_name.as_str(), facts.author_email.as_str()), ("Ada Örn", "ada@example.com"));
    assert_eq!(facts.author_date.to_string(), "2026-11-02T02:04:05Z");
    assert_eq!((facts.subject.as_str(), facts.message.as_str()), ("subject", "subject\n\nbody\nmore"));
}

#[test]
fn blobs_are_read_whole_and_in_any_bytes() {
    let sandbox = Sandbox::new();
    sandbox.write("a", b"x\0y\n");
    sandbox.write("empty", b"");
    sandbox.commit("one");
    let (git, checkout) = sandbox.borrowed();
    let tree = run(git.tree(checkout.head())).expect("the tree is read");
    let ids: Vec<ObjectId> = tree.values().map(|entry| entry.id).collect();
    let blobs = run(git.blobs(&ids)).expect("the blobs are read");
    assert_eq!(blobs[&tree[&path("a")].id], b"x\0y\n");
    assert_eq!(blobs[&tree[&path("empty")].id], b"");
}

#[test]
fn a_blob_that_is_too_large_is_refused_with_both_sizes() {
    let sandbox = Sandbox::new();
    sandbox.write("a", vec![b'x'; 8 * 1024 * 1024 + 1]);
    sandbox.commit("large");
    let (git, checkout) = sandbox.borrowed();
    let id = run(git.tree(checkout.head())).expect("the tree is read")[&path("a")].id;
    let error = run(git.blobs(&[id])).expect_err("it is refused");
    let expected = format!("blob {id} of git.invalid/acme/app has 8388609 bytes, more than 8388608");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_forged_object_of_an_artifact_is_noticed() {
    let sandbox = Sandbox::new();
    sandbox.write("a", "honest");
    sandbox.write("b", "forged");
    sandbox.commit("one");
    let (git, checkout) = sandbox.borrowed();
    let tree = run(git.tree(checkout.head())).expect("the tree is read");
    let loose = |name: &str| {
        let id = tree[&path(name)].id.to_string();
        sandbox.file(&format!(".git/objects/{}/{}", &id[..2], &id[2..]))
    };
    fs::remove_file(loose("a")).expect("an object goes");
    fs::copy(loose("b"), loose("a")).expect("another one comes");
    let error = run(git.blobs(&[tree[&path("a")].id])).expect_err("it is noticed");
    assert!(error.is_local_damage(), "{error:?}");
}

#[test]
fn the_first_parent_line_of_a_tip_has_the_times_of_its_commits() {
    let sandbox = Sandbox::new();
    let one = sandbox.commit("one");
    sandbox.git(&["checkout", "--quiet", "-b", "side"]);
    let side = sandbox.commit("side");
    sandbox.git(&["checkout", "--quiet", "master"]);
    let two = sandbox.commit("two");
    sandbox.git(&["merge", "--quiet", "--no-ff", "-m", "merge", "side"]);
    let merge: CommitId = sandbox.git(&["rev-parse", "HEAD"]).trim().parse().expect("it is an id");
    let (git, _) = sandbox.borrowed();
    let history = run(git.first_parents(&[merge, side])).expect("history is read");
    let line = |tip: CommitId| history.line(tip).map(|(commit, _)| commit).collect::<Vec<_>>();
    assert_eq!(line(merge), [merge, two, one]);
    assert_eq!(line(side), [side, one]);
    let time: i64 = sandbox.git(&["log", "-1", "--format=%ct", "side"]).trim().parse().expect("it is a number");
    assert_eq!(history.line(side).next(), Some((side, time)));
    assert_eq!(run(git.first_parents(&[])).expect("nothing is asked").line(one).count(), 0);
}

#[test]
fn reachable_are_ancestors_of_tips_and_the_tips() {
    let sandbox = Sandbox::new();
    let one = sandbox.commit("one");
    sandbox.git(&["checkout", "--quiet", "-b", "side"]);
    let side = sandbox.commit("side");
    sandbox.git(&["checkout", "--quiet", "master"]);
    let two = sandbox.commit("two");
    let never: CommitId = "1".repeat(40).parse().expect("it is an id");
    let (git, _) = sandbox.borrowed();
    let reachable = |tips: &[CommitId]| run(git.reachable(&[one, two, side, never], tips)).expect("history is read");
    assert_eq!(reachable(&[two]), BTreeSet::from([one, two]));
    assert_eq!(reachable(&[two, side]), BTreeSet::from([one, two, side]));
    assert_eq!(reachable(&[]), BTreeSet::new());
    assert!(run(git.has(two)).expect("git looks"));
    assert!(!run(git.has(never)).expect("git looks"));
    assert!(run(git.line(never, 1)).expect_err("it is missing").is_local_damage());
}

#[test]
fn files_are_laid_out_with_the_line_ends_of_the_tree_and_without_filters() {
    let sandbox = Sandbox::new();
    sandbox.write(".gitattributes", "*.txt text eol=crlf\n*.bin filter=lfs\n");
    sandbox.write("d/a.txt", "1\n2\n");
    sandbox.write("b.bin", "pointer\n");
    sandbox.write("d/c", "c");
    let commit = sandbox.commit("one");
    let (git, _) = sandbox.borrowed();
    let some = sandbox.path("some");
    fs::create_dir(&some).expect("a directory is made");
    run(git.lay_out(commit, Some(&[path("d/a.txt"), path("b.bin")]), &some)).expect("files are laid out");
    assert_eq!(fs::read(some.join("d/a.txt")).expect("it is there"), b"1\r\n2\r\n");
    assert_eq!(fs::read(some.join("b.bin")).expect("it is there"), b"pointer\n");
    assert!(!some.join("d/c").exists() && !some.join(".gitattributes").exists());
    run(git.lay_out(commit, None, &some)).expect("files are laid out");
    assert!(some.join("d/c").exists() && some.join(".gitattributes").exists());
    let error = run(git.lay_out(commit, Some(&[path("none")]), &some)).expect_err("it is not there");
    assert_eq!(error.to_string(), "cannot lay out none");
}

#[test]
fn a_repository_of_ours_is_kept_and_anything_else_makes_place() {
    let sandbox = Sandbox::new();
    drop(sandbox.open());
    let ours = sandbox.path("ours");
    fs::write(ours.join("objects/pack/kept"), "").expect("a file is written");
    fs::write(ours.join("shallow.lock"), "").expect("a file is written");
    drop(sandbox.open());
    assert!(ours.join("objects/pack/kept").exists() && !ours.join("shallow.lock").exists());
    fs::write(ours.join("config"), "[core]\n\tbare = true\n").expect("a file is written");
    drop(sandbox.open());
    assert!(!ours.join("objects/pack/kept").exists());
}

/// The processes that run in a directory.
fn processes_in(directory: &Path) -> Vec<PathBuf> {
    let directory = fs::canonicalize(directory).expect("it is there");
    let processes = fs::read_dir("/proc").expect("processes are listed").filter_map(Result::ok);
    let processes = processes.map(|entry| entry.path());
    processes.filter(|path| fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd == directory)).collect()
}

#[test]
fn a_fetch_from_a_server_that_stalls_ends_with_its_future_and_leaves_no_process() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = server.local_addr().expect("it listens");
    let accepted = std::thread::spawn(move || server.accept().map(|(connection, _)| connection));
    let sandbox = Sandbox::new();
    let git = sandbox.open_at(&format!("http://{address}/acme/app.git"));
    let branch = Want::Branch("master".parse().expect("it is a branch"));
    run(async {
        tokio::select! {
            result = git.fetch(&branch, Depth::Everything) => panic!("the server never answers: {result:?}"),
            () = async {
                while !accepted.is_finished() {
                    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                }
                assert!(!processes_in(&sandbox.path("ours")).is_empty(), "git runs while it waits");
            } => {}
        }
    });
    assert_eq!(processes_in(&sandbox.path("ours")), Vec::<PathBuf>::new());
}

#[test]
fn a_server_that_is_no_git_server_is_told_with_gits_words() {
    use std::io::{Read as _, Write as _};

    for (answer, expected) in [
        (
            "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            "broke off while it answered `git ls-remote`",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nhi!\n",
            "broke off while it answered `git ls-remote`",
        ),
        ("", "broke off while it answered `git ls-remote`"),
    ] {
        let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = server.local_addr().expect("it listens");
        std::thread::spawn(move || {
            for connection in server.incoming() {
                let mut connection = connection.expect("git connects");
                let _ = connection.read(&mut [0; 4096]);
                let _ = connection.write_all(answer.as_bytes());
            }
        });
        let sandbox = Sandbox::new();
        let git = sandbox.open_at(&format!("http://{address}/acme/app.git"));
        let error = run(git.tip(None)).expect_err("there is no git");
        assert!(error.to_string().ends_with(expected), "{answer:?}: {error:?}");
    }
}

#[test]
fn a_hostile_artifact_runs_nothing() {
    let sandbox = Sandbox::new();
    sandbox.write("a", "1\r\n");
    sandbox.write(".gitattributes", "* filter=evil diff=evil text=auto\n");
    sandbox.write(
        ".gitmodules",
        "[submodule \"x\"]\n\tpath = x\n\turl = ext::sh -c 'touch canary'\n\tupdate = !touch canary\n",
    );
    let commit = sandbox.commit("one");
    let canary = sandbox.path("canary");
    let touch = format!("touch {}", canary.display());
    let program = sandbox.path("evil");
    fs::write(&program, format!("#!/bin/sh\n{touch}\n")).expect("a file is written");
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("the mode is set");
    let config = ["fsmonitor", "sshCommand", "gitProxy", "askPass", "pager", "editor", "alternateRefsCommand"];
    let mut text = String::from("[core]\n\trepositoryformatversion = 1\n");
    for key in config {
        text += &format!("\t{key} = {touch}\n");
    }
    text += &format!("\thooksPath = {}\n", sandbox.path("hooks").display());
    text +=
        &format!("[filter \"evil\"]\n\tsmudge = {touch}\n\tclean = {touch}\n\tprocess = {touch}\n\trequired = true\n");
    text += &format!("[diff \"evil\"]\n\tcommand = {touch}\n\ttextconv = {touch}\n[diff]\n\texternal = {touch}\n");
    text += &format!("[credential]\n\thelper = !{touch}\n[extensions]\n\tpartialClone = evil\n");
    text += &format!("[remote \"evil\"]\n\tpromisor = true\n\turl = ext::{touch}\n\tuploadpack = {touch}\n");
    fs::create_dir(sandbox.path("hooks")).expect("a directory is made");
    for hook in ["post-checkout", "reference-transaction", "post-index-change", "pre-commit", "fsmonitor-watchman"] {
        fs::copy(&program, sandbox.path("hooks").join(hook)).expect("a hook is made");
        fs::copy(&program, sandbox.file(".git/hooks").join(hook)).expect("a hook is made");
    }
    fs::write(sandbox.file(".git/config"), text).expect("a file is written");
    sandbox.write("a", "2\r\n");

    let (git, checkout) = sandbox.borrowed();
    let tree = run(git.tree(commit)).expect("the tree is read");
    run(git.line(commit, 10)).expect("the line is read");
    run(git.commit(commit)).expect("the commit is read");
    run(git.blobs(&tree.values().map(|entry| entry.id).collect::<Vec<_>>())).expect("the blobs are read");
    let counted: BTreeSet<GitPath> = tree.keys().cloned().collect();
    let differences = run(checkout.compare(&git, &tree, &counted)).expect("the files are compared");
    assert_eq!(differences.modified, [path("a")]);
    let out = sandbox.path("out");
    fs::create_dir(&out).expect("a directory is made");
    run(git.lay_out(commit, None, &out)).expect("files are laid out");
    // The server does not exist; the fetch gets as far as asking for it.
    let branch = Want::Branch("master".parse().expect("it is a branch"));
    let error = run(git.fetch(&branch, Depth::Keep)).expect_err("the server does not exist");
    assert!(matches!(error, GitError::Unreachable { .. }), "{error:?}");
    assert!(!canary.exists(), "something of the artifact ran");
}
