//! How long a check takes, beside what git itself needs, and beside the check of the git resource (`PEER`).
//!
//! - `TURNS=50`: how often each row is measured.
//! - `REPOSITORY=path`: a repository of your own instead of the one that is made.
//! - `PEER=directory`: the git resource's programs, of its `/opt/resource`; they need bash and jq.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads its environment, and starts what it measures itself with"
)]

mod history;
#[path = "../tests/support/mod.rs"]
mod support;
mod table;

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use history::{BRANCH, CONTEXT, History};
use serde_json::{Value, json};
use support::program::Program;
use support::temporary;
use table::{Row, time};

const DOCKERFILE: &str = "FROM scratch\nCOPY tool.sh /tool.sh\n";

fn main() {
    let history = History::make(DOCKERFILE);
    let place = temporary();
    let bench = Bench { history: &history, place: place.path(), peer: std::env::var_os("PEER") };
    bench.nothing_new();
    bench.new_commit();
    bench.cold();
}

struct Bench<'a> {
    history: &'a History,
    place: &'a Path,
    peer: Option<OsString>,
}

impl Bench<'_> {
    fn nothing_new(&self) {
        let (ours, peer) = (self.directory("nothing-new"), self.directory("nothing-new-peer"));
        let (version, _) = self.ours(&ours, &Value::Null);
        let mut rows = vec![
            Row::new("git ls-remote", || time(git().args(["ls-remote", self.uri(), &format!("refs/heads/{BRANCH}")]))),
            Row::new("check", || self.ours(&ours, &version).1),
        ];
        self.add_peer(&mut rows, &peer);
        table::print("check, nothing new", || {}, rows);
    }

    fn new_commit(&self) {
        let (ours, peer) = (self.directory("new-commit"), self.directory("new-commit-peer"));
        let clone = self.place.join("new-commit-clone");
        time(git().args(["clone", "--quiet", "--bare", "--branch", BRANCH, self.uri()]).arg(&clone));
        let (version, _) = self.ours(&ours, &Value::Null);
        let mut rows = vec![
            Row::new("git fetch", || time(git().arg("-C").arg(&clone).args(["fetch", "--quiet", "origin", BRANCH]))),
            Row::new("check", || self.ours(&ours, &version).1),
        ];
        self.add_peer(&mut rows, &peer);
        table::print("check, one new commit", || self.history.commit(), rows);
    }

    fn cold(&self) {
        let (ours, peer) = (self.place.join("cold"), self.place.join("cold-peer"));
        let (shallow, full) = (self.place.join("cold-shallow"), self.place.join("cold-full"));
        let mut rows = vec![
            Row::new("git fetch --depth=32 --filter=blob:none", || {
                remove(&shallow);
                self.empty_repository(&shallow);
                let mut fetch = git();
                fetch.arg("-C").arg(&shallow).args(["fetch", "--quiet", "--depth=32", "--filter=blob:none", "origin"]);
                time(fetch.arg(BRANCH))
            }),
            Row::new("check", || {
                remove(&ours);
                std::fs::create_dir(&ours).expect("a directory can be made");
                self.ours(&ours, &Value::Null).1
            }),
            Row::new("git clone", || {
                remove(&full);
                time(git().args(["clone", "--quiet", "--bare", "--branch", BRANCH, self.uri()]).arg(&full))
            }),
        ];
        if self.peer.is_some() {
            rows.push(Row::new("check of the git resource", || {
                remove(&peer);
                std::fs::create_dir(&peer).expect("a directory can be made");
                self.peer(&peer, None).1
            }));
        }
        table::print("check, cold", || {}, rows);
    }

    fn add_peer<'a>(&'a self, rows: &mut Vec<Row<'a>>, cache: &'a Path) {
        if self.peer.is_some() {
            let (version, _) = self.peer(cache, None);
            rows.push(Row::new("check of the git resource", move || self.peer(cache, Some(&version)).1));
        }
    }

    /// Runs check with this directory for its cache; the newest version, and how long it took.
    fn ours(&self, cache: &Path, version: &Value) -> (Value, Duration) {
        let source = json!({
            "git": {"uri": self.uri(), "branch": BRANCH},
            "registry": {"repository": "127.0.0.1:1/nobody"},
            "build": {"context": CONTEXT},
        });
        let ran = Program::check().environment("TMPDIR", cache).run(&json!({"source": source, "version": version}));
        (newest(&ran.succeeds()), ran.elapsed)
    }

    fn peer(&self, cache: &Path, version: Option<&Value>) -> (Value, Duration) {
        let directory = self.peer.as_ref().expect("it is called only when there is one");
        let request = json!({"source": {"uri": self.uri(), "branch": BRANCH, "paths": [CONTEXT]}, "version": version});
        let input = cache.join("request.json");
        std::fs::write(&input, request.to_string()).expect("a file can be written");
        let mut command = Command::new(Path::new(directory).join("check"));
        command.stdin(std::fs::File::open(&input).expect("it was just written"));
        command.env("TMPDIR", cache).env("HOME", cache);
        let begin = Instant::now();
        let output = command.output().expect("PEER is a directory with a check that runs here");
        let elapsed = begin.elapsed();
        assert!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
        (newest(&serde_json::from_slice(&output.stdout).expect("a check answers JSON")), elapsed)
    }

    /// Makes an empty repository that has the server's as its remote.
    fn empty_repository(&self, path: &Path) {
        time(git().args(["init", "--quiet", "--bare"]).arg(path));
        time(git().arg("-C").arg(path).args(["remote", "add", "origin", self.uri()]));
    }

    fn uri(&self) -> &str {
        self.history.git.uri()
    }

    fn directory(&self, name: &str) -> std::path::PathBuf {
        let path = self.place.join(name);
        std::fs::create_dir(&path).expect("a directory can be made");
        path
    }
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
