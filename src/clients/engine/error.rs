//! What goes wrong with an engine, and what to do about it.

use super::embedded::EmbeddedError;
use crate::names::GitPath;

/// The words of the engine, or of the library that reached it.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why an engine could not be used, or did not make or push an image.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// None is configured, and no socket is there.
    #[error(
        "there is no engine to build with: neither {} nor {} exists, and there is no program `{program}`",
        sockets[0], sockets[1]
    )]
    NoEngine {
        /// Where engines listen by default.
        sockets: [&'static str; 2],
        /// The engine that the resource's own image has.
        program: &'static str,
    },
    /// A certificate or a key for the engine cannot be used.
    #[error("`{key}` is not usable")]
    Certificate {
        /// The key as the user wrote it, with its blocks.
        key: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The engine inside the resource does not start, or fails in a way of its own.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// ssh does not get to its host.
    #[error("cannot log in to the engine's host at {address}")]
    Login {
        /// Its address.
        address: String,
        /// What ssh said.
        #[source]
        source: Cause,
    },
    /// It does not answer, or not as an engine does.
    #[error("cannot reach the engine at {address}")]
    Unreachable {
        /// Its address.
        address: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The connection broke, or the engine ended, during the build or the push.
    #[error("the engine at {address} was lost while it worked on {reference}")]
    Lost {
        /// Its address.
        address: String,
        /// The image.
        reference: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// What the source asks for is beyond this engine.
    #[error("`{key}` is beyond {engine}")]
    Unable {
        /// The key with its blocks, and its value where that matters.
        key: String,
        /// What the engine is.
        engine: String,
    },
    /// The engine's Dockerfile frontend is too old for `source.build.contexts`.
    #[error("cannot build {reference}: the engine knows no named contexts")]
    NoContexts {
        /// The image.
        reference: String,
    },
    /// The build runs programs that this engine cannot run.
    #[error("no RUN can be run for {platform} by {engine}")]
    Platform {
        /// The platform.
        platform: String,
        /// What the engine is, and what it can run.
        engine: String,
    },
    /// The engine's own settings do not allow what the source allows.
    #[error("cannot build {reference}: the engine does not allow {entitlement}")]
    NotAllowed {
        /// The image.
        reference: String,
        /// Such as `network.host`.
        entitlement: String,
    },
    /// A RUN ended with an error.
    #[error("cannot build {reference}: {step} ended with exit code {exit_code}")]
    Run {
        /// The image.
        reference: String,
        /// The step as the log names it.
        step: String,
        /// Its exit code. The engine's own words say no more than these three.
        exit_code: u32,
    },
    /// A file that COPY or ADD names is not in the context.
    #[error("cannot build {reference}: {step} needs {path:?}, which is not in the build context")]
    MissingSource {
        /// The image.
        reference: String,
        /// The step as the log names it.
        step: String,
        /// The path, relative to the context.
        path: String,
    },
    /// A path that COPY --from or RUN --mount names is not in the stage or image that it names.
    #[error("cannot build {reference}: {step} needs {path:?}, which is not there")]
    MissingInStage {
        /// The image.
        reference: String,
        /// The step as the log names it.
        step: String,
        /// The path in the other stage.
        path: String,
    },
    /// The Dockerfile cannot be read as one.
    #[error("cannot build {reference}: the Dockerfile has an error{}", at_line(*line))]
    Dockerfile {
        /// The image.
        reference: String,
        /// The line, when the engine names it.
        line: Option<u32>,
        /// The engine's words.
        #[source]
        source: Cause,
    },
    /// The target is no stage of the Dockerfile.
    #[error("cannot build {reference}: the Dockerfile has no stage {target:?}")]
    UnknownStage {
        /// The image.
        reference: String,
        /// The stage.
        target: String,
    },
    /// An image that FROM or COPY --from names could not be had.
    #[error("cannot build {reference}: base image {base} {why}")]
    Base {
        /// The image.
        reference: String,
        /// The base image.
        base: String,
        /// What happened.
        why: Refusal,
        /// The engine's words.
        #[source]
        source: Cause,
    },
    /// The image that `# syntax` names could not be had.
    #[error("cannot build {reference}: the `# syntax` image {frontend} {why}")]
    Syntax {
        /// The image.
        reference: String,
        /// The frontend's image.
        frontend: String,
        /// What happened.
        why: Refusal,
        /// The engine's words.
        #[source]
        source: Cause,
    },
    /// The engine has no room left.
    #[error("cannot build {reference}: the disk of the engine is full")]
    DiskFull {
        /// The image.
        reference: String,
        /// The engine's words.
        #[source]
        source: Cause,
    },
    /// Any other failure of a build.
    #[error("cannot build {reference}{}", step.as_ref().map(|step| format!(": {step} failed")).unwrap_or_default())]
    Build {
        /// The image.
        reference: String,
        /// The step as the log names it, if one failed.
        step: Option<String>,
        /// The engine's words.
        #[source]
        source: Cause,
    },
    /// The engine says that all went well, and names no image.
    #[error("the engine at {address} built {reference} but made no image of it")]
    NothingExported {
        /// Its address.
        address: String,
        /// The image.
        reference: String,
    },
    /// The build reads a file that is not part of the inputs.
    #[error("the build reads {path}{}, which is not part of the image's inputs", and_more(*more))]
    BeyondInputs {
        /// The first such file, relative to the context.
        path: GitPath,
        /// How many more there are.
        more: usize,
    },
    /// A file of the context is not what it was when the build began.
    #[error("{path} changed while it was sent to the engine")]
    ContextChanged {
        /// The file, relative to the context.
        path: GitPath,
        /// What is different.
        #[source]
        source: std::io::Error,
    },
    /// The name of a file, or the target of a link, is no UTF-8, which the engine's protocol needs.
    #[error("{path} cannot be sent to the engine: its name, or where it links to, is not UTF-8")]
    NotText {
        /// The file, relative to the context.
        path: GitPath,
    },
    /// The registry, or the engine itself, refused the push.
    #[error("cannot push {reference} by the engine: the image {why}")]
    Push {
        /// The image.
        reference: String,
        /// What happened.
        why: Refusal,
        /// The engine's words.
        #[source]
        source: Cause,
    },
    /// The engine said that it pushed, without the digest.
    #[error("the engine pushed {reference} without telling its digest")]
    NoDigest {
        /// The image.
        reference: String,
    },
    /// The image's name could not be removed from the engine.
    #[error("cannot remove the name {reference} from the engine at {address}")]
    Remove {
        /// Its address.
        address: String,
        /// The image.
        reference: String,
        /// Why.
        #[source]
        source: Cause,
    },
}

/// What a registry did, in the terms that decide what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It does not have it.
    NotFound,
    /// It wants other credentials.
    Denied,
    /// Its certificate is not trusted by the engine, or it speaks plain http.
    Untrusted,
    /// It cannot be reached from the engine.
    Unreachable,
    /// The engine itself does not have it any more.
    Gone,
    /// Its registry took two uploads of one layer at once for each other.
    Mixed,
    /// Something else.
    Other,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotFound => "was not found",
            Self::Denied => "was refused by its registry",
            Self::Untrusted => "is at a registry that the engine does not trust",
            Self::Unreachable => "is at a registry that the engine cannot reach",
            Self::Gone => "is no longer in the engine",
            Self::Mixed => "was mixed up with another upload by its registry",
            Self::Other => "could not be transferred",
        })
    }
}

fn at_line(line: Option<u32>) -> String {
    line.map(|line| format!(" in line {line}")).unwrap_or_default()
}

fn and_more(more: usize) -> String {
    if more == 0 { String::new() } else { format!(" and {more} more") }
}

const TRUST: &str = "the engine reaches registries by its own settings: name the registry in `insecure-registries` of the engine's daemon.json, \
     or put its CA into /etc/docker/certs.d/<host:port>/ca.crt there; `source.registry.ca_certs` and `insecure` serve only git-image itself";

impl EngineError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoEngine { .. } => {
                "give `source.engine.host`: tcp://host:port or unix:///path of a BuildKit daemon or a Docker engine; or put `buildkitd` and `runc` into the image of this resource type"
            }
            Self::Certificate { .. } => "write the whole PEM text there, with its BEGIN and END lines",
            Self::Embedded(error) => return error.hint(),
            Self::Login { .. } => {
                "check `source.engine.host`, `private_key` and `known_hosts`: the user must be let in by this key, may forward sockets, and may use the engine's socket there"
            }
            Self::Unreachable { .. } => {
                "check `source.engine.host`: a BuildKit daemon or a Docker engine (20.10 or newer) must listen there, with TLS exactly when `source.engine.tls` is given, and the worker must be allowed to connect"
            }
            Self::Lost { .. } => {
                "see whether the engine was stopped or ran out of memory; running the step again is safe"
            }
            Self::Unable { .. } => {
                "a BuildKit daemon can, or a Docker engine with the containerd store: name one in `source.engine.host`, or leave the key out"
            }
            Self::NoContexts { .. } => {
                "`source.build.contexts` needs BuildKit 0.10 or Docker 23, or `# syntax=docker/dockerfile:1` in the first line of the Dockerfile"
            }
            Self::Platform { .. } => {
                "name an engine of that platform for it in `source.engine.platforms`, install emulators (qemu, binfmt_misc) on the engine's host, or run programs only in stages with `FROM --platform=$BUILDPLATFORM`"
            }
            Self::NotAllowed { .. } => {
                "start the BuildKit daemon with --allow-insecure-entitlement and this name, and list it in `source.build.allow`"
            }
            Self::Run { .. } => "the output of the failed step is repeated above",
            Self::MissingSource { .. } => {
                "check the path and the ignore file; a file that an earlier task made is not in git, so add it to the repository or make it in the Dockerfile"
            }
            Self::MissingInStage { .. } => "check the path in the stage or image that `--from` names",
            Self::Dockerfile { .. } => {
                "if the line is right, it is newer than this engine: Docker 20.10 knows no here-documents, for one; `# syntax=docker/dockerfile:1` in the first line brings them"
            }
            Self::UnknownStage { .. } => {
                "`source.build.target`, and `params.test`, must be a name that stands after AS in a FROM line"
            }
            Self::Base { why, .. } | Self::Syntax { why, .. } => match why {
                Refusal::NotFound | Refusal::Denied => {
                    "check the name; registries often say the same for a missing and for a private image, and only the host of `source.registry.repository` is asked with `source.registry.username`"
                }
                Refusal::Untrusted => TRUST,
                Refusal::Unreachable => "the engine, not the worker, must be able to reach the registry",
                Refusal::Gone | Refusal::Mixed | Refusal::Other => return None,
            },
            Self::DiskFull { .. } => {
                "make room where the engine keeps its state, for example with `docker builder prune`"
            }
            Self::Build { .. } => return None,
            Self::NothingExported { .. } => "use a Docker engine of 20.10 or newer",
            Self::BeyondInputs { .. } => {
                "add it to `source.build.paths`, so that a change of it is a new image (an ONBUILD of the base image may read it), or exclude it in .dockerignore"
            }
            Self::ContextChanged { .. } => "nothing else may write to the artifact while the put runs; run it again",
            Self::NotText { .. } => "rename it, or exclude it in .dockerignore",
            Self::Push { why, .. } => match why {
                Refusal::Denied => {
                    "check `source.registry.username` and `password`: the account needs to write to the repository"
                }
                Refusal::Untrusted => TRUST,
                Refusal::Unreachable => "the engine, not the worker, must be able to reach the registry",
                Refusal::Gone => {
                    "another put of the same image, or a clean-up of the engine, removed it: run the step again"
                }
                Refusal::Mixed => "run the step again: what was uploaded whole stays there",
                Refusal::NotFound | Refusal::Other => return None,
            },
            Self::NoDigest { .. } => return None,
            Self::Remove { .. } => "the image is complete; remove the name by hand if the engine's disk fills",
        };
        Some(hint.to_owned())
    }
}
