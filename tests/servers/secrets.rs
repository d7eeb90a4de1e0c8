//! Secrets: no program says one, hands one to a child as an argument, or puts one into an image.

use std::io::Read;
use std::path::Path;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::project::{Project, with_engine};
use crate::proxy::{Pace, Proxy};
use crate::support::git::{GitServer, Options as GitOptions, Passphrase, SshServer, file};
use crate::support::program::{Program, Ran};
use crate::support::registry::{Access, Account, Options, Registry};
use crate::support::server::wait_until;
use crate::support::tunnel::Tunnel;
use crate::support::{servers, temporary};

const GIT: Account<'_> = Account { username: "ada", password: "git-secret-7f3a" };
const REGISTRY: Account<'_> = Account { username: "bob", password: "registry-secret-91c2" };
const PROXY: Account<'_> = Account { username: "eve", password: "proxy-secret-55d8" };

/// The secrets in every form in which they could be seen.
fn secrets() -> Vec<String> {
    let both = |account: Account<'_>| format!("{}:{}", account.username, account.password);
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    [GIT, REGISTRY, PROXY]
        .into_iter()
        .flat_map(|account| [account.password.to_owned(), encode(&both(account))])
        .collect()
}

#[track_caller]
fn tells_none(what: &str, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    for secret in secrets() {
        assert!(!text.contains(&secret), "{what} has {secret}:\n{text}");
    }
}

#[track_caller]
fn ran_tells_none(ran: &Ran) {
    tells_none("stdout", ran.stdout.as_bytes());
    tells_none("stderr", ran.stderr.as_bytes());
}

/// Every file below a directory, also what is inside of gzip.
#[track_caller]
fn files_tell_none(directory: &Path) {
    for entry in std::fs::read_dir(directory).expect("the directory is there").flatten() {
        let path = entry.path();
        let kind = entry.file_type().expect("the file system tells it");
        if kind.is_dir() {
            files_tell_none(&path);
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).expect("the file can be read");
            let mut inflated = Vec::new();
            if flate2::read::GzDecoder::new(bytes.as_slice()).read_to_end(&mut inflated).is_ok() {
                tells_none(&path.display().to_string(), &inflated);
            }
            tells_none(&path.display().to_string(), &bytes);
        }
    }
}

/// What every process was started with.
fn command_lines() -> Vec<u8> {
    let entries = std::fs::read_dir("/proc").expect("/proc is there").flatten();
    entries.flat_map(|entry| std::fs::read(entry.path().join("cmdline")).unwrap_or_default()).collect()
}

/// A private git server and a private registry, with an image project.
struct Private {
    git: GitServer,
    registry: Registry,
    tunnel: Tunnel,
    uri: String,
}

impl Private {
    fn start() -> Self {
        let git = GitServer::start(GitOptions { account: Some(GIT), ..GitOptions::default() });
        let registry = Registry::start(Options { access: Access::Basic(REGISTRY), ..Options::default() });
        let repository = git.repository("acme");
        let base = servers().base_image();
        repository.commit(
            "master",
            &[file("ci/image/Dockerfile", &format!("FROM {base}\nCOPY tool.sh /\n")), file("ci/image/tool.sh", "x\n")],
        );
        Self { uri: repository.uri().to_owned(), git, registry, tunnel: Tunnel::start(Some(PROXY)) }
    }

    fn source(&self, git: Value) -> Value {
        json!({
            "git": git,
            "registry": {
                "repository": self.registry.repository("acme/app"), "insecure": true,
                "username": REGISTRY.username, "password": REGISTRY.password,
            },
            "build": {"context": "ci/image"},
        })
    }

    /// The three ways to give git a password, and a proxy with one of its own.
    fn gits(&self) -> [Value; 4] {
        let Account { username, password } = GIT;
        let header = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
        [
            json!({"uri": self.uri, "branch": "master", "username": username, "password": password}),
            json!({"uri": self.uri.replace("://", &format!("://{username}:{password}@")), "branch": "master"}),
            json!({
                "uri": self.uri, "branch": "master",
                "git_config": [{"name": "http.extraHeader", "value": format!("Authorization: Basic {header}")}],
            }),
            json!({
                "uri": self.uri, "branch": "master", "username": username, "password": password,
                "https_tunnel": {
                    "proxy_host": "127.0.0.1", "proxy_port": self.tunnel.port(),
                    "proxy_user": PROXY.username, "proxy_password": PROXY.password,
                },
            }),
        ]
    }
}

#[test]
fn no_step_tells_a_password_and_no_image_and_no_checkout_has_one() {
    let private = Private::start();
    for git in private.gits() {
        let source = private.source(git);
        let ran = Program::check().run(&json!({"source": source}));
        let version = ran.succeeds()[0].clone();
        ran_tells_none(&ran);

        let artifacts = temporary();
        let request =
            json!({"source": with_engine(&source), "params": {"rebuild": true, "labels": {"by": "$BUILD_ID"}}});
        let ran = Program::put(artifacts.path()).run(&request);
        ran.succeeds();
        ran_tells_none(&ran);

        let directory = temporary();
        let request = json!({"source": source, "version": version, "params": {"source": true}});
        let ran = Program::get(directory.path()).run(&request);
        ran.succeeds();
        ran_tells_none(&ran);
        assert!(directory.path().join("source/.git/config").exists());
        files_tell_none(directory.path());
    }
    files_tell_none(&private.registry.data());
}

#[test]
fn no_failing_step_tells_a_password() {
    let private = Private::start();
    for git in private.gits() {
        let mut source = private.source(git);
        source["git"]["branch"] = json!("none");
        let ran = Program::check().run(&json!({"source": source}));
        assert_eq!(ran.code, Some(1));
        ran_tells_none(&ran);

        source["git"]["branch"] = json!("master");
        let uri = source["git"]["uri"].as_str().expect("a text").replace("acme", "none");
        source["git"]["uri"] = json!(uri);
        let ran = Program::put(temporary().path()).run(&json!({"source": source}));
        assert_eq!(ran.code, Some(1));
        ran_tells_none(&ran);

        source["git"]["uri"] = json!(uri.replace("127.0.0.1:", "127.0.0.1:1"));
        let ran = Program::check().run(&json!({"source": source}));
        assert_eq!(ran.code, Some(1));
        ran_tells_none(&ran);
    }
    drop(private.git);
}

#[test]
fn no_child_has_a_password_among_its_arguments() {
    let private = Private::start();
    let address = private.uri.trim_start_matches("http://").split('/').next().expect("it has a host").to_owned();
    for git in private.gits() {
        let proxy = Proxy::start(&address, Pace::Silent);
        let mut source = private.source(git);
        let uri = source["git"]["uri"].as_str().expect("a text").replace(&address, &proxy.host());
        source["git"]["uri"] = json!(uri);
        let tmp = temporary();
        let running = Program::check().environment("TMPDIR", tmp.path()).start(&json!({"source": source}).to_string());
        wait_until("git has connected", || proxy.connections() > 0);
        tells_none("a command line", &command_lines());
        // With the server's answer, git goes on to the fetch and its further children.
        proxy.set(Pace::Slow);
        let seen = proxy.connections();
        wait_until("git asks again", || {
            tells_none("a command line", &command_lines());
            proxy.connections() > seen || proxy.bytes() > 500
        });
        running.terminate();
        ran_tells_none(&running.wait());
    }
}

#[test]
fn a_private_key_is_in_no_log_no_argument_and_no_file_that_stays() {
    let project = Project::new("secrets-key");
    let ssh = SshServer::start(servers().git(), Passphrase::Words("passphrase-secret-55d1"));
    let key = ssh.private_key();
    let line = key.lines().nth(2).expect("a key has several lines").to_owned();
    let source = project.source_with(&[(
        "/git",
        json!({
            "uri": ssh.uri(project.name), "branch": "master", "private_key": key,
            "private_key_passphrase": "passphrase-secret-55d1", "known_hosts": ssh.known_hosts(),
        }),
    )]);
    let tmp = temporary();
    let ran = Program::check().environment("TMPDIR", tmp.path()).run(&json!({"source": source}));
    ran.succeeds();
    let mut wrong = source.clone();
    wrong["git"]["private_key_passphrase"] = json!("wrong-secret-55d1");
    let failed = Program::check().environment("TMPDIR", tmp.path()).run(&json!({"source": wrong}));
    assert_eq!(failed.code, Some(1));
    let stays = files_with(tmp.path(), &[&line, "secret-55d1"]);
    assert_eq!(stays, [""; 0], "files that hold a secret stay");
    for text in [&ran.stderr, &failed.stderr, &ran.stdout] {
        assert!(!text.contains(&line) && !text.contains("secret-55d1"), "{text}");
    }
}

/// The files below a directory that have one of these words.
fn files_with(directory: &Path, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("the directory is there").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, words));
        } else if let Ok(bytes) = std::fs::read(&path) {
            let text = String::from_utf8_lossy(&bytes);
            if words.iter().any(|word| text.contains(word)) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}
