//! Children: the one type that starts programs, and can stop them with all that they started.

mod enclosed;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, test_kill_process_group, waitid,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};

pub use enclosed::{Enclosed, Ended};

/// How long a child may take to end itself after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

/// How much of what a child says on descriptor 2 is kept: its end, at least this and at most twice as much.
const STDERR_BYTES: usize = 16 * 1024;

/// The names of the variables that children inherit: where a proxy is.
const PROXIES: [&str; 8] =
    ["http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"];

/// What a child may know of the environment that we run in. Everything else is hidden from it.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Where temporary files go.
    pub temporary: PathBuf,
    path: OsString,
    proxies: Vec<(OsString, OsString)>,
    ssh_agent: Option<OsString>,
}

/// The variable that says where the user's ssh agent listens. Concourse's containers have none.
const SSH_AGENT: &str = "SSH_AUTH_SOCK";

impl Environment {
    /// Takes `PATH`, the proxies and the ssh agent out of all variables. Without `PATH`, the system's usual directories.
    pub fn select(temporary: PathBuf, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut path = OsString::from("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let (mut proxies, mut ssh_agent) = (Vec::new(), None);
        for (name, value) in variables {
            if name == "PATH" {
                path = value;
            } else if name == SSH_AGENT {
                ssh_agent = Some(value);
            } else if PROXIES.iter().any(|proxy| name == *proxy) {
                proxies.push((name, value));
            }
        }
        Self { temporary, path, proxies, ssh_agent }
    }

    /// The variables that say where a proxy is, as far as they are text.
    pub fn proxies(&self) -> Vec<(String, String)> {
        let text = |text: &OsString| text.to_str().map(str::to_owned);
        self.proxies.iter().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect()
    }

    /// The variable with the user's ssh agent, for git alone: every other child is kept from it.
    pub fn ssh_agent(&self) -> Option<(&'static str, &OsStr)> {
        Some((SSH_AGENT, self.ssh_agent.as_deref()?))
    }

    /// Where on the `PATH` this program is.
    pub fn find(&self, program: &str) -> Option<PathBuf> {
        use std::os::unix::fs::PermissionsExt as _;
        let is_program = |path: &PathBuf| {
            path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        };
        std::env::split_paths(&self.path).map(|directory| directory.join(program)).find(is_program)
    }
}

/// Why a child did not do what it was started for.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The program is not on the `PATH`.
    #[error("cannot run {what}: there is no program `{program}`")]
    Missing {
        /// The program.
        program: String,
        /// What it was started for.
        what: String,
    },
    /// It could not be started, or its pipes broke.
    #[error("cannot run {what}")]
    Io {
        /// The program.
        program: String,
        /// What it was started for.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended with a status other than 0.
    #[error("{what} failed")]
    Failed {
        /// The program.
        program: String,
        /// What it was started for.
        what: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        #[source]
        said: Said,
    },
    /// It printed more than it may.
    #[error("{what} printed more than {limit_bytes} bytes")]
    TooMuch {
        /// The program.
        program: String,
        /// What it was started for.
        what: String,
        /// How much it may print.
        limit_bytes: usize,
    },
}

impl ProgramError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { program, .. } => {
                Some(format!("`{program}` must be on the PATH; the image of this resource type has it"))
            }
            Self::Io { .. } | Self::Failed { .. } | Self::TooMuch { .. } => None,
        }
    }
}

/// The end of what a program said on descriptor 2, or how it ended when it said nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said(pub String);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Said {}

/// A program that is about to be started, with nothing of our environment but what [`Environment`] lets through.
///
/// It gets a process group of its own. When the future that runs it is dropped, the whole group gets SIGTERM, up
/// to two seconds, and SIGKILL; the child is reaped before the drop ends. A program that returns has closed its
/// stdout and stderr, and so has everything that inherited them.
pub struct Program {
    program: String,
    what: String,
    command: tokio::process::Command,
    input: Vec<u8>,
    limit_bytes: usize,
    group: Group,
}

/// Which process group a child is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    /// One of its own, which is ended with it.
    Own,
    /// Ours: only there may it ask on the terminal. It alone is ended.
    Ours,
}

impl Program {
    /// The program of this name on the `PATH`. `what` is what it is started for, as in `git fetch`.
    pub fn new(program: &str, what: impl Into<String>, environment: &Environment) -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the type that starts children")]
        let mut command = tokio::process::Command::new(program);
        command
            .env_clear()
            .env("PATH", &environment.path)
            .env("TMPDIR", &environment.temporary)
            .env("HOME", "/nonexistent")
            .env("LANG", "C")
            .env("LC_ALL", "C")
            .envs(environment.proxies.iter().map(|(name, value)| (name, value)));
        Self {
            program: program.to_owned(),
            what: what.into(),
            command,
            input: Vec::new(),
            limit_bytes: 512 * 1024 * 1024,
            group: Group::Own,
        }
    }

    /// Adds an argument. Never a secret: everyone on the machine can read arguments.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets variables.
    pub fn envs(mut self, variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>) -> Self {
        self.command.envs(variables);
        self
    }

    /// The directory that it runs in.
    pub fn directory(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// What it reads from stdin, which is closed after it; nothing when not called.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Lets it ask on the terminal: it stays in our process group.
    pub fn attended(mut self) -> Self {
        self.group = Group::Ours;
        self
    }

    /// How much it may print; 512 MiB when not called.
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit_bytes = bytes;
        self
    }

    /// Runs it to its end and gives what it printed.
    ///
    /// # Errors
    ///
    /// It cannot be started, prints too much, or its status is not 0.
    pub async fn output(self) -> Result<Vec<u8>, ProgramError> {
        let (program, what, limit_bytes) = (self.program.clone(), self.what.clone(), self.limit_bytes);
        self.read(async move |stdout| {
            let mut printed = Vec::new();
            let limit = u64::try_from(limit_bytes).unwrap_or(u64::MAX).saturating_add(1);
            match stdout.take(limit).read_to_end(&mut printed).await {
                Err(source) => Err(ProgramError::Io { program, what, source }),
                Ok(_) if printed.len() > limit_bytes => Err(ProgramError::TooMuch { program, what, limit_bytes }),
                Ok(_) => Ok(printed),
            }
        })
        .await
    }

    /// Runs it to its end while `reader` takes what it prints.
    ///
    /// # Errors
    ///
    /// It cannot be started, or its status is not 0. When `reader` fails, the program is stopped.
    /// When both fail, the program's own error is given: it is the reason of the reader's.
    pub async fn read<T, E: From<ProgramError>>(
        mut self,
        reader: impl AsyncFnOnce(&mut BufReader<ChildStdout>) -> Result<T, E>,
    ) -> Result<T, E> {
        let stdin = if self.input.is_empty() { Stdio::null() } else { Stdio::piped() };
        self.command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.spawn()?;
        let Self { program, what, input, .. } = self;
        let io = |source| ProgramError::Io { program: program.clone(), what: what.clone(), source };
        let stdin = child.child.stdin.take();
        let (Some(stdout), Some(stderr)) = (child.child.stdout.take(), child.child.stderr.take()) else {
            return Err(io(io::Error::other("it has no pipes")).into());
        };
        let mut stdout = BufReader::with_capacity(64 * 1024, stdout);
        let reading = async {
            let value = reader(&mut stdout).await;
            // A reader that gave up leaves the rest: closing the pipe tells the program.
            drop(stdout);
            value
        };
        let (fed, value, said) = tokio::join!(feed(stdin, &input), reading, tail(stderr));
        let status = child.child.wait().await.map_err(io)?;
        let said = said.map_err(io)?;
        // A program that was refused its output ends by SIGPIPE; then the reader's error is the reason.
        let by_pipe = std::os::unix::process::ExitStatusExt::signal(&status) == Some(Signal::PIPE.as_raw());
        let is_refused = by_pipe && value.is_err();
        if !status.success() && !is_refused {
            let said = if said.is_empty() { Said(status.to_string()) } else { Said(said) };
            return Err(ProgramError::Failed { program, what, status, said }.into());
        }
        let value = value?;
        fed.map_err(io)?;
        Ok(value)
    }
}

impl Program {
    /// Runs it to its end with our own stdin, stdout and stderr: it speaks with the user.
    ///
    /// # Errors
    ///
    /// It cannot be started, or its status is not 0.
    pub async fn run_on_terminal(self) -> Result<(), ProgramError> {
        let mut program = self.attended();
        let mut child = program.spawn()?;
        let Self { program, what, .. } = program;
        let status = match child.child.wait().await {
            Ok(status) => status,
            Err(source) => return Err(ProgramError::Io { program, what, source }),
        };
        let said = Said(status.to_string());
        if status.success() { Ok(()) } else { Err(ProgramError::Failed { program, what, status, said }) }
    }

    fn spawn(&mut self) -> Result<Running, ProgramError> {
        if self.group == Group::Own {
            self.command.process_group(0);
        }
        let (program, what) = (self.program.clone(), self.what.clone());
        match self.command.spawn() {
            Ok(child) => Ok(Running { child, group: self.group }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ProgramError::Missing { program, what }),
            Err(source) => Err(ProgramError::Io { program, what, source }),
        }
    }
}

/// Writes the input and closes the pipe. A program that ends without reading it all says itself why.
async fn feed(stdin: Option<ChildStdin>, input: &[u8]) -> io::Result<()> {
    let Some(mut stdin) = stdin else { return Ok(()) };
    match stdin.write_all(input).await {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// The last [`STDERR_BYTES`] of a stream, as text.
async fn tail(mut stream: impl AsyncRead + Unpin) -> io::Result<String> {
    let mut kept = Vec::new();
    loop {
        let read = stream.read_buf(&mut kept).await?;
        if read == 0 {
            break;
        }
        keep_end(&mut kept);
    }
    Ok(String::from_utf8_lossy(&kept).trim().to_owned())
}

/// Drops what was said long ago.
fn keep_end(said: &mut Vec<u8>) {
    if said.len() > 2 * STDERR_BYTES {
        said.drain(..said.len() - STDERR_BYTES);
    }
}

/// A child that is ended, with its process group, when this is dropped.
struct Running {
    child: Child,
    group: Group,
}

impl Drop for Running {
    /// Blocks for up to [`GRACE`]: a drop cannot wait otherwise, and what drops this is ending its step.
    fn drop(&mut self) {
        // `None`: it was waited for, so its process id is no longer ours.
        let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) else { return };
        let end = |signal| match self.group {
            Group::Own => kill_process_group(pid, signal),
            Group::Ours => kill_process(pid, signal),
        };
        // The leader is left unreaped until the last signal is sent, so that the group's id cannot be another's.
        let _ = end(Signal::TERM);
        let since = Instant::now();
        let has_ended = || {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
            !matches!(waitid(WaitId::Pid(pid), options), Ok(None))
        };
        while !has_ended() && since.elapsed() < GRACE {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = end(Signal::KILL);
        while let Ok(None) = self.child.try_wait() {
            std::thread::sleep(Duration::from_millis(1));
        }
        // What the leader started dies at once, but is gone only when init has reaped it, which we cannot do.
        let since = Instant::now();
        while test_kill_process_group(pid).is_ok() && since.elapsed() < GRACE / 4 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment::select(PathBuf::from("/tmp"), [("SECRET".into(), "x".into()), ("no_proxy".into(), "a".into())])
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts").block_on(future)
    }

    fn shell(script: &str) -> Program {
        Program::new("sh", "the script", &environment()).args(["-c", script])
    }

    #[test]
    fn a_child_sees_only_the_variables_that_it_is_given() {
        let printed = run(Program::new("env", "env", &environment()).env("MORE", "1").output()).expect("env runs");
        let text = String::from_utf8(printed).expect("env prints text");
        let mut names: Vec<&str> = text.lines().filter_map(|line| line.split('=').next()).collect();
        names.sort_unstable();
        assert_eq!(names, ["HOME", "LANG", "LC_ALL", "MORE", "PATH", "TMPDIR", "no_proxy"]);
    }

    #[test]
    fn large_input_and_large_output_do_not_block_each_other() {
        let input = vec![b'x'; 1 << 20];
        let program = Program::new("cat", "cat", &environment()).input(input.clone());
        assert_eq!(run(program.output()).expect("cat runs"), input);
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(Program::new("no-such-program", "a test", &environment()).output()).expect_err("none is there");
        assert_eq!(error.to_string(), "cannot run a test: there is no program `no-such-program`");
    }

    #[test]
    fn a_failing_program_gives_its_own_words() {
        let error = run(shell("echo because >&2; exit 3").output()).expect_err("it fails");
        let ProgramError::Failed { status, said, .. } = error else { panic!("{error:?}") };
        assert_eq!((status.code(), said.0.as_str()), (Some(3), "because"));
    }

    #[test]
    fn a_program_that_prints_too_much_is_refused() {
        let error = run(shell("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxx; done").limit(1000).output());
        assert!(matches!(error, Err(ProgramError::TooMuch { limit_bytes: 1000, .. })), "{error:?}");
    }

    #[test]
    fn dropping_a_run_ends_the_whole_group_also_what_ignores_sigterm() {
        let directory = tempfile::tempdir().expect("a directory is made");
        let file = directory.path().join("pids");
        let script = format!("trap '' TERM; sleep 60 & echo $$ $! > {0}.new; mv {0}.new {0}; wait", file.display());
        let pids = run(async {
            tokio::select! {
                result = shell(&script).output() => panic!("it ended by itself: {result:?}"),
                pids = async { loop {
                    if let Ok(text) = std::fs::read_to_string(&file) { break text; }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                } } => pids,
            }
        });
        for pid in pids.split_whitespace() {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // What init has not reaped yet is a zombie: it runs no more.
            assert!(stat.is_empty() || stat.contains(") Z "), "{pid} still runs: {stat}");
        }
    }
}
