//! The log of a build: plain lines, as the engine tells them.

use std::collections::HashMap;

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, Vertex, VertexLog, VertexStatus};

use crate::say::Say;

/// What has been told of a build so far.
#[derive(Default)]
pub(super) struct Progress {
    steps: Vec<Step>,
    numbers: HashMap<String, usize>,
    /// Output of steps that the engine has not announced yet.
    failed: Option<usize>,
}

/// One step: a vertex of the engine's graph.
struct Step {
    name: String,
    said: Said,
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
        for vertex in &ended {
            self.begin(vertex, say);
        }
        for status in statuses {
            self.transfer(&status, say);
        }
        for log in logs {
            self.output(&log, say);
        }
        for vertex in &ended {
            self.end(vertex, say);
        }
        for warning in warnings {
            say.line(format_args!("warning: {}", plain(&warning.short)));
        }
    }

    /// The name of the step that failed.
    pub(super) fn failed_step(&self) -> Option<&str> {
        self.failed.map(|at| self.steps[at].name.as_str())
    }

    /// Says the output of the failed step once more, whole.
    pub(super) fn repeat_failed(&self, say: &Say) {
        let Some(step) = self.failed.map(|at| &self.steps[at]) else { return };
        if step.output.is_empty() {
            return;
        }
        say.line(format_args!("the output of the step that failed, {}:", step.name));
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
        if !vertex.error.is_empty() && !canceled {
            say.line(format_args!("#{} failed", at + 1));
            self.failed.get_or_insert(at);
        } else if canceled {
            // It did not fail: another step did.
        } else if vertex.cached {
            say.line(format_args!("#{} cached", at + 1));
        } else if let Some(seconds) = seconds(vertex.started.as_ref(), vertex.completed.as_ref()) {
            say.line(format_args!("#{} done in {seconds:.1} s", at + 1));
        }
        step.said = Said::End;
        if vertex.error.is_empty() {
            step.output = Vec::new();
        }
    }

    /// Says a transfer once, when it is complete: a layer, or the context.
    fn transfer(&mut self, status: &VertexStatus, say: &Say) {
        let Some(&at) = self.numbers.get(&status.vertex) else { return };
        let step = &mut self.steps[at];
        if status.completed.is_none() || status.current == 0 || step.transfers.contains(&status.id) {
            return;
        }
        step.transfers.push(status.id.clone());
        let what = status.id.trim_end_matches(':');
        say.line(format_args!("#{} {}: {} bytes", at + 1, plain(what.as_bytes()), status.current));
    }

    fn output(&mut self, log: &VertexLog, say: &Say) {
        let Some(&at) = self.numbers.get(&log.vertex) else { return };
        let stream = usize::from(log.stream == 2);
        let mut begun = std::mem::take(&mut self.steps[at].begun[stream]);
        for piece in log.msg.split_inclusive(|&b| b == b'\n' || b == b'\r') {
            begun.extend_from_slice(piece);
            if piece.ends_with(b"\n") || piece.ends_with(b"\r") {
                begun.pop();
                // "\r\n" is one end, and a bar that is drawn over itself has many; none of them is a line of its own.
                if !begun.is_empty() || (piece == b"\n") {
                    self.line(at, &begun, say);
                }
                begun.clear();
            }
        }
        self.steps[at].begun[stream] = begun;
    }

    fn line(&mut self, at: usize, bytes: &[u8], say: &Say) {
        let text = plain(bytes);
        say.line(format_args!("#{} {text}", at + 1));
        self.steps[at].output.push(text);
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
