//! The resource protocol: one JSON value on stdin, one on stdout, everything for eyes on descriptor 2.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::clients::engine::embedded::keeper;
use crate::clients::process::Environment;
use crate::error::{Error, Report};
use crate::names::{BasesId, CommitId, InputsId};
use crate::request::RequestError;
use crate::say::Say;

/// A version of the resource: what Concourse stores, compares and hands back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// The commit that brought these inputs.
    #[serde(rename = "ref")]
    pub commit: CommitId,
    /// The digest of everything that the image is made of.
    pub inputs: InputsId,
    /// The digest of the images that it is built on; only with `source.build.follow_bases`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bases: Option<BasesId>,
}

impl Version {
    /// A version as git tells it.
    pub const fn of_git(commit: CommitId, inputs: InputsId) -> Self {
        Self { commit, inputs, bases: None }
    }

    /// What git tells of it.
    #[must_use]
    pub const fn without_bases(self) -> Self {
        Self { bases: None, ..self }
    }
}

/// What `in` and `out` answer.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// The version that was got or put.
    pub version: Version,
    /// What Concourse shows beside it, in this order.
    pub metadata: Vec<Metadata>,
}

/// One line that Concourse shows on the build page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// The name of the line.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What a step may know of the process that it runs in. Only this file reads it.
#[derive(Debug, Clone)]
pub struct Edge {
    /// The arguments after the program's name: the directory that `in` fills or `out` reads.
    pub arguments: Vec<OsString>,
    /// Concourse's `BUILD_*` and `ATC_EXTERNAL_URL`; empty for check, where they are frozen and shared.
    pub build: BTreeMap<String, String>,
    /// Everything in the environment, for what the source asks by name.
    pub variables: BTreeMap<OsString, OsString>,
    /// Where temporary files go.
    pub temporary: PathBuf,
    /// What the programs that we start may know of it.
    pub programs: Environment,
    /// The time at the start.
    pub now: Timestamp,
}

impl Edge {
    /// A variable of the environment; `None` when it is not set, or is no text.
    pub fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(OsStr::new(name))?.to_str().map(str::to_owned)
    }

    /// The directory that Concourse gives as the first argument.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn directory(&self) -> Result<&Path, RequestError> {
        self.arguments.first().map(Path::new).ok_or(RequestError::NoDirectory)
    }
}

/// How long work on threads may take to end. Concourse sends SIGKILL ten seconds after SIGTERM.
const LAST_WORK: Duration = Duration::from_secs(5);

/// Runs one step: reads the request, lets `step` answer it, prints the answer or the error.
///
/// SIGTERM and SIGINT drop the step, which ends whatever it started, and exit with 1.
pub fn run<Q, A, S>(step: S) -> ExitCode
where
    Q: crate::request::Request,
    A: Serialize,
    S: AsyncFnOnce(Q, &Edge, &Say) -> Result<A, Error>,
{
    if let Some(code) = keep_engine() {
        return code;
    }
    let say = Say::new(std::io::stderr());
    let edge = read_edge();
    let answer = block_on(&say, async {
        let mut text = Vec::new();
        std::io::stdin().read_to_end(&mut text).map_err(RequestError::unreadable)?;
        let request = Q::parse(&text)?;
        for secret in request.secrets() {
            say.hide(secret);
        }
        step(request, &edge, &say).await
    });
    match answer {
        Ok(answer) => print(&say, &answer),
        Err(code) => code,
    }
}

/// What a program does that was started to keep the engine of another one; `None`: it was not.
#[expect(clippy::disallowed_methods, reason = "the edge is where arguments are read")]
fn keep_engine() -> Option<ExitCode> {
    let is_keeper = std::env::args_os().nth(1).is_some_and(|argument| argument == keeper::ARGUMENT);
    is_keeper.then(|| keeper::run(std::io::BufReader::new(std::io::stdin())))
}

/// Runs a future to its end, or to SIGTERM or SIGINT; says what went wrong.
///
/// # Errors
///
/// With what the program is to end when it did not succeed.
pub fn block_on<T>(say: &Say, future: impl Future<Output = Result<T, Error>>) -> Result<T, ExitCode> {
    // Fails only when a provider was installed before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say.line(format_args!("error: cannot start the runtime\ncause: {error}"));
            return Err(ExitCode::FAILURE);
        }
    };
    let result = runtime.block_on(async {
        let (mut terminate, mut interrupt) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
            (Err(error), _) | (_, Err(error)) => {
                say.line(format_args!("error: cannot listen for signals\ncause: {error}"));
                return None;
            }
        };
        tokio::select! {
            biased;
            _ = terminate.recv() => Some(Err("SIGTERM")),
            _ = interrupt.recv() => Some(Err("SIGINT")),
            result = future => Some(Ok(result)),
        }
    });
    // A thread that unpacks removes what it made when its step is dropped: it gets the time for that.
    runtime.shutdown_timeout(LAST_WORK);
    match result.ok_or(ExitCode::FAILURE)? {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            say.line(Report(&error));
            Err(error.exit_code())
        }
        Err(signal) => {
            say.line(format_args!(
                "error: stopped by {signal}\nhint: what was begun has been ended; running the step again continues safely"
            ));
            Err(ExitCode::FAILURE)
        }
    }
}

fn print(say: &Say, answer: &impl Serialize) -> ExitCode {
    let text = serde_json::to_string(answer).expect("an answer has only text keys, so it is always JSON");
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say.line(format_args!("error: cannot print the answer on stdout\ncause: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Reads what a program may know of the process that it runs in.
#[expect(clippy::disallowed_methods, reason = "the edge is where environment and clock are read")]
pub fn read_edge() -> Edge {
    let concourse = |name: &str| name.starts_with("BUILD_") || name == "ATC_EXTERNAL_URL";
    let temporary = std::env::temp_dir();
    Edge {
        arguments: std::env::args_os().skip(1).collect(),
        build: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| concourse(name))
            .collect(),
        variables: std::env::vars_os().collect(),
        programs: Environment::select(temporary.clone(), std::env::vars_os()),
        temporary,
        now: Timestamp::now(),
    }
}
