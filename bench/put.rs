//! How long a put takes when nothing changed, beside `docker build` and `docker push` of the same files.
//!
//! - `TURNS=50`: how often each row is measured.
//! - `REPOSITORY=path`: a repository of your own instead of the one that is made.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads its environment, and starts what it measures itself with"
)]
#![expect(clippy::print_stdout, reason = "the counts belong to the tables")]

mod history;
#[path = "../tests/support/mod.rs"]
mod support;
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use history::{BRANCH, CONTEXT, History};
use serde_json::{Value, json};
use support::program::Program;
use support::{servers, temporary};
use table::{Row, time};

/// Debian's, which fits the engine of the tests: another one on the PATH may want plugins.
const DOCKER: &str = "/usr/bin/docker";

fn main() {
    let dockerfile = format!("FROM {}\nCOPY . /image\n", servers().base_image());
    let history = History::make(&dockerfile);
    let place = temporary();
    for (title, name, context) in [
        ("put, nothing changed, two files", "two-files", CONTEXT),
        ("put, nothing changed, all files", "all-files", "."),
    ] {
        let bench = Bench { history: &history, place: place.path(), name, context };
        bench.nothing_changed(title);
        bench.count_requests();
    }
}

struct Bench<'a> {
    history: &'a History,
    place: &'a Path,
    /// The repository of the image.
    name: &'static str,
    /// The directory that the image is made of, with the Dockerfile of the first one.
    context: &'static str,
}

impl Bench<'_> {
    fn nothing_changed(&self, title: &str) {
        let full = self.checkout("full", None);
        // Whoever is first builds; from then on nothing changes.
        self.put(&full);
        let new = || self.checkout("new", Some(1));
        let rows = vec![
            Row::new("docker build, docker push; a new checkout of depth 1", || self.docker(&new())),
            Row::new("put; a new checkout of depth 1", || self.put(&new())),
            Row::new("docker build, docker push; a full checkout", || self.docker(&full)),
            Row::new("put; a full checkout", || self.put(&full)),
        ];
        table::print(title, || {}, rows);
    }

    fn count_requests(&self) {
        let artifacts = self.checkout("count", Some(1));
        let put = self.requests(|| self.put(&artifacts));
        let docker = self.requests(|| self.docker(&artifacts));
        println!("  requests to the registry: {put} by put, {docker} by docker build and docker push");
    }

    fn requests(&self, run: impl FnOnce() -> Duration) -> usize {
        let count = || servers().registry().requests().len();
        let before = count();
        run();
        count() - before
    }

    /// Checks the branch out anew as the artifact `repo`; the directory of the artifacts.
    fn checkout(&self, name: &str, depth: Option<u32>) -> PathBuf {
        let artifacts = self.place.join(self.name).join(name);
        if artifacts.exists() {
            std::fs::remove_dir_all(&artifacts).expect("what was made can be removed");
        }
        std::fs::create_dir_all(&artifacts).expect("a directory can be made");
        self.history.git.checkout(&artifacts.join("repo"), BRANCH, depth);
        artifacts
    }

    fn put(&self, artifacts: &Path) -> Duration {
        let source = json!({
            "git": {"uri": self.history.git.uri(), "branch": BRANCH},
            "registry": {"repository": servers().registry().repository(self.name), "insecure": true},
            "build": {"context": self.context, "dockerfile": format!("{CONTEXT}/Dockerfile")},
            "engine": {"host": servers().engine().host()},
        });
        let ran = Program::put(artifacts).run(&json!({"source": source, "params": {"source": "repo"}}));
        let _: Value = ran.succeeds();
        ran.elapsed
    }

    fn docker(&self, artifacts: &Path) -> Duration {
        let checkout = artifacts.join("repo");
        let reference = format!("{}:docker", servers().registry().repository(self.name));
        let docker = |arguments: &[&str]| {
            let mut command = Command::new(DOCKER);
            command.args(arguments).env("DOCKER_BUILDKIT", "1").env("HOME", self.place);
            time(command.env("DOCKER_HOST", servers().engine().host()).current_dir(&checkout))
        };
        let file = format!("{CONTEXT}/Dockerfile");
        docker(&["build", "--quiet", "--tag", &reference, "--file", &file, self.context])
            + docker(&["push", "--quiet", &reference])
    }
}
