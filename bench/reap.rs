//! How many requests and seconds a reap needs: 10,000 tags, 400 branches, 28,000 commits.
//!
//! - `TAGS=10000`: how many tags the registry has.
//! - `REPOSITORY=path`: a git repository of your own instead of the one that is made.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark reads its environment, starts what it measures itself with, and prints a table"
)]

mod history;
#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use history::{BRANCH, History};
use serde_json::{Value, json};
use support::image::{OCI_MANIFEST, digest};
use support::program::Program;
use support::servers;

/// How many branches live.
const BRANCHES: usize = 400;

/// The repository on the registry.
const NAME: &str = "reaped";

fn main() {
    let tags = std::env::var("TAGS").map_or(10_000, |text| text.parse().expect("TAGS is a number"));
    let history = History::make("FROM scratch\nCOPY tool.sh /tool.sh\n");
    let line = history.git.git(&["rev-list", "--first-parent", BRANCH]);
    let line: Vec<&str> = line.lines().collect();
    let tips: Vec<(String, &str)> = line
        .iter()
        .step_by(line.len() / BRANCHES)
        .take(BRANCHES)
        .enumerate()
        .map(|(n, tip)| (branch(n), *tip))
        .collect();
    for (name, tip) in &tips {
        write(&history.git.path().join("refs/heads").join(name), format!("{tip}\n").as_bytes());
    }

    let source = json!({
        "git": {"uri": history.git.uri()},
        "registry": {"repository": servers().registry().repository(NAME), "insecure": true},
    });
    let store = Store::new(history.git.uri());
    let mut written = 0;
    for (name, tip) in &tips {
        written += store.image(name, tip);
    }
    let mut gone = 0;
    while written < tags {
        gone += 1;
        written += store.image(&format!("gone-{gone}"), &format!("{:040x}", 0xdead_0000_0000_u64 + gone));
    }
    println!("\n{written} tags, {} of them dead, {BRANCHES} branches, {} commits", gone * 3, line.len());
    println!("{:<44} {:>10} {:>10} {:>10}", "", "requests", "seconds", "MB");
    measure("plan", &["--grace", "0s"], &source);
    let all = written.to_string();
    let apply = ["--grace", "0s", "--max-delete", &all, "--apply", "--delete-untagged"];
    measure("plan and remove", &apply, &source);
    measure("delete the images without a tag", &apply, &source);
    measure("plan, nothing dead", &["--grace", "0s"], &source);
    let budget = 10 + 3 * 3 * gone as usize + 3 * BRANCHES + 2 * gone as usize;
    println!("  {:<42} {budget:>10}", "3 a dead tag, 1 a kept, 2 a dead image");
}

fn branch(number: usize) -> String {
    format!("branch-{number:03}")
}

/// Runs a reap, and prints what it needed.
fn measure(name: &str, arguments: &[&str], source: &Value) {
    let before = servers().registry().requests_for(NAME).len();
    let begin = Instant::now();
    let mut command = Command::new(Program::path("git-image"));
    command.args(["reap", "--source", "-"]).args(arguments).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    stdin.write_all(source.to_string().as_bytes()).expect("the program reads its source");
    drop(stdin);
    // The most memory that it ever had, as it is when it ends.
    let memory = std::thread::spawn(move || {
        let mut memory = String::new();
        while let Ok(text) = fs::read_to_string(&status) {
            let Some(line) = text.lines().find(|line| line.starts_with("VmHWM:")) else { break };
            line.split_whitespace().nth(1).unwrap_or_default().clone_into(&mut memory);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        memory.parse::<u64>().unwrap_or_default() / 1024
    });
    let ran = child.wait_with_output().expect("a child can be waited for");
    let seconds = begin.elapsed().as_secs_f64();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let memory = memory.join().expect("it only reads");
    let requests = servers().registry().requests_for(NAME).len() - before;
    println!("  {name:<42} {requests:>10} {seconds:>10.1} {memory:>10}");
}

/// The files of a registry, written by themselves: a push of so many tags would take longer than what is measured.
struct Store {
    root: PathBuf,
    repository: String,
}

impl Store {
    fn new(uri: &str) -> Self {
        let (_, rest) = uri.split_once("://").expect("an address has a scheme");
        let (authority, path) = rest.split_once('/').expect("an address has a path");
        let host = authority.rsplit('@').next().unwrap_or(authority);
        let host = host.split(':').next().unwrap_or(host);
        Self { root: servers().registry().data(), repository: format!("{host}/{}", path.trim_end_matches(".git")) }
    }

    /// An image with its three tags; how many there are.
    fn image(&self, branch: &str, commit: &str) -> usize {
        let inputs = &digest(commit.as_bytes())[7..];
        let labels = json!({
            "git-image.repository": self.repository, "git-image.commit": commit, "git-image.inputs": inputs,
        });
        let config = json!({"architecture": "amd64", "os": "linux", "config": {"Labels": labels}}).to_string();
        let config_digest = self.blob(config.as_bytes());
        self.link(&format!("_layers/{}", path_of(&config_digest)), &config_digest);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [],
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config.len()},
        });
        let manifest = self.blob(manifest.to_string().as_bytes());
        self.link(&format!("_manifests/revisions/{}", path_of(&manifest)), &manifest);
        let tags = [commit.to_owned(), format!("inputs-{inputs}"), format!("{branch}-latest")];
        for tag in &tags {
            self.link(&format!("_manifests/tags/{tag}/current"), &manifest);
            self.link(&format!("_manifests/tags/{tag}/index/{}", path_of(&manifest)), &manifest);
        }
        tags.len()
    }

    fn blob(&self, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let hex = &digest[7..];
        write(&self.root.join(format!("blobs/sha256/{}/{hex}/data", &hex[..2])), bytes);
        digest
    }

    fn link(&self, place: &str, digest: &str) {
        write(&self.root.join(format!("repositories/{NAME}/{place}/link")), digest.as_bytes());
    }
}

fn path_of(digest: &str) -> String {
    digest.replace(':', "/")
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("a file has a directory")).expect("a directory is made");
    fs::write(path, bytes).expect("a file is written");
}
