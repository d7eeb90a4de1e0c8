//! Starts real servers for tests and the demo, and runs our programs as Concourse does.
//!
//! Everything runs in the namespaces that `tests/support/in-namespace` made: ports are ours alone, data is in memory,
//! and what still runs when a test binary ends is ended with it. A server that cannot start fails the test, with its log.
//!
//! - [`servers`]: the plain registry, git server and engine that the tests of one binary share;
//! - [`registry`]: `docker-registry`, plain or with passwords, tokens or TLS; [`tokens`], [`certificates`]: what those need;
//! - [`git`]: repositories, their history and checkouts; git over HTTP and over SSH;
//! - [`engine`]: Docker's engines and BuildKit; [`image`]: a base image made of busybox;
//! - [`lfs`]: a server of Git LFS before a git server;
//! - [`program`]: our programs, run as Concourse runs them; [`container`]: in a container like its own;
//! - [`resource_image`]: the image of the resource type, built of the programs under test;
//! - [`proxy`]: stands between a program and a server, so that something can happen at any request;
//! - [`tunnel`]: a forward proxy with a password, as companies have them;
//! - [`http`]: one request, when a test wants to see an answer itself; [`chance`]: numbers for long stories.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![expect(clippy::disallowed_methods, reason = "the product's rules for starting programs are not those of its tests")]

pub mod certificates;
pub mod chance;
pub mod container;
pub mod engine;
pub mod git;
pub mod http;
pub mod image;
pub mod lfs;
pub mod program;
pub mod proxy;
pub mod registry;
pub mod resource_image;
pub mod server;
pub mod tokens;
pub mod tunnel;

use std::path::Path;
use std::sync::{LazyLock, OnceLock};

use engine::{Engine, EngineKind};
use git::GitServer;
use registry::Registry;
use tempfile::TempDir;

/// Where everything of a run is: a tmpfs that only this run sees.
const WORK: &str = "/run/git-image";

/// The servers that the tests of one binary share. Each is started when it is first asked for.
///
/// Tests share them, so each uses repositories of its own names.
pub struct Servers {
    registry: LazyLock<Registry>,
    git: LazyLock<GitServer>,
}

impl Servers {
    /// A registry without TLS or passwords.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// A git server without TLS or passwords.
    pub fn git(&self) -> &GitServer {
        &self.git
    }

    /// The engine of tests that need only one.
    pub fn engine(&self) -> &'static Engine {
        engine()
    }

    /// A reference in the shared registry to the base image, for `FROM`.
    pub fn base_image(&self) -> &str {
        static REFERENCE: OnceLock<String> = OnceLock::new();
        REFERENCE.get_or_init(|| image::push_base(self.registry(), "base", "1", None))
    }
}

/// The shared servers; see [`Servers`].
pub fn servers() -> &'static Servers {
    static SERVERS: Servers = Servers {
        registry: LazyLock::new(|| Registry::start(registry::Options::default())),
        git: LazyLock::new(|| GitServer::start(git::Options::default())),
    };
    &SERVERS
}

/// The engine of tests that need only one: Debian's own. [`engine::of`] has the others.
pub fn engine() -> &'static Engine {
    engine::of(EngineKind::Docker20)
}

/// A new directory in memory, removed when dropped. Other users may enter it.
#[track_caller]
pub fn temporary() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    tempfile::Builder::new()
        .prefix("t-")
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir_in(work())
        .expect("the work directory is writable")
}

/// The directory that holds the data of all servers.
#[track_caller]
fn work() -> &'static Path {
    static REPORTED: LazyLock<()> = LazyLock::new(report_at_once);
    LazyLock::force(&REPORTED);
    let work = Path::new(WORK);
    assert!(
        work.is_dir(),
        "there is no {WORK}: servers are started only in namespaces of their own; run this as root, through cargo \
         (its runner is tests/support/in-namespace)"
    );
    work
}

/// Says why a test failed when it fails, besides at the end of the run: a log that was cut off has it then.
fn report_at_once() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        use std::io::Write as _;
        let thread = std::thread::current();
        // Written past the harness, which would keep it until the end.
        let _ = writeln!(std::io::stderr(), "{}: {panic}", thread.name().unwrap_or("a thread"));
        usual(panic);
    }));
}
