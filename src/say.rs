//! What a person reads while a step runs: plain lines on descriptor 2.

use std::fmt::Display;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::names::Secret;

/// Writes lines for people. Clones write to the same place.
///
/// Every secret that it was told of is replaced by `<redacted>` in every line.
/// A line that cannot be written is dropped: a closed pipe is not an error.
#[derive(Clone)]
pub struct Say(Arc<Mutex<Inner>>);

struct Inner {
    out: Box<dyn Write + Send>,
    secrets: Vec<String>,
}

impl Say {
    /// Writes to `out`.
    pub fn new(out: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Inner { out: Box::new(out), secrets: Vec::new() })))
    }

    /// From now on this secret is replaced in every line.
    ///
    /// A secret of several lines (a private key) is replaced line by line. Lines of fewer than four
    /// characters are left: they would blank out ordinary words.
    pub fn hide(&self, secret: &Secret) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = secret.open().lines().map(str::trim).filter(|line| line.len() >= 4);
        inner.secrets.extend(lines.map(str::to_owned));
        // The longest first: a secret may be part of another one.
        inner.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        inner.secrets.dedup();
    }

    /// Writes one text and a line end.
    pub fn line(&self, text: impl Display) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = text.to_string();
        for secret in &inner.secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), "<redacted>");
            }
        }
        text.push('\n');
        let _ = inner.out.write_all(text.as_bytes()).and_then(|()| inner.out.flush());
    }
}

/// Bytes for people, in decimal units as registries count.
pub fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match UNITS.into_iter().find(|&(unit, _)| bytes >= unit) {
        // Tenths in whole numbers: no rounding that shows 1000.0 kB.
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} bytes"),
    }
}

/// So many bytes in so much time, and how many that are in a second: `30.2 MB in 0.41 s, 73.6 MB/s`.
pub fn rate(bytes: u64, time: Duration) -> String {
    // What took no time at all has no speed that is worth a word.
    let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    let per_second = u128::from(bytes) * 1000 / u128::from(milliseconds);
    let per_second = size(u64::try_from(per_second).unwrap_or(u64::MAX));
    format!("{} in {:.2} s, {per_second}/s", size(bytes), time.as_secs_f64())
}

/// What a test lets be said, to read it afterwards.
#[cfg(test)]
#[derive(Clone, Default)]
pub(crate) struct Page(Arc<Mutex<Vec<u8>>>);

#[cfg(test)]
impl Page {
    /// All lines so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no test panics while it writes")).into_owned()
    }
}

#[cfg(test)]
impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no test panics while it writes").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_replaced_in_every_line_that_follows() {
        let page = Page::default();
        let say = Say::new(page.clone());
        say.hide(&Secret::new("hunter2"));
        say.hide(&Secret::new("hunter2-and-more\nab\nsecond line\n"));
        say.line("user:hunter2@host, hunter2-and-more, second line, ab");
        assert_eq!(page.text(), "user:<redacted>@host, <redacted>, <redacted>, ab\n");
    }

    #[test]
    fn a_rate_is_told_for_any_size_and_time() {
        for (bytes, milliseconds, text) in [
            (30_200_000, 410, "30.2 MB in 0.41 s, 73.6 MB/s"),
            (5, 0, "5 bytes in 0.00 s, 5.0 kB/s"),
            (0, 0, "0 bytes in 0.00 s, 0 bytes/s"),
            (1_000, 20_000, "1.0 kB in 20.00 s, 50 bytes/s"),
            (u64::MAX, 1, "18446744073.7 GB in 0.00 s, 18446744073.7 GB/s"),
        ] {
            assert_eq!(rate(bytes, Duration::from_millis(milliseconds)), text);
        }
    }

    #[test]
    fn a_size_has_one_decimal_and_the_unit_that_fits() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1_000, "1.0 kB"),
            (999_999, "999.9 kB"),
            (1_250_000, "1.2 MB"),
            (1_180_000_000, "1.1 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
