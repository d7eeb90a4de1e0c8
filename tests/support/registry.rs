//! `docker-registry` of Debian (distribution 2.8.2), with deletion enabled.

use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::certificates::Certificates;
use super::server::{Server, answers, free_port, run, wait_until};
use super::tokens::TokenServer;
use super::{http, temporary};

/// A name and a password.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    /// The name.
    pub username: &'a str,
    /// The password.
    pub password: &'a str,
}

/// Whom a registry lets in.
#[derive(Clone, Copy, Default)]
pub enum Access<'a> {
    /// Everybody.
    #[default]
    Open,
    /// This account, by HTTP basic authentication.
    Basic(Account<'a>),
    /// This account, by bearer tokens of a server of our own. Without an account, tokens allow to pull only.
    Token(Account<'a>),
}

/// Whether a server speaks TLS, with certificates of an authority of its own.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Transport {
    /// HTTP.
    #[default]
    Plain,
    /// HTTPS.
    Tls,
}

/// Whether a registry deletes manifests.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Deletion {
    /// It does.
    #[default]
    Enabled,
    /// It answers 405.
    Disabled,
}

/// Which clients a registry with TLS speaks to.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Clients {
    /// All.
    #[default]
    All,
    /// Those with a certificate of its own authority.
    Certified,
}

/// How a registry is started.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// Whom it lets in.
    pub access: Access<'a>,
    /// How it is reached.
    pub transport: Transport,
    /// Whether it deletes.
    pub deletion: Deletion,
    /// Which clients it speaks to.
    pub clients: Clients,
}

/// A running registry. Its data is gone when it is dropped.
pub struct Registry {
    server: Server,
    directory: TempDir,
    port: u16,
    transport: Transport,
    certificates: Option<Certificates>,
    tokens: Option<TokenServer>,
}

impl Registry {
    /// Starts one on a free port.
    #[track_caller]
    pub fn start(options: Options<'_>) -> Self {
        let Options { access, transport, deletion, clients } = options;
        let (directory, port) = (temporary(), free_port());
        let path = directory.path();
        let mut config = json!({
            "version": "0.1",
            "log": {"level": "warn", "formatter": "text", "accesslog": {"disabled": false}},
            "storage": {
                "filesystem": {"rootdirectory": path.join("data")},
                "delete": {"enabled": deletion == Deletion::Enabled},
                "cache": {"blobdescriptor": "inmemory"},
                "maintenance": {"uploadpurging": {"enabled": false}},
            },
            "http": {"addr": format!("127.0.0.1:{port}"), "secret": "test"},
        });
        let certificates = (transport == Transport::Tls).then(Certificates::new);
        if let Some(certificates) = &certificates {
            config["http"]["tls"] =
                json!({"certificate": certificates.certificate_file(), "key": certificates.key_file()});
            if clients == Clients::Certified {
                config["http"]["tls"]["clientcas"] = json!([certificates.authority_file()]);
            }
        }
        let mut tokens = None;
        match access {
            Access::Open => {}
            Access::Basic(account) => {
                let file = path.join("htpasswd");
                std::fs::write(&file, bcrypt(account)).expect("the password file can be written");
                config["auth"] = json!({"htpasswd": {"realm": "test", "path": file}});
            }
            Access::Token(account) => {
                let server = TokenServer::start(account);
                config["auth"] = json!({"token": server.registry_config()});
                tokens = Some(server);
            }
        }
        let file = path.join("config.json");
        std::fs::write(&file, config.to_string()).expect("the configuration can be written");
        let server = Server::start(
            Command::new("docker-registry").arg("serve").arg(&file).env("OTEL_TRACES_EXPORTER", "none"),
            &path.join("log"),
            || answers(port),
        );
        Self { server, directory, port, transport, certificates, tokens }
    }

    /// Host and port, as they stand in a reference: `127.0.0.1:20000`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A repository as `source.repository` has it.
    pub fn repository(&self, name: &str) -> String {
        format!("{}/{name}", self.host())
    }

    /// The address of something in the registry's API: `url("acme/api/tags/list")`.
    pub fn url(&self, path: &str) -> String {
        let scheme = match self.transport {
            Transport::Plain => "http",
            Transport::Tls => "https",
        };
        format!("{scheme}://{}/v2/{path}", self.host())
    }

    /// The certificate of its authority as PEM; none for [`Transport::Plain`].
    pub fn ca_certs(&self) -> Option<&str> {
        self.certificates.as_ref().map(|certificates| certificates.authority.as_str())
    }

    /// The same certificate in a file.
    pub fn ca_file(&self) -> Option<std::path::PathBuf> {
        self.certificates.as_ref().map(Certificates::authority_file)
    }

    /// An entry of `client_certs` that [`Clients::Certified`] lets in; none for [`Transport::Plain`].
    pub fn client_cert(&self) -> Option<Value> {
        let read = |path| std::fs::read_to_string(path).expect("the file is there");
        let entry = |of: &Certificates| json!({"cert": read(of.certificate_file()), "key": read(of.key_file())});
        self.certificates.as_ref().map(entry)
    }

    /// Its token server; none but for [`Access::Token`].
    pub fn tokens(&self) -> Option<&TokenServer> {
        self.tokens.as_ref()
    }

    /// The requests answered so far, in the order of their answers: `HEAD /v2/acme/api/manifests/x 200`.
    ///
    /// The access log is written after an answer, so this sends one request more and waits for that; it is not in the list.
    #[track_caller]
    pub fn requests(&self) -> Vec<String> {
        static LAST: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let mark = format!("/v2/?mark={}", LAST.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        http::get(&self.url(mark.trim_start_matches("/v2/")));
        wait_until("the registry's access log", || self.server.log().contains(&format!("{mark} ")));
        self.server.log().lines().filter_map(request_in_log).filter(|line| !line.contains("/v2/?mark=")).collect()
    }

    /// The requests that name this repository.
    #[track_caller]
    pub fn requests_for(&self, repository: &str) -> Vec<String> {
        let path = format!("/v2/{repository}/");
        self.requests().into_iter().filter(|line| line.contains(&path)).collect()
    }

    /// The tags of a repository, sorted; empty if there is no such repository. Only for [`Access::Open`].
    #[track_caller]
    pub fn tags(&self, repository: &str) -> Vec<String> {
        let answer = http::get(&self.url(&format!("{repository}/tags/list")));
        let mut tags: Vec<String> = match &answer.json()["tags"] {
            Value::Array(tags) => tags.iter().filter_map(|tag| tag.as_str().map(str::to_owned)).collect(),
            _ => Vec::new(),
        };
        tags.sort();
        tags
    }

    /// The digest that a tag or digest has; none if it is not there. Only for [`Access::Open`].
    #[track_caller]
    pub fn digest(&self, repository: &str, reference: &str) -> Option<String> {
        let answer = self.manifest("HEAD", repository, reference);
        (answer.status == 200).then(|| answer.header("docker-content-digest").to_owned())
    }

    /// A manifest as JSON; fails if it is not there. Only for [`Access::Open`].
    #[track_caller]
    pub fn image_manifest(&self, repository: &str, reference: &str) -> Value {
        let answer = self.manifest("GET", repository, reference);
        assert_eq!(answer.status, 200, "{repository}:{reference}: {}", answer.text());
        answer.json()
    }

    /// An image's configuration as JSON. Only for [`Access::Open`].
    #[track_caller]
    pub fn image_config(&self, repository: &str, reference: &str) -> Value {
        let manifest = self.image_manifest(repository, reference);
        let digest = manifest["config"]["digest"].as_str().expect("a manifest has a config");
        http::get(&self.url(&format!("{repository}/blobs/{digest}"))).json()
    }

    /// Puts a manifest as it is given, and returns its digest. Only for [`Access::Open`].
    #[track_caller]
    pub fn put_manifest(&self, repository: &str, reference: &str, media_type: &str, manifest: &[u8]) -> String {
        let answer = http::send("PUT", &self.url(&format!("{repository}/manifests/{reference}")), |request| {
            request.header("content-type", media_type).body(manifest.to_vec())
        });
        assert_eq!(answer.status, 201, "PUT {repository}:{reference}: {}", answer.text());
        answer.header("docker-content-digest").to_owned()
    }

    /// Puts a blob, and returns its digest. Only for [`Access::Open`].
    #[track_caller]
    pub fn put_blob(&self, repository: &str, blob: &[u8]) -> String {
        let digest = super::image::digest(blob);
        let begun = http::send("POST", &self.url(&format!("{repository}/blobs/uploads/")), |request| request);
        assert_eq!(begun.status, 202, "POST {repository}: {}", begun.text());
        let done = http::send("PUT", begun.header("location"), |request| {
            request.query(&[("digest", &digest)]).body(blob.to_vec())
        });
        assert_eq!(done.status, 201, "PUT {repository} {digest}: {}", done.text());
        digest
    }

    /// Deletes a manifest by its tag or digest, and returns the status. Only for [`Access::Open`].
    #[track_caller]
    pub fn delete(&self, repository: &str, reference: &str) -> u16 {
        http::send("DELETE", &self.url(&format!("{repository}/manifests/{reference}")), |request| request).status
    }

    /// Where it keeps its data: to damage a blob, or to take one away.
    pub fn data(&self) -> std::path::PathBuf {
        self.directory.path().join("data/docker/registry/v2")
    }

    /// Collects its garbage, as its operator does; nobody may push meanwhile. What an earlier version of its caches had may
    /// be wrong afterwards.
    #[track_caller]
    pub fn collect_garbage(&self) {
        run(Command::new("docker-registry").arg("garbage-collect").arg(self.directory.path().join("config.json")));
    }

    /// Whether a blob lies on its disk, in whichever repository.
    pub fn has_blob_on_disk(&self, digest: &str) -> bool {
        let hex = digest.trim_start_matches("sha256:");
        self.data().join(format!("blobs/sha256/{}/{hex}/data", &hex[..2])).exists()
    }

    /// Ends it, as an outage does.
    pub fn stop(self) {
        self.server.stop();
    }

    #[track_caller]
    fn manifest(&self, method: &str, repository: &str, reference: &str) -> http::Answer {
        http::send(method, &self.url(&format!("{repository}/manifests/{reference}")), |request| {
            request.header("accept", super::image::MANIFEST_TYPES.join(", "))
        })
    }
}

/// One line for `docker-registry`'s password file.
#[track_caller]
fn bcrypt(account: Account<'_>) -> String {
    // The lowest cost: it is checked again with every request.
    run(Command::new("htpasswd").args(["-nbB", "-C", "4", account.username, account.password])) + "\n"
}

/// Method, path and status of a line in Apache's combined log format.
fn request_in_log(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("] \"")?;
    let (request, rest) = rest.split_once(" HTTP/")?;
    let (_, rest) = rest.split_once("\" ")?;
    let status = rest.split(' ').next()?;
    Some(format!("{request} {status}"))
}
