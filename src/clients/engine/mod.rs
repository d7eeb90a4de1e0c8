//! The engine: one client of the BuildKit API, here behind a Docker engine with its classic store.
//!
//! A build is three conversations at once: Solve says what is wanted and ends with the image, Status tells what happens,
//! and the session lets the engine ask for files and credentials. How the engine is reached is in `transport`, what it
//! may ask in `session`, `filesync` and `select`, what it tells in `progress` and `words`, and how the image leaves it in `push`.
//! An engine that is reached in another way is another transport, and one that pushes by itself is another exporter.

mod error;
mod filesync;
mod progress;
mod push;
mod select;
mod session;
mod transport;
mod words;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker};
use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::{Exporter, SolveRequest, StatusRequest};
use tonic::transport::Channel;

pub use error::{Cause, EngineError, Refusal};

use crate::clients::context::Context;
use crate::names::Digest;
use crate::request::{Credentials, EngineHost};
use crate::say::{Say, size};
use filesync::Files;
use progress::Progress;
use transport::Address;
use words::{Failed, innermost};

/// Where engines listen by themselves.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";
const BUILDKIT_SOCKET: &str = "/run/buildkit/buildkitd.sock";

/// How long one answer of the engine's own API may take. Pushing answers at once and then streams.
const ANSWER_SECONDS: u64 = 120;

/// How long the last lines of a log may take after the build has ended.
const LAST_LINES: Duration = Duration::from_secs(2);

/// How large one piece of news may be: a build of many steps that talk at once has large ones.
const STATUS_BYTES: usize = 64 * 1024 * 1024;

/// An engine that answers.
pub struct Engine {
    address: Address,
    docker: Docker,
    version: String,
}

/// What is built, and what for.
pub struct Build<'a> {
    /// The name that the image gets: a repository with a tag.
    pub reference: &'a oci_distribution::Reference,
    /// Credentials by registry host: for base images, and for the push.
    pub credentials: &'a [(String, Credentials)],
    /// What COPY can see.
    pub context: Arc<Context>,
    /// The Dockerfile.
    pub dockerfile: &'a [u8],
    /// Its file name, without directories.
    pub dockerfile_name: &'a str,
    /// The ignore file that holds for it, wherever it is; `None` when there is neither.
    pub dockerignore: Option<&'a [u8]>,
    /// The stage; `None` is the last one.
    pub target: Option<&'a str>,
    /// Build args.
    pub args: &'a BTreeMap<String, String>,
    /// Labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Such as `linux/arm64`; `None` is the engine's own.
    pub platform: Option<&'a str>,
    /// The same for every build of one image: by it the engine finds the context that it already has.
    pub shared_key: &'a str,
}

/// An image in the engine, under its name.
#[derive(Debug, Clone)]
pub struct Built {
    /// Its name.
    pub reference: oci_distribution::Reference,
    /// The digest of its config, which is the image's id in the engine.
    pub image_id: Digest,
    credentials: Option<Credentials>,
}

impl Engine {
    /// Connects to the given engine; with `None`, to the first socket of the machine that exists.
    ///
    /// # Errors
    ///
    /// There is none, it does not answer, or it is a BuildKit daemon.
    pub async fn connect(host: Option<&EngineHost>) -> Result<Self, EngineError> {
        let address = match host {
            Some(host) => Address(host.clone()),
            None if Path::new(DOCKER_SOCKET).exists() => Address(EngineHost::Unix(DOCKER_SOCKET.into())),
            None if Path::new(BUILDKIT_SOCKET).exists() => {
                return Err(EngineError::BuildKitDaemon { address: format!("unix://{BUILDKIT_SOCKET}") });
            }
            None => return Err(EngineError::NoEngine { docker: DOCKER_SOCKET, buildkit: BUILDKIT_SOCKET }),
        };
        let shown = address.to_string();
        let unreachable = |source: Cause| EngineError::Unreachable { address: shown.clone(), source };
        // The library hides why a connection fails, so the first one is our own.
        address.probe().await.map_err(|error| unreachable(error.into()))?;
        let open = |api: &ClientVersion| match &address.0 {
            EngineHost::Unix(path) => Docker::connect_with_unix(&path.to_string_lossy(), ANSWER_SECONDS, api),
            EngineHost::Tcp { .. } => Docker::connect_with_http(&shown, ANSWER_SECONDS, api),
        };
        // The library's own negotiation asks for the version too, and keeps it to itself; 20.10 takes 10 ms for each answer.
        let newest = open(API_DEFAULT_VERSION).map_err(|error| unreachable(innermost(&error)))?;
        let version = newest.version().await.map_err(|error| unreachable(innermost(&error)))?;
        let docker = match version.api_version.as_deref().and_then(api_version) {
            Some(api) if api < *API_DEFAULT_VERSION => open(&api).map_err(|error| unreachable(innermost(&error)))?,
            _ => newest,
        };
        Ok(Self { address, docker, version: version.version.unwrap_or_else(|| "of an unknown version".to_owned()) })
    }

    /// What it is and where, such as `Docker engine 20.10.24 at unix:///var/run/docker.sock`.
    pub fn describe(&self) -> String {
        format!("Docker engine {} at {}", self.version, self.address)
    }

    /// Builds an image and leaves it in the engine under its name. The log is said as it happens.
    ///
    /// Dropping the future ends the build: its connections close, and the engine stops what it runs within seconds.
    ///
    /// # Errors
    ///
    /// The build failed, the engine was lost, or the build reads what is not part of the inputs.
    pub async fn build(&self, build: &Build<'_>, say: &Say) -> Result<Built, EngineError> {
        let reference = build.reference.whole();
        let unreachable = |source: Cause| EngineError::Unreachable { address: self.address.to_string(), source };
        let session_id = random_id();
        let files = Files::new(build.context.clone(), build.dockerfile_name, build.dockerfile, build.dockerignore);
        let files = Arc::new(files);
        let headers = session::headers(&session_id, build.shared_key);
        let connection = self.address.session(&headers).await.map_err(|error| unreachable(innermost(&error)))?;
        let _session = session::serve(connection, files.clone(), build.credentials.to_vec());
        let channel = self.address.control().await.map_err(|error| unreachable(innermost(&error)))?;

        let mut progress = Progress::default();
        let solved = solve(channel, request(build, session_id), &mut progress, say).await;
        if let Some(fault) = files.take_fault() {
            return Err(fault);
        }
        match solved {
            Ok(answer) => {
                say.line(format_args!("context: {} sent to the engine, which had the rest", size(files.sent_bytes())));
                let id = answer.get("containerimage.digest").and_then(|digest| digest.parse().ok());
                let image_id = id.ok_or_else(|| EngineError::NothingExported {
                    address: self.address.to_string(),
                    reference: reference.clone(),
                })?;
                let credentials = session::credentials_for(build.credentials, build.reference.registry()).cloned();
                Ok(Built { reference: build.reference.clone(), image_id, credentials })
            }
            Err(status) if is_lost(&status) => Err(self.lost(&reference, innermost(&status))),
            Err(status) => {
                progress.repeat_failed(say);
                let step = progress.failed_step();
                Err(words::of_build(
                    status.message(),
                    &Failed { reference: &reference, step: step.as_deref(), target: build.target },
                ))
            }
        }
    }

    fn lost(&self, reference: &str, source: Cause) -> EngineError {
        EngineError::Lost { address: self.address.to_string(), reference: reference.to_owned(), source }
    }
}

/// Reads the version of an engine's API, such as `1.41`.
fn api_version(text: &str) -> Option<ClientVersion> {
    let (major, minor) = text.split_once('.')?;
    Some(ClientVersion { major_version: major.parse().ok()?, minor_version: minor.parse().ok()? })
}

/// Whether a status was made on our side, because the connection broke, and is no answer of the engine.
fn is_lost(status: &tonic::Status) -> bool {
    std::error::Error::source(status).is_some() || status.code() == tonic::Code::Unavailable
}

/// Runs a build to its end, and tells what happens meanwhile.
async fn solve(
    channel: Channel,
    request: SolveRequest,
    progress: &mut Progress,
    say: &Say,
) -> Result<HashMap<String, String>, tonic::Status> {
    let mut control = ControlClient::new(channel.clone());
    let status = StatusRequest { r#ref: request.r#ref.clone() };
    let known = Cell::new(false);
    let told = async {
        let mut news =
            ControlClient::new(channel).max_decoding_message_size(STATUS_BYTES).status(status).await?.into_inner();
        while let Some(next) = news.message().await? {
            known.set(true);
            progress.tell(next, say);
        }
        Ok::<_, tonic::Status>(())
    };
    let solved = control.solve(request);
    tokio::pin!(told, solved);
    let answer = tokio::select! {
        answer = &mut solved => {
            // A build that fails at once was never known to Status, which waits for it in vain; so does that of a lost engine.
            let wait = match &answer {
                Err(status) if is_lost(status) || !known.get() => Duration::ZERO,
                _ => LAST_LINES,
            };
            let _ = tokio::time::timeout(wait, told).await;
            answer
        }
        // Without a log the build goes on; what ended the log ends the build too, if it matters.
        _ = &mut told => solved.await,
    };
    Ok(answer?.into_inner().exporter_response)
}

fn request(build: &Build<'_>, session: String) -> SolveRequest {
    let text = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let mut attributes = HashMap::from([
        text("filename", build.dockerfile_name),
        // A base image is what its registry has, not what this engine happens to have under the name.
        text("image-resolve-mode", "pull"),
    ]);
    attributes.extend(build.target.map(|target| text("target", target)));
    attributes.extend(build.platform.map(|platform| text("platform", platform)));
    attributes.extend(build.args.iter().map(|(name, value)| text(&format!("build-arg:{name}"), value)));
    attributes.extend(build.labels.iter().map(|(name, value)| text(&format!("label:{name}"), value)));
    let exported = HashMap::from([text("name", &build.reference.whole())]);
    SolveRequest {
        r#ref: random_id(),
        session,
        frontend: "dockerfile.v0".to_owned(),
        frontend_attrs: attributes,
        // In both places: 20.10 knows only the old one, and without it exports nothing and says that all is well.
        // Newer engines take the old one only when the new one is empty.
        exporter_deprecated: "moby".to_owned(),
        exporter_attrs_deprecated: exported.clone(),
        exporters: vec![Exporter { r#type: "moby".to_owned(), attrs: exported }],
        ..SolveRequest::default()
    }
}

/// An id that no other build has: every hasher of the standard library is keyed with fresh random numbers.
fn random_id() -> String {
    let number = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", number(), number())
}
