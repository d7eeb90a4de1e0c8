//! A git repository as large as those of big teams: 28,000 commits, 3,000 files; or one of your own (`REPOSITORY`).

#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::git::{FIRST_COMMIT, GitRepository};
use crate::support::servers;

/// How many commits are made, each a minute after the one before.
const COMMITS: u64 = 28_000;

/// The image changes with every commit of this many; the newest change lies half as many commits below the tip.
const IMAGE_EVERY: u64 = 250;

/// The branch.
pub const BRANCH: &str = "master";

/// The directory of the image.
pub const CONTEXT: &str = "ci/image";

/// A repository on the shared git server, to which commits can be added.
pub struct History {
    /// The repository.
    pub git: GitRepository,
    next: Cell<u64>,
}

impl History {
    /// Makes the repository, or copies `REPOSITORY`'s HEAD and puts an image on top of it.
    pub fn make(dockerfile: &str) -> Self {
        let git = servers().git().repository("history");
        let mut stream = String::new();
        let commits = match std::env::var_os("REPOSITORY") {
            Some(path) => {
                let path = std::fs::canonicalize(Path::new(&path)).expect("REPOSITORY is the path of a repository");
                let path = path.to_str().expect("the path of REPOSITORY is text");
                git.git(&["fetch", "--quiet", path, &format!("+HEAD:refs/heads/{BRANCH}")]);
                begin(&mut stream, COMMITS, Some(BRANCH));
                image(&mut stream, dockerfile, 0);
                (1..=IMAGE_EVERY / 2).for_each(|number| application(&mut stream, COMMITS + number));
                COMMITS + IMAGE_EVERY / 2
            }
            None => {
                for number in 0..COMMITS {
                    application(&mut stream, number);
                    if number % IMAGE_EVERY == IMAGE_EVERY / 2 {
                        image(&mut stream, dockerfile, number);
                    }
                }
                COMMITS
            }
        };
        import(&git, &stream);
        // As servers keep what is fetched often.
        git.git(&["repack", "-a", "-d", "--quiet", "--write-bitmap-index"]);
        git.git(&["commit-graph", "write", "--reachable"]);
        Self { git, next: Cell::new(commits) }
    }

    /// Adds a commit that does not touch the image.
    pub fn commit(&self) {
        let mut stream = String::new();
        begin(&mut stream, self.next.get(), Some(BRANCH));
        files(&mut stream, self.next.get());
        import(&self.git, &stream);
        self.next.set(self.next.get() + 1);
    }
}

/// A commit of the application; the first one brings all its files.
fn application(stream: &mut String, number: u64) {
    begin(stream, number, None);
    if number == 0 {
        (0..3_000).for_each(|file| write_file(stream, file, 0));
    }
    files(stream, number);
}

/// Three files change, somewhere.
fn files(stream: &mut String, number: u64) {
    for change in 0..3 {
        // A linear congruence: every run makes the same history.
        let file =
            (number * 3 + change).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        write_file(stream, (file >> 33) % 3_000, number);
    }
}

fn write_file(stream: &mut String, file: u64, number: u64) {
    let path = format!("src/{:02}/{}/{:02}.c", file / 100, file / 20 % 5, file % 20);
    let mut text = format!("int state(void) {{ return {number}; }}\n");
    (0..10)
        .for_each(|line| writeln!(text, "int f{file}_{line}(int x) {{ return x + {line}; }}").expect("a text grows"));
    write_text(stream, &path, &text);
}

fn image(stream: &mut String, dockerfile: &str, number: u64) {
    write_text(stream, &format!("{CONTEXT}/Dockerfile"), dockerfile);
    write_text(stream, &format!("{CONTEXT}/tool.sh"), &format!("echo tool {number}\n"));
}

/// The head of a commit in the language of `git fast-import`.
fn begin(stream: &mut String, number: u64, from: Option<&str>) {
    let (message, time) = (format!("commit {number}"), FIRST_COMMIT + 60 * number);
    writeln!(stream, "commit refs/heads/{BRANCH}\ncommitter Ada <ada@acme.example> {time} +0000")
        .expect("a text grows");
    writeln!(stream, "data {}\n{message}", message.len()).expect("a text grows");
    if let Some(branch) = from {
        writeln!(stream, "from refs/heads/{branch}^0").expect("a text grows");
    }
}

fn write_text(stream: &mut String, path: &str, text: &str) {
    writeln!(stream, "M 100644 inline {path}\ndata {}\n{text}", text.len()).expect("a text grows");
}

fn import(git: &GitRepository, stream: &str) {
    let mut command = Command::new("git");
    command.arg("-C").arg(git.path()).args(["fast-import", "--quiet", "--force"]).stdin(Stdio::piped());
    let mut child = command.spawn().expect("git runs");
    child.stdin.take().expect("stdin is a pipe").write_all(stream.as_bytes()).expect("git reads what it is given");
    assert!(child.wait().expect("a child can be waited for").success(), "git fast-import failed");
}
