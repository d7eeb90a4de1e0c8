//! A git repository as large as those of big teams: 28,000 commits, 3,000 files, 200 further branches; or one of your
//! own (`REPOSITORY`), with such branches.

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

/// How many commits below the tip the image of [`OLD`] changed last.
const OLD_AGE: u64 = 5_000;

/// How many branches there are besides [`BRANCH`].
pub const BRANCHES: u64 = 200;

/// The name on the git server.
pub const NAME: &str = "history";

/// The branch.
pub const BRANCH: &str = "master";

/// The directory of the image.
pub const CONTEXT: &str = "ci/image";

/// The directory of an image that has not changed for long.
pub const OLD: &str = "ci/old";

/// A repository on the shared git server, to which commits can be added.
pub struct History {
    /// The repository.
    pub git: GitRepository,
    /// Whether there is an image in [`OLD`].
    pub has_old: bool,
    next: Cell<u64>,
}

impl History {
    /// Makes the repository, or copies `REPOSITORY`'s HEAD and puts an image on top of it.
    pub fn make(dockerfile: &str) -> Self {
        let git = servers().git().repository(NAME);
        let mut stream = String::new();
        let given = std::env::var_os("REPOSITORY");
        let has_old = given.is_none();
        let commits = match given {
            Some(path) => {
                let path = std::fs::canonicalize(Path::new(&path)).expect("REPOSITORY is the path of a repository");
                let path = path.to_str().expect("the path of REPOSITORY is text");
                git.git(&["fetch", "--quiet", path, &format!("+HEAD:refs/heads/{BRANCH}")]);
                begin(&mut stream, COMMITS, Some(BRANCH));
                image(&mut stream, CONTEXT, dockerfile, 0);
                (1..=IMAGE_EVERY / 2).for_each(|number| application(&mut stream, COMMITS + number));
                COMMITS + IMAGE_EVERY / 2
            }
            None => {
                for number in 0..COMMITS {
                    application(&mut stream, number);
                    if number % IMAGE_EVERY == IMAGE_EVERY / 2 {
                        image(&mut stream, CONTEXT, dockerfile, number);
                    }
                    if number == COMMITS - OLD_AGE {
                        image(&mut stream, OLD, dockerfile, number);
                    }
                }
                COMMITS
            }
        };
        import(&git, &stream);
        stream.clear();
        for number in 0..BRANCHES {
            let from = format!("refs/heads/{BRANCH}~{}", number * 4);
            (0..3).for_each(|commit| {
                let name = feature(number);
                begin_on(&mut stream, &name, commits + number, (commit == 0).then_some(from.as_str()));
                write_text(&mut stream, "src/feature.c", &format!("int feature = {number}, state = {commit};\n"));
            });
        }
        import(&git, &stream);
        // As servers keep what is fetched often.
        git.git(&["repack", "-a", "-d", "--quiet", "--write-bitmap-index"]);
        git.git(&["commit-graph", "write", "--reachable"]);
        Self { git, has_old, next: Cell::new(commits) }
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

/// The name of a branch besides [`BRANCH`].
pub fn feature(number: u64) -> String {
    format!("feature/{number:03}")
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

fn image(stream: &mut String, context: &str, dockerfile: &str, number: u64) {
    write_text(stream, &format!("{context}/Dockerfile"), dockerfile);
    write_text(stream, &format!("{context}/tool.sh"), &format!("echo tool {number}\n"));
}

/// The head of a commit of [`BRANCH`] in the language of `git fast-import`.
fn begin(stream: &mut String, number: u64, from: Option<&str>) {
    begin_on(stream, BRANCH, number, from.map(|branch| format!("refs/heads/{branch}^0")).as_deref());
}

/// The head of a commit of any branch.
fn begin_on(stream: &mut String, branch: &str, number: u64, from: Option<&str>) {
    let (message, time) = (format!("commit {number}"), FIRST_COMMIT + 60 * number);
    writeln!(stream, "commit refs/heads/{branch}\ncommitter Ada <ada@acme.example> {time} +0000")
        .expect("a text grows");
    writeln!(stream, "data {}\n{message}", message.len()).expect("a text grows");
    if let Some(from) = from {
        writeln!(stream, "from {from}").expect("a text grows");
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
