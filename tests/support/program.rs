//! Our programs, run as Concourse runs them.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a program may run; no test needs nearly as long.
const LIMIT: Duration = Duration::from_secs(120);

/// A program with its arguments and environment, not yet started.
#[derive(Debug)]
pub struct Program {
    command: Command,
}

impl Program {
    /// `/opt/resource/check`. What Concourse says about builds is not in its environment.
    pub fn check() -> Self {
        Self::new("check")
    }

    /// `/opt/resource/in`, which writes into this directory.
    pub fn get(directory: &Path) -> Self {
        Self::new("in").argument(directory).build_environment()
    }

    /// `/opt/resource/out`, with the directory that holds the artifacts.
    pub fn put(directory: &Path) -> Self {
        Self::new("out").argument(directory).build_environment()
    }

    /// The command line.
    pub fn git_image<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Self {
        arguments.into_iter().fold(Self::new("git-image"), Self::argument)
    }

    /// A program without an argument, though it may need one.
    pub fn bare(name: &str) -> Self {
        Self::new(name)
    }

    /// A program that another one runs, in a container.
    pub fn run_by(command: Command) -> Self {
        Self { command }
    }

    /// Where a program of this package is: next to the directory of the test or example that runs.
    pub fn path(name: &str) -> PathBuf {
        let current = std::env::current_exe().expect("a process knows its program");
        let profile =
            current.parent().and_then(Path::parent).expect("target/PROFILE/deps/NAME or target/PROFILE/examples/NAME");
        profile.join(name)
    }

    /// Any program, in the environment that Concourse gives: nothing but PATH and HOME; `/` as working directory.
    /// TMPDIR, which Concourse does not set, stands for the container's own `/tmp`: this machine's is not ours to fill.
    fn new(name: &str) -> Self {
        let mut command = Command::new(Self::path(name));
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("TMPDIR", std::env::temp_dir())
            .current_dir("/");
        Self { command }
    }

    /// One argument more.
    pub fn argument(mut self, argument: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// One variable more.
    pub fn environment(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Another working directory.
    pub fn working_directory(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Runs it with this JSON on stdin.
    #[track_caller]
    pub fn run(self, request: &Value) -> Ran {
        self.run_text(&request.to_string())
    }

    /// Runs it with this text on stdin.
    #[track_caller]
    pub fn run_text(self, stdin: &str) -> Ran {
        self.start(stdin).wait()
    }

    /// Starts it with this text on stdin, which is closed then.
    #[track_caller]
    pub fn start(mut self, stdin: &str) -> Running {
        let begin = Instant::now();
        let mut child = self
            .command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {:?}: {error}", self.command));
        let stdout = follow(child.stdout.take().expect("stdout is a pipe"));
        let stderr = follow(child.stderr.take().expect("stderr is a pipe"));
        // A program may end before it has read everything; what it then says is what the test looks at.
        let _ = child.stdin.take().expect("stdin is a pipe").write_all(stdin.as_bytes());
        Running { child, begin, stdout, stderr, seen: String::new() }
    }

    /// The variables that get and put steps have.
    fn build_environment(self) -> Self {
        self.environment("BUILD_ID", "42")
            .environment("BUILD_NAME", "7")
            .environment("BUILD_JOB_ID", "3")
            .environment("BUILD_JOB_NAME", "image")
            .environment("BUILD_PIPELINE_ID", "2")
            .environment("BUILD_PIPELINE_NAME", "acme")
            .environment("BUILD_TEAM_ID", "1")
            .environment("BUILD_TEAM_NAME", "main")
            .environment("BUILD_URL", "http://ci.example/teams/main/pipelines/acme/jobs/image/builds/7")
            .environment("BUILD_URL_SHORT", "http://ci.example/builds/42")
            .environment("ATC_EXTERNAL_URL", "http://ci.example")
    }
}

/// A program that was started.
#[derive(Debug)]
pub struct Running {
    child: Child,
    begin: Instant,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
    seen: String,
}

impl Running {
    /// Waits until stderr has this text.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        while !self.seen.contains(text) {
            let left = LIMIT.saturating_sub(self.begin.elapsed());
            match self.stderr.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(error) => panic!("stderr never had {text:?} ({error}):\n{}", self.seen),
            }
        }
    }

    /// Sends SIGTERM, as Concourse does when a build is aborted.
    #[track_caller]
    pub fn terminate(&self) {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).expect("the program still runs");
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end, and for the end of everybody who still holds its output.
    #[track_caller]
    pub fn wait(mut self) -> Ran {
        let status = self.wait_for_end();
        let elapsed = self.begin.elapsed();
        let stdout = collect(&self.stdout, "stdout");
        let stderr = std::mem::take(&mut self.seen) + &collect(&self.stderr, "stderr");
        Ran { stdout, stderr, code: status.code(), elapsed }
    }

    #[track_caller]
    fn wait_for_end(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            if LIMIT < self.begin.elapsed() {
                // It is ended so that its stderr ends too, and can be shown.
                self.child.kill().expect("a child can be ended");
                panic!(
                    "the program still ran after {LIMIT:?}; stderr:\n{}{}",
                    self.seen,
                    collect(&self.stderr, "stderr")
                );
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What a program did.
#[derive(Debug)]
pub struct Ran {
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// How long it ran.
    pub elapsed: Duration,
}

impl Ran {
    /// Its answer; fails the test unless it ended with 0 and printed JSON.
    #[track_caller]
    pub fn succeeds(&self) -> Value {
        assert_eq!(self.code, Some(0), "the program failed:\n{}", self.stderr);
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("stdout is not JSON ({error}): {:?}", self.stdout))
    }

    /// Fails the test unless it ended with 1, printed nothing on stdout and exactly this on stderr.
    #[track_caller]
    pub fn fails_with(&self, stderr: &str) {
        assert_eq!(self.stderr, stderr);
        assert_eq!(self.stdout, "");
        assert_eq!(self.code, Some(1));
    }
}

/// Reads a pipe on a thread of its own, so that neither pipe can fill up while the other is read.
fn follow(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// The rest of a pipe. A child that outlived the program may hold it open: that is a fault of ours, and said so.
#[track_caller]
fn collect(receiver: &Receiver<Vec<u8>>, name: &str) -> String {
    let mut bytes = Vec::new();
    loop {
        match receiver.recv_timeout(Duration::from_secs(10)) {
            Ok(more) => bytes.extend(more),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                panic!("the program ended, but somebody still holds its {name}")
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
