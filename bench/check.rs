//! How long a check takes, beside what git itself needs, and beside the check of the git resource (`PEER`).
//!
//! - `TURNS=50`: how often each row is measured.
//! - `REPOSITORY=path`: a repository of your own instead of the one that is made.
//! - `PEER=directory`: the git resource's programs, of its `/opt/resource`; they need bash and jq.
//! - `OTHER=program`: another check of ours, of a build before a change.
//! - `TABLES=cold`: only the tables that have this in their titles.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads its environment, and starts what it measures itself with"
)]

mod history;
#[path = "../tests/support/mod.rs"]
mod support;
mod table;

use std::cell::RefCell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use history::{BRANCH, BRANCHES, CONTEXT, History, NAME, OLD, feature};
use serde_json::{Value, json};
use support::git::Traffic;
use support::program::Program;
use support::{servers, temporary};
use table::{Row, time};

const DOCKERFILE: &str = "FROM scratch\nCOPY tool.sh /tool.sh\n";

const GIT_RESOURCE: &str = "check of the git resource";

/// Of how many branches the git resource's round is: to clone each of them takes it seconds.
const PEER_BRANCHES: u64 = 5;

fn main() {
    let history = History::make(DOCKERFILE);
    let place = temporary();
    let bench = Bench {
        history: &history,
        place: place.path(),
        peer: std::env::var_os("PEER"),
        other: std::env::var_os("OTHER"),
        traffic: RefCell::default(),
    };
    let tables = std::env::var("TABLES").unwrap_or_default();
    let is_wanted = |title: &str| title.contains(&tables);
    if is_wanted(NOTHING_NEW) {
        bench.nothing_new();
    }
    if is_wanted(NEW_COMMIT) {
        bench.new_commit();
    }
    if is_wanted(COLD) {
        bench.cold(COLD, CONTEXT);
    }
    if is_wanted(COLD_AND_OLD) && history.has_old {
        bench.cold(COLD_AND_OLD, OLD);
    }
    if is_wanted(ROUND) {
        bench.round();
    }
}

const NOTHING_NEW: &str = "check, nothing new";
const NEW_COMMIT: &str = "check, one new commit";
const COLD: &str = "check, cold";
const COLD_AND_OLD: &str = "check, cold, the image changed 5,000 commits ago";
const ROUND: &str = "check of 200 branches, nothing new";

struct Bench<'a> {
    history: &'a History,
    place: &'a Path,
    peer: Option<OsString>,
    other: Option<OsString>,
    /// What each row asked of the server when it was last run.
    traffic: RefCell<Vec<(&'static str, Traffic)>>,
}

/// A check that is measured.
#[derive(Clone, Copy)]
enum Check<'a> {
    Ours,
    Other(&'a OsString),
    Peer(&'a OsString),
}

impl Check<'_> {
    fn name(self) -> &'static str {
        match self {
            Self::Ours => "check",
            Self::Other(_) => "check of OTHER",
            Self::Peer(_) => GIT_RESOURCE,
        }
    }
}

impl Bench<'_> {
    fn nothing_new(&self) {
        let mut rows = vec![
            self.row("git ls-remote", || time(git().args(["ls-remote", self.uri(), &format!("refs/heads/{BRANCH}")]))),
        ];
        for check in self.checks() {
            let cache = self.directory("nothing-new", check);
            let version = self.run(check, &cache, BRANCH, CONTEXT, None).0;
            rows.push(self.row(check.name(), move || self.run(check, &cache, BRANCH, CONTEXT, Some(&version)).1));
        }
        table::print(NOTHING_NEW, || {}, rows);
        self.print_traffic();
    }

    /// Nothing new on any branch, each of which has a check container of its own.
    fn round(&self) {
        let mut rows = Vec::new();
        for check in self.checks() {
            let count = if matches!(check, Check::Peer(_)) { PEER_BRANCHES } else { BRANCHES };
            let known: Vec<_> = (0..count)
                .map(|number| {
                    let cache = self.directory(&format!("round-{number}"), check);
                    let version = self.run(check, &cache, &feature(number), CONTEXT, None).0;
                    (feature(number), cache, version)
                })
                .collect();
            let one = move |(branch, cache, version): &(String, PathBuf, Value)| {
                self.run(check, cache, branch, CONTEXT, Some(version)).1
            };
            let factor = u32::try_from(BRANCHES / count).expect("it is small");
            rows.push(self.row(check.name(), move || known.iter().map(one).sum::<Duration>() * factor));
        }
        table::print_in(ROUND, 3, || {}, rows);
        self.print_traffic();
        if self.peer.is_some() {
            say(format_args!("  ({GIT_RESOURCE}: {PEER_BRANCHES} branches, the time for {BRANCHES})"));
        }
    }

    fn new_commit(&self) {
        let clone = self.place.join("new-commit-clone");
        time(git().args(["clone", "--quiet", "--bare", "--branch", BRANCH, self.uri()]).arg(&clone));
        let mut rows = vec![
            self.row("git fetch", || time(git().arg("-C").arg(&clone).args(["fetch", "--quiet", "origin", BRANCH]))),
        ];
        for check in self.checks() {
            let cache = self.directory("new-commit", check);
            let version = self.run(check, &cache, BRANCH, CONTEXT, None).0;
            rows.push(self.row(check.name(), move || self.run(check, &cache, BRANCH, CONTEXT, Some(&version)).1));
        }
        table::print(NEW_COMMIT, || self.history.commit(), rows);
        self.print_traffic();
    }

    fn cold(&self, title: &str, context: &'static str) {
        let (shallow, full) = (self.place.join("cold-shallow"), self.place.join("cold-full"));
        let mut rows = vec![
            self.row("git fetch --depth=128 --filter=blob:none", || {
                remove(&shallow);
                self.empty_repository(&shallow);
                let mut fetch = git();
                fetch.arg("-C").arg(&shallow).args(["fetch", "--quiet", "--depth=128", "--filter=blob:none", "origin"]);
                time(fetch.arg(BRANCH))
            }),
            self.row("git clone", || {
                remove(&full);
                time(git().args(["clone", "--quiet", "--bare", "--branch", BRANCH, self.uri()]).arg(&full))
            }),
        ];
        for check in self.checks() {
            rows.push(self.row(check.name(), move || {
                let cache = self.directory("cold", check);
                self.run(check, &cache, BRANCH, context, None).1
            }));
        }
        table::print_in(title, 5, || {}, rows);
        self.print_traffic();
    }

    fn checks(&self) -> Vec<Check<'_>> {
        let others = self.other.iter().map(Check::Other).chain(self.peer.iter().map(Check::Peer));
        std::iter::once(Check::Ours).chain(others).collect()
    }

    /// A row whose requests are counted too, outside of the time that is measured.
    fn row<'r>(&'r self, name: &'static str, run: impl Fn() -> Duration + 'r) -> Row<'r> {
        Row::new(name, move || {
            let before = servers().git().traffic_of(NAME);
            let elapsed = run();
            let after = servers().git().traffic_of(NAME);
            let traffic = Traffic { requests: after.requests - before.requests, bytes: after.bytes - before.bytes };
            let mut all = self.traffic.borrow_mut();
            all.retain(|(row, _)| *row != name);
            all.push((name, traffic));
            elapsed
        })
    }

    fn print_traffic(&self) {
        say(format_args!("{:<56} {:>10} {:>10}", "", "requests", "kB"));
        for (name, Traffic { requests, bytes }) in self.traffic.take() {
            say(format_args!("  {name:<54} {requests:>10} {:>10}", bytes.div_ceil(1000)));
        }
    }

    /// Runs a check with this directory for its cache; the newest version, and how long it took.
    fn run(
        &self,
        check: Check<'_>,
        cache: &Path,
        branch: &str,
        context: &str,
        version: Option<&Value>,
    ) -> (Value, Duration) {
        let peers_source = json!({"uri": self.uri(), "branch": branch, "paths": [context]});
        let source = json!({
            "git": {"uri": self.uri(), "branch": branch},
            "registry": {"repository": "127.0.0.1:1/nobody"},
            "build": {"context": context},
        });
        let program = match check {
            Check::Ours => Program::check(),
            Check::Other(program) => Program::run_by(Command::new(program)),
            Check::Peer(directory) => {
                let request = json!({"source": peers_source, "version": version});
                let program = Program::run_by(Command::new(Path::new(directory).join("check")));
                let ran = program.environment("TMPDIR", cache).environment("HOME", cache).run(&request);
                return (newest(&ran.succeeds()), ran.elapsed);
            }
        };
        let ran = program.environment("TMPDIR", cache).run(&json!({"source": source, "version": version}));
        (newest(&ran.succeeds()), ran.elapsed)
    }

    /// Makes an empty repository that has the server's as its remote.
    fn empty_repository(&self, path: &Path) {
        time(git().args(["init", "--quiet", "--bare"]).arg(path));
        time(git().arg("-C").arg(path).args(["remote", "add", "origin", self.uri()]));
    }

    fn uri(&self) -> &str {
        self.history.git.uri()
    }

    /// A new, empty directory for the cache of a check.
    fn directory(&self, name: &str, check: Check<'_>) -> PathBuf {
        let path = self.place.join(format!("{name}-{}", check.name().replace(' ', "-")));
        remove(&path);
        std::fs::create_dir(&path).expect("a directory can be made");
        path
    }
}

#[expect(clippy::print_stdout, reason = "the table is what a benchmark is run for")]
fn say(line: std::fmt::Arguments<'_>) {
    println!("{line}");
}

fn newest(versions: &Value) -> Value {
    versions.as_array().and_then(|versions| versions.last()).expect("the branch has a version").clone()
}

fn remove(path: &Path) {
    if path.exists() {
        std::fs::remove_dir_all(path).expect("what was made can be removed");
    }
}

/// git, as quick as it is without anybody's settings.
fn git() -> Command {
    let mut command = Command::new("git");
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    command
}
