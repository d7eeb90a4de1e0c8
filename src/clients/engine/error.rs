//! What goes wrong with an engine, told from its words: it has one status code for everything.

use crate::names::{Digest, GitPath};

/// The words of the engine, or of the library that reached it.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why an engine could not be used, or did not make or push an image.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// None is configured, and no socket is there.
    #[error("there is no engine to build with: neither {docker} nor {buildkit} exists")]
    NoEngine {
        /// Where a Docker engine listens by default.
        docker: &'static str,
        /// Where a BuildKit daemon listens by default.
        buildkit: &'static str,
    },
    /// It is a BuildKit daemon, which this release cannot use.
    #[error("the engine at {address} is a BuildKit daemon, which this release cannot build with")]
    BuildKitDaemon {
        /// Its address.
        address: String,
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
    /// A RUN ended with an error.
    #[error("cannot build {reference}: {step} ended with exit code {exit_code}")]
    Run {
        /// The image.
        reference: String,
        /// The step as the log names it.
        step: String,
        /// Its exit code.
        exit_code: u32,
        /// The engine's words.
        #[source]
        source: Cause,
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
    /// The name of a file is no UTF-8, which the engine's protocol needs.
    #[error("{path} cannot be sent to the engine: its name is not UTF-8")]
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
     or put its CA into /etc/docker/certs.d/<host>/ca.crt there; `source.registry.ca_certs` and `insecure` serve only git-image itself";

impl EngineError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoEngine { .. } => {
                "give `source.engine.host`: tcp://host:port or unix:///path of a Docker engine; an engine inside the resource comes with a later release"
            }
            Self::BuildKitDaemon { .. } => {
                "give `source.engine.host`: tcp://host:port or unix:///path of a Docker engine (20.10 or newer); BuildKit daemons come with a later release"
            }
            Self::Unreachable { .. } => {
                "check `source.engine.host`: a Docker engine (20.10 or newer) must listen there, without TLS, and the worker must be allowed to connect"
            }
            Self::Lost { .. } => {
                "see whether the engine was stopped or ran out of memory; running the step again is safe"
            }
            Self::Run { .. } => "the output of the failed step is repeated above",
            Self::MissingSource { .. } => {
                "check the path and the ignore file; a file that an earlier task made is not in git, so add it to the repository or make it in the Dockerfile"
            }
            Self::MissingInStage { .. } => "check the path in the stage or image that `--from` names",
            Self::Dockerfile { .. } => return None,
            Self::UnknownStage { .. } => "`source.build.target` must be a name that stands after AS in a FROM line",
            Self::Base { why, .. } | Self::Syntax { why, .. } => match why {
                Refusal::NotFound | Refusal::Denied => {
                    "check the name; registries often say the same for a missing and for a private image, and only the host of `source.registry.repository` is asked with `source.registry.username`"
                }
                Refusal::Untrusted => TRUST,
                Refusal::Unreachable => "the engine, not the worker, must be able to reach the registry",
                Refusal::Other => return None,
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
                Refusal::NotFound | Refusal::Other => return None,
            },
            Self::NoDigest { .. } => return None,
            Self::Remove { .. } => "the image is complete; remove the name by hand if the engine's disk fills",
        };
        Some(hint.to_owned())
    }
}

/// What is known when a build fails, besides the engine's words.
pub(super) struct Failed<'a> {
    /// The image.
    pub reference: &'a str,
    /// The step that failed, as the engine names it.
    pub step: Option<&'a str>,
    /// The stage that was asked for.
    pub target: Option<&'a str>,
}

/// The error of a failed build, told from the engine's words.
pub(super) fn of_build(message: &str, failed: &Failed<'_>) -> EngineError {
    let words = without_wrapping(message);
    let reference = failed.reference.to_owned();
    let source: Cause = words.to_owned().into();
    let step = failed.step.map(str::to_owned);
    if words.contains("no space left on device") {
        return EngineError::DiskFull { reference, source };
    }
    if let Some(exit_code) = number_after(words, "exit code: ") {
        let step = step.unwrap_or_else(|| "a step".to_owned());
        return EngineError::Run { reference, step, exit_code, source };
    }
    if ["ockerfile parse error", "Dockerfile cannot be empty"].iter().any(|text| words.contains(text)) {
        return EngineError::Dockerfile { reference, line: number_after(words, "line "), source };
    }
    if words.contains("failed to reach build target") || words.contains("target stage") {
        let target = failed.target.unwrap_or("").to_owned();
        return EngineError::UnknownStage { reference, target };
    }
    if let Some(base) = failed.step.and_then(base_of) {
        return EngineError::Base { reference, base, why: refusal(words), source };
    }
    if let Some(frontend) = failed.step.and_then(frontend_of) {
        return EngineError::Syntax { reference, frontend, why: refusal(words), source };
    }
    let step = match (step, missing_path(words), missing_below(words)) {
        // The same words for both: a path of the context, or of another stage.
        (Some(step), Some(path), _) if step.contains("--from=") => {
            return EngineError::MissingInStage { reference, step, path };
        }
        (Some(step), Some(path), _) => return EngineError::MissingSource { reference, step, path },
        (Some(step), None, Some(path)) => return EngineError::MissingInStage { reference, step, path },
        (step, ..) => step,
    };
    EngineError::Build { reference, step, source }
}

/// The image of `[internal] load metadata for X`, `FROM X` and `[stage 1/2] FROM X@sha256:…`.
fn base_of(step: &str) -> Option<String> {
    if let Some(base) = step.strip_prefix("[internal] load metadata for ") {
        return Some(base.to_owned());
    }
    let instruction = if step.starts_with('[') { step.split_once("] ")?.1 } else { step };
    let base = instruction.strip_prefix("FROM ")?;
    Some(base.split_once('@').map_or(base, |(name, _)| name).to_owned())
}

fn frontend_of(step: &str) -> Option<String> {
    let rest = step.strip_prefix("resolve image config for ").or_else(|| step.strip_prefix("docker-image://"))?;
    Some(rest.trim_start_matches("docker-image://").to_owned())
}

/// The path of `"/path" not found` or `"/path": not found`, as the user writes it.
fn missing_path(words: &str) -> Option<String> {
    if !words.contains("failed to compute cache key") && !words.contains("failed to calculate checksum") {
        return None;
    }
    let (_, rest) = words.split_once('"')?;
    let (path, rest) = rest.split_once('"')?;
    let missing = rest.trim_start_matches(':').trim_start().starts_with("not found");
    missing.then(|| path.trim_start_matches('/').to_owned())
}

/// The path of `lstat …/merged/path: no such file or directory`; what is before it is the engine's own.
fn missing_below(words: &str) -> Option<String> {
    let (before, _) = words.split_once(": no such file or directory")?;
    let (_, path) = before.split_once("/merged/")?;
    Some(path.to_owned())
}

/// What a registry did, told from the engine's words.
pub(super) fn refusal(words: &str) -> Refusal {
    let has = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    if has(&["401 Unauthorized", "403 Forbidden", "access denied", "unauthorized", "denied:", "no basic auth"]) {
        Refusal::Denied
    } else if has(&["x509:", "server gave HTTP response to HTTPS client", "first record does not look like a TLS"]) {
        Refusal::Untrusted
    } else if has(&["dial tcp", "no such host", "connection refused", "i/o timeout", "network is unreachable"]) {
        Refusal::Unreachable
    } else if has(&["not found", "manifest unknown", "404"]) {
        Refusal::NotFound
    } else {
        Refusal::Other
    }
}

fn number_after(words: &str, mark: &str) -> Option<u32> {
    let (_, rest) = words.split_once(mark)?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The words without what the engine's parts put around them.
fn without_wrapping(message: &str) -> &str {
    const WRAPPING: [&str; 7] = [
        "failed to solve with frontend dockerfile.v0: ",
        "failed to solve with frontend gateway.v0: ",
        "failed to solve: ",
        "failed to build LLB: ",
        "failed to create LLB definition: ",
        "rpc error: code = Unknown desc = ",
        "rpc error: code = NotFound desc = ",
    ];
    let mut words = message;
    while let Some(rest) = WRAPPING.iter().find_map(|wrapping| words.strip_prefix(wrapping)) {
        words = rest;
    }
    words
}

/// The digest in the engine's last word of a push: `tag: digest: sha256:… size: 1234`.
pub(super) fn pushed_digest(status: &str) -> Option<Digest> {
    status.split_once("digest: ")?.1.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn the_words_of_the_engine_become_an_error_that_says_what_to_do() {
        let load = "[internal] load metadata for r.example/base:1";
        for (step, words, message, cause) in [
            (
                "[2/2] RUN make",
                "failed to solve with frontend dockerfile.v0: failed to solve with frontend gateway.v0: rpc error: code = Unknown desc = executor failed running [/bin/sh -c make]: exit code: 42",
                "cannot build r/a:1: [2/2] RUN make ended with exit code 42",
                "executor failed running [/bin/sh -c make]: exit code: 42",
            ),
            (
                "[2/2] RUN make",
                "failed to solve: process \"/bin/sh -c make\" did not complete successfully: exit code: 2",
                "cannot build r/a:1: [2/2] RUN make ended with exit code 2",
                "process \"/bin/sh -c make\" did not complete successfully: exit code: 2",
            ),
            (
                "[2/2] COPY nosuch /c",
                "failed to compute cache key: \"/nosuch\" not found: not found",
                "cannot build r/a:1: [2/2] COPY nosuch /c needs \"nosuch\", which is not in the build context",
                "",
            ),
            (
                "[2/2] COPY nosuch /c",
                "failed to compute cache key: failed to calculate checksum of ref a::b: \"/nosuch\": not found",
                "cannot build r/a:1: [2/2] COPY nosuch /c needs \"nosuch\", which is not in the build context",
                "",
            ),
            (
                "[stage-1 2/2] COPY --from=x /nope /b",
                "failed to compute cache key: \"/nope\" not found: not found",
                "cannot build r/a:1: [stage-1 2/2] COPY --from=x /nope /b needs \"nope\", which is not there",
                "",
            ),
            (
                "[stage-1 2/2] COPY --from=x /nope /b",
                "lstat /var/lib/docker/overlay2/f55b/merged/nope: no such file or directory",
                "cannot build r/a:1: [stage-1 2/2] COPY --from=x /nope /b needs \"nope\", which is not there",
                "",
            ),
            (
                "",
                "dockerfile parse error line 2: unknown instruction: FOO",
                "cannot build r/a:1: the Dockerfile has an error in line 2",
                "dockerfile parse error line 2: unknown instruction: FOO",
            ),
            (
                "",
                "the Dockerfile cannot be empty",
                "cannot build r/a:1: the Dockerfile has an error",
                "the Dockerfile cannot be empty",
            ),
            (
                "",
                "failed to reach build target nosuch in Dockerfile",
                "cannot build r/a:1: the Dockerfile has no stage \"nosuch\"",
                "",
            ),
            (
                load,
                "r.example/base:1: not found",
                "cannot build r/a:1: base image r.example/base:1 was not found",
                "r.example/base:1: not found",
            ),
            (
                load,
                "pulling from host r.example failed with status code [manifests 1]: 401 Unauthorized",
                "cannot build r/a:1: base image r.example/base:1 was refused by its registry",
                "pulling from host r.example failed with status code [manifests 1]: 401 Unauthorized",
            ),
            (
                load,
                "failed to do request: Head \"https://r.example/v2/base/manifests/1\": x509: certificate signed by unknown authority",
                "cannot build r/a:1: base image r.example/base:1 is at a registry that the engine does not trust",
                "failed to do request: Head \"https://r.example/v2/base/manifests/1\": x509: certificate signed by unknown authority",
            ),
            (
                "[x 1/2] FROM r.example/no:1@sha256:00",
                "failed to load cache key: dial tcp 192.0.2.1:443: i/o timeout",
                "cannot build r/a:1: base image r.example/no:1 is at a registry that the engine cannot reach",
                "failed to load cache key: dial tcp 192.0.2.1:443: i/o timeout",
            ),
            (
                "resolve image config for r.example/fe:1",
                "r.example/fe:1: not found",
                "cannot build r/a:1: the `# syntax` image r.example/fe:1 was not found",
                "r.example/fe:1: not found",
            ),
            (
                "[2/2] COPY a /",
                "write /var/lib/docker/tmp/x: no space left on device",
                "cannot build r/a:1: the disk of the engine is full",
                "write /var/lib/docker/tmp/x: no space left on device",
            ),
            ("[2/2] ADD a /", "something new", "cannot build r/a:1: [2/2] ADD a / failed", "something new"),
            ("", "something new", "cannot build r/a:1", "something new"),
        ] {
            let step = (!step.is_empty()).then_some(step);
            let error = of_build(words, &Failed { reference: "r/a:1", step, target: Some("nosuch") });
            assert_eq!(error.to_string(), message, "{words}");
            assert_eq!(error.source().map(ToString::to_string).unwrap_or_default(), cause, "{words}");
        }
    }

    #[test]
    fn the_digest_of_a_push_is_in_its_last_words() {
        let hex = "5efdb26d2b73b8cf202aeae5770e33afbd2cfc8b191ecb967b083cf46fe075a1";
        let digest = pushed_digest(&format!("inputs-1: digest: sha256:{hex} size: 946"));
        assert_eq!(digest.map(|digest| digest.hex()).as_deref(), Some(hex));
        assert_eq!(pushed_digest("Layer already exists"), None);
    }
}
