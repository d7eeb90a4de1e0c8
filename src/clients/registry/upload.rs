//! A blob of any size on its way to a registry: sent while it is read, never held in memory, never written to disk.
//!
//! POST begins an upload, one PATCH sends it as a stream, PUT ends it with its digest, as Docker's own client does: every
//! registry takes that, also for a blob whose digest is known only at its end. What breaks off is continued where the
//! registry says that it stopped, or else begun anew.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, RANGE};
use reqwest::{Body, Method, StatusCode};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use url::Url;

use crate::names::Digest;

use super::error::{Passing, RegistryError};
use super::http::{self, Access, Ask, Whole};
use super::model::Descriptor;
use super::{ANSWER_LIMIT, Registry, answer};

/// How much is read at once, in bytes.
const PIECE: usize = 256 << 10;
/// How many pieces may wait for the network.
const WAITING: usize = 4;

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Opens what is sent. Each opening gives the same bytes.
pub type Open = Arc<dyn Fn() -> io::Result<Box<dyn Read + Send>> + Send + Sync>;

/// A blob that is to be in the registry.
#[derive(Clone)]
pub struct Upload {
    /// The media type that its descriptor gets.
    pub media_type: String,
    /// Digest and size in bytes, when they are known before it is read to its end.
    pub known: Option<(Digest, u64)>,
    /// Its bytes.
    pub open: Open,
}

/// Whether a blob had to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It was.
    All,
    /// The registry had it.
    WasThere,
}

/// What has been read of a blob, shared with the thread that reads it.
#[derive(Default)]
struct Progress {
    /// Bytes that were handed to the connection.
    handed: AtomicU64,
    end: Mutex<Option<io::Result<(Digest, u64)>>>,
}

impl Registry {
    /// Brings a blob to the registry, unless it is there.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Source`] when its bytes cannot be read, or are not those of its digest. Nothing stays in the
    /// registry of an upload that was not ended.
    pub async fn upload(&self, blob: &Upload) -> Result<(Descriptor, Sent), RegistryError> {
        let what = match &blob.known {
            Some((digest, _)) => format!("push blob {digest} to {}", self.repository),
            None => format!("push a layer to {}", self.repository),
        };
        let described = |(digest, size)| Descriptor {
            media_type: blob.media_type.clone(),
            digest,
            size,
            platform: None,
            annotations: Default::default(),
        };
        let mut patience = self.http.patience();
        loop {
            if let Some((digest, size)) = blob.known {
                match self.has_blob(&what, &digest).await {
                    Ok(true) => return Ok((described((digest, size)), Sent::WasThere)),
                    Ok(false) => {}
                    Err(error) => {
                        patience.wait(&what, error).await?;
                        continue;
                    }
                }
            }
            match self.upload_once(&what, blob).await {
                Ok(end) => return Ok((described(end), Sent::All)),
                Err(error) => patience.wait(&what, error).await?,
            }
        }
    }

    /// Whether the repository has a blob: one HEAD.
    pub(super) async fn has_blob(&self, what: &str, digest: &Digest) -> Result<bool, RegistryError> {
        let head = Ask::new(what, Method::HEAD, self.http.url(&["blobs", &digest.to_string()]), Access::Write);
        let there = self.http.ask_once(&head, ANSWER_LIMIT).await?;
        match there.status {
            StatusCode::OK => Ok(true),
            StatusCode::UNAUTHORIZED => Err(self.http.refused(&head, &there)),
            // The answer to the POST says why.
            _ => Ok(false),
        }
    }

    /// Begins an upload: where it goes.
    pub(super) async fn begin_upload(&self, what: &str) -> Result<Url, RegistryError> {
        // The last part of the address is empty: the protocol wants the slash.
        let begin = Ask::new(what, Method::POST, self.http.url(&["blobs", "uploads", ""]), Access::Write)
            .with_header(CONTENT_LENGTH, HeaderValue::from_static("0"));
        let begun = self.http.ask_once(&begin, ANSWER_LIMIT).await?;
        if begun.status != StatusCode::ACCEPTED {
            return Err(self.http.refused(&begin, &begun));
        }
        let bad = |why: String| RegistryError::BadAnswer { what: what.to_owned(), url: answer::shown(&begin.url), why };
        next(&begin.url, &begun).map_err(bad)?.ok_or_else(|| bad("does not say where to upload to".to_owned()))
    }

    async fn upload_once(&self, what: &str, blob: &Upload) -> Result<(Digest, u64), RegistryError> {
        let mut to = self.begin_upload(what).await?;
        let mut from = 0;
        let end = loop {
            match self.send(what, blob, &to, from).await {
                Ok((end, next)) => {
                    to = next;
                    break end;
                }
                Err(error) if matches!(error.passing(), Passing::Soon) => match self.arrived(what, &to).await {
                    // It must have come further, so this ends.
                    Some((arrived, next)) if from < arrived => {
                        let registry = self.repository.registry();
                        self.say
                            .line(format_args!("{what}: broke off; {registry} has {arrived} bytes, the rest follows"));
                        (from, to) = (arrived, next);
                    }
                    Some(_) | None => return Err(error),
                },
                Err(error) => return Err(error),
            }
        };
        // The address has a query of the registry's own, which must stay.
        to.query_pairs_mut().append_pair("digest", &end.0.to_string());
        let put = Ask::new(what, Method::PUT, to, Access::Write)
            .with_header(CONTENT_LENGTH, HeaderValue::from_static("0"))
            .with_header(CONTENT_TYPE, OCTETS);
        let done = self.http.ask_once(&put, ANSWER_LIMIT).await?;
        if done.status.is_success() { Ok(end) } else { Err(self.http.refused(&put, &done)) }
    }

    /// Sends what follows these bytes: digest and size of the whole, and where the upload goes on.
    async fn send(
        &self,
        what: &str,
        blob: &Upload,
        to: &Url,
        from: u64,
    ) -> Result<((Digest, u64), Url), RegistryError> {
        let progress = Arc::new(Progress::default());
        let (open, shared) = (Arc::clone(&blob.open), Arc::clone(&progress));
        let mut patch = Ask::new(what, Method::PATCH, to.clone(), Access::Write)
            .with_header(CONTENT_TYPE, OCTETS)
            .with_stream(Arc::new(move || stream(&open, &shared, from)));
        if let Some((_, size)) = blob.known {
            let left = size.saturating_sub(from);
            patch = patch.with_header(CONTENT_LENGTH, HeaderValue::from(left));
            if 0 < from {
                let range = format!("{from}-{}", size.saturating_sub(1));
                let range = HeaderValue::from_str(&range).expect("two numbers are a header");
                patch = patch.with_header(CONTENT_RANGE, range);
            }
        }
        let answered = self.http.ask_once(&patch, ANSWER_LIMIT).await;
        // A source that fails ends the request: what the network says then is not why.
        let end = progress.end.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(source)) = end {
            return Err(RegistryError::Source { what: what.to_owned(), source });
        }
        let answered = answered?;
        if !answered.status.is_success() {
            return Err(self.http.refused(&patch, &answered));
        }
        let bad = |why: String| RegistryError::BadAnswer { what: what.to_owned(), url: answer::shown(to), why };
        let Some(Ok(end)) = end else { return Err(bad("came before everything was sent".to_owned())) };
        let next = next(to, &answered).map_err(bad)?;
        Ok((end, next.unwrap_or_else(|| to.clone())))
    }

    /// How much of an upload has arrived, and where it goes on; `None`: the registry does not say.
    async fn arrived(&self, what: &str, to: &Url) -> Option<(u64, Url)> {
        let ask = Ask::new(what, Method::GET, to.clone(), Access::Write);
        let status = self.http.ask_once(&ask, ANSWER_LIMIT).await.ok()?;
        if status.status != StatusCode::NO_CONTENT {
            return None;
        }
        let range = status.headers.get(RANGE)?.to_str().ok()?;
        let last: u64 = range.trim_start_matches("bytes=").strip_prefix("0-")?.parse().ok()?;
        Some((last.checked_add(1)?, next(to, &status).ok()?.unwrap_or_else(|| to.clone())))
    }
}

/// Where an answer sends the rest of an upload; `None`: it does not say.
pub(super) fn next(from: &Url, answered: &Whole) -> Result<Option<Url>, String> {
    match http::location(from, &answered.headers) {
        Some(to) if from.scheme() == "https" && to.scheme() != "https" => {
            Err(format!("sends the upload from https to {}", to.scheme()))
        }
        to => Ok(to),
    }
}

/// The bytes behind the first ones, read on a thread of their own; all are hashed.
fn stream(open: &Open, progress: &Arc<Progress>, skip: u64) -> (Body, Arc<dyn Fn() -> u64 + Send + Sync>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let (open, shared, counted) = (Arc::clone(open), Arc::clone(progress), Arc::clone(progress));
    *shared.end.lock().unwrap_or_else(PoisonError::into_inner) = None;
    tokio::task::spawn_blocking(move || read_through(&open, skip, &shared, &sender));
    let pieces = futures_util::stream::unfold(receiver, async |mut receiver: mpsc::Receiver<io::Result<Bytes>>| {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    (Body::wrap_stream(pieces), Arc::new(move || counted.handed.load(Ordering::Relaxed)))
}

/// Reads to the end, or until nobody wants the bytes any more.
///
/// How it ended is known before the last bytes are sent: a connection that has all the bytes that it was told of waits
/// for nothing more.
fn read_through(open: &Open, skip: u64, progress: &Progress, sender: &mpsc::Sender<io::Result<Bytes>>) {
    let set_end = |end| *progress.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    let fail = |error: io::Error| {
        let kind = error.kind();
        set_end(Err(error));
        // Nobody may listen any more.
        let _ = sender.blocking_send(Err(kind.into()));
    };
    let mut source = match open() {
        Ok(source) => source,
        Err(error) => return fail(error),
    };
    let (mut hasher, mut size, mut skip, mut last) = (Sha256::new(), 0, skip, None);
    loop {
        let mut piece = vec![0; PIECE];
        let count = match read_full(&mut source, &mut piece) {
            Ok(count) => count,
            Err(error) => return fail(error),
        };
        if count == 0 {
            set_end(Ok((Digest::from_bytes(hasher.clone().finalize().into()), size)));
        }
        if let Some(last) = last.take()
            && sender.blocking_send(Ok(last)).is_err()
        {
            return;
        }
        if count == 0 {
            return;
        }
        piece.truncate(count);
        hasher.update(&piece);
        size += count as u64;
        progress.handed.fetch_add(count as u64, Ordering::Relaxed);
        let mut piece = Bytes::from(piece);
        let passed = skip.min(count as u64);
        skip -= passed;
        let _ = piece.split_to(usize::try_from(passed).unwrap_or(count));
        last = Some(piece).filter(|piece| !piece.is_empty());
    }
}

/// Reads until the buffer is full or the source ends.
fn read_full(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
