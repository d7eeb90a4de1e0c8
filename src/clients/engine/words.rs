//! The meaning of the engine's words: it has one status code for everything, so its texts are all there is.
//!
//! Both spellings of what changed between BuildKit 0.8 (Docker 20.10) and later ones are known here.

use super::error::{Cause, EngineError, Refusal};
use crate::names::Digest;

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
    if let Some((_, words)) = words.strip_prefix("failed to push ").and_then(|pushed| pushed.split_once(": ")) {
        return EngineError::Push { reference, why: refusal(words), source: words.to_owned().into() };
    }
    if words.contains("unsupported frontend capability moby.buildkit.frontend.contexts") {
        return EngineError::NoContexts { reference };
    }
    if let Some(entitlement) = entitlement_of(words) {
        return EngineError::NotAllowed { reference, entitlement };
    }
    if words.contains("no space left on device") {
        return EngineError::DiskFull { reference, source };
    }
    if let Some(exit_code) = number_after(words, "exit code: ") {
        let step = step.unwrap_or_else(|| "a step".to_owned());
        return EngineError::Run { reference, step, exit_code };
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

/// The entitlement of `network.host is not allowed`, and of `granting entitlement network.host is not allowed by …`.
fn entitlement_of(words: &str) -> Option<String> {
    let (before, _) = words.split_once(" is not allowed")?;
    let name = before.strip_prefix("granting entitlement ").unwrap_or(before);
    (name.contains('.') && !name.contains(' ')).then(|| name.to_owned())
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
    } else if has(&["provided digest did not match uploaded content"]) {
        Refusal::Mixed
    } else if has(&["does not exist locally", "tag does not exist"]) {
        Refusal::Gone
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

/// The innermost cause: what our libraries put around it are their own types and phases, which help nobody.
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> Cause {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string().trim().to_owned().into()
}

/// The digest in the engine's last word of a push: `tag: digest: sha256:… size: 1234`.
pub(super) fn pushed_digest(status: &str) -> Option<Digest> {
    status.split_once("digest: ")?.1.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn the_words_of_the_engine_become_an_error_that_says_what_to_do() {
        let load = "[internal] load metadata for r.example/base:1";
        for (step, words, message, cause) in [
            (
                "[2/2] RUN make",
                "failed to solve with frontend dockerfile.v0: failed to solve with frontend gateway.v0: rpc error: code = Unknown desc = executor failed running [/bin/sh -c make]: exit code: 42",
                "cannot build r/a:1: [2/2] RUN make ended with exit code 42",
                "",
            ),
            (
                "[2/2] RUN make",
                "failed to solve: process \"/bin/sh -c make\" did not complete successfully: exit code: 2",
                "cannot build r/a:1: [2/2] RUN make ended with exit code 2",
                "",
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
            (
                "[2/2] RUN make",
                "network.host is not allowed",
                "cannot build r/a:1: the engine does not allow network.host",
                "",
            ),
            (
                "",
                "granting entitlement security.insecure is not allowed by build daemon configuration",
                "cannot build r/a:1: the engine does not allow security.insecure",
                "",
            ),
            (
                "",
                "failed to push r/a: push access denied, repository does not exist or may require authorization",
                "cannot push r/a:1 by the engine: the image was refused by its registry",
                "push access denied, repository does not exist or may require authorization",
            ),
            (
                "",
                "failed to push r/a: provided digest did not match uploaded content; blob unknown to registry - sha256:00",
                "cannot push r/a:1 by the engine: the image was mixed up with another upload by its registry",
                "provided digest did not match uploaded content; blob unknown to registry - sha256:00",
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
