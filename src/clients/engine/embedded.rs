//! The engine for those who have none: BuildKit's daemon of the resource's own image, for the time of one build.
//!
//! The daemon runs below a [`keeper`], process 1 of namespaces of its own, so that nothing of it survives, whatever happens.
//! Its state is a new directory of [`SCRATCH`], and is removed with it.

mod config;
pub mod keeper;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::thread::CapabilitySet;
use tokio::net::UnixStream;

use super::error::{EngineError, Refusal};
use super::random_id;
use crate::clients::process::{Enclosed, Ended, Environment, Program, ProgramError, Said};
use crate::request::{EngineHost, Source};
use keeper::{Order, Report};

/// The daemon, as it is called on the `PATH`.
pub(super) const DAEMON: &str = "buildkitd";

/// What the daemon runs containers with.
const RUNTIME: &str = "runc";

/// Where Concourse mounts an empty volume of the worker's own file system, in every container.
pub const SCRATCH: &str = "/scratch";

/// How long the daemon may take until it answers: usually a fifth of a second.
const START: Duration = Duration::from_secs(60);

/// What the daemon's log says of a disk without room.
const FULL: &str = "no space left on device";

/// How often a connection is tried.
const TRY: Duration = Duration::from_millis(2);

/// How long an engine that closed its connections may take to be gone.
const END: Duration = Duration::from_secs(1);

/// How long the keeper may take to end when its pipe is closed. It removes what the builds wrote, which may be large.
const GRACE: Duration = Duration::from_secs(6);

/// What the daemon is started with.
pub struct EmbeddedSettings<'a> {
    /// Where its state goes: [`SCRATCH`].
    pub scratch: &'a Path,
    /// Where programs are, and what they may know.
    pub environment: &'a Environment,
    /// The source: it says how registries are reached.
    pub source: &'a Source,
}

/// Why there is no engine inside the resource.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The container may not mount.
    #[error("cannot start the engine inside this resource: its container is not privileged")]
    NotPrivileged,
    /// The container may mount, but not all that is needed.
    #[error("cannot start the engine inside this resource: its container is not privileged enough to {what}")]
    Confined {
        /// What it may not do.
        what: String,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// The image of the resource lacks what the daemon runs containers with.
    #[error("cannot start the engine inside this resource: there is no program `{program}`")]
    NoRuntime {
        /// The program.
        program: &'static str,
    },
    /// There is no place for its state.
    #[error("cannot start the engine inside this resource: there is no directory {path}", path = path.display())]
    NoScratch {
        /// Where it should be.
        path: PathBuf,
    },
    /// There is no room for its state, or it may not be written.
    #[error("cannot start the engine inside this resource: cannot {what}")]
    State {
        /// What could not be done.
        what: String,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// The system cannot do what it needs.
    #[error("cannot start the engine inside this resource: cannot {what}")]
    System {
        /// What could not be done.
        what: String,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// The keeper could not be started.
    #[error("cannot start the engine inside this resource")]
    Keeper(#[source] ProgramError),
    /// The daemon ended while it built.
    #[error("the engine inside this resource ended while it worked on {reference}: {DAEMON} ended with {how}")]
    Lost {
        /// The image.
        reference: String,
        /// How it ended.
        how: String,
        /// Its log.
        #[source]
        said: Said,
    },
    /// A build failed as it does elsewhere, but what helps is another thing here.
    #[error(transparent)]
    Build(Box<EngineError>),
    /// The daemon ended before it answered.
    #[error("the engine inside this resource did not start: {DAEMON} ended with {how}")]
    Ended {
        /// How it ended.
        how: String,
        /// Its log.
        #[source]
        said: Said,
    },
    /// The daemon does not answer.
    #[error("the engine inside this resource did not start: it did not answer within {seconds} s")]
    Silent {
        /// How long was waited.
        seconds: u64,
        /// Its log.
        #[source]
        said: Said,
    },
}

impl EmbeddedError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotPrivileged => {
                "add the line `privileged: true` to this type in `resource_types` of the pipeline, beside its `name` and `type`; a worker that was started with \
                 --containerd-privileged-mode=ignore ignores the line. Or give `source.engine.host`: an engine elsewhere needs no privilege here"
            }
            Self::Confined { .. } => {
                "`privileged: true` is there, and the worker limits what it means: its operator can start it with --containerd-privileged-mode=full. \
                 Or give `source.engine.host`: an engine elsewhere needs no privilege here"
            }
            Self::NoRuntime { .. } => {
                "the image of this resource type must have `runc` on its PATH, beside `buildkitd`"
            }
            Self::NoScratch { .. } => {
                "Concourse mounts a volume there in every container; elsewhere mount a file system there, or give `source.engine.host`"
            }
            Self::State { .. } => {
                "the file system there must be writable, and have room for the layers of the image; or give `source.engine.host`"
            }
            Self::System { .. } | Self::Keeper(_) => {
                "give `source.engine.host`: an engine elsewhere needs nothing of this container"
            }
            Self::Ended { said, .. } if said.0.contains(FULL) => {
                "make room on the disk of the worker: the engine keeps its state in /scratch, a volume there, until the build ends"
            }
            Self::Ended { .. } | Self::Silent { .. } => {
                "the cause is the end of its log; `source.engine.host` names an engine to use in its place"
            }
            Self::Lost { .. } => {
                "the cause is the end of its log; SIGKILL mostly means that the worker ran out of memory. Running the step again is safe"
            }
            Self::Build(error) => match error.as_ref() {
                EngineError::DiskFull { .. } => {
                    "make room on the disk of the worker: the engine keeps its state in /scratch, a volume there, until the build ends"
                }
                EngineError::Base { why: Refusal::Untrusted, .. }
                | EngineError::Syntax { why: Refusal::Untrusted, .. }
                | EngineError::Push { why: Refusal::Untrusted, .. } => {
                    "say in `source.registry` or `source.registries` how this registry is reached: `insecure: true` for plain http, `ca_certs` for a certificate of its own"
                }
                EngineError::Base { why: Refusal::Unreachable, .. }
                | EngineError::Syntax { why: Refusal::Unreachable, .. }
                | EngineError::Push { why: Refusal::Unreachable, .. } => {
                    "the worker must be able to reach the registry: check its name, the worker's network, and its http_proxy and no_proxy"
                }
                error => return error.hint(),
            },
        };
        Some(hint.to_owned())
    }
}

/// A daemon that runs for as long as this lives.
///
/// Dropping this ends it at once, with all that it runs; [`Embedded::stop`] lets it end by itself.
pub struct Embedded {
    // Before the directory: the keeper removes what is in it.
    keeper: Enclosed,
    directory: Directory,
}

impl Embedded {
    /// Whether the image of the resource has the daemon.
    pub fn is_there(environment: &Environment) -> bool {
        environment.find(DAEMON).is_some()
    }

    /// Starts the daemon, and waits until it answers. The program that runs must be one that begins with
    /// [`crate::concourse::run`], which makes it the keeper when it is started so.
    ///
    /// # Errors
    ///
    /// The container is not privileged, something is missing in it, or the daemon does not start; the error has its log.
    pub async fn start(settings: &EmbeddedSettings<'_>) -> Result<Self, EmbeddedError> {
        let EmbeddedSettings { scratch, environment, source } = settings;
        let may_mount = rustix::thread::capabilities(None)
            .is_ok_and(|capabilities| capabilities.effective.contains(CapabilitySet::SYS_ADMIN));
        if !may_mount {
            return Err(EmbeddedError::NotPrivileged);
        }
        if environment.find(RUNTIME).is_none() {
            return Err(EmbeddedError::NoRuntime { program: RUNTIME });
        }
        let directory = Directory::name(scratch)?;
        let order = order(&directory, environment, source);
        let mut keeper = enclose(environment).map_err(refused)?;
        let mut line = serde_json::to_vec(&order).expect("an order has only text keys, so it is always JSON");
        line.push(b'\n');
        keeper.write(&line);
        let embedded = Self { keeper, directory };
        embedded.wait_until_it_answers().await?;
        Ok(embedded)
    }

    /// Where it listens.
    pub fn host(&self) -> EngineHost {
        EngineHost::Unix(socket(&self.directory.0))
    }

    /// Ends it after its work: it is asked to, and made to when it does not.
    ///
    /// Does not wait: what it wrote may be many files, and the put has more to do while they are removed. The end of the
    /// runtime drops what waits here, and that drop waits: the program does not end before the engine is gone.
    pub fn stop(mut self) {
        self.keeper.write(keeper::STOP);
        tokio::spawn(async move {
            let _ = self.keeper.ended().await;
            drop(self);
        });
    }

    /// What a user should know who did not choose how this engine keeps layers.
    pub fn advice(&self, snapshotter: Option<&str>) -> Option<String> {
        let scratch = self.directory.0.parent()?.display();
        (snapshotter == Some("native")).then(|| {
            format!(
                "warning: the file system of {scratch} cannot stack layers, so the engine copies them: builds take longer \
                 and more disk. Let the worker keep its volumes on ext4 or xfs, or give `source.engine.host`"
            )
        })
    }

    /// What an error of a build means when the engine is this one.
    pub(super) async fn explain(&self, error: EngineError) -> EngineError {
        match error {
            EngineError::Lost { reference, address, source } => match self.ended_soon().await {
                Some(ended) => EmbeddedError::Lost { reference, how: how(&ended), said: self.keeper.said() }.into(),
                None => EngineError::Lost { reference, address, source },
            },
            EngineError::Unreachable { address, source } => match self.ended_soon().await {
                Some(ended) => self.end(&ended).into(),
                None => EngineError::Unreachable { address, source },
            },
            error @ (EngineError::DiskFull { .. }
            | EngineError::Base { .. }
            | EngineError::Syntax { .. }
            | EngineError::Push { .. }) => EmbeddedError::Build(Box::new(error)).into(),
            error => error,
        }
    }

    /// How it ended, if it did: its connections are closed before it is gone.
    async fn ended_soon(&self) -> Option<Arc<Ended>> {
        tokio::time::timeout(END, self.keeper.ended()).await.ok()?.ok()
    }

    async fn wait_until_it_answers(&self) -> Result<(), EmbeddedError> {
        let socket = socket(&self.directory.0);
        let answers = async {
            while UnixStream::connect(&socket).await.is_err() {
                tokio::time::sleep(TRY).await;
            }
        };
        tokio::select! {
            () = answers => Ok(()),
            ended = self.keeper.ended() => match ended {
                Ok(ended) => Err(self.end(&ended)),
                Err(source) => Err(EmbeddedError::System { what: "wait for it".to_owned(), source }),
            },
            () = tokio::time::sleep(START) => {
                Err(EmbeddedError::Silent { seconds: START.as_secs(), said: self.keeper.said() })
            }
        }
    }

    /// The keeper's last words, or what its end without any means.
    fn end(&self, ended: &Ended) -> EmbeddedError {
        match serde_json::from_slice(&ended.printed) {
            Ok(Report::Failed { what, errno, why }) => {
                let source = errno.map_or_else(|| io::Error::other(why), io::Error::from_raw_os_error);
                failed(what, source)
            }
            Ok(Report::Ended { .. }) | Err(_) => EmbeddedError::Ended { how: how(ended), said: self.keeper.said() },
        }
    }
}

/// How the daemon ended; when its keeper was ended first, how that did.
fn how(ended: &Ended) -> String {
    match serde_json::from_slice(&ended.printed) {
        Ok(Report::Ended { how }) => how,
        Ok(Report::Failed { .. }) | Err(_) => ended.status.to_string(),
    }
}

/// What the system refused: by want of privilege, of room, or for another reason.
fn failed(what: String, source: io::Error) -> EmbeddedError {
    match source.kind() {
        io::ErrorKind::PermissionDenied => EmbeddedError::Confined { what, source },
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem => {
            EmbeddedError::State { what, source }
        }
        _ => EmbeddedError::System { what, source },
    }
}

fn refused(error: ProgramError) -> EmbeddedError {
    match error {
        ProgramError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            EmbeddedError::Confined { what: "make a PID namespace".to_owned(), source }
        }
        error => EmbeddedError::Keeper(error),
    }
}

/// The directory of everything that the daemon writes. The keeper makes it: what was made before there is a keeper would be left
/// by a put that is killed at that moment.
struct Directory(PathBuf);

impl Directory {
    fn name(scratch: &Path) -> Result<Self, EmbeddedError> {
        if !scratch.is_dir() {
            return Err(EmbeddedError::NoScratch { path: scratch.to_owned() });
        }
        Ok(Self(scratch.join(format!("git-image-{}", random_id()))))
    }

    /// The name of the control group of everything that the daemon runs: its own.
    fn group(&self) -> String {
        self.0.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

impl Drop for Directory {
    /// The keeper has removed it and its control group, unless it was killed itself. Its mounts are gone in either case.
    fn drop(&mut self) {
        keeper::remove_groups(&self.group());
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Starts this program anew, as the keeper.
fn enclose(environment: &Environment) -> Result<Enclosed, ProgramError> {
    let what = "the keeper of the engine";
    let program = std::env::current_exe().map_err(|source| ProgramError::Io {
        program: "/proc/self/exe".to_owned(),
        what: what.to_owned(),
        source,
    })?;
    Program::new(&program.to_string_lossy(), what, environment).arg(keeper::ARGUMENT).enclose(GRACE)
}

/// Where the daemon listens.
fn socket(directory: &Path) -> PathBuf {
    directory.join("engine.sock")
}

fn order(directory: &Directory, environment: &Environment, source: &Source) -> Order {
    let (group, directory) = (directory.group(), directory.0.as_path());
    let (config, mut files) = config::config(directory, &Order::secrets(directory), &group, source);
    files.insert(CONFIG.to_owned(), config);
    let option = |name: &str, value: &Path| format!("--{name}={}", value.display());
    Order {
        directory: directory.to_owned(),
        files,
        group,
        program: environment.find(DAEMON).unwrap_or_else(|| DAEMON.into()),
        arguments: vec![
            option("config", &Order::secrets(directory).join(CONFIG)),
            option("root", &directory.join("state")),
            format!("--addr=unix://{}", socket(directory).display()),
        ],
    }
}

/// The name of the daemon's configuration.
const CONFIG: &str = "buildkitd.toml";

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn what_the_system_refuses_is_told_by_what_helps() {
        let elsewhere = "an engine elsewhere needs no privilege here";
        for (errno, message, hint) in [
            (Errno::PERM, "its container is not privileged enough to mount proc", elsewhere),
            (Errno::NOSPC, "cannot mount proc", "have room for the layers of the image; or give `source.engine.host`"),
            (Errno::ROFS, "cannot mount proc", "have room for the layers of the image; or give `source.engine.host`"),
            (Errno::INVAL, "cannot mount proc", "an engine elsewhere needs nothing of this container"),
        ] {
            let error = failed("mount proc".to_owned(), io::Error::from(errno));
            assert_eq!(error.to_string(), format!("cannot start the engine inside this resource: {message}"));
            assert!(error.hint().is_some_and(|text| text.ends_with(hint)), "{error:?}");
        }
    }
}
