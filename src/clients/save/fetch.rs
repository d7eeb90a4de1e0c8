//! Blobs on their way to files.

use std::fs::OpenOptions;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{SaveError, failed};
use crate::clients::registry::{Descriptor, Registry};
use crate::say::{Say, rate, size};

/// How many blobs arrive at once: they fill a line, and no registry takes that few for an attack.
const AT_ONCE: usize = 4;

/// How often a long download is spoken of.
const NEWS: Duration = Duration::from_secs(10);

/// A blob and its place.
pub(super) struct Part {
    pub(super) descriptor: Descriptor,
    /// The file, which need not be there yet.
    pub(super) path: PathBuf,
    /// Where the blob begins in it, in bytes.
    pub(super) offset: u64,
}

/// Fetches blobs to their files, verified. Says a line for each, and how far all are when that takes long.
pub(super) async fn all(registry: &Registry, parts: &[Part], say: &Say) -> Result<(), SaveError> {
    let progress = Progress { begun: Instant::now(), arrived: AtomicU64::new(0), expected: total(parts) };
    let count = parts.len();
    let fetched = stream::iter(parts.iter().zip(1..))
        .map(Ok)
        .try_for_each_concurrent(AT_ONCE, |(part, position)| one(registry, part, (position, count), &progress, say));
    let news = async {
        loop {
            tokio::time::sleep(NEWS).await;
            say.line(progress.so_far());
        }
    };
    tokio::select! {
        fetched = fetched => fetched?,
        () = news => {}
    }
    say.line(progress.in_all(count));
    Ok(())
}

async fn one(
    registry: &Registry,
    part: &Part,
    (position, count): (usize, usize),
    progress: &Progress,
    say: &Say,
) -> Result<(), SaveError> {
    let Part { descriptor, path, offset } = part;
    let begun = Instant::now();
    let mut stream = registry.stream_blob(descriptor).await?;
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(failed("make", path))?;
    file.seek(SeekFrom::Start(*offset)).map_err(failed("write", path))?;
    // Written from here and not from a thread: it goes to the page cache, and when that is full there is no use in
    // reading more from the registry.
    while let Some(bytes) = stream.next().await {
        let bytes = bytes?;
        file.write_all(&bytes).map_err(failed("write", path))?;
        progress.arrived.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
    say.line(format_args!(
        "blob {position} of {count}: {}, {}",
        descriptor.digest,
        rate(descriptor.size, begun.elapsed())
    ));
    Ok(())
}

fn total(parts: &[Part]) -> u64 {
    parts.iter().fold(0, |sum: u64, part| sum.saturating_add(part.descriptor.size))
}

struct Progress {
    begun: Instant,
    /// In bytes.
    arrived: AtomicU64,
    /// In bytes.
    expected: u64,
}

impl Progress {
    /// While it lasts.
    fn so_far(&self) -> String {
        let arrived = self.arrived.load(Ordering::Relaxed);
        let left = size(self.expected.saturating_sub(arrived));
        format!("blobs: {}; {left} to come", rate(arrived, self.begun.elapsed()))
    }

    /// At the end.
    fn in_all(&self, count: usize) -> String {
        format!("blobs: all {count}, {}", rate(self.expected, self.begun.elapsed()))
    }
}
