//! What an engine is: told by what it answers, never by its version.

use std::collections::HashMap;
use std::sync::Arc;

use bollard::{API_DEFAULT_VERSION, BollardRequest, ClientVersion, Docker};
use bollard_buildkit_proto::moby::buildkit::v1::ListWorkersResponse;
use bollard_buildkit_proto::moby::buildkit::v1::types::WorkerRecord;

use super::error::{Cause, EngineError};
use super::transport::{Dialer, Transport, Wire};
use super::words::innermost;

/// How long one answer of the engine's own API may take. Pushing answers at once and then streams.
const ANSWER_SECONDS: u64 = 120;

/// The label by which a worker names its snapshotter. A Docker engine with its classic store has no such labels.
const SNAPSHOTTER: &str = "org.mobyproject.buildkit.worker.snapshotter";

/// What an engine is, and what it can do.
pub(super) struct Identity {
    /// Such as `Docker engine 20.10.24`.
    pub name: String,
    /// How images leave it.
    pub leaves: Leaves,
    /// For which platforms it runs programs, its own first.
    pub platforms: Vec<String>,
    /// How it keeps layers; a Docker engine with its classic store does not say.
    pub snapshotter: Option<String>,
    /// Whether its own frontend knows named contexts.
    pub can_pin: bool,
}

/// How images leave an engine.
pub(super) enum Leaves {
    /// It pushes by itself while it builds.
    InTheSolve,
    /// They are put into its store, and are pushed by its own API.
    ByAPush(Docker),
}

/// Where the result of a build goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exports {
    /// To the repository, without a tag.
    ToTheRegistry,
    /// Into the engine, under its name.
    ToTheEngine,
    /// It is not kept: that it can be built is all that is asked.
    Nowhere,
}

impl Identity {
    /// Where the result of a build goes first.
    pub(super) fn exports(&self) -> Exports {
        match self.leaves {
            Leaves::InTheSolve => Exports::ToTheRegistry,
            Leaves::ByAPush(_) => Exports::ToTheEngine,
        }
    }

    /// What it builds for and on, as the end of a line.
    pub(super) fn abilities(&self) -> String {
        let platforms = self.platforms.join(" ");
        let platforms = if platforms.is_empty() { platforms } else { format!(", for {platforms}") };
        let snapshotter = self.snapshotter.as_ref().map(|name| format!(", snapshotter {name}")).unwrap_or_default();
        platforms + &snapshotter
    }
}

/// Finds out what is at an address, and how it is spoken to.
pub(super) async fn introduce(dialer: Arc<Dialer>) -> Result<(Transport, Identity), EngineError> {
    let unreachable = |source: Cause| EngineError::Unreachable { address: dialer.address().to_string(), source };
    // Nothing there, or nobody let in: no other way will help.
    dialer.probe().await.map_err(|error| unreachable(error.into()))?;
    let native = match as_buildkit(&dialer).await {
        Ok(found) => return Ok(found),
        Err(error) => error,
    };
    as_docker(&dialer).await.map_err(|docker| {
        // With TLS, an engine that speaks gRPC refuses HTTP before it says what it dislikes in us.
        let refuses_http = docker.to_string().contains("NoApplicationProtocol");
        unreachable(if refuses_http { native } else { docker })
    })
}

async fn as_buildkit(dialer: &Arc<Dialer>) -> Result<(Transport, Identity), Cause> {
    let transport = Transport::new(dialer.clone(), Wire::Native);
    let worker = Worker::of(transport.workers().await.map_err(|status| innermost(&status))?);
    let name = match &worker.version {
        Some(version) => format!("BuildKit {version}"),
        None => "BuildKit of an unknown version".to_owned(),
    };
    Ok((transport, worker.identity(name, Leaves::InTheSolve)))
}

async fn as_docker(dialer: &Arc<Dialer>) -> Result<(Transport, Identity), Cause> {
    let (docker, version) = docker(dialer).await?;
    let transport = Transport::new(dialer.clone(), Wire::Upgrades);
    let worker = Worker::of(transport.workers().await.map_err(|status| innermost(&status))?);
    let leaves = if worker.snapshotter.is_some() { Leaves::InTheSolve } else { Leaves::ByAPush(docker) };
    Ok((transport, worker.identity(format!("Docker engine {version}"), leaves)))
}

/// What is used of the first worker; engines have one.
struct Worker {
    version: Option<String>,
    platforms: Vec<String>,
    snapshotter: Option<String>,
    can_pin: bool,
}

impl Worker {
    fn of(workers: ListWorkersResponse) -> Self {
        let WorkerRecord { labels, platforms, buildkit_version, .. } =
            workers.record.into_iter().next().unwrap_or_default();
        let platform = |os: &str, architecture: &str, variant: &str| {
            [os, architecture, variant].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
        };
        // The levels of amd64 (v2, v3, v4) are of the processor that it has; no image is built for them here.
        let platforms = platforms
            .iter()
            .filter(|one| one.architecture != "amd64" || one.variant.is_empty())
            .map(|one| platform(&one.os, &one.architecture, &one.variant))
            .collect();
        let mut labels: HashMap<String, String> = labels;
        // Fact: BuildKit tells its version since 0.11, and its frontend knows named contexts since 0.10.
        let can_pin = buildkit_version.is_some();
        let version = buildkit_version.map(|version| version.version).filter(|version| !version.is_empty());
        Self {
            version: version.map(|version| version.trim_start_matches('v').to_owned()),
            platforms,
            snapshotter: labels.remove(SNAPSHOTTER),
            can_pin,
        }
    }

    fn identity(self, name: String, leaves: Leaves) -> Identity {
        Identity { name, leaves, platforms: self.platforms, snapshotter: self.snapshotter, can_pin: self.can_pin }
    }
}

/// A client of the Docker engine's own API, in the newest version that both know, and the engine's version.
async fn docker(dialer: &Arc<Dialer>) -> Result<(Docker, String), Cause> {
    let open = |api: &ClientVersion| {
        let dialer = dialer.clone();
        let transport = move |request: BollardRequest| {
            let dialer = dialer.clone();
            async move { Ok(dialer.request(request).await?) }
        };
        // The address is in no connection: the dialer has its own.
        Docker::connect_with_custom_transport(transport, Some("http://docker"), ANSWER_SECONDS, api)
    };
    // The library's own negotiation asks for the version too, and keeps it to itself; 20.10 takes 10 ms for each answer.
    let newest = open(API_DEFAULT_VERSION).map_err(|error| innermost(&error))?;
    let version = newest.version().await.map_err(|error| innermost(&error))?;
    let docker = match version.api_version.as_deref().and_then(api_version) {
        Some(api) if api < *API_DEFAULT_VERSION => open(&api).map_err(|error| innermost(&error))?,
        _ => newest,
    };
    Ok((docker, version.version.unwrap_or_else(|| "of an unknown version".to_owned())))
}

/// Reads the version of an engine's API, such as `1.41`.
fn api_version(text: &str) -> Option<ClientVersion> {
    let (major, minor) = text.split_once('.')?;
    Some(ClientVersion { major_version: major.parse().ok()?, minor_version: minor.parse().ok()? })
}
