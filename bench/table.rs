//! Measures by turns, and prints medians and ratios to a baseline of the same run.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Something that is measured.
pub struct Row<'a> {
    name: &'a str,
    /// Runs it once, and tells how long that took. Preparing it is not part of that.
    run: Box<dyn FnMut() -> Duration + 'a>,
}

impl<'a> Row<'a> {
    /// A row with what runs it once.
    pub fn new(name: &'a str, run: impl FnMut() -> Duration + 'a) -> Self {
        Self { name, run: Box::new(run) }
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
    for turn in 0..=turns {
        before();
        for (row, times) in rows.iter_mut().zip(&mut times) {
            let time = (row.run)();
            if turn > 0 {
                times.push(time);
            }
        }
    }
    println!("\n{title:<56} {:>10} {:>10} {:>8}", "median ms", "best ms", "ratio");
    let mut baseline = None;
    for (row, mut times) in rows.into_iter().zip(times) {
        times.sort_unstable();
        let median = milliseconds(times[times.len() / 2]);
        let ratio = median / *baseline.get_or_insert(median);
        println!("  {:<54} {median:>10.1} {:>10.1} {ratio:>8.2}", row.name, milliseconds(times[0]));
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
