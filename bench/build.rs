//! How long a put takes that builds, beside `docker build` with `docker push` or `skopeo copy` of the same files.
//!
//! - `TURNS=5`: how often each row is measured.
//!
//! Our rows build with a BuildKit daemon, those of docker with Debian's engine; both are warm, in memory, and as near as
//! the registry. Before each run of a row the changed files are written anew, which is not part of its time.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads its environment, and starts what it measures itself with"
)]

#[path = "../tests/support/mod.rs"]
mod support;
mod table;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use support::engine::{self, EngineKind};
use support::git::{GitRepository, file};
use support::program::Program;
use support::{servers, temporary};
use table::{Row, time};

/// Debian's, which fits the engine of the tests: another one on the PATH may want plugins.
const DOCKER: &str = "/usr/bin/docker";

/// How often rows are measured that take seconds.
const TURNS: usize = 5;

const MB: usize = 1_000_000;

fn main() {
    let place = temporary();
    large_layer(place.path());
    small_layer(place.path());
    new_checkout(place.path());
}

/// 280 MB: 90 of text, 128 of programs, and 62 that are random and change every time.
fn large_layer(place: &Path) {
    let bench = Bench::new(place, "large");
    let files = bench.checkout.join("repo/files");
    std::fs::create_dir_all(&files).expect("a directory can be made");
    let text: String = (0_u64..).map(|number| format!("line {number} of some text\n")).take(90 * MB / 25).collect();
    write(&files.join("text"), text.as_bytes());
    let mut programs = std::fs::read(Program::path("out")).expect("it is built");
    while programs.len() < 128 * MB {
        programs.extend_from_within(..);
    }
    write(&files.join("programs"), &programs[..128 * MB]);
    let change = || write(&files.join("random"), &random(62 * MB));
    let rows = vec![
        Row::new("docker build, docker push", || {
            change();
            let time = bench.docker_build() + bench.docker_push();
            bench.forget();
            time
        }),
        Row::new("docker build, skopeo copy", || {
            change();
            let time = bench.docker_build() + bench.skopeo_copy();
            bench.forget();
            time
        }),
        Row::new("put, gzip", || {
            change();
            let time = bench.put(json!(null));
            bench.forget();
            time
        }),
        Row::new("put, zstd", || {
            change();
            let time = bench.put(json!("zstd"));
            bench.forget();
            time
        }),
    ];
    table::print_in("put, a layer of 280 MB changed", TURNS, || {}, rows);
}

fn small_layer(place: &Path) {
    let bench = Bench::new(place, "small");
    let files = bench.checkout.join("repo/files");
    std::fs::create_dir_all(&files).expect("a directory can be made");
    let change = || write(&files.join("random"), &random(1000));
    let rows = vec![
        Row::new("docker build, docker push", || {
            change();
            bench.docker_build() + bench.docker_push()
        }),
        Row::new("put", || {
            change();
            bench.put(json!(null))
        }),
    ];
    table::print("put, a layer of 1 kB changed, warm builder", || {}, rows);
}

/// 5,000 files of 200 MB, checked out anew: the builder has them all, the registry does not have the image.
fn new_checkout(place: &Path) {
    let bench = Bench::new(place, "checkout");
    let bytes = random(200 * MB);
    let files: Vec<(String, &[u8])> = bytes
        .chunks(bytes.len() / 5000)
        .enumerate()
        .map(|(number, part)| (format!("files/{}/{number}", number % 50), part))
        .collect();
    let changes: Vec<_> = files.iter().map(|(path, part)| support::git::Change::Write(path.as_str(), part)).collect();
    bench.git.commit("master", &changes);
    let number = Cell::new(0);
    let anew = |bench: &mut Bench| {
        number.set(number.get() + 1);
        bench.checkout = place.join(format!("checkout-{}", number.get()));
        std::fs::create_dir(&bench.checkout).expect("a directory can be made");
        bench.git.checkout(&bench.checkout.join("repo"), "master", Some(1));
    };
    let bench = std::cell::RefCell::new(bench);
    let rows = vec![
        Row::new("docker build, docker push", || {
            anew(&mut bench.borrow_mut());
            bench.borrow().docker_build() + bench.borrow().docker_push()
        }),
        Row::new("put", || {
            anew(&mut bench.borrow_mut());
            bench.borrow().put(json!(null))
        }),
    ];
    table::print_in("put, 5,000 files of 200 MB in a new checkout, warm builder", TURNS, || {}, rows);
}

struct Bench {
    name: &'static str,
    git: GitRepository,
    place: PathBuf,
    /// The directory with the artifact `repo`.
    checkout: PathBuf,
}

impl Bench {
    fn new(place: &Path, name: &'static str) -> Self {
        let git = servers().git().repository(name);
        let dockerfile = format!("FROM {}\nCOPY files /files\n", servers().base_image());
        git.commit("master", &[file("Dockerfile", &dockerfile)]);
        let checkout = place.join(name);
        std::fs::create_dir(&checkout).expect("a directory can be made");
        git.checkout(&checkout.join("repo"), "master", Some(1));
        Self { name, git, place: place.to_owned(), checkout }
    }

    fn put(&self, compression: Value) -> Duration {
        let source = json!({
            "git": {"uri": self.git.uri(), "branch": "master"},
            "registry": {"repository": servers().registry().repository(self.name), "insecure": true},
            "build": {"compression": compression},
            "engine": {"host": engine::of(EngineKind::BuildKit).host()},
            // What changes is not in git.
            "only_built": true,
        });
        let params = json!({"source": "repo", "rebuild": true});
        let ran = Program::put(&self.checkout).run(&json!({"source": source, "params": params}));
        let _: Value = ran.succeeds();
        ran.elapsed
    }

    fn reference(&self) -> String {
        format!("{}:docker", servers().registry().repository(self.name))
    }

    fn docker(&self, arguments: &[&str]) -> Duration {
        let mut command = Command::new(DOCKER);
        command.args(arguments).env("DOCKER_BUILDKIT", "1").env("HOME", &self.place);
        time(command.env("DOCKER_HOST", servers().engine().host()).current_dir(self.checkout.join("repo")))
    }

    fn docker_build(&self) -> Duration {
        self.docker(&["build", "--quiet", "--tag", &self.reference(), "."])
    }

    fn docker_push(&self) -> Duration {
        self.docker(&["push", "--quiet", &self.reference()])
    }

    fn skopeo_copy(&self) -> Duration {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", "--src-daemon-host"]);
        skopeo.arg(servers().engine().host());
        time(skopeo.args([format!("docker-daemon:{0}", self.reference()), format!("docker://{}", self.reference())]))
    }

    /// Lets both engines forget what they have built, so that their disk, which is memory, does not fill.
    fn forget(&self) {
        self.docker(&["image", "rm", "--force", &self.reference()]);
        self.docker(&["builder", "prune", "--all", "--force"]);
        time(engine::of(EngineKind::BuildKit).buildctl().args(["prune", "--all"]));
    }
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("a file can be written");
}

/// Bytes that no compression makes smaller.
fn random(length: usize) -> Vec<u8> {
    use std::io::Read as _;
    let mut bytes = vec![0; length];
    let mut source = std::fs::File::open("/dev/urandom").expect("it is there");
    source.read_exact(&mut bytes).expect("it has no end");
    bytes
}
