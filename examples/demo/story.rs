//! How the demo is told: chapters, steps with input, log and answer, and claims that must hold.

use std::io::{IsTerminal, Write};
use std::time::Instant;

use serde_json::Value;

use crate::support::program::{Program, Ran};

/// JSON that fits on a line of this many columns stays on one.
const WIDTH: usize = 140;

/// One run of one of the programs, as Concourse or a person would start it.
pub struct Step<'a> {
    /// What happens, and why it matters.
    pub headline: &'a str,
    /// The command line as Concourse has it.
    pub command: &'a str,
    /// The program with its real arguments.
    pub program: Program,
    /// What it gets on stdin.
    pub input: &'a Value,
}

/// The story so far, written to stdout.
pub struct Story {
    begin: Instant,
    colours: bool,
    chapters: usize,
    steps: usize,
    claims: usize,
}

/// The look of a text on a terminal.
#[derive(Clone, Copy)]
enum Look {
    Plain,
    Strong,
    Faint,
    Good,
}

impl Story {
    /// Begins to tell.
    pub fn begin() -> Self {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { begin: Instant::now(), colours, chapters: 0, steps: 0, claims: 0 }
    }

    /// Begins a chapter.
    pub fn chapter(&mut self, title: &str) {
        self.chapters += 1;
        let title = format!("{}. {title}", self.chapters);
        let rule = "=".repeat(title.chars().count());
        self.write(Look::Strong, &format!("\n{title}\n{rule}\n"));
    }

    /// Tells something in whole sentences.
    pub fn tell(&self, text: &str) {
        self.write(Look::Plain, &format!("{text}\n"));
    }

    /// Shows a text under a label.
    pub fn show(&self, label: &str, text: &str) {
        self.write(Look::Faint, &format!("  {label}\n"));
        let text: String = text.lines().map(|line| format!("    {line}\n")).collect();
        self.write(Look::Plain, &text);
    }

    /// Runs a step, and shows its input, its log and its answer. It must succeed.
    #[track_caller]
    pub fn step(&mut self, step: Step<'_>) -> Ran {
        let Step { headline, command, program, input } = step;
        self.steps += 1;
        self.write(Look::Strong, &format!("\nStep {}: {headline}\n", self.steps));
        self.show("command", command);
        self.show("input (stdin)", &pretty(input, 0));
        let ran = program.run(input);
        self.show("log (stderr)", &ran.stderr);
        let answer = serde_json::from_str(&ran.stdout).map_or(ran.stdout.clone(), |json| pretty(&json, 0));
        let end = ran.code.map_or("ended by a signal".to_owned(), |code| format!("exit code {code}"));
        self.show(&format!("answer (stdout), {end} after {:.2} s", ran.elapsed.as_secs_f64()), &answer);
        assert_eq!(ran.code, Some(0), "{command} was expected to succeed");
        ran
    }

    /// Checks what was claimed, and ends the demo if it is not so.
    #[track_caller]
    pub fn check_that(&mut self, claim: &str, holds: bool) {
        assert!(holds, "this does not hold: {claim}");
        self.claims += 1;
        self.write(Look::Good, &format!("  checked: {claim}\n"));
    }

    /// Ends the story.
    pub fn end(self) {
        self.tell(&format!(
            "\n{} steps and {} checks in {:.0} s. All servers end with this program, and their data was in memory only.",
            self.steps,
            self.claims,
            self.begin.elapsed().as_secs_f64()
        ));
    }

    fn write(&self, look: Look, text: &str) {
        let (on, off) = match look {
            _ if !self.colours => ("", ""),
            Look::Plain => ("", ""),
            Look::Strong => ("\x1b[1m", "\x1b[0m"),
            Look::Faint => ("\x1b[2m", "\x1b[0m"),
            Look::Good => ("\x1b[32m", "\x1b[0m"),
        };
        let mut out = std::io::stdout().lock();
        // Whoever closed the pipe has seen enough; the checks still decide the exit code.
        let _ = write!(out, "{on}{text}{off}").and_then(|()| out.flush());
    }
}

/// JSON over as many lines as it needs, and no more.
fn pretty(value: &Value, indent: usize) -> String {
    let one_line = value.to_string();
    if indent + one_line.len() <= WIDTH {
        return spaced(value);
    }
    let inner = " ".repeat(indent + 2);
    let (open, items, close): (_, Vec<String>, _) = match value {
        Value::Object(map) => {
            let item =
                |(key, value)| format!("{inner}{}: {}", Value::from(String::clone(key)), pretty(value, indent + 2));
            ('{', map.iter().map(item).collect(), '}')
        }
        Value::Array(items) => {
            ('[', items.iter().map(|item| format!("{inner}{}", pretty(item, indent + 2))).collect(), ']')
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return one_line,
    };
    format!("{open}\n{}\n{}{close}", items.join(",\n"), " ".repeat(indent))
}

/// JSON on one line, with spaces for the eye.
fn spaced(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let items: Vec<_> =
                map.iter().map(|(key, value)| format!("{}: {}", Value::from(key.as_str()), spaced(value))).collect();
            format!("{{{}}}", items.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(spaced).collect::<Vec<_>>().join(", ")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}
