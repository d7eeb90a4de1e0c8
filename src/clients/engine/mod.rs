//! The engine: one client of the BuildKit API, whoever speaks it: a BuildKit daemon, or a Docker engine.
//!
//! A build is three conversations at once: Solve says what is wanted and ends with the image, Status tells what happens,
//! and the session lets the engine ask for files and credentials. How the engine is reached is in `transport`, what it
//! is in `identity`, what it is asked for in `request`, what it may ask in `session`, `filesync`, `select` and `content`, what it
//! tells in `progress` and `words`, and how an image leaves one that does not push by itself in `push`. One that is not
//! reached but started is in [`embedded`].

mod content;
pub mod embedded;
mod error;
mod filesync;
mod forward;
mod identity;
mod progress;
mod push;
mod request;
mod select;
mod session;
mod tls;
mod transport;
mod words;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::{SolveRequest, StatusRequest};
use tokio::task::JoinSet;
use tonic::transport::Channel;

pub use embedded::{EmbeddedError, EmbeddedSettings};
pub use error::{Cause, EngineError, Refusal};
pub use push::InEngine;

use crate::clients::context::Context;
use crate::clients::finished::Blobs;
use crate::decide::builders;
use crate::names::{Digest, Secret};
use crate::request::{BuildOptions, Credentials, EngineHost, RegistryTransport};
use crate::say::{Say, size};
use embedded::Embedded;
use filesync::Files;
use identity::{Exports, Identity, Leaves};
use progress::Progress;
use transport::{Address, Dialer, Transport};
use words::{Failed, innermost};

/// Where engines listen by themselves.
const SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/buildkit/buildkitd.sock"];

/// How long the last lines of a log may take after the build has ended.
const LAST_LINES: Duration = Duration::from_secs(2);

/// How large one piece of news may be: a build of many steps that talk at once has large ones.
const STATUS_BYTES: usize = 64 * 1024 * 1024;

/// An engine that answers.
pub struct Engine {
    transport: Transport,
    identity: Identity,
    // The last to go: while it does, nobody is connected to it any more.
    embedded: Option<Embedded>,
}

/// What is built, and what for.
#[derive(Clone)]
pub struct Build<'a> {
    /// The name that the image gets: a repository with a tag.
    pub reference: &'a oci_distribution::Reference,
    /// How its registry is reached, as far as the engine can be told.
    pub registry: RegistryTransport,
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
    /// For which platforms, such as `linux/arm64`; one at least.
    pub platforms: &'a BTreeSet<String>,
    /// How it is built.
    pub options: &'a BuildOptions,
    /// What the build is given beside its context.
    pub given: &'a Given,
    /// Where layers are kept for engines that have not built before.
    pub cache: &'a CacheReferences,
    /// The time of the commit, in seconds since 1970.
    pub commit_time: i64,
    /// The same for every build of one image: by it the engine finds the context that it already has.
    pub shared_key: &'a str,
}

/// What a build is given beside its context.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// What `RUN --mount=type=secret` may read, by id.
    pub secrets: BTreeMap<String, Secret>,
    /// The sockets of the agents that `RUN --mount=type=ssh` may ask, by id.
    pub agents: BTreeMap<String, PathBuf>,
    /// What `FROM` and `--from` may name, by name.
    pub contexts: BTreeMap<String, NamedContext>,
    /// The proxies that a RUN is told of, as variables. They are no part of the image.
    pub proxies: Vec<(String, String)>,
}

/// A context beside the main one.
#[derive(Debug, Clone)]
pub enum NamedContext {
    /// What the engine fetches by itself: `docker-image://…` or an address of git with a commit.
    Fetched(String),
    /// Files that we have.
    Files(Arc<Context>),
    /// An image that we have.
    Image(Arc<Blobs>),
}

/// References of a build cache in a registry. None by default.
#[derive(Debug, Clone, Default)]
pub struct CacheReferences {
    /// Where it is read, the first that has a step.
    pub from: Vec<String>,
    /// Where it is written.
    pub to: Option<String>,
}

/// An image that was built.
#[derive(Debug, Clone)]
pub enum Built {
    /// It is in its repository, without a tag: the digest of its manifest or index.
    Pushed(Digest),
    /// It is in the engine, under the name that was given.
    InEngine(Box<InEngine>),
}

impl Engine {
    /// Connects to the engine that builds this image: the first of its order that answers. Without hosts in the source, to
    /// the first socket of the machine that exists, else to an engine that is started for this build alone.
    ///
    /// # Errors
    ///
    /// There is none, or none answers or starts: the error is that of the first one, the others are said.
    pub async fn connect(inside: &EmbeddedSettings<'_>, image: &str, say: &Say) -> Result<Self, EngineError> {
        let source = &inside.source.engine;
        let mut hosts = source.hosts.clone();
        if hosts.is_empty() {
            hosts.extend(
                SOCKETS.iter().find(|socket| Path::new(socket).exists()).map(|socket| EngineHost::Unix(socket.into())),
            );
        }
        let name = |host: &EngineHost| Address(host.clone()).to_string();
        let meet = async |host| meet(host, inside, say).await;
        let mut first = None;
        for host in builders::in_order(hosts, name, image) {
            let shown = name(&host);
            match meet(host).await {
                Ok((transport, identity)) => return Ok(Self { transport, identity, embedded: None }),
                Err(error) if source.hosts.len() < 2 => return Err(error),
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                    say.line(format_args!("engine: {shown} does not answer ({cause}); trying the next"));
                    first.get_or_insert(error);
                }
            }
        }
        match first {
            Some(error) => Err(error),
            None if Embedded::is_there(inside.environment) => {
                let embedded = Embedded::start(inside).await?;
                match meet(embedded.host()).await {
                    Ok((transport, identity)) => Ok(Self { transport, identity, embedded: Some(embedded) }),
                    Err(error) => Err(embedded.explain(error).await),
                }
            }
            None => Err(EngineError::NoEngine { sockets: SOCKETS, program: embedded::DAEMON }),
        }
    }

    /// Connects to the engine of this host.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn connect_to(host: EngineHost, inside: &EmbeddedSettings<'_>, say: &Say) -> Result<Self, EngineError> {
        let (transport, identity) = meet(host, inside, say).await?;
        Ok(Self { transport, identity, embedded: None })
    }

    /// What it is and where, such as `BuildKit 0.33.1 at tcp://builder:1234, for linux/amd64, snapshotter overlayfs`.
    pub fn describe(&self) -> String {
        let place = match &self.embedded {
            Some(_) => "inside this resource".to_owned(),
            None => format!("at {}", self.address()),
        };
        format!("{} {place}{}", self.identity.name, self.identity.abilities())
    }

    /// Refuses platforms whose programs this engine cannot run, for a build that runs some.
    ///
    /// # Errors
    ///
    /// The first such platform.
    pub fn can_run<'p>(&self, platforms: impl IntoIterator<Item = &'p String>) -> Result<(), EngineError> {
        let known = &self.identity.platforms;
        match platforms.into_iter().find(|platform| !known.contains(platform)) {
            Some(platform) if !known.is_empty() => {
                Err(EngineError::Platform { platform: platform.clone(), engine: self.describe() })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What would make it faster, when it is the one inside the resource and has to copy what others share.
    pub fn advice(&self) -> Option<String> {
        self.embedded.as_ref()?.advice(self.identity.snapshotter.as_deref())
    }

    /// Ends the engine that was started for this build, without waiting for that; any other stays as it is.
    pub fn close(self) {
        let Self { transport, identity, embedded } = self;
        drop((transport, identity));
        if let Some(embedded) = embedded {
            embedded.stop();
        }
    }

    /// Whether it has never built anything: then a cache in the registry helps.
    pub fn begins_empty(&self) -> bool {
        self.embedded.is_some()
    }

    /// Whether its own frontend knows named contexts, by which an image is taken by digest: Docker 20.10's does not.
    pub fn can_pin(&self) -> bool {
        self.identity.can_pin
    }

    fn address(&self) -> &Address {
        self.transport.address()
    }

    /// Builds an image. An engine that pushes by itself leaves it in its repository, untagged; any other keeps it under
    /// its name, for [`InEngine::push`]. The log is said as it happens.
    ///
    /// Dropping the future ends the build: its connections close, and the engine stops what it runs within seconds.
    ///
    /// # Errors
    ///
    /// The build failed, the engine was lost, or the build reads what is not part of the inputs.
    pub async fn build(&self, build: &Build<'_>, say: &Say) -> Result<Built, EngineError> {
        let answer = self.run(build, self.identity.exports(), say).await?;
        let digest = answer.get("containerimage.digest").and_then(|digest| digest.parse().ok());
        let digest = digest.ok_or_else(|| EngineError::NothingExported {
            address: self.address().to_string(),
            reference: build.reference.whole(),
        })?;
        Ok(match &self.identity.leaves {
            Leaves::InTheSolve => Built::Pushed(digest),
            Leaves::ByAPush(docker) => Built::InEngine(Box::new(InEngine {
                docker: docker.clone(),
                address: self.address().to_string(),
                reference: build.reference.clone(),
                credentials: session::credentials_for(build.credentials, build.reference.registry()).cloned(),
            })),
        })
    }

    /// Builds like [`Self::build`], and keeps nothing: whether it can be built is all that is asked.
    ///
    /// # Errors
    ///
    /// As for [`Self::build`].
    pub async fn test(&self, build: &Build<'_>, say: &Say) -> Result<(), EngineError> {
        self.run(build, Exports::Nowhere, say).await.map(drop)
    }

    async fn run(
        &self,
        build: &Build<'_>,
        exports: Exports,
        say: &Say,
    ) -> Result<HashMap<String, String>, EngineError> {
        let answer = self.converse(build, exports, say).await;
        match (answer, &self.embedded) {
            (Err(error), Some(embedded)) => Err(embedded.explain(error).await),
            (answer, _) => answer,
        }
    }

    async fn converse(
        &self,
        build: &Build<'_>,
        exports: Exports,
        say: &Say,
    ) -> Result<HashMap<String, String>, EngineError> {
        request::refuse(build, self.identity.exports(), &self.describe())?;
        let reference = build.reference.whole();
        let unreachable = |source: Cause| EngineError::Unreachable { address: self.address().to_string(), source };
        let session_id = random_id();
        let mut files = Files::new(
            build.context.clone(),
            build.options.file_times,
            build.dockerfile_name,
            build.dockerfile,
            build.dockerignore,
        );
        for (name, context) in &build.given.contexts {
            if let NamedContext::Files(context) = context {
                files.add(name, context.clone());
            }
        }
        let files = Arc::new(files);
        let channel = self.transport.control().await.map_err(|error| unreachable(innermost(&error)))?;
        let mut tasks = JoinSet::new();
        let headers = session::headers(&session_id, build.shared_key, build.given);
        let connection = self.transport.session(&channel, &headers, &mut tasks).await;
        let connection = connection.map_err(|error| unreachable(innermost(&*error)))?;
        session::serve(connection, files.clone(), build.credentials.to_vec(), build.given, &mut tasks);

        let mut progress = Progress::default();
        let solved = solve(channel, request::of(build, exports, session_id), &mut progress, say).await;
        if let Some(fault) = files.take_fault() {
            return Err(fault);
        }
        match solved {
            Ok(answer) => {
                let (cached, steps) = progress.cached();
                say.line(format_args!(
                    "build: {cached} of {steps} steps from the cache; {} of the context sent",
                    size(files.sent_bytes())
                ));
                Ok(answer)
            }
            Err(status) if is_lost(&status) => Err(self.lost(&reference, innermost(&status))),
            Err(status) => {
                progress.repeat_failed(build.dockerfile, say);
                let step = progress.failed_step();
                Err(words::of_build(
                    status.message(),
                    &Failed { reference: &reference, step: step.as_deref(), target: build.target },
                ))
            }
        }
    }

    fn lost(&self, reference: &str, source: Cause) -> EngineError {
        EngineError::Lost { address: self.address().to_string(), reference: reference.to_owned(), source }
    }
}

/// Reaches an engine, and finds out what it is.
async fn meet(
    host: EngineHost,
    inside: &EmbeddedSettings<'_>,
    say: &Say,
) -> Result<(Transport, Identity), EngineError> {
    let dialer = Dialer::new(Address(host), &inside.source.engine, inside.environment, say).await?;
    identity::introduce(Arc::new(dialer)).await
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

/// An id that no other build has: every hasher of the standard library is keyed with fresh random numbers.
fn random_id() -> String {
    let number = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", number(), number())
}
