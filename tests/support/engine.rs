//! Docker's engine, `dockerd`, with everything it writes in memory.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::server::{Server, answers, free_port, run};
use super::temporary;

/// The bridge of the engine's containers. `--bridge=none` would break every RUN through BuildKit.
const BRIDGE: &str = "git-image0";

/// The bridge's address, of a range that is kept for documentation: it is nobody's.
pub const ADDRESS: &str = "198.51.100.1";

/// A running engine. There is one for all tests of a binary: [`super::engine`].
pub struct Engine {
    server: Server,
    directory: TempDir,
    port: u16,
}

impl Engine {
    /// Starts it, on a socket and on a port of 127.0.0.1.
    #[track_caller]
    pub(super) fn start() -> Self {
        let (directory, port) = (temporary(), free_port());
        run(ip().args(["link", "add", BRIDGE, "type", "bridge"]));
        run(ip().args(["address", "add", &format!("{ADDRESS}/24"), "dev", BRIDGE]));
        run(ip().args(["link", "set", BRIDGE, "up"]));
        let path = directory.path();
        std::fs::write(path.join("config.json"), "{}").expect("the configuration can be written");
        let socket = path.join("docker.sock");
        let option = |name: &str, value: &Path| format!("--{name}={}", value.display());
        let mut command = Command::new("dockerd");
        command
            .arg(option("config-file", &path.join("config.json")))
            .arg(option("data-root", &path.join("data")))
            .arg(option("exec-root", &path.join("exec")))
            .arg(option("pidfile", &path.join("pid")))
            .arg(format!("--host=unix://{}", socket.display()))
            .arg(format!("--host=tcp://127.0.0.1:{port}"))
            .arg("--tls=false")
            .arg(format!("--bridge={BRIDGE}"))
            .args(["--iptables=false", "--ip6tables=false", "--ip-forward=false"])
            .env("DOCKER_TMPDIR", path.join("tmp"));
        if let Some(group) = std::env::var_os("GIT_IMAGE_GROUP") {
            command.arg(option("cgroup-parent", &Path::new("/").join(group)));
        }
        let server = Server::start(&mut command, &path.join("log"), || socket.exists() && answers(port));
        Self { server, directory, port }
    }

    /// Its address as `engine.host` has it: `unix:///…`.
    pub fn host(&self) -> String {
        format!("unix://{}/docker.sock", self.directory.path().display())
    }

    /// The same engine on a port: `tcp://127.0.0.1:…`.
    pub fn tcp_host(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// The log of the engine.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Asks its API and returns the answer: `get("/images/json")`.
    #[track_caller]
    pub fn get(&self, path: &str) -> super::http::Answer {
        super::http::get(&self.url(path))
    }

    /// The address of something in its API.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

fn ip() -> Command {
    Command::new("ip")
}
