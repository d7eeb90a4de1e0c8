//! Measures by turns, and prints medians and ratios to a baseline of the same run.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What one run took.
pub struct Cost {
    /// How long it ran. Preparing it is not part of that.
    pub time: Duration,
    /// The highest use of memory, in bytes, where it was watched.
    pub peak: Option<u64>,
}

impl From<Duration> for Cost {
    fn from(time: Duration) -> Self {
        Self { time, peak: None }
    }
}

/// Something that is measured.
pub struct Row<'a> {
    name: &'a str,
    /// Runs it once, and tells what that took.
    run: Box<dyn FnMut() -> Cost + 'a>,
}

impl<'a> Row<'a> {
    /// A row with what runs it once.
    pub fn new<C: Into<Cost>>(name: &'a str, mut run: impl FnMut() -> C + 'a) -> Self {
        Self { name, run: Box::new(move || run().into()) }
    }
}

/// Runs all rows by turns, so that what else the machine does falls on all alike, and prints them. The first row is
/// the baseline. The first turn fills caches and does not count; `before` is called at the beginning of each.
///
/// Nothing fails on time: how long something takes says as much of the machine as of us. A ratio says more.
pub fn print(title: &str, before: impl FnMut(), rows: Vec<Row<'_>>) {
    print_in(title, DEFAULT_TURNS, before, rows);
}

/// The same with another number of turns, unless `TURNS` is given: for rows that take seconds.
#[expect(clippy::print_stdout, reason = "the table is what a benchmark is run for")]
pub fn print_in(title: &str, turns: usize, mut before: impl FnMut(), mut rows: Vec<Row<'_>>) {
    let turns = given_turns().unwrap_or(turns);
    let mut times = vec![Vec::with_capacity(turns); rows.len()];
    let mut peaks = vec![None; rows.len()];
    for turn in 0..=turns {
        before();
        for ((row, times), highest) in rows.iter_mut().zip(&mut times).zip(&mut peaks) {
            let Cost { time, peak } = (row.run)();
            *highest = peak.max(*highest);
            if turn > 0 {
                times.push(time);
            }
        }
    }
    let peak_title = if peaks.iter().any(Option::is_some) { "    peak MB" } else { "" };
    println!("\n{title:<56} {:>10} {:>10} {:>8}{peak_title}", "median ms", "best ms", "ratio");
    let mut baseline = None;
    for ((row, mut times), peak) in rows.into_iter().zip(times).zip(peaks) {
        times.sort_unstable();
        let median = milliseconds(times[times.len() / 2]);
        let ratio = median / *baseline.get_or_insert(median);
        let peak = peak.map(|bytes| format!(" {:>10.1}", bytes as f64 / 1e6)).unwrap_or_default();
        println!("  {:<54} {median:>10.1} {:>10.1} {ratio:>8.2}{peak}", row.name, milliseconds(times[0]));
    }
}

/// How often each row is measured when nothing else is said.
const DEFAULT_TURNS: usize = 15;

/// `TURNS`, when it is given.
fn given_turns() -> Option<usize> {
    let given = std::env::var("TURNS").ok()?;
    Some(given.parse::<usize>().expect("TURNS is a number, as in TURNS=50").max(1))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Runs a program of others to its end, with nothing on stdin, and tells how long it ran.
#[track_caller]
pub fn time(command: &mut Command) -> Duration {
    let begin = Instant::now();
    let output =
        command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let elapsed = begin.elapsed();
    assert!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    elapsed
}
