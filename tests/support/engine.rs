//! The engines that build images, with everything they write in memory.
//!
//! [`EngineKind::ALL`] names them, for tests that run the same builds against each; [`of`] starts each once for a test
//! binary. A test that needs one of its own (TLS, a small disk, one that dies) starts it with [`Engine::start`].

mod buildkit;
mod docker;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use tempfile::TempDir;

use super::certificates::Certificates;
use super::registry::{Registry, Transport};
use super::server::{Server, answers, free_port, run};
use super::{http, temporary};

/// An address that is not loopback: engines trust registries on 127.0.0.0/8, and not here.
/// It is of a range that is kept for documentation: it is nobody's. It is there once an engine was started, or
/// [`make_address`] was called.
pub const ADDRESS: &str = "198.51.100.1";

/// An engine that builds are tested against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// Debian's Docker engine, 20.10.
    Docker20,
    /// The Docker engine of a later Debian, 28 or newer, with its classic store.
    Docker28,
    /// The same engine with containerd's store.
    Docker28Containerd,
    /// BuildKit's daemon, of the version that the resource's image has.
    BuildKit,
}

impl EngineKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Docker20, Self::Docker28, Self::Docker28Containerd, Self::BuildKit];

    /// How a test's message calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker20 => "Docker 20.10",
            Self::Docker28 => "Docker 28, classic store",
            Self::Docker28Containerd => "Docker 28, containerd store",
            Self::BuildKit => "BuildKit",
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Docker20 => 0,
            Self::Docker28 => 1,
            Self::Docker28Containerd => 2,
            Self::BuildKit => 3,
        }
    }
}

/// How an engine is started.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// How its port is reached. With TLS it asks clients for a certificate of its own authority.
    pub transport: Transport,
    /// Registries with TLS whose authority it trusts. Only for [`EngineKind::BuildKit`].
    pub trusts: &'a [&'a Registry],
    /// What builds may be allowed, such as `network.host`. Only for [`EngineKind::BuildKit`].
    pub entitlements: &'a [&'a str],
    /// The size of the disk for all its data, as `mount` writes it: `64m`. Without it, it may take what there is.
    pub disk: Option<&'a str>,
}

/// A running engine, ended when dropped.
pub struct Engine {
    kind: EngineKind,
    server: Server,
    directory: TempDir,
    port: u16,
    certificates: Option<Certificates>,
}

/// Makes [`ADDRESS`] one of this network namespace.
#[track_caller]
pub fn make_address() {
    static ONCE: LazyLock<()> = LazyLock::new(|| {
        run(Command::new("ip").args(["address", "add", &format!("{ADDRESS}/32"), "dev", "lo"]));
    });
    LazyLock::force(&ONCE);
}

/// The engine of this kind that all tests of a binary share; started when it is first asked for.
pub fn of(kind: EngineKind) -> &'static Engine {
    static ENGINES: [LazyLock<Engine>; 4] = [
        LazyLock::new(|| Engine::start(EngineKind::Docker20, Options::default())),
        LazyLock::new(|| Engine::start(EngineKind::Docker28, Options::default())),
        LazyLock::new(|| Engine::start(EngineKind::Docker28Containerd, Options::default())),
        LazyLock::new(|| Engine::start(EngineKind::BuildKit, Options::default())),
    ];
    &ENGINES[kind.index()]
}

/// A program of BuildKit that `make setup` put into the cache: `buildkitd` or `buildctl`.
pub fn buildkit_program(name: &str) -> PathBuf {
    const VERSION: &str = include_str!("../../resource-image/buildkit-version");
    cache().join(format!("buildkit-{}", VERSION.trim())).join(name)
}

impl Engine {
    /// Starts one, on a socket and on a port of 127.0.0.1.
    #[track_caller]
    pub fn start(kind: EngineKind, options: Options<'_>) -> Self {
        make_address();
        let (directory, port) = (temporary(), free_port());
        let path = directory.path();
        let data = path.join("data");
        std::fs::create_dir(&data).expect("a directory can be made");
        if let Some(size) = options.disk {
            run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "disk"]).arg(&data));
        }
        let certificates = (options.transport == Transport::Tls).then(Certificates::new);
        let mut command = match kind {
            EngineKind::Docker20 => docker::command("dockerd", path, "{}"),
            EngineKind::Docker28 => docker::newer(path, docker::Store::Classic),
            EngineKind::Docker28Containerd => docker::newer(path, docker::Store::Containerd),
            EngineKind::BuildKit => buildkit::command(path, options),
        };
        command.args(match kind {
            EngineKind::BuildKit => buildkit::port(port, certificates.as_ref()),
            EngineKind::Docker20 | EngineKind::Docker28 | EngineKind::Docker28Containerd => {
                docker::port(port, certificates.as_ref())
            }
        });
        let socket = socket(path);
        let server = Server::start(&mut command, &path.join("log"), || socket.exists() && answers(port));
        Self { kind, server, directory, port, certificates }
    }

    /// Its address as `engine.host` has it: `unix:///…`.
    pub fn host(&self) -> String {
        format!("unix://{}", socket(self.directory.path()).display())
    }

    /// The same engine on a port: `tcp://127.0.0.1:…`.
    pub fn tcp_host(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// What its port needs with [`Transport::Tls`]: its authority, and a certificate that a client may show.
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// The log of the engine.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Asks its API and returns the answer: `get("/images/json")`. Only for Docker, without TLS.
    #[track_caller]
    pub fn get(&self, path: &str) -> http::Answer {
        http::get(&self.url(path))
    }

    /// The address of something in its API. Only for Docker, without TLS.
    #[track_caller]
    pub fn url(&self, path: &str) -> String {
        assert_ne!(self.kind, EngineKind::BuildKit, "BuildKit's API is not HTTP's");
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// BuildKit's own client, connected to this engine. Only for [`EngineKind::BuildKit`].
    #[track_caller]
    pub fn buildctl(&self) -> Command {
        assert_eq!(self.kind, EngineKind::BuildKit, "Docker's sockets speak HTTP first");
        let mut command = Command::new(buildkit_program("buildctl"));
        command.arg("--addr").arg(self.host());
        command
    }

    /// Ends it at once, as a crash does.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.server.kill();
        // What it mounted would keep its directory; a mount that is not there is no fault.
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let below = |line: &&str| line.split(' ').nth(1).is_some_and(|at| Path::new(at).starts_with(&self.directory));
        for mount in mounts.lines().filter(below) {
            let _ = Command::new("umount").arg("--lazy").args(mount.split(' ').nth(1)).status();
        }
    }
}

/// Where an engine listens, below its directory.
fn socket(directory: &Path) -> PathBuf {
    directory.join("engine.sock")
}

/// What `make setup` keeps outside of the checkout.
fn cache() -> PathBuf {
    let home = || Path::new(&std::env::var_os("HOME").expect("a user has a home")).join(".cache");
    std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("git-image")
}

/// `--name=value`
fn option(name: &str, value: impl AsRef<std::ffi::OsStr>) -> OsString {
    let mut option = OsString::from(format!("--{name}="));
    option.push(value);
    option
}

/// The control group for all that an engine runs: `in-namespace` removes it.
fn group() -> Option<PathBuf> {
    std::env::var_os("GIT_IMAGE_GROUP").map(|group| Path::new("/").join(group))
}
