//! The log of a build: plain lines, as the engine tells them.

use std::collections::HashMap;

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, Vertex, VertexLog, VertexStatus};

use crate::dockerfile;
use crate::say::{Say, size};

/// How the names of the steps begin that the engine adds by itself.
const INTERNAL: &str = "[internal]";

/// How much of a step's name a message shows.
const STEP_CHARACTERS: usize = 100;

/// What has been told of a build so far.
#[derive(Default)]
pub(super) struct Progress {
    steps: Vec<Step>,
    numbers: HashMap<String, usize>,
    /// The first step that failed.
    failed: Option<usize>,
}

/// One step: a vertex of the engine's graph.
struct Step {
    name: String,
    said: Said,
    /// Whether the engine had its result.
    cached: bool,
    /// All of its output, without line ends, until it succeeds.
    output: Vec<String>,
    /// The beginning of a line whose end has not come yet, of stdout and of stderr.
    begun: [Vec<u8>; 2],
    /// The transfers that were told.
    transfers: Vec<String>,
}

/// What the log has of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Begin,
    End,
}

impl Progress {
    /// Says what is new.
    pub(super) fn tell(&mut self, news: StatusResponse, say: &Say) {
        let StatusResponse { vertexes, statuses, logs, warnings } = news;
        // Output first: the message that ends a step may come with its last lines.
        let (ended, others): (Vec<_>, Vec<_>) = vertexes.into_iter().partition(|vertex| vertex.completed.is_some());
        for vertex in &others {
            self.begin(vertex, say);
        }
        // A cached step has no output, so its two lines stay together.
        for vertex in ended.iter().filter(|vertex| !vertex.cached) {
            self.begin(vertex, say);
        }
        for status in statuses {
            self.transfer(&status, say);
        }
        for log in logs {
            self.output(&log, say);
        }
        for vertex in &ended {
            self.begin(vertex, say);
            self.end(vertex, say);
        }
        for warning in warnings {
            say.line(format_args!("warning: {}", plain(&warning.short)));
        }
    }

    /// The name of the step that failed, as far as a message has room for it.
    pub(super) fn failed_step(&self) -> Option<String> {
        self.failed.map(|at| beginning(&self.steps[at].name))
    }

    /// How many steps there were whose work the engine may have had, and of how many it had it.
    pub(super) fn cached(&self) -> (usize, usize) {
        let steps = || self.steps.iter().filter(|step| is_work(&step.name));
        (steps().filter(|step| step.cached).count(), steps().count())
    }

    /// Says where in the Dockerfile the failed step is, and its output once more, whole.
    pub(super) fn repeat_failed(&self, dockerfile: &[u8], say: &Say) {
        let Some(step) = self.failed.map(|at| &self.steps[at]) else { return };
        let instruction = step.name.split_once("] ").map_or(step.name.as_str(), |(_, instruction)| instruction);
        let excerpt = dockerfile::excerpt(dockerfile, instruction);
        if !excerpt.is_empty() {
            say.line("the step that failed, in the Dockerfile:");
            for line in excerpt {
                say.line(format_args!("  {line}"));
            }
        }
        if step.output.is_empty() {
            return;
        }
        say.line(format_args!("the output of the step that failed, {}:", beginning(&step.name)));
        for line in &step.output {
            say.line(format_args!("  {line}"));
        }
    }

    fn number(&mut self, vertex: &Vertex) -> usize {
        if let Some(&at) = self.numbers.get(&vertex.digest) {
            return at;
        }
        let step = Step {
            name: plain(vertex.name.as_bytes()),
            said: Said::Nothing,
            cached: false,
            output: Vec::new(),
            begun: [Vec::new(), Vec::new()],
            transfers: Vec::new(),
        };
        self.steps.push(step);
        self.numbers.insert(vertex.digest.clone(), self.steps.len() - 1);
        self.steps.len() - 1
    }

    fn begin(&mut self, vertex: &Vertex, say: &Say) {
        // What never starts (another step failed first) is never told.
        if vertex.started.is_none() && !vertex.cached {
            return;
        }
        let at = self.number(vertex);
        let step = &mut self.steps[at];
        if step.said == Said::Nothing {
            step.said = Said::Begin;
            say.line(format_args!("#{} {}", at + 1, step.name));
        }
    }

    fn end(&mut self, vertex: &Vertex, say: &Say) {
        let Some(&at) = self.numbers.get(&vertex.digest) else { return };
        for stream in 0..2 {
            let rest = std::mem::take(&mut self.steps[at].begun[stream]);
            if !rest.is_empty() {
                self.line(at, &rest, say);
            }
        }
        let step = &mut self.steps[at];
        if step.said == Said::End {
            return;
        }
        let canceled = vertex.error.contains("context canceled");
        if let (Some(cache), false) = (cache_of(&step.name), vertex.error.is_empty()) {
            // A build needs no cache.
            say.line(format_args!("cache: {cache}: {}; the build goes on without it", why_no_cache(&vertex.error)));
        } else if !vertex.error.is_empty() && !canceled {
            say.line(format_args!("#{} failed", at + 1));
            self.failed.get_or_insert(at);
        } else if canceled {
            // It did not fail: another step did.
        } else if step.name.starts_with(INTERNAL) {
            // Its name says enough.
        } else if vertex.cached {
            step.cached = true;
            say.line(format_args!("#{} cached", at + 1));
        } else if let Some(seconds) = seconds(vertex.started.as_ref(), vertex.completed.as_ref()) {
            say.line(format_args!("#{} done in {seconds:.1} s", at + 1));
        }
        step.said = Said::End;
        if vertex.error.is_empty() {
            step.output = Vec::new();
        }
    }

    /// Says a transfer once, when it is complete: a layer of a base image. What we send ourselves is said when all is sent.
    fn transfer(&mut self, status: &VertexStatus, say: &Say) {
        let Some(&at) = self.numbers.get(&status.vertex) else { return };
        let step = &mut self.steps[at];
        if step.name.starts_with(INTERNAL)
            || status.completed.is_none()
            || status.current == 0
            || step.transfers.contains(&status.id)
        {
            return;
        }
        step.transfers.push(status.id.clone());
        let bytes = u64::try_from(status.current).unwrap_or_default();
        say.line(format_args!("#{} {}: {}", at + 1, plain(status.id.as_bytes()), size(bytes)));
    }

    fn output(&mut self, log: &VertexLog, say: &Say) {
        let Some(&at) = self.numbers.get(&log.vertex) else { return };
        let stream = usize::from(log.stream == 2);
        let mut begun = std::mem::take(&mut self.steps[at].begun[stream]);
        for piece in log.msg.split_inclusive(|&b| b == b'\n') {
            begun.extend_from_slice(piece);
            if begun.ends_with(b"\n") {
                begun.pop();
                self.line(at, &begun, say);
                begun.clear();
            }
        }
        self.steps[at].begun[stream] = begun;
    }

    /// Says one line of output. What a bar drew over itself becomes lines of their own: nothing is cut.
    fn line(&mut self, at: usize, bytes: &[u8], say: &Say) {
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        for piece in bytes.split(|&b| b == b'\r') {
            let text = plain(piece);
            say.line(format_args!("#{} {text}", at + 1));
            self.steps[at].output.push(text);
        }
    }
}

/// Whether a step is one of the Dockerfile that does something: `[2/3] RUN …`, and no `FROM`.
fn is_work(step: &str) -> bool {
    step.starts_with('[')
        && !step.starts_with(INTERNAL)
        && step.split_once("] ").is_some_and(|(_, instruction)| !instruction.starts_with("FROM "))
}

/// What a step is named that reads or writes a cache, as the end of a line.
fn cache_of(step: &str) -> Option<String> {
    if let Some(reference) = step.strip_prefix("importing cache manifest from ") {
        return Some(format!("{reference} cannot be read"));
    }
    (step == "exporting cache to registry").then(|| "it cannot be written".to_owned())
}

/// The engine's words for a cache that cannot be had, without what its parts put around them.
fn why_no_cache(error: &str) -> String {
    if error.ends_with(": not found") || error.contains("manifest unknown") {
        return "it is not there yet".to_owned();
    }
    plain(error.rsplit(": failed to ").next().unwrap_or(error).as_bytes())
}

/// The beginning of a step's name: a RUN may be a program of its own, which the log has whole where the step begins.
fn beginning(name: &str) -> String {
    match name.char_indices().nth(STEP_CHARACTERS) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

fn seconds(from: Option<&Timestamp>, to: Option<&Timestamp>) -> Option<f64> {
    let (from, to) = (from?, to?);
    let whole = (to.seconds - from.seconds) as f64;
    Some((whole + f64::from(to.nanos - from.nanos) / 1e9).max(0.0))
}

/// Text without terminal control: escape sequences and control characters other than tabs go.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            if rest.next_if_eq(&'[').is_some() {
                // A control sequence ends with its first character from `@` to `~`.
                for c in rest.by_ref() {
                    if ('@'..='~').contains(&c) {
                        break;
                    }
                }
            } else {
                rest.next();
            }
        } else if c == '\t' || !c.is_control() {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::say::Page;

    fn at(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos: 0 })
    }

    fn vertex(name: &str) -> Vertex {
        Vertex { digest: name.to_owned(), name: name.to_owned(), started: at(10), ..Vertex::default() }
    }

    fn log(name: &str, stream: i64, text: &str) -> VertexLog {
        VertexLog { vertex: name.to_owned(), stream, msg: text.into(), ..VertexLog::default() }
    }

    #[test]
    fn every_step_is_told_once_and_the_failed_one_is_repeated() {
        let page = Page::default();
        let say = Say::new(page.clone());
        let mut progress = Progress::default();
        let (load, run, never) =
            (vertex("[internal] load build context"), vertex("[2/3] RUN a"), vertex("[3/3] RUN b"));
        let cached = Vertex { cached: true, completed: at(10), ..vertex("[1/3] FROM x") };
        let never = Vertex { started: None, ..never };
        let news = |vertexes, logs| StatusResponse { vertexes, logs, ..StatusResponse::default() };
        progress.tell(news(vec![load.clone(), never.clone()], vec![]), &say);
        progress.tell(news(vec![Vertex { completed: at(11), ..load }, cached], vec![]), &say);
        let logs =
            vec![log("[2/3] RUN a", 1, "one\ntw"), log("[2/3] RUN a", 2, "\u{1b}[31mred\u{1b}[0m\r\n10%\r20%\r\n")];
        progress.tell(news(vec![run.clone()], logs), &say);
        let error = "executor failed".to_owned();
        let failed = Vertex { completed: at(12), error, ..run };
        progress.tell(news(vec![failed.clone()], vec![log("[2/3] RUN a", 1, "o")]), &say);
        progress.tell(news(vec![failed], vec![]), &say);
        let canceled = Vertex { completed: at(12), error: "context canceled".to_owned(), ..never };
        progress.tell(news(vec![canceled], vec![]), &say);
        progress.repeat_failed(b"FROM x\nRUN a\nRUN b\n", &say);
        assert_eq!(progress.cached(), (0, 1));
        assert_eq!(progress.failed_step().as_deref(), Some("[2/3] RUN a"));
        let expected = "\
#1 [internal] load build context
#2 [1/3] FROM x
#2 cached
#3 [2/3] RUN a
#3 one
#3 red
#3 10%
#3 20%
#3 two
#3 failed
the step that failed, in the Dockerfile:
    1 | FROM x
  > 2 | RUN a
    3 | RUN b
the output of the step that failed, [2/3] RUN a:
  one
  red
  10%
  20%
  two
";
        assert_eq!(page.text(), expected);
    }

    #[test]
    fn a_message_shows_the_beginning_of_a_long_step() {
        let run = format!("[2/2] RUN {}", "é".repeat(100));
        assert_eq!(beginning(&run), format!("[2/2] RUN {}…", "é".repeat(90)));
        assert_eq!(beginning("[2/2] RUN a"), "[2/2] RUN a");
    }
}
