//! Unpacks an image's layers to a directory, and never writes outside of it.
//!
//! One pass, and everything in it at the same time: layers are downloaded and verified, inflated, digested, and applied
//! one after the other; the next layers come on meanwhile, as far as there is room for them. Memory does not grow with
//! the image.
//!
//! - `inflate`: gzip, zstd or neither;
//! - `blocks`: the threads that inflate and digest a layer, and what goes between them;
//! - `archive`: reads a tar archive's entries;
//! - `layer`: what each entry does to the root;
//! - `tree`: paths, which cannot leave the root;
//! - `writers`: the threads that fill files.

mod archive;
mod blocks;
mod inflate;
mod layer;
#[cfg(test)]
mod tests;
mod tree;
mod writers;

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{Either, select};
use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::interval_at;

use blocks::{Blocks, NoRoom};
pub use layer::{LayerError, LayerStats, Omitted, Rootfs, Skipped};

use super::registry::{Descriptor, Image, ImageConfig, Registry, RegistryError};
use crate::names::Digest;
use crate::say::{Say, rate, size};

/// How many layers are downloaded at the same time. Several small ones would otherwise wait for an answer each.
const DOWNLOADED: usize = 3;

/// How many layers are inflated at the same time: the one that is applied, and the next one.
const INFLATED: usize = 2;

/// How often something is said while layers are unpacked.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// How many pieces of a download wait for the thread that inflates them. A piece is what hyper reads at once: 400 kB at
/// most.
const PIECES_WAITING: usize = 4;

/// Why an image could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// The directory could not be made or opened, or not be finished after the last layer.
    #[error("cannot unpack an image to {root:?}")]
    Root {
        /// The directory.
        root: PathBuf,
        /// Why.
        source: LayerError,
    },
    /// The directory has something in it.
    #[error("cannot unpack an image to {root:?}: it is not empty")]
    NotEmpty {
        /// The directory.
        root: PathBuf,
    },
    /// A layer that the registry may not give.
    #[error("cannot unpack layer {digest}: {media_type} is a foreign layer, which must be had from elsewhere")]
    Foreign {
        /// The layer.
        digest: Digest,
        /// Its media type.
        media_type: String,
    },
    /// The config tells of another number of layers than the manifest.
    #[error("cannot unpack {image}: its manifest has {layers} layers, its config {diff_ids}")]
    LayerCount {
        /// The manifest.
        image: Digest,
        /// In the manifest.
        layers: usize,
        /// In the config.
        diff_ids: usize,
    },
    /// A layer could not be downloaded whole.
    #[error("cannot download layer {digest}")]
    Download {
        /// The layer.
        digest: Digest,
        /// Why.
        source: RegistryError,
    },
    /// A layer could not be applied.
    #[error("cannot unpack layer {digest}")]
    Layer {
        /// The layer.
        digest: Digest,
        /// Why.
        source: LayerError,
    },
    /// A layer makes the image larger than it may be.
    #[error("cannot unpack layer {digest}: with it the image has more than {max_bytes} bytes")]
    TooLarge {
        /// The layer.
        digest: Digest,
        /// What all layers may have, inflated.
        max_bytes: NonZeroU64,
    },
    /// The unpacking thread ended by itself: a mistake of ours.
    #[error("the unpacking of the image broke off")]
    BrokeOff {
        /// Why.
        source: tokio::task::JoinError,
    },
}

impl RootfsError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Download { source, .. } => source.hint(),
            Self::Layer { source, .. } => source.hint(),
            Self::Foreign { .. } => Some("make the image on a base whose layers are all in the registry".to_owned()),
            Self::LayerCount { .. } => {
                Some("the image was damaged when it was made or pushed: build and push it again".to_owned())
            }
            Self::Root { source, .. } => source.hint(),
            Self::NotEmpty { .. } => Some("give an empty directory".to_owned()),
            Self::TooLarge { .. } => Some(
                "an image that inflates to so much may be meant to fill the worker's disk; if it is yours, raise \
                 `source.registry.max_unpacked_size`, or set it to 0 for no limit"
                    .to_owned(),
            ),
            Self::BrokeOff { .. } => None,
        }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// The entries of all layers.
    pub files: u64,
    /// The size of all layers, inflated, in bytes.
    pub bytes: u64,
    /// What could not be made here.
    pub skipped: Skipped,
}

/// Unpacks the layers, lowest first, into `root`, which must be empty or absent. Together they may have `max_bytes`,
/// inflated; `None`: any number.
///
/// Says a line for each layer, one every ten seconds that it takes, and one for what an unprivileged container may not
/// make.
/// If the returned future is dropped, the unpacking thread ends by itself and removes what it made.
///
/// # Errors
/// Anything but a whole and verified image. `root` is then empty or absent again.
pub async fn unpack(
    registry: &Registry,
    image: &Image,
    root: &Path,
    max_bytes: Option<NonZeroU64>,
    say: &Say,
) -> Result<Unpacked, RootfsError> {
    let layers = planned(image)?;
    let progress = Progress::new(layers);
    let mut ticks = interval_at(tokio::time::Instant::now() + SAID_EVERY, SAID_EVERY);
    let mut unpacking = pin!(unpack_all(registry, layers, root, max_bytes, &progress, say));
    let unpacked = loop {
        tokio::select! {
            unpacked = &mut unpacking => break unpacked?,
            _ = ticks.tick() => say.line(progress.line("so far")),
        }
    };
    say.line(progress.line("in all"));
    say_skipped(&unpacked.skipped, say);
    Ok(unpacked)
}

async fn unpack_all(
    registry: &Registry,
    layers: &[Descriptor],
    root: &Path,
    max_bytes: Option<NonZeroU64>,
    progress: &Progress,
    say: &Say,
) -> Result<Unpacked, RootfsError> {
    let (senders, arriving): (Vec<_>, Vec<_>) = layers.iter().map(|_| mpsc::channel(PIECES_WAITING)).unzip();
    let mut thread = {
        let (root, say, counted) = (root.to_owned(), say.clone(), Arc::clone(&progress.unpacked));
        let layers = layers.iter().cloned().zip(arriving).collect();
        tokio::task::spawn_blocking(move || unpack_arriving(&root, layers, max_bytes, &counted, &say))
    };
    let download = pin!(download(registry, layers, senders, &progress.downloaded));
    let joined = |result: Result<_, _>| result.map_err(|source| RootfsError::BrokeOff { source });
    let (unpacked, unread) = match select(&mut thread, download).await {
        // When the download fails, the thread fails too, for want of bytes: the first is the reason.
        Either::Right((downloaded, _)) => {
            let unpacked = joined(thread.await)?;
            (unpacked, downloaded?)
        }
        Either::Left((unpacked, download)) => match joined(unpacked)? {
            unpacked @ Err(RootfsError::Layer { source: LayerError::Read { .. }, .. }) => (unpacked, download.await?),
            // What still arrives is of no use.
            unpacked => return unpacked,
        },
    };
    if let (Err(RootfsError::Layer { digest, source: LayerError::Read { .. } }), Some((of, rest))) = (&unpacked, unread)
        && *digest == of
    {
        verify(of, rest).await?;
    }
    unpacked
}

/// What Concourse reads beside a `rootfs/`: env, user, cmd and entrypoint of the image.
///
/// Fact: Concourse reads these four keys and ignores others (`atc/worker/gardenruntime/image.go`, `atc/exec/task_step.go`).
pub fn metadata_json(config: &ImageConfig) -> serde_json::Value {
    let run = config.config.clone().unwrap_or_default();
    serde_json::json!({
        "env": run.env.unwrap_or_default(),
        "user": run.user.unwrap_or_default(),
        "cmd": run.cmd.unwrap_or_default(),
        "entrypoint": run.entrypoint.unwrap_or_default(),
    })
}

/// The layers to unpack.
///
/// Whether a layer is, inflated, what the config says (`diff_id`) is not looked at: the manifest names the digests of
/// config and layers, so nobody can change either, and digesting what was inflated takes an eighth of the time.
fn planned(image: &Image) -> Result<&[Descriptor], RootfsError> {
    let (layers, diff_ids) = (image.layers.len(), image.config.rootfs.diff_ids.len());
    if diff_ids != 0 && diff_ids != layers {
        return Err(RootfsError::LayerCount { image: image.manifest.digest, layers, diff_ids });
    }
    match image.layers.iter().find(|layer| layer.is_foreign()) {
        None => Ok(&image.layers),
        Some(layer) => Err(RootfsError::Foreign { digest: layer.digest, media_type: layer.media_type.clone() }),
    }
}

/// What is downloaded of a layer. A channel that closes without `End` is a download that broke off.
enum Piece {
    Bytes(Bytes),
    End,
}

/// What [`Registry::stream_blob`] gives.
trait Blob: Stream<Item = Result<Bytes, RegistryError>> + Unpin {}
impl<S: Stream<Item = Result<Bytes, RegistryError>> + Unpin> Blob for S {}

/// Sends the layers' verified bytes. Gives what is left of the first layer whose other side ended before it.
async fn download(
    registry: &Registry,
    layers: &[Descriptor],
    senders: Vec<mpsc::Sender<Piece>>,
    counted: &AtomicU64,
) -> Result<Option<(Digest, impl Blob)>, RootfsError> {
    let downloads = layers.iter().zip(senders).map(|(layer, pieces)| download_layer(registry, layer, pieces, counted));
    let mut downloads = futures_util::stream::iter(downloads).buffered(DOWNLOADED);
    while let Some(downloaded) = downloads.next().await {
        if let Some(rest) = downloaded? {
            return Ok(Some(rest));
        }
    }
    Ok(None)
}

async fn download_layer(
    registry: &Registry,
    layer: &Descriptor,
    pieces: mpsc::Sender<Piece>,
    counted: &AtomicU64,
) -> Result<Option<(Digest, impl Blob)>, RootfsError> {
    let digest = layer.digest;
    let failed = |source| RootfsError::Download { digest, source };
    let mut stream = registry.stream_blob(layer).await.map_err(failed)?;
    while let Some(bytes) = stream.next().await {
        let bytes = bytes.map_err(failed)?;
        counted.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if pieces.send(Piece::Bytes(bytes)).await.is_err() {
            return Ok(Some((digest, stream)));
        }
    }
    // Whoever has everything may have ended.
    let _ = pieces.send(Piece::End).await;
    Ok(None)
}

/// Reads a layer that could not be understood to its end: if it was damaged on its way, that is the reason.
async fn verify(digest: Digest, mut rest: impl Blob) -> Result<(), RootfsError> {
    while let Some(bytes) = rest.next().await {
        bytes.map_err(|source| RootfsError::Download { digest, source })?;
    }
    Ok(())
}

/// A layer that arrives.
type Arriving = (Descriptor, mpsc::Receiver<Piece>);

/// The whole work of the unpacking thread.
fn unpack_arriving(
    root: &Path,
    layers: Vec<Arriving>,
    max_bytes: Option<NonZeroU64>,
    counted: &Arc<AtomicU64>,
    say: &Say,
) -> Result<Unpacked, RootfsError> {
    let failed = |source| RootfsError::Root { root: root.to_owned(), source };
    let was_absent = match std::fs::create_dir(root) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(source) => return Err(failed(LayerError::Write { action: "make", path: root.to_owned(), source })),
    };
    let mut rootfs = Rootfs::open(root).map_err(|error| {
        if was_absent {
            let _ = std::fs::remove_dir(root);
        }
        failed(error)
    })?;
    if !rootfs.is_empty().map_err(failed)? {
        return Err(RootfsError::NotEmpty { root: root.to_owned() });
    }
    let unpacked = apply_all(&mut rootfs, layers, max_bytes, counted, say)
        .and_then(|unpacked| rootfs.set_directory_times().map(|()| unpacked).map_err(failed));
    if unpacked.is_err() {
        // Half a rootfs must not be taken for an image. The first error is the one that counts.
        let cleared = rootfs.clear();
        if let Err(error) = cleared {
            say.line(format_args!("what was unpacked to {root:?} so far is still there: {error}"));
        } else if was_absent {
            let _ = std::fs::remove_dir(root);
        }
    }
    unpacked
}

fn apply_all(
    rootfs: &mut Rootfs,
    layers: Vec<Arriving>,
    max_bytes: Option<NonZeroU64>,
    counted: &Arc<AtomicU64>,
    say: &Say,
) -> Result<Unpacked, RootfsError> {
    let count = layers.len();
    let begin = |pieces| Blocks::begin(LayerInput::new(pieces), Arc::clone(counted));
    let mut arriving = layers.into_iter().map(|(layer, pieces)| (layer, begin(pieces)));
    // An iterator begins a layer when it is asked for it.
    let mut inflating: VecDeque<_> = arriving.by_ref().take(INFLATED).collect();
    let mut unpacked = Unpacked::default();
    let mut position = 0;
    while let Some((layer, mut blocks)) = inflating.pop_front() {
        position += 1;
        let digest = layer.digest;
        let begun = Instant::now();
        if let Some(max_bytes) = max_bytes {
            blocks.limit(max_bytes.get().saturating_sub(unpacked.bytes));
        }
        let stats = rootfs.apply(blocks).map_err(|source| match (source, max_bytes) {
            (LayerError::Read { source }, Some(max_bytes)) if NoRoom::is_why(&source) => {
                RootfsError::TooLarge { digest, max_bytes }
            }
            (source, _) => RootfsError::Layer { digest, source },
        })?;
        inflating.extend(arriving.next());
        say.line(format_args!(
            "layer {position} of {count}: {digest}, {}, unpacked {}",
            size(layer.size),
            rate(stats.bytes, begun.elapsed())
        ));
        unpacked.files += stats.files;
        unpacked.bytes += stats.bytes;
        unpacked.skipped.devices.append(stats.skipped.devices);
        unpacked.skipped.xattrs.append(stats.skipped.xattrs);
    }
    Ok(unpacked)
}

/// How far all layers are.
struct Progress {
    begun: Instant,
    /// The size of all layers as they are downloaded, in bytes.
    size: u64,
    /// In bytes.
    downloaded: AtomicU64,
    /// In bytes, inflated.
    unpacked: Arc<AtomicU64>,
}

impl Progress {
    fn new(layers: &[Descriptor]) -> Self {
        Self {
            begun: Instant::now(),
            size: layers.iter().map(|layer| layer.size).sum(),
            downloaded: AtomicU64::new(0),
            unpacked: Arc::default(),
        }
    }

    fn line(&self, when: &str) -> String {
        let (downloaded, unpacked) = (self.downloaded.load(Ordering::Relaxed), self.unpacked.load(Ordering::Relaxed));
        let unpacked = rate(unpacked, self.begun.elapsed());
        format!("layers: {when} {} of {} downloaded, unpacked {unpacked}", size(downloaded), size(self.size))
    }
}

fn say_skipped(skipped: &Skipped, say: &Say) {
    let Skipped { devices, xattrs } = skipped;
    let what = [
        (devices, "device node", "which this container may not create"),
        (xattrs, "extended attribute", "which cannot be set here"),
    ];
    for (omitted, one, why) in what.into_iter().filter(|(omitted, ..)| omitted.count > 0) {
        let plural = if omitted.count == 1 { "" } else { "s" };
        let more = match omitted.count - omitted.names.len() as u64 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let names = omitted.names.join(", ");
        say.line(format_args!("skipped {} {one}{plural}, {why}: {names}{more}", omitted.count));
    }
}

/// The bytes of one layer, as they arrive.
struct LayerInput {
    pieces: mpsc::Receiver<Piece>,
    piece: Bytes,
    ended: bool,
}

impl LayerInput {
    fn new(pieces: mpsc::Receiver<Piece>) -> Self {
        Self { pieces, piece: Bytes::new(), ended: false }
    }
}

impl io::BufRead for LayerInput {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.piece.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.piece = bytes,
                Some(Piece::End) => self.ended = true,
                None => return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the download broke off")),
            }
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, count: usize) {
        bytes::Buf::advance(&mut self.piece, count);
    }
}

impl io::Read for LayerInput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = io::BufRead::fill_buf(self)?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        io::BufRead::consume(self, count);
        Ok(count)
    }
}
