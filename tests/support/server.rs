//! A server program: started, waited for, ended.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How long a server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How many bytes of a log are shown when its server failed.
const LOG_TAIL: usize = 4000;

/// A running server program, ended when dropped.
pub struct Server {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Server {
    /// Starts a program with its output in `log`, and waits until `ready` says that it answers.
    #[track_caller]
    pub fn start(command: &mut Command, log: &Path, ready: impl Fn() -> bool) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let output = File::create(log).expect("the log can be created");
        let errors = output.try_clone().expect("the log's handle can be cloned");
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}; `make setup` installs it"));
        let mut server = Self { child, name, log: log.to_owned() };
        let begin = Instant::now();
        while !ready() {
            if let Some(status) = server.child.try_wait().expect("a child can be waited for") {
                panic!("{} ended with {status}; its log:\n{}", server.name, server.log_tail());
            }
            assert!(
                begin.elapsed() < START_LIMIT,
                "{} does not answer after {START_LIMIT:?}; its log:\n{}",
                server.name,
                server.log_tail()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Ends it and waits for that.
    pub fn stop(self) {
        drop(self);
    }

    /// Ends it at once and waits for that.
    pub fn kill(&mut self) {
        // It may have ended by itself; there is nothing more to do then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let start = log.len().saturating_sub(LOG_TAIL);
        let start = (start..log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or(log.len());
        log[start..].to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nothing in this network namespace uses. Counted, not asked for: a port that the system gives out and
/// that is closed again may be given to another connection before its server listens.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Whether a port of 127.0.0.1 accepts connections.
pub fn answers(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// Waits until `condition` holds; fails the test after ten seconds, saying `what` was waited for.
#[track_caller]
pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(10), "waited ten seconds for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Runs a program of the system to its end and returns its output; fails the test if it fails.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output =
        command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} ended with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}
